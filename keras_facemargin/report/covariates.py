"""The report of a list of pairs value by value of a covariate: IJB-C's covariate protocol."""

import dataclasses

import numpy as np

from keras_facemargin.evaluate import Pairs, plot_roc, plot_scores
from keras_facemargin.evaluate.splits import verify_by_value
from keras_facemargin.evaluate.uncertainty import LEVEL
from keras_facemargin.report.groups import add_groups, group_rates
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
from keras_facemargin.report.verification import Measured, add_people, draws_of

# Values that are drawn, those with the most genuine pairs.
DRAWN = 6


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredValues:
    """One embedder on a list, value by value.

    Attributes:
        values: value -> `Measured`.
    """

    values: dict[str, Measured]

    def measures(self):
        """A `Measure` for each EER and each TAR at FAR that is supported, of each value."""
        for value, measured in self.values.items():
            for each in measured.measures():
                if each.value is not None and each.name != "AUC":
                    yield dataclasses.replace(each, name=f"{each.name}: {value}")


def report_covariates(
    output,
    title,
    pairs,
    covariate,
    scores,
    by="covariate",
    about=(),
    replicates=1_000,
    seed=0,
    progress=True,
) -> dict[str, MeasuredValues]:
    """Measures embedders on a list of pairs value by value and writes an HTML page and its JSON.

    Two questions, two answers: how hard the values are, each with a ROC and thresholds of its own,
    as IJB-C reports them; and what one threshold for everybody does to each, its FMR and FNMR with
    their ratios to all pairs.

    Args:
        output, title, scores, about, replicates, seed, progress: as `report_verification`.
        pairs: `Pairs`.
        covariate: texts, and ``(N,)`` which of them each pair has: `TemplatePairs.covariate`.
        by: the name of the covariate.

    Returns:
        A dict of embedder's name -> `MeasuredValues`, of the values with pairs of both kinds.

    Raises:
        ValueError, ImportError, OSError: as `report_verification` and `verify_by_value`.

    Example:
        >>> people = np.array([0, 1, 2, 0, 1, 2, 0]), np.array([0, 1, 2, 1, 2, 0, 2])
        >>> pairs = Pairs(None, None, people[0] == people[1], people=people)
        >>> scores = np.array([0.9, 0.8, 0.3, 0.7, 0.2, 0.1, 0.4])
        >>> found = report_covariates("age.html", "Two ages", pairs,
        ...                           (["old", "young"], np.array([0, 0, 1, 0, 1, 1, 1])),
        ...                           {"ours": scores}, "age", replicates=20, progress=False)
        >>> found["ours"].values["old"].result.eer
        0.0
    """
    output = page_file(output)
    require_embedders(scores)
    texts, numbers = list(map(str, covariate[0])), np.asarray(covariate[1])
    models, rates = {}, {}
    for name, values in scores.items():
        found = verify_by_value(values, pairs.same, texts, numbers).results
        models[name] = MeasuredValues(
            {
                text: Measured(
                    result,
                    draws_of(
                        result,
                        _part(pairs, numbers == texts.index(text)),
                        *(replicates, seed, progress),
                    ),
                )
                for text, result in found.items()
            }
        )
        rates[name] = group_rates(
            *(by, np.asarray(values), pairs.same, (texts, numbers), pairs.people),
            *(replicates, seed),
        )
    _write_page(output, title, by, about, pairs, scores, models, rates)
    first = next(iter(next(iter(models.values())).values.values()))
    record = {
        name: {
            "values": {value: one.result.to_dict() for value, one in each.values.items()},
            "intervals": intervals_record(each),
            "groups": {by: rates[name].to_dict()},
        }
        for name, each in models.items()
    }
    write_record(output, title, about, draws_record(first.draws, seed), record, by=by)
    return models


def _part(pairs, rows):
    """The pairs of one value, without their images."""
    people = None if pairs.people is None else tuple(side[rows] for side in pairs.people)
    return Pairs(None, None, pairs.same[rows], people=people)


def _write_page(output, title, by, about, pairs, scores, models, rates):
    page = Report(title)
    first = next(iter(next(iter(models.values())).values.values()))
    page.paragraph(
        f"{np.count_nonzero(pairs.same):,} genuine and {np.count_nonzero(~pairs.same):,} impostor "
        f"pairs, by {by}. In brackets: the middle {LEVEL:.0%} of {first.draws.replicates:,} draws "
        f"of the {first.draws.unit} of each value, with replacement."
    )
    add_people(page, first.draws, int(np.count_nonzero(pairs.failed_to_enrol)))
    for text in about:
        page.paragraph(text)
    for name, each in models.items():
        of = f": {name}" if len(models) > 1 else ""
        page.heading(f"How hard the values are{of}")
        _add_values(page, by, each)
        page.heading(f"One threshold for all{of}")
        add_groups(page, rates[name], "Pairs of two values stand by themselves.")
        page.figure(
            plot_scores(scores[name], pairs.same, rates[name].threshold),
            "Scores of all pairs, each kind as shares of its own. Dashed: that threshold.",
        )
        add_hardest(page, pairs, scores[name])
    if len(models) > 1:
        add_measures(page, models, "Each value at its own thresholds.")
    page.write(output)


def _add_values(page, by, measured):
    rows, fars = [], []
    for value, one in measured.values.items():
        result = one.result
        equal = Measure("EER", result.eer, one.draws.eer)
        tars = [str(each) if each.value is not None else "-" for each in one.tars()]
        rows.append([value, f"{result.genuines:,}", f"{result.impostors:,}", str(equal), *tars])
        fars += [entry.target for entry in result.tar_at_far if entry.supported]
    supported = sorted({*fars}, reverse=True)
    rows = [row[: 4 + len(supported)] for row in rows]
    page.table(
        (by, "Genuine pairs", "Impostor pairs", "EER", *(f"TAR @ {power(f)}" for f in supported)),
        rows,
        "Each value with thresholds of its own, which no system has. -: not supported by so few "
        "impostor pairs. Values without pairs of both kinds have no row.",
    )
    most = sorted(measured.values, key=lambda value: -measured.values[value].result.genuines)
    shown = [value for value in measured.values if value in most[:DRAWN]]
    page.figure(
        plot_roc(
            {value: measured.values[value].result.curve for value in shown},
            {value: measured.values[value].draws for value in shown},
        ),
        f"ROC of each {by}, at most {DRAWN}, those with the most genuine pairs. Shaded: the middle "
        f"{LEVEL:.0%} of the draws.",
    )
