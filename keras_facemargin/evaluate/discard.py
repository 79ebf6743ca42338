"""Error-versus-discard curves: what a quality score of images is worth.

The pairs of the lowest quality are discarded first. A quality score that predicts errors lowers the
error rate of the rest at a fixed threshold; one that is noise does not change it. The quality
of a pair is the lower one of its two images. FNMR is over the share of the genuine pairs discarded,
FMR over that of the impostor pairs.

References: Grother and Tabassi, "Performance of Biometric Quality Measures", IEEE Transactions on
Pattern Analysis and Machine Intelligence 29 (2007); ISO/IEC 29794-1:2024, which calls it the
error-versus-discard characteristic.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import real_numbers
from keras_facemargin.evaluate.measures import Measures
from keras_facemargin.evaluate.uncertainty import Interval, interval
from keras_facemargin.evaluate.uncertainty.resampling import Draws, Sides
from keras_facemargin.evaluate.verification.curve import checked_pairs, require_both_kinds
from keras_facemargin.evaluate.verification.pairs import EmbeddedPairs
from keras_facemargin.evaluate.verification.verification import threshold_at_far
from keras_facemargin.quality import norm_weight as weigh_norms
from keras_facemargin.quality.judge import norm_and_agreement

FRACTIONS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
# The area is taken up to this share: in practice no more pairs are discarded.
AREA_TO = 0.2

Rates = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class ErrorVersusDiscard(Measures):
    """The result of `error_versus_discard`.

    Attributes:
        threshold: the fixed threshold.
        fractions: shares of the pairs discarded, (F,).
        fnmr: share of the remaining genuine pairs that is rejected, (F,).
        fmr: share of the remaining impostor pairs that is accepted, (F,).
        area: mean FNMR over discarded shares from 0 to 0.2, a partial area under the curve.
        genuines, impostors: numbers of pairs.
        fnmr_intervals: 95 % interval of each FNMR over people; empty without people.
        area_interval: the same of the area; None without people.
    """

    threshold: float
    fractions: tuple[float, ...]
    fnmr: tuple[float, ...]
    fmr: tuple[float, ...]
    area: float
    genuines: int
    impostors: int
    fnmr_intervals: tuple[Interval, ...] = ()
    area_interval: Interval | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for a JSON file."""
        return dataclasses.asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """(measure, value) as text."""
        rows = []
        for place, share in enumerate(self.fractions):
            ends = f" ({self.fnmr_intervals[place]})" if self.fnmr_intervals else ""
            rows.append(
                (
                    f"{share:.0%} discarded",
                    f"FNMR {self.fnmr[place]:.2%}{ends}, FMR {self.fmr[place]:.3%}",
                )
            )
        ends = f" ({self.area_interval})" if self.area_interval else ""
        rows.append((f"Mean FNMR, 0 to {AREA_TO:.0%} discarded", f"{self.area:.2%}{ends}"))
        return rows


def error_versus_discard(
    scores: npt.ArrayLike,
    same: npt.ArrayLike,
    qualities: tuple[npt.ArrayLike, npt.ArrayLike],
    *,
    far: float | None = None,
    threshold: float | None = None,
    fractions: Sequence[float] = FRACTIONS,
    people: Sides | None = None,
    replicates: int = 1_000,
    seed: int = 0,
) -> ErrorVersusDiscard:
    """FNMR and FMR at a fixed threshold after the worst pairs are discarded.

    Pairs of equal quality are discarded in equal parts, so the curve does not depend on their
    order. Implementations differ: many take the threshold from the pairs that are left, which
    credits a quality score for what the threshold does; or they discard images instead of pairs.

    Args:
        scores: similarities, ``(N,)``.
        same: ``(N,)``, True for genuine pairs.
        qualities: of the two images of each pair, ``(N,)`` each, higher is better.
        far: false accept rate of all impostor pairs, which sets the threshold.
        threshold: the threshold instead of `far`; a pair is accepted at this score or above.
        fractions: shares of the pairs to discard, each in [0, 1).
        people: the identities on the two sides, ``(N,)`` each, for intervals as `bootstrap`. The
            threshold is the same in every draw.
        replicates, seed: as `bootstrap`.

    Returns:
        An `ErrorVersusDiscard`.

    Raises:
        ValueError: as `roc` and `threshold_at_far`; both or none of `far` and `threshold` are
            given; a quality is not finite or of another shape; a fraction is not in [0, 1).

    Example:
        >>> scores, same = [0.2, 0.8, 0.9, 0.1, 0.7, 0.0], [1, 1, 1, 0, 0, 0]
        >>> first, second = [1, 5, 6, 4, 2, 5], [9, 9, 9, 9, 9, 9]
        >>> found = error_versus_discard(scores, same, (first, second), threshold=0.5,
        ...                              fractions=[0, 1 / 3])
        >>> [round(rate, 3) for rate in found.fnmr], [round(rate, 3) for rate in found.fmr]
        ([0.333, 0.0], [0.333, 0.0])
    """
    scores, same = checked_pairs(scores, same)
    require_both_kinds(same, "the list")
    worst = _lower(qualities, len(scores))
    shares = np.asarray(fractions, float)
    if shares.ndim != 1 or not np.all((shares >= 0) & (shares < 1)):
        raise ValueError(f"`fractions` must be shares in [0, 1). Received: {list(fractions)}")
    if (far is None) == (threshold is None):
        raise ValueError(
            f"Name `far` or `threshold`, one of them. Received: far={far}, threshold={threshold}"
        )
    if threshold is None:
        assert far is not None
        threshold = threshold_at_far(scores[~same], far)
    wrong = (scores >= threshold) != same
    grid = np.linspace(0, AREA_TO, 201)
    curves = [_Curve(worst[kind], wrong[kind]) for kind in (same, ~same)]
    intervals: tuple[Interval, ...] = ()
    area_interval = None
    if people is not None:
        draws = Draws(same, people, seed=seed)
        rates, areas = np.empty((replicates, len(shares))), np.empty(replicates)
        for b in range(replicates):
            times = draws.times()[same]
            rates[b] = curves[0].rates(shares, times)
            areas[b] = curves[0].rates(grid, times).mean()
        intervals = tuple(interval(column) for column in rates.T)
        area_interval = interval(areas)
    return ErrorVersusDiscard(
        threshold=float(threshold),
        fractions=tuple(shares.tolist()),
        fnmr=tuple(curves[0].rates(shares).tolist()),
        fmr=tuple(curves[1].rates(shares).tolist()),
        area=float(curves[0].rates(grid).mean()),
        genuines=int(np.count_nonzero(same)),
        impostors=int(np.count_nonzero(~same)),
        fnmr_intervals=intervals,
        area_interval=area_interval,
    )


