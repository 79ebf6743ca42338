"""Histograms of float32 scores in narrow bins, for pairs that are too many to keep."""

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.cosine import ROWS_AT_ONCE, unit_rows
from keras_facemargin.evaluate.verification.curve import Roc

# A power of 4: scaling the units by its root is exact.
BINS_PER_UNIT = 65_536

# The width of a bin.
WIDTH = 1 / BINS_PER_UNIT


@dataclasses.dataclass(frozen=True)
class Bins:
    """The bins of float32 cosines of rows of `size` numbers, and their error."""

    size: int

    @property
    def margin(self) -> int:
        """Bins on either side of a threshold's bin in which float32 cannot decide a pair.

        Each float32 score may have an error of D + 2 roundings (one for each unit row, products and
        sums in any order), and of half a unit in the last place of the largest bin number.
        """
        roundings = (self.size + 8) * 1.01 * 2.0**-24
        return math.ceil(2 * (roundings * BINS_PER_UNIT + 0.01)) + 1

    @property
    def offset(self) -> int:
        """The offset that makes the bin number of -1, less rounding, positive."""
        return BINS_PER_UNIT + self.margin

    @property
    def count(self) -> int:
        """Number of bins."""
        return 2 * self.offset + 1


def float32_units(
    embeddings: npt.NDArray[Any], order: npt.NDArray[Any] | None = None
) -> npt.NDArray[Any]:
    """Rows in float32, of length sqrt(BINS_PER_UNIT): a product of two is a score in bins.

    Args:
        embeddings: ``(N, D)``, of any length but zero.
        order: ``(N,)``, the row at each place; unchanged if ``None``.
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

    Scores are float32, so a pair may be up to `Bins.margin` bins away from its bin; each pair
    counts exactly once. Use it for plots; `PairRates` has the exact rates.

    Attributes:
        genuine, impostor: int64 ``(K,)``, numbers of pairs.
        lowest: the lower end of the first bin; bin k starts k times `WIDTH` higher.

    Example:
        >>> from keras_facemargin.evaluate import verify_all_pairs
        >>> embeddings = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]
        >>> found = verify_all_pairs(embeddings, ["a", "a", "b", "b"], progress=False).histogram
        >>> found.genuine.sum(), found.impostor.sum(), found.curve().area()
        (np.int64(2), np.int64(4), 1.0)
    """

    genuine: npt.NDArray[Any]
    impostor: npt.NDArray[Any]
    lowest: float

    def curve(self) -> Roc:
        """The `Roc` at the lower ends of the bins: pairs of one bin count as ties."""
        held = np.flatnonzero(self.genuine + self.impostor)[::-1]
        largest = float(self.genuine.sum()) * float(self.impostor.sum())
        counts = (
            whole(np.append(0, np.cumsum(kind[held])), largest)
            for kind in (self.impostor, self.genuine)
        )
        return Roc(np.append(np.inf, self.lowest + held * WIDTH), *counts)

    def rebinned(self, count: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
        """(edges, genuine, impostor): pairs in about equal bins from the lowest to the highest.

        Args:
            count: number of these bins, each of several whole narrow ones.
        """
        held = np.flatnonzero(self.genuine + self.impostor)
        cuts = np.linspace(held[0], held[-1] + 1, count + 1).round().astype(int)
        counts = (
            np.diff(np.append(0, np.cumsum(kind))[cuts]) for kind in (self.genuine, self.impostor)
        )
        return self.lowest + cuts * WIDTH, *counts


def whole(counts: npt.NDArray[Any], largest: float) -> npt.NDArray[Any]:
    """Counts with exact products up to `largest`: as Python's unlimited integers if needed."""
    return counts.astype(object) if largest >= 2.0**62 else counts
