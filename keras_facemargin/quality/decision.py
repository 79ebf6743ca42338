"""Same, different, or cannot say."""

import dataclasses
from typing import Any, Literal

from keras_facemargin.quality.judge import Limits, Quality


@dataclasses.dataclass(frozen=True)
class Decision:
    """The answer to whether two crops show one person.

    Attributes:
        verdict: the answer.
        reason: one sentence why the crops are not good enough; "" if they are.
    """

    verdict: Literal["same", "different", "cannot say"]
    reason: str


def decide(
    cosine: float,
    threshold: float,
    *,
    qualities: tuple[Quality | None, Quality | None],
    limits: Limits | None,
) -> Decision:
    """Decides whether two crops show one person.

    An embedder finds two strangers similar if both crops have too little detail: neither answer
    holds. If one has, or too little utility, the same person looks different and strangers do not
    look similar: a cosine at or above the threshold holds, beside a crop sharp enough for that.

    Args:
        cosine: of the two embeddings.
        threshold: smallest cosine of the same person.
        qualities: of the two crops, as `judge` gives them; a quality that is None is not compared.
        limits: on the embedder's card; None leaves two answers.

    Returns:
        A `Decision`.

    Example:

    >>> from types import SimpleNamespace
    >>> limits = SimpleNamespace(utility=0.01, sharpness=11.0, partner_sharpness=18.0)
    >>> sharp, blurred, turned = Quality(0.5, 25.0), Quality(0.5, 7.0), Quality(0.004, 25.0)
    >>> [decide(0.6, 0.45, qualities=(sharp, other), limits=limits).verdict
    ...  for other in (turned, blurred)]
    ['same', 'same']
    >>> print(decide(0.4, 0.45, qualities=(sharp, blurred), limits=limits).reason)
    The second face has the detail of 7.0 pixels between the eyes; at least 11.0 are needed.
    """
    accepted = cosine >= threshold
    if limits is not None:
        a, b = qualities
        blurred = _is_blurred(a, limits), _is_blurred(b, limits)
        poor = _is_poor(a, limits), _is_poor(b, limits)
        sharp = _is_sharp(a, limits), _is_sharp(b, limits)
        if without_answer(accepted, blurred=blurred, poor=poor, sharp=sharp):
            faults = zip(
                ("first", "second"), (shortfall(each, limits) for each in qualities), strict=True
            )
            reason = " ".join(f"The {name} face {fault}." for name, fault in faults if fault)
            return Decision("cannot say", reason)
    return Decision("same" if accepted else "different", "")


def without_answer(
    accepted: Any, *, blurred: tuple[Any, Any], poor: tuple[Any, Any], sharp: tuple[Any, Any]
) -> Any:
    """The rule of `decide`, for truth values or arrays of them.

    Args:
        accepted: whether the cosine reaches the threshold.
        blurred: for each side, whether its sharpness is below the limit.
        poor: for each side, whether its utility is below the limit.
        sharp: for each side, whether its sharpness is enough for "same" beside a blurred crop.

    Returns:
        Whether the answer is "cannot say".
    """
    one_blurred = blurred[0] | blurred[1]
    no_sharp = (sharp[0] | sharp[1]) ^ True
    return (one_blurred & no_sharp) | ((one_blurred | poor[0] | poor[1]) & (accepted ^ True))


def _is_blurred(quality: Quality | None, limits: Limits) -> bool:
    return quality is not None and quality.sharpness < limits.sharpness


def _is_sharp(quality: Quality | None, limits: Limits) -> bool:
    least = limits.partner_sharpness
    return quality is not None and least is not None and quality.sharpness >= least


def _is_poor(quality: Quality | None, limits: Limits) -> bool:
    utility = None if quality is None else quality.utility
    return utility is not None and utility < limits.utility


def shortfall(quality: Quality | None, limits: Limits) -> str | None:
    """Names the quality of a crop that is below its limit.

    Args:
        quality: of the crop; None if it is not known.
        limits: on the embedder's card.

    Returns:
        The part of a sentence after "the face"; None for a crop that is good enough.

    Example:

    >>> from types import SimpleNamespace
    >>> limits = SimpleNamespace(utility=0.01, sharpness=11.0)
    >>> shortfall(Quality(0.004, 20.0), limits)
    'is harder to recognise than 99.6% of clean celebrity crops'
    """
    if quality is None:
        return None
    if _is_blurred(quality, limits):
        return (
            f"has the detail of {quality.sharpness:.1f} pixels between the eyes; at least "
            f"{limits.sharpness:.1f} are needed"
        )
    if quality.utility is not None and _is_poor(quality, limits):
        return f"is harder to recognise than {1 - quality.utility:.1%} of clean celebrity crops"
    return None
