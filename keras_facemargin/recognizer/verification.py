"""The answer to "do two photos show one person?", with all that it depends on."""

import dataclasses
from typing import Any, Literal

from keras_facemargin.zoo import Threshold, Thresholds

Verdict = Literal["same", "different", "cannot say"]


@dataclasses.dataclass(frozen=True)
class Verification:
    """Whether two faces are of one person.

    Attributes:
        verdict: "same", "different", or "cannot say" where a face is not good enough.
        cosine: similarity of the two embeddings, -1..1.
        threshold: smallest cosine of the verdict "same".
        far: false accept rate at the threshold; None for a threshold of your own.
        calibrated_on: the pairs on which the threshold has that rate; None for one of your own.
        qualities: the quality of each face, None where it is not judged.
        sentence: the verdict with its reason.
    """

    verdict: Verdict
    cosine: float
    threshold: float
    far: float | None
    calibrated_on: str | None
    qualities: tuple[Any, Any]
    sentence: str

    def __str__(self) -> str:
        return self.sentence

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


def find_threshold(thresholds: Thresholds, far: float, name: str) -> Threshold:
    """The threshold for a false accept rate, of all people and mirrored embeddings.

    Args:
        thresholds: of a card.
        far: false accept rate.
        name: of the embedder, for the error.

    Raises:
        ValueError: the card has no threshold for that rate; the message lists those it has.
    """
    general = [one for one in thresholds.mirrored if one.group is None] or thresholds.mirrored
    for one in general:
        if abs(one.far - far) <= 1e-6 * one.far:
            return one
    known = ", ".join(f"{one.far:.2g}" for one in sorted(general, key=lambda one: -one.far))
    raise ValueError(
        f"The card of {name} must have a threshold for the false accept rate. Received: far={far!r}"
        f", and its card has {known}. Choose one of these, or let `facemargin calibrate` measure "
        "another on faces of yours."
    )
