"""Measures of several embedders side by side, each with its interval, as text and as numbers."""

import dataclasses
from pathlib import Path

import numpy as np

from keras_facemargin.evaluate import interval
from keras_facemargin.evaluate.plots import require_matplotlib
from keras_facemargin.evaluate.uncertainty import LEVEL, Interval
from keras_facemargin.files import check_writable, write_json


@dataclasses.dataclass(frozen=True, eq=False)
class Measure:
    """One measure of one embedder.

    Attributes:
        name: of the measure.
        value: in [0, 1], or ``None`` if the data do not support it.
        drawn: its replicates ``(B,)``, or ``None``; with a NaN among them no interval is known.
        said: what stands beside the value, or instead of it.
    """

    name: str
    value: float | None
    drawn: np.ndarray | None = None
    said: str = ""

    @property
    def ends(self) -> Interval | None:
        """Its interval, or ``None`` where there is none."""
        if self.value is None or self.drawn is None or not np.isfinite(self.drawn).all():
            return None
        return interval(self.drawn)

    def __str__(self):
        if self.value is None:
            return self.said
        ends = self.ends
        told = "" if ends is None else f" ({self._text(ends.low)} to {self._text(ends.high)})"
        return f"{self._text(self.value)}{self.said}{told}"

    def _text(self, value):
        return f"{value:.5f}" if self.name.startswith("AUC") else f"{value:.2%}"


def tar_measures(entries, draws):
    """A `Measure` for each `TarAtFar` of a result, drawn by a `Bootstrap` at the same rates."""
    for entry, drawn in zip(entries, draws.tar.T, strict=True):
        said = "" if entry.supported else str(entry)
        yield Measure(f"TAR @ FAR {power(entry.target)}", entry.tar, drawn, said)


def measures_table(models):
    """(headers, rows) of every measure of every embedder as text, with its interval.

    Args:
        models: dict of embedder's name -> what was measured, whose `measures()` are the same ones
            for each.
    """
    columns = [list(measured.measures()) for measured in models.values()]
    rows = [[entries[0].name, *map(str, entries)] for entries in zip(*columns, strict=True)]
    return ["Measure", *models], rows


def add_measures(page, models, caption):
    """The table of all measures and, of several embedders, their differences from the first."""
    page.heading("Measures")
    headers, rows = measures_table(models)
    page.table(headers, rows, caption)
    base, *others = models
    rows = [
        row
        for name in others
        for one, other in zip(models[base].measures(), models[name].measures(), strict=True)
        if (row := _difference(name, one, other))
    ]
    if rows:
        page.heading(f"Differences from {base}")
        page.table(
            ("Measure", "Difference", "Interval excludes 0"),
            rows,
            "The same people were drawn for every embedder, so luck that they share cancels. Of "
            "twenty differences that are none, one interval may exclude 0.",
        )


def _difference(name, one, other):
    if one.value is None or other.value is None:
        return None
    change, words = f"{other.value - one.value:+.2%}", f"{name}: {one.name}"
    if one.ends is None or other.ends is None:
        return [words, change, "-"]
    found = interval(other.drawn - one.drawn)
    decided = "no" if found.low <= 0 <= found.high else "yes"
    return [words, f"{change} ({found.low:+.2%} to {found.high:+.2%})", decided]


def intervals_record(measured):
    """Name -> the ends of the interval of each measure, for a JSON file."""
    return {each.name: pair_of(each.ends) for each in measured.measures()}


def write_record(output, title, about, intervals, models, **said):
    """The JSON beside a page.

    Args:
        output: the page.
        title, about: of it.
        intervals: how they were found, a `draws_record`.
        models: embedder's name -> what was measured, plain numbers.
        **said: what else is told of all embedders.
    """
    record = {"title": title, "about": list(about), **said, "intervals": intervals}
    write_json(output.with_suffix(".json"), {**record, "models": models})


def draws_record(draws, seed):
    """The method of the intervals, for a JSON file."""
    return {
        "level": LEVEL,
        "resampled": draws.unit,
        "units": draws.units,
        "replicates": draws.replicates,
        "seed": seed,
    }


def pair_of(ends):
    """[low, high], or ``None``."""
    return None if ends is None else [ends.low, ends.high]


def power(far):
    """1e-3, as the field writes it."""
    return f"{far:.0e}".replace("e-0", "e-")


def page_file(output) -> Path:
    """The page to write, if it and its JSON can be written and its figures drawn.

    Raises:
        ValueError: if it is not ``*.html``.
        ImportError: if matplotlib is missing.
        OSError: if one of the two files cannot be written.
    """
    output = Path(output)
    if output.suffix != ".html":
        raise ValueError(f"`output` must be a file *.html. Received: {output}")
    require_matplotlib()
    for file in (output, output.with_suffix(".json")):
        check_writable(file)
    return output


def require_embedders(models, argument="scores"):
    """Refuses a report without an embedder."""
    if not models:
        raise ValueError(
            f"`{argument}` must hold at least one embedder's name -> {argument}. Received: none."
        )
