"""The rule from RGB 0..255 to the numbers that a network takes, and its text."""

import dataclasses
import math
import re
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

_ZERO, _ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
# Names for rules that many files have: mean and scale.
_NAMED = {
    "raw": (_ZERO, _ONE),
    "0..1": (_ZERO, (255.0, 255.0, 255.0)),
    "minus1..1": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "imagenet": _IMAGENET,  # in the order RGB
}
_NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_NUMBERS = rf"\[?({_NUMBER}(?:,{_NUMBER},{_NUMBER})?)\]?"
_FORMULAS = (  # of the text without spaces; the pixel is divided by 255 first, or not
    re.compile(rf"\(x(?P<unit>/255(?:\.0)?)?-{_NUMBERS}\)/{_NUMBERS}"),
    re.compile(rf"x(?P<unit>(?!))?(?P<none>)/{_NUMBERS}"),
)


@dataclasses.dataclass(frozen=True)
class Pixels:
    """The pixels that a network takes: ``(pixel - mean) / scale`` for each channel.

    Attributes:
        mean, scale: three numbers each, in the order of `channel_order`.
        channel_order: "RGB" or "BGR".
    """

    mean: tuple[float, float, float] = _ZERO
    scale: tuple[float, float, float] = _ONE
    channel_order: Literal["RGB", "BGR"] = "RGB"

    @classmethod
    def of(cls, text: str) -> "Pixels":
        """The pixels of a text.

        Args:
            text: `raw` (0..255), `0..1`, `minus1..1`, `imagenet`, or a formula of the pixel x:
                `(x-127.5)/128`, `x/255`, `(x/255-0.5)/0.5`. A number may be three, separated by
                commas. `BGR` in front: the network takes blue first, and three numbers are in
                that order.

        Raises:
            ValueError: another text.

        Example:

        >>> Pixels.of("(x/255-0.5)/0.5") == Pixels.of("minus1..1")
        True
        >>> str(Pixels.of("BGR (x-127.5)/128"))
        'BGR (x-127.5)/128'
        """
        words = text.strip()
        order: Literal["RGB", "BGR"] = "BGR" if words[:3].upper() == "BGR" else "RGB"
        form = words[3:] if words[:3].upper() == order else words
        form = "".join(form.lower().split())
        if form in _NAMED:
            mean, scale = _NAMED[form]
            if order == "BGR":
                mean, scale = mean[::-1], scale[::-1]
            return cls(mean, scale, order)
        for formula in _FORMULAS:
            if found := formula.fullmatch(form):
                numbers = [_three(part) for part in found.groups() if part and part[0] != "/"]
                mean, scale = (_ZERO, *numbers)[-2:]
                if found["unit"]:
                    mean, scale = _of_bytes(mean), _of_bytes(scale)
                if all(map(math.isfinite, (*mean, *scale))) and min(scale) > 0:
                    return cls(mean, scale, order)
        raise ValueError(
            f"The pixels that a file takes must be {', '.join(_NAMED)} or a formula such as "
            f"(x-127.5)/128, with BGR in front if blue comes first. Received: {text!r}"
        )

    @property
    def raw(self) -> bool:
        """Whether the network takes RGB 0..255 unchanged."""
        return self == Pixels()

    def apply(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The numbers that the network takes.

        Args:
            images: (B, H, W, 3) RGB 0..255.

        Returns:
            float32 (B, H, W, 3), contiguous.
        """
        values = images.astype("float32")
        if self.channel_order == "BGR":
            values = values[..., ::-1]
        if (self.mean, self.scale) != (_ZERO, _ONE):
            values = (values - np.asarray(self.mean, "f4")) / np.asarray(self.scale, "f4")
        return np.ascontiguousarray(values)

    def __str__(self) -> str:
        order = "BGR " if self.channel_order == "BGR" else ""
        if (self.mean, self.scale) == (_ZERO, _ONE):
            return f"{order}raw"
        if self.mean == _ZERO:
            return f"{order}x/{_text(self.scale)}"
        return f"{order}(x-{_text(self.mean)})/{_text(self.scale)}"


def _three(text: str) -> tuple[float, float, float]:
    numbers = [float(each) for each in text.split(",")]
    first, second, third = numbers * 3 if len(numbers) == 1 else numbers
    return first, second, third


def _of_bytes(numbers: tuple[float, float, float]) -> tuple[float, float, float]:
    """Numbers for pixels in 0..255, rounded, so that 255 * 0.224 is 57.12."""
    first, second, third = (float(f"{255 * number:.9g}") for number in numbers)
    return first, second, third


def _text(numbers: tuple[float, float, float]) -> str:
    shown = [repr(number).removesuffix(".0") for number in numbers]
    return shown[0] if len({*numbers}) == 1 else ",".join(shown)
