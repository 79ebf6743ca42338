"""Uncertainty: what the measures would have been, had other people been photographed.

Pairs that share a person err together, so a test set holds less information than its number of
pairs says, and intervals over resampled *pairs* are too narrow where a person stands in many. Here
*identities* are drawn with replacement, as many as there are. A person who was drawn c times counts
c times:

    genuine pair of p: c_p        impostor pair of p and q: c_p c_q

and every measure is taken again, by its own definition and with its threshold chosen anew, on the
pairs counted so. The interval holds the middle 95 % of what came out (percentile bootstrap). For
the methods in use and how well they cover: Fogliato, Patil, Perona, "Confidence intervals for error
rates in 1:1 matching tasks", arXiv:2306.01198.
"""

import dataclasses

import numpy as np

from keras_facemargin.arrays import identifiers
from keras_facemargin.evaluate.verification.curve import (
    allowed_false_accepts,
    checked_folds,
    checked_pairs,
    count_descending,
    require_both_kinds,
)
from keras_facemargin.evaluate.verification.verification import FAR_TARGETS
from keras_facemargin.progress import progress_bar

LEVEL = 0.95

# FARs at which the band around a curve is taken, evenly over its decades.
BAND_POINTS = 80

# Draws in a row that may leave no genuine or no impostor pair.
TRIES = 100


@dataclasses.dataclass(frozen=True)
class Interval:
    """The range of a measure over the replicates, from `low` to `high`."""

    low: float
    high: float

    def __str__(self):
        return f"{self.low:.2%} to {self.high:.2%}"


