"""The two margins that several losses are built on: of the cosine ("am") and of the angle ("arc").

"am" is the additive margin of CosFace and AM-Softmax, "arc" that of ArcFace, "plain" no margin.
"""

import functools
import math

import numpy as np

from keras_facemargin import margins
from keras_facemargin.heads.class_margins import read_margin
from keras_facemargin.heads.margin_head.arguments import (
    check_at_least,
    check_choice,
    check_radians,
    shown,
)

PAPER_MARGINS = {"plain": 0.0, "am": 0.35, "arc": 0.5}


def checked_margin(variant, margin, variants, num_classes):
    """The margin of a variant, a float or one for each class; None takes that of the paper.

    Raises:
        ValueError: `variant` is not one of `variants`; `margin` is out of the variant's range.
    """
    check_choice("variant", variant, variants)
    margin = PAPER_MARGINS[variant] if margin is None else margin
    at_least_0 = functools.partial(check_at_least, least=0)
    check = check_radians if variant == "arc" else at_least_0
    margin = read_margin("margin", margin, num_classes, check)
    if variant == "plain" and np.any(margin):
        raise ValueError(
            "The plain variant takes no `margin`. "
            f"Received: margin={shown(margin)}. Pass variant='am' or variant='arc'."
        )
    return margin


def apply_margin(variant, cosine, margin, continuation="reflect"):
    """The cosine of the true class after the margin of a variant."""
    if variant == "arc":
        return margins.additive_angle(cosine, margin, continuation)
    return margins.additive_cosine(cosine, margin)


def turning_angle(variant, margin):
    """Angle past which the margin of a variant turns upward, radians."""
    return math.pi - float(np.max(margin)) if variant == "arc" else math.pi
