"""1:1 verification: the exact measures of a list of scored pairs."""

import dataclasses
import functools
import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.measures import Measures
from keras_facemargin.evaluate.verification.conventions import RULES
from keras_facemargin.evaluate.verification.curve import (
    Roc,
    TarAtFar,
    allowed_false_accepts,
    checked_folds,
    checked_pairs,
    finite_vector,
    just_above,
    roc,
)
from keras_facemargin.evaluate.verification.likelihood import cllr, min_cllr, ratios_by_fold

FAR_TARGETS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def area_under_curve(scores: npt.ArrayLike, same: npt.ArrayLike) -> float:
    """The area under the ROC: P(genuine > impostor) + P(genuine = impostor) / 2 (Mann-Whitney).

    Arguments and errors are those of `roc`.

    Example:
        >>> area_under_curve([0.9, 0.8, 0.8, 0.1], [True, True, False, False])
        0.875
    """
    return roc(scores, same).area()


def equal_error_rate(scores: npt.ArrayLike, same: npt.ArrayLike) -> float:
    """The rate at which false accepts and false rejects are equally frequent.

    FAR rises and FNMR = 1 - TAR falls from one point of the `roc` to the next. If they are equal at
    a point, that is the rate; else the rate is where the straight line between the two neighbouring
    points crosses FAR = FNMR. Arguments and errors are those of `roc`.

    Implementations differ: some return the mean of FAR and FNMR at the nearest point of a grid.

    Example:
        >>> equal_error_rate([0.9, 0.8, 0.3, 0.7, 0.2, 0.1], [1, 1, 1, 0, 0, 0])
        0.3333333333333333
    """
    return roc(scores, same).equal_error_rate()


def tar_at_far(
    scores: npt.ArrayLike, same: npt.ArrayLike, far: float, *, rule: str = "conservative"
) -> TarAtFar:
    """The true accept rate at a false accept rate of `far`.

    The conservative rule gives the largest TAR whose FAR does not exceed `far`. Published codes use
    other rules, which give other numbers on the same scores (see `conventions`).

    Args:
        scores: similarities, ``(N,)``.
        same: ``(N,)``, True for genuine pairs.
        far: target false accept rate, in (0, 1).
        rule: "conservative"; "nearest", the ROC point nearest to `far`, even above it
            (InsightFace); "interpolated", linearly between points (OpenSphere); "kth_impostor",
            the k-th largest impostor score as threshold, k = round(far * impostors) (PFE, BLUFR).

    Returns:
        A `TarAtFar`; its `fnmr` is FNMR@FMR. Below ``1 / impostors`` no rate was observed: then no
        rule gives a number, and it is not `supported`.

    Raises:
        ValueError: as `roc`, or if `far` is not in (0, 1) or the rule is unknown.

    Example:
        >>> scores, same = [0.9, 0.8, 0.4, 0.7, 0.2, 0.1], [1, 1, 1, 0, 0, 0]
        >>> tar_at_far(scores, same, far=0.35).tar
        1.0
        >>> tar_at_far(scores, same, far=0.35, rule="kth_impostor").tar
        0.6666666666666666
        >>> print(tar_at_far(scores, same, far=0.1))
        not supported by 3 impostor pairs
    """
    if rule not in RULES:
        raise ValueError(f"`rule` must be one of {', '.join(RULES)}. Received: {rule!r}.")
    return RULES[rule](roc(scores, same), far)


def threshold_at_far(impostor_scores: npt.ArrayLike, far: float) -> float:
    """The smallest threshold at which at most a share `far` of the impostor pairs is accepted.

    It is the first float64 above the first impostor score that would exceed the share. On the same
    pairs it accepts exactly the genuine pairs that `tar_at_far` counts.

    Args:
        impostor_scores: similarities of pairs of different people, ``(N,)``.
        far: target false accept rate, in ``[1 / N, 1)``.

    Raises:
        ValueError: if a score is not finite, or `far` is not in ``[1 / N, 1)``: fewer pairs do not
            support it.

    Example:
        >>> threshold = threshold_at_far([0.4, 0.3, 0.2, 0.1], far=0.25)
        >>> 0.3 < threshold < 0.3000001
        True
    """
    scores = finite_vector(impostor_scores, "impostor_scores")
    allowed = allowed_false_accepts(far, len(scores))
    if allowed == 0:
        raise ValueError(
            f"`far` must be at least 1 / (number of impostor pairs): {len(scores):,} pairs support "
            f"rates down to {1 / len(scores):.2g}. Received: far={far:g}. Score at least "
            f"{math.ceil(1 / far):,} impostor pairs or ask for a larger rate."
        )
    position = len(scores) - 1 - allowed
    return just_above(np.partition(scores, position)[position])