class Drawn:
    """What draws came to: `units` of a `unit`, a row of `band` for each draw."""

    @property
    def replicates(self) -> int:
        """Number of draws, B."""
        return len(self.band)

    def __str__(self):
        return (
            f"the middle {LEVEL:.0%} of {self.replicates:,} draws of {self.units:,} {self.unit} "
            "with replacement"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Bootstrap(Drawn):
    """What `bootstrap` found. Replicate b of every measure is of the same draw.

    Attributes:
        unit: what was drawn, "identities" or "pairs".
        units: how many of them there are.
        eer: float64 ``(B,)``.
        tar: float64 ``(B, F)``, the largest TAR within each of `fars`.
        fars: the F target false accept rates.
        accuracy: float64 ``(B,)``, mean fold accuracies or those at a given threshold, or ``None``
            without either.
        tar_deviation: float64 ``(B, F)``, the sample standard deviation of the TARs over splits, or
            NaN of a single one.
        auc: float64 ``(B,)``, or ``None`` where not all scores are held or counted.
        band_fars: float64 ``(M,)``, from ``1 / impostors`` to 1.
        band: float64 ``(B, M)``, the largest TAR within each of `band_fars`; NaN where scores that
            are not held decide it.
    """

    unit: str
    units: int
    eer: np.ndarray
    tar: np.ndarray
    fars: tuple[float, ...]
    band_fars: np.ndarray
    band: np.ndarray
    tar_deviation: np.ndarray
    accuracy: np.ndarray | None = None
    auc: np.ndarray | None = None


def interval(values) -> Interval:
    """The middle 95 % of a measure's replicates, or of the differences of two measures'.

    Args:
        values: ``(B,)``.

    Example:
        >>> print(interval(np.linspace(0, 1, 101)))
        2.50% to 97.50%
    """
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def bootstrap(
    scores,
    same,
    *,
    folds=None,
    people=None,
    fars=FAR_TARGETS,
    replicates=1_000,
    seed=0,
    progress=True,
    threshold=None,
) -> Bootstrap:
    """Takes accuracy, AUC, EER, TAR at FAR and the ROC again on resampled identities or pairs.

    The same `seed` draws the same people whatever the scores are, so that two embedders on one list
    can be compared draw by draw: ``interval(a.eer - b.eer)``.

    An error that no pair shows is in no replicate either: a measure of exactly 0 % or 100 % has an
    interval without width, which means that there are too few pairs, not that it is certain. A TAR
    at a FAR that some ten impostor pairs or fewer decide moves in steps as coarse.

    Args:
        scores: similarities, ``(N,)``.
        same: ``(N,)``, True for genuine pairs.
        folds: ``(N,)`` as `fold_accuracy`, or ``None``. A fold of which nobody was drawn is left
            out of that replicate's mean.
        people: the identities on the two sides, ``(N,)`` each: integers or strings. Without them
            genuine and impostor pairs are each drawn with replacement, as if independent.
        fars: target false accept rates, each in (0, 1).
        replicates: number of draws, B.
        seed: of the draws.
        progress: whether to draw a progress bar on standard error.
        threshold: chosen on other pairs, of other people, and the same in every draw: the accuracy
            is the share of the pairs decided rightly with it. Not together with `folds`.

    Returns:
        A `Bootstrap`.

    Raises:
        ValueError: as `roc` and `fold_accuracy`; or if there are both folds and a threshold; or if
            `people` are not of that shape or contradict `same`; or if they are so few that draws
            leave no genuine or no impostor pair, or one fold only.

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
                "Folds choose thresholds of their own: pass `folds` or `threshold`. Received: both."
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
    scores,
    same,
    splits,
    *,
    people=None,
    fars=FAR_TARGETS,
    replicates=1_000,
    seed=0,
    progress=True,
) -> Bootstrap:
    """`bootstrap` of means over splits, each with a ROC of its own: of what `verify_by_fold` gives.

    A person who is in several splits is drawn for all of them at once. A split of whose pairs a
    draw leaves one kind is left out of that replicate's mean.

    Args:
        scores, same, people, fars, replicates, seed, progress: as `bootstrap`.
        splits: ``(N,)``, the split of each pair; each has pairs of both kinds.

    Returns:
        A `Bootstrap` without accuracies; its `band_fars` begin at what the smallest split resolves.

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
            curves = []
            while not curves:  # a person of each kind of pair of one split is drawn sooner or later
                times = draws.times()
                curves = [
                    curve_of(scores[part], same[part], times[part])
                    for part in parts
                    if both_kinds_drawn(same[part], times[part])
                ]
            found.take(b, curves)
            bar.advance(task)
    return found.of(draws)


def bootstrap_hardest(pairs, fars, *, replicates=1_000, seed=0, progress=True) -> Bootstrap:
    """`bootstrap` over a set or a list of very many pairs, from those that decide its rates.

    Millions of pairs are drawn at the cost of those that are held. The impostor pairs of a set that
    are not held enter by how many each person has at which level of the score
    (`HardestPairs.unheld`); those of a list only by their number, below all that are held.

    Args:
        pairs: a `HardestPairs` or a `HardestListedPairs`.
        fars, replicates, seed, progress: as `bootstrap`.

    Returns:
        A `Bootstrap` without accuracy. A TAR or EER whose threshold lies among the pairs that are
        held equals that of the list of all pairs. Others, and the AUC, are of first order for a
        set, and NaN for a list: more pairs are needed to know them.

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


def bootstrap_hardest_splits(splits, fars, *, replicates=1_000, seed=0, progress=True) -> Bootstrap:
    """`bootstrap_hardest` of means over splits, each with a ROC of its own.

    A person who is in several splits is drawn for all of them at once. A split of whose pairs a
    draw leaves one kind is left out of that replicate's mean.

    Args:
        splits: `HardestPairs` whose people are numbered alike (`units` of `hardest_pairs`).
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
            "The people of all splits are drawn at once and must be numbered alike. "
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
    with progress_bar("draws", progress) as bar:
        task = bar.add_task("Resampling", total=replicates)
        for b in range(replicates):
            curves = []
            while not curves:
                times = np.split(draws.times(), ends)
                curves = [
                    pairs.completed(curve_of(*of_split), draws.counts)
                    for pairs, *of_split in zip(splits, scores, same, times, strict=True)
                    if both_kinds_drawn(*of_split[1:])
                ]
            found.take(b, *zip(*curves, strict=True))
            bar.advance(task)
    return found.of(draws)


class _Replicates:
    """The measures of each draw, means over its curves."""

    def __init__(self, replicates, fars, impostors):
        self.fars, self.band_fars = tuple(fars), band_rates(impostors)
        self.auc, self.eer = np.empty(replicates), np.empty(replicates)
        self.tar = np.empty((replicates, len(self.fars)))
        self.tar_deviation = np.empty_like(self.tar)
        self.band = np.ones((replicates, BAND_POINTS))

    def take(self, b, curves, known=None):
        """Draw b: its curves, and down to how many impostor pairs each is known, if not to all."""
        known = known or [curve.impostors for curve in curves]

        def each(measure, *arguments):
            pairs = zip(curves, known, strict=True)
            return [measure(curve, held, *arguments) for curve, held in pairs]

        self.auc[b] = np.mean(each(_area_where_known))
        self.eer[b] = np.mean(each(_eer_where_known))
        tars = each(tar_where_known, self.fars)
        self.tar[b], self.tar_deviation[b] = np.mean(tars, axis=0), deviation(tars)
        self.band[b, :-1] = np.mean(each(tar_where_known, self.band_fars[:-1]), axis=0)

    def of(self, draws, accuracy=None):
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


def band_rates(count):
    """False rates at which the band around a curve is taken, from one of `count` to all."""
    return np.geomspace(min(1 / count, 0.5), 1, BAND_POINTS)


def tar_where_known(curve, held, fars) -> list[float]:
    """`Roc.largest_tar` of a `Roc.with_all`, NaN where pairs that are not held decide it."""
    everything = held == curve.impostors
    return [
        curve.largest_tar(far)
        if everything or allowed_false_accepts(far, curve.impostors) < held
        else np.nan
        for far in fars
    ]


def _area_where_known(curve, held):
    return curve.area() if held == curve.impostors else np.nan


def _eer_where_known(curve, held):
    # Below the last impostor that is held, genuine pairs lie among impostors that are not.
    last = int(np.searchsorted(curve.false_accepts, held))
    misses = curve.genuines - int(curve.true_accepts[last])
    if held < curve.impostors and misses * curve.impostors > held * curve.genuines:
        return np.nan
    return curve.equal_error_rate()


def deviation(splits):
    """The sample standard deviation over splits ``(S, ...)``; NaN of a single one."""
    return np.std(splits, axis=0, ddof=1) if len(splits) > 1 else np.nan


def both_kinds_drawn(same, times):
    """Whether a draw left genuine and impostor pairs."""
    drawn = times != 0
    return (drawn & same).any() and (drawn & ~same).any()


def curve_of(scores, same, times):
    """The `Roc` of pairs in descending order, pair i counted ``times[i]`` >= 0 times."""
    seen = np.flatnonzero(times)
    return count_descending(scores[seen], same[seen], times[seen])


class Draws:
    """Draws of identities, or of pairs where nobody knows who they are; see `bootstrap`.

    Attributes:
        unit: "identities" or "pairs".
        units: how many there are.
        counts: how often each was drawn, where they are identities, ``(units,)``.
    """

    def __init__(self, same, people=None, folds=None, seed=0, size=None):
        self._same = same
        self._folds = None if folds is None else np.unique(folds, return_inverse=True)[1]
        self._rng = np.random.default_rng(seed)
        if people is None:
            self.unit, self.units = "pairs", len(same)
            return
        # Of a set of `size` people the pairs at hand may show only some.
        codes = identity_codes(same, people) if size is None else people
        self.unit, self.units = "identities", size or int(codes.max()) + 1
        # A genuine pair is of one person: its other side counts as somebody always drawn once.
        self._first, self._second = codes[0], np.where(same, self.units, codes[1])

    def times(self) -> np.ndarray:
        """How often each pair counts in a new draw: int64 ``(N,)``.

        There are pairs of both kinds in it and, with folds, of two folds at least; else what was
        drawn is drawn again.
        """
        for _ in range(TRIES):
            times = self._of_pairs() if self.unit == "pairs" else self._of_identities()
            if self._enough(times):
                return times
        raise ValueError(
            "What is drawn with replacement must leave genuine and impostor pairs, of two folds if "
            f"there are folds. Received: {self.units:,} {self.unit}, of which {TRIES} draws in a "
            "row did not. Take pairs of more people, or resample pairs (people=None)."
        )

    def _of_pairs(self):
        times = np.empty(self.units, np.int64)
        for kind in (self._same, ~self._same):  # their numbers are the protocol's
            count = np.count_nonzero(kind)
            times[kind] = self._counts(count)
        return times

    def _of_identities(self):
        self.counts = self._counts(self.units)
        counts = np.append(self.counts, 1)
        return counts[self._first] * counts[self._second]

    def _counts(self, size):
        return np.bincount(self._rng.integers(0, size, size), minlength=size)

    def _enough(self, times):
        if self._folds is not None and np.count_nonzero(np.bincount(self._folds, times)) < 2:
            return False
        return both_kinds_drawn(self._same, times)


def identity_codes(same, people):
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
            "A genuine pair is of one person, an impostor pair of two. Received: pair "
            f"{index:,} of {first[index]!r} and {second[index]!r}, which `same` calls {kind} "
            f"({len(wrong):,} such pairs)."
        )
    return codes


def numbered(labels):
    """Labels ``(N,)`` as whole numbers from 0, in their order."""
    whole = labels.dtype.kind in "iu" and len(labels) > 0
    if whole and labels.min() >= 0 and labels.max() < 2 * len(labels):
        # Without sorting: a list may hold 47 million pairs.
        there = np.zeros(int(labels.max()) + 1, bool)
        there[labels] = True
        return (np.cumsum(there, dtype=np.int32) - 1)[labels]
    return np.unique(labels, return_inverse=True)[1]


def _mean_fold_accuracy(scores, same, times, parts):
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
    return np.mean(accuracies)
