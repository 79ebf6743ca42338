"""Exact rates from float32 scores: a histogram gives the windows, float64 decides inside them.

A float32 product of two blocks is fast, but its last digits depend on the BLAS, its threads and the
block, so it only *selects*. A standard bound limits its distance from the float64 cosine (D times
6e-8, whatever the order of summation). A histogram of float32 scores therefore gives a narrow
window for each threshold: outside it float32 decides every pair. The few pairs inside are scored
again in float64 by `cosine_scores`.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.at_scale.histogram import Bins, ScoreHistogram, whole
from keras_facemargin.evaluate.measures import Measures
from keras_facemargin.evaluate.verification.curve import Roc, TarAtFar

Window = tuple[int, int]  # the first and the last bin

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)


@dataclasses.dataclass(frozen=True)
class PairRates(Measures):
    """The result of `verify_all_pairs` and of `verify_listed_pairs`.

    Attributes:
        embeddings: number of embeddings, N.
        genuines: pairs of one person.
        impostors: pairs of two people; they resolve rates down to ``1 / impostors``.
        eer: equal error rate, in [0, 1], as `equal_error_rate`.
        tar_at_far: a `TarAtFar` for each target rate, some perhaps not `supported`.
        histogram: a `ScoreHistogram` of all pairs, for curves.
    """

    embeddings: int
    genuines: int
    impostors: int
    eer: float
    tar_at_far: tuple[TarAtFar, ...]
    histogram: ScoreHistogram = dataclasses.field(compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for a card or a JSON file; rates that are not supported are ``None``."""
        return {
            "embeddings": self.embeddings,
            "genuine_pairs": self.genuines,
            "impostor_pairs": self.impostors,
            "eer": self.eer,
            "tar_at_far": [dataclasses.asdict(entry) for entry in self.tar_at_far],
        }

    def rows(self) -> list[tuple[str, str]]:
        """(measure, value) as text, for a table."""
        rows = [("EER", f"{self.eer:.3%}")]
        rows += [(f"TAR @ FAR {entry.target:.3g}", str(entry)) for entry in self.tar_at_far]
        pairs = f"{self.genuines:,} genuine, {self.impostors:,} impostor"
        return [*rows, (f"Pairs of {self.embeddings:,} embeddings", pairs)]


def windows_of(
    bins: Bins,
    ranks: Sequence[int],
    impostor: npt.NDArray[np.int64],
    genuine: npt.NDArray[np.int64],
) -> list[Window]:
    """For each threshold the bins (low, high) outside which float32 decides every pair.

    Args:
        bins: `Bins`.
        ranks: ranks, from the top, of the impostor scores that must not be accepted.
        impostor, genuine: histograms ``(bins.count,)``.
    """
    accepted = np.cumsum(impostor[::-1])[::-1]
    # The highest bin down to which that many impostors are accepted.
    found = [bins.count - 1 - int(np.searchsorted(accepted[::-1], rank)) for rank in ranks]
    found.append(crossing(impostor, genuine))
    reach = bins.margin
    return [(max(b - reach, 0), min(b + reach, bins.count - 1)) for b in found]


def crossing(impostor: npt.NDArray[np.int64], genuine: npt.NDArray[np.int64]) -> int:
    """The highest bin down to which FAR has reached FNMR."""
    false_accepts = whole(np.cumsum(impostor[::-1]), genuine.sum() * 1.0 * impostor.sum())
    misses = whole(genuine.sum() - np.cumsum(genuine[::-1]), genuine.sum() * 1.0 * impostor.sum())
    reached = misses * int(impostor.sum()) <= false_accepts * int(genuine.sum())
    return len(impostor) - 1 - int(np.argmax(reached))


def merged(windows: Iterable[Window], bins: int) -> list[Window]:
    """Windows within the histogram, ascending; windows that touch are joined."""
    joined: list[Window] = []
    for low, high in sorted((max(low, 0), min(high, bins - 1)) for low, high in windows):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(high, joined[-1][1])
        else:
            joined.append((low, high))
    return joined


def exact_curve(
    bins: Bins,
    windows: Sequence[Window],
    impostor: npt.NDArray[np.int64],
    genuine: npt.NDArray[np.int64],
    pair_bins: npt.NDArray[Any],
    score: Callable[[npt.NDArray[np.intp]], tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]],
) -> Roc:
    """The `Roc`, exact inside the windows, with one step between them.

    Args:
        bins: `Bins`.
        windows: bins (low, high), ascending; they do not touch.
        impostor, genuine: histograms ``(bins.count,)`` of all pairs.
        pair_bins: ``(P,)``, bins of pairs, among them every pair inside a window.
        score: function of indices into `pair_bins` to the pairs' float64 scores and truths.
    """
    needed = np.zeros(bins.count, bool)
    for low, high in windows:
        needed[low : high + 1] = True
    chosen = np.flatnonzero(needed[pair_bins])
    pair_bins = pair_bins[chosen]
    scores, same = score(chosen)
    impostors, genuines = int(impostor.sum()), int(genuine.sum())
    points = [(np.array([np.inf]), np.zeros((2, 1), np.int64))]
    for low, high in reversed(windows):
        here = (pair_bins >= low) & (pair_bins <= high)
        levels, place = np.unique(-scores[here], return_inverse=True)
        counts = [
            np.bincount(place[kind], minlength=len(levels)) for kind in (~same[here], same[here])
        ]
        above = np.array([[int(kind[high + 1 :].sum())] for kind in (impostor, genuine)])
        # All pairs between two windows enter at once, at a threshold that no target needs.
        points.append((np.array([np.nan]), above))
        points.append((-levels, above + np.cumsum(counts, axis=1)))
    points.append((np.array([-np.inf]), np.array([[impostors], [genuines]])))
    accepted = np.concatenate([each for _, each in points], axis=1)
    accepted = whole(accepted, genuines * impostors)
    return Roc(np.concatenate([levels for levels, _ in points]), accepted[0], accepted[1])
