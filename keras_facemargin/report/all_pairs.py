"""The report of all pairs of a set of faces, for any number of pairs."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.bars import DECIDING
from keras_facemargin.evaluate.at_scale import (
    BINS_PER_UNIT,
    TAIL,
    HardestPairs,
    PairRates,
    hardest_pairs,
    verify_all_pairs,
)
from keras_facemargin.evaluate.at_scale.refine import FARS
from keras_facemargin.evaluate.plots import plot_score_histogram
from keras_facemargin.evaluate.uncertainty import (
    Bootstrap,
    bootstrap_hardest,
    interval,
    rates_by_two_groups,
    threshold_for_every_group_of_set,
)
from keras_facemargin.evaluate.verification import Pairs, threshold_at_far
from keras_facemargin.report.draws import Resampling
from keras_facemargin.report.measures import Measure, ends_record, tar_measures
from keras_facemargin.report.page import Report
from keras_facemargin.report.sections.bars import Rates, add_bars, bars_record
from keras_facemargin.report.sections.curves import OF_BINS, add_curves
from keras_facemargin.report.sections.groups import (
    GroupRates,
    add_groups,
    held_in_every_group,
)
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
    """Measures embedders on all pairs of a set of faces and writes an HTML page and its JSON.

    The page shows every measure with its interval, the differences between embedders, ROC and DET
    curves with bands, the scores, the thresholds, the errors within and between groups, and the
    hardest pairs. Rates and thresholds are exact. Curves and histograms come from counts in narrow
    bins, so that memory does not grow with the number of pairs.

    Args:
        output, title, about, replicates, seed, progress: as `report_verification`.
        embeddings: dict of embedder's name -> ``(N, D)``, rows of any length but zero. All have
            the same faces in the same order.
        labels: ``(N,)``, the person of each row.
        images: the images ``(N,)``, as `read_face` takes them, or ``None``. The hardest pairs are
            listed by name if one of their files does not exist.
        groups: dict of name -> the group of each image, ``(N,)``, as `read_groups_of_images` gives
            them.

    Returns:
        A dict of embedder's name -> `Measured`; its `result` is a `PairRates`.

    Raises:
        ValueError: if `output` is not ``*.html``, if no embedder is given, or as
            `verify_all_pairs`, `bootstrap` and `rates_by_two_groups`.
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
    task = AllPairs(Resampling(replicates, seed, progress), labels, images, groups)
    return task.write(output, embeddings, title=title, about=about)


Found = Measured[PairRates, Bootstrap]