@dataclasses.dataclass(frozen=True)
class FoldAccuracy:
    """Accuracy by cross-validated threshold.

    Attributes:
        folds: the fold labels, sorted.
        accuracies: share of correct decisions on each fold, in [0, 1].
        thresholds: the threshold used on each fold, chosen on all the others.
    """

    folds: tuple[Any, ...]
    accuracies: tuple[float, ...]
    thresholds: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean accuracy over the folds."""
        return float(np.mean(self.accuracies))

    @property
    def standard_deviation(self) -> float:
        """Sample standard deviation (ddof = 1) over the folds."""
        return float(np.std(self.accuracies, ddof=1))

    @property
    def standard_error(self) -> float:
        """Standard error of the mean, S_E = standard deviation / sqrt(number of folds)."""
        return self.standard_deviation / math.sqrt(len(self.accuracies))


def fold_accuracy(scores: npt.ArrayLike, same: npt.ArrayLike, folds: npt.ArrayLike) -> FoldAccuracy:
    """Verification accuracy as LFW defines it: each fold at the best threshold of the other folds.

    The threshold of a fold is the one that is most accurate on all other folds. The search is
    exact: candidates are the middles between adjacent distinct scores and the two ends (the lowest
    score, which accepts everything, and just above the highest, which accepts nothing). Of equally
    accurate ones the middle of the widest gap is taken; of equally wide gaps the highest.

    Implementations differ: a grid of 400 distances (InsightFace), the mean of all maximisers
    (SphereFace, PFE), the maximum of TPR - FPR (FaceX-Zoo), or the best threshold on the test pairs
    themselves, which is not this protocol.

    Args:
        scores: similarities, ``(N,)``.
        same: ``(N,)``, True for genuine pairs.
        folds: ``(N,)`` integers or strings, at least two different; each fold needs both kinds.

    Raises:
        ValueError: as `roc`, or if there are fewer than two folds or one lacks a kind of pair.

    Example:
        >>> result = fold_accuracy([0.9, 0.1, 0.8, 0.2], [1, 0, 1, 0], folds=[1, 1, 2, 2])
        >>> result.mean, result.standard_error
        (1.0, 0.0)
    """
    scores, same, folds = checked_folds(scores, same, folds)
    names = np.unique(folds)
    accuracies, thresholds = [], []
    for name in names:
        held_out = folds == name
        threshold = roc(scores[~held_out], same[~held_out]).most_accurate_threshold()
        accuracies.append(float(np.mean((scores[held_out] >= threshold) == same[held_out])))
        thresholds.append(threshold)
    return FoldAccuracy(tuple(names.tolist()), tuple(accuracies), tuple(thresholds))


@dataclasses.dataclass(frozen=True, eq=False)
class Verification(Measures):
    """The result of `verify`, with the scored pairs.

    Attributes:
        scores: float64 ``(N,)``; not part of `to_dict`.
        same: bool ``(N,)``; not part of `to_dict`.
        accuracy: a `FoldAccuracy`, or ``None`` if the pairs have no folds: then any threshold would
            be chosen on the pairs that it is tested on.
        auc: area under the ROC, in [0, 1].
        eer: equal error rate, in [0, 1].
        tar_at_far: a `TarAtFar` for each of 1e-1 to 1e-6, some perhaps not `supported`.
        min_cllr: `likelihood.min_cllr`, the least cost of likelihood ratios of the scores, in bits.
        ratios: float64 ``(N,)``, natural log likelihood ratios, each fold's by the logistic map of
            the other folds; not part of `to_dict`. ``None`` without folds, or if `fit_logistic`
            refuses the pairs.
        failed_to_enrol: number of pairs that count as rejected because one of their images is
            missing.
    """

    scores: npt.NDArray[np.float64] = dataclasses.field(repr=False)
    same: npt.NDArray[np.bool_] = dataclasses.field(repr=False)
    accuracy: FoldAccuracy | None
    auc: float
    eer: float
    tar_at_far: tuple[TarAtFar, ...]
    min_cllr: float
    ratios: npt.NDArray[np.float64] | None = dataclasses.field(default=None, repr=False)
    failed_to_enrol: int = 0

    @functools.cached_property
    def curve(self) -> Roc:
        """The `roc` of the pairs."""
        return roc(self.scores, self.same)

    @property
    def cllr(self) -> float | None:
        """Cost of `ratios` in bits, see `likelihood.cllr`; ``None`` without them."""
        return None if self.ratios is None else cllr(self.ratios, self.same)

    @property
    def genuines(self) -> int:
        """Number of genuine pairs."""
        return int(np.count_nonzero(self.same))

    @property
    def impostors(self) -> int:
        """Number of impostor pairs."""
        return len(self.same) - self.genuines

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for a card or a JSON file; rates that are not supported are ``None``."""
        result: dict[str, Any] = {
            "genuine_pairs": self.genuines,
            "impostor_pairs": self.impostors,
            "failed_to_enrol": self.failed_to_enrol,
            "auc": self.auc,
            "eer": self.eer,
            "cllr": self.cllr,
            "min_cllr": self.min_cllr,
            "tar_at_far": [dataclasses.asdict(entry) for entry in self.tar_at_far],
        }
        if self.accuracy is not None:
            result |= {
                "accuracy": self.accuracy.mean,
                "standard_error": self.accuracy.standard_error,
                "standard_deviation": self.accuracy.standard_deviation,
                "folds": list(self.accuracy.folds),
                "fold_accuracies": list(self.accuracy.accuracies),
                "fold_thresholds": list(self.accuracy.thresholds),
            }
        return result

    def rows(self) -> list[tuple[str, str]]:
        """(measure, value) as text, for a table."""
        rows = []
        if self.accuracy is not None:
            rows.append(
                (
                    f"Accuracy ({len(self.accuracy.folds)}-fold, ± standard error)",
                    f"{self.accuracy.mean:.2%} ± {self.accuracy.standard_error:.2%}",
                )
            )
        rows += [("AUC", f"{self.auc:.5f}"), ("EER", f"{self.eer:.2%}")]
        for entry in self.tar_at_far:
            rows.append((f"TAR @ FAR 1e{math.log10(entry.target):.0f}", str(entry)))
        if self.cllr is not None:
            rows.append(("Cllr (map of the other folds), bits", f"{self.cllr:.4f}"))
        rows.append(("minCllr (best map), bits", f"{self.min_cllr:.4f}"))
        rows.append(("Pairs", f"{self.genuines:,} genuine, {self.impostors:,} impostor"))
        if self.failed_to_enrol:
            rows.append(
                ("Pairs with a missing image, counted as rejected", f"{self.failed_to_enrol:,}")
            )
        return rows


