"""Errors by group at one threshold for all groups."""

import dataclasses

from keras_facemargin.evaluate import rates_by_group
from keras_facemargin.evaluate.plots import plot_groups
from keras_facemargin.evaluate.uncertainty import Group, rates_by_value
from keras_facemargin.evaluate.verification import threshold_at_far
from keras_facemargin.report.thresholds import FARS

# Groups are compared at the lowest FAR that as many impostor pairs decide: with fewer the rates of
# a group are chance.
DECIDING = 30


@dataclasses.dataclass(frozen=True)
class GroupRates:
    """One way to form groups.

    Attributes:
        name: of it.
        far: target of the threshold, over all pairs.
        threshold: for everybody.
        rates: what `rates_by_group` or `rates_by_value` found there.
    """

    name: str
    far: float
    threshold: float
    rates: tuple[Group, ...]

    def to_dict(self) -> dict:
        """Plain numbers for a JSON file."""
        return {
            "far": self.far,
            "threshold": self.threshold,
            "groups": [dataclasses.asdict(group) for group in self.rates],
        }


def group_rates(name, scores, same, groups, people, replicates, seed, rates=rates_by_value):
    """The rates of groups of pairs; groups: as `rates` takes them."""
    impostors = scores[~same]
    targets = [far for far in (1e-1, *FARS) if far * len(impostors) >= DECIDING]
    far = min(targets, default=0.5)
    threshold = threshold_at_far(impostors, far)
    found = rates(scores, same, *groups, threshold, people, replicates, seed)
    return GroupRates(name, far, threshold, found)


def rates_by_column(columns, scores, pairs, replicates, seed):
    """`GroupRates` of `Pairs` for each column of groups; columns: as `read_groups`, or none."""
    return [
        group_rates(
            *(name, scores, pairs.same, [sides], pairs.people),
            *(replicates, seed, rates_by_group),
        )
        for name, sides in (columns or {}).items()
    ]


def add_groups(page, found, members="A group's pairs have both images in it."):
    """A table and a figure of `GroupRates`."""
    rows = [
        [
            group.name,
            *(cell for rate in (group.fmr, group.fnmr) for cell in (str(rate), _ratio(rate))),
        ]
        for group in found.rates
    ]
    page.table(
        (found.name, "FMR", "of all", "FNMR", "of all"),
        rows,
        f"Errors by {found.name} at one threshold for everybody, {found.threshold:.4f}, which is "
        f"at FAR {found.far:g} over all pairs: impostor pairs accepted and genuine pairs rejected. "
        + members,
    )
    caption = f"Errors by {found.name}. Bars: intervals. Dashed: all pairs."
    page.figure(plot_groups(found.rates), caption)


def _ratio(rate):
    ends = rate.ratio_interval
    if ends is None or ends.low == ends.high == 1:  # all pairs, to themselves
        return "-"
    return f"{rate.ratio:.2f} x ({ends.low:.2f} to {ends.high:.2f})"
