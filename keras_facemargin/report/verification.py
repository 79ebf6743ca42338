"""The report of a 1:1 evaluation: measures with confidence intervals on one page.

Whatever the protocol, it comes down to `Pairs` and, for each embedder, their scores; that is all
that `report_verification` takes.
"""

import dataclasses

import numpy as np

from keras_facemargin.evaluate import Verification, bootstrap, plot_roc, plot_scores, verify
from keras_facemargin.evaluate.at_scale import TAIL, hardest_listed_pairs
from keras_facemargin.evaluate.plots import plot_det
from keras_facemargin.evaluate.uncertainty import LEVEL, Bootstrap, bootstrap_hardest
from keras_facemargin.evaluate.verification import FAR_TARGETS, validation_rate
from keras_facemargin.report.groups import add_groups, rates_by_column
from keras_facemargin.report.hardest import add_hardest
from keras_facemargin.report.measures import (
    Measure,
    add_measures,
    draws_record,
    page_file,
    pair_of,
    require_embedders,
    tar_measures,
    write_record,
)
from keras_facemargin.report.page import Report
from keras_facemargin.report.rules import add_rules, rules_record
from keras_facemargin.report.thresholds import add_thresholds

# Pairs that are drawn one by one; of a longer list those that decide the rates are.
DRAWN_WHOLE = 2_000_000

# What `plot_roc` draws of several splits.
SPLIT_LINES = "Thick: the mean over the splits; thin: each of them."

# Impostor pairs that are drawn of a longer list, at most.
MOST_DRAWN = 5_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """One embedder on the list.

    Attributes:
        result: a `Verification`.
        draws: a `Bootstrap`.
        threshold: chosen on other pairs, or ``None``.
    """

    result: Verification
    draws: Bootstrap
    threshold: float | None = None

    @property
    def accuracy_at_threshold(self) -> float | None:
        """Share of the pairs decided rightly with `threshold`, or ``None`` without one."""
        if self.threshold is None:
            return None
        return float(np.mean((self.result.scores >= self.threshold) == self.result.same))

    def measures(self):
        """A `Measure` for each number of the result."""
        if self.threshold is not None:
            said = f", threshold {self.threshold:.4f}"
            yield Measure("Accuracy", self.accuracy_at_threshold, self.draws.accuracy, said)
        accuracy = self.result.accuracy
        if accuracy is not None:
            name, said = (
                f"Accuracy, {len(accuracy.folds)}-fold",
                f" ± {accuracy.standard_error:.2%}",
            )
            yield Measure(name, accuracy.mean, self.draws.accuracy, said)
        yield Measure("AUC", self.result.auc, self.draws.auc)
        yield Measure("EER", self.result.eer, self.draws.eer)
        yield from self.tars()

    def tars(self):
        """A `Measure` for each TAR at FAR of the result."""
        return tar_measures(self.result.tar_at_far, self.draws)


def report_verification(
    output,
    title,
    pairs,
    scores,
    about=(),
    groups=None,
    replicates=1_000,
    seed=0,
    progress=True,
    thresholds=None,
) -> dict[str, Measured]:
    """Measures the embedders on a list of pairs and writes an HTML page, and its JSON beside it.

    The page holds every measure with its interval, the differences between embedders draw by draw,
    ROC and DET curves with bands, the scores, the thresholds, what other published rules would say,
    the errors by group, and the hardest pairs as pictures.

    Of a list of more than `DRAWN_WHOLE` pairs that tells its people, intervals are drawn over the
    pairs that decide (`hardest_listed_pairs`), and what others decide has none.

    Args:
        output: the page, ``*.html``; ``*.json`` beside it is replaced too. Each is written whole or
            not at all.
        title: of the page.
        pairs: `Pairs`, of whatever protocol. With `people`, identities are resampled, else pairs.
        scores: dict of embedder's name -> its scores of the pairs, ``(N,)``.
        about: texts on what was measured and how, a paragraph each.
        groups: dict of name -> groups of the two sides, ``(N,)`` each, as `read_groups` gives them.
        replicates, seed: as `bootstrap`.
        progress: whether to draw progress bars on standard error.
        thresholds: dict of embedder's name -> a threshold that was chosen on pairs of other people,
            for the accuracy of pairs without folds.

    Returns:
        A dict of embedder's name -> `Measured`.

    Raises:
        ValueError: if `output` is no ``*.html``, there is no embedder, or none of `thresholds`
            for one, or as `verify`, `bootstrap` and `rates_by_group`.
        ImportError: if matplotlib is missing.
        OSError: if a file cannot be written, or an image of the hardest pairs cannot be read.

    Example:
        >>> from keras_facemargin.evaluate import Pairs
        >>> same = np.repeat([True, False], 50)
        >>> people = np.arange(100), np.append(np.arange(50), np.arange(51, 101))
        >>> scores = np.append(np.linspace(0.3, 0.9, 50), np.linspace(-0.2, 0.4, 50))
        >>> pairs = Pairs(None, None, same, people=people)
        >>> found = report_verification("report.html", "Templates", pairs, {"ours": scores},
        ...                             replicates=20, progress=False)
        >>> found["ours"].result.eer, found["ours"].draws.units
        (0.1, 101)
    """
    output = page_file(output)
    require_embedders(scores)
    if thresholds is not None and thresholds.keys() != scores.keys():
        raise ValueError(
            f"`thresholds` must hold one for each embedder ({', '.join(scores)}). Received: of "
            f"{', '.join(thresholds) or 'none'}."
        )
    failed_to_enrol = int(np.count_nonzero(pairs.failed_to_enrol))
    models = {}
    for name, values in scores.items():
        result = dataclasses.replace(
            verify(values, pairs.same, pairs.folds), failed_to_enrol=failed_to_enrol
        )
        threshold = None if thresholds is None else thresholds[name]
        draws = draws_of(result, pairs, replicates, seed, progress, threshold)
        models[name] = Measured(result, draws, threshold)
    rates = {
        name: rates_by_column(groups, each.result.scores, pairs, replicates, seed)
        for name, each in models.items()
    }
    _write_page(output, title, about, pairs, models, rates)
    intervals = draws_record(next(iter(models.values())).draws, seed)
    write_record(output, title, about, intervals, _records(models, rates))
    return models


