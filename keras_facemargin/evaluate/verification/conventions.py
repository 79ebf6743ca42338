"""The rules by which published codes compute TAR at FAR from the same scores.

Papers compare numbers that come from different rules. This package uses the conservative rule: the
largest TAR whose FAR does not exceed the target (`Roc.tar_at_far`). The other rules are here to
reproduce published numbers. On large sets all rules agree to the printed digits, on small sets they
do not. None gives a number for a target below ``1 / impostors``, where the published codes give one
that no pair supports.
"""

import math
import types
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.verification.curve import (
    Roc,
    TarAtFar,
    allowed_false_accepts,
    checked_folds,
)

# InsightFace's grid of thresholds, on the squared distance of unit vectors.
DISTANCES = np.arange(0, 4, 0.001)


def nearest(curve: Roc, far: float) -> TarAtFar:
    """The ROC point whose FAR is nearest to the target, even above it: InsightFace's IJB scripts.

    Of two equally near points the one with the larger FAR is taken, of points with one FAR the one
    with the largest TAR. The scripts use scikit-learn's ``roc_curve`` with its defaults, which
    drops points inside a straight stretch, perhaps the nearest one; this function does the same.

    Args:
        curve: a `Roc`.
        far: target false accept rate, in (0, 1).

    Returns:
        A `TarAtFar`; its `far` may exceed the target. If the nearest point accepts nothing, it has
        no threshold.

    Raises:
        ValueError: if `far` is not in (0, 1).

    Example:
        >>> from keras_facemargin.evaluate import roc
        >>> curve = roc([0.9, 0.8, 0.4, 0.7, 0.2, 0.1], [1, 1, 1, 0, 0, 0])
        >>> nearest(curve, 0.6).far, curve.tar_at_far(0.6).far
        (0.3333333333333333, 0.3333333333333333)
        >>> nearest(curve, 0.7).far, curve.tar_at_far(0.7).far
        (1.0, 0.6666666666666666)
    """
    if not _supported(curve, far):
        return TarAtFar(far, curve.impostors)
    bent = np.diff(curve.false_accepts[1:], 2) | np.diff(curve.true_accepts[1:], 2)
    kept = np.concatenate([[0, 1], 2 + np.flatnonzero(bent), [len(curve.far) - 1]])
    gaps = np.abs(curve.far[kept] - far)[::-1]
    return _at_point(curve, far, int(kept[len(kept) - 1 - int(np.argmin(gaps))]))


def interpolated(curve: Roc, far: float) -> TarAtFar:
    """Linear interpolation between the ROC's points, at the target: OpenSphere.

    No threshold gives that rate, so the answer has none. At a FAR that occurs the largest TAR is
    taken, as ``scipy.interpolate.interp1d`` does.

    Args, returns and raises as `nearest`.

    Example:
        >>> from keras_facemargin.evaluate import roc
        >>> curve = roc([0.9, 0.8, 0.4, 0.7, 0.2, 0.1], [1, 1, 0, 1, 0, 0])
        >>> interpolated(curve, 0.5).tar, interpolated(curve, 0.5).threshold
        (1.0, None)
    """
    if not _supported(curve, far):
        return TarAtFar(far, curve.impostors)
    return TarAtFar(far, curve.impostors, float(np.interp(far, curve.far, curve.tar)), far)


def kth_impostor(curve: Roc, far: float) -> TarAtFar:
    """The k-th largest impostor score as threshold, k = round(far * impostors): PFE and BLUFR.

    Pairs that score as high as that impostor are accepted, ties included, so the FAR may exceed the
    target by half a pair and by the ties. Halves are rounded to the even number, as PFE's NumPy
    does; BLUFR's MATLAB rounds them up.

    Args, returns and raises as `nearest`.

    Example:
        >>> from keras_facemargin.evaluate import roc
        >>> curve = roc([0.9, 0.8, 0.4, 0.7, 0.2, 0.1], [1, 1, 1, 0, 0, 0])
        >>> kth_impostor(curve, 0.35).threshold, kth_impostor(curve, 0.35).tar
        (0.7, 0.6666666666666666)
        >>> curve.tar_at_far(0.35).tar  # the threshold may be lower and accept no further impostor
        1.0
    """
    if not _supported(curve, far):
        return TarAtFar(far, curve.impostors)
    rank = int(np.round(curve.impostors * far))
    return _at_point(curve, far, int(np.searchsorted(curve.false_accepts, rank)))


