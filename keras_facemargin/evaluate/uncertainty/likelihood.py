"""Intervals of the cost of likelihood ratios, over resampled people."""

import dataclasses

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.uncertainty.resampling import (
    Draws,
    Sides,
    curve_of,
)
from keras_facemargin.evaluate.verification.curve import checked_pairs
from keras_facemargin.evaluate.verification.likelihood import min_cllr


@dataclasses.dataclass(frozen=True, eq=False)
class CostDraws:
    """The result of `bootstrap_cllr`: float64 ``(B,)`` each.

    Attributes:
        cllr: the cost of the ratios; ``None`` without them.
        min_cllr: the least cost, with the best map of each draw.
    """

    cllr: npt.NDArray[np.float64] | None
    min_cllr: npt.NDArray[np.float64]


def bootstrap_cllr(
    scores: npt.ArrayLike,
    same: npt.ArrayLike,
    *,
    ratios: npt.ArrayLike | None = None,
    people: Sides | None = None,
    replicates: int = 1_000,
    seed: int = 0,
) -> CostDraws:
    """Computes `cllr` and `min_cllr` on resampled identities or pairs.

    The ratios are the same in every draw: the people on whom their map was fitted are not drawn.

    Args:
        scores: similarities, ``(N,)``.
        same: ``(N,)``, True for genuine pairs.
        ratios: natural log likelihood ratios, ``(N,)``, finite.
        people, replicates, seed: as `bootstrap`.

    Returns:
        `CostDraws`.

    Raises:
        ValueError: as `bootstrap`.

    Example:
        >>> draws = bootstrap_cllr([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1], replicates=20)
        >>> draws.cllr, draws.min_cllr.shape
        (None, (20,))
    """
    scores, same = checked_pairs(scores, same)
    draws = Draws(same, people, seed=seed)
    order = np.argsort(scores)[::-1]
    scores, same = scores[order], same[order]
    costs = None
    if ratios is not None:
        signed = np.where(same, -1, 1) * np.asarray(ratios, np.float64)[order]
        costs = np.logaddexp(0, signed) / np.log(2)
    found, least = np.empty(replicates), np.empty(replicates)
    for b in range(replicates):
        times = draws.times()[order]
        least[b] = min_cllr(curve_of(scores, same, times))
        if costs is not None:
            sums = [times[kind] @ costs[kind] / times[kind].sum() for kind in (same, ~same)]
            found[b] = sum(sums) / 2
    return CostDraws(None if costs is None else found, least)