def draws_of(result, pairs, replicates, seed, progress, threshold=None) -> Bootstrap:
    """The `Bootstrap` of a `Verification` of `Pairs`; threshold: as `bootstrap` takes it."""
    options = {"replicates": replicates, "seed": seed, "progress": progress}
    if len(pairs) <= DRAWN_WHOLE or pairs.people is None or threshold is not None:
        sides = pairs.folds, pairs.people
        return bootstrap(result.scores, result.same, *sides, threshold=threshold, **options)
    wanted = deciding(result.eer, result.impostors)
    held = hardest_listed_pairs(result.scores, result.same, pairs.people, wanted)
    return bootstrap_hardest(held, FAR_TARGETS, **options)


def deciding(eer, impostors):
    """As many impostor pairs as decide the EER in every draw, if they can be held."""
    return min(max(TAIL, 3 * round(eer * impostors)), MOST_DRAWN)


def add_people(page, draws, failed_to_enrol):
    """Whose luck the intervals tell, and what counts as rejected."""
    if draws.unit == "pairs":
        page.paragraph(
            "The list does not tell whose faces it holds, so pairs were drawn as if they were "
            "independent. Where people stand in several pairs the true intervals are wider."
        )
    if failed_to_enrol:
        page.paragraph(
            f"Pairs with a missing image, which count as rejected: {failed_to_enrol:,}. A face "
            "that fails to enrol is never accepted."
        )


def add_curves(page, curves, bands, told="exact at every score"):
    """ROC and DET of all embedders; curves and bands as `plot_roc` takes them; told: of curves."""
    page.heading("Curves")
    middle = f"Shaded: the middle {LEVEL:.0%} of the draws at each FAR, where they are known."
    if any(isinstance(each, list) and len(each) > 1 for each in curves.values()):
        middle = f"{SPLIT_LINES} {middle}"
    page.figure(plot_roc(curves, bands), f"ROC, {told}. {middle}")
    page.figure(plot_det(curves, bands), f"DET: the same errors, both logarithmic. {middle}")


def _write_page(output, title, about, pairs, models, rates):
    page = Report(title)
    first = next(iter(models.values()))
    page.paragraph(
        f"{first.result.genuines:,} genuine and {first.result.impostors:,} impostor pairs. In "
        f"brackets: {first.draws}; thresholds are chosen anew in each draw."
    )
    add_people(page, first.draws, first.result.failed_to_enrol)
    for text in about:
        page.paragraph(text)
    add_measures(
        page,
        models,
        f"{_accuracy_words(first)}TAR at FAR: the largest TAR whose FAR does not exceed the "
        "target. An interval without width says that no pair showed the error, not that it cannot "
        "happen.",
    )
    add_curves(
        page,
        {name: each.result.curve for name, each in models.items()},
        {name: each.draws for name, each in models.items()},
    )
    for name, each in models.items():
        page.heading(name if len(models) > 1 else "Scores and thresholds")
        _add_model(page, each, pairs)
        for found in rates[name]:
            add_groups(page, found)
        add_hardest(page, pairs, each.result.scores)
    page.write(output)


def _accuracy_words(measured):
    if measured.threshold is not None:
        return (
            "Accuracy: the share of the pairs decided rightly at a threshold that was chosen on "
            "other pairs and is the same in every draw. "
        )
    if measured.result.accuracy is not None:
        return (
            "Accuracy ± standard error over the folds, each at the threshold that is most accurate "
            "on the others. "
        )
    return ""


def _add_model(page, measured, pairs):
    result = measured.result
    threshold, dashed = measured.threshold, " Dashed: the threshold chosen on other pairs."
    if result.accuracy is not None:
        threshold = float(np.mean(result.accuracy.thresholds))
        dashed = " Dashed: the mean threshold of the folds."
    page.figure(
        plot_scores(result.scores, result.same, threshold),
        "Scores, each kind as shares of its own." + ("" if threshold is None else dashed),
    )
    add_thresholds(page, result.tar_at_far, measured.draws.tar)
    rows = []
    supported = [entry.target for entry in result.tar_at_far if entry.supported]
    if result.accuracy is not None and supported:
        of_folds = [validation_rate(result.scores, result.same, pairs.folds, f) for f in supported]
        words = "VAL: mean over folds, threshold linear on the others (FaceNet, InsightFace)"
        rows.append([words, *map(str, of_folds)])
    add_rules(page, result.curve, supported, rows)


def _records(models, rates):
    records = {}
    for name, each in models.items():
        result = each.result
        ends = {measure.name: pair_of(measure.ends) for measure in each.measures()}
        found = {"auc": ends["AUC"], "eer": ends["EER"]}
        of_threshold = {}
        if each.threshold is not None:
            of_threshold = {"accuracy": each.accuracy_at_threshold, "threshold": each.threshold}
        if result.accuracy is not None or of_threshold:
            found["accuracy"] = next(iter(ends.values()))
        found["tar_at_far"] = [pair_of(measure.ends) for measure in each.tars()]
        records[name] = {
            **of_threshold,
            **result.to_dict(),
            "intervals": found,
            "conventions": rules_record(result.curve, [e.target for e in result.tar_at_far]),
            "groups": {found.name: found.to_dict() for found in rates[name]},
        }
    return records
