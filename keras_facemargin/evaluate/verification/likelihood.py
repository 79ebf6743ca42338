"""The meaning of a score: likelihood ratios, and their cost.

The likelihood ratio of a score says how many times as likely the score is for one person as for two
people. It multiplies the odds that the user had before. All ratios here are natural logarithms.

`fit_logistic` fits ``slope * score + intercept``. `isotonic_ratios` is the best map that keeps the
order of these scores (PAV). `cllr` is the cost of ratios in bits. The cost of the PAV ratios,
`min_cllr`, is the part that no map of the scores removes.

Bruemmer, du Preez, "Application-independent evaluation of speaker detection", Computer Speech and
Language 20 (2006). Ramos, Gonzalez-Rodriguez, "Reliable support: measuring calibration of
likelihood ratios", Forensic Science International 230 (2013).
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.verification.curve import Roc, checked_pairs, roc

# Fewer impostor pairs do not fix a map.
FEWEST_IMPOSTORS = 1_000

_STEPS = 100


@dataclasses.dataclass(frozen=True)
class Logistic:
    """The map from a score to the natural logarithm of its likelihood ratio, of `fit_logistic`."""

    slope: float
    intercept: float

    def __call__(self, scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """``slope * scores + intercept``, of the shape of `scores`."""
        return self.slope * np.asarray(scores, np.float64) + self.intercept


def fit_logistic(scores: npt.ArrayLike, same: npt.ArrayLike) -> Logistic:
    """Fits the map from scores to likelihood ratios by logistic regression.

    Genuine and impostor pairs have equal weight in all, as in `cllr`, which the map minimises. So
    the number of pairs of each kind does not change the ratios.

    Args:
        scores: similarities, ``(N,)``.
        same: ``(N,)``, True for genuine pairs.

    Returns:
        A `Logistic`.

    Raises:
        ValueError: as `roc`; if there are fewer than 1,000 impostor pairs; if every genuine pair
            scores higher than every impostor pair; or if genuine pairs do not score higher.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> same = np.repeat([True, False], 5_000)
        >>> found = fit_logistic(rng.normal(size=10_000) + 2 * same, same)
        >>> round(found.slope, 1), round(found.intercept, 1)  # theory: 2 and -2
        (2.0, -2.0)
    """
    scores, same = checked_pairs(scores, same)
    impostors = int(np.count_nonzero(~same))
    if impostors < FEWEST_IMPOSTORS:
        raise ValueError(
            f"A likelihood ratio needs at least {FEWEST_IMPOSTORS:,} impostor pairs. Received: "
            f"{impostors:,}. Score pairs of more people."
        )
    if scores[same].min() > scores[~same].max():
        raise ValueError(
            "A likelihood ratio needs genuine and impostor pairs whose scores overlap. Received: "
            "every genuine pair above every impostor pair. Score harder or more pairs."
        )
    if scores[same].mean() <= scores[~same].mean():
        raise ValueError(
            "A likelihood ratio needs scores that are larger for one person than for two. "
            f"Received: means {scores[same].mean():.4f} and {scores[~same].mean():.4f}."
        )
    middle, width = scores.mean(), scores.std()
    slope, intercept = _minimise((scores - middle) / width, same)
    return Logistic(float(slope / width), float(intercept - slope * middle / width))


def _minimise(x: npt.NDArray[np.float64], same: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """(slope, intercept) of the least `cllr`: Newton's method, with halved steps."""
    sign = np.where(same, 1.0, -1.0)
    weight = np.where(same, 0.5 / np.count_nonzero(same), 0.5 / np.count_nonzero(~same))
    rows = np.stack([x, np.ones_like(x)])
    found = np.zeros(2)

    def cost(at: npt.NDArray[np.float64]) -> float:
        return float(weight @ np.logaddexp(0, -sign * (at @ rows)))

    for _ in range(_STEPS):
        wrong = 0.5 * (1 - np.tanh(0.5 * sign * (found @ rows)))  # the logistic of -sign * ratio
        gradient = -rows @ (weight * sign * wrong)
        step = np.linalg.solve((rows * (weight * wrong * (1 - wrong))) @ rows.T, gradient)
        if gradient @ step < 1e-12:  # so near that the next step is exact
            return found - step
        here = cost(found)
        while cost(found - step) > here:
            step /= 2
        found = found - step
    return found


