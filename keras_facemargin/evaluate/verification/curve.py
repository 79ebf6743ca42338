"""The exact receiver operating characteristic: counts at each score, and the measures of them.

A pair is *genuine* (one person twice) or *impostor* (two people) and is accepted if and only if
``score >= threshold``. Scores are similarities: a larger score means more similar. Accepts are
counted in float64 at every distinct score, without a grid of thresholds or an interpolation of a
rate that was never observed. `Roc` holds the counts and computes each measure from them.
"""

import dataclasses
import math
import numbers
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import identifiers, real_numbers


@dataclasses.dataclass(frozen=True)
class TarAtFar:
    """The true accept rate at a target false accept rate, if there are enough impostor pairs.

    Attributes:
        target: the target false accept rate, in (0, 1).
        impostors: number of impostor pairs; they resolve rates down to ``1 / impostors``.
        tar: share of genuine pairs accepted; ``None`` if `target` is below ``1 / impostors``.
        far: observed share of impostor pairs accepted, at most `target`; ``None`` likewise.
        threshold: the smallest float64 whose FAR does not exceed `target`; ``None`` likewise.

    The rules in `conventions` may exceed the target or give no threshold.
    """

    target: float
    impostors: int
    tar: float | None = None
    far: float | None = None
    threshold: float | None = None

    @property
    def supported(self) -> bool:
        """Whether there are enough impostor pairs for this target."""
        return self.tar is not None

    @property
    def fnmr(self) -> float | None:
        """The false non-match rate at the target, FNMR@FMR: 1 - TAR@FAR."""
        return None if self.tar is None else 1 - self.tar

    def __str__(self) -> str:
        if self.tar is None:
            return f"not supported by {self.impostors:,} impostor pairs"
        if self.threshold is None:
            return f"{self.tar:.2%}"
        return f"{self.tar:.2%} (threshold {self.threshold:.4f})"


@dataclasses.dataclass(frozen=True, eq=False)
class Roc:
    """The exact receiver operating characteristic: one point per distinct score.

    Point 0 accepts nothing (threshold +inf); point k accepts every pair whose score is at least the
    k-th largest distinct score. Tied scores enter together, whatever their kind.

    Attributes:
        thresholds: float64 ``(K + 1,)``, descending from +inf.
        false_accepts: int64 ``(K + 1,)``, impostor pairs accepted, ascending.
        true_accepts: int64 ``(K + 1,)``, genuine pairs accepted, ascending.
    """

    thresholds: npt.NDArray[np.float64]
    false_accepts: npt.NDArray[np.int64]
    true_accepts: npt.NDArray[np.int64]

    @property
    def impostors(self) -> int:
        """Number of impostor pairs."""
        return int(self.false_accepts[-1])

    @property
    def genuines(self) -> int:
        """Number of genuine pairs."""
        return int(self.true_accepts[-1])

    @property
    def far(self) -> npt.NDArray[np.float64]:
        """False accept rate (also FMR, FPR) at each point, ``(K + 1,)``."""
        return self.false_accepts / self.impostors

    @property
    def tar(self) -> npt.NDArray[np.float64]:
        """True accept rate (also 1 - FNMR, TPR) at each point, ``(K + 1,)``."""
        return self.true_accepts / self.genuines

    @property
    def fnmr(self) -> npt.NDArray[np.float64]:
        """False non-match rate at each point, ``(K + 1,)``; over `far` it is the DET curve."""
        return (self.genuines - self.true_accepts) / self.genuines

    def with_all(self, impostors: int) -> "Roc":
        """This curve of the hardest pairs, completed to `impostors` impostor pairs.

        The other pairs enter at once, at -inf: between the last two points the curve is unknown.
        """
        return Roc(
            np.append(self.thresholds, -np.inf),
            np.append(self.false_accepts, impostors),
            np.append(self.true_accepts, self.genuines),
        )

    def area(self) -> float:
        """See `area_under_curve`."""
        # Twice the trapezoids in whole numbers, so that only the division rounds.
        steps = np.diff(self.false_accepts)
        heights = self.true_accepts[1:] + self.true_accepts[:-1]
        return int(np.dot(steps, heights)) / (2 * self.impostors * self.genuines)

    def equal_error_rate(self) -> float:
        """See the function `equal_error_rate`."""
        misses = self.genuines - self.true_accepts
        # FNMR - FAR in units of 1 / (genuines * impostors): falls strictly from + to -.
        gap = misses * self.impostors - self.false_accepts * self.genuines
        after = int(np.argmax(gap <= 0))
        before = after - 1
        share = gap[before] / (gap[before] - gap[after])
        step = self.false_accepts[after] - self.false_accepts[before]
        return float(self.false_accepts[before] + share * step) / self.impostors

    def tar_at_far(self, far: float) -> TarAtFar:
        """See the function `tar_at_far`."""
        allowed = allowed_false_accepts(far, self.impostors)
        if allowed == 0:
            return TarAtFar(far, self.impostors)
        # The first point with too many false accepts exists, because far < 1.
        beyond = int(np.searchsorted(self.false_accepts, allowed, side="right"))
        return TarAtFar(
            far,
            self.impostors,
            tar=float(self.true_accepts[beyond - 1] / self.genuines),
            far=float(self.false_accepts[beyond - 1] / self.impostors),
            threshold=just_above(self.thresholds[beyond]),
        )

    def largest_tar(self, far: float) -> float:
        """The largest TAR whose FAR does not exceed `far`, even if `far` allows no impostor pair.

        It is for resampled pairs, whose number varies; `tar_at_far` requires support.
        """
        allowed = allowed_false_accepts(far, self.impostors)
        point = int(np.searchsorted(self.false_accepts, allowed, side="right")) - 1
        return float(self.true_accepts[point] / self.genuines)

    def most_accurate_threshold(self) -> float:
        """The threshold that classifies most pairs correctly, as `fold_accuracy` chooses it."""
        correct = self.true_accepts + self.impostors - self.false_accepts
        scores = self.thresholds[1:]
        # Point k covers all thresholds between its score and the next smaller one. The two ends
        # have no width: they win only if no threshold between two scores is as accurate.
        widths = np.concatenate([[0.0], scores[:-1] - scores[1:], [0.0]])
        best = np.flatnonzero(correct == correct.max())
        point = best[np.argmax(widths[best])]
        if point == 0:
            return just_above(scores[0])
        if point == len(scores):
            return float(scores[-1])
        upper, lower = scores[point - 1], scores[point]
        middle = lower + (upper - lower) / 2
        # Between two neighbouring floats the middle rounds; it must not fall on the lower one.
        return float(middle if middle > lower else upper)


