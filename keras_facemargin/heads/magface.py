"""MagFace (Meng et al. 2021, arXiv:2103.06627)."""

import math

import keras
import numpy as np
from keras import ops

from keras_facemargin import margins
from keras_facemargin.heads.bounds import warn_if_scale_is_low
from keras_facemargin.heads.margin_head.arguments import (
    check_at_least,
    check_choice,
    check_positive,
    check_radians,
    shown,
)
from keras_facemargin.heads.margin_head.head import MarginHead


@keras.saving.register_keras_serializable("keras_facemargin")
class MagFace(MarginHead):
    """MagFace: the margin grows with the norm of the embedding, and the loss rewards large norms.

    `z_y = s cos(theta_y + m(a))`, `z_j = s cos(theta_j)`, `loss = CE(z, y) + lambda_g g(a)`, with
    `a = clip(|x|, l_a, u_a)`,

    `m(a) = (u_m - l_m) / (u_a - l_a) (a - l_a) + l_m`, `g(a) = a / u_a^2 + 1 / a`

    After training the norm measures image quality. The gradient includes those of m(a) and g(a).

    Reference: Meng, Zhao, Huang, Zhou, "MagFace: A Universal Representation for Face Recognition
    and Quality Assessment", arXiv:2103.06627; defaults of the authors' code. Where
    implementations differ: the authors' code has `easy_margin=True`, here `continuation="easy"`.

    Args:
        num_classes: C, integer >= 2.
        margin: (l_m, u_m), radians in [0, pi/2), the margins at the norms l_a and u_a.
        norm_range: (l_a, u_a), 0 < l_a < u_a.
        regularization: lambda_g >= 0.
        scale: s > 0.
        continuation: past the turning angle, see `margins.additive_angle`.
        **kwargs: of `MarginHead`, such as `prototypes_initializer` and `detach_margin`, and of
            `keras.layers.Layer`.

    Input shape:
        `embeddings`: (B, D) float, *not* normalised. `labels`: (B,) or (B, 1) integers in [0, C),
        or -1.

    Output shape:
        (B, C) float32 logits.

    Raises:
        ValueError: an argument is out of range or unknown; see also `MarginHead`. Warns where s is
            below `scale_lower_bound`.

    Example:

    >>> import numpy as np
    >>> head = MagFace(num_classes=3)
    >>> [round(float(head.margin_of(np.float32(a))), 3) for a in (10, 60, 110)]
    [0.45, 0.625, 0.8]
    """

    def __init__(
        self,
        num_classes,
        margin=(0.45, 0.8),
        *,
        norm_range=(10.0, 110.0),
        regularization=35.0,
        scale=64.0,
        continuation="reflect",
        **kwargs,
    ):
        super().__init__(num_classes, scale, **kwargs)
        for name, pair in (("margin", margin), ("norm_range", norm_range)):
            if np.shape(pair) != (2,):
                raise ValueError(
                    f"`{name}` is a pair (of the shortest, of the longest embedding). "
                    f"Received: {name}={shown(pair)}"
                )
        for value in margin:
            check_radians("margin", value)
        for value in norm_range:
            check_positive("norm_range", value)
        if not norm_range[0] < norm_range[1]:
            raise ValueError(f"`norm_range` must rise. Received: norm_range={tuple(norm_range)}")
        check_at_least("regularization", regularization, 0)
        check_choice("continuation", continuation, margins.CONTINUATIONS)
        self.margin = tuple(map(float, margin))
        self.norm_range = tuple(map(float, norm_range))
        self.regularization = float(regularization)
        self.continuation = continuation
        self.turning_angle = math.pi - max(self.margin)
        warn_if_scale_is_low(self)

    def margin_of(self, norms):
        """m(a) of norms, radians."""
        (low, high), (shortest, longest) = self.margin, self.norm_range
        along = (ops.clip(norms, shortest, longest) - shortest) / (longest - shortest)
        return low + (high - low) * along

    def target_similarity(self, cosine, norms, prototypes, labels, training):
        return margins.additive_angle(cosine, self.margin_of(norms), self.continuation)

    def regularized_loss(self, losses, norms):
        lengths = ops.squeeze(ops.clip(norms, *self.norm_range), -1)
        penalty = lengths / self.norm_range[1] ** 2 + 1.0 / lengths
        return losses + self.regularization * penalty
