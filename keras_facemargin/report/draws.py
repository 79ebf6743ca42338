"""How intervals are drawn, and what a page says about it."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from keras_facemargin.evaluate.at_scale import TAIL, hardest_listed_pairs
from keras_facemargin.evaluate.uncertainty import LEVEL, Bootstrap, bootstrap, bootstrap_hardest
from keras_facemargin.evaluate.verification import FAR_TARGETS, Pairs, Verification

# Pairs that are drawn one by one; of a longer list those that decide the rates are.
DRAWN_WHOLE = 2_000_000

# Impostor pairs that are drawn of a longer list, at most.
MOST_DRAWN = 5_000_000


@dataclasses.dataclass(frozen=True)
class Resampling:
    """How replicates are drawn.

    Attributes:
        replicates: number of draws.
        seed: of the draws; the same seed draws the same people for every embedder.
        progress: whether to draw progress bars on standard error.
    """

    replicates: int
    seed: int
    progress: bool

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of `bootstrap` and its like."""
        return dataclasses.asdict(self)


def draw_pairs(
    result: Verification, pairs: Pairs, resampling: Resampling, threshold: float | None = None
) -> Bootstrap:
    """The `Bootstrap` of a `Verification` of `Pairs`.

    Of a list of more than `DRAWN_WHOLE` pairs that names its people, the pairs that decide the
    rates are drawn.

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
    """As many impostor pairs as decide the EER in every draw, if they can be held."""
    return min(max(TAIL, 3 * round(eer * impostors)), MOST_DRAWN)


def notes_on_pairs(draws: Bootstrap, failed_to_enrol: int) -> Iterator[str]:
    """Paragraphs on what the intervals cover, and what counts as rejected."""
    if draws.unit == "pairs":
        yield (
            "The list does not tell whose faces it holds, so pairs were drawn as if they were "
            "independent. Where people stand in several pairs the true intervals are wider."
        )
    if failed_to_enrol:
        yield (
            f"Pairs with a missing image, which count as rejected: {failed_to_enrol:,}. A face "
            "that fails to enrol is never accepted."
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
