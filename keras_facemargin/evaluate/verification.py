"""One-to-one verification, exactly: what a list of scored pairs says about an embedder.

A pair is *genuine* (one person twice) or *impostor* (two people) and is accepted if and only if
``score >= threshold``. Scores are similarities: larger means more alike. Everything here is counted
in float64 at every distinct score; no grid of thresholds, no interpolation of a rate that was never
observed. `Roc` holds the counts; each measure is one question put to it.
"""

import dataclasses
import math

import numpy as np

FAR_TARGETS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)

# Pairs whose embeddings `cosine_scores` holds in float64 at a time.
ROWS_AT_ONCE = 1_024


@dataclasses.dataclass(frozen=True)
class TarAtFar:
    """The true accept rate at a target false accept rate, or the word that there is none.

    Attributes:
        target: the false accept rate asked for, in (0, 1).
        impostors: number of impostor pairs; they resolve rates down to ``1 / impostors``.
        tar: share of genuine pairs accepted; ``None`` if `target` is below ``1 / impostors``.
        far: share of impostor pairs really accepted, at most `target`; ``None`` likewise.
        threshold: the smallest float64 that keeps to `target`; ``None`` likewise.
    """

    target: float
    impostors: int
    tar: float | None = None
    far: float | None = None
    threshold: float | None = None

    @property
    def supported(self) -> bool:
        """Whether the sample is large enough to say anything at this target."""
        return self.tar is not None

    def __str__(self):
        if not self.supported:
            return f"not supported by {self.impostors:,} impostor pairs"
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

    thresholds: np.ndarray
    false_accepts: np.ndarray
    true_accepts: np.ndarray

    @property
    def impostors(self) -> int:
        """Number of impostor pairs."""
        return int(self.false_accepts[-1])

    @property
    def genuines(self) -> int:
        """Number of genuine pairs."""
        return int(self.true_accepts[-1])

    @property
    def far(self) -> np.ndarray:
        """False accept rate (also FMR, FPR) at each point, ``(K + 1,)``."""
        return self.false_accepts / self.impostors

    @property
    def tar(self) -> np.ndarray:
        """True accept rate (also 1 - FNMR, TPR) at each point, ``(K + 1,)``."""
        return self.true_accepts / self.genuines

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
            threshold=_just_above(self.thresholds[beyond]),
        )

    def most_accurate_threshold(self) -> float:
        """The threshold that classifies most pairs correctly, as `fold_accuracy` chooses it."""
        correct = self.true_accepts + self.impostors - self.false_accepts
        scores = self.thresholds[1:]
        # Point k stands for all thresholds between its score and the next smaller one. The two
        # ends have no width: they win only where nothing between two scores is as accurate.
        widths = np.concatenate([[0.0], scores[:-1] - scores[1:], [0.0]])
        best = np.flatnonzero(correct == correct.max())
        point = best[np.argmax(widths[best])]
        if point == 0:
            return _just_above(scores[0])
        if point == len(scores):
            return float(scores[-1])
        upper, lower = scores[point - 1], scores[point]
        middle = lower + (upper - lower) / 2
        # Between two neighbouring floats the middle rounds; it must not fall on the lower one.
        return float(middle if middle > lower else upper)


def roc(scores, same) -> Roc:
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
    scores, same = _checked(scores, same)
    order = np.argsort(scores)[::-1]
    scores, same = scores[order], same[order]
    last_of_ties = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    true_accepts = np.cumsum(same)[last_of_ties]
    return Roc(
        thresholds=np.append(np.inf, scores[last_of_ties]),
        false_accepts=np.append(0, last_of_ties + 1 - true_accepts),
        true_accepts=np.append(0, true_accepts),
    )


def area_under_curve(scores, same) -> float:
    """The area under the ROC: P(genuine > impostor) + P(genuine = impostor) / 2 (Mann-Whitney).

    Arguments and errors are those of `roc`.

    Example:
        >>> area_under_curve([0.9, 0.8, 0.8, 0.1], [True, True, False, False])
        0.875
    """
    return roc(scores, same).area()


