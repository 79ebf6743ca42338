"""The report of a 1:1 protocol in splits, each with its own thresholds: IJB-A."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.plots import plot_scores
from keras_facemargin.evaluate.splits import SplitResults, verify_by_fold
from keras_facemargin.evaluate.uncertainty import Bootstrap, bootstrap_splits
from keras_facemargin.evaluate.verification import Pairs
from keras_facemargin.report.draws import Resampling, failures_to_enrol, notes_on_pairs
from keras_facemargin.report.measures import intervals_record, split_measures
from keras_facemargin.report.page import Report
from keras_facemargin.report.sections.curves import add_curves
from keras_facemargin.report.sections.groups import add_groups, group_rates
from keras_facemargin.report.sections.hardest import add_hardest
from keras_facemargin.report.sections.thresholds import add_split_thresholds
from keras_facemargin.report.task import Measured, ReportTask

Scores = npt.NDArray[np.float64]


def report_splits(
    output: str | os.PathLike[str],
    pairs: Pairs,
    scores: Mapping[str, Scores],
    *,
    title: str,
    about: Iterable[str] = (),
    groups: Mapping[str, tuple[Any, Any]] | None = None,
    replicates: int = 1_000,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Measured[SplitResults, Bootstrap]]:
    """Measures embedders on the splits of a list of pairs and writes an HTML page and its JSON.

    Every measure is the mean over the splits ± their standard deviation, as the protocol reports
    it. Its interval resamples people, the same ones for all splits. Curves are means, too. The
    JSON has the result of each split.

    Args:
        output, scores, title, about, groups, replicates, seed, progress: as `report_verification`.
        pairs: `Pairs` whose `folds` are the splits.

    Returns:
        A dict of embedder's name -> `Measured`; its `result` is a `SplitResults`.

    Raises:
        ValueError, ImportError, OSError: as `report_verification` and `verify_by_fold`.

    Example:
        >>> from keras_facemargin.evaluate import Pairs
        >>> people = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 1, 2, 1, 2, 0])
        >>> pairs = Pairs(None, None, people[0] == people[1], np.ones(6, int), people=people)
        >>> scores = np.array([0.9, 0.8, 0.3, 0.7, 0.2, 0.1])
        >>> found = report_splits("splits.html", pairs, {"ours": scores}, title="One split",
        ...                       replicates=20, progress=False)
        >>> round(found["ours"].result.mean("EER"), 2)
        0.33
    """
    task = _Splits(Resampling(replicates, seed, progress), pairs, scores, groups)
    return task.write(output, scores, title=title, about=about)


Found = Measured[SplitResults, Bootstrap]


class _Splits(ReportTask[Scores, SplitResults, Bootstrap]):
    def __init__(
        self,
        resampling: Resampling,
        pairs: Pairs,
        scores: Mapping[str, Scores],
        groups: Mapping[str, tuple[Any, Any]] | None,
    ):
        super().__init__(resampling)
        self.pairs, self.scores, self.groups = pairs, scores, groups

    def measure(self, name: str, given: Scores) -> Found:
        pairs = self.pairs
        if pairs.folds is None:
            raise ValueError("`pairs` must have folds, the splits. Received: pairs without folds.")
        result = verify_by_fold(given, pairs.same, pairs.folds)
        result = dataclasses.replace(result, failed_to_enrol=failures_to_enrol(pairs))
        draws = bootstrap_splits(
            given, pairs.same, pairs.folds, people=pairs.people, **self.resampling.options
        )
        return Measured(
            result,
            draws,
            tuple(split_measures(result, draws)),
            group_rates(self.groups, np.asarray(given), pairs, self.resampling),
        )

    def opening(self, first: Found) -> Iterator[str]:
        same = self.pairs.same
        yield (
            f"{len(first.result.results)} splits with {np.count_nonzero(same):,} genuine and "
            f"{np.count_nonzero(~same):,} impostor pairs in total. Intervals in brackets: "
            f"{first.draws}; each draw chooses its own thresholds in every split."
        )
        yield from notes_on_pairs(first.draws, first.result.failed_to_enrol)

    def caption(self, first: Found) -> str:
        return (
            "Mean over the splits ± their standard deviation; each split has its own thresholds. "
            "TAR at FAR: the largest TAR whose FAR does not exceed the target."
        )

    def add_curves(self, page: Report, models: Mapping[str, Found]) -> None:
        add_curves(
            page,
            {n: [one.curve for one in each.result.results.values()] for n, each in models.items()},
            {name: each.draws for name, each in models.items()},
        )

    def add_details(self, page: Report, name: str, measured: Found) -> None:
        page.figure(
            plot_scores(self.scores[name], self.pairs.same),
            "Scores of all splits, as shares of each kind of pair.",
        )
        add_split_thresholds(page, measured.result)
        for rates in measured.groups:
            add_groups(page, rates)
        add_hardest(page, self.pairs, self.scores[name])

    def record(self, name: str, measured: Found) -> dict[str, Any]:
        return {
            **measured.result.to_dict(),
            "intervals": intervals_record(measured.measures),
            "groups": {rates.name: rates.to_dict() for rates in measured.groups},
        }