def verify(
    scores: npt.ArrayLike, same: npt.ArrayLike, folds: npt.ArrayLike | None = None
) -> Verification:
    """All 1:1 measures of a list of scored pairs.

    Args:
        scores: similarities, ``(N,)``.
        same: ``(N,)``, True for genuine pairs.
        folds: ``(N,)`` fold labels as in `fold_accuracy`; without them it has no accuracy.

    Returns:
        A `Verification`; ``print(json.dumps(result.to_dict()))`` or ``rich.print(result)`` it.

    Raises:
        ValueError: as `roc` and `fold_accuracy`.

    Warns:
        UserWarning: genuine pairs score lower than impostor pairs, by more than chance: the scores
            may be distances.

    Example:
        >>> result = verify([0.9, 0.8, 0.3, 0.7, 0.2, 0.1], [1, 1, 1, 0, 0, 0])
        >>> round(result.auc, 4), result.impostors, result.accuracy
        (0.8889, 3, None)
    """
    curve = roc(scores, same)
    scores, same = checked_pairs(scores, same)
    area = curve.area()
    _warn_of_distances(curve, area)
    return Verification(
        scores=scores,
        same=same,
        accuracy=None if folds is None else fold_accuracy(scores, same, folds),
        auc=area,
        eer=curve.equal_error_rate(),
        tar_at_far=tuple(curve.tar_at_far(far) for far in FAR_TARGETS),
        min_cllr=min_cllr(curve),
        ratios=None if folds is None else _ratios(scores, same, folds),
    )


def _ratios(
    scores: npt.NDArray[np.float64], same: npt.NDArray[np.bool_], folds: npt.ArrayLike
) -> npt.NDArray[np.float64] | None:
    try:
        return ratios_by_fold(scores, same, folds)
    except ValueError:  # too few or separate pairs
        return None


def _warn_of_distances(curve: Roc, area: float) -> None:
    """Warns if the area under the ROC is four standard deviations below one half."""
    pairs = curve.genuines + curve.impostors
    chance = math.sqrt((pairs + 1) / (12 * curve.genuines * curve.impostors))
    if area < 0.5 - 4 * chance:
        warnings.warn(
            "Genuine pairs score lower than impostor pairs. Scores must be similarities, larger "
            f"for more similar faces. Received: scores with an area under the ROC of {area:.4f}. "
            "If they are distances, pass -scores.",
            stacklevel=3,
        )
