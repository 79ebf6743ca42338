"""Margins: pure functions of a cosine, an angle or a direction. No weights, no labels, no scale.

A head calls these on the B target cosines of a batch, rarely on the (B, C) matrix. Every function
is finite in value and gradient for all cosines, including those that rounding moves past +-1. By
default it falls as the angle grows, so that a sample on the far side of the sphere has a gradient
towards its class.
"""

import math
import numbers

from keras import ops

# Below this squared sine (an angle of 3e-4 rad) the gradient of the sine is taken as zero: the true
# one grows without bound there while the direction it would push in is lost to rounding.
_SMALLEST_SQUARED_SINE = 1e-7

# Below this length the gradient of a direction, 1 / length, stops growing.
_STEEPEST_LENGTH = 1e-2

CONTINUATIONS = ("reflect", "linear", "easy", "clip", "none")
ANGLE_CONTINUATIONS = ("reflect", "clip", "none")


def length_of(vectors, shortest=1e-6):
    """Lengths of vectors (..., D) -> (..., 1), at least `shortest`; no gradient below that.

    Args:
        vectors: float tensor of shape (..., D).
        shortest: float > 0.

    Returns:
        Tensor of shape (..., 1).

    Example:

    >>> import numpy as np
    >>> from keras_facemargin import margins
    >>> np.asarray(margins.length_of(np.array([[3.0, 4.0], [0.0, 0.0]]))).tolist()
    [[5.0], [1e-06]]
    """
    squared = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return ops.sqrt(ops.maximum(squared, shortest**2))


def direction_of(vectors, shortest=1e-6):
    """`x / |x|` of vectors (..., D): exact value, bounded gradient.

    The derivative of a direction is of the size 1 / |x|: 1e6 at the length 1e-6, and infinite at
    zero, so that a single black image can destroy all weights. Here it is exact down to the length
    0.01 and that of `x / 0.01` below: at most 100, and not zero, so that an embedder whose
    embeddings are all zero still learns. Values are those of `x / max(|x|, shortest)`: the
    direction of a zero vector is zero.

    Args:
        vectors: float tensor of shape (..., D).
        shortest: float > 0.

    Returns:
        Tensor of the same shape, of length 1 (less for vectors shorter than `shortest`).

    Example:

    >>> import numpy as np
    >>> from keras_facemargin import margins
    >>> np.asarray(margins.direction_of(np.array([[3.0, 4.0], [0.0, 0.0]]))).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    smooth = vectors / length_of(vectors, max(shortest, _STEEPEST_LENGTH))
    exact = vectors / length_of(vectors, shortest)
    return smooth + ops.stop_gradient(exact - smooth)


def sine_of(cosine):
    """Sine of the angle in [0, pi] whose cosine is given: exact value, bounded gradient.

    `sqrt(1 - c^2)` has an infinite derivative at c = +-1 and none beyond, and float32 products of
    unit vectors can exceed 1. The value here is `sqrt(max(0, (1 - c)(1 + c)))`; its derivative is
    the true `-c / sin` down to an angle of 3e-4 rad and zero below.

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


def angle_of(cosine):
    """The angle in [0, pi] whose cosine is given: `atan2(sin, cos)`, bounded gradient.

    arccos in float32 has the derivative -inf at +-1, NaN beyond, and half the digits near 1. The
    derivative here is the true `-1 / sin` down to 3e-4 rad from either end and zero below.

    Args:
        cosine: float tensor of any shape.

    Returns:
        Tensor of the same shape and dtype, radians.

    Example:

    >>> from keras_facemargin import margins
    >>> round(float(margins.angle_of(0.5)), 4), float(margins.angle_of(1.0000001))
    (1.0472, 0.0)
    """
    cosine = ops.convert_to_tensor(cosine)
    return ops.arctan2(sine_of(cosine), cosine)


def straight_through(plain, margined):
    """The value of `margined` with the gradient of `plain`: a margin that is not differentiated.

    insightface for PyTorch does this (it applies the margin under `no_grad`), and opensphere calls
    it characteristic gradient detachment (arXiv:2109.05565). It is stable, but not the gradient of
    the printed loss.

    Args:
        plain: float tensor, similarities before the margin.
        margined: tensor of the same shape, after it.

    Returns:
        Tensor of the same shape.

    Example:

    >>> from keras_facemargin import margins
    >>> round(float(margins.straight_through(0.5, margins.additive_cosine(0.5, 0.35))), 2)
    0.15
    """
    return plain + ops.stop_gradient(margined - plain)


def additive_cosine(cosine, margin):
    """`cos(theta) - m`: CosFace (arXiv:1801.09414, Eq. 4), AM-Softmax (arXiv:1801.05599).

    Args:
        cosine: float tensor of any shape, cosines of the true class.
        margin: float or broadcastable tensor, in units of cosine.

    Returns:
        Tensor of the shape of `cosine`, in [-1 - m, 1 - m].

    Example:

    >>> from keras_facemargin import margins
    >>> round(margins.additive_cosine(0.5, 0.35), 2)
    0.15
    """
    return cosine - margin


