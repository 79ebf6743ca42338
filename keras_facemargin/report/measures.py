"""Measures with intervals, side by side for several embedders, as text and as numbers."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate import uncertainty
from keras_facemargin.evaluate.identification import RANKS
from keras_facemargin.evaluate.splits import SplitResults
from keras_facemargin.evaluate.uncertainty import Bootstrap, Interval, SearchDraws
from keras_facemargin.evaluate.verification import TarAtFar, Verification
from keras_facemargin.report.page import Report


@dataclasses.dataclass(frozen=True, eq=False)
class Measure:
    """One measure of one embedder.

    Attributes:
        name: name of the measure.
        value: a share in [0, 1], or ``None`` if the data do not support it.
        replicates: float64 ``(B,)``, or ``None``; if one is NaN, the measure has no interval.
        text: text after the value, or instead of a value that is ``None``.
    """

    name: str
    value: float | None
    replicates: npt.NDArray[np.float64] | None = None
    text: str = ""

    @property
    def interval(self) -> Interval | None:
        """The interval, or ``None`` if there is none."""
        if self.value is None or self.replicates is None or not np.isfinite(self.replicates).all():
            return None
        return uncertainty.interval(self.replicates)

    def __str__(self) -> str:
        if self.value is None:
            return self.text
        ends = self.interval
        brackets = "" if ends is None else f" ({self._share(ends.low)} to {self._share(ends.high)})"
        return f"{self._share(self.value)}{self.text}{brackets}"

    def _share(self, value: float) -> str:
        return f"{value:.5f}" if self.name.startswith("AUC") else f"{value:.2%}"


def verification_measures(
    result: Verification, draws: Bootstrap, threshold: float | None = None
) -> Iterator[Measure]:
    """A `Measure` for each number of a `Verification`.

    Args:
        threshold: a threshold that was chosen on other pairs; its accuracy comes first.
    """
    if threshold is not None:
        correct = float(np.mean((result.scores >= threshold) == result.same))
        yield Measure("Accuracy", correct, draws.accuracy, f", threshold {threshold:.4f}")
    if result.accuracy is not None:
        accuracy = result.accuracy
        name, text = f"Accuracy, {len(accuracy.folds)}-fold", f" ± {accuracy.standard_error:.2%}"
        yield Measure(name, accuracy.mean, draws.accuracy, text)
    yield Measure("AUC", result.auc, draws.auc)
    yield Measure("EER", result.eer, draws.eer)
    yield from tar_measures(result.tar_at_far, draws.tar)


def tar_measures(
    entries: Iterable[TarAtFar], replicates: npt.NDArray[np.float64]
) -> Iterator[Measure]:
    """A `Measure` for each `TarAtFar`; replicates: ``(B, F)``, one column for each."""
    for entry, column in zip(entries, replicates.T, strict=True):
        text = "" if entry.supported else str(entry)
        yield Measure(f"TAR @ FAR {power(entry.target)}", entry.tar, column, text)


def split_measures(result: SplitResults, draws: Bootstrap) -> Iterator[Measure]:
    """A `Measure` for each mean over splits of a `Verification`."""
    replicates = {"AUC": draws.auc, "EER": draws.eer}
    for far, column in zip(draws.fars, draws.tar.T, strict=True):
        replicates[f"TAR @ FAR {far:.3g}"] = column
    return _means(result, replicates)


def search_measures(result: SplitResults, draws: SearchDraws) -> Iterator[Measure]:
    """A `Measure` for each mean over searches of an `Identification`."""
    replicates = {f"Rank-{rank}": draws.cmc[:, rank - 1] for rank in RANKS}
    for fpir, column in zip(draws.fpirs, draws.tpir.T, strict=True):
        replicates[f"TPIR @ FPIR {fpir:.3g}"] = column
    return _means(result, replicates)


def _means(
    result: SplitResults, replicates: Mapping[str, npt.NDArray[np.float64] | None]
) -> Iterator[Measure]:
    for name, values in result.measures().items():
        if isinstance(values, str):
            yield Measure(name, None, None, values)
            continue
        spread = f" ± {result.standard_deviation(name):.2%}" if len(values) > 1 else ""
        yield Measure(name, result.mean(name), replicates[name], spread)


def measures_table(
    models: Mapping[str, Iterable[Measure]],
) -> tuple[list[str], list[list[str]]]:
    """(headers, rows) of every measure of every embedder as text, with its interval.

    Args:
        models: dict of embedder's name -> its measures, the same ones for each.
    """
    columns = [list(measures) for measures in models.values()]
    rows = [[entries[0].name, *map(str, entries)] for entries in zip(*columns, strict=True)]
    return ["Measure", *models], rows


def add_measures(page: Report, models: Mapping[str, Iterable[Measure]], caption: str) -> None:
    """Adds the table of measures, and the differences of the other embedders from the first."""
    page.heading("Measures")
    headers, rows = measures_table(models)
    page.table(headers, rows, caption)
    base, *others = models
    differences = [
        row
        for name in others
        for one, other in zip(models[base], models[name], strict=True)
        if (row := _difference(name, one, other))
    ]
    if differences:
        page.heading(f"Differences from {base}")
        page.table(
            ("Measure", "Difference", "Interval excludes 0"),
            differences,
            "Each draw has the same people for every embedder, so chance that affects all "
            "embedders cancels. Without a true difference, about one interval in twenty still "
            "excludes 0.",
        )


def _difference(name: str, one: Measure, other: Measure) -> list[str] | None:
    if one.value is None or other.value is None:
        return None
    change, words = f"{other.value - one.value:+.2%}", f"{name}: {one.name}"
    if one.interval is None or other.interval is None:
        return [words, change, "-"]
    assert one.replicates is not None and other.replicates is not None
    found = uncertainty.interval(other.replicates - one.replicates)
    decided = "no" if found.low <= 0 <= found.high else "yes"
    return [words, f"{change} ({found.low:+.2%} to {found.high:+.2%})", decided]


def intervals_record(measures: Iterable[Measure]) -> dict[str, list[float] | None]:
    """Measure -> ends of its interval, for a JSON file."""
    return {each.name: ends_record(each.interval) for each in measures}


def ends_record(ends: Interval | None) -> list[float] | None:
    """[low, high], or ``None``."""
    return None if ends is None else [ends.low, ends.high]


def power(far: float) -> str:
    """The rate as a power of ten, as in 1e-3."""
    return f"{far:.0e}".replace("e-0", "e-")
