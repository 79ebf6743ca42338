"""Same, different, or cannot say."""

import dataclasses
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_facemargin.quality.judge import Limits, Quality

# Pixels between the eyes of the sharper crop of a pair: from SHARP on the threshold is that of
# clean crops, below FAINT no threshold holds. Crops of 20 and 14 pixels and of blur 4 are below it.
SHARP, FAINT = 22.0, 7.5


@dataclasses.dataclass(frozen=True)
class Decision:
    """The answer to whether two crops show one person.

    Attributes:
        verdict: the answer.
        threshold: smallest cosine of the answer "same" for crops of that sharpness; that of good
            crops if there is none.
        reason: one sentence why the crops are not good enough; "" if they are.
    """

    verdict: Literal["same", "different", "cannot say"]
    threshold: float
    reason: str


class Verdicts(NamedTuple):
    """The answers for arrays of pairs; a pair that is neither has no answer.

    Attributes:
        same, different: whether that is the answer.
        threshold: smallest cosine of "same"; infinite where there is none.
    """

    same: npt.NDArray[np.bool_]
    different: npt.NDArray[np.bool_]
    threshold: npt.NDArray[np.float64]


def decide(
    cosine: float,
    threshold: float,
    *,
    qualities: tuple[Quality | None, Quality | None],
    limits: Limits | None,
) -> Decision:
    """Decides whether two crops show one person.

    An embedder finds two strangers more similar the less detail the sharper of their crops has. So
    the threshold of "same" rises for a pair with a crop below the limit of sharpness, unless the
    other is sharp, and the two have no answer if both are too faint. "Different" needs two crops at
    or above both limits: one blurred or turned crop makes the same person look different.

    Args:
        cosine: of the two embeddings.
        threshold: smallest cosine of the same person, of two good crops.
        qualities: of the two crops, as `judge` gives them; a quality that is None counts as at the
            limits.
        limits: on the embedder's card; None leaves two answers.

    Returns:
        A `Decision`.

    Example:

    >>> from types import SimpleNamespace
    >>> limits = SimpleNamespace(utility=0.01, sharpness=11.0, threshold_rise=0.01)
    >>> sharp, soft, turned = Quality(0.5, 25.0), Quality(0.5, 10.0), Quality(0.004, 25.0)
    >>> [decide(0.5, 0.45, qualities=(one, other), limits=limits).verdict
    ...  for one, other in ((sharp, turned), (sharp, soft), (soft, soft))]
    ['same', 'same', 'cannot say']
    >>> print(f"{decide(0.6, 0.45, qualities=(soft, soft), limits=limits).threshold:.2f}")
    0.57
    >>> print(decide(0.4, 0.45, qualities=(sharp, soft), limits=limits).reason)
    The second face has the detail of 10.0 pixels between the eyes; at least 11.0 are needed.
    """
    if limits is None:
        return Decision("same" if cosine >= threshold else "different", threshold, "")
    found = verdicts(
        cosine,
        threshold,
        sharpness=(_sharpness(qualities[0], limits), _sharpness(qualities[1], limits)),
        utility=(_utility(qualities[0], limits), _utility(qualities[1], limits)),
        limits=limits,
    )
    raised = float(found.threshold) if np.isfinite(found.threshold) else threshold
    if found.same or found.different:
        return Decision("same" if found.same else "different", raised, "")
    faults = zip(("first", "second"), (shortfall(each, limits) for each in qualities), strict=True)
    reason = " ".join(f"The {name} face {fault}." for name, fault in faults if fault)
    return Decision("cannot say", raised, reason)


def verdicts(
    cosine: npt.ArrayLike,
    threshold: float,
    *,
    sharpness: tuple[Any, Any],
    utility: tuple[Any, Any],
    limits: Limits,
) -> Verdicts:
    """The rule of `decide` for arrays.

    Args:
        cosine, threshold, limits: as `decide`.
        sharpness, utility: of the two crops, arrays that broadcast against the cosines.

    Returns:
        `Verdicts`.
    """
    cosine = np.asarray(cosine)
    sharper, softer = np.maximum(*sharpness), np.minimum(*sharpness)
    clear = softer >= limits.sharpness
    rise = np.full(np.shape(clear), np.inf)
    if limits.threshold_rise is not None:
        missing = np.maximum(SHARP - sharper, 0)
        rise = np.where(sharper >= FAINT, limits.threshold_rise * missing, np.inf)
    raised = threshold + np.where(clear, 0.0, rise)
    useful = np.minimum(*utility) >= limits.utility
    return Verdicts(cosine >= raised, (cosine < threshold) & clear & useful, raised)


def _sharpness(quality: Quality | None, limits: Limits) -> float:
    return limits.sharpness if quality is None else quality.sharpness


def _utility(quality: Quality | None, limits: Limits) -> float:
    utility = None if quality is None else quality.utility
    return limits.utility if utility is None else utility


def shortfall(quality: Quality | None, limits: Limits) -> str | None:
    """Names the quality of a crop that is below its limit.

    Args:
        quality: of the crop; None if it is not known.
        limits: on the embedder's card.

    Returns:
        The part of a sentence after "the face"; None for a crop that is good enough.

    Example:

    >>> from types import SimpleNamespace
    >>> limits = SimpleNamespace(utility=0.01, sharpness=11.0, threshold_rise=None)
    >>> shortfall(Quality(0.004, 20.0), limits)
    'is harder to recognise than 99.6% of clean celebrity crops'
    """
    if quality is None:
        return None
    if quality.sharpness < limits.sharpness:
        return (
            f"has the detail of {quality.sharpness:.1f} pixels between the eyes; at least "
            f"{limits.sharpness:.1f} are needed"
        )
    if quality.utility is not None and quality.utility < limits.utility:
        return f"is harder to recognise than {1 - quality.utility:.1%} of clean celebrity crops"
    return None
