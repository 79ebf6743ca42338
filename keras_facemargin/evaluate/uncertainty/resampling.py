"""Confidence intervals by bootstrap over identities.

Errors of pairs that share a person are correlated, so a test set holds less information than its
number of pairs suggests, and intervals over resampled *pairs* are too narrow if people are in many
pairs. Here *identities* are drawn with replacement, as many as there are. A person who is drawn c
times counts c times:

    genuine pair of p: c_p        impostor pair of p and q: c_p c_q

Each draw computes every measure again on the pairs with these counts, with its own threshold. The
interval is the middle 95 % of the results (percentile bootstrap). On methods and their coverage:
Fogliato, Patil, Perona, "Confidence intervals for error rates in 1:1 matching tasks",
arXiv:2306.01198.
"""

import collections
import dataclasses
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import identifiers
from keras_facemargin.evaluate.verification.curve import (
    Roc,
    allowed_false_accepts,
    checked_folds,
    checked_pairs,
    count_descending,
    require_both_kinds,
)
from keras_facemargin.evaluate.verification.verification import FAR_TARGETS
from keras_facemargin.progress import progress_bar

if TYPE_CHECKING:  # these rooms import this one
    from keras_facemargin.evaluate.at_scale.hardest import HardestPairs
    from keras_facemargin.evaluate.at_scale.listed_pairs import HardestListedPairs

    Hardest: TypeAlias = HardestPairs | HardestListedPairs

# The identities on the two sides of pairs.
Sides = Sequence[npt.ArrayLike] | npt.NDArray[Any]

LEVEL = 0.95

# Number of FARs in the band around a curve, evenly spaced on a logarithmic axis.
BAND_POINTS = 80

# Draws of very many pairs that are measured at once; each takes about 100 MB.
THREADS = min(4, os.cpu_count() or 1)

# Consecutive draws that may leave no genuine or no impostor pair.
TRIES = 100


