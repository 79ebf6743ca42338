"""Error rates by group of people or of images, all at one threshold.

A system has one threshold for all people, so groups are compared at one threshold. A group's FMR is
that of its impostor pairs (both images in the group), its FNMR that of its genuine pairs. Pairs of
images of two groups have their own row.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import identifiers
from keras_facemargin.bars import DECIDING
from keras_facemargin.evaluate.protocols.lists import bad_line, read_rows
from keras_facemargin.evaluate.uncertainty.resampling import (
    LEVEL,
    Draws,
    Interval,
    Sides,
    identity_codes,
    interval,
)
from keras_facemargin.evaluate.verification.curve import (
    allowed_false_accepts,
    checked_pairs,
    just_above,
)
from keras_facemargin.evaluate.verification.pairs import Pairs

if TYPE_CHECKING:  # it imports this room
    from keras_facemargin.evaluate.at_scale.hardest import HardestPairs

EVERYBODY, MIXED = "all pairs", "two groups"

# The most groups of `rates_by_two_groups`: 15 groups have 105 pairs of groups.
MOST_GROUPS = 15


@dataclasses.dataclass(frozen=True)
class GroupRate:
    """One error rate of one group.

    Attributes:
        errors, pairs: counts.
        rate: ``errors / pairs``, or ``None`` without pairs.
        interval: of the rate; see `rates_by_group`.
        ratio: to the rate of all pairs, or ``None`` if one of the two is 0 or does not exist.
        ratio_interval: of the ratio, or ``None`` likewise.
    """

    errors: int
    pairs: int
    rate: float | None = None
    interval: Interval | None = None
    ratio: float | None = None
    ratio_interval: Interval | None = None

    def __str__(self) -> str:
        if self.rate is None or self.interval is None:
            return "no pairs"
        low, high = _share(self.interval.low), _share(self.interval.high)
        return f"{_share(self.rate)} ({low} to {high}), {self.errors:,} of {self.pairs:,}"


def _share(rate: float) -> str:
    """A rate with at least two digits: one error in a million pairs is not 0.00%."""
    return f"{rate:.2%}" if rate == 0 or rate >= 1e-3 else f"{rate:.1e}"


@dataclasses.dataclass(frozen=True)
class Group:
    """The error rates of one group at the threshold.

    Attributes:
        name: the group; `EVERYBODY` for all pairs, `MIXED` for pairs of images of two groups.
        fmr: false match rate (FAR): impostor pairs accepted.
        fnmr: false non-match rate: genuine pairs rejected.
    """

    name: str
    fmr: GroupRate
    fnmr: GroupRate


@dataclasses.dataclass(frozen=True)
class Spread:
    """How much the FMR differs between groups at one threshold.

    Attributes:
        lowest, highest: the groups with the lowest and the highest FMR.
        ratio: highest FMR / lowest FMR; ``None`` if the lowest is 0.
        gini: Gini coefficient of the G FMRs, with the correction ``G / (G - 1)``: 0 if all are
            equal, 1 if one group has all errors.
        groups: G, the number of groups with enough pairs.
    """

    lowest: str
    highest: str
    ratio: float | None
    gini: float
    groups: int

    def __str__(self) -> str:
        times = "-" if self.ratio is None else f"{self.ratio:.1f}"
        return (
            f"max/min {times} ({self.highest} / {self.lowest}), Gini {self.gini:.2f}, "
            f"{self.groups} groups"
        )


def fmr_spread(rates: Sequence[Group]) -> Spread | None:
    """The spread of the FMR between groups, as one ratio and one coefficient.

    ``gini = sum over i, j of |FMR_i - FMR_j| / (2 G (G - 1) mean FMR)``. The ratio and the
    coefficient are those of NIST IR 8429 and of Howard et al., "Evaluating proposed fairness models
    for face recognition algorithms" (2022). Both rise by chance where groups have few errors.

    Args:
        rates: the result of `rates_by_group`.

    Returns:
        A `Spread` of the groups whose pairs would have at least 30 errors at the FMR of all pairs;
        ``None`` if there are fewer than two.

    Example:
        >>> groups = [["a"] * 400 + ["b"] * 400 + ["a"]] * 2
        >>> scores = [1.0] * 30 + [0.0] * 370 + [1.0] * 60 + [0.0] * 340 + [1.0]
        >>> rates = rates_by_group(scores, [0] * 800 + [1], groups, threshold=0.5, replicates=5)
        >>> print(fmr_spread(rates))
        max/min 2.0 (b / a), Gini 0.33, 2 groups
    """
    overall = next((group.fmr.rate for group in rates if group.name == EVERYBODY), None) or 0.0
    known = [
        (group.fmr.rate, group.name)
        for group in rates
        if group.name not in (EVERYBODY, MIXED)
        and group.fmr.rate is not None
        and group.fmr.pairs * overall >= DECIDING
    ]
    if len(known) < 2:
        return None
    fmr = np.array([rate for rate, _ in known])
    (low, lowest), (high, highest) = min(known), max(known)
    differences = np.abs(fmr[:, None] - fmr).sum()
    total = 2 * (len(fmr) - 1) * fmr.sum()
    return Spread(
        lowest,
        highest,
        high / low if low else None,
        float(differences / total) if total else 0.0,
        len(fmr),
    )


def rates_by_group(
    scores: npt.ArrayLike,
    same: npt.ArrayLike,
    groups: Sides,
    *,
    threshold: float,
    people: Sides | None = None,
    replicates: int = 1_000,
    seed: int = 0,
) -> tuple[Group, ...]:
    """FMR and FNMR of every group at one threshold, with intervals over resampled identities.

    A group's interval leaves out the draws that have no person of it. If a group has no error,
    resampling has none either; the upper end is then the exact binomial one, ``1 - (alpha / 2) **
    (1 / pairs)``. It takes the pairs as independent, so it is too low if they share people.

    Args:
        scores: similarities, ``(N,)``.
        same: ``(N,)``, True for genuine pairs.
        groups: the groups of the images on the two sides, ``(N,)`` each: texts.
        threshold: pairs with at least this score are accepted.
        people, replicates, seed: as `bootstrap`.

    Returns:
        A `Group` for all pairs, one for each group in alphabetical order and, if there are such
        pairs, one for pairs of two groups.

    Raises:
        ValueError: as `bootstrap`, or if `groups` have another shape.

    Example:
        >>> groups = [["a", "a", "b", "b", "b"], ["a", "a", "b", "b", "b"]]
        >>> rates = rates_by_group(
        ...     [0.9, 0.2, 0.8, 0.4, 0.7], [1, 0, 1, 0, 0], groups, threshold=0.6
        ... )
        >>> [(group.name, group.fmr.rate) for group in rates]
        [('all pairs', 0.3333333333333333), ('a', 0.0), ('b', 0.5)]
    """
    names, codes = _codes(groups, len(np.asarray(same)))
    mixed = codes < 0
    titles = [*names, *([MIXED] if mixed.any() else [])]
    return rates_by_value(
        scores,
        same,
        (titles, np.where(mixed, len(names), codes)),
        threshold=threshold,
        people=people,
        replicates=replicates,
        seed=seed,
    )


def _codes(groups: Sides, count: int) -> tuple[list[str], npt.NDArray[Any]]:
    """The names of the groups, and ``(N,)`` the number of each pair's group; -1 for two groups."""
    sides = identifiers(**{f"groups[{side}]": groups[side] for side in (0, 1)})
    first, second = (side.astype(str) for side in sides)
    if not first.shape == second.shape == (count,):
        raise ValueError(
            "`groups` must hold two groups per pair, two sequences of shape (N,). Received: "
            f"shapes {first.shape} and {second.shape} for {count:,} pairs."
        )
    names, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    codes = codes.reshape(2, -1)
    return names.tolist(), np.where(codes[0] == codes[1], codes[0], -1)


