"""Same, different, or cannot say."""

import dataclasses
from typing import Literal

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

    A pair of two crops with too little detail has no answer: an embedder finds such strangers
    similar. One such crop, or one of too little utility, makes the same person look different, so
    a cosine below the threshold has no answer either. A cosine above it holds then: one blurred
    crop and one sharp crop of strangers are accepted less often than two sharp ones.

    Args:
        cosine: of the two embeddings.
        threshold: smallest cosine of the same person.
        qualities: of the two crops, as `judge` gives them; a quality that is None is not compared.
        limits: on the embedder's card; None leaves two answers.

    Returns:
        A `Decision`.

    Example:

    >>> from types import SimpleNamespace
    >>> limits = SimpleNamespace(utility=0.01, sharpness=11.0)
    >>> sharp, blurred = Quality(0.5, 25.0), Quality(0.5, 7.0)
    >>> decide(0.6, 0.45, qualities=(blurred, blurred), limits=limits).verdict
    'cannot say'
    >>> decide(0.6, 0.45, qualities=(sharp, blurred), limits=limits).verdict
    'same'
    >>> print(decide(0.2, 0.45, qualities=(sharp, blurred), limits=limits).reason)
    The second face has the detail of 7.0 pixels between the eyes; at least 11.0 are needed.
    """
    accepted = cosine >= threshold
    if limits is not None:
        faults = [shortfall(quality, limits) for quality in qualities]
        blurred = [q is not None and q.sharpness < limits.sharpness for q in qualities]
        if all(blurred) or (not accepted and any(faults)):
            named = zip(("first", "second"), faults, strict=True)
            reason = " ".join(f"The {name} face {fault}." for name, fault in named if fault)
            return Decision("cannot say", reason)
    return Decision("same" if accepted else "different", "")


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
    'is harder to recognise than 99.6 % of clean celebrity crops'
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
