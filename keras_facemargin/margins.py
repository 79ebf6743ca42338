"""Margins: pure functions of a cosine. No weights, no labels, no scale.

A head calls these on the B target cosines of a batch, never on the (B, C) matrix. Every function
is finite in value and gradient for all cosines, those that rounding pushed past +-1 included, and
by default falls as the angle grows, so that a sample on the far side of the sphere is still pulled
home.
"""

import math

from keras import ops

# Below this squared sine (an angle of 3e-4 rad) the gradient of the sine is taken as zero: the true
# one grows without bound there while the direction it would push in is lost to rounding.
_SMALLEST_SQUARED_SINE = 1e-7

CONTINUATIONS = ("reflect", "linear", "easy")


def sine_of(cosine):
    """Sine of the angle in [0, pi] whose cosine is given: exact value, bounded gradient.

    `sqrt(1 - c^2)` has an infinite derivative at c = +-1 and none beyond, where float32 products of
    unit vectors do land. The value here is `sqrt(max(0, (1 - c)(1 + c)))`; its derivative is the
    true `-c / sin` down to an angle of 3e-4 rad and zero below.

    Args:
        cosine: float tensor of any shape.

    Returns:
        Tensor of the same shape and dtype, in [0, 1].

    Example:

    >>> from keras_facemargin import margins
    >>> float(margins.sine_of(0.6))
    0.8
    """
    cosine = ops.convert_to_tensor(cosine)
    squared = (1.0 - cosine) * (1.0 + cosine)
    smooth = ops.sqrt(ops.maximum(squared, _SMALLEST_SQUARED_SINE))
    exact = ops.sqrt(ops.maximum(ops.stop_gradient(squared), 0.0))
    return smooth + ops.stop_gradient(exact - smooth)


def additive_cosine(cosine, margin):
    """`cos(theta) - m`: CosFace (arXiv:1801.09414, Eq. 4), AM-Softmax (arXiv:1801.05599).

    Args:
        cosine: float tensor of any shape, cosines of the true class.
        margin: float or broadcastable tensor, in units of cosine.

    Returns:
        Tensor of the shape of `cosine`, in [-1 - m, 1 - m].
    """
    return cosine - margin


def additive_angle(cosine, margin, continuation="reflect"):
    """`cos(theta + m)`: ArcFace (arXiv:1801.07698, Eq. 3).

    Past `theta = pi - m` the formula turns upward again, and a sample there would be *rewarded* for
    moving further away. The paper does not say what to do; published codes differ:

    - `"reflect"` (default): `-2 - cos(theta + m)` past the bend, continuous with continuous slope
      (as Keras_insightface does);
    - `"linear"`: `cos(theta) - m sin(m)` past the bend; falls, but jumps there, by 0.117 at m = 0.5
      (insightface for MXNet, CurricularFace);
    - `"easy"`: the margin only where theta < pi/2, else `cos(theta)`; not monotone at pi/2 (the
      same codes with `easy_margin=True`).

    Today's insightface for PyTorch and pytorch-metric-learning before 2.0 do nothing there.

    Args:
        cosine: float tensor of any shape, cosines of the true class.
        margin: float or broadcastable tensor, radians, in [0, pi/2).
        continuation: one of the names above.

    Returns:
        Tensor of the shape of `cosine`.

    Raises:
        ValueError: `continuation` is none of the names above.

    Example:

    >>> round(float(additive_angle(0.5, 0.5)), 6)
    0.023597
    """
    if continuation not in CONTINUATIONS:
        raise ValueError(
            f"`continuation` must be one of {CONTINUATIONS}. "
            f"Received: continuation={continuation!r}"
        )
    cos_margin, sin_margin = _cos(margin), _sin(margin)
    moved = cosine * cos_margin - sine_of(cosine) * sin_margin
    if continuation == "reflect":
        return ops.where(cosine > -cos_margin, moved, -2.0 - moved)
    if continuation == "linear":
        return ops.where(cosine > -cos_margin, moved, cosine - margin * sin_margin)
    return ops.where(cosine > 0.0, moved, cosine)


def multiplied_angle(cosine, margin):
    """`psi(theta) = (-1)^k cos(m theta) - 2k`, k = floor(m theta / pi): SphereFace, Eq. 7.

    (arXiv:1704.08063.) Evaluated as a Chebyshev polynomial in the cosine, `cos(m theta) = T_m(c)`,
    so that no arccos is taken: the derivative is the polynomial `m U_(m-1)(c)`, finite everywhere.

    Args:
        cosine: float tensor of any shape, cosines of the true class.
        margin: integer >= 1, the multiplier m; 1 leaves the cosine as it is.

    Returns:
        Tensor of the shape of `cosine`, from 1 at theta = 0 down to 1 - 2m at theta = pi.

    Raises:
        ValueError: `margin` is not an integer >= 1.

    Example:

    >>> round(float(multiplied_angle(0.5, 4)), 6)
    -1.5
    """
    if margin != int(margin) or margin < 1:
        raise ValueError(
            "`margin` multiplies the angle and must be an integer of at least 1. "
            f"Received: margin={margin}"
        )
    cosine = ops.convert_to_tensor(cosine)
    lower, chebyshev = ops.ones_like(cosine), cosine
    for _ in range(int(margin) - 1):
        lower, chebyshev = chebyshev, 2.0 * cosine * chebyshev - lower
    # k counts the bends pi/m, 2 pi/m, ... that theta has passed.
    bends = ops.zeros_like(cosine)
    for i in range(1, int(margin)):
        bends = bends + ops.cast(cosine < math.cos(i * math.pi / margin), cosine.dtype)
    sign = 1.0 - 2.0 * ops.mod(bends, 2.0)
    return sign * chebyshev - 2.0 * bends


def _cos(margin):
    return math.cos(margin) if isinstance(margin, (int, float)) else ops.cos(margin)


def _sin(margin):
    return math.sin(margin) if isinstance(margin, (int, float)) else ops.sin(margin)
