"""Resampling for the intervals, and the notes on it that a page shows."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_facemargin.evaluate.at_scale import TAIL, hardest_listed_pairs
from keras_facemargin.evaluate.uncertainty import LEVEL, Bootstrap, bootstrap, bootstrap_hardest
from keras_facemargin.evaluate.verification import FAR_TARGETS, Pairs, Verification

# Up to this length, all pairs of a list are drawn; then only those that decide the rates.
DRAWN_WHOLE = 2_000_000

# The most impostor pairs that are drawn of a longer list.
MOST_DRAWN = 5_000_000


@dataclasses.dataclass(frozen=True)
class Resampling:
    """Number and seed of the draws.

    Attributes:
        replicates: number of draws.
        seed: the same seed draws the same people for every embedder.
        progress: whether to draw progress bars on standard error.
    """

    replicates: int
    seed: int
    progress: bool

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of `bootstrap` and related functions."""
        return dataclasses.asdict(self)


def draw_pairs(
    result: Verification, pairs: Pairs, resampling: Resampling, threshold: float | None = None
) -> Bootstrap:
    """The `Bootstrap` of a `Verification` of `Pairs`.

    If a list with people has more than `DRAWN_WHOLE` pairs, only the pairs that decide the rates
    are drawn.

    Args:
        threshold: chosen on other pairs, or ``None``.
    """
    if len(pairs) <= DRAWN_WHOLE or pairs.people is None or threshold is not None:
        return bootstrap(
            result.scores,
            result.same,
            folds=pairs.folds,
            people=pairs.people,
            threshold=threshold,
            **resampling.options,
        )
    wanted = deciding_pairs(result.eer, result.impostors)
    held = hardest_listed_pairs(result.scores, result.same, pairs.people, impostors=wanted)
    return bootstrap_hardest(held, FAR_TARGETS, **resampling.options)


def deciding_pairs(eer: float, impostors: int) -> int:
    """The number of impostor pairs that decide the EER in every draw, at most `MOST_DRAWN`."""
    return min(max(TAIL, 3 * round(eer * impostors)), MOST_DRAWN)


def failures_to_enrol(pairs: Pairs) -> int:
    """Number of pairs that count as rejected because an image is missing."""
    assert pairs.failed_to_enrol is not None  # set when the pairs are made
    return int(np.count_nonzero(pairs.failed_to_enrol))


def notes_on_pairs(draws: Bootstrap, failed_to_enrol: int) -> Iterator[str]:
    """Paragraphs on pairs without people, and on pairs that count as rejected."""
    if draws.unit == "pairs":
        yield (
            "The list does not name the people, so the pairs were drawn as if they were "
            "independent. If people appear in several pairs, the true intervals are wider."
        )
    if failed_to_enrol:
        yield (
            f"Pairs with a missing image: {failed_to_enrol:,}. They count as rejected: a face that "
            "fails to enrol is never accepted."
        )


def draws_record(draws: Any, seed: int) -> dict[str, Any]:
    """The method of the intervals, for a JSON file."""
    return {
        "level": LEVEL,
        "resampled": draws.unit,
        "units": draws.units,
        "replicates": draws.replicates,
        "seed": seed,
    }