def additive_angle(cosine, margin, continuation="reflect"):
    """`cos(theta + m)`: ArcFace (arXiv:1801.07698, Eq. 3).

    Past `theta = pi - m` the formula rises with the angle, and would *reward* a sample for moving
    further away. The paper does not treat this; published codes differ:

    - `"reflect"` (default): `-2 - cos(theta + m)` past the turning angle, continuous with
      continuous slope (as Keras_insightface does);
    - `"linear"`: `cos(theta) - m sin(m)` past the turning angle; falls, but jumps there, by 0.117
      at m = 0.5 (insightface for MXNet at first, CurricularFace, arcface-tf2,
      pytorch-metric-learning from 2.0);
    - `"easy"`: the margin only where theta < pi/2, else `cos(theta)`; not monotone at pi/2 (the
      same codes with `easy_margin=True`);
    - `"clip"`: -1 past the turning angle; never rises, but has no gradient there (the codes of
      AdaFace and opensphere, which clip theta + m);
    - `"none"`: the bare formula, which rises again (insightface for MXNet later and for PyTorch,
      pytorch-metric-learning before 2.0).

    `docs/comparison.md` has the numbers of each.

    Args:
        cosine: float tensor of any shape, cosines of the true class.
        margin: float or broadcastable tensor, radians, in [0, pi/2).
        continuation: one of the names above.

    Returns:
        Tensor of the shape of `cosine`.

    Raises:
        ValueError: `continuation` is not one of the names above.

    Example:

    >>> from keras_facemargin import margins
    >>> round(float(margins.additive_angle(0.5, 0.5)), 6)
    0.023597
    """
    _check_continuation(continuation, CONTINUATIONS)
    cos_margin, sin_margin = _cos(margin), _sin(margin)
    margined = cosine * cos_margin - sine_of(cosine) * sin_margin
    if continuation == "none":
        return margined
    if continuation == "easy":
        return ops.where(cosine > 0.0, margined, cosine)
    past = {
        "reflect": -2.0 - margined,
        "linear": cosine - margin * sin_margin,
        "clip": -ops.ones_like(margined),
    }[continuation]
    return ops.where(cosine > -cos_margin, margined, past)


def continued_cosine(angle, continuation="reflect"):
    """The cosine of an angle that a margin may have moved past pi.

    - `"reflect"` (default): `(-1)^k cos(angle) - 2k`, k = floor(angle / pi), which falls without
      limit (SphereFace's psi, arXiv:1704.08063, Eq. 7, for any angle);
    - `"clip"`: `cos(min(angle, pi))` (arXiv:2109.05565, SphereFace-R v1);
    - `"none"`: `cos(angle)`, which rises again (combined margin as published).

    Args:
        angle: float tensor of any shape, radians, >= 0.
        continuation: one of the names above.

    Returns:
        Tensor of the shape of `angle`.

    Raises:
        ValueError: `continuation` is not one of the names above.

    Example:

    >>> import math
    >>> from keras_facemargin import margins
    >>> round(float(margins.continued_cosine(1.5 * math.pi)), 6)
    -2.0
    """
    _check_continuation(continuation, ANGLE_CONTINUATIONS)
    angle = ops.convert_to_tensor(angle)
    if continuation == "none":
        return ops.cos(angle)
    if continuation == "clip":
        return ops.cos(ops.minimum(angle, math.pi))
    bends = ops.stop_gradient(ops.floor(angle / math.pi))
    return _reflected(ops.cos(angle), bends)


def multiplied_angle(cosine, margin):
    """`psi(theta) = (-1)^k cos(m theta) - 2k`, k = floor(m theta / pi): SphereFace, Eq. 7.

    (arXiv:1704.08063.) Evaluated as a Chebyshev polynomial in the cosine, `cos(m theta) = T_m(c)`,
    without an arccos: the derivative is the polynomial `m U_(m-1)(c)`, finite everywhere.
    For a multiplier that is not an integer: `continued_cosine(m * angle_of(cosine))`.

    Args:
        cosine: float tensor of any shape, cosines of the true class.
        margin: integer >= 1, the multiplier m; 1 returns the cosine.

    Returns:
        Tensor of the shape of `cosine`, from 1 at theta = 0 down to 1 - 2m at theta = pi.

    Raises:
        ValueError: `margin` is not an integer >= 1.

    Example:

    >>> from keras_facemargin import margins
    >>> round(float(margins.multiplied_angle(0.5, 4)), 6)
    -1.5
    """
    if not isinstance(margin, numbers.Real) or margin < 1 or margin % 1:
        raise ValueError(
            "`margin` multiplies the angle and must be an integer of at least 1. "
            f"Received: margin={margin!r}"
        )
    cosine = ops.convert_to_tensor(cosine)
    lower, chebyshev = ops.ones_like(cosine), cosine
    for _ in range(int(margin) - 1):
        lower, chebyshev = chebyshev, 2.0 * cosine * chebyshev - lower
    # k counts the bends pi/m, 2 pi/m, ... that theta has passed.
    bends = ops.zeros_like(cosine)
    for i in range(1, int(margin)):
        bends = bends + ops.cast(cosine < math.cos(i * math.pi / margin), cosine.dtype)
    return _reflected(chebyshev, bends)


def divided_angle(cosine, margin):
    """`cos(theta / m)`: the wrong classes of SphereFace-R v2 (arXiv:2109.05565).

    Args:
        cosine: float tensor of any shape.
        margin: float >= 1, divides the angle.

    Returns:
        Tensor of the shape of `cosine`, in [cos(pi / m), 1].

    Example:

    >>> from keras_facemargin import margins
    >>> round(float(margins.divided_angle(-0.5, 2.0)), 6)
    0.5
    """
    return ops.cos(angle_of(cosine) / margin)


def _reflected(cosine, bends):
    return (1.0 - 2.0 * ops.mod(bends, 2.0)) * cosine - 2.0 * bends


def _check_continuation(continuation, names):
    if continuation not in names:
        raise ValueError(
            f"`continuation` must be one of {names}. Received: continuation={continuation!r}"
        )


def _cos(margin):
    return math.cos(margin) if isinstance(margin, (int, float)) else ops.cos(margin)


def _sin(margin):
    return math.sin(margin) if isinstance(margin, (int, float)) else ops.sin(margin)
