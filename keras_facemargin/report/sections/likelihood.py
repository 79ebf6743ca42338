"""The meaning of the scores: the cost of their likelihood ratios, with intervals over people."""

import dataclasses
from typing import Any

from keras_facemargin.evaluate.plots import plot_cross_entropy
from keras_facemargin.evaluate.uncertainty import Interval, bootstrap_cllr, interval
from keras_facemargin.evaluate.verification import Pairs, Verification
from keras_facemargin.report.draws import DRAWN_WHOLE, Resampling
from keras_facemargin.report.measures import ends_record
from keras_facemargin.report.page import Report


@dataclasses.dataclass(frozen=True)
class Costs:
    """Cllr and minCllr in bits, with intervals; ``None`` where they are not known."""

    cllr: float | None
    min_cllr: float
    cllr_interval: Interval | None
    min_cllr_interval: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """The intervals, for a JSON file."""
        return {
            "cllr": ends_record(self.cllr_interval),
            "min_cllr": ends_record(self.min_cllr_interval),
        }


def costs(result: Verification, pairs: Pairs, resampling: Resampling) -> Costs:
    """`Costs` of a list of pairs; a list of more than `DRAWN_WHOLE` pairs has no intervals."""
    ends: list[Interval | None] = [None, None]
    if len(pairs) <= DRAWN_WHOLE:
        draws = bootstrap_cllr(
            result.scores,
            result.same,
            ratios=result.ratios,
            people=pairs.people,
            replicates=resampling.replicates,
            seed=resampling.seed,
        )
        ends = [None if each is None else interval(each) for each in (draws.cllr, draws.min_cllr)]
    return Costs(result.cllr, result.min_cllr, *ends)


def add_likelihood(page: Report, result: Verification, found: Costs) -> None:
    """Adds the table of costs and, where the pairs have folds, the cross-entropy."""
    rows = [
        [
            "minCllr: the best map that keeps the order",
            *_cells(found.min_cllr, found.min_cllr_interval),
        ]
    ]
    if found.cllr is not None:
        rows.insert(
            0,
            [
                "Cllr: each fold by the logistic map of the other folds",
                *_cells(found.cllr, found.cllr_interval),
            ],
        )
    page.table(
        ("Cost of likelihood ratios", "Bits", "Interval"),
        rows,
        "A likelihood ratio says how many times as likely the score is for one person as for two. "
        "0 bits: it is always right and certain. 1 bit: it says nothing. Cllr - minCllr is the "
        "part that a better map would remove.",
    )
    if result.ratios is not None:
        page.figure(
            plot_cross_entropy(result.ratios, result.scores, result.same),
            "Empirical cross-entropy: the uncertainty that remains after the score, by the prior "
            "odds of one person against two. Dotted: without the score. Above the dotted line the "
            "ratios mislead. The cost at log10 odds 0 is Cllr.",
        )


def _cells(cost: float, ends: Interval | None) -> list[str]:
    return [f"{cost:.4f}", "-" if ends is None else f"{ends.low:.4f} to {ends.high:.4f}"]
