"""The threshold for each false accept rate, and what it costs."""

from keras_facemargin.report.measures import Measure, power

# FARs of the table.
FARS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def add_thresholds(page, entries, drawn, fars=FARS):
    """A row for each `TarAtFar` of `fars`; drawn: their replicates, ``(B, F)``."""
    rows = []
    for entry, values in zip(entries, drawn.T, strict=True):
        if entry.target not in fars:
            continue
        if not entry.supported:
            rows.append([power(entry.target), str(entry), *["-"] * 5])
            continue
        ends = Measure("TAR", entry.tar, values).ends
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
        "Pairs are accepted from the threshold on. Few accepted impostors make a threshold of "
        "chance: some thirty are needed before it can be relied on.",
    )
