"""ROC and DET curves of all embedders, with bands."""

from collections.abc import Mapping
from typing import Any

from keras_facemargin.evaluate.at_scale import BINS_PER_UNIT
from keras_facemargin.evaluate.plots import plot_det, plot_roc
from keras_facemargin.evaluate.uncertainty import LEVEL
from keras_facemargin.report.page import Report

# What curves of a `ScoreHistogram` are.
OF_BINS = f"of counts of all pairs in bins of 1/{BINS_PER_UNIT:,} of the score; tables are exact"

# What `plot_roc` draws of several splits.
SPLIT_LINES = "Thick: the mean over the splits; thin: each of them."


def add_curves(
    page: Report,
    curves: Mapping[str, Any],
    bands: Mapping[str, Any],
    exactness: str = "exact at every score",
) -> None:
    """ROC and DET of all embedders.

    Args:
        curves, bands: as `plot_roc` takes them.
        exactness: how exact the curves are.
    """
    page.heading("Curves")
    middle = f"Shaded: the middle {LEVEL:.0%} of the draws at each FAR, where they are known."
    if any(isinstance(each, list) and len(each) > 1 for each in curves.values()):
        middle = f"{SPLIT_LINES} {middle}"
    page.figure(plot_roc(curves, bands=bands), f"ROC, {exactness}. {middle}")
    page.figure(plot_det(curves, bands=bands), f"DET: the same errors, both logarithmic. {middle}")
