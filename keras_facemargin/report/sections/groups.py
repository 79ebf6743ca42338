"""Errors by group at one threshold for all groups."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.bars import DECIDING
from keras_facemargin.evaluate.plots import plot_groups
from keras_facemargin.evaluate.uncertainty import (
    EveryGroup,
    Group,
    GroupRate,
    Spread,
    fmr_spread,
    rates_by_group,
    rates_by_value,
    threshold_for_every_group,
)
from keras_facemargin.evaluate.verification import Pairs, threshold_at_far
from keras_facemargin.report.draws import Resampling
from keras_facemargin.report.measures import power
from keras_facemargin.report.page import Report
from keras_facemargin.report.sections.thresholds import FARS


@dataclasses.dataclass(frozen=True)
class GroupRates:
    """One way to form groups.

    Attributes:
        name: name of the grouping.
        far: target FAR of the threshold, over all pairs.
        threshold: the same for every group.
        rates: errors of each group there, from `rates_by_group` or `rates_by_value`.
        held: for each FAR that at least two groups decide, the threshold that holds it in every
            group; empty for the values of a covariate.
    """

    name: str
    far: float
    threshold: float
    rates: tuple[Group, ...]
    held: tuple[EveryGroup, ...] = ()

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
            "thresholds_for_every_group": [
                dataclasses.asdict(each) | {"cost": each.cost} for each in self.held
            ],
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

    def hold(sides: Any) -> Callable[[float], EveryGroup]:
        return lambda far: threshold_for_every_group(scores, pairs.same, sides, far=far)

    impostors = scores[~pairs.same]
    return tuple(
        dataclasses.replace(
            _at_a_supported_far(name, impostors, rates(sides)),
            held=held_in_every_group(
                hold(sides), len(np.unique(sides)), len(impostors), len(impostors)
            ),
        )
        for name, sides in (columns or {}).items()
    )


def held_in_every_group(
    hold: Callable[[float], EveryGroup], groups: int, impostors: int, kept: int
) -> tuple[EveryGroup, ...]:
    """The thresholds for the FARs that at least two groups decide, from the highest FAR.

    Args:
        hold: gives the threshold for a FAR.
        groups: number of groups.
        impostors: number of impostor pairs.
        kept: number of the highest of them that `hold` has.
    """
    fars = [far for far in (1e-1, *FARS) if DECIDING <= far * impostors < kept]
    found = (hold(far) for far in fars)
    return tuple(each for each in found if len(each.left_out) <= groups - 2)


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
    if found.held:
        page.table(
            (
                *("FAR", "Threshold over all pairs", "TAR", "Threshold that holds in every group"),
                *("TAR", "Decided by", "Groups with too few pairs"),
            ),
            [
                [
                    power(each.far),
                    f"{each.single:.4f}",
                    f"{each.single_tar:.2%}",
                    f"{each.threshold:.4f}",
                    f"{each.tar:.2%}",
                    each.group,
                    ", ".join(each.left_out) or "-",
                ]
                for each in found.held
            ],
            f"One threshold that holds the FAR in every group by {found.name}, and what it costs: "
            "the TAR of all genuine pairs at it and at the threshold that holds the FAR only over "
            f"all pairs. A group counts if {DECIDING} of its impostor pairs may be accepted.",
        )


def _ratio(rate: GroupRate) -> str:
    ends = rate.ratio_interval
    if ends is None or ends.low == ends.high == 1:  # the row of all pairs
        return "-"
    return f"{rate.ratio:.2f} x ({ends.low:.2f} to {ends.high:.2f})"