def equal_error_rate(scores, same) -> float:
    """The rate at which false accepts and false rejects are equally frequent.

    FAR rises and FNMR = 1 - TAR falls from one point of the `roc` to the next. If they are equal at
    a point, that is the rate; else it lies where the straight line between the two neighbouring
    points crosses FAR = FNMR. Arguments and errors are those of `roc`.

    Implementations differ: some return the mean of FAR and FNMR at the nearest point of a grid.

    Example:
        >>> equal_error_rate([0.9, 0.8, 0.3, 0.7, 0.2, 0.1], [1, 1, 1, 0, 0, 0])
        0.3333333333333333
    """
    return roc(scores, same).equal_error_rate()


def tar_at_far(scores, same, far: float) -> TarAtFar:
    """The largest true accept rate whose false accept rate does not exceed `far`.

    This is the conservative rule. Others are in use and give other numbers on the same scores: the
    ROC point nearest to `far`, even above it (InsightFace); linear interpolation (OpenSphere); the
    k-th largest impostor as threshold with k = round(far * impostors) (PFE, BLUFR).

    Args:
        scores: similarities, ``(N,)``.
        same: ``(N,)``, True for genuine pairs.
        far: target false accept rate, in (0, 1).

    Returns:
        A `TarAtFar`. Below ``1 / impostors`` no rate was observed: it is not `supported` then and
        holds no number.

    Raises:
        ValueError: as `roc`, or if `far` is not in (0, 1).

    Example:
        >>> scores, same = [0.9, 0.8, 0.4, 0.7, 0.2, 0.1], [1, 1, 1, 0, 0, 0]
        >>> tar_at_far(scores, same, far=0.35).tar
        1.0
        >>> print(tar_at_far(scores, same, far=0.1))
        not supported by 3 impostor pairs
    """
    return roc(scores, same).tar_at_far(far)


def threshold_at_far(impostor_scores, far: float) -> float:
    """The smallest threshold at which at most a share `far` of the impostor pairs is accepted.

    It is the first float64 above the impostor score that would be one too many, so on the same
    pairs it accepts exactly the genuine pairs that `tar_at_far` counts.

    Args:
        impostor_scores: similarities of pairs of different people, ``(N,)``.
        far: target false accept rate, in ``[1 / N, 1)``.

    Raises:
        ValueError: if a score is not finite, `far` is not in (0, 1), or `far` is below ``1 / N``: a
            threshold for it would be a guess.

    Example:
        >>> threshold = threshold_at_far([0.4, 0.3, 0.2, 0.1], far=0.25)
        >>> 0.3 < threshold < 0.3000001
        True
    """
    scores = _finite_vector(impostor_scores, "impostor_scores")
    allowed = allowed_false_accepts(far, len(scores))
    if allowed == 0:
        raise ValueError(
            f"`far` must be at least 1 / (number of impostor pairs): {len(scores):,} pairs support "
            f"rates down to {1 / len(scores):.2g}. Received: far={far:g}. Score at least "
            f"{math.ceil(1 / far):,} impostor pairs or ask for a larger rate."
        )
    position = len(scores) - 1 - allowed
    return _just_above(np.partition(scores, position)[position])


@dataclasses.dataclass(frozen=True)
class FoldAccuracy:
    """Accuracy by cross-validated threshold.

    Attributes:
        folds: the fold labels, sorted.
        accuracies: share of correct decisions on each fold, in [0, 1].
        thresholds: the threshold used on each fold, chosen on all the others.
    """

    folds: tuple
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


