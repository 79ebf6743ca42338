"""Tasks: how each kind of list is measured, plotted and reported."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_facemargin.cli.console import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from keras_facemargin.evaluate.uncertainty import Interval
    from keras_facemargin.report import Measured

Page = Callable[
    [Path, str, Any, Mapping[str, Any], Sequence[str]], "Mapping[str, Measured[Any, Any]]"
]


# Draws for the intervals in results.json, those of a page's default.
_REPLICATES, _SEED = 1_000, 0


@dataclasses.dataclass(frozen=True)
class Task:
    """The steps from an embedder and one kind of list to files.

    Attributes:
        measure: (embedder, list, flip) -> scores, embeddings or results of the embedder.
        conclude: (list, output of `measure`) -> the result to print and write.
        page: (file, title, list, model -> output of `measure`, about) -> writes a page and returns
            model -> `Measured`.
        plots: (model, list, result) -> a figure for each of `figures`.
        figures: file names of the plots.
        intervals: (list, result) -> the intervals of the result; None without any.
    """

    measure: Callable[[Any, Any, bool], Any]
    conclude: Callable[[Any, Any], Any]
    page: Page
    plots: "Callable[[str, Any, Any], Sequence[Figure]] | None" = None
    figures: tuple[str, ...] = ()
    intervals: "Callable[[Any, Any], Intervals | None] | None" = None


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Intervals of the measures of one embedder.

    Attributes:
        of: measure -> its `Interval`.
        method: level, resampled units and draws.
    """

    of: "Mapping[str, Interval]"
    method: Mapping[str, Any]

    def __str__(self) -> str:
        over = "people" if self.method["resampled"] == "identities" else "pairs"
        each = ", ".join(f"{measure} {interval}" for measure, interval in self.of.items())
        return f"{self.method['level']:.0%} intervals over {over}: {each}"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for results.json."""
        ends = {measure: [each.low, each.high] for measure, each in self.of.items()}
        return {**ends, **self.method}


@dataclasses.dataclass(frozen=True)
class _Judged:
    """Scores of pairs, and the qualities of their images for a page."""

    scores: Any
    qualities: Any


def pairs_of_images(*, judged: bool) -> Task:
    """For a list that is (`Pairs`, their groups or ``None``).

    Args:
        judged: whether the page needs the qualities of the images.
    """
    import numpy as np

    from keras_facemargin.evaluate import plot_hardest_pairs, plot_roc, plot_scores, verify
    from keras_facemargin.evaluate.discard import qualities_of_pairs
    from keras_facemargin.evaluate.verification import embed_pairs

    def measure(embedder: Any, listed: Any, flip: bool) -> _Judged:
        found = embed_pairs(embedder, listed[0], flip=flip, sharpness=judged)
        if not judged:
            return _Judged(found.scores(), None)
        card = embedder.card
        weight = None if card is None or card.quality is None else card.quality.norm_weight
        qualities = qualities_of_pairs(found, mirrored=flip, norm_weight=weight)
        return _Judged(found.scores(), qualities)

    def conclude(listed: Any, found: Any) -> Any:
        pairs, _ = listed
        result = verify(found.scores, pairs.same, folds=pairs.folds)
        return dataclasses.replace(result, failed_to_enrol=_failures(pairs))

    def plots(model: str, listed: Any, result: Any) -> "Sequence[Figure]":
        threshold = None if result.accuracy is None else float(np.mean(result.accuracy.thresholds))
        return (
            plot_roc({model: result.curve}),
            plot_scores(result.scores, result.same, threshold=threshold),
            plot_hardest_pairs(listed[0], result.scores),
        )

    def page(
        report: Path, title: str, listed: Any, found: Mapping[str, Any], about: Sequence[str]
    ) -> "Mapping[str, Measured[Any, Any]]":
        from keras_facemargin.report import report_verification

        pairs, groups = listed
        return report_verification(
            report,
            pairs,
            {name: each.scores for name, each in found.items()},
            title=title,
            about=about,
            groups=groups,
            qualities={name: each.qualities for name, each in found.items()},
        )

    return Task(
        measure,
        conclude,
        page,
        plots,
        ("roc.png", "scores.png", "hardest_pairs.png"),
        lambda listed, result: _intervals(listed[0], result),
    )


def _intervals(pairs: Any, result: Any) -> Intervals | None:
    """Intervals of pairs in folds; None without folds, or if the people are too few to draw."""
    from keras_facemargin.evaluate.uncertainty import interval
    from keras_facemargin.report.draws import Resampling, draw_pairs, draws_record

    if result.accuracy is None:
        return None
    resampling = Resampling(_REPLICATES, _SEED, progress=True)
    try:
        draws = draw_pairs(result, pairs, resampling)
    except ValueError as error:
        say(f"No intervals: {error}")
        return None
    replicates = {"accuracy": draws.accuracy, "eer": draws.eer, "auc": draws.auc}
    known = {name: interval(each) for name, each in replicates.items() if each is not None}
    return Intervals(known, draws_record(draws, _SEED))


def development_pairs() -> Task:
    """For a list that is a `View1`."""
    from keras_facemargin.evaluate.protocols import evaluate_view_1

    def page(
        report: Path, title: str, view: Any, results: Mapping[str, Any], about: Sequence[str]
    ) -> "Mapping[str, Measured[Any, Any]]":
        from keras_facemargin.report import report_verification

        return report_verification(
            report,
            view.test,
            {name: result.test.scores for name, result in results.items()},
            title=title,
            about=about,
            thresholds={name: result.threshold for name, result in results.items()},
        )

    return Task(
        lambda embedder, view, flip: evaluate_view_1(embedder, view, flip=flip),
        _result,
        page,
    )


def pairs_of_templates(quality_weight: float = 0.0) -> Task:
    """For a list that is `TemplatePairs`, measured as a whole."""

    from keras_facemargin.evaluate import plot_roc, plot_scores, verify

    def conclude(pairs: Any, scores: Any) -> Any:
        result = verify(scores, pairs.same, folds=pairs.folds)
        return dataclasses.replace(result, failed_to_enrol=_failures(pairs))

    def plots(model: str, pairs: Any, result: Any) -> "Sequence[Figure]":
        return (
            plot_roc({model: result.curve}),
            plot_scores(result.scores, result.same, threshold=None),
        )

    def page(
        report: Path, title: str, pairs: Any, scores: Mapping[str, Any], about: Sequence[str]
    ) -> "Mapping[str, Measured[Any, Any]]":
        from keras_facemargin.report import report_verification

        return report_verification(report, pairs.pairs, scores, title=title, about=about)

    return Task(
        _scores_of_templates(quality_weight),
        conclude,
        page,
        plots,
        ("roc.png", "scores.png"),
    )


def _scores_of_templates(quality_weight: float = 0.0) -> Callable[[Any, Any, bool], Any]:
    """`Task.measure` for `TemplatePairs`."""
    from keras_facemargin.evaluate.templates import score_template_pairs

    def measure(embedder: Any, pairs: Any, flip: bool) -> Any:
        return score_template_pairs(embedder, pairs, flip=flip, quality_weight=quality_weight)

    return measure


def splits_of_templates() -> Task:
    """For a list that is `TemplatePairs` in splits, each with its own thresholds."""

    from keras_facemargin.evaluate.splits import verify_by_fold

    def conclude(pairs: Any, scores: Any) -> Any:
        found = verify_by_fold(scores, pairs.same, pairs.folds)
        return dataclasses.replace(found, failed_to_enrol=_failures(pairs))

    def page(
        report: Path, title: str, pairs: Any, scores: Mapping[str, Any], about: Sequence[str]
    ) -> "Mapping[str, Measured[Any, Any]]":
        from keras_facemargin.report import report_splits

        groups = {}
        for name in pairs.templates.covariates:
            values = pairs.templates.covariate(name)
            groups[name] = values[pairs.first], values[pairs.second]
        return report_splits(report, pairs.pairs, scores, title=title, about=about, groups=groups)

    return Task(_scores_of_templates(), conclude, page)


def pairs_by_value(by: str, quality_weight: float = 0.0) -> Task:
    """For a list that is (`TemplatePairs`, the values of the covariate `by`)."""
    from keras_facemargin.evaluate.splits import verify_by_value

    def page(
        report: Path, title: str, listed: Any, scores: Mapping[str, Any], about: Sequence[str]
    ) -> "Mapping[str, Measured[Any, Any]]":
        from keras_facemargin.report import report_covariates

        pairs, covariate = listed
        return report_covariates(
            report, pairs.pairs, scores, covariate=covariate, title=title, by=by, about=about
        )

    score = _scores_of_templates(quality_weight)
    return Task(
        lambda embedder, listed, flip: score(embedder, listed[0], flip),
        lambda listed, scores: verify_by_value(scores, listed[0].same, listed[1]),
        page,
    )


def searches(quality_weight: float = 0.0) -> Task:
    """For a list that is `TemplateSearches`."""
    from keras_facemargin.evaluate import evaluate_searches

    def page(
        report: Path, title: str, task: Any, results: Mapping[str, Any], about: Sequence[str]
    ) -> "Mapping[str, Measured[Any, Any]]":
        from keras_facemargin.report import report_searches

        return report_searches(report, task.templates, results, title=title, about=about)

    return Task(
        lambda embedder, task, flip: evaluate_searches(
            embedder, task, flip=flip, quality_weight=quality_weight
        ),
        _result,
        page,
    )


def searches_of_folders() -> Task:
    """As `searches`, for the user's own images: warns if they are not aligned crops."""
    from keras_facemargin.cli.alignment import note_crops
    from keras_facemargin.evaluate import evaluate_searches

    def measure(embedder: Any, task: Any, flip: bool) -> Any:
        note_crops(task.templates.images, embedder)
        return evaluate_searches(embedder, task, flip=flip)

    return dataclasses.replace(searches(), measure=measure)


