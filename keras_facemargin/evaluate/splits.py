"""Measures on several splits of a protocol: their means and standard deviations."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import identifiers
from keras_facemargin.evaluate.measures import Measures
from keras_facemargin.evaluate.verification.curve import checked_truth, finite_vector
from keras_facemargin.evaluate.verification.verification import Verification, verify


@dataclasses.dataclass(frozen=True, eq=False)
class SplitResults(Measures):
    """The results of the splits of a protocol, each with its own thresholds.

    Attributes:
        results: name of the split -> `Verification`, `PairRates` or `Identification`.
        failed_to_enrol: number of probes or pairs that count as errors or as rejected because one
            of their templates has no image.
    """

    results: dict[Any, Any]
    failed_to_enrol: int = 0

    def measures(self) -> dict[str, tuple[float, ...] | str]:
        """Measure -> its value on each split, or the reason why there is none."""
        columns = [_measures(result) for result in self.results.values()]
        found: dict[str, tuple[float, ...] | str] = {}
        for name in columns[0]:
            values = [column[name] for column in columns]
            numbers = tuple(value for value in values if not isinstance(value, str))
            reasons = [value for value in values if isinstance(value, str)]
            found[name] = reasons[0] if reasons else numbers
        return found

    def mean(self, measure: str) -> float:
        """The mean over the splits.

        Raises:
            ValueError: if a split does not support it.
        """
        return float(np.mean(self._values(measure)))

    def standard_deviation(self, measure: str) -> float:
        """The sample standard deviation (ddof = 1) over the splits; NaN for a single one.

        Raises:
            ValueError: as `mean`.
        """
        values = self._values(measure)
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for a JSON file."""
        return {
            "splits": {str(name): result.to_dict() for name, result in self.results.items()},
            "mean": self._over_splits(self.mean),
            "standard_deviation": (
                self._over_splits(self.standard_deviation) if len(self.results) > 1 else None
            ),
            "failed_to_enrol": self.failed_to_enrol,
        }

    def rows(self) -> list[tuple[str, str]]:
        """(measure, value) as text, for a table."""
        many = len(self.results) > 1
        rows = []
        for name, values in self.measures().items():
            if isinstance(values, str):
                rows.append((name, values))
                continue
            spread = f" ± {self.standard_deviation(name):.2%}" if many else ""
            rows.append((name, f"{self.mean(name):.2%}{spread}"))
        splits = ", ".join(map(str, self.results))
        rows.append(("Splits (mean ± standard deviation)" if many else "Split", splits))
        last = next(reversed(self.results.values())).rows()[-1]
        rows.append((f"{last[0]}, of the last split" if many else last[0], last[1]))
        if self.failed_to_enrol:
            rows.append(("With a template without an image", f"{self.failed_to_enrol:,}"))
        return rows

    def _values(self, measure: str) -> tuple[float, ...]:
        measures = self.measures()
        values = measures.get(measure)
        if values is None or isinstance(values, str):
            supported = [name for name, value in measures.items() if not isinstance(value, str)]
            raise ValueError(
                f"`measure` must be one of {supported}. Received: {measure!r}"
                + (f", {values}." if values else ".")
            )
        return values

    def _over_splits(self, function: Callable[[str], float]) -> dict[str, float | None]:
        measures = self.measures().items()
        return {
            name: None if isinstance(value, str) else function(name) for name, value in measures
        }


