"""The answer to "do two photos show one person?", with all that it depends on."""

import dataclasses
from typing import Any, Literal

from keras_facemargin.quality import Quality
from keras_facemargin.zoo import Threshold, Thresholds

Verdict = Literal["same", "different", "cannot say"]
_WORDS = {"same": "same person", "different": "different people", "cannot say": "cannot say"}


@dataclasses.dataclass(frozen=True)
class Verification:
    """Whether two faces are of one person.

    Attributes:
        verdict: "same", "different", or "cannot say" where a face is not good enough.
        cosine: similarity of the two embeddings, -1..1.
        threshold: smallest cosine of the verdict "same" for faces of that sharpness.
        far: false accept rate at the threshold; None for a threshold of your own.
        calibrated_on: the pairs on which the threshold has that rate; None for one of your own.
        qualities: the `Quality` of each face.
        reason: why the verdict is "cannot say", one sentence or two; "" for the other verdicts.
        raised_by: the part of the threshold that is due to missing detail; 0 for two sharp faces.
        log10_likelihood_ratio: log10 of how many times as likely the cosine is for one person as
            for two; None if the card has no `likelihood`, the verdict is "cannot say" or a face is
            below a limit of quality: the ratio is that of good crops.
    """

    verdict: Verdict
    cosine: float
    threshold: float
    far: float | None
    calibrated_on: str | None
    qualities: tuple[Quality | None, Quality | None]
    reason: str = ""
    raised_by: float = 0.0
    log10_likelihood_ratio: float | None = None
    likelihood_ratio_is_bound: bool = False

    @property
    def words(self) -> str:
        """The verdict in words: "same person", "different people" or "cannot say"."""
        return _WORDS[self.verdict]

    @property
    def comparison(self) -> str:
        """The cosine and the threshold, in words."""
        raised = f", raised by {self.raised_by:.4f} for missing detail" if self.raised_by else ""
        return f"cosine {self.cosine:.4f}, threshold {self.threshold:.4f}{raised}"

    @property
    def meaning(self) -> str:
        """The likelihood ratio in a sentence; "" without one."""
        ratio = self.log10_likelihood_ratio
        if ratio is None:
            return ""
        one, two = ("one person", "two people") if ratio >= 0 else ("two people", "one person")
        times = float(f"{10 ** abs(ratio):.2g}")  # two digits
        digits = 0 if times >= 10 else 1
        bound = "at least " if self.likelihood_ratio_is_bound else ""
        return (
            f"The cosine is {bound}{times:,.{digits}f} times as likely for {one} as for {two}; the "
            "odds before the comparison are yours."
        )

    @property
    def sentence(self) -> str:
        """The verdict with its reason."""
        origin = "your own" if self.far is None else f"FAR {self.far:.2g} on {self.calibrated_on}"
        because = f"{self.reason.rstrip('.')}; " if self.reason else ""
        return (
            f"{self.words}: {because}{self.comparison} ({origin}){'. ' if self.meaning else ''}"
            f"{self.meaning}"
        )

    def __str__(self) -> str:
        return self.sentence

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the sentence."""
        return dataclasses.asdict(self) | {"sentence": self.sentence}


def find_threshold(thresholds: Thresholds, far: float | None, name: str) -> Threshold:
    """The threshold for a false accept rate, of all people and mirrored embeddings.

    Args:
        thresholds: of a card.
        far: false accept rate; None for the nearest to 1e-3 that the card has.
        name: of the embedder, for the error.

    Raises:
        ValueError: the card has no threshold for that rate; the message lists those it has.
    """
    if far is None:
        return thresholds.find(mirrored=True)
    general = [one for one in thresholds.mirrored if one.group is None] or thresholds.mirrored
    for one in general:
        if abs(one.far - far) <= 1e-6 * one.far:
            return one
    known = ", ".join(f"{one.far:.2g}" for one in sorted(general, key=lambda one: -one.far))
    raise ValueError(
        f"The card of {name} must have a threshold for the false accept rate. Received: far={far}; "
        f"the card has {known}. Choose one of these, or let `facemargin calibrate FACES --model "
        "MODEL --far FAR` measure another."
    )