class AllPairs(ReportTask[Embeddings, PairRates, Bootstrap]):
    argument = "embeddings"
    fars: Sequence[float] = FARS

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
        result = verify_all_pairs(given, self.labels, fars=self.fars, progress=progress)
        pairs = hardest_pairs(
            given, self.labels, impostors=TAIL, progress=progress, histogram=result.histogram
        )
        fars = [entry.target for entry in result.tar_at_far]
        draws = bootstrap_hardest(pairs, fars, **self.resampling.options)
        self.drawn_impostors = self.drawn_impostors or int(np.count_nonzero(~pairs.same))
        self.hardest[name] = hardest_shown(pairs, self.images)
        measures = (
            Measure("AUC", result.histogram.curve().area(), draws.auc),
            Measure("EER", result.eer, draws.eer),
            *tar_measures(result.tar_at_far, draws.tar),
        )
        rates = (self._group_rates(column, result, pairs) for column in self.groups)
        return Measured(result, draws, measures, tuple(rates))

    def _group_rates(self, column: str, result: PairRates, pairs: HardestPairs) -> GroupRates:
        """Errors by group at the lowest FAR that `DECIDING` impostor pairs support."""
        far, threshold = 0.5, None
        for entry in result.tar_at_far:
            if entry.target * result.impostors >= DECIDING:
                far, threshold = entry.target, entry.threshold
        if threshold is None:  # with so few pairs, all are drawn
            threshold = threshold_at_far(pairs.scores[~pairs.same], far)
        rates = rates_by_two_groups(
            pairs,
            self.groups[column],
            threshold=threshold,
            replicates=self.resampling.replicates,
            seed=self.resampling.seed,
        )
        groups = self.groups[column]
        held = held_in_every_group(
            lambda far: threshold_for_every_group_of_set(pairs, groups, far=far),
            len(np.unique(groups)),
            result.impostors,
            int(np.count_nonzero(~pairs.same)),
        )
        return GroupRates(column, far, threshold, rates, held)

    def opening(self, first: Found) -> Iterator[str]:
        result = first.result
        yield (
            f"All pairs of {result.embeddings:,} images of {first.draws.units:,} people: "
            f"{result.genuines:,} genuine and {result.impostors:,} impostor pairs. "
            f"Intervals in brackets: {first.draws}; each draw chooses its own thresholds."
        )
        if self.drawn_impostors < result.impostors:
            yield (
                f"The genuine pairs and the {self.drawn_impostors:,} most similar impostor pairs "
                "are drawn one by one. The other impostor pairs are counted by person and score: "
                "intervals that they decide are first-order approximations."
            )

    def caption(self, first: Found) -> str:
        return (
            "TAR at FAR: the largest TAR whose FAR does not exceed the target. TAR and EER are "
            "exact over all pairs; the AUC and the other rules come from counts in score bins of "
            f"1/{BINS_PER_UNIT:,}. An interval of zero width means that no pair shows the error, "
            "not that the error cannot happen."
        )

    def add_measures(self, page: Report, models: Mapping[str, Found]) -> None:
        super().add_measures(page, models)
        add_bars(page, {name: _rates(each) for name, each in models.items()})

    def add_curves(self, page: Report, models: Mapping[str, Found]) -> None:
        curves = {name: each.result.histogram.curve() for name, each in models.items()}
        add_curves(page, curves, {name: each.draws for name, each in models.items()}, OF_BINS)

    def add_details(self, page: Report, name: str, measured: Found) -> None:
        result = measured.result
        page.figure(
            plot_score_histogram(result.histogram), "Scores, as shares of each kind of pair."
        )
        fars = [entry.target for entry in result.tar_at_far]
        add_thresholds(page, result.tar_at_far, measured.draws.tar, fars)
        supported = [entry.target for entry in result.tar_at_far if entry.supported]
        add_rules(page, result.histogram.curve(), supported)
        for rates in measured.groups:
            add_groups(
                page,
                rates,
                "Both images of a pair are in the group; pairs of a / b have one image in each.",
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
            "bars": bars_record(_rates(measured)),
            "groups": {rates.name: rates.to_dict() for rates in measured.groups},
            "hardest_pairs": _hardest_record(*self.hardest[name]),
        }


def _rates(measured: Found) -> Rates:
    entries = measured.result.tar_at_far
    return entries, measured.measures[-len(entries) :], measured.result.genuines


def _can_be_shown(pairs: Pairs) -> bool:
    """Whether all images exist: neither names nor missing files."""
    assert pairs.first is not None and pairs.second is not None
    return all(
        not isinstance(image, str) and (not isinstance(image, Path) or image.is_file())
        for image in (*pairs.first, *pairs.second)
    )


def _hardest_record(pairs: Pairs, scores: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
    assert pairs.first is not None and pairs.second is not None
    return [
        {"same": same, "score": score, "first": str(first), "second": str(second)}
        for first, second, same, score in zip(
            *(pairs.first, pairs.second, pairs.same.tolist(), scores.tolist()), strict=True
        )
    ]


def _curve_record(measured: Found) -> dict[str, list[float]]:
    """The ROC of the bins and its band, at the FARs of the band."""
    curve, draws = measured.result.histogram.curve(), measured.draws
    ends = [interval(column) for column in draws.band.T]
    return {
        "far": draws.band_fars.tolist(),
        "tar": [curve.largest_tar(far) for far in draws.band_fars[:-1]] + [1.0],
        "low": [end.low for end in ends],
        "high": [end.high for end in ends],
    }
