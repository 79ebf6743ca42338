"""float32 scores in narrow bins: what is left of pairs that are too many to keep."""

import dataclasses
import math

import numpy as np

from keras_facemargin.evaluate.cosine import ROWS_AT_ONCE, unit_rows
from keras_facemargin.evaluate.verification.curve import Roc

# A power of 4, so that scaling the units by its root rounds nothing.
BINS_PER_UNIT = 65_536

# Of one bin.
WIDTH = 1 / BINS_PER_UNIT


@dataclasses.dataclass(frozen=True)
class Bins:
    """The histogram of float32 cosines of rows of `size` numbers, and how far they may be off."""

    size: int

    @property
    def margin(self):
        """Bins on either side of a threshold's bin in which a pair's side is not certain.

        Two float32 scores may each be off by D + 2 roundings (the units once each, products and
        sums in any order), and by half a unit in the last place of the largest bin number.
        """
        roundings = (self.size + 8) * 1.01 * 2.0**-24
        return math.ceil(2 * (roundings * BINS_PER_UNIT + 0.01)) + 1

    @property
    def offset(self):
        """What makes the number of the bin of -1, less rounding, positive."""
        return BINS_PER_UNIT + self.margin

    @property
    def count(self):
        """Number of bins."""
        return 2 * self.offset + 1


def float32_units(embeddings, order=None) -> np.ndarray:
    """Rows in float32, of length sqrt(BINS_PER_UNIT): a product of two is a score in bins.

    Args:
        embeddings: ``(N, D)``, of any length but zero.
        order: which row goes to which place, ``(N,)``; as they are, if ``None``.
    """
    units = np.empty(embeddings.shape, np.float32)
    place = np.arange(len(embeddings))
    if order is not None:
        place[order] = np.arange(len(embeddings))
    for start in range(0, len(embeddings), ROWS_AT_ONCE):  # in float64 only a block at a time
        rows = slice(start, start + ROWS_AT_ONCE)
        block = unit_rows(embeddings[rows], "embeddings", start)
        units[place[rows]] = math.sqrt(BINS_PER_UNIT) * block
    return units


@dataclasses.dataclass(frozen=True, eq=False)
class ScoreHistogram:
    """All genuine and all impostor pairs of a set by their score, in bins of `WIDTH`.

    They are float32 scores, so a pair may stand `Bins.margin` bins beside its own; it is there
    exactly once. What is read off here is for the eye; `PairRates` holds the exact rates.

    Attributes:
        genuine, impostor: int64 ``(K,)``, numbers of pairs.
        lowest: the score at which the first bin begins; bin k begins k times `WIDTH` higher.

    Example:
        >>> from keras_facemargin.evaluate import verify_all_pairs
        >>> embeddings = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]
        >>> found = verify_all_pairs(embeddings, ["a", "a", "b", "b"], progress=False).histogram
        >>> found.genuine.sum(), found.impostor.sum(), found.curve().area()
        (np.int64(2), np.int64(4), 1.0)
    """

    genuine: np.ndarray
    impostor: np.ndarray
    lowest: float

    def curve(self) -> Roc:
        """The `Roc` at the lower ends of the bins: pairs of one bin enter together, as if tied."""
        held = np.flatnonzero(self.genuine + self.impostor)[::-1]
        largest = float(self.genuine.sum()) * float(self.impostor.sum())
        counts = (
            whole(np.append(0, np.cumsum(kind[held])), largest)
            for kind in (self.impostor, self.genuine)
        )
        return Roc(np.append(np.inf, self.lowest + held * WIDTH), *counts)

    def rebinned(self, count) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(edges, genuine, impostor): pairs in about equal bins from the lowest to the highest.

        Args:
            count: of those bins, each made of whole narrow ones.
        """
        held = np.flatnonzero(self.genuine + self.impostor)
        cuts = np.linspace(held[0], held[-1] + 1, count + 1).round().astype(int)
        counts = (
            np.diff(np.append(0, np.cumsum(kind))[cuts]) for kind in (self.genuine, self.impostor)
        )
        return self.lowest + cuts * WIDTH, *counts


def whole(counts, largest):
    """Counts whose products up to `largest` are exact: Python's whole numbers have no end."""
    return counts.astype(object) if largest >= 2.0**62 else counts