def fold_accuracy(scores, same, folds) -> FoldAccuracy:
    """Verification accuracy as LFW defines it: each fold judged at the others' best threshold.

    For each fold the threshold is the one that is most accurate on all other folds, sought exactly
    among the middles between adjacent distinct scores and the two ends (the lowest score, which
    accepts everything, and just above the highest, which accepts nothing). Where several are
    equally accurate, the middle of the widest gap is taken; among equally wide ones the highest.

    Implementations differ: a grid of 400 distances (InsightFace), the mean of all maximisers
    (SphereFace, PFE), the maximum of TPR - FPR (FaceX-Zoo), or the best threshold on the very pairs
    that are judged, which is not this protocol.

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
    scores, same = _checked(scores, same)
    folds = np.asarray(folds)
    if folds.shape != scores.shape:
        raise ValueError(
            "`folds` must hold one fold label per score. "
            f"Received: folds of shape {folds.shape}, scores of shape {scores.shape}."
        )
    names = np.unique(folds)
    if len(names) < 2:
        raise ValueError(
            "A threshold is chosen on the other folds, so at least two folds are needed. "
            f"Received: {len(names)} fold."
        )
    accuracies, thresholds = [], []
    for name in names:
        held_out = folds == name
        _require_both_kinds(same[held_out], f"fold {name}")
        threshold = roc(scores[~held_out], same[~held_out]).most_accurate_threshold()
        accuracies.append(float(np.mean((scores[held_out] >= threshold) == same[held_out])))
        thresholds.append(threshold)
    return FoldAccuracy(tuple(names.tolist()), tuple(accuracies), tuple(thresholds))


@dataclasses.dataclass(frozen=True, eq=False)
class Verification:
    """What `verify` found, with the scored pairs that it was found on.

    Attributes:
        scores: float64 ``(N,)``; not part of `to_dict`.
        same: bool ``(N,)``; not part of `to_dict`.
        accuracy: a `FoldAccuracy`, or ``None`` where the pairs have no folds: without them there is
            no threshold that was not chosen on the pairs it judges.
        auc: area under the ROC, in [0, 1].
        eer: equal error rate, in [0, 1].
        tar_at_far: a `TarAtFar` for each of 1e-1 to 1e-6; those out of reach say so.
        unseen: number of pairs that count as rejected because an image of theirs is missing (a
            failure to enrol).
    """

    scores: np.ndarray = dataclasses.field(repr=False)
    same: np.ndarray = dataclasses.field(repr=False)
    accuracy: FoldAccuracy | None
    auc: float
    eer: float
    tar_at_far: tuple[TarAtFar, ...]
    unseen: int = 0

    @property
    def genuines(self) -> int:
        """Number of genuine pairs."""
        return int(np.count_nonzero(self.same))

    @property
    def impostors(self) -> int:
        """Number of impostor pairs."""
        return len(self.same) - self.genuines

    def to_dict(self) -> dict:
        """Plain numbers for a card or a JSON file; rates out of reach are ``None``."""
        result = {
            "genuine_pairs": self.genuines,
            "impostor_pairs": self.impostors,
            "unseen_pairs": self.unseen,
            "auc": self.auc,
            "eer": self.eer,
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
        rows.append(("Pairs", f"{self.genuines:,} genuine, {self.impostors:,} impostor"))
        if self.unseen:
            rows.append(("Pairs with a missing image, counted as rejected", f"{self.unseen:,}"))
        return rows

    def __rich__(self):
        from rich.table import Table

        table = Table("Measure", "Value")
        for measure, value in self.rows():
            table.add_row(measure, value)
        return table


def verify(scores, same, folds=None) -> Verification:
    """All one-to-one measures of a list of scored pairs.

    Args:
        scores: similarities, ``(N,)``.
        same: ``(N,)``, True for genuine pairs.
        folds: ``(N,)`` fold labels as in `fold_accuracy`; without them no accuracy is given.

    Returns:
        A `Verification`; ``print(json.dumps(result.to_dict()))`` or ``rich.print(result)`` it.

    Raises:
        ValueError: as `roc` and `fold_accuracy`.

    Example:
        >>> result = verify([0.9, 0.8, 0.3, 0.7, 0.2, 0.1], [1, 1, 1, 0, 0, 0])
        >>> round(result.auc, 4), result.impostors, result.accuracy
        (0.8889, 3, None)
    """
    curve = roc(scores, same)
    scores, same = _checked(scores, same)
    return Verification(
        scores=scores,
        same=same,
        accuracy=None if folds is None else fold_accuracy(scores, same, folds),
        auc=curve.area(),
        eer=curve.equal_error_rate(),
        tar_at_far=tuple(curve.tar_at_far(far) for far in FAR_TARGETS),
    )


def cosine_scores(a, b) -> np.ndarray:
    """Cosine similarity of corresponding rows, in float64.

    Args:
        a, b: embeddings, ``(N, D)`` each, of any length but zero.

    Returns:
        float64 ``(N,)`` in [-1, 1].

    Raises:
        ValueError: if shapes differ or a row is zero or not finite.

    Example:
        >>> cosine_scores([[2.0, 0.0], [0.0, 3.0]], [[5.0, 0.0], [1.0, 0.0]]).tolist()
        [1.0, 0.0]
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(
            f"`a` and `b` must have one shape (N, D). Received: shapes {a.shape} and {b.shape}."
        )
    scores = np.empty(len(a))
    # In float64 only a block at a time: the pairs of a protocol may be many times the embeddings.
    for start in range(0, len(a), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        # Not einsum, which adds in another order where it cuts long rows into buffers.
        products = unit_rows(a[rows], "a", start) * unit_rows(b[rows], "b", start)
        scores[rows] = products.sum(axis=1)
    return np.clip(scores, -1.0, 1.0)


def allowed_false_accepts(far, impostors):
    """The largest count whose share of `impostors` is at most `far`."""
    if not 0 < far < 1:
        raise ValueError(f"`far` must be a rate in (0, 1). Received: far={far}.")
    # The product may round across a whole number (0.29 * 100 = 28.999...); the quotient is what
    # the rule is about, so it decides.
    allowed = math.floor(far * impostors + 0.5)
    return allowed if allowed / impostors <= far else allowed - 1


def _just_above(score):
    return float(np.nextafter(score, np.inf))


def _checked(scores, same):
    """Scores as float64 and same as bool, or a clear error."""
    scores, same = _finite_vector(scores, "scores"), np.asarray(same)
    if same.shape != scores.shape:
        raise ValueError(
            "`same` must hold one truth value per score. "
            f"Received: same of shape {same.shape}, scores of shape {scores.shape}."
        )
    if same.dtype != bool:
        strange = same[(same != 0) & (same != 1)]
        if len(strange):
            raise ValueError(
                "`same` must hold True or 1 for genuine pairs and False or 0 for impostors. "
                f"Received: {strange[0]!r}."
            )
        same = same.astype(bool)
    _require_both_kinds(same, "`same`")
    return scores, same


def _require_both_kinds(same, where):
    genuines = int(np.count_nonzero(same))
    if genuines in (0, len(same)):
        raise ValueError(
            "Verification needs genuine and impostor pairs. "
            f"Received: {where} with {genuines} genuine and {len(same) - genuines} impostor pairs."
        )


def _finite_vector(values, name):
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"`{name}` must be of shape (N,), N > 0. Received: shape {values.shape}.")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ValueError(
            f"`{name}` must be finite. Received: {values[bad[0]]} at index {bad[0]} "
            f"({len(bad):,} of {len(values):,} are not finite)."
        )
    return values


def unit_rows(embeddings, name, offset=0):
    """Rows in float64, each divided by its length; an error names row `offset` + its index."""
    # In C order the sums run along each row the same way, wherever it stands: the score of a pair
    # is one number, whatever array it is computed in.
    embeddings = np.asarray(embeddings, dtype=np.float64, order="C")
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(norms[:, 0]) | (norms[:, 0] == 0))
    if len(bad):
        raise ValueError(
            f"A cosine needs finite embeddings of non-zero length. Received: `{name}` with length "
            f"{norms[bad[0], 0]} in row {offset + bad[0]}."
        )
    return embeddings / norms