def roc(scores: npt.ArrayLike, same: npt.ArrayLike) -> Roc:
    """Counts false and true accepts at every distinct score.

    Args:
        scores: similarities, ``(N,)``, finite.
        same: ``(N,)``, True (or 1) for genuine pairs, False (or 0) for impostors; both must occur.

    Returns:
        A `Roc`, equal to scikit-learn's ``roc_curve(..., drop_intermediate=False)`` but in counts.

    Raises:
        ValueError: if shapes differ, a score is not finite, or only one kind of pair is present.

    Example:
        >>> curve = roc([0.9, 0.8, 0.8, 0.1], [True, True, False, False])
        >>> curve.far.tolist(), curve.tar.tolist()
        ([0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0])
    """
    scores, same = checked_pairs(scores, same)
    order = np.argsort(scores)[::-1]
    return count_descending(scores[order], same[order])


def count_descending(
    scores: npt.NDArray[np.float64],
    same: npt.NDArray[np.bool_],
    times: npt.NDArray[np.integer[Any]] | None = None,
) -> Roc:
    """The `Roc` of scores in descending order, pair i counted ``times[i]`` >= 1 times, or once."""
    last_of_ties = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    if times is None:
        accepts, true_accepts = last_of_ties + 1, np.cumsum(same)[last_of_ties]
    else:
        accepts = np.cumsum(times)[last_of_ties]
        true_accepts = np.cumsum(times * same)[last_of_ties]
    return Roc(
        thresholds=np.append(np.inf, scores[last_of_ties]),
        false_accepts=np.append(0, accepts - true_accepts),
        true_accepts=np.append(0, true_accepts),
    )


def allowed_false_accepts(far: float, impostors: int) -> int:
    """The largest count whose share of `impostors` is at most `far`."""
    is_number = isinstance(far, numbers.Real)
    if not is_number or not 0 < far < 1:
        percentage = is_number and far >= 1
        raise ValueError(
            f"`far` must be a rate in (0, 1). Received: far={far}."
            + (" Divide a percentage by 100." if percentage else "")
        )
    # The product may round across a whole number (0.29 * 100 = 28.999...); the rule is about the
    # quotient, so the quotient decides.
    allowed = math.floor(far * impostors + 0.5)
    return allowed if allowed / impostors <= far else allowed - 1


def just_above(score: float | np.float64) -> float:
    """The next larger float64."""
    return float(np.nextafter(score, np.inf))


def checked_pairs(
    scores: npt.ArrayLike, same: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Scores as float64 and same as bool, or a clear error."""
    scores, same = finite_vector(scores, "scores"), checked_truth(same)
    if same.shape != scores.shape:
        raise ValueError(
            "`same` must hold one truth value per score. "
            f"Received: same of shape {same.shape}, scores of shape {scores.shape}."
        )
    require_both_kinds(same, "`same`")
    return scores, same


def checked_truth(same: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Truths as bool ``(N,)``, or a clear error."""
    same = np.asarray(same)
    if same.dtype == bool:
        return same
    strange = same[~((same == 0) | (same == 1))]  # NaN is neither
    if len(strange):
        raise ValueError(
            "`same` must hold True or 1 for genuine pairs and False or 0 for impostors. "
            f"Received: {strange[0]!r}."
        )
    return same.astype(bool)


def checked_folds(
    scores: npt.ArrayLike, same: npt.ArrayLike, folds: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[Any]]:
    """`checked_pairs`, and at least two folds, each with both kinds of pairs."""
    scores, same = checked_pairs(scores, same)
    (folds,) = identifiers(folds=folds)
    if folds.shape != scores.shape:
        raise ValueError(
            "`folds` must hold one fold label per score. "
            f"Received: folds of shape {folds.shape}, scores of shape {scores.shape}."
        )
    names = np.unique(folds)
    if len(names) < 2:
        raise ValueError(
            "`folds` must hold at least two folds: a fold's threshold is chosen on the others. "
            f"Received: {len(names)} fold."
        )
    for name in names:
        require_both_kinds(same[folds == name], f"fold {name}")
    return scores, same, folds


def require_both_kinds(same: npt.NDArray[np.bool_], where: str) -> None:
    genuines = int(np.count_nonzero(same))
    if genuines in (0, len(same)):
        raise ValueError(
            "Verification needs genuine and impostor pairs. "
            f"Received: {where} with {genuines} genuine and {len(same) - genuines} impostor pairs."
        )


def finite_vector(values: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    values = real_numbers(values, name).astype(np.float64, copy=False)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"`{name}` must be of shape (N,), N > 0. Received: shape {values.shape}.")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ValueError(
            f"`{name}` must be finite. Received: {values[bad[0]]} at index {bad[0]} "
            f"({len(bad):,} of {len(values):,} are not finite)."
        )
    return values