def blufr() -> Task:
    """For a list that is a `Blufr`."""
    from keras_facemargin.evaluate import embed
    from keras_facemargin.evaluate.protocols import measure_blufr

    def page(
        report: Path, title: str, listed: Any, embeddings: Mapping[str, Any], about: Sequence[str]
    ) -> "Mapping[str, Measured[Any, Any]]":
        from keras_facemargin.report import report_trials

        return report_trials(report, listed, embeddings, title=title, about=about)

    return Task(
        lambda embedder, listed, flip: embed(embedder, listed.there.images, flip=flip),
        lambda listed, embeddings: measure_blufr(embeddings, listed),
        page,
    )


def megaface() -> Task:
    """For a list that is a `MegaFace`."""
    from keras_facemargin.evaluate.protocols import evaluate_megaface

    def page(
        report: Path, title: str, listed: Any, results: Mapping[str, Any], about: Sequence[str]
    ) -> "Mapping[str, Measured[Any, Any]]":
        from keras_facemargin.report import report_distractors

        probes, distractors = listed.there
        return report_distractors(
            report, results, probes=probes, distractors=distractors, title=title, about=about
        )

    return Task(
        lambda embedder, listed, flip: evaluate_megaface(embedder, listed, flip=flip),
        _result,
        page,
    )


def _failures(pairs: Any) -> int:
    """Number of pairs that count as rejected because an image is missing."""
    import numpy as np

    return int(np.count_nonzero(pairs.failed_to_enrol))


def _result(listed: Any, result: Any) -> Any:
    return result