@dataclasses.dataclass(frozen=True)
class Interval:
    """The range of a measure over the replicates, from `low` to `high`."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.2%} to {self.high:.2%}"


class Drawn:
    """Results of draws: `units` of a `unit`, a row of `band` for each draw."""

    unit: str
    units: int
    band: npt.NDArray[np.float64]

    @property
    def replicates(self) -> int:
        """Number of draws, B."""
        return len(self.band)

    def __str__(self) -> str:
        return (
            f"the middle {LEVEL:.0%} of {self.replicates:,} draws of {self.units:,} {self.unit} "
            "with replacement"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Bootstrap(Drawn):
    """The result of `bootstrap`. Replicate b of every measure comes from one draw.

    Attributes:
        unit: "identities" or "pairs", which are drawn.
        units: number of these.
        eer: float64 ``(B,)``.
        tar: float64 ``(B, F)``, the largest TAR within each of `fars`.
        fars: the F target false accept rates.
        accuracy: float64 ``(B,)``, mean fold accuracies, or accuracies at a given threshold, or
            ``None`` without either.
        tar_deviation: float64 ``(B, F)``, the sample standard deviation of the TARs over splits;
            NaN for a single split.
        auc: float64 ``(B,)``, or ``None`` if not all scores are known or counted.
        band_fars: float64 ``(M,)``, from ``1 / impostors`` to 1.
        band: float64 ``(B, M)``, the largest TAR within each of `band_fars`; NaN if it depends on
            unknown scores.
    """

    unit: str
    units: int
    eer: npt.NDArray[np.float64]
    tar: npt.NDArray[np.float64]
    fars: tuple[float, ...]
    band_fars: npt.NDArray[np.float64]
    band: npt.NDArray[np.float64]
    tar_deviation: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64] | None = None
    auc: npt.NDArray[np.float64] | None = None


def interval(values: npt.ArrayLike) -> Interval:
    """The middle 95 % of the replicates of a measure, or of the differences of two measures.

    Args:
        values: ``(B,)``.

    Example:
        >>> print(interval(np.linspace(0, 1, 101)))
        2.50% to 97.50%
    """
    low, high = np.quantile(np.asarray(values), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def bootstrap(
    scores: npt.ArrayLike,
    same: npt.ArrayLike,
    *,
    folds: npt.ArrayLike | None = None,
    people: Sides | None = None,
    fars: Sequence[float] = FAR_TARGETS,
    replicates: int = 1_000,
    seed: int = 0,
    progress: bool = True,
    threshold: float | None = None,
) -> Bootstrap:
    """Computes accuracy, AUC, EER, TAR at FAR and the ROC on resampled identities or pairs.

    One `seed` draws the same people whatever the scores are, so two embedders on one list can be
    compared draw by draw: ``interval(a.eer - b.eer)``.

    An error that no pair shows is in no replicate: a measure of exactly 0 % or 100 % has an
    interval of width zero. This means that there are too few pairs, not that the measure is
    certain. A TAR at a FAR of about ten impostor pairs or fewer changes in steps of that size.

    Args:
        scores: similarities, ``(N,)``.
        same: ``(N,)``, True for genuine pairs.
        folds: ``(N,)`` as `fold_accuracy`, or ``None``. If a draw has no person of a fold, that
            replicate's mean leaves the fold out.
        people: the identities on the two sides, ``(N,)`` each: integers or strings. Without them,
            genuine and impostor pairs are each drawn with replacement, as if independent.
        fars: target false accept rates, each in (0, 1).
        replicates: number of draws, B.
        seed: seed of the draws.
        progress: whether to draw a progress bar on standard error.
        threshold: chosen on pairs of other people, and the same in every draw; the accuracy is the
            share of correct decisions at it. Not together with `folds`.

    Returns:
        A `Bootstrap`.

    Raises:
        ValueError: as `roc` and `fold_accuracy`; if there are both folds and a threshold; if
            `people` have another shape or contradict `same`; or if there are so few people that
            draws leave no genuine pair, no impostor pair, or one fold only.

    Example:
        >>> people = [[0, 1, 2, 0, 1, 2], [0, 1, 2, 1, 2, 0]]
        >>> draws = bootstrap([0.9, 0.8, 0.3, 0.7, 0.2, 0.1], [1, 1, 1, 0, 0, 0], people=people,
        ...                   progress=False)
        >>> draws.unit, draws.units, draws.replicates
        ('identities', 3, 1000)
        >>> print(interval(draws.eer))
        0.00% to 33.33%
    """
    scores, same = checked_pairs(scores, same)
    if folds is not None:
        if threshold is not None:
            raise ValueError(
                "Pass `folds` or `threshold`: each fold has its own threshold. Received: both."
            )
        scores, same, folds = checked_folds(scores, same, folds)
    draws = Draws(same, people, folds, seed)
    order = np.argsort(scores)[::-1]
    scores, same = scores[order], same[order]
    parts = []
    if folds is not None:
        folds = folds[order]
        parts = [(np.flatnonzero(folds != f), np.flatnonzero(folds == f)) for f in np.unique(folds)]
    right = None if threshold is None else (scores >= threshold) == same
    accuracy = np.full(replicates, np.nan)
    found = _Replicates(replicates, fars, int(np.count_nonzero(~same)))
    with progress_bar("draws", progress) as bar:
        task = bar.add_task("Resampling", total=replicates)
        for b in range(replicates):
            times = draws.times()[order]
            found.take(b, [curve_of(scores, same, times)])
            if parts:
                accuracy[b] = _mean_fold_accuracy(scores, same, times, parts)
            elif right is not None:
                accuracy[b] = (times @ right) / times.sum()
            bar.advance(task)
    return found.of(draws, None if np.isnan(accuracy).any() else accuracy)


def bootstrap_splits(
    scores: npt.ArrayLike,
    same: npt.ArrayLike,
    splits: npt.ArrayLike,
    *,
    people: Sides | None = None,
    fars: Sequence[float] = FAR_TARGETS,
    replicates: int = 1_000,
    seed: int = 0,
    progress: bool = True,
) -> Bootstrap:
    """`bootstrap` of the means over splits that `verify_by_fold` gives, one ROC for each split.

    A person in several splits is drawn for all of them at once. If a draw leaves a split without
    genuine or without impostor pairs, that replicate's mean leaves the split out.

    Args:
        scores, same, people, fars, replicates, seed, progress: as `bootstrap`.
        splits: ``(N,)``, the split of each pair; each has pairs of both kinds.

    Returns:
        A `Bootstrap` without accuracies; its `band_fars` start at the lowest FAR that the smallest
            split supports.

    Raises:
        ValueError: as `bootstrap` and `verify_by_fold`.

    Example:
        >>> people = [[0, 1, 2, 0, 1, 2], [0, 1, 2, 1, 2, 0]]
        >>> draws = bootstrap_splits([0.9, 0.8, 0.3, 0.7, 0.2, 0.1], [1, 1, 1, 0, 0, 0],
        ...                          ["a"] * 6, people=people, progress=False)
        >>> print(interval(draws.eer))
        0.00% to 33.33%
    """
    scores, same = checked_pairs(scores, same)
    (splits,) = identifiers(splits=splits)
    draws = Draws(same, people, seed=seed)
    order = np.argsort(scores)[::-1]
    parts = [order[splits[order] == split] for split in np.unique(splits)]
    for part in parts:
        require_both_kinds(same[part], f"split {splits[part[0]]}")
    fewest = min(int(np.count_nonzero(~same[part])) for part in parts)
    found = _Replicates(replicates, fars, fewest)
    with progress_bar("draws", progress) as bar:
        task = bar.add_task("Resampling", total=replicates)
        for b in range(replicates):
            curves: list[Roc] = []
            while not curves:  # a later draw leaves both kinds of pairs in a split
                times = draws.times()
                curves = [
                    curve_of(scores[part], same[part], times[part])
                    for part in parts
                    if both_kinds_drawn(same[part], times[part])
                ]
            found.take(b, curves)
            bar.advance(task)
    return found.of(draws)


def bootstrap_hardest(
    pairs: "Hardest",
    fars: Sequence[float],
    *,
    replicates: int = 1_000,
    seed: int = 0,
    progress: bool = True,
) -> Bootstrap:
    """`bootstrap` over very many pairs, from the pairs that decide the rates.

    The cost depends on the pairs in memory, the hardest ones. The other impostor pairs of a set
    enter as counts by person and level of the score (`HardestPairs.unheld`); those of a list enter
    only as one number, below all pairs in memory.

    Args:
        pairs: a `HardestPairs` or a `HardestListedPairs`.
        fars, replicates, seed, progress: as `bootstrap`.

    Returns:
        A `Bootstrap` without accuracy. A TAR or EER whose threshold is among the pairs in memory
        equals that of all pairs. Other TARs and EERs, and the AUC, are first-order approximations
        for a set and NaN for a list.

    Raises:
        ValueError: if a rate is not in (0, 1), or the people are too few, as `bootstrap`.

    Example:
        >>> from keras_facemargin.evaluate.at_scale import hardest_pairs
        >>> rows = np.random.default_rng(0).normal(size=(60, 8)) + np.repeat(np.eye(8)[:6], 10, 0)
        >>> pairs = hardest_pairs(rows, np.repeat(np.arange(6), 10), impostors=800, progress=False)
        >>> draws = bootstrap_hardest(pairs, [0.1], replicates=50, progress=False)
        >>> draws.units, draws.tar.shape
        (6, (50, 1))
    """
    return bootstrap_hardest_splits(
        [pairs], fars, replicates=replicates, seed=seed, progress=progress
    )


def bootstrap_hardest_splits(
    splits: "Sequence[Hardest]",
    fars: Sequence[float],
    *,
    replicates: int = 1_000,
    seed: int = 0,
    progress: bool = True,
) -> Bootstrap:
    """`bootstrap_hardest` of means over splits, one ROC for each split.

    A person in several splits is drawn for all of them at once. If a draw leaves a split without
    genuine or without impostor pairs, that replicate's mean leaves the split out.

    Args:
        splits: `HardestPairs` that number the people alike (`units` of `hardest_pairs`).
        fars, replicates, seed, progress: as `bootstrap`.

    Returns:
        A `Bootstrap`, as `bootstrap_hardest`.

    Raises:
        ValueError: as `bootstrap_hardest`, or if the splits differ in the number of people.

    Example:
        >>> from keras_facemargin.evaluate.at_scale import hardest_pairs
        >>> rows = np.random.default_rng(0).normal(size=(60, 8)) + np.repeat(np.eye(8)[:6], 10, 0)
        >>> people = np.repeat(np.arange(6), 10)
        >>> splits = [
        ...     hardest_pairs(rows[part], people[part], impostors=500, progress=False, units=6)
        ...     for part in (slice(50), slice(10, 60))
        ... ]
        >>> draws = bootstrap_hardest_splits(splits, [0.1], replicates=50, progress=False)
        >>> draws.units, draws.tar.shape
        (6, (50, 1))
    """
    units = splits[0].units
    if any(pairs.units != units for pairs in splits):
        raise ValueError(
            "All splits must number their people alike, because people are drawn for all at once. "
            f"Received: splits of {', '.join(f'{pairs.units:,}' for pairs in splits)} people."
        )
    orders = [np.argsort(pairs.scores)[::-1] for pairs in splits]
    scores, same = (
        [getattr(pairs, name)[order] for pairs, order in zip(splits, orders, strict=True)]
        for name in ("scores", "same")
    )
    sides = [
        np.concatenate([pairs.sides[k][order] for pairs, order in zip(splits, orders, strict=True)])
        for k in (0, 1)
    ]
    draws = Draws(np.concatenate(same), sides, size=units, seed=seed)
    fewest = min(pairs.impostors(np.ones(units, int)) for pairs in splits)
    found = _Replicates(replicates, fars, fewest)
    ends = np.cumsum([len(order) for order in orders])[:-1]

    def measure(b: int, times: list[npt.NDArray[Any]], counts: npt.NDArray[Any]) -> None:
        curves = [
            pairs.completed(curve_of(*of_split), counts)
            for pairs, *of_split in zip(splits, scores, same, times, strict=True)
            if both_kinds_drawn(*of_split[1:])
        ]
        found.take(b, *zip(*curves, strict=True))

    # One thread draws, in order; others measure, mostly in NumPy, which lets them run at once.
    measuring: collections.deque[Future[None]] = collections.deque()
    with progress_bar("draws", progress) as bar, ThreadPoolExecutor(THREADS) as pool:
        task = bar.add_task("Resampling", total=replicates)
        for b in range(replicates):
            times = np.split(draws.times(), ends)
            while not any(map(both_kinds_drawn, same, times)):
                times = np.split(draws.times(), ends)
            measuring.append(pool.submit(measure, b, times, draws.counts))
            if len(measuring) > THREADS:
                measuring.popleft().result()
            bar.advance(task)
        for draw in measuring:
            draw.result()
    return found.of(draws)


class _Replicates:
    """The measures of each draw, means over its curves."""

    def __init__(self, replicates: int, fars: Sequence[float], impostors: int) -> None:
        self.fars, self.band_fars = tuple(fars), band_rates(impostors)
        self.auc, self.eer = np.empty(replicates), np.empty(replicates)
        self.tar = np.empty((replicates, len(self.fars)))
        self.tar_deviation = np.empty_like(self.tar)
        self.band = np.ones((replicates, BAND_POINTS))

    def take(self, b: int, curves: Sequence[Roc], known: Sequence[int] | None = None) -> None:
        """Measures draw b.

        Args:
            b: its number.
            curves: one for each split.
            known: the number of impostor pairs, from the top, down to which each curve is known;
                all if ``None``.
        """
        ends = known or [curve.impostors for curve in curves]

        def each(measure: Callable[..., Any], *arguments: Any) -> list[Any]:
            pairs = zip(curves, ends, strict=True)
            return [measure(curve, end, *arguments) for curve, end in pairs]

        self.auc[b] = np.mean(each(_area_where_known))
        self.eer[b] = np.mean(each(_eer_where_known))
        tars = each(tar_where_known, self.fars)
        self.tar[b], self.tar_deviation[b] = np.mean(tars, axis=0), deviation(tars)
        self.band[b, :-1] = np.mean(each(tar_where_known, self.band_fars[:-1]), axis=0)

    def of(self, draws: "Draws", accuracy: npt.NDArray[np.float64] | None = None) -> Bootstrap:
        return Bootstrap(
            unit=draws.unit,
            units=draws.units,
            eer=self.eer,
            tar=self.tar,
            fars=self.fars,
            band_fars=self.band_fars,
            band=self.band,
            tar_deviation=self.tar_deviation,
            accuracy=accuracy,
            auc=None if np.isnan(self.auc).any() else self.auc,
        )


def band_rates(count: int) -> npt.NDArray[np.float64]:
    """The false rates of the band around a curve, from ``1 / count`` to 1."""
    return np.geomspace(min(1 / count, 0.5), 1, BAND_POINTS)


def tar_where_known(curve: Roc, held: int, fars: npt.NDArray[Any] | Sequence[float]) -> list[float]:
    """`Roc.largest_tar` of a `Roc.with_all`, NaN if it depends on pairs that are not in memory."""
    everything = held == curve.impostors
    return [
        curve.largest_tar(far)
        if everything or allowed_false_accepts(far, curve.impostors) < held
        else np.nan
        for far in fars
    ]


def _area_where_known(curve: Roc, held: int) -> float:
    return curve.area() if held == curve.impostors else np.nan


def _eer_where_known(curve: Roc, held: int) -> float:
    # Genuine pairs below the last impostor pair in memory are among impostor pairs that are not.
    last = int(np.searchsorted(curve.false_accepts, held))
    misses = curve.genuines - int(curve.true_accepts[last])
    if held < curve.impostors and misses * curve.impostors > held * curve.genuines:
        return np.nan
    return curve.equal_error_rate()


def deviation(splits: Sequence[Any]) -> Any:
    """The sample standard deviation over splits ``(S, ...)``; NaN for a single split."""
    return np.std(splits, axis=0, ddof=1) if len(splits) > 1 else np.nan


def both_kinds_drawn(same: npt.NDArray[np.bool_], times: npt.NDArray[Any]) -> bool:
    """Whether a draw left genuine and impostor pairs."""
    drawn = times != 0
    return bool((drawn & same).any() and (drawn & ~same).any())


def curve_of(
    scores: npt.NDArray[np.float64], same: npt.NDArray[np.bool_], times: npt.NDArray[Any]
) -> Roc:
    """The `Roc` of pairs in descending order, pair i counted ``times[i]`` >= 0 times."""
    drawn = np.flatnonzero(times)
    return count_descending(scores[drawn], same[drawn], times[drawn])


class Draws:
    """Draws of identities, or of pairs if the identities are unknown; see `bootstrap`.

    Attributes:
        unit: "identities" or "pairs".
        units: number of these.
        counts: ``(units,)``, how often each identity was drawn last.
    """

    def __init__(
        self,
        same: npt.NDArray[np.bool_],
        people: Sides | None = None,
        folds: npt.NDArray[Any] | None = None,
        seed: int = 0,
        size: int | None = None,
    ) -> None:
        self._same = same
        self._folds = None if folds is None else np.unique(folds, return_inverse=True)[1]
        self._rng = np.random.default_rng(seed)
        if people is None:
            self.unit, self.units = "pairs", len(same)
            return
        # The pairs may show only some of a set of `size` people.
        codes = identity_codes(same, people) if size is None else np.asarray(people)
        self.unit, self.units = "identities", size or int(codes.max()) + 1
        # A genuine pair shows one person: its other side is a person who is always drawn once.
        self._first, self._second = codes[0], np.where(same, self.units, codes[1])

    def times(self) -> npt.NDArray[np.int64]:
        """How often each pair counts in a new draw: int64 ``(N,)``.

        Draws until there are pairs of both kinds and, with folds, of at least two folds.
        """
        for _ in range(TRIES):
            times = self._of_pairs() if self.unit == "pairs" else self._of_identities()
            if self._enough(times):
                return times
        raise ValueError(
            "Draws with replacement must leave genuine and impostor pairs, of two folds if there "
            f"are folds. Received: {self.units:,} {self.unit}, of which {TRIES} draws in a row did "
            "not. Pass pairs of more people, or resample pairs (people=None)."
        )

    def _of_pairs(self) -> npt.NDArray[np.int64]:
        times = np.empty(self.units, np.int64)
        for kind in (self._same, ~self._same):  # the protocol fixes the number of each kind
            count = int(np.count_nonzero(kind))
            times[kind] = self._counts(count)
        return times

    def _of_identities(self) -> npt.NDArray[np.int64]:
        self.counts = self._counts(self.units)
        counts = np.append(self.counts, 1)
        times: npt.NDArray[np.int64] = counts[self._first] * counts[self._second]
        return times

    def _counts(self, size: int) -> npt.NDArray[np.int64]:
        return np.bincount(self._rng.integers(0, size, size), minlength=size)

    def _enough(self, times: npt.NDArray[np.int64]) -> bool:
        if self._folds is not None and np.count_nonzero(np.bincount(self._folds, times)) < 2:
            return False
        return both_kinds_drawn(self._same, times)


def identity_codes(same: npt.NDArray[np.bool_], people: Sides) -> npt.NDArray[Any]:
    """`people` as whole numbers from 0, ``(2, N)``, checked against `same`."""
    first, second = identifiers(**{f"people[{side}]": people[side] for side in (0, 1)})
    if not first.shape == second.shape == same.shape:
        raise ValueError(
            "`people` must hold two identities per pair, two sequences of shape (N,). Received: "
            f"shapes {first.shape} and {second.shape} for {len(same):,} pairs."
        )
    codes = numbered(np.concatenate([first, second])).reshape(2, -1)
    wrong = np.flatnonzero((codes[0] == codes[1]) != same)
    if len(wrong):
        index = wrong[0]
        kind = "genuine" if same[index] else "impostor"
        raise ValueError(
            "A genuine pair must show one person, an impostor pair two. Received: pair "
            f"{index:,} of {first[index].item()!r} and {second[index].item()!r}, {kind} by `same` "
            f"({len(wrong):,} such pairs)."
        )
    return codes


def numbered(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Labels ``(N,)`` as whole numbers from 0, in their order."""
    whole = labels.dtype.kind in "iu" and len(labels) > 0
    if whole and labels.min() >= 0 and labels.max() < 2 * len(labels):
        # Without sorting: a list may have 47 million pairs.
        there = np.zeros(int(labels.max()) + 1, bool)
        there[labels] = True
        codes: npt.NDArray[Any] = (np.cumsum(there, dtype=np.int32) - 1)[labels]
    else:
        codes = np.unique(labels, return_inverse=True)[1]
    return codes


def _mean_fold_accuracy(
    scores: npt.NDArray[np.float64],
    same: npt.NDArray[np.bool_],
    times: npt.NDArray[Any],
    parts: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]],
) -> float:
    """`FoldAccuracy.mean` of pairs in descending order, pair i counted ``times[i]`` times."""
    accuracies = []
    for others, held_out in parts:
        weight = times[held_out].sum()
        if not weight:
            continue
        others = others[times[others] > 0]
        curve = count_descending(scores[others], same[others], times[others])
        right = (scores[held_out] >= curve.most_accurate_threshold()) == same[held_out]
        accuracies.append((times[held_out] @ right) / weight)
    return float(np.mean(accuracies))