def isotonic_ratios(scores: npt.ArrayLike, same: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The natural log likelihood ratios of least `cllr` that never fall as the score rises (PAV).

    They are fitted to these very pairs and belong to them only: the lowest scores may have the
    ratio -inf, the highest +inf.

    Args:
        scores: similarities, ``(N,)``.
        same: ``(N,)``, True for genuine pairs.

    Returns:
        float64 ``(N,)``.

    Raises:
        ValueError: as `roc`.

    Example:
        >>> isotonic_ratios([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1])
        array([-inf,   0.,   0.,  inf])
    """
    scores, same = checked_pairs(scores, same)
    curve = roc(scores, same)
    last, genuines, impostors = _pooled(curve)
    ratios = _log_ratios(genuines, impostors)
    # Point k of the curve has the k-th largest score; a block ends with its lowest score.
    point = len(curve.thresholds) - np.searchsorted(curve.thresholds[::-1], scores, side="left") - 1
    return ratios[np.searchsorted(last, point)]


def cllr(ratios: npt.ArrayLike, same: npt.ArrayLike) -> float:
    """The cost of natural log likelihood ratios in bits: 0 is perfect, 1 as bad as no score.

    ``(mean over genuine of log2(1 + 1 / LR) + mean over impostor of log2(1 + LR)) / 2``

    Args:
        ratios: natural log likelihood ratios, ``(N,)``.
        same: ``(N,)``, True for genuine pairs.

    Raises:
        ValueError: if shapes differ, a ratio is NaN, or only one kind of pair is present.

    Example:
        >>> cllr([0.0, 0.0], [True, False])
        1.0
    """
    ratios = np.asarray(ratios, np.float64)
    _, same = checked_pairs(np.clip(ratios, -1e9, 1e9), same)
    return float((_bits(-ratios[same]).mean() + _bits(ratios[~same]).mean()) / 2)


def min_cllr(curve: Roc) -> float:
    """The `cllr` of the `isotonic_ratios` of the pairs of a `Roc`.

    Args:
        curve: of `roc`.

    Example:
        >>> min_cllr(roc([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1]))
        0.5
    """
    _, genuines, impostors = _pooled(curve)
    ratios = _log_ratios(genuines, impostors)
    return float(
        _mean(genuines, _bits(-ratios)) / 2 + _mean(impostors, _bits(ratios)) / 2,
    )


def _mean(counts: npt.NDArray[np.int64], bits: npt.NDArray[np.float64]) -> float:
    there = counts > 0  # a block without them may cost infinitely many bits
    return float(counts[there] @ bits[there] / counts.sum())


def empirical_cross_entropy(
    ratios: npt.ArrayLike, same: npt.ArrayLike, log_odds: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """The cross-entropy of natural log likelihood ratios at prior log-odds, in bits.

    ``P mean over genuine of log2(1 + 1 / (LR odds)) + (1 - P) mean over impostor of log2(1 + LR
    odds)``, with ``odds = P / (1 - P)``. At odds 1 it is `cllr`.

    Args:
        ratios, same: as `cllr`.
        log_odds: log10 of the prior odds of one person against two, ``(K,)``.

    Returns:
        float64 ``(K,)``.

    Raises:
        ValueError: as `cllr`.

    Example:
        >>> empirical_cross_entropy([0.0, 0.0], [True, False], [0.0]).tolist()
        [1.0]
    """
    ratios = np.asarray(ratios, np.float64)
    _, same = checked_pairs(np.clip(ratios, -1e9, 1e9), same)
    odds = np.log(10) * np.atleast_1d(np.asarray(log_odds, np.float64))
    prior = 1 / (1 + np.exp(-odds))
    genuine = np.array([_bits(-(ratios[same] + each)).mean() for each in odds])
    impostor = np.array([_bits(ratios[~same] + each).mean() for each in odds])
    return np.asarray(prior * genuine + (1 - prior) * impostor)


def ratios_by_fold(
    scores: npt.ArrayLike, same: npt.ArrayLike, folds: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """The natural log likelihood ratios of pairs, each fold by `fit_logistic` on the other folds.

    Args:
        scores, same, folds: as `fold_accuracy`.

    Returns:
        float64 ``(N,)``.

    Raises:
        ValueError: as `fit_logistic`.
    """
    scores, same = checked_pairs(scores, same)
    folds = np.asarray(folds)
    ratios = np.empty_like(scores)
    for fold in np.unique(folds):
        held_out = folds == fold
        ratios[held_out] = fit_logistic(scores[~held_out], same[~held_out])(scores[held_out])
    return ratios


def _bits(ratios: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.logaddexp(0, ratios) / np.log(2))


def _log_ratios(
    genuines: npt.NDArray[np.int64], impostors: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        shares = np.log(genuines / genuines.sum()), np.log(impostors / impostors.sum())
    return np.asarray(shares[0] - shares[1])


def _pooled(
    curve: Roc,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Blocks of adjacent violators, from the highest score: (last point, genuines, impostors).

    The share of genuine pairs falls strictly from one block to the next.
    """
    genuines, impostors = np.diff(curve.true_accepts), np.diff(curve.false_accepts)
    # A run of points with genuine pairs only, or with impostor pairs only, is one block.
    kind = np.where(impostors == 0, 1, np.where(genuines == 0, 2, 0))
    ends = np.append(np.flatnonzero((kind[1:] != kind[:-1]) | (kind[1:] == 0)), len(kind) - 1)
    blocks: list[tuple[int, int, int]] = []
    true, false = 0, 0
    for end in ends.tolist():
        block = (
            end + 1,
            int(curve.true_accepts[end + 1]) - true,
            int(curve.false_accepts[end + 1]) - false,
        )
        true, false = true + block[1], false + block[2]
        while blocks and block[1] * blocks[-1][2] >= blocks[-1][1] * block[2]:
            _, more_genuines, more_impostors = blocks.pop()
            block = (block[0], block[1] + more_genuines, block[2] + more_impostors)
        blocks.append(block)
    last, of_one, of_two = (np.array(column) for column in zip(*blocks, strict=True))
    return last, of_one, of_two
