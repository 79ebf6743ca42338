"""Named bars: the FNMR at the FMR that published requirements name, met or missed."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_facemargin.bars import BARS, DECIDING, Bar
from keras_facemargin.evaluate.uncertainty import LEVEL
from keras_facemargin.evaluate.verification import TarAtFar
from keras_facemargin.report.measures import Measure
from keras_facemargin.report.page import Report

# A `TarAtFar` for each target, the `Measure` of its TAR, and the number of genuine pairs.
Rates = tuple[Sequence[TarAtFar], Sequence[Measure], int]


def add_bars(page: Report, models: Mapping[str, Rates]) -> None:
    """Adds a row for each named bar and a column for each embedder."""
    page.heading("Named bars")
    page.table(
        ("Bar", *models),
        [[bar.title, *(_judged(bar, rates) for rates in models.values())] for bar in BARS],
        "Met: the whole interval of the FNMR is below the bar, at the smallest threshold whose FMR "
        f"on these pairs is at most that of the bar. A bar needs {DECIDING} accepted impostor "
        "pairs. It is necessary, not sufficient: the requirements also ask for tests of the whole "
        f"system with its camera. Sources: {'; '.join(bar.source for bar in BARS)}.",
    )


def bars_record(rates: Rates) -> dict[str, dict[str, Any]]:
    """Bar -> its rates and the verdict, for a JSON file."""
    return {
        bar.name: {"fmr": bar.fmr, "fnmr": bar.fnmr, "verdict": _judged(bar, rates)} for bar in BARS
    }


def _judged(bar: Bar, rates: Rates) -> str:
    entries, measures, genuines = rates
    impostors = entries[0].impostors
    for entry, measure in zip(entries, measures, strict=True):
        if entry.target == bar.fmr:
            return bar.judge(entry.fnmr, _ends(entry, measure, genuines), impostors)
    return bar.judge(None, None, impostors)


def _ends(entry: TarAtFar, measure: Measure, genuines: int) -> tuple[float, float] | None:
    """The interval of the FNMR; without an error the exact binomial one, as `rates_by_group`."""
    if entry.fnmr == 0:
        return 0.0, 1 - ((1 - LEVEL) / 2) ** (1 / genuines)
    ends = measure.interval
    return None if ends is None else (1 - ends.high, 1 - ends.low)
