"""The report of a list of pairs by the values of a covariate: IJB-C's covariate protocol."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.plots import plot_roc, plot_scores
from keras_facemargin.evaluate.splits import ValueResults, verify_by_value
from keras_facemargin.evaluate.uncertainty import LEVEL, Bootstrap
from keras_facemargin.evaluate.verification import Pairs, Verification
from keras_facemargin.report.draws import (
    Resampling,
    draw_pairs,
    draws_record,
    failures_to_enrol,
    notes_on_pairs,
)
from keras_facemargin.report.measures import (
    Measure,
    intervals_record,
    power,
    tar_measures,
    verification_measures,
)
from keras_facemargin.report.page import Report
from keras_facemargin.report.sections.groups import add_groups, value_rates
from keras_facemargin.report.sections.hardest import add_hardest
from keras_facemargin.report.task import Measured, ReportTask

# Values with a curve: those with the most genuine pairs.
DRAWN = 6

Scores = npt.NDArray[np.float64]
Draws = dict[str, Bootstrap]  # value -> its draws


def report_covariates(
    output: str | os.PathLike[str],
    pairs: Pairs,
    scores: Mapping[str, Scores],
    *,
    covariate: tuple[Sequence[str], npt.NDArray[Any]],
    title: str,
    by: str = "covariate",
    about: Iterable[str] = (),
    replicates: int = 1_000,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Measured[ValueResults, Draws]]:
    """Measures embedders by the values of a covariate and writes an HTML page and its JSON.

    The page answers two questions. How hard is each value? It gets its own ROC and thresholds, as
    IJB-C reports them. How does one threshold treat each value? The page shows FMR and FNMR of
    each value there, with their ratios to all pairs.

    Args:
        output, scores, title, about, replicates, seed, progress: as `report_verification`.
        pairs: `Pairs`.
        covariate: the values as texts, and ``(N,)`` the number of each pair's value, as
            `TemplatePairs.covariate` gives them.
        by: name of the covariate.

    Returns:
        A dict of embedder's name -> `Measured`; its `result` is a `ValueResults` and its `draws`
        are a dict of value -> `Bootstrap`, of the values with pairs of both kinds.

    Raises:
        ValueError, ImportError, OSError: as `report_verification` and `verify_by_value`.

    Example:
        >>> from keras_facemargin.evaluate import Pairs
        >>> people = np.array([0, 1, 2, 0, 1, 2, 0]), np.array([0, 1, 2, 1, 2, 0, 2])
        >>> pairs = Pairs(None, None, people[0] == people[1], people=people)
        >>> scores = np.array([0.9, 0.8, 0.3, 0.7, 0.2, 0.1, 0.4])
        >>> ages = ["old", "young"], np.array([0, 0, 1, 0, 1, 1, 1])
        >>> found = report_covariates("age.html", pairs, {"ours": scores}, covariate=ages,
        ...                           title="Two ages", by="age", replicates=20, progress=False)
        >>> found["ours"].result.results["old"].eer
        0.0
    """
    texts, numbers = list(map(str, covariate[0])), np.asarray(covariate[1])
    resampling = Resampling(replicates, seed, progress)
    task = _Covariates(resampling, pairs, scores, (texts, numbers), by)
    return task.write(output, scores, title=title, about=about)


Found = Measured[ValueResults, Draws]


class _Covariates(ReportTask[Scores, ValueResults, Draws]):
    def __init__(
        self,
        resampling: Resampling,
        pairs: Pairs,
        scores: Mapping[str, Scores],
        covariate: tuple[list[str], npt.NDArray[Any]],
        by: str,
    ):
        super().__init__(resampling)
        self.pairs, self.scores, self.covariate, self.by = pairs, scores, covariate, by

    def measure(self, name: str, given: Scores) -> Found:
        result = verify_by_value(given, self.pairs.same, self.covariate)
        draws = {
            value: draw_pairs(one, self._pairs_of(value), self.resampling)
            for value, one in result.results.items()
        }
        measures = (
            dataclasses.replace(each, name=f"{each.name}: {value}")
            for value, one in result.results.items()
            for each in verification_measures(one, draws[value])
            if each.value is not None and each.name != "AUC"
        )
        rates = value_rates(self.by, np.asarray(given), self.pairs, self.covariate, self.resampling)
        return Measured(result, draws, tuple(measures), (rates,))

    def _pairs_of(self, value: str) -> Pairs:
        """The pairs of one value, without images."""
        texts, numbers = self.covariate
        rows = numbers == texts.index(value)
        sides = self.pairs.people
        people = None if sides is None else tuple(side[rows] for side in sides)
        return Pairs(None, None, self.pairs.same[rows], people=people)

    def opening(self, first: Found) -> Iterator[str]:
        same, draws = self.pairs.same, next(iter(first.draws.values()))
        yield (
            f"{np.count_nonzero(same):,} genuine and {np.count_nonzero(~same):,} impostor "
            f"pairs, by {self.by}. Intervals in brackets: the middle {LEVEL:.0%} of "
            f"{draws.replicates:,} draws, with replacement, of the {draws.unit} of each value."
        )
        yield from notes_on_pairs(draws, failures_to_enrol(self.pairs))

    def caption(self, first: Found) -> str:
        return "Each value has its own thresholds."

    def add_measures(self, page: Report, models: Mapping[str, Found]) -> None:
        """Adds the measures of several embedders; `add_details` has a table for each embedder."""
        if len(models) > 1:
            super().add_measures(page, models)

    def heading(self, name: str, several: bool) -> str:
        return f"Difficulty of each value: {name}" if several else "Difficulty of each value"

    def add_details(self, page: Report, name: str, measured: Found) -> None:
        self._add_values(page, measured)
        (rates,) = measured.groups
        page.heading("One threshold for all values" + (f": {name}" if len(self.scores) > 1 else ""))
        add_groups(page, rates, "Pairs with two different values have rows of their own.")
        page.figure(
            plot_scores(self.scores[name], self.pairs.same, threshold=rates.threshold),
            "Scores of all pairs, as shares of each kind of pair. Dashed: that threshold.",
        )
        add_hardest(page, self.pairs, self.scores[name])

    def _add_values(self, page: Report, measured: Found) -> None:
        results, draws = measured.result.results, measured.draws
        supported = sorted(
            {e.target for one in results.values() for e in one.tar_at_far if e.supported},
            reverse=True,
        )
        page.table(
            (
                *(self.by, "Genuine pairs", "Impostor pairs", "EER"),
                *(f"TAR @ {power(far)}" for far in supported),
            ),
            [_cells(value, one, draws[value], supported) for value, one in results.items()],
            "Each value has its own thresholds; an application has only one. -: too few impostor "
            "pairs. A value without pairs of both kinds has no row.",
        )
        most = sorted(results, key=lambda value: -results[value].genuines)[:DRAWN]
        shown = [value for value in results if value in most]
        page.figure(
            plot_roc(
                {value: results[value].curve for value in shown},
                bands={value: draws[value] for value in shown},
            ),
            f"ROC of each {self.by} (at most {DRAWN}, those with the most genuine pairs). Shaded: "
            f"the middle {LEVEL:.0%} of the draws.",
        )

    def facts(self) -> dict[str, Any]:
        return {"by": self.by}

    def intervals(self, first: Found) -> dict[str, Any]:
        return draws_record(next(iter(first.draws.values())), self.resampling.seed)

    def record(self, name: str, measured: Found) -> dict[str, Any]:
        return {
            "values": {value: one.to_dict() for value, one in measured.result.results.items()},
            "intervals": intervals_record(measured.measures),
            "groups": {rates.name: rates.to_dict() for rates in measured.groups},
        }


def _cells(value: str, result: Verification, draws: Bootstrap, fars: Sequence[float]) -> list[str]:
    """The row of one value; fars: the columns of TAR."""
    tars = [
        "-" if each.value is None else str(each)
        for each in tar_measures(result.tar_at_far, draws.tar)
    ]
    equal = Measure("EER", result.eer, draws.eer)
    counts = f"{result.genuines:,}", f"{result.impostors:,}"
    return [value, *counts, str(equal), *tars[: len(fars)]]
