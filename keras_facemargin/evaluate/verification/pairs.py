"""Pairs of images with their truth: the contents of every 1:1 protocol's list."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.cosine import cosine_scores
from keras_facemargin.evaluate.embedding import Embedder, embed_shown
from keras_facemargin.evaluate.verification.verification import Verification, verify
from keras_facemargin.quality import effective_resolution


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of images with their truth.

    Attributes:
        first, second: N images each, a sequence: files, or images in a container, as `read_face`
            takes them; for templates, one image of each. ``None`` without images.
        same: bool ``(N,)``, True for genuine pairs.
        folds: int ``(N,)``, or ``None`` if the protocol has none.
        missing: the images that do not exist, because no face was found, for example.
        people: the identities on the two sides, ``(N,)`` each, or ``None`` if the list does not
            name them; `bootstrap` draws them.
        failed_to_enrol: bool ``(N,)``, True for pairs that count as rejected because an image is
            missing or a template has none. Pass it only for templates; `missing` adds to it.
    """

    first: Sequence[Any] | None
    second: Sequence[Any] | None
    same: npt.NDArray[np.bool_]
    folds: npt.NDArray[Any] | None = None
    missing: frozenset[Path] = frozenset()
    people: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None
    failed_to_enrol: npt.NDArray[np.bool_] = dataclasses.field(
        default_factory=lambda: np.zeros(0, bool)
    )

    def __post_init__(self) -> None:
        failed = self.failed_to_enrol
        if not len(failed):
            failed = np.zeros(len(self), bool)
        if self.missing:
            pairs = zip(*self.images, strict=True)
            failed = failed | np.array([bool(self.missing & {*pair}) for pair in pairs])
        object.__setattr__(self, "failed_to_enrol", failed)

    def __len__(self) -> int:
        return len(self.same)

    @property
    def images(self) -> tuple[Sequence[Any], Sequence[Any]]:
        """`first` and `second`; empty without images."""
        if self.first is None or self.second is None:
            return (), ()
        return self.first, self.second


def score_pairs(
    embedder: Embedder,
    pairs: Pairs,
    *,
    flip: bool = True,
    batch_size: int = 64,
    progress: bool = True,
) -> npt.NDArray[np.float64]:
    """Cosine score of every pair; an image in several pairs is embedded once.

    A pair with a missing image scores -1, the lowest cosine: a face that fails to enrol is never
    accepted. Leaving such pairs out would reward a detector that fails on hard images.

    Args:
        embedder, flip, batch_size, progress: as `embed`.
        pairs: a `Pairs`.

    Returns:
        float64 ``(N,)`` in [-1, 1].

    Raises:
        ValueError: if the pairs have no images; else as `embed` and `cosine_scores`.
        OSError: as `embed`.
    """
    return embed_pairs(
        embedder, pairs, flip=flip, batch_size=batch_size, progress=progress
    ).scores()


@dataclasses.dataclass(frozen=True, eq=False)
class EmbeddedPairs:
    """The images of a list of pairs, each embedded once.

    Attributes:
        images: the images, without the missing ones.
        embeddings: their embeddings, float32 ``(I, D)``.
        seen: bool ``(N,)``, the pairs without a missing image.
        rows: for each side the image of each such pair.
        sharpness: float64 ``(I,)``, of the images, as `effective_resolution` gives it; None if it
            was not asked for.
    """

    images: list[Any]
    embeddings: npt.NDArray[np.float32]
    seen: npt.NDArray[np.bool_]
    rows: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]
    sharpness: npt.NDArray[np.float64] | None = None

    def scores(self) -> npt.NDArray[np.float64]:
        """Cosine of every pair, -1 with a missing image."""
        first, second = (self.embeddings[rows] for rows in self.rows)
        scores = np.full(len(self.seen), -1.0)
        scores[self.seen] = cosine_scores(first, second)
        return scores

    def sides(self, values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """A number of each image for both sides of each pair; the lowest for a missing image."""
        found = np.full((2, len(self.seen)), values.min(), values.dtype)
        for side, rows in zip(found, self.rows, strict=True):
            side[self.seen] = values[rows]
        return found[0], found[1]


def embed_pairs(
    embedder: Embedder,
    pairs: Pairs,
    *,
    flip: bool = True,
    batch_size: int = 64,
    progress: bool = True,
    sharpness: bool = False,
) -> EmbeddedPairs:
    """Embeds the images of pairs; see `score_pairs`. `sharpness` measures that of each as well."""
    if pairs.first is None or pairs.second is None:
        raise ValueError("`score_pairs` needs pairs with images. Received: pairs without images.")
    seen = ~pairs.failed_to_enrol
    first = [path for path, keep in zip(pairs.first, seen, strict=True) if keep]
    second = [path for path, keep in zip(pairs.second, seen, strict=True) if keep]
    images = list(dict.fromkeys([*first, *second]))
    row = {path: index for index, path in enumerate(images)}
    found: list[npt.NDArray[np.float64]] = []
    embeddings = embed_shown(
        embedder,
        images,
        (lambda crops: found.append(effective_resolution(crops))) if sharpness else None,
        flip=flip,
        batch_size=batch_size,
        progress=progress,
    )
    rows = np.array([row[path] for path in first]), np.array([row[path] for path in second])
    return EmbeddedPairs(
        images, embeddings, seen, rows, np.concatenate(found) if sharpness else None
    )


def evaluate_pairs(
    embedder: Embedder,
    pairs: Pairs,
    *,
    flip: bool = True,
    batch_size: int = 64,
    progress: bool = True,
) -> Verification:
    """Scores pairs and verifies them, as every 1:1 protocol does.

    Args:
        embedder, flip, batch_size, progress: as `embed`.
        pairs: a `Pairs`.

    Returns:
        A `Verification`; its scores are in the order of the pairs, and it has an accuracy if they
        have folds.

    Raises:
        ValueError, OSError: as `score_pairs` and `verify`.
    """
    scores = score_pairs(embedder, pairs, flip=flip, batch_size=batch_size, progress=progress)
    result = verify(scores, pairs.same, pairs.folds)
    return dataclasses.replace(result, failed_to_enrol=int(np.count_nonzero(pairs.failed_to_enrol)))
