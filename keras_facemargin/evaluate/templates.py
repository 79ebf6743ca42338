"""Templates, their pairs and searches: the contents of video and IJB protocols.

A template is one or more images of one person: stills or frames of videos. Its embedding is the
pooling of its images' embeddings (`keras_facemargin.pooling`), which are not normalised before:

    template = direction of the mean over media of the mean over the images of each medium

weighted by quality where there is one and `quality_weight` > 0. Implementations differ: InsightFace
adds the two halves of `flip` where `embed` appends them, and may multiply by the detector's score;
others take the plain mean of normalised embeddings.

A template without an image fails to enrol. Its pairs are rejected and its searches find no person.
A probe counts as missed if all of its mates in the gallery failed to enrol.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import identifiers, row_numbers
from keras_facemargin.evaluate.cosine import cosine_scores_of_pairs
from keras_facemargin.evaluate.embedding import Embedder, embed
from keras_facemargin.evaluate.identification.identification import Identification, identify
from keras_facemargin.evaluate.saved import SavedEmbeddings, require_one_embedder
from keras_facemargin.evaluate.splits import SplitResults
from keras_facemargin.evaluate.verification.pairs import Pairs
from keras_facemargin.evaluate.verification.verification import Verification, verify
from keras_facemargin.template_pooling import pool_templates

# Different images with embeddings in memory at a time: 268 MB at 1,024 numbers each.
IMAGES_AT_ONCE = 65_536


@dataclasses.dataclass(frozen=True, eq=False)
class Templates:
    """Images and the templates that they belong to.

    Attributes:
        subjects: ``(T,)`` texts or whole numbers, the person of each template.
        images: N files, or images in a container, as `read_face` takes them; one may be in several
            templates.
        template: int ``(N,)`` in [0, T), in any order.
        media: int ``(N,)``, or ``None``; the frames of a video share one, and count together.
        quality: float ``(N,)`` in [0, 1], for example a detector's score, or ``None``.
        covariates: name -> ``(T,)`` text.
        missing: the images that do not exist.

    Raises:
        ValueError: `subjects` are not all texts or all whole numbers, or `template` does not hold
            one row per image.
        IndexError: a template has no subject.

    Example:
        >>> from keras_facemargin.images import write_synthetic_faces
        >>> a, b, c, d = write_synthetic_faces("faces", num_identities=2, images_per_identity=2)
        >>> two = Templates(np.array(["ann", "bob"]), (a, b, c, d), np.array([0, 0, 1, 1]))
        >>> len(two), two.enrolled.tolist()
        (2, [True, True])
    """

    subjects: npt.NDArray[Any]
    images: tuple[Any, ...]
    template: npt.NDArray[np.intp]
    media: npt.NDArray[Any] | None = None
    quality: npt.NDArray[Any] | None = None
    covariates: dict[str, npt.NDArray[Any]] = dataclasses.field(default_factory=dict)
    missing: frozenset[Path] = frozenset()

    def __post_init__(self) -> None:
        (subjects,) = identifiers(subjects=self.subjects)
        template = row_numbers(self.template, "template", len(subjects))
        if len(template) != len(self.images):
            raise ValueError(
                "`template` must hold one row of `subjects` per image. Received: "
                f"{len(template):,} for {len(self.images):,} images."
            )
        object.__setattr__(self, "subjects", subjects)
        object.__setattr__(self, "template", template)

    def __len__(self) -> int:
        return len(self.subjects)

    @property
    def enrolled(self) -> npt.NDArray[np.bool_]:
        """bool ``(T,)``, True for templates that have an image."""
        found = np.zeros(len(self), bool)
        found[self.template[self.present]] = True
        return found

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """bool ``(N,)``, True for images that exist."""
        if not self.missing:
            return np.ones(len(self.images), bool)
        return np.array([image not in self.missing for image in self.images])

    def covariate(self, name: str) -> npt.NDArray[Any]:
        """``(T,)`` text, "unknown" if a template has none.

        Raises:
            ValueError: if the covariate is unknown.
        """
        known = self.covariates
        if name not in known:
            raise ValueError(f"A covariate must be one of {sorted(known)}. Received: {name!r}.")
        return np.where(known[name] == "", "unknown", known[name])

    @property
    def shown(self) -> list[Path | None]:
        """T images, the first existing one of each template, or ``None``."""
        found: list[Path | None] = [None] * len(self)
        for row in np.flatnonzero(self.present)[::-1]:
            found[self.template[row]] = self.images[row]
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class TemplatePairs:
    """Pairs of templates with their truth: 1:1 protocols of videos and of IJB.

    Attributes:
        templates: a `Templates`.
        first, second: int ``(P,)``, rows of `templates`.
        same: bool ``(P,)``, True for genuine pairs.
        folds: ``(P,)``, fold or split of each pair, or ``None``.
    """

    templates: Templates
    first: npt.NDArray[np.intp]
    second: npt.NDArray[np.intp]
    same: npt.NDArray[np.bool_]
    folds: npt.NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.same)

    @property
    def failed_to_enrol(self) -> npt.NDArray[np.bool_]:
        """bool ``(P,)``, True for pairs with a template without an image."""
        enrolled = self.templates.enrolled
        both: npt.NDArray[np.bool_] = enrolled[self.first] & enrolled[self.second]
        return ~both

    @property
    def pairs(self) -> Pairs:
        """The pairs for a report: people are numbers, a template is shown by its first image."""
        people = np.unique(self.templates.subjects, return_inverse=True)[1].astype(np.int32)
        shown = self.templates.shown
        return Pairs(
            first=_Shown(shown, self.first),
            second=_Shown(shown, self.second),
            same=self.same,
            folds=self.folds,
            people=(people[self.first], people[self.second]),
            failed_to_enrol=self.failed_to_enrol,
        )

    def covariate(self, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.int16]]:
        """A covariate of the pairs: the value that both sides share, or "a / b".

        Returns:
            The values, and int16 ``(P,)``, the value of each pair as an index into them.

        Raises:
            ValueError: if the templates have no such covariate.
        """
        values, codes = np.unique(self.templates.covariate(name), return_inverse=True)
        of_two = [[a if a == b else " / ".join(sorted((a, b))) for a in values] for b in values]
        texts, numbers = np.unique(of_two, return_inverse=True)
        table, codes = numbers.reshape(len(values), -1).astype(np.int16), codes.astype(np.int16)
        return texts, table[codes[self.first], codes[self.second]]


class _Shown(Sequence[Any]):
    """The image of each template of a side, looked up on access: there may be millions."""

    def __init__(self, images: list[Path | None], rows: npt.NDArray[np.intp]):
        self._images, self._rows = images, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return self._images[self._rows[index]]


@dataclasses.dataclass(frozen=True, eq=False)
class TemplateSearches:
    """Searches of probes in galleries: 1:N protocols.

    Attributes:
        templates: a `Templates`.
        searches: name of the split or of the gallery -> (gallery, probes), int ``(M,)`` and
            ``(P,)`` rows of `templates`.
    """

    templates: Templates
    searches: dict[Any, tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]


def embed_templates(
    embedder: Embedder,
    templates: Templates,
    *,
    flip: bool = True,
    quality_weight: float = 0.0,
    batch_size: int = 64,
    progress: bool = True,
) -> npt.NDArray[np.float32]:
    """Embeds images and pools them into their templates.

    Each image is embedded once, unless there are more than `IMAGES_AT_ONCE` images between the
    templates that it is in. Memory is that of `IMAGES_AT_ONCE` embeddings.

    Args:
        embedder, flip, batch_size, progress: as `keras_facemargin.evaluate.embed`.
        templates: a `Templates`.
        quality_weight: λ >= 0 of `keras_facemargin.pooling.quality_pooling`; 0 gives the mean.

    Returns:
        float32 ``(T, D)`` or ``(T, 2 * D)`` of unit length; zeros for a template without an image.

    Raises:
        ValueError: if `quality_weight` is not 0 without qualities, or no image exists;
            else as `embed` and `pool_templates`.
        OSError: as `embed`.

    Example:
        >>> from keras_facemargin.images import write_synthetic_faces
        >>> a, b, c, d = write_synthetic_faces("people", num_identities=2, images_per_identity=2)
        >>> two = Templates(np.array(["ann", "bob"]), (a, b, c, d), np.array([0, 0, 1, 1]))
        >>> def brightness(images):
        ...     return images.mean(axis=(1, 2))
        >>> embed_templates(brightness, two, flip=False, progress=False).shape
        (2, 3)
    """
    if quality_weight and templates.quality is None:
        raise ValueError(
            "`quality_weight` must be 0, the mean, because the protocol lists no qualities. "
            f"Received: quality_weight={quality_weight}."
        )
    pooled: npt.NDArray[np.float32] | None = None
    for rows in _parts(templates):
        images = list(dict.fromkeys(templates.images[row] for row in rows))
        place = {image: index for index, image in enumerate(images)}
        embeddings = embed(embedder, images, flip=flip, batch_size=batch_size, progress=progress)
        vectors, numbers = pool_templates(
            embeddings[[place[templates.images[row]] for row in rows]],
            templates.template[rows],
            quality=None if templates.quality is None else templates.quality[rows],
            quality_weight=quality_weight,
            media_ids=None if templates.media is None else templates.media[rows],
        )
        if pooled is None:
            pooled = np.zeros((len(templates), vectors.shape[1]), np.float32)
        pooled[numbers] = vectors
    if pooled is None:
        raise ValueError("`embed_templates` needs at least one image. Received: none.")
    return pooled


def score_template_pairs(
    embedder: Embedder,
    pairs: TemplatePairs,
    *,
    flip: bool = True,
    quality_weight: float = 0.0,
    batch_size: int = 64,
    progress: bool = True,
) -> npt.NDArray[np.float64]:
    """Cosine score of every pair of templates; -1 if one of them has no image.

    Args:
        embedder, flip, quality_weight, batch_size, progress: as `embed_templates`.
        pairs: a `TemplatePairs`.

    Returns:
        float64 ``(P,)`` in [-1, 1].

    Raises:
        ValueError, OSError: as `embed_templates` and `cosine_scores`.
    """
    vectors = embed_templates(
        embedder,
        pairs.templates,
        flip=flip,
        quality_weight=quality_weight,
        batch_size=batch_size,
        progress=progress,
    )
    scores = np.full(len(pairs), -1.0)
    seen = ~pairs.failed_to_enrol
    scores[seen] = cosine_scores_of_pairs(
        vectors, vectors, first=pairs.first[seen], second=pairs.second[seen]
    )
    return scores


def evaluate_template_pairs(
    embedder: Embedder,
    pairs: TemplatePairs,
    *,
    flip: bool = True,
    quality_weight: float = 0.0,
    batch_size: int = 64,
    progress: bool = True,
) -> Verification:
    """Scores pairs of templates and verifies all of them together.

    Args:
        embedder, flip, quality_weight, batch_size, progress: as `embed_templates`.
        pairs: a `TemplatePairs`.

    Returns:
        A `Verification`; its scores are in the order of the pairs, and it has an accuracy if they
        have folds. IJB-A's splits are not folds: see `verify_by_fold`.

    Raises:
        ValueError, OSError: as `score_template_pairs` and `verify`.

    Example:
        >>> from keras_facemargin.images import write_synthetic_faces
        >>> files = write_synthetic_faces("three", num_identities=2, images_per_identity=2)
        >>> people = Templates(np.array(["ann", "ann", "bob"]), files, np.array([0, 1, 2, 2]))
        >>> first, second = np.array([0, 0]), np.array([1, 2])
        >>> pairs = TemplatePairs(people, first, second, same=np.array([True, False]))
        >>> def shape(images):
        ...     return images.mean(axis=(1, 3)) - images.mean(axis=(1, 2, 3))[:, None]
        >>> evaluate_template_pairs(shape, pairs, progress=False).eer
        0.0
    """
    scores = score_template_pairs(
        embedder,
        pairs,
        flip=flip,
        quality_weight=quality_weight,
        batch_size=batch_size,
        progress=progress,
    )
    result = verify(scores, pairs.same, pairs.folds)
    return dataclasses.replace(result, failed_to_enrol=int(np.count_nonzero(pairs.failed_to_enrol)))


def evaluate_searches(
    embedder: Embedder,
    task: TemplateSearches,
    *,
    flip: bool = True,
    quality_weight: float = 0.0,
    batch_size: int = 64,
    progress: bool = True,
) -> SplitResults:
    """Searches every probe in the gallery, for each split or gallery.

    Args:
        embedder, flip, quality_weight, batch_size, progress: as `embed_templates`.
        task: a `TemplateSearches`.

    Returns:
        A `SplitResults` of an `Identification` for each search, whose rows are those of
        `templates`. A probe without an image finds no person: a mated one is missed at any rank and
        threshold, a non-mated one raises no alarm. A probe whose mates all have no image is missed
        too; it does not count as non-mated.

    Raises:
        ValueError: if no template of a gallery has an image, or no probe; else as
            `embed_templates` and `identify`.
        OSError: as `embed_templates`.

    Example:
        >>> from keras_facemargin.images import write_synthetic_faces
        >>> files = write_synthetic_faces("four", num_identities=2, images_per_identity=2)
        >>> people = Templates(np.array(["ann", "ann", "bob", "bob"]), files, np.arange(4))
        >>> task = TemplateSearches(people, {"first images": (np.array([0, 2]), np.array([1, 3]))})
        >>> def shape(images):
        ...     return images.mean(axis=(1, 3)) - images.mean(axis=(1, 2, 3))[:, None]
        >>> evaluate_searches(shape, task, progress=False).mean("Rank-1")
        0.5
    """
    vectors = embed_templates(
        embedder,
        task.templates,
        flip=flip,
        quality_weight=quality_weight,
        batch_size=batch_size,
        progress=progress,
    )
    return _search_all(vectors, task, progress)


def _search_all(
    vectors: npt.NDArray[np.float32], task: TemplateSearches, progress: bool
) -> SplitResults:
    templates = task.templates
    enrolled, failed_to_enrol = templates.enrolled, 0
    found: dict[Any, Identification] = {}
    for name, (gallery, probes) in task.searches.items():
        found[name] = _search(vectors, templates.subjects, enrolled, gallery, probes, progress)
        failed_to_enrol += int(
            np.count_nonzero(~enrolled[gallery]) + np.count_nonzero(~enrolled[probes])
        )
    return SplitResults(found, failed_to_enrol)


def searches_of_folders(
    gallery: Iterable[str | os.PathLike[str]], probes: Iterable[str | os.PathLike[str]]
) -> TemplateSearches:
    """1:N for image files in one folder per person, for `evaluate_searches`.

    Args:
        gallery: files; those in folders of one name are one template.
        probes: files, one probe each; the folder's name is the person.

    Returns:
        `TemplateSearches` of one search, "folders".

    Raises:
        ValueError: if an image is in both.

    Example:
        >>> from keras_facemargin.images import write_synthetic_faces
        >>> a, b, c, d = write_synthetic_faces("all", num_identities=2, images_per_identity=2)
        >>> def shape(images):
        ...     return images.mean(axis=(1, 3)) - images.mean(axis=(1, 2, 3))[:, None]
        >>> task = searches_of_folders([a, c], [b, d])
        >>> found = evaluate_searches(shape, task, progress=False).results["folders"]
        >>> found.gallery, len(found.ranks), len(found.best_scores)
        (2, 2, 0)
    """
    known, searched = ([Path(path) for path in paths] for paths in (gallery, probes))
    return _one_search(
        "folders",
        (known, [path.parent.name for path in known]),
        (searched, [path.parent.name for path in searched]),
    )


def search_embeddings(
    gallery: SavedEmbeddings, probes: SavedEmbeddings, *, progress: bool = True
) -> tuple[TemplateSearches, SplitResults]:
    """1:N for saved embeddings of one embedder: searches each probe in the gallery.

    Args:
        gallery: a `SavedEmbeddings`; those with one label are one template, their mean.
        probes: a `SavedEmbeddings`, one probe each; the label is the person.
        progress: whether to draw a progress bar on standard error.

    Returns:
        `TemplateSearches` of one search, "files", and its `SplitResults`.

    Raises:
        ValueError: the embedders differ, a file does not name its embedder, an image is in both, or
            a row is zero.

    Example:
        >>> from keras_facemargin.evaluate.saved import read_embeddings, save_embeddings
        >>> for name, number in (("known", 1), ("searched", 2)):
        ...     paths = [f"{person}/{number}.jpg" for person in ("ann", "bob")]
        ...     save_embeddings(f"{name}.npz", np.eye(2), paths, embedding_id="f" * 64, model="m")
        >>> files = map(read_embeddings, ("known.npz", "searched.npz"))
        >>> search_embeddings(*files, progress=False)[1].mean("Rank-1")
        1.0
    """
    require_one_embedder(gallery, probes)
    sides: list[tuple[Sequence[Any], Sequence[Any]]] = [
        (each.paths or [f"{each.file}, row {row}" for row in range(len(each.labels))], each.labels)
        for each in (gallery, probes)
    ]
    task = _one_search("files", *sides)
    rows = np.concatenate([gallery.embeddings, probes.embeddings])
    vectors, _ = pool_templates(rows, task.templates.template)
    return task, _search_all(vectors, task, progress)


def _one_search(
    name: str,
    gallery: tuple[Sequence[Any], Sequence[Any]],
    probes: tuple[Sequence[Any], Sequence[Any]],
) -> TemplateSearches:
    """One search of probes in a gallery, from the images and the people of each.

    Raises:
        ValueError: an image is in both.
    """
    (known, their_people), (searched, people_of_probes) = gallery, probes
    both = {*known} & {*searched}
    if both:
        raise ValueError(
            "A probe must not be in the gallery, because it would find itself. Received: "
            f"{len(both):,} images in both, for example {min(both)}."
        )
    people = {person: row for row, person in enumerate(dict.fromkeys(their_people))}
    rows = [people[person] for person in their_people]
    templates = Templates(
        subjects=np.array([*people, *people_of_probes]),
        images=(*known, *searched),
        template=np.array([*rows, *range(len(people), len(people) + len(searched))]),
    )
    probe_rows = np.arange(len(people), len(templates))
    return TemplateSearches(templates, {name: (np.arange(len(people)), probe_rows)})


def _search(
    vectors: npt.NDArray[np.float32],
    subjects: npt.NDArray[Any],
    enrolled: npt.NDArray[np.bool_],
    gallery: npt.NDArray[np.intp],
    probes: npt.NDArray[np.intp],
    progress: bool,
) -> Identification:
    there = gallery[enrolled[gallery]]
    mated = np.isin(subjects[probes], subjects[gallery])
    # Missed: the probe, or all of its mates in the gallery, failed to enrol.
    missed = mated & ~(enrolled[probes] & np.isin(subjects[probes], subjects[there]))
    silent = ~mated & ~enrolled[probes]
    searched = probes[~missed & ~silent]
    result = identify(
        vectors[there],
        vectors[searched],
        gallery_labels=subjects[there],
        probe_labels=subjects[searched],
        progress=progress,
    ).in_rows(there, searched)
    lost, mute = probes[missed], probes[silent]
    none = [np.full(len(rows), -1) for rows in (lost, mute)]
    return Identification(
        ranks=np.append(result.ranks, np.full(len(lost), np.iinfo(np.int64).max)),
        mate_scores=np.append(result.mate_scores, np.full(len(lost), -1.0)),
        best_scores=np.append(result.best_scores, np.full(len(mute), -1.0)),
        gallery=len(gallery),
        mated=np.append(result.mated, lost),
        non_mated=np.append(result.non_mated, mute),
        mates=np.append(result.mates, none[0]),
        nearest=np.append(result.nearest, none[1]),
    )


def _parts(templates: Templates) -> Iterator[npt.NDArray[np.intp]]:
    """Rows of images: whole templates, at most `IMAGES_AT_ONCE` different images at a time."""
    rows = np.flatnonzero(templates.present)
    rows = rows[np.argsort(templates.template[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(templates.template[rows])) + 1
    part: list[npt.NDArray[np.intp]] = []
    images: set[Any] = set()
    for group in np.split(rows, starts):
        new = {templates.images[row] for row in group} - images
        if part and len(images) + len(new) > IMAGES_AT_ONCE:
            yield np.concatenate(part)
            part, images = [], set()
            new = {templates.images[row] for row in group}
        part.append(group)
        images |= new
    if len(rows):
        yield np.concatenate(part)