def validation_rate(
    scores: npt.ArrayLike, same: npt.ArrayLike, folds: npt.ArrayLike, *, far: float = 1e-3
) -> TarAtFar:
    """FaceNet's and InsightFace's "VAL": each fold at a threshold from the other folds.

    On the other folds the FAR is taken at squared distances ``2 - 2 * score`` of 0 to 4 in steps of
    0.001; between two of them the threshold is interpolated linearly at the target. A pair is
    accepted if its distance is below the threshold. The answer holds the means over the folds of
    the TAR and of the observed FAR, which may exceed the target.

    The published code passes ties to ``scipy.interpolate.interp1d(kind="slinear")``, whose answer
    depends on SciPy's version; here the largest threshold of a FAR is taken.

    Args:
        scores: cosines, ``(N,)``, in [-1, 1].
        same: ``(N,)``, True for genuine pairs.
        folds: ``(N,)``, at least two different; each needs both kinds of pairs.
        far: target false accept rate, in (0, 1).

    Returns:
        A `TarAtFar` without a threshold, because each fold has its own; not `supported` if the
        other folds of a fold have fewer than ``1 / far`` impostor pairs.

    Raises:
        ValueError: as `fold_accuracy`, or if `far` is not in (0, 1).

    Example:
        >>> scores, same, folds = [0.9, 0.1, 0.8, 0.2], [1, 0, 1, 0], [1, 1, 2, 2]
        >>> print(validation_rate(scores, same, folds))
        not supported by 1 impostor pairs
        >>> answer = validation_rate(np.repeat(scores, 9), np.repeat(same, 9), np.repeat(folds, 9),
        ...                          far=0.2)
        >>> answer.tar, answer.far
        (1.0, 0.5)
    """
    scores, same, folds = checked_folds(scores, same, folds)
    if np.abs(scores).max() > 1 + 1e-6:
        raise ValueError(
            "`scores` must be cosines in [-1, 1], because the rule uses distances 2 - 2 * score. "
            f"Received: scores from {scores.min()} to {scores.max()}."
        )
    distances = 2 - 2 * scores
    tars, fars, fewest = [], [], len(scores)
    for fold in np.unique(folds):
        here = folds == fold
        impostors = np.sort(distances[~here & ~same])
        fewest = min(fewest, len(impostors))
        if allowed_false_accepts(far, len(impostors)) == 0:
            continue
        rates = np.searchsorted(impostors, DISTANCES) / len(impostors)
        threshold = np.interp(far, rates, DISTANCES) if rates[-1] >= far else 0.0
        accepted = distances[here] < threshold
        tars.append(accepted[same[here]].mean())
        fars.append(accepted[~same[here]].mean())
    if len(tars) < len(np.unique(folds)):
        return TarAtFar(far, fewest)
    return TarAtFar(far, fewest, float(np.mean(tars)), float(np.mean(fars)))


RULES: Mapping[str, Callable[[Roc, float], TarAtFar]] = types.MappingProxyType(
    {
        "conservative": Roc.tar_at_far,
        "nearest": nearest,
        "interpolated": interpolated,
        "kth_impostor": kth_impostor,
    }
)


def _supported(curve: Roc, far: float) -> bool:
    return allowed_false_accepts(far, curve.impostors) > 0


def _at_point(curve: Roc, far: float, point: int) -> TarAtFar:
    threshold = float(curve.thresholds[point])  # infinite where the curve begins
    return TarAtFar(
        far,
        curve.impostors,
        tar=float(curve.tar[point]),
        far=float(curve.far[point]),
        threshold=threshold if math.isfinite(threshold) else None,
    )
