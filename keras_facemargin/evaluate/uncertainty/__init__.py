"""Confidence intervals and error rates by group.

`resampling` draws people and measures 1:1 verification in every draw; `search_draws` does so for
1:N identification and `likelihood` for the cost of likelihood ratios. `groups` gives the error
rates of each group of people at one threshold.
"""

from keras_facemargin.evaluate.uncertainty.groups import (
    EveryGroup,
    Group,
    GroupRate,
    Spread,
    fmr_spread,
    rates_by_group,
    rates_by_two_groups,
    rates_by_value,
    read_groups,
    read_groups_of_images,
    threshold_for_every_group,
    threshold_for_every_group_of_set,
)
from keras_facemargin.evaluate.uncertainty.likelihood import CostDraws, bootstrap_cllr
from keras_facemargin.evaluate.uncertainty.resampling import (
    LEVEL,
    Bootstrap,
    Interval,
    bootstrap,
    bootstrap_hardest,
    bootstrap_hardest_splits,
    bootstrap_splits,
    interval,
)
from keras_facemargin.evaluate.uncertainty.search_draws import (
    DistractorDraws,
    SearchDraws,
    bootstrap_distractors,
    bootstrap_searches,
)

__all__ = [
    "LEVEL",
    "Bootstrap",
    "CostDraws",
    "DistractorDraws",
    "EveryGroup",
    "Group",
    "GroupRate",
    "Interval",
    "SearchDraws",
    "Spread",
    "bootstrap",
    "bootstrap_cllr",
    "bootstrap_distractors",
    "bootstrap_hardest",
    "bootstrap_hardest_splits",
    "bootstrap_searches",
    "bootstrap_splits",
    "fmr_spread",
    "interval",
    "rates_by_group",
    "rates_by_two_groups",
    "rates_by_value",
    "read_groups",
    "read_groups_of_images",
    "threshold_for_every_group",
    "threshold_for_every_group_of_set",
]
