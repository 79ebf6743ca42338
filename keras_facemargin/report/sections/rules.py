"""TAR at FAR of the same scores by the rules of other published codes."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from keras_facemargin.evaluate.verification import RULES, Roc, TarAtFar
from keras_facemargin.report.measures import power
from keras_facemargin.report.page import Report

_NAMES = {
    "conservative": "conservative (this report): largest TAR with FAR at most the target",
    "nearest": "nearest ROC point (InsightFace, IJB)",
    "interpolated": "linear between ROC points (OpenSphere)",
    "kth_impostor": "k-th largest impostor (PFE, BLUFR)",
}


def add_rules(
    page: Report, curve: Roc, fars: Sequence[float], rows: Iterable[Sequence[str]] = ()
) -> None:
    """Adds a table of the TAR of a `Roc` by every rule.

    Args:
        fars: target FARs that the pairs support; if empty, no table is added.
        rows: further rows, a text and a cell for each FAR.
    """
    if not fars:
        return
    found = [
        [_NAMES[name], *(_cell(rule(curve, far)) for far in fars)] for name, rule in RULES.items()
    ]
    page.table(
        ("TAR by rule", *(f"FAR {power(far)}" for far in fars)),
        [*found, *rows],
        "The same scores, read by the rules of other published codes. Compare a number only with "
        "numbers of the same rule.",
    )


def rules_record(curve: Roc, fars: Iterable[float]) -> dict[str, list[dict[str, Any]]]:
    """Rule -> its TAR and threshold at each FAR, for a JSON file."""
    fars = list(fars)
    return {
        name: [dataclasses.asdict(rule(curve, far)) for far in fars] for name, rule in RULES.items()
    }


def _cell(entry: TarAtFar) -> str:
    assert entry.far is not None  # the FARs are supported
    return f"{entry.tar:.2%}" + (f", FAR {entry.far:.4g}" if entry.far > entry.target else "")
