"""What is measured on each kind of list, and how it is drawn."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Task:
    """What is done with a kind of list, from an embedder to files.

    Attributes:
        measure: (embedder, list, flip=...) -> what the embedder gives: scores, or results.
        conclude: (list, what it gave) -> the result that is printed and written.
        plots: (model, list, result) -> a figure for each of `figures`.
        page: (file, title, list, model -> what it gave, about) -> writes a page and gives model ->
            what was measured; ``None`` where there is no such page.
        figures: names of the files that are drawn.
    """

    measure: Callable
    conclude: Callable
    plots: Callable | None = None
    page: Callable | None = None
    figures: tuple[str, ...] = ()


def pairs_of_images():
    """A list is (`Pairs`, their groups or ``None``)."""
    import numpy as np

    from keras_facemargin.evaluate import (
        plot_hardest_pairs,
        plot_roc,
        plot_scores,
        score_pairs,
        verify,
    )

    def conclude(listed, scores):
        pairs, _ = listed
        result = verify(scores, pairs.same, folds=pairs.folds)
        return dataclasses.replace(
            result, failed_to_enrol=int(np.count_nonzero(pairs.failed_to_enrol))
        )

    def plots(model, listed, result):
        threshold = None if result.accuracy is None else float(np.mean(result.accuracy.thresholds))
        return (
            plot_roc({model: result.curve}),
            plot_scores(result.scores, result.same, threshold=threshold),
            plot_hardest_pairs(listed[0], result.scores),
        )

    def page(report, title, listed, scores, about):
        from keras_facemargin.report import report_verification

        pairs, groups = listed
        return report_verification(report, pairs, scores, title=title, about=about, groups=groups)

    return Task(
        lambda embedder, listed, flip: score_pairs(embedder, listed[0], flip=flip),
        *(conclude, plots, page, ("roc.png", "scores.png", "hardest_pairs.png")),
    )


def development_pairs():
    """A list is a `View1`."""
    from keras_facemargin.evaluate.protocols import evaluate_view_1

    def page(report, title, view, results, about):
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
        _as_it_is,
        page=page,
    )


def pairs_of_templates(quality_weight=0.0):
    """A list is `TemplatePairs`, all of them together."""
    import numpy as np

    from keras_facemargin.evaluate import plot_roc, plot_scores, verify
    from keras_facemargin.evaluate.templates import score_template_pairs

    def conclude(pairs, scores):
        result = verify(scores, pairs.same, folds=pairs.folds)
        return dataclasses.replace(
            result, failed_to_enrol=int(np.count_nonzero(pairs.failed_to_enrol))
        )

    def plots(model, pairs, result):
        return (
            plot_roc({model: result.curve}),
            plot_scores(result.scores, result.same, threshold=None),
        )

    def page(report, title, pairs, scores, about):
        from keras_facemargin.report import report_verification

        return report_verification(report, pairs.pairs, scores, title=title, about=about)

    return Task(
        lambda embedder, pairs, flip: score_template_pairs(
            embedder, pairs, flip=flip, quality_weight=quality_weight
        ),
        *(conclude, plots, page, ("roc.png", "scores.png")),
    )


def splits_of_templates():
    """A list is `TemplatePairs` in splits, each with thresholds of its own."""
    import numpy as np

    from keras_facemargin.evaluate.splits import verify_by_fold
    from keras_facemargin.evaluate.templates import score_template_pairs

    def conclude(pairs, scores):
        found = verify_by_fold(scores, pairs.same, pairs.folds)
        return dataclasses.replace(
            found, failed_to_enrol=int(np.count_nonzero(pairs.failed_to_enrol))
        )

    def page(report, title, pairs, scores, about):
        from keras_facemargin.report import report_splits

        groups = {}
        for name in pairs.templates.covariates:
            values = pairs.templates.covariate(name)
            groups[name] = values[pairs.first], values[pairs.second]
        return report_splits(report, pairs.pairs, scores, title=title, about=about, groups=groups)

    return Task(
        lambda embedder, pairs, flip: score_template_pairs(embedder, pairs, flip=flip),
        conclude,
        page=page,
    )


def pairs_by_value(by, quality_weight=0.0):
    """A list is (`TemplatePairs`, what the covariate `by` of theirs is: texts and numbers)."""
    from keras_facemargin.evaluate.splits import verify_by_value
    from keras_facemargin.evaluate.templates import score_template_pairs

    def page(report, title, listed, scores, about):
        from keras_facemargin.report import report_covariates

        pairs, covariate = listed
        return report_covariates(
            report, pairs.pairs, scores, covariate=covariate, title=title, by=by, about=about
        )

    return Task(
        lambda embedder, listed, flip: score_template_pairs(
            embedder, listed[0], flip=flip, quality_weight=quality_weight
        ),
        lambda listed, scores: verify_by_value(scores, listed[0].same, listed[1]),
        page=page,
    )


def searches(quality_weight=0.0):
    """A list is `TemplateSearches`."""
    from keras_facemargin.evaluate import evaluate_searches

    def page(report, title, task, results, about):
        from keras_facemargin.report import report_searches

        return report_searches(report, task.templates, results, title=title, about=about)

    return Task(
        lambda embedder, task, flip: evaluate_searches(
            embedder, task, flip=flip, quality_weight=quality_weight
        ),
        _as_it_is,
        page=page,
    )


def searches_of_folders():
    """A list is `TemplateSearches` of images that are not a protocol's own."""
    from keras_facemargin.cli.alignment import note_crops
    from keras_facemargin.evaluate import evaluate_searches

    def measure(embedder, task, flip):
        note_crops(task.templates.images, embedder)
        return evaluate_searches(embedder, task, flip=flip)

    return dataclasses.replace(searches(), measure=measure)


def blufr():
    """A list is a `Blufr`."""
    from keras_facemargin.evaluate import embed
    from keras_facemargin.evaluate.protocols import measure_blufr

    def page(report, title, listed, embeddings, about):
        from keras_facemargin.report import report_trials

        return report_trials(report, listed, embeddings, title=title, about=about)

    return Task(
        lambda embedder, listed, flip: embed(embedder, listed.there.images, flip=flip),
        lambda listed, embeddings: measure_blufr(embeddings, listed),
        page=page,
    )


def megaface():
    """A list is a `MegaFace`."""
    from keras_facemargin.evaluate.protocols import evaluate_megaface

    def page(report, title, listed, results, about):
        from keras_facemargin.report import report_distractors

        probes, distractors = listed.there
        return report_distractors(
            report, results, probes=probes, distractors=distractors, title=title, about=about
        )

    return Task(
        evaluate_megaface,
        _as_it_is,
        page=page,
    )


def _as_it_is(listed, result):
    return result
