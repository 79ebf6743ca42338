"""The report of every pair of a set of faces, for any number of pairs."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.at_scale import (
    BINS_PER_UNIT,
    TAIL,
    HardestPairs,
    PairRates,
    hardest_pairs,
    verify_all_pairs,
)
from keras_facemargin.evaluate.plots import plot_score_histogram
from keras_facemargin.evaluate.uncertainty import (
    Bootstrap,
    bootstrap_hardest,
    interval,
    rates_by_two_groups,
)
from keras_facemargin.evaluate.verification import Pairs, threshold_at_far
from keras_facemargin.report.draws import Resampling
from keras_facemargin.report.measures import Measure, ends_record, tar_measures
from keras_facemargin.report.page import Report
from keras_facemargin.report.sections.curves import OF_BINS, add_curves
from keras_facemargin.report.sections.groups import DECIDING, GroupRates, add_groups
from keras_facemargin.report.sections.hardest import (
    Shown,
    add_hardest,
    add_hardest_names,
    hardest_shown,
)
from keras_facemargin.report.sections.rules import add_rules, rules_record
from keras_facemargin.report.sections.thresholds import add_thresholds
from keras_facemargin.report.task import Measured, ReportTask

Embeddings = npt.NDArray[Any]


def report_all_pairs(
    output: str | os.PathLike[str],
    embeddings: Mapping[str, Embeddings],
    labels: Sequence[Any] | npt.NDArray[Any],
    *,
    title: str,
    images: Sequence[Any] | None = None,
    about: Iterable[str] = (),
    groups: Mapping[str, npt.NDArray[Any]] | None = None,
    replicates: int = 1_000,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Measured[PairRates, Bootstrap]]:
    """Measures embedders on every pair of a set of faces and writes an HTML page and its JSON.

    The page holds every measure with its interval, the differences between embedders draw by draw,
    ROC and DET curves with bands, the scores, the thresholds, the errors by group and by two
    groups, and the hardest pairs. Rates and thresholds are exact; curves and histograms are of
    counts in narrow bins, so that memory does not grow with the pairs.

    Args:
        output, title, about, replicates, seed, progress: as `report_verification`.
        embeddings: dict of embedder's name -> ``(N, D)``, of any length but zero, the same faces in
            the same order.
        labels: ``(N,)``, whose face each row is.
        images: the images ``(N,)``, as `read_face` takes them, or ``None``. Where the hardest ones
            are files that are not there, they are listed by name.
        groups: dict of name -> group of each image, ``(N,)``, as `read_groups_of_images` gives
            them.

    Returns:
        A dict of embedder's name -> `Measured`; its `result` is a `PairRates`.

    Raises:
        ValueError: if `output` is no ``*.html`` or there is no embedder, or as `verify_all_pairs`,
            `bootstrap` and `rates_by_two_groups`.
        ImportError: if matplotlib is missing.
        OSError: if a file cannot be written, or an image of the hardest pairs cannot be read.

    Example:
        >>> labels = np.repeat(np.arange(20), 3)
        >>> rows = np.random.default_rng(0).normal(size=(60, 8)) + np.eye(20, 8)[labels]
        >>> found = report_all_pairs("set.html", {"ours": rows}, labels, title="A set",
        ...                          replicates=20, progress=False)
        >>> found["ours"].result.impostors, found["ours"].draws.units
        (1710, 20)
    """
    task = _AllPairs(Resampling(replicates, seed, progress), labels, images, groups)
    return task.write(output, embeddings, title=title, about=about)


Found = Measured[PairRates, Bootstrap]


class _AllPairs(ReportTask[Embeddings, PairRates, Bootstrap]):
    argument = "embeddings"

    def __init__(
        self,
        resampling: Resampling,
        labels: Sequence[Any] | npt.NDArray[Any],
        images: Sequence[Any] | None,
        groups: Mapping[str, npt.NDArray[Any]] | None,
    ):
        super().__init__(resampling)
        self.labels, self.images, self.groups = labels, images, groups or {}
        self.drawn_impostors = 0
        self.hardest: dict[str, Shown] = {}

    def measure(self, name: str, given: Embeddings) -> Found:
        progress = self.resampling.progress
        result = verify_all_pairs(given, self.labels, progress=progress)
        pairs = hardest_pairs(
            given, self.labels, impostors=TAIL, progress=progress, histogram=result.histogram
        )
        fars = [entry.target for entry in result.tar_at_far]
        draws = bootstrap_hardest(pairs, fars, **self.resampling.options)
        self.drawn_impostors = self.drawn_impostors or np.count_nonzero(~pairs.same)
        self.hardest[name] = hardest_shown(pairs, self.images)
        measures = (
            Measure("AUC", result.histogram.curve().area(), draws.auc),
            Measure("EER", result.eer, draws.eer),
            *tar_measures(result.tar_at_far, draws.tar),
        )
        rates = (self._group_rates(column, result, pairs) for column in self.groups)
        return Measured(result, draws, measures, tuple(rates))

    def _group_rates(self, column: str, result: PairRates, pairs: HardestPairs) -> GroupRates:
        """Errors by group at the lowest FAR that enough impostor pairs decide."""
        decided = [e for e in result.tar_at_far if e.target * result.impostors >= DECIDING]
        if decided:
            far, threshold = decided[-1].target, decided[-1].threshold
        else:  # of so few pairs all are held
            far, threshold = 0.5, threshold_at_far(pairs.scores[~pairs.same], 0.5)
        rates = rates_by_two_groups(
            pairs,
            self.groups[column],
            threshold=threshold,
            replicates=self.resampling.replicates,
            seed=self.resampling.seed,
        )
        return GroupRates(column, far, threshold, rates)

    def opening(self, first: Found) -> Iterator[str]:
        result = first.result
        yield (
            f"All pairs of {result.embeddings:,} images of {first.draws.units:,} people: "
            f"{result.genuines:,} genuine and {result.impostors:,} impostor pairs. In brackets: "
            f"{first.draws}; thresholds are chosen anew in each draw."
        )
        if self.drawn_impostors < result.impostors:
            yield (
                f"The genuine pairs and the {self.drawn_impostors:,} impostor pairs most alike are "
                "drawn one by one. Of the impostor pairs below it is counted how many each person "
                "has at each level of the score: intervals that they decide are of first order."
            )

    def caption(self, first: Found) -> str:
        return (
            "TAR at FAR: the largest TAR whose FAR does not exceed the target. It and the EER are "
            "exact over every pair; the AUC and what other rules say are of counts in bins of "
            f"1/{BINS_PER_UNIT:,} of the score. An interval without width says that no pair showed "
            "the error, not that it cannot happen."
        )

    def add_curves(self, page: Report, models: Mapping[str, Found]) -> None:
        curves = {name: each.result.histogram.curve() for name, each in models.items()}
        add_curves(page, curves, {name: each.draws for name, each in models.items()}, OF_BINS)

    def add_details(self, page: Report, name: str, measured: Found) -> None:
        result = measured.result
        page.figure(
            plot_score_histogram(result.histogram), "Scores, each kind as shares of its own."
        )
        fars = [entry.target for entry in result.tar_at_far]
        add_thresholds(page, result.tar_at_far, measured.draws.tar, fars)
        supported = [entry.target for entry in result.tar_at_far if entry.supported]
        add_rules(page, result.histogram.curve(), supported)
        for rates in measured.groups:
            add_groups(
                page, rates, "A group's pairs have both images in it, those of a / b one in each."
            )
        add = add_hardest if _can_be_shown(self.hardest[name][0]) else add_hardest_names
        add(page, *self.hardest[name])

    def record(self, name: str, measured: Found) -> dict[str, Any]:
        auc, eer, *tars = measured.measures
        found = measured.result.to_dict()
        fars = [entry.target for entry in measured.result.tar_at_far]
        rules = rules_record(measured.result.histogram.curve(), fars)
        return {
            **found,
            "auc": auc.value,
            "intervals": {
                "auc": ends_record(auc.interval),
                "eer": ends_record(eer.interval),
                "tar_at_far": [ends_record(tar.interval) for tar in tars],
            },
            "curve": _curve_record(measured),
            "conventions": {**rules, "conservative": found["tar_at_far"]},
            "groups": {rates.name: rates.to_dict() for rates in measured.groups},
            "hardest_pairs": _hardest_record(*self.hardest[name]),
        }


def _can_be_shown(pairs: Pairs) -> bool:
    """Whether the images are there to be drawn: not names, not files that are gone."""
    return all(
        not isinstance(image, str) and (not isinstance(image, Path) or image.is_file())
        for image in (*pairs.first, *pairs.second)
    )


def _hardest_record(pairs: Pairs, scores: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
    return [
        {"same": same, "score": score, "first": str(first), "second": str(second)}
        for first, second, same, score in zip(
            *(pairs.first, pairs.second, pairs.same.tolist(), scores.tolist()), strict=True
        )
    ]


def _curve_record(measured: Found) -> dict[str, list[float]]:
    """The ROC of the bins, and its band, at the FARs of the band."""
    curve, draws = measured.result.histogram.curve(), measured.draws
    ends = [interval(column) for column in draws.band.T]
    return {
        "far": draws.band_fars.tolist(),
        "tar": [curve.largest_tar(far) for far in draws.band_fars[:-1]] + [1.0],
        "low": [end.low for end in ends],
        "high": [end.high for end in ends],
    }
