"""The report of a list of pairs, for any protocol: `Pairs` and the scores of each embedder."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.discard import ErrorVersusDiscard
from keras_facemargin.evaluate.plots import plot_scores
from keras_facemargin.evaluate.uncertainty import Bootstrap
from keras_facemargin.evaluate.verification import Pairs, Verification, validation_rate, verify
from keras_facemargin.report.draws import Resampling, draw_pairs, failures_to_enrol, notes_on_pairs
from keras_facemargin.report.measures import ends_record, verification_measures
from keras_facemargin.report.page import Report
from keras_facemargin.report.sections.bars import Rates, add_bars, bars_record
from keras_facemargin.report.sections.curves import add_curves
from keras_facemargin.report.sections.discards import add_discards, discard_curves
from keras_facemargin.report.sections.groups import add_groups, group_rates
from keras_facemargin.report.sections.hardest import add_hardest
from keras_facemargin.report.sections.likelihood import Costs, add_likelihood, costs
from keras_facemargin.report.sections.rules import add_rules, rules_record
from keras_facemargin.report.sections.thresholds import add_thresholds
from keras_facemargin.report.task import Measured, ReportTask

Scores = npt.NDArray[np.float64]
Qualities = Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]]


def report_verification(
    output: str | os.PathLike[str],
    pairs: Pairs,
    scores: Mapping[str, Scores],
    *,
    title: str,
    about: Iterable[str] = (),
    groups: Mapping[str, tuple[Any, Any]] | None = None,
    thresholds: Mapping[str, float] | None = None,
    qualities: Mapping[str, Qualities] | None = None,
    replicates: int = 1_000,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Measured[Verification, Bootstrap]]:
    """Measures embedders on a list of pairs and writes an HTML page and a JSON file.

    The page shows every measure with its interval, the differences between embedders, ROC and DET
    curves with bands, the scores, the thresholds, TAR at FAR by other published rules, the cost
    of likelihood ratios, the errors by group, the worth of quality scores, and pictures of the
    hardest pairs.

    If a list with people has more than 2,000,000 pairs, only the pairs that decide the rates are
    resampled (`hardest_listed_pairs`). A measure that other pairs decide then has no interval.

    Args:
        output: the page, ``*.html``. The JSON file has the same name and the suffix ``.json``.
            Both replace existing files, each in one step.
        pairs: `Pairs`. If they have `people`, identities are resampled, else pairs.
        scores: dict of embedder's name -> its scores of the pairs, ``(N,)``.
        title: title of the page.
        about: paragraphs on the data and the method.
        groups: dict of name -> groups of the two sides, ``(N,)`` each, as `read_groups` gives them.
        thresholds: dict of embedder's name -> a threshold that was chosen on pairs of other people,
            for the accuracy of pairs that have no folds.
        qualities: dict of embedder's name -> dict of quality's name -> qualities of the two images
            of each pair, ``(N,)`` each, as `qualities_of_pairs` gives them: the page then has
            error-versus-discard curves.
        replicates, seed: as `bootstrap`.
        progress: whether to draw progress bars on standard error.

    Returns:
        A dict of embedder's name -> `Measured`.

    Raises:
        ValueError: if `output` is not ``*.html``, if no embedder is given, if an embedder has no
            threshold in `thresholds`, or as `verify`, `bootstrap` and `rates_by_group`.
        ImportError: if matplotlib is missing.
        OSError: if a file cannot be written, or an image of the hardest pairs cannot be read.

    Example:
        >>> from keras_facemargin.evaluate import Pairs
        >>> same = np.repeat([True, False], 50)
        >>> people = np.arange(100), np.append(np.arange(50), np.arange(51, 101))
        >>> scores = np.append(np.linspace(0.3, 0.9, 50), np.linspace(-0.2, 0.4, 50))
        >>> pairs = Pairs(None, None, same, people=people)
        >>> found = report_verification("report.html", pairs, {"ours": scores}, title="Templates",
        ...                             replicates=20, progress=False)
        >>> found["ours"].result.eer, found["ours"].draws.units
        (0.1, 101)
    """
    if thresholds is not None and thresholds.keys() != scores.keys():
        raise ValueError(
            f"`thresholds` must have one for each embedder ({', '.join(scores)}). Received: "
            f"thresholds for {', '.join(thresholds) or 'none'}."
        )
    resampling = Resampling(replicates, seed, progress)
    task = _ListOfPairs(resampling, pairs, groups, thresholds, qualities)
    return task.write(output, scores, title=title, about=about)


Found = Measured[Verification, Bootstrap]


class _ListOfPairs(ReportTask[Scores, Verification, Bootstrap]):
    def __init__(
        self,
        resampling: Resampling,
        pairs: Pairs,
        groups: Mapping[str, tuple[Any, Any]] | None,
        thresholds: Mapping[str, float] | None,
        qualities: Mapping[str, Qualities] | None,
    ):
        super().__init__(resampling)
        self.pairs, self.groups, self.thresholds = pairs, groups, thresholds or {}
        self.qualities = qualities or {}
        self.discards: dict[str, dict[str, ErrorVersusDiscard]] = {}
        self.costs: dict[str, Costs] = {}

    def measure(self, name: str, given: Scores) -> Found:
        pairs, threshold = self.pairs, self.thresholds.get(name)
        result = verify(given, pairs.same, folds=pairs.folds)
        result = dataclasses.replace(result, failed_to_enrol=failures_to_enrol(pairs))
        draws = draw_pairs(result, pairs, self.resampling, threshold)
        self.discards[name] = discard_curves(
            self.qualities.get(name), result, pairs, self.resampling
        )
        self.costs[name] = costs(result, pairs, self.resampling)
        return Measured(
            result,
            draws,
            tuple(verification_measures(result, draws, threshold)),
            group_rates(self.groups, result.scores, pairs, self.resampling),
        )

    def opening(self, first: Found) -> Iterator[str]:
        yield (
            f"{first.result.genuines:,} genuine and {first.result.impostors:,} impostor pairs. "
            f"Intervals in brackets: {first.draws}; each draw chooses its own thresholds."
        )
        yield from notes_on_pairs(first.draws, first.result.failed_to_enrol)

    def caption(self, first: Found) -> str:
        accuracy = ""
        if self.thresholds:
            accuracy = (
                "Accuracy: the share of pairs decided correctly at a threshold that was chosen on "
                "other pairs and is the same in every draw. "
            )
        elif first.result.accuracy is not None:
            accuracy = (
                "Accuracy ± standard error over the folds; the threshold of each fold is the most "
                "accurate one on the other folds. "
            )
        return (
            f"{accuracy}TAR at FAR: the largest TAR whose FAR does not exceed the target. An "
            "interval of zero width means that no pair shows the error, not that the error cannot "
            "happen."
        )

    def add_measures(self, page: Report, models: Mapping[str, Found]) -> None:
        super().add_measures(page, models)
        add_bars(page, {name: _rates(each) for name, each in models.items()})

    def add_curves(self, page: Report, models: Mapping[str, Found]) -> None:
        curves = {name: each.result.curve for name, each in models.items()}
        add_curves(page, curves, {name: each.draws for name, each in models.items()})

    def add_details(self, page: Report, name: str, measured: Found) -> None:
        result = measured.result
        threshold, dashed = self.thresholds.get(name), "the threshold chosen on other pairs"
        if result.accuracy is not None:
            threshold = float(np.mean(result.accuracy.thresholds))
            dashed = "the mean threshold of the folds"
        page.figure(
            plot_scores(result.scores, result.same, threshold=threshold),
            "Scores, as shares of each kind of pair."
            + ("" if threshold is None else f" Dashed: {dashed}."),
        )
        add_thresholds(page, result.tar_at_far, measured.draws.tar)
        supported = [entry.target for entry in result.tar_at_far if entry.supported]
        add_rules(page, result.curve, supported, self._validation_rates(result, supported))
        add_likelihood(page, result, self.costs[name])
        for rates in measured.groups:
            add_groups(page, rates)
        add_discards(page, self.discards[name], result)
        add_hardest(page, self.pairs, result.scores)

    def _validation_rates(self, result: Verification, fars: list[float]) -> list[list[str]]:
        folds = self.pairs.folds
        if result.accuracy is None or folds is None or not fars:
            return []
        rates = [validation_rate(result.scores, result.same, folds, far=far) for far in fars]
        words = "VAL: mean over folds, threshold interpolated on the others (FaceNet, InsightFace)"
        return [[words, *map(str, rates)]]

    def record(self, name: str, measured: Found) -> dict[str, Any]:
        result = measured.result
        by_name = {each.name: each for each in measured.measures}
        intervals: dict[str, Any] = {
            "auc": ends_record(by_name["AUC"].interval),
            "eer": ends_record(by_name["EER"].interval),
            **self.costs[name].to_dict(),
        }
        threshold = {}
        if name in self.thresholds:
            accuracy = by_name["Accuracy"]
            threshold = {"accuracy": accuracy.value, "threshold": self.thresholds[name]}
        if result.accuracy is not None or threshold:
            intervals["accuracy"] = ends_record(measured.measures[0].interval)
        tars = _rates(measured)[1]
        intervals["tar_at_far"] = [ends_record(each.interval) for each in tars]
        return {
            **threshold,
            **result.to_dict(),
            "intervals": intervals,
            "conventions": rules_record(result.curve, [e.target for e in result.tar_at_far]),
            "bars": bars_record(_rates(measured)),
            "groups": {rates.name: rates.to_dict() for rates in measured.groups},
            "error_versus_discard": {
                quality: found.to_dict() for quality, found in self.discards[name].items()
            },
        }


def _rates(measured: Found) -> Rates:
    entries = measured.result.tar_at_far
    return entries, measured.measures[-len(entries) :], measured.result.genuines
