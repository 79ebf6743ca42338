"""ROC and DET curves of all embedders, with bands."""

from collections.abc import Mapping
from typing import Any

from keras_facemargin.evaluate.at_scale import BINS_PER_UNIT
from keras_facemargin.evaluate.plots import plot_det, plot_roc
from keras_facemargin.evaluate.uncertainty import LEVEL
from keras_facemargin.report.page import Report

# How exact the curves of a `ScoreHistogram` are.
OF_BINS = f"from counts of all pairs in score bins of 1/{BINS_PER_UNIT:,}; the tables are exact"

# The lines that `plot_roc` draws for several splits.
SPLIT_LINES = "Thick line: the mean over the splits. Thin lines: each split."


def add_curves(
    page: Report,
    curves: Mapping[str, Any],
    bands: Mapping[str, Any],
    exactness: str = "exact at every score",
) -> None:
    """Adds the ROC and DET curves of all embedders.

    Args:
        curves, bands: as `plot_roc` takes them.
        exactness: how exact the curves are.
    """
    page.heading("Curves")
    middle = f"Shaded: the middle {LEVEL:.0%} of the draws at each FAR, where known."
    if any(isinstance(each, list) and len(each) > 1 for each in curves.values()):
        middle = f"{SPLIT_LINES} {middle}"
    page.figure(plot_roc(curves, bands=bands), f"ROC, {exactness}. {middle}")
    page.figure(
        plot_det(curves, bands=bands), f"DET: the same errors on two logarithmic axes. {middle}"
    )
