"""The threshold for each target FAR, and the errors at that threshold."""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.splits import SplitResults
from keras_facemargin.evaluate.verification import TarAtFar
from keras_facemargin.report.measures import Measure, power
from keras_facemargin.report.page import Report

# FARs of the table.
FARS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def add_thresholds(
    page: Report,
    entries: Sequence[TarAtFar],
    replicates: npt.NDArray[np.float64],
    fars: Collection[float] = FARS,
) -> None:
    """Adds a row for each `TarAtFar` whose target is in `fars`; replicates: ``(B, F)``."""
    rows = []
    for entry, column in zip(entries, replicates.T, strict=True):
        if entry.target not in fars:
            continue
        if entry.tar is None or entry.far is None:
            rows.append([power(entry.target), str(entry), *["-"] * 5])
            continue
        ends = Measure("TAR", entry.tar, column).interval
        rows.append(
            [
                power(entry.target),
                f"{entry.threshold:.4f}",
                f"{round(entry.far * entry.impostors):,}",
                f"{entry.far:.3g}",
                f"{entry.tar:.2%}",
                "-" if ends is None else str(ends),
                f"{entry.fnmr:.2%}",
            ]
        )
    page.table(
        ("FAR target", "Threshold", "Impostors accepted", "FAR", "TAR", "Interval", "FNMR"),
        rows,
        "A pair is accepted if its score is at least the threshold. Rely on a threshold only if it "
        "accepts about thirty impostor pairs or more; with fewer it depends on chance.",
    )


def add_split_thresholds(page: Report, result: SplitResults) -> None:
    """Adds the thresholds of the splits, and their TAR, for every FAR that all splits support."""
    measures, rows = result.measures(), []
    splits = list(result.results.items())
    columns = list(zip(*(each.tar_at_far for _, each in splits), strict=True))
    columns = [entries for entries in columns if entries[0].target in FARS]
    for entries in columns:
        target = entries[0].target
        if not all(entry.supported for entry in entries):
            rows.append([power(target), measures[f"TAR @ FAR {target:.3g}"], "-", "-"])
            continue
        thresholds, rates = ([getattr(e, name) for e in entries] for name in ("threshold", "tar"))
        spread = f" ± {np.std(thresholds, ddof=1):.4f}" if len(thresholds) > 1 else ""
        rows.append(
            [
                power(target),
                f"{np.mean(thresholds):.4f}{spread}",
                f"{min(thresholds):.4f} to {max(thresholds):.4f}",
                f"{min(rates):.2%} to {max(rates):.2%}",
            ]
        )
    page.table(
        (
            "FAR target",
            "Threshold, mean ± deviation",
            "Thresholds of the splits",
            "TAR of the splits",
        ),
        rows,
        "Each split has its own threshold; an application has only one. The range of the "
        "thresholds shows how much one threshold for all splits would cost.",
    )
