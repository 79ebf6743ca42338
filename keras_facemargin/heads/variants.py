"""The two margins that several losses are built on: of the cosine ("am") and of the angle ("arc").

One vocabulary for all of them: "am" is the additive margin of CosFace and AM-Softmax, "arc" that of
ArcFace, "plain" none.
"""

import math

from keras_facemargin import margins
from keras_facemargin.heads.argument_check import check_at_least, check_choice, check_radians

PAPER_MARGINS = {"plain": 0.0, "am": 0.35, "arc": 0.5}


def checked_margin(variant, margin, variants):
    """The margin of a variant as a float, the papers' own where it is None.

    Raises:
        ValueError: `variant` is none of `variants`; `margin` is out of the variant's range.
    """
    check_choice("variant", variant, variants)
    margin = float(PAPER_MARGINS[variant] if margin is None else margin)
    if variant == "plain" and margin:
        raise ValueError(
            "`margin` has no place in the plain variant. "
            f"Received: margin={margin}. Pass variant='am' or variant='arc'."
        )
    if variant == "arc":
        check_radians("margin", margin)
    else:
        check_at_least("margin", margin, 0)
    return margin


def moved(variant, cosine, margin, continuation="reflect"):
    """The cosine of the true class after the margin of a variant."""
    if variant == "arc":
        return margins.additive_angle(cosine, margin, continuation)
    return margins.additive_cosine(cosine, margin)


def bend(variant, margin):
    """Angle past which the margin of a variant turns upward, radians."""
    return math.pi - margin if variant == "arc" else math.pi
