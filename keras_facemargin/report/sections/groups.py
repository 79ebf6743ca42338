"""Errors by group at one threshold for all groups."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.plots import plot_groups
from keras_facemargin.evaluate.uncertainty import (
    Group,
    GroupRate,
    Spread,
    fmr_spread,
    rates_by_group,
    rates_by_value,
)
from keras_facemargin.evaluate.verification import Pairs, threshold_at_far
from keras_facemargin.report.draws import Resampling
from keras_facemargin.report.page import Report
from keras_facemargin.report.sections.thresholds import FARS

# Groups are compared at the lowest FAR that this many impostor pairs decide: with fewer, the rates
# of a group depend on chance.
DECIDING = 30


@dataclasses.dataclass(frozen=True)
class GroupRates:
    """One way to form groups.

    Attributes:
        name: name of the grouping.
        far: target FAR of the threshold, over all pairs.
        threshold: the same for every group.
        rates: errors of each group there, from `rates_by_group` or `rates_by_value`.
    """

    name: str
    far: float
    threshold: float
    rates: tuple[Group, ...]

    @property
    def spread(self) -> Spread | None:
        """How much the FMR differs between the groups that have enough pairs."""
        return fmr_spread(self.rates)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for a JSON file."""
        return {
            "far": self.far,
            "threshold": self.threshold,
            "groups": [dataclasses.asdict(group) for group in self.rates],
            "fmr_spread": None if self.spread is None else dataclasses.asdict(self.spread),
        }


def group_rates(
    columns: Mapping[str, Any] | None,
    scores: npt.NDArray[np.float64],
    pairs: Pairs,
    resampling: Resampling,
) -> tuple[GroupRates, ...]:
    """`GroupRates` of `Pairs` for each column of groups; columns: as `read_groups`, or ``None``."""

    def rates(sides: Any) -> Callable[[float], tuple[Group, ...]]:
        return lambda threshold: rates_by_group(
            scores,
            pairs.same,
            sides,
            threshold=threshold,
            people=pairs.people,
            replicates=resampling.replicates,
            seed=resampling.seed,
        )

    return tuple(
        _at_a_supported_far(name, scores[~pairs.same], rates(sides))
        for name, sides in (columns or {}).items()
    )


def value_rates(
    name: str,
    scores: npt.NDArray[np.float64],
    pairs: Pairs,
    covariate: tuple[list[str], npt.NDArray[Any]],
    resampling: Resampling,
) -> GroupRates:
    """`GroupRates` of a covariate: its values, and ``(N,)`` the number of each pair's value."""
    return _at_a_supported_far(
        name,
        scores[~pairs.same],
        lambda threshold: rates_by_value(
            scores,
            pairs.same,
            covariate,
            threshold=threshold,
            people=pairs.people,
            replicates=resampling.replicates,
            seed=resampling.seed,
        ),
    )


def _at_a_supported_far(
    name: str,
    impostors: npt.NDArray[np.float64],
    rates: Callable[[float], tuple[Group, ...]],
) -> GroupRates:
    targets = [far for far in (1e-1, *FARS) if far * len(impostors) >= DECIDING]
    far = min(targets, default=0.5)
    threshold = threshold_at_far(impostors, far)
    return GroupRates(name, far, threshold, rates(threshold))


def add_groups(
    page: Report, found: GroupRates, members: str = "Both images of a pair are in the group."
) -> None:
    """Adds a table and a figure of `GroupRates`; members: which pairs belong to a group."""
    rows = [
        [
            group.name,
            *(cell for rate in (group.fmr, group.fnmr) for cell in (str(rate), _ratio(rate))),
        ]
        for group in found.rates
    ]
    page.table(
        (found.name, "FMR", "Ratio to all", "FNMR", "Ratio to all"),
        rows,
        f"Errors by {found.name} at one threshold for all groups, {found.threshold:.4f}: FAR "
        f"{found.far:g} over all pairs. FMR: impostor pairs accepted; FNMR: genuine pairs "
        f"rejected. {members}",
    )
    spread = "" if found.spread is None else f" Spread of the FMR: {found.spread}."
    caption = f"Errors by {found.name}, with intervals as bars. Dashed: all pairs.{spread}"
    page.figure(plot_groups(found.rates), caption)


def _ratio(rate: GroupRate) -> str:
    ends = rate.ratio_interval
    if ends is None or ends.low == ends.high == 1:  # the row of all pairs
        return "-"
    return f"{rate.ratio:.2f} x ({ends.low:.2f} to {ends.high:.2f})"
