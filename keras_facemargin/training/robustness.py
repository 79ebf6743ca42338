"""Error rates of an embedder on degraded faces, at the threshold that clean faces need."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.cosine import unit_rows
from keras_facemargin.evaluate.degraded import CLEAN, JudgedFaces, clean_threshold, count_pairs
from keras_facemargin.images.degrade import KINDS, degrade

_BATCH = 64

Rows = npt.NDArray[np.float64]
Embeddings = dict[str, tuple[Rows, ...]]


@dataclasses.dataclass(frozen=True)
class Rates:
    """Error rates of one kind of images.

    Attributes:
        fmr: false match rate: share of the pairs of two people at or above the threshold.
        fnmr: false non-match rate: share of the pairs of one person below it.
    """

    fmr: float
    fnmr: float


@dataclasses.dataclass(frozen=True)
class Robustness:
    """Rates of an embedder on degraded faces.

    Attributes:
        far: target of the threshold.
        threshold: cosine at which at most a share `far` of the clean pairs of two people matches.
        people: number of people; each has one genuine pair.
        both: kind, "clean" too -> `Rates`, both images of a pair degraded alike.
        one: kind -> `Rates`, one image clean (as an enrolled one), the other degraded.
    """

    far: float
    threshold: float
    people: int
    both: dict[str, Rates]
    one: dict[str, Rates]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


class TestFaces:
    """Crops to measure on, in memory.

    Args:
        first: uint8 (N, H, W, 3), clean.
        second: the same of another image of each person; None if the people are not known.
    """

    __test__ = False  # for pytest, which collects classes of this name

    def __init__(
        self, first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8] | None = None
    ) -> None:
        self.sets = (first,) if second is None else (first, second)

    @property
    def batches(self) -> int:
        """Number of batches that `embed` needs."""
        return len(self.sets) * (len(KINDS) + 1) * math.ceil(len(self.sets[0]) / _BATCH)

    def embed(self, embedder: Any, advance: Callable[[], None]) -> Embeddings:
        """Embeddings of the crops, clean and degraded in each way.

        Args:
            embedder: a Keras model.
            advance: called after each batch.

        Returns:
            dict from a kind to (N, D) for each set.
        """
        return {
            kind: tuple(_embed(embedder, crops, kind, advance) for crops in self.sets)
            for kind in (CLEAN, *KINDS)
        }


def _embed(
    embedder: Any, crops: npt.NDArray[np.uint8], kind: str, advance: Callable[[], None]
) -> Rows:
    parts = []
    for start in range(0, len(crops), _BATCH):
        batch = [degrade(crop, kind) for crop in crops[start : start + _BATCH]]
        missing = min(_BATCH, len(crops)) - len(batch)  # one shape: the model is traced once
        images = np.stack(batch + batch[-1:] * missing).astype("float32")
        parts.append(np.asarray(embedder.predict_on_batch(images))[: len(batch)])
        advance()
    return np.concatenate(parts)


def unit_embeddings(embeddings: Embeddings) -> Embeddings:
    """The same, of unit length."""
    return {
        kind: tuple(unit_rows(rows, "embeddings") for rows in sets)
        for kind, sets in embeddings.items()
    }


def rates_of(embeddings: Embeddings, far: float) -> Robustness:
    """The rates of the unit embeddings of two sets.

    Every pair of two people counts: each first image with each second image of another person.

    Args:
        embeddings: as `unit_embeddings` gives them.
        far: target on clean pairs.

    Raises:
        ValueError: there are too few people for the rate.
    """
    faces = {kind: _without_quality(np.stack(rows)) for kind, rows in embeddings.items()}
    clean = faces[CLEAN]
    threshold = clean_threshold(clean, far)

    def rates(first: JudgedFaces, second: JudgedFaces, kind: str) -> Rates:
        found = count_pairs(first, second, kind, threshold, None)
        return Rates(fmr=found.fmr, fnmr=found.fnmr)

    both = {kind: rates(each, each, kind) for kind, each in faces.items()}
    one = {kind: rates(clean, each, kind) for kind, each in faces.items() if kind != CLEAN}
    people = len(embeddings[CLEAN][0])
    return Robustness(far=far, threshold=threshold, people=people, both=both, one=one)


def _without_quality(units: Rows) -> JudgedFaces:
    """Embeddings (2, P, D) of crops that no limit refuses."""
    return JudgedFaces(units, np.full(units.shape[:2], np.inf), norms=None, agreements=None)


def agreement(before: Embeddings, after: Embeddings) -> dict[str, float]:
    """Mean cosine of the embedding of each kind to the clean embedding of the old embedder."""
    return {
        kind: float(np.mean([_cosines(*pair).mean() for pair in _pairs(before[CLEAN], rows)]))
        for kind, rows in after.items()
    }


@dataclasses.dataclass(frozen=True)
class Kept:
    """Cosines of the embeddings of clean crops before and after: are old galleries still valid?

    Attributes:
        mean, percentile_1, lowest: of all crops: the mean, the 1st percentile and the minimum.
    """

    mean: float
    percentile_1: float
    lowest: float

    @classmethod
    def of(cls, before: Embeddings, after: Embeddings) -> "Kept":
        """From the embeddings of the same crops."""
        parts = [_cosines(*pair) for pair in _pairs(before[CLEAN], after[CLEAN])]
        cosines = np.concatenate(parts)
        return cls(float(cosines.mean()), float(np.quantile(cosines, 0.01)), float(cosines.min()))

    def __str__(self) -> str:
        return (
            f"embeddings of clean crops keep a cosine of {self.mean:.4f} on average, 1 % have less "
            f"than {self.percentile_1:.4f}, the least is {self.lowest:.4f}"
        )


def _pairs(before: tuple[Rows, ...], after: tuple[Rows, ...]) -> Iterator[tuple[Rows, Rows]]:
    return zip(before, after, strict=True)


def _cosines(a: Rows, b: Rows) -> Rows:
    cosines: Rows = np.sum(a * b, axis=1)
    return cosines