def _lower(qualities: tuple[npt.ArrayLike, npt.ArrayLike], count: int) -> Rates:
    first, second = (real_numbers(each, "qualities").astype(float) for each in qualities)
    if first.shape != (count,) or second.shape != (count,):
        raise ValueError(
            "`qualities` must hold one number for each image of each pair, two sequences of shape "
            f"(N,). Received: shapes {first.shape} and {second.shape} for {count:,} pairs."
        )
    lower: Rates = np.minimum(first, second)
    if not np.isfinite(lower).all():
        raise ValueError("`qualities` must be finite. Received: NaN or infinity.")
    return lower


def qualities_of_pairs(
    pairs: EmbeddedPairs, *, mirrored: bool, norm_weight: float | None = None
) -> dict[str, tuple[Rates, Rates]]:
    """Utility and sharpness of both images of each pair, for `error_versus_discard`.

    Args:
        pairs: the embedded images, as `embed_pairs` gives them with or without sharpness.
        mirrored: whether the embeddings hold those of the mirror images; utility needs them.
        norm_weight: as `FaceQuality` on the embedder's card has it; None gives the norm and the
            agreement with the mirror image one deviation each among these images.

    Returns:
        A dict of "utility" and "sharpness" -> ``(N,)`` for each side, without what was not
        measured. A missing image has the
        lowest of all. Utility is not on the scale of a card: only its order counts here.
    """
    found = {}
    if mirrored:
        found["utility"] = pairs.sides(raw_utilities(pairs.embeddings, norm_weight))
    if pairs.sharpness is not None:
        found["sharpness"] = pairs.sides(pairs.sharpness)
    return found


def raw_utilities(embeddings: npt.NDArray[Any], norm_weight: float | None = None) -> Rates:
    """The utility of images before the scale of a card, of which only the order counts.

    Args:
        embeddings: ``(N, 2 * D)``, those of the mirror images appended.
        norm_weight: as `qualities_of_pairs`.

    Returns:
        float64 ``(N,)``: the weighted logarithm of the norm, and the agreement with the mirror
        image.
    """
    norms, agreements = norm_and_agreement(*np.split(embeddings, 2, axis=1))
    weight = weigh_norms(norms, agreements) if norm_weight is None else norm_weight
    utilities: Rates = weight * np.log(np.maximum(norms, 1e-12)) + agreements
    return utilities


class _Curve:
    """Pairs of one kind in ascending quality, those of equal quality together."""

    def __init__(self, worst: Rates, wrong: npt.NDArray[np.bool_]) -> None:
        self._order = np.argsort(worst, kind="stable")
        ordered = worst[self._order]
        self._ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) + 1
        self._wrong = wrong[self._order]

    def rates(self, shares: Rates, times: npt.NDArray[np.int64] | None = None) -> Rates:
        """Error rate of the rest after each share is discarded, pair i counted times[i] times."""
        weights = np.ones(len(self._order)) if times is None else times[self._order].astype(float)
        pairs, errors = (
            np.append(0, np.cumsum(each)[self._ends - 1])
            for each in (weights, weights * self._wrong)
        )
        gone = shares * pairs[-1]
        # Between two qualities the pairs of one quality leave in equal parts.
        left: Rates = (errors[-1] - np.interp(gone, pairs, errors)) / (pairs[-1] - gone)
        return left
