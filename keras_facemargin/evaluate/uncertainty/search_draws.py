"""Confidence intervals of searches: `bootstrap` for 1:N, over the people of the probes.

The gallery is fixed. The people of the probes are drawn with replacement; a person who is drawn c
times counts c times in each search of one of their probes. Each draw computes every rate again,
with its own threshold.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import identifiers
from keras_facemargin.evaluate.identification.distractors import AmongDistractors
from keras_facemargin.evaluate.identification.identification import (
    FPIRS,
    LAST_RANK,
    Identification,
)
from keras_facemargin.evaluate.uncertainty.resampling import (
    BAND_POINTS,
    Drawn,
    band_rates,
    both_kinds_drawn,
    curve_of,
    deviation,
    numbered,
    tar_where_known,
)
from keras_facemargin.progress import progress_bar


@dataclasses.dataclass(frozen=True, eq=False)
class SearchDraws(Drawn):
    """The result of `bootstrap_searches`. Replicate b of every measure comes from one draw.

    Attributes:
        units: number of people.
        cmc: float64 ``(B, R)``, the rates of rank 1 to R.
        tpir: float64 ``(B, F)``, the largest TPIR within each of `fpirs`; F is 0 if no probe is
            non-mated.
        fpirs: the F target false positive identification rates.
        band_fars: float64 ``(M,)``, FPIRs from ``1 / non_mated`` to 1.
        band: float64 ``(B, M)``, the largest TPIR within each of them, NaN at 1.
        tpir_deviation: float64 ``(B, F)``, the sample standard deviation of the TPIRs over the
            searches; NaN for a single search.
        unit: "people", who are drawn.
    """

    units: int
    cmc: npt.NDArray[np.float64]
    tpir: npt.NDArray[np.float64]
    fpirs: tuple[float, ...]
    band_fars: npt.NDArray[np.float64]
    band: npt.NDArray[np.float64]
    tpir_deviation: npt.NDArray[np.float64]
    unit: str = "people"


@dataclasses.dataclass(frozen=True, eq=False)
class DistractorDraws(Drawn):
    """The result of `bootstrap_distractors`. Replicate b of every measure comes from one draw.

    Attributes:
        units: number of people.
        cmc: float64 ``(B, R)``, the rates of rank 1 to R.
        tar: float64 ``(B, F)``, the largest TAR within each of `fars`; NaN if it depends on false
            accepts that are not in memory.
        fars: the F target false accept rates.
        band_fars: float64 ``(M,)``, from ``1 / impostors`` to 1.
        band: float64 ``(B, M)``, as `tar`.
        unit: "people", who are drawn.
    """

    units: int
    cmc: npt.NDArray[np.float64]
    tar: npt.NDArray[np.float64]
    fars: tuple[float, ...]
    band_fars: npt.NDArray[np.float64]
    band: npt.NDArray[np.float64]
    unit: str = "people"


def bootstrap_searches(
    results: Mapping[Any, Identification],
    subjects: npt.ArrayLike,
    *,
    fpirs: Sequence[float] = FPIRS,
    replicates: int = 1_000,
    seed: int = 0,
    progress: bool = True,
) -> SearchDraws:
    """Computes CMC and TPIR at FPIR, as means over the searches, on resampled people.

    If a draw leaves a search without mated probes, that replicate's means leave the search out; the
    mean of TPIR also if it leaves no non-mated probe.

    Args:
        results: name -> `Identification`, as in a `SplitResults`.
        subjects: ``(T,)``, the people of the rows in `mated` and `non_mated` of the results.
        fpirs: targets, each in (0, 1).
        replicates, seed, progress: as `bootstrap`.

    Returns:
        A `SearchDraws`.

    Raises:
        ValueError: if no probe is mated, or a rate is not in (0, 1).

    Example:
        >>> from keras_facemargin.evaluate import identify, interval
        >>> gallery, probes = [[1.0, 0.0], [0.0, 1.0]], [[0.9, 0.1], [0.4, 0.6], [0.7, 0.7]]
        >>> names = np.array(["ann", "ann", "eve"])
        >>> found = identify(
        ...     gallery, probes, gallery_labels=["ann", "bob"], probe_labels=names, progress=False
        ... )
        >>> draws = bootstrap_searches({"all": found}, names, replicates=20, progress=False)
        >>> draws.units, interval(draws.cmc[:, 0]).high
        (2, 0.5)
    """
    found_in = list(results.values())
    rows = np.concatenate([np.concatenate([each.mated, each.non_mated]) for each in found_in])
    (subjects,) = identifiers(subjects=subjects)
    codes = np.full(len(subjects), -1)
    codes[rows] = numbered(subjects[rows])
    units = int(codes.max()) + 1
    if not any(len(each.ranks) for each in found_in):
        raise ValueError("A search needs probes of people in the gallery. Received: none.")
    searches = [_Search(each, codes) for each in found_in]
    counts = [len(each.best_scores) for each in found_in if len(each.ranks) * len(each.best_scores)]
    fpirs = tuple(fpirs) if counts else ()
    band_fars = band_rates(min(counts, default=1))
    targets = (*fpirs, *band_fars[:-1]) if counts else ()
    cmc = np.empty((replicates, LAST_RANK))
    tpir, spread = (np.empty((replicates, len(targets))) for _ in range(2))
    rng = np.random.default_rng(seed)
    with progress_bar("draws", progress) as bar:
        task = bar.add_task("Resampling", total=replicates)
        for b in range(replicates):
            ranked: list[Any] = []
            found: list[Any] = []
            while not ranked or (targets and not found):
                times = np.bincount(rng.integers(0, units, units), minlength=units)
                ranked = [rates for each in searches if (rates := each.cmc(times)) is not None]
                if targets:
                    found = [tp for each in searches if (tp := each.tpir(times, targets))]
            cmc[b] = np.mean(ranked, axis=0)
            if targets:
                tpir[b], spread[b] = np.mean(found, axis=0), deviation(found)
            bar.advance(task)
    band = np.full((replicates, BAND_POINTS), np.nan)
    band[:, : len(targets) - len(fpirs)] = tpir[:, len(fpirs) :]
    wanted = slice(len(fpirs))
    return SearchDraws(units, cmc, tpir[:, wanted], fpirs, band_fars, band, spread[:, wanted])


class _Search:
    """An `Identification` on drawn people."""

    def __init__(self, found: Identification, codes: npt.NDArray[Any]) -> None:
        self.people = codes[found.mated]
        self.ranks = np.minimum(found.ranks, LAST_RANK + 1)
        scores, self.same = found.scored()
        self.order = np.argsort(scores)[::-1]
        self.scores, self.same = scores[self.order], self.same[self.order]
        self.everyone = np.concatenate([self.people, codes[found.non_mated]])[self.order]

    def cmc(self, times: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        times = times[self.people]
        if not times.any():
            return None
        of_rank = np.bincount(self.ranks, times, LAST_RANK + 2)[1 : LAST_RANK + 1]
        rates: npt.NDArray[Any] = of_rank.cumsum() / times.sum()
        return rates

    def tpir(self, times: npt.NDArray[Any], targets: Sequence[float]) -> list[float] | None:
        times = times[self.everyone]
        if not both_kinds_drawn(self.same, times):
            return None
        curve = curve_of(self.scores, self.same, times)
        return [curve.largest_tar(fpir) for fpir in targets]


def bootstrap_distractors(
    found: AmongDistractors, *, replicates: int = 1_000, seed: int = 0, progress: bool = True
) -> DistractorDraws:
    """Computes CMC and TAR at FAR among distractors on resampled people.

    Args:
        found: an `AmongDistractors`.
        replicates, seed, progress: as `bootstrap`.

    Returns:
        A `DistractorDraws`.

    Example:
        >>> from keras_facemargin.evaluate import interval
        >>> from keras_facemargin.evaluate.identification import search_among_distractors
        >>> probes = [[1.0, 0.0], [0.9, 0.1], [0.2, 0.8], [0.3, 0.8]]
        >>> found = search_among_distractors(
        ...     probes, list("aabb"), [[0.0, 1.0], [0.5, 0.5]], fars=[0.3], progress=False
        ... )
        >>> draws = bootstrap_distractors(found, replicates=50, progress=False)
        >>> draws.units, interval(draws.cmc[:, 0]).high
        (2, 1.0)
    """
    fars = tuple(entry.target for entry in found.tar_at_far)
    people = found.numbers
    of_pair = people[found.first]
    ranks, last = found.ranks, found.best.shape[1]
    order = np.argsort(np.append(found.genuine, found.largest))[::-1]
    scores = np.append(found.genuine, found.largest)[order]
    same = (np.arange(len(order)) < len(found.genuine))[order]
    everyone = np.append(of_pair, people[found.largest_probes])[order]
    impostors = np.bincount(people) * found.distractors  # of each person
    band_fars = band_rates(int(impostors.sum()))
    cmc = np.empty((replicates, last))
    tar, band = np.full((replicates, len(fars)), np.nan), np.ones((replicates, BAND_POINTS))
    rng = np.random.default_rng(seed)
    with progress_bar("draws", progress) as bar:
        task = bar.add_task("Resampling", total=replicates)
        for b in range(replicates):
            times = np.zeros(found.people, int)
            while not times[of_pair].any():
                drawn = rng.integers(0, found.people, found.people)
                times = np.bincount(drawn, minlength=found.people)
            weights = np.tile(times[of_pair], 2)
            of_rank = np.bincount(ranks, weights, last + 2)[1 : last + 1]
            cmc[b] = of_rank.cumsum() / weights.sum()
            curve = curve_of(scores, same, times[everyone])
            held, curve = curve.impostors, curve.with_all(int(times @ impostors))
            tar[b], band[b, :-1] = (tar_where_known(curve, held, t) for t in (fars, band_fars[:-1]))
            bar.advance(task)
    return DistractorDraws(found.people, cmc, tar, fars, band_fars, band)