def verify_by_fold(
    scores: npt.ArrayLike, same: npt.ArrayLike, folds: npt.ArrayLike
) -> SplitResults:
    """One ROC for each fold: CFP, YTF and IJB-A report means over ten.

    For the accuracy, whose threshold comes from the other folds, see `fold_accuracy`.

    Args:
        scores: similarities, ``(N,)``.
        same: ``(N,)``, True for genuine pairs.
        folds: ``(N,)`` fold labels, each with pairs of both kinds.

    Returns:
        A `SplitResults` of a `Verification` for each fold.

    Raises:
        ValueError: as `verify`.

    Example:
        >>> result = verify_by_fold([0.9, 0.1, 0.8, 0.8], [1, 0, 1, 0], folds=[1, 1, 2, 2])
        >>> result.measures()["EER"], result.mean("AUC")
        ((0.0, 0.5), 0.75)
    """
    scores, same = finite_vector(scores, "scores"), checked_truth(same)
    (folds,) = identifiers(folds=folds)
    if not scores.shape == same.shape == folds.shape:
        raise ValueError(
            "`same` and `folds` must hold one value per score. Received: shapes "
            f"{same.shape} and {folds.shape} for {len(scores):,} scores."
        )
    parts = {fold: folds == fold for fold in np.unique(folds).tolist()}
    return SplitResults({fold: verify(scores[part], same[part]) for fold, part in parts.items()})


@dataclasses.dataclass(frozen=True, eq=False)
class ValueResults:
    """The result of `verify_by_value`.

    Attributes:
        results: value -> `Verification`.
    """

    results: dict[str, Verification]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for a JSON file."""
        return {"values": {value: result.to_dict() for value, result in self.results.items()}}

    def __rich__(self) -> Any:
        from rich.table import Table

        table = Table("Value", "Pairs, genuine + impostor", "EER", "TAR @ FAR 1e-3", "1e-4")
        for value, result in self.results.items():
            pairs = f"{result.genuines:,} + {result.impostors:,}"
            rates = (
                f"{each.tar:.2%}" if each.supported else "-" for each in result.tar_at_far[2:4]
            )
            table.add_row(value, pairs, f"{result.eer:.2%}", *rates)
        return table


def verify_by_value(
    scores: npt.ArrayLike,
    same: npt.ArrayLike,
    values: tuple[Sequence[str] | npt.NDArray[Any], npt.ArrayLike],
) -> ValueResults:
    """One ROC for each value of a covariate, as IJB-C reports its covariates.

    Each value has its own thresholds, so the results compare how hard the values are. For the rates
    of all values at one threshold see `rates_by_value`.

    Args:
        scores: similarities, ``(N,)``.
        same: ``(N,)``, True for genuine pairs.
        values: (texts, numbers): the values, and ``(N,)`` the value of each pair as an index into
            them; `TemplatePairs.covariate` gives both.

    Returns:
        A `ValueResults` of the values that have pairs of both kinds.

    Raises:
        ValueError: if no value has pairs of both kinds; else as `verify`.

    Example:
        >>> scores, same = [0.9, 0.1, 0.8, 0.2, 0.5], [1, 0, 1, 0, 0]
        >>> found = verify_by_value(scores, same, (["f", "f / m", "m"], [0, 0, 2, 2, 1]))
        >>> list(found.results)
        ['f', 'm']
    """
    scores, same = finite_vector(scores, "scores"), checked_truth(same)
    texts, numbers = values[0], np.asarray(values[1])
    found = {}
    for number, text in enumerate(texts):
        part = numbers == number
        if 0 < np.count_nonzero(same[part]) < np.count_nonzero(part):
            found[str(text)] = verify(scores[part], same[part])
    if not found:
        raise ValueError("A value needs genuine and impostor pairs. Received: no such value.")
    return ValueResults(found)


def _measures(result: Any) -> dict[str, float | str]:
    """Measure -> number, or the reason why there is none."""
    found: dict[str, float | str] = {}
    for name in ("auc", "eer"):
        if hasattr(result, name):
            found[name.upper()] = getattr(result, name)
    for entry in getattr(result, "tar_at_far", ()):
        found[f"TAR @ FAR {entry.target:.3g}"] = entry.tar if entry.supported else str(entry)
    if hasattr(result, "rank_rate"):
        rates = result.to_dict()
        found |= {f"Rank-{rank}": rate for rank, rate in rates["rank_rates"].items()}
        for entry in rates["tpir_at_fpir"]:
            rate = result.tpir_at_fpir(entry["target"])
            value = rate.tpir if rate.supported else str(rate)
            found[f"TPIR @ FPIR {rate.target:.3g}"] = value
    return found
