"""The combined margin of the ArcFace paper (Deng et al. 2019, arXiv:1801.07698, Eq. 4)."""

import functools
import math

import keras
import numpy as np

from keras_facemargin import margins
from keras_facemargin.heads.bounds import warn_if_scale_is_low
from keras_facemargin.heads.class_margins import margin_of, read_margin
from keras_facemargin.heads.margin_head.arguments import (
    check_at_least,
    check_choice,
    check_positive,
    check_radians,
)
from keras_facemargin.heads.margin_head.head import MarginHead


@keras.saving.register_keras_serializable("keras_facemargin")
class CombinedMargin(MarginHead):
    """Combined margin: the margins of SphereFace, ArcFace and CosFace in one formula.

    `z_y = s (cos(m1 theta_y + m2) - m3)`, `z_j = s cos(theta_j)`

    Reference: Deng et al., "ArcFace", arXiv:1801.07698, Eq. 4; the paper's two settings are
    (1, 0.3, 0.2) and (0.9, 0.4, 0.15). Where implementations differ: past `m1 theta + m2 = pi` the
    published formula rises again with the angle (insightface for MXNet; here
    `continuation="none"`); by default it continues to fall here. insightface for PyTorch ignores m1
    and m2 if m3 > 0: its `CombinedMarginLoss(64, 1, 0.3, 0.2)` is CosFace with 0.2.

    Args:
        num_classes: C, integer >= 2.
        m1: > 0, multiplies the angle.
        m2: in [0, pi/2), radians, added to the angle; one number, or one for each class.
        m3: >= 0, units of cosine, subtracted; one number, or one for each class.
        scale: s > 0.
        continuation: past the turning angle "reflect" (monotone and smooth), "clip" or "none"; see
            `margins.continued_cosine`.
        **kwargs: of `MarginHead`, such as `prototypes_initializer` and `detach_margin`, and of
            `keras.layers.Layer`.

    Input shape:
        `embeddings`: (B, D) float. `labels`: (B,) or (B, 1) integers in [0, C), or -1.

    Output shape:
        (B, C) float32 logits.

    Raises:
        ValueError: an argument is out of range or unknown; see also `MarginHead`. Warns where s is
            below `scale_lower_bound`.

    Example:

    >>> import numpy as np
    >>> head = CombinedMargin(num_classes=3, m1=1.0, m2=0.3, m3=0.2, prototypes_initializer="ones")
    >>> np.asarray(head(np.ones((1, 4), "float32"), np.array([0]))).round(1).tolist()
    [[48.3, 64.0, 64.0]]
    """

    def __init__(
        self, num_classes, m1=1.0, m2=0.3, m3=0.2, *, scale=64.0, continuation="reflect", **kwargs
    ):
        super().__init__(num_classes, scale, **kwargs)
        check_positive("m1", m1)
        check_choice("continuation", continuation, margins.ANGLE_CONTINUATIONS)
        self.m1 = float(m1)
        self.m2 = read_margin("m2", m2, self.num_classes, check_radians)
        at_least_0 = functools.partial(check_at_least, least=0)
        self.m3 = read_margin("m3", m3, self.num_classes, at_least_0)
        self.continuation = continuation
        self.turning_angle = min(math.pi, (math.pi - float(np.max(self.m2))) / self.m1)
        warn_if_scale_is_low(self)

    def target_similarity(self, cosine, norms, prototypes, labels, training):
        m2, m3 = (margin_of(m, labels, self.compute_dtype) for m in (self.m2, self.m3))
        angle = self.m1 * margins.angle_of(cosine) + m2
        return margins.continued_cosine(angle, self.continuation) - m3
