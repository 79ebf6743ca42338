"""The report of every pair of a set of faces, for any number of pairs."""

import dataclasses
from pathlib import Path

import numpy as np

from keras_facemargin.evaluate import interval, verify_all_pairs
from keras_facemargin.evaluate.at_scale import (
    BINS_PER_UNIT,
    TAIL,
    HardestPairs,
    PairRates,
    hardest_pairs,
)
from keras_facemargin.evaluate.plots import plot_score_histogram
from keras_facemargin.evaluate.uncertainty import Bootstrap, bootstrap_hardest, rates_by_two_groups
from keras_facemargin.evaluate.verification import threshold_at_far
from keras_facemargin.report.groups import DECIDING, GroupRates, add_groups
from keras_facemargin.report.hardest import add_hardest, add_hardest_names, hardest_shown
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
from keras_facemargin.report.verification import add_curves

# What curves of a `ScoreHistogram` are.
OF_BINS = f"of counts of all pairs in bins of 1/{BINS_PER_UNIT:,} of the score; tables are exact"


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredSet:
    """One embedder on every pair of the set.

    Attributes:
        rates: a `PairRates`.
        pairs: a `HardestPairs`.
        draws: a `Bootstrap`.
    """

    rates: PairRates
    pairs: HardestPairs
    draws: Bootstrap

    def measures(self):
        """A `Measure` for each number."""
        yield Measure("AUC", self.rates.histogram.curve().area(), self.draws.auc)
        yield Measure("EER", self.rates.eer, self.draws.eer)
        yield from tar_measures(self.rates.tar_at_far, self.draws)