def rates_by_value(
    scores: npt.ArrayLike,
    same: npt.ArrayLike,
    values: tuple[Sequence[str] | npt.NDArray[Any], npt.ArrayLike],
    *,
    threshold: float,
    people: Sides | None = None,
    replicates: int = 1_000,
    seed: int = 0,
) -> tuple[Group, ...]:
    """`rates_by_group` for groups of pairs instead of groups of images.

    Pairs of the same two people in one group that are all right or all wrong are drawn together, so
    the cost of a list of 47 million pairs depends on the number of people.

    Args:
        scores, same, threshold, people, replicates, seed: as `rates_by_group`.
        values: (texts, numbers): the groups, and ``(N,)`` the group of each pair as an index into
            them; `TemplatePairs.covariate` gives both.

    Returns:
        A `Group` for all pairs and one for each group, in their order.

    Raises:
        ValueError: as `bootstrap`.

    Example:
        >>> scores, same = [0.9, 0.2, 0.8, 0.4, 0.7], [1, 0, 1, 0, 0]
        >>> rates = rates_by_value(scores, same, (["f", "f / m"], [0, 0, 0, 1, 1]), threshold=0.6)
        >>> [(group.name, group.fmr.rate) for group in rates]
        [('all pairs', 0.3333333333333333), ('f', 0.0), ('f / m', 0.5)]
    """
    scores, same = checked_pairs(scores, same)
    names = list(values[0])
    cell = (2 * np.asarray(values[1], np.int32) + same) * 2 + ((scores >= threshold) != same)
    if people is None:
        number, draws = np.ones(1, int), Draws(same, seed=seed)
    else:
        cell, number, draws = _drawn_together(same, people, cell, 4 * len(names), seed)

    def count(times: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(groups and all, impostor or genuine, right or wrong)"""
        weights = np.broadcast_to(times * number, cell.shape)
        table = np.bincount(cell, weights, 4 * len(names)).astype(int).reshape(-1, 2, 2)
        return np.concatenate([table.sum(axis=0, keepdims=True), table])

    counts = count(np.ones(1, int))
    drawn = np.array([count(draws.times()) for _ in range(replicates)])
    rates = [
        [_rate(counts[:, kind], drawn[:, :, kind], row) for kind in (0, 1)]
        for row in range(len(names) + 1)
    ]
    return tuple(Group(name, *pair) for name, pair in zip([EVERYBODY, *names], rates, strict=True))


def _drawn_together(
    same: npt.NDArray[np.bool_], people: Sides, cell: npt.NDArray[Any], cells: int, seed: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], Draws]:
    """Pairs of the same two people in one cell: the cell, their number and their `Draws`."""
    first, second = identity_codes(same, people)
    units = int(max(first.max(), second.max())) + 1
    keys, number = np.unique(
        (first.astype(np.int64) * units + second) * cells + cell, return_counts=True
    )
    sides, cell = np.divmod(keys, cells)
    first, second = np.divmod(sides, units)
    return cell, number, Draws(first == second, (first, second), size=units, seed=seed)


def _rate(counts: npt.NDArray[Any], drawn: npt.NDArray[Any], row: int) -> GroupRate:
    """The `GroupRate` of one row: counts ``(groups, 2)``, drawn ``(B, groups, 2)``."""
    errors, pairs = int(counts[row, 1]), int(counts[row].sum())
    if not pairs:
        return GroupRate(0, 0)
    rate, overall = errors / pairs, float(counts[0, 1] / counts[0].sum())
    if not errors:
        return GroupRate(errors, pairs, rate, Interval(0.0, 1 - ((1 - LEVEL) / 2) ** (1 / pairs)))
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw may leave a group out
        shares = drawn[..., 1] / drawn.sum(axis=-1)
        ratios = shares[:, row] / shares[:, 0]
    return GroupRate(
        errors,
        pairs,
        rate,
        interval(shares[np.isfinite(shares[:, row]), row]),
        rate / overall,
        interval(ratios[np.isfinite(ratios)]),
    )


def rates_by_two_groups(
    pairs: "HardestPairs",
    groups: npt.ArrayLike,
    *,
    threshold: float,
    replicates: int = 1_000,
    seed: int = 0,
) -> tuple[Group, ...]:
    """`rates_by_group` over every pair of a set of any size, and for every two groups.

    The errors are among the hardest pairs, and the numbers of pairs follow from the numbers of
    images of each person in each group, so no pair is scored again.

    Args:
        pairs: a `HardestPairs` with every impostor pair that scores at least `threshold`.
        groups: the group of each image, ``(N,)`` texts, at most `MOST_GROUPS` of them.
        threshold: pairs with at least this score are accepted.
        replicates, seed: as `bootstrap`.

    Returns:
        A `Group` for all pairs, one for each group in alphabetical order, and one for each two
        groups that share pairs, named ``"a / b"``.

    Raises:
        ValueError: as `bootstrap`; if `groups` have another shape or are too many; or if
            `threshold` is below the impostor pairs of `pairs`.

    Example:
        >>> from keras_facemargin.evaluate.at_scale import hardest_pairs
        >>> rows = np.random.default_rng(0).normal(size=(6, 4))
        >>> pairs = hardest_pairs(rows, [0, 0, 1, 1, 2, 2], progress=False)
        >>> rates = rates_by_two_groups(
        ...     pairs, ["a", "a", "a", "a", "b", "b"], threshold=0.0, replicates=20
        ... )
        >>> [(group.name, group.fmr.errors, group.fmr.pairs) for group in rates]
        [('all pairs', 6, 12), ('a', 0, 4), ('b', 0, 0), ('a / b', 6, 8)]
    """
    names, group = _of_images(groups, pairs)
    if len(names) > MOST_GROUPS:
        raise ValueError(
            f"At most {MOST_GROUPS} groups can be compared two by two. Received: {len(names):,} "
            f"({names[0]}, {names[1]}, ...). Merge groups."
        )
    if threshold < pairs.floor:
        raise ValueError(
            f"`threshold` must be at least {pairs.floor}, the lowest impostor score in `pairs`. "
            f"Received: {threshold}. Keep more pairs (`impostors` of `hardest_pairs`)."
        )
    first, second = pairs.sides
    sides = np.sort([group[pairs.first], group[pairs.second]], axis=0)
    wrong = np.flatnonzero((pairs.scores >= threshold) != pairs.same)
    cell = np.ravel_multi_index((pairs.same[wrong].astype(int), *sides[:, wrong]), _cells(names))
    images = np.zeros((pairs.units, len(names)))
    np.add.at(images, (pairs.people, group), 1)

    def count(counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(impostor or genuine, group, group, right or wrong), for unordered pairs of groups."""
        # A genuine pair shows one person, an impostor pair two.
        times = counts[first[wrong]] * np.where(pairs.same[wrong], 1, counts[second[wrong]])
        errors = np.bincount(cell, times, 2 * len(names) ** 2).reshape(_cells(names))
        drawn = counts[:, None] * images
        everyone, own = drawn.sum(axis=0), drawn.T @ drawn
        both = np.stack([np.outer(everyone, everyone) - own, images.T @ drawn])
        within = np.arange(len(names))
        both[1, within, within] -= everyone
        both[:, within, within] /= 2
        return np.stack([both - errors, errors], axis=-1)

    draws = Draws(pairs.same, pairs.sides, size=pairs.units, seed=seed)
    once = count(np.ones(pairs.units, int))
    low, high = np.triu_indices(len(names), k=1)
    mixed = once[:, low, high].sum(axis=(0, 2)) > 0
    low, high = (np.append(np.arange(len(names)), side[mixed]) for side in (low, high))

    def rows(table: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(all, groups and two groups, impostor or genuine, right or wrong)"""
        chosen = table[:, low, high].swapaxes(0, 1)
        return np.concatenate([chosen.sum(axis=0, keepdims=True), chosen])

    tables = []
    for _ in range(replicates):
        draws.times()
        tables.append(rows(count(draws.counts)))
    counts, drawn = rows(once), np.array(tables)
    titles = [EVERYBODY, *names.tolist()]
    titles += [
        f"{one} / {two}" for one, two in zip(names[low], names[high], strict=True) if one != two
    ]
    return tuple(
        Group(name, *(_rate(counts[:, kind], drawn[:, :, kind], row) for kind in (0, 1)))
        for row, name in enumerate(titles)
    )


def _of_images(
    groups: npt.ArrayLike, pairs: "HardestPairs"
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The names of the groups, and ``(N,)`` the number of each image's group."""
    (groups,) = identifiers(groups=groups)
    names, group = np.unique(groups.astype(str), return_inverse=True)
    if group.shape != pairs.people.shape:
        raise ValueError(
            "`groups` must hold one group per image, a sequence of shape (N,). Received: shape "
            f"{group.shape} for {len(pairs.people):,} images."
        )
    return names, group


def _cells(names: npt.NDArray[Any]) -> tuple[int, int, int]:
    return 2, len(names), len(names)


@dataclasses.dataclass(frozen=True)
class EveryGroup:
    """One threshold at which no group exceeds a false accept rate, and its cost.

    Attributes:
        far: the rate.
        threshold: the smallest that holds it in every group with enough pairs and over all pairs.
        group: the group that decides the threshold; `EVERYBODY` if all pairs together do.
        tar: share of the genuine pairs accepted there.
        single: the threshold that holds the rate over all pairs only.
        single_tar: share of the genuine pairs accepted at `single`.
        by_group: name -> the threshold of a group with enough pairs. A set that does not keep all
            pairs leaves out groups whose threshold is below the pairs that it keeps.
        left_out: groups with too few impostor pairs, which the threshold may not hold.
    """

    far: float
    threshold: float
    group: str
    tar: float
    single: float
    single_tar: float
    by_group: dict[str, float]
    left_out: tuple[str, ...]

    @property
    def cost(self) -> float:
        """The share of the genuine pairs that the higher threshold rejects in addition."""
        return self.single_tar - self.tar


def threshold_for_every_group(
    scores: npt.ArrayLike, same: npt.ArrayLike, groups: Sides, *, far: float
) -> EveryGroup:
    """The smallest threshold at which the false accept rate is at most `far` in every group.

    ``t = max over g of t_g``, with ``t_g = min {t: accepted pairs of g at t <= far * n_g}`` for the
    n_g impostor pairs with both images in g, and for all pairs together. A group counts only if at
    least 30 of its pairs may be accepted, ``far * n_g >= 30``: with fewer its threshold depends on
    chance.

    Args:
        scores: similarities, ``(N,)``.
        same: ``(N,)``, True for genuine pairs.
        groups: the groups of the images on the two sides, ``(N,)`` each: texts. Pairs of two groups
            count for all pairs only.
        far: false accept rate, in ``[1 / impostor pairs, 1)``.

    Returns:
        An `EveryGroup`. If no group has enough pairs, its threshold is that of all pairs.

    Raises:
        ValueError: as `roc`, or as `threshold_at_far` for all pairs; or if `groups` have another
            shape.

    Example:
        >>> groups = [["a"] * 400 + ["b"] * 400 + ["a"] * 2] * 2
        >>> scores = [0.5] * 30 + [0.1] * 370 + [0.6] * 60 + [0.1] * 340 + [0.55, 0.9]
        >>> found = threshold_for_every_group(scores, [0] * 800 + [1] * 2, groups, far=0.12)
        >>> found.group, round(found.single, 2), round(found.threshold, 2), found.cost
        ('b', 0.1, 0.6, 0.5)
    """
    scores, same = checked_pairs(scores, same)
    names, codes = _codes(groups, len(same))
    return _hold_in_every_group(
        scores,
        same,
        (names, codes),
        np.bincount(codes[~same & (codes >= 0)], minlength=len(names)),
        int(np.count_nonzero(~same)),
        far,
    )


def threshold_for_every_group_of_set(
    pairs: "HardestPairs", groups: npt.ArrayLike, *, far: float
) -> EveryGroup:
    """`threshold_for_every_group` over every pair of a set of any size.

    Args:
        pairs: a `HardestPairs` that keeps more than ``far`` times all impostor pairs.
        groups: the group of each image, ``(N,)`` texts.
        far: as `threshold_for_every_group`.

    Returns:
        An `EveryGroup`, equal to that of the list of all pairs.

    Raises:
        ValueError: as `threshold_for_every_group`; or if `pairs` keeps too few pairs.

    Example:
        >>> from keras_facemargin.evaluate.at_scale import hardest_pairs
        >>> rows = np.random.default_rng(0).normal(size=(60, 4))
        >>> pairs = hardest_pairs(rows, np.arange(60) // 2, progress=False)
        >>> found = threshold_for_every_group_of_set(pairs, ["a"] * 30 + ["b"] * 30, far=0.1)
        >>> found.threshold >= found.single, found.left_out
        (True, ())
    """
    names, group = _of_images(groups, pairs)
    sides = group[pairs.first], group[pairs.second]
    images = np.zeros((pairs.units, len(names)), np.int64)
    np.add.at(images, (pairs.people, group), 1)
    return _hold_in_every_group(
        pairs.scores,
        pairs.same,
        (names, np.where(sides[0] == sides[1], sides[0], -1)),
        (images.sum(axis=0) ** 2 - (images**2).sum(axis=0)) // 2,
        pairs.impostors(np.ones(pairs.units, int)),
        far,
    )


def _hold_in_every_group(
    scores: npt.NDArray[Any],
    same: npt.NDArray[Any],
    groups: tuple[Sequence[str] | npt.NDArray[Any], npt.NDArray[Any]],
    counts: npt.NDArray[Any],
    impostors: int,
    far: float,
) -> EveryGroup:
    """The `EveryGroup` of a list of pairs, or of the highest pairs of a set.

    Args:
        scores, same: of the pairs, ``(N,)``.
        groups: names, and ``(N,)`` the number of each pair's group, -1 for two groups.
        counts: number of all impostor pairs in each group.
        impostors: number of all impostor pairs.
        far: false accept rate.
    """
    allowed = allowed_false_accepts(far, impostors)
    if not allowed:
        raise ValueError(
            f"`far` must be at least 1 / (number of impostor pairs): {impostors:,} pairs support "
            f"rates down to {1 / impostors:.2g}. Received: far={far:g}."
        )
    single = _threshold(scores[~same], allowed)
    if single is None:
        raise ValueError(
            f"`pairs` must keep more than far times all impostor pairs, {allowed:,}. Received: "
            f"{np.count_nonzero(~same):,}. Keep more pairs (`impostors` of `hardest_pairs`)."
        )
    by_group, left_out = {}, []
    for number, name in enumerate(map(str, groups[0])):
        if counts[number] * far < DECIDING:
            left_out.append(name)
            continue
        of_group = scores[~same & (groups[1] == number)]
        own = _threshold(of_group, allowed_false_accepts(far, int(counts[number])))
        if own is not None:
            by_group[name] = own
    group = max(by_group, key=by_group.__getitem__, default=EVERYBODY)
    threshold = by_group.get(group, single)
    if threshold <= single:
        group, threshold = EVERYBODY, single
    tar, single_tar = (float(np.mean(scores[same] >= at)) for at in (threshold, single))
    return EveryGroup(far, threshold, group, tar, single, single_tar, by_group, tuple(left_out))


def _threshold(impostors: npt.NDArray[np.float64], allowed: int) -> float | None:
    """The smallest threshold that accepts at most so many; ``None`` if it is below all scores."""
    if len(impostors) <= allowed:
        return None
    position = len(impostors) - 1 - allowed
    return just_above(np.partition(impostors, position)[position])


def read_groups(
    file: str | os.PathLike[str], pairs: Pairs
) -> dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Reads the group of each image or person of a list of pairs.

    The file is a CSV with a header. Its first column is `image`, the end of an image's path
    (``NAME/NAME_0001.jpg``), or `person`, the name in the list. Every other column is a way to form
    groups (``sex``, ``age``, ``pose``). An empty cell is the group "unknown".

    Args:
        file: the CSV file, UTF-8.
        pairs: a `Pairs`; with `people` if the first column is `person`.

    Returns:
        A dict from the name of each column to the groups of the two sides, ``(N,)`` each.

    Raises:
        ValueError: if the file breaks that form, has two rows for an image or person, or no row
            for one of the list.
        OSError: if it cannot be read.
    """
    images = None
    if pairs.first is not None and pairs.second is not None:
        images = (pairs.first, pairs.second)
    found = _read_sides(Path(file), images, pairs.people)
    return {name: (first, second) for name, (first, second) in found.items()}


def read_groups_of_images(
    file: str | os.PathLike[str],
    images: Sequence[Any] | None,
    people: Sequence[Any] | npt.NDArray[Any],
) -> dict[str, npt.NDArray[Any]]:
    """Reads the group of each image of a set from a file as for `read_groups`.

    Args:
        file: the CSV file, UTF-8.
        images: paths, ``(N,)``, or ``None`` if they are unknown.
        people: the person of each image, ``(N,)``.

    Returns:
        A dict from the name of each column to the groups of the images, ``(N,)``.

    Raises:
        ValueError, OSError: as `read_groups`.
    """
    found = _read_sides(Path(file), None if images is None else (images,), (people,))
    return {name: side for name, (side,) in found.items()}


def _read_sides(
    file: Path, images: Sequence[Sequence[Any]] | None, people: Sequence[Any] | None
) -> dict[str, tuple[npt.NDArray[Any], ...]]:
    """Name of a column -> the groups of each side."""
    kind, columns, rows = _read_table(file)
    if kind == "person" and people is None:
        raise ValueError(
            f"{file}: groups by person need a list that names the people. Received: a list without "
            "names. Use the column `image`."
        )
    if kind == "image" and images is None:
        raise ValueError(
            f"{file}: groups by image need a list of images. Received: a list without images. Use "
            "the column `person`."
        )
    sides = (people if kind == "person" else images) or ()
    find: Callable[..., list[str] | None] = dict.get if kind == "person" else _find_by_ending
    found = {key: find(rows, str(key)) for key in {key for side in sides for key in side}}

    def cells(key: Any) -> list[str]:
        return found[key] or []

    lost = [str(key) for key, row in found.items() if row is None]
    if lost:
        raise ValueError(
            f"{file}: must have a row for every {kind} of the list. Received: none for "
            f"{min(lost)} ({len(lost):,} of {len(found):,} have none)."
        )
    return {
        name: tuple(np.array([cells(key)[index] or "unknown" for key in side]) for side in sides)
        for index, name in enumerate(columns)
    }


def _read_table(file: Path) -> tuple[str, list[str], dict[str, list[str]]]:
    """(kind of key, names of the other columns, dict of key -> their cells)"""
    (first, header), *lines = read_rows(file, "a CSV of groups") or [(1, [""])]
    if len(header) < 2 or header[0] not in ("image", "person") or len({*header}) < len(header):
        rule = (
            "must be a CSV whose first line is `image` or `person` and then the names of one or "
            "more columns of groups, all different."
        )
        raise bad_line(file, first, rule, ",".join(header))
    rows: dict[str, list[str]] = {}
    for number, line in lines:
        if len(line) != len(header) or line[0] in rows:
            rule = "a second row for one" if line[0] in rows else f"{len(line)} cells"
            raise ValueError(
                f"{file}, line {number}: must hold one cell for each of {', '.join(header)}, and "
                f"each {header[0]} once. Received: {rule}: {line}."
            )
        rows[line[0]] = line[1:]
    return header[0], header[1:], rows


def _find_by_ending(rows: dict[str, list[str]], path: str) -> list[str] | None:
    """The row whose key is the path or its longest ending."""
    parts = PurePath(path).parts
    endings = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((rows[ending] for ending in (path, *endings) if ending in rows), None)
