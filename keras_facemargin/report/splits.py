"""The report of a 1:1 protocol in splits, each with thresholds of its own: IJB-A."""

import dataclasses

import numpy as np

from keras_facemargin.evaluate import plot_scores
from keras_facemargin.evaluate.splits import SplitResults, verify_by_fold
from keras_facemargin.evaluate.uncertainty import Bootstrap, bootstrap_splits
from keras_facemargin.report.groups import add_groups, rates_by_column
from keras_facemargin.report.hardest import add_hardest
from keras_facemargin.report.measures import (
    Measure,
    add_measures,
    draws_record,
    intervals_record,
    page_file,
    power,
    require_embedders,
    write_record,
)
from keras_facemargin.report.page import Report
from keras_facemargin.report.thresholds import FARS
from keras_facemargin.report.verification import add_curves, add_people


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredSplits:
    """One embedder on the splits.

    Attributes:
        result: a `SplitResults` of a `Verification` for each.
        draws: a `Bootstrap` of the means.
    """

    result: SplitResults
    draws: Bootstrap

    def measures(self):
        """A `Measure` for each mean of the result."""
        tars = zip(self.draws.fars, self.draws.tar.T, strict=True)
        drawn = {"AUC": self.draws.auc, "EER": self.draws.eer}
        drawn |= {f"TAR @ FAR {far:.3g}": values for far, values in tars}
        for name, values in self.result.measures().items():
            yield mean_measure(self.result, name, values, drawn[name])


def mean_measure(result, name, values, drawn):
    """The `Measure` of a mean over splits; values as `SplitResults.measures` has them."""
    if isinstance(values, str):
        return Measure(name, None, None, values)
    spread = f" ± {result.standard_deviation(name):.2%}" if len(values) > 1 else ""
    return Measure(name, result.mean(name), drawn, spread)


def report_splits(
    output,
    title,
    pairs,
    scores,
    about=(),
    groups=None,
    replicates=1_000,
    seed=0,
    progress=True,
) -> dict[str, MeasuredSplits]:
    """Measures embedders on the splits of a list of pairs and writes an HTML page and its JSON.

    Every measure is the mean over the splits ± their standard deviation, as the protocol reports
    it, with an interval over resampled people, who are drawn for all splits at once. Curves are
    means too. The JSON holds each split's own result.

    Args:
        output, title, scores, about, groups, replicates, seed, progress: as `report_verification`.
        pairs: `Pairs` whose `folds` are the splits.

    Returns:
        A dict of embedder's name -> `MeasuredSplits`.

    Raises:
        ValueError, ImportError, OSError: as `report_verification` and `verify_by_fold`.

    Example:
        >>> from keras_facemargin.evaluate import Pairs
        >>> people = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 1, 2, 1, 2, 0])
        >>> pairs = Pairs(None, None, people[0] == people[1], np.ones(6, int), people=people)
        >>> scores = np.array([0.9, 0.8, 0.3, 0.7, 0.2, 0.1])
        >>> found = report_splits("splits.html", "One split", pairs, {"ours": scores},
        ...                       replicates=20, progress=False)
        >>> round(found["ours"].result.mean("EER"), 2)
        0.33
    """
    output = page_file(output)
    require_embedders(scores)
    failed_to_enrol = int(np.count_nonzero(pairs.failed_to_enrol))
    models, rates = {}, {}
    for name, values in scores.items():
        result = verify_by_fold(values, pairs.same, pairs.folds)
        draws = bootstrap_splits(
            *(values, pairs.same, pairs.folds, pairs.people),
            replicates=replicates,
            seed=seed,
            progress=progress,
        )
        models[name] = MeasuredSplits(
            dataclasses.replace(result, failed_to_enrol=failed_to_enrol), draws
        )
        rates[name] = rates_by_column(groups, np.asarray(values), pairs, replicates, seed)
    _write_page(output, title, about, pairs, scores, models, rates)
    first = next(iter(models.values()))
    record = {
        name: {
            **each.result.to_dict(),
            "intervals": intervals_record(each),
            "groups": {found.name: found.to_dict() for found in rates[name]},
        }
        for name, each in models.items()
    }
    write_record(output, title, about, draws_record(first.draws, seed), record)
    return models


def _write_page(output, title, about, pairs, scores, models, rates):
    page = Report(title)
    first = next(iter(models.values()))
    count = len(first.result.results)
    page.paragraph(
        f"{count} splits, in all {np.count_nonzero(pairs.same):,} genuine and "
        f"{np.count_nonzero(~pairs.same):,} impostor pairs. In brackets: {first.draws}; thresholds "
        "are chosen anew in each draw and split."
    )
    add_people(page, first.draws, first.result.failed_to_enrol)
    for text in about:
        page.paragraph(text)
    add_measures(
        page,
        models,
        "Mean over the splits ± their standard deviation, each split at its own thresholds. TAR at "
        "FAR: the largest TAR whose FAR does not exceed the target.",
    )
    add_curves(
        page,
        {name: [r.curve for r in each.result.results.values()] for name, each in models.items()},
        {name: each.draws for name, each in models.items()},
    )
    for name, each in models.items():
        page.heading(name if len(models) > 1 else "Scores and thresholds")
        page.figure(
            plot_scores(scores[name], pairs.same),
            "Scores of all splits, each kind as shares of its own.",
        )
        add_split_thresholds(page, each.result)
        for found in rates[name]:
            add_groups(page, found)
        add_hardest(page, pairs, scores[name])
    page.write(output)


def add_split_thresholds(page, result):
    """Each split's threshold and what it costs, for every FAR that all splits support."""
    measures, rows = result.measures(), []
    splits = list(result.results.items())
    columns = list(zip(*(each.tar_at_far for _, each in splits), strict=True))
    columns = [entries for entries in columns if entries[0].target in FARS]
    for entries in columns:
        target = entries[0].target
        if not all(entry.supported for entry in entries):
            rows.append([power(target), measures[f"TAR @ FAR {target:.3g}"], "-", "-"])
            continue
        thresholds, rates = ([getattr(e, name) for e in entries] for name in ("threshold", "tar"))
        spread = f" ± {np.std(thresholds, ddof=1):.4f}" if len(thresholds) > 1 else ""
        rows.append(
            [
                power(target),
                f"{np.mean(thresholds):.4f}{spread}",
                f"{min(thresholds):.4f} to {max(thresholds):.4f}",
                f"{min(rates):.2%} to {max(rates):.2%}",
            ]
        )
    page.table(
        ("FAR target", "Threshold, mean ± deviation", "of the splits", "TAR of the splits"),
        rows,
        "Each split has a threshold of its own, which an application would not have: how far they "
        "lie apart says what one for all costs.",
    )