def report_all_pairs(
    output,
    title,
    embeddings,
    labels,
    images=None,
    about=(),
    groups=None,
    replicates=1_000,
    seed=0,
    progress=True,
) -> dict[str, MeasuredSet]:
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
        A dict of embedder's name -> `MeasuredSet`.

    Raises:
        ValueError: if `output` is no ``*.html`` or there is no embedder, or as `verify_all_pairs`,
            `bootstrap` and `rates_by_two_groups`.
        ImportError: if matplotlib is missing.
        OSError: if a file cannot be written, or an image of the hardest pairs cannot be read.

    Example:
        >>> labels = np.repeat(np.arange(20), 3)
        >>> rows = np.random.default_rng(0).normal(size=(60, 8)) + np.eye(20, 8)[labels]
        >>> found = report_all_pairs("set.html", "A set", {"ours": rows}, labels, replicates=20,
        ...                          progress=False)
        >>> found["ours"].rates.impostors, found["ours"].draws.units
        (1710, 20)
    """
    output = page_file(output)
    require_embedders(embeddings, "embeddings")
    models, rates = {}, {}
    for name, rows in embeddings.items():
        found = verify_all_pairs(rows, labels, progress=progress)
        pairs = hardest_pairs(rows, labels, TAIL, progress, found.histogram)
        fars = [entry.target for entry in found.tar_at_far]
        draws = bootstrap_hardest(pairs, fars, replicates, seed, progress)
        models[name] = MeasuredSet(found, pairs, draws)
        rates[name] = [
            _group_rates(column, models[name], of_images, replicates, seed)
            for column, of_images in (groups or {}).items()
        ]
    hardest = {name: hardest_shown(each.pairs, images) for name, each in models.items()}
    _write_page(output, title, about, models, rates, hardest)
    intervals = draws_record(next(iter(models.values())).draws, seed)
    write_record(output, title, about, intervals, _records(models, rates, hardest))
    return models


def _group_rates(name, measured, groups, replicates, seed):
    """Errors by group at the lowest FAR that enough impostor pairs decide."""
    rates, pairs = measured.rates, measured.pairs
    decided = [e for e in rates.tar_at_far if e.target * rates.impostors >= DECIDING]
    if decided:
        far, threshold = decided[-1].target, decided[-1].threshold
    else:  # of so few pairs all are held
        far, threshold = 0.5, threshold_at_far(pairs.scores[~pairs.same], 0.5)
    found = rates_by_two_groups(pairs, groups, threshold, replicates, seed)
    return GroupRates(name, far, threshold, found)


def _write_page(output, title, about, models, rates, hardest):
    page = Report(title)
    first = next(iter(models.values()))
    found, held = first.rates, np.count_nonzero(~first.pairs.same)
    page.paragraph(
        f"All pairs of {found.embeddings:,} images of {first.draws.units:,} people: "
        f"{found.genuines:,} genuine and {found.impostors:,} impostor pairs. In brackets: "
        f"{first.draws}; thresholds are chosen anew in each draw."
    )
    if held < found.impostors:
        page.paragraph(
            f"The genuine pairs and the {held:,} impostor pairs most alike are drawn one by one. "
            "Of the impostor pairs below it is counted how many each person has at each level of "
            "the score: intervals that they decide are of first order."
        )
    for text in about:
        page.paragraph(text)
    add_measures(
        page,
        models,
        "TAR at FAR: the largest TAR whose FAR does not exceed the target. It and the EER are "
        f"exact over every pair; the AUC and what other rules say are of counts in bins of "
        f"1/{BINS_PER_UNIT:,} of the score. "
        "An interval without width says that no pair showed the error, not that it cannot happen.",
    )
    curves = {name: each.rates.histogram.curve() for name, each in models.items()}
    add_curves(page, curves, {name: each.draws for name, each in models.items()}, OF_BINS)
    for name, each in models.items():
        page.heading(name if len(models) > 1 else "Scores and thresholds")
        page.figure(
            plot_score_histogram(each.rates.histogram), "Scores, each kind as shares of its own."
        )
        entries = each.rates.tar_at_far
        add_thresholds(page, entries, each.draws.tar, [entry.target for entry in entries])
        supported = [entry.target for entry in entries if entry.supported]
        add_rules(page, curves[name], supported)
        for groups in rates[name]:
            add_groups(
                *(page, groups),
                "A group's pairs have both images in it, those of a / b one in each.",
            )
        add = add_hardest if _at_hand(hardest[name][0]) else add_hardest_names
        add(page, *hardest[name])
    page.write(output)


def _at_hand(pairs):
    """Whether the images are there to be drawn: not names, not files that are gone."""
    return all(
        not isinstance(image, str) and (not isinstance(image, Path) or image.is_file())
        for image in (*pairs.first, *pairs.second)
    )


def _records(models, rates, hardest):
    records = {}
    for name, each in models.items():
        auc, eer, *tars = each.measures()
        found, fars = each.rates.to_dict(), [entry.target for entry in each.rates.tar_at_far]
        rules = rules_record(each.rates.histogram.curve(), fars)
        records[name] = {
            **found,
            "auc": auc.value,
            "intervals": {
                "auc": pair_of(auc.ends),
                "eer": pair_of(eer.ends),
                "tar_at_far": [pair_of(tar.ends) for tar in tars],
            },
            "curve": _curve_record(each),
            "conventions": {**rules, "conservative": found["tar_at_far"]},
            "groups": {groups.name: groups.to_dict() for groups in rates[name]},
            "hardest_pairs": _hardest_record(*hardest[name]),
        }
    return records


def _hardest_record(pairs, scores):
    return [
        {"same": same, "score": score, "first": str(first), "second": str(second)}
        for first, second, same, score in zip(
            *(pairs.first, pairs.second, pairs.same.tolist(), scores.tolist()), strict=True
        )
    ]


def _curve_record(measured):
    """The ROC of the bins, and its band, at the FARs of the band."""
    curve, draws = measured.rates.histogram.curve(), measured.draws
    ends = [interval(column) for column in draws.band.T]
    return {
        "far": draws.band_fars.tolist(),
        "tar": [curve.largest_tar(far) for far in draws.band_fars[:-1]] + [1.0],
        "low": [end.low for end in ends],
        "high": [end.high for end in ends],
    }
