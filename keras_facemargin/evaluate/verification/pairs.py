"""Pairs of images: what every 1:1 protocol's official list comes down to."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_facemargin.evaluate.cosine import cosine_scores
from keras_facemargin.evaluate.embedding import embed
from keras_facemargin.evaluate.verification.verification import Verification, verify


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of images with their truth.

    Attributes:
        first, second: N images each, a sequence: files, or images in a container, as `read_face`
            takes them; of templates one image that shows them. Or ``None`` where there is none.
        same: bool ``(N,)``, True for genuine pairs.
        folds: int ``(N,)``, or ``None`` where the protocol has none.
        missing: those of the images that are not there (no face was found in them, say).
        people: the identities on the two sides, ``(N,)`` each, or ``None`` where the list does not
            tell them; `bootstrap` draws them.
        failed_to_enrol: bool ``(N,)``, True for pairs that count as rejected because an image is
            missing or a template has none. Pass it only for templates: `missing` is added.
    """

    first: Sequence[Path] | None
    second: Sequence[Path] | None
    same: np.ndarray
    folds: np.ndarray | None = None
    missing: frozenset[Path] = frozenset()
    people: tuple[np.ndarray, np.ndarray] | None = None
    failed_to_enrol: np.ndarray | None = None

    def __post_init__(self):
        failed = self.failed_to_enrol
        if failed is None:
            failed = np.zeros(len(self), bool)
        if self.missing:
            pairs = zip(self.first, self.second, strict=True)
            failed = failed | np.array([bool(self.missing & {*pair}) for pair in pairs])
        object.__setattr__(self, "failed_to_enrol", failed)

    def __len__(self):
        return len(self.same)


def score_pairs(embedder, pairs, *, flip=True, batch_size=64, progress=True) -> np.ndarray:
    """Cosine score of every pair; an image that stands in several pairs is embedded once.

    A pair with a missing image scores -1, the lowest cosine: a face that cannot be enrolled is
    accepted as nobody's. To leave such pairs out instead would reward a detector for giving up on
    the hard images.

    Args:
        embedder, flip, batch_size, progress: as `embed`.
        pairs: a `Pairs`.

    Returns:
        float64 ``(N,)`` in [-1, 1].

    Raises:
        ValueError, OSError: as `embed` and `cosine_scores`.
    """
    seen = ~pairs.failed_to_enrol
    first = [path for path, keep in zip(pairs.first, seen, strict=True) if keep]
    second = [path for path, keep in zip(pairs.second, seen, strict=True) if keep]
    images = list(dict.fromkeys([*first, *second]))
    row = {path: index for index, path in enumerate(images)}
    embeddings = embed(embedder, images, flip=flip, batch_size=batch_size, progress=progress)
    scores = np.full(len(pairs), -1.0)
    scores[seen] = cosine_scores(
        embeddings[[row[path] for path in first]], embeddings[[row[path] for path in second]]
    )
    return scores


def evaluate_pairs(embedder, pairs, *, flip=True, batch_size=64, progress=True) -> Verification:
    """Scores pairs and verifies them: what every 1:1 protocol does once its list is read.

    Args:
        embedder, flip, batch_size, progress: as `embed`.
        pairs: a `Pairs`.

    Returns:
        A `Verification`; its scores are in the order of the pairs, and it holds an accuracy where
        they have folds.

    Raises:
        ValueError, OSError: as `score_pairs` and `verify`.
    """
    scores = score_pairs(embedder, pairs, flip=flip, batch_size=batch_size, progress=progress)
    result = verify(scores, pairs.same, pairs.folds)
    return dataclasses.replace(result, failed_to_enrol=int(np.count_nonzero(pairs.failed_to_enrol)))
