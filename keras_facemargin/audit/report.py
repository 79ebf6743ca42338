"""The audit of a labelled set: all checks of `labels` in one record, a table and sentences."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Column, Table

from keras_facemargin.audit.labels import (
    LabelNoise,
    SimilarPairs,
    label_noise,
    near_duplicates,
    shared_identities,
    shared_images,
)

_NAMED = 10  # pairs of identities that are named of each kind


@dataclasses.dataclass(frozen=True)
class Audit:
    """Findings about a labelled set, and about its overlap with another.

    Attributes:
        faces: the set, a `FaceFolder`, `FaceRecords` or `FaceTFRecords`.
        noise: `LabelNoise`.
        duplicates: `SimilarPairs` of images.
        twins: `SimilarPairs` of labels that may be one person.
        against: the other set, or None; then the next two are None too.
        shared_identities: `SimilarPairs`, labels of the set and of the other.
        shared_images: `SimilarPairs`, rows of the set and of the other.
        duplicate_cosine, person_cosine: the thresholds.
    """

    faces: Any
    noise: LabelNoise
    duplicates: SimilarPairs
    twins: SimilarPairs
    against: Any
    shared_identities: SimilarPairs | None
    shared_images: SimilarPairs | None
    duplicate_cosine: float
    person_cosine: float

    def __rich__(self) -> Table:
        table = Table("Found", Column("number", justify="right"), "of", "at cosine")
        for found, number, total, cosine in self._rows():
            table.add_row(found, f"{number:,}", total, cosine)
        return table

    def _rows(self) -> Iterator[tuple[str, int, str, str]]:
        faces, noise = self.faces, self.noise
        images, identities = f"{len(faces):,} images", f"{faces.num_classes:,} identities"
        duplicate, person = f"{self.duplicate_cosine:g}", f"{self.person_cosine:g}"
        medians = f"median: own {np.nanmedian(noise.own):.2f}, next {np.median(noise.other):.2f}"
        same = int(np.asarray(self.duplicates.same).sum())
        yield "Bad files, left out", len(faces.skipped), f"{len(faces):,} others", "-"
        yield "Images nearer to another identity", len(noise.suspects), images, medians
        yield "Pairs of near-duplicates, one identity", same, images, duplicate
        across = len(self.duplicates) - same
        yield "Pairs of near-duplicates, two identities", across, images, duplicate
        yield "Pairs of identities that may be one person", len(self.twins), identities, person
        if self.shared_identities is not None and self.shared_images is not None:
            other = self.against
            people = f"{other.num_classes:,} of {other.source}"
            yield "People also in the test set", len(self.shared_identities), people, person
            theirs = f"{len(other):,} of {other.source}"
            yield "Images also in the test set", len(self.shared_images), theirs, duplicate

    def sentences(self) -> Iterator[str]:
        """The most similar pairs of identities, at most ten of each kind, a line each."""
        kinds = [("Two labels, one person?", self.twins, self.faces)]
        if self.shared_identities is not None:
            kinds.append(("In both sets?", self.shared_identities, self.against))
        for question, found, others in kinds:
            pairs = zip(found.first, found.second, found.cosine, strict=True)
            for first, second, cosine in list(pairs)[:_NAMED]:
                names = f"{self.faces.identities[first]}, {others.identities[second]}"
                yield f"{question} {names}: {cosine:.3f}"


def audit_faces(
    faces: Any,
    embeddings: npt.NDArray[np.float32],
    *,
    against: tuple[Any, npt.NDArray[np.float32]] | None = None,
    duplicate_cosine: float = 0.9,
    person_cosine: float = 0.7,
) -> Audit:
    """Audits a labelled set by its embeddings.

    Args:
        faces: a `FaceFolder`, `FaceRecords` or `FaceTFRecords` of at least two identities.
        embeddings: float `(N, D)` of its images, in their order, as `evaluate.embed` returns them.
        against: `(faces, embeddings)` of a test set, by the same embedder: its people and images
            should not be in the first.
        duplicate_cosine: smallest cosine of two images that are near-duplicates.
        person_cosine: smallest cosine of two identities' means that may be one person.

    Returns:
        An `Audit`.

    Raises:
        ValueError: as `label_noise` and `near_duplicates`.

    Example:

    ```python
    faces = FaceFolder("people", on_bad="skip")
    audit = audit_faces(faces, embed(embedder, faces.paths))
    audit.noise.suspects  # rows of the images whose label is doubtful
    draw_audit(audit, "audit.png")
    ```
    """
    labels = faces.labels
    other, identities, images = None, None, None
    if against is not None:
        other, others = against
        identities = shared_identities(
            embeddings, labels, person_cosine, against=(others, other.labels)
        )
        images = shared_images(embeddings, others, duplicate_cosine)
    return Audit(
        faces=faces,
        noise=label_noise(embeddings, labels),
        duplicates=near_duplicates(embeddings, labels, duplicate_cosine),
        twins=shared_identities(embeddings, labels, person_cosine),
        against=other,
        shared_identities=identities,
        shared_images=images,
        duplicate_cosine=duplicate_cosine,
        person_cosine=person_cosine,
    )
