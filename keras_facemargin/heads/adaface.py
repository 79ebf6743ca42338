"""AdaFace (Kim et al. 2022, arXiv:2204.00964)."""

import math

import keras
import numpy as np
from keras import ops

from keras_facemargin import margins
from keras_facemargin.backend.replicas import batch_mean
from keras_facemargin.heads.bounds import warn_if_scale_is_low
from keras_facemargin.heads.class_margins import margin_of, read_margin
from keras_facemargin.heads.margin_head.arguments import (
    check_choice,
    check_number,
    check_positive,
    check_radians,
)
from keras_facemargin.heads.margin_head.head import MarginHead

_SHORTEST, _LONGEST = 1e-3, 100.0  # norms are clipped to this range
_SMALLEST_DEVIATION = 1e-3


@keras.saving.register_keras_serializable("keras_facemargin")
class AdaFace(MarginHead):
    """AdaFace: the margin depends on the norm of the embedding, a measure of image quality.

    `z_y = s (cos(max(theta_y + g_angle, 0)) - g_add)`, `z_j = s cos(theta_j)`, with

    `q = clip(h (|x| - mu) / (sigma + 1e-3), -1, 1)`, `g_angle = -m q`, `g_add = m + m q`

    mu and sigma are moving averages of the mean and the standard deviation (with n - 1) of the
    norms: `rate * batch + (1 - rate) * old`, updated before use. Both are weights, saved with the
    layer; under `MirroredStrategy` the batch is the global one. q has no gradient. With q = -1 the
    loss is ArcFace with margin m, with q = 0 CosFace with margin m.

    Reference: Kim, Jain, Liu, "AdaFace: Quality Adaptive Margin for Face Recognition",
    arXiv:2204.00964, Eq. 18; the initial mu = 20 and sigma = 100 are from the authors'
    code. Where implementations differ: the authors clip the angle after the margin to
    [1e-3, pi - 1e-3] and cosines to +-(1 - 1e-3), so that a sample past the turning angle has no
    gradient (`continuation="clip"`); the rate is 1.0 (no average) in their class and 0.01 in their
    recipe. CVLface clips nothing, takes the gradient of the plain cosine (`continuation="none",
    detach_margin=True`) and averages on each GPU separately.

    Args:
        num_classes: C, integer >= 2.
        margin: m in [0, pi/2): radians in g_angle, units of cosine in g_add; one number, or one for
            each class.
        concentration: h > 0, the factor of the standardised norm.
        rate: weight of the new batch in the moving averages, in (0, 1].
        scale: s > 0.
        continuation: past the turning angle "reflect", "clip" or "none"; see
            `margins.continued_cosine`.
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

    >>> head = AdaFace(num_classes=3)
    >>> head.build((None, 4))
    >>> float(head.norm_mean), float(head.norm_deviation)
    (20.0, 100.0)
    """

    def __init__(
        self,
        num_classes,
        margin=0.4,
        *,
        concentration=0.333,
        rate=0.01,
        scale=64.0,
        continuation="reflect",
        **kwargs,
    ):
        super().__init__(num_classes, scale, **kwargs)
        check_choice("continuation", continuation, margins.ANGLE_CONTINUATIONS)
        check_positive("concentration", concentration)
        check_number("rate", rate, "must be in (0, 1]", lambda rate: 0 < rate <= 1)
        self.margin = read_margin("margin", margin, self.num_classes, check_radians)
        self.concentration = float(concentration)
        self.rate = float(rate)
        self.continuation = continuation
        self.turning_angle = math.pi - float(np.max(self.margin))
        warn_if_scale_is_low(self)

    def build(self, embeddings_shape, labels_shape=None):
        super().build(embeddings_shape)
        self.norm_mean = self.add_statistic("norm_mean", 20.0)
        self.norm_deviation = self.add_statistic("norm_deviation", 100.0)

    def update_state(self, target, norms, valid, log_sum):
        norms = ops.squeeze(ops.clip(norms, _SHORTEST, _LONGEST), -1)
        mean, count = batch_mean(norms, valid)
        variance, _ = batch_mean(ops.square(norms - mean), valid)
        deviation = ops.sqrt(variance * count / ops.maximum(count - 1.0, 1.0))
        self._average(self.norm_mean, mean, count > 0)
        self._average(self.norm_deviation, deviation, count > 1)

    def _average(self, statistic, value, defined):
        self.update_statistic(statistic, self.rate * value + (1.0 - self.rate) * statistic, defined)

    def quality(self, norms):
        """q of norms: -1 poor, 1 good; no gradient."""
        norms = ops.stop_gradient(ops.clip(norms, _SHORTEST, _LONGEST))
        spread = self.norm_deviation + _SMALLEST_DEVIATION
        return ops.clip(self.concentration * (norms - self.norm_mean) / spread, -1.0, 1.0)

    def target_similarity(self, cosine, norms, prototypes, labels, training):
        quality = self.quality(norms)
        margin = margin_of(self.margin, labels, self.compute_dtype)
        angle = ops.maximum(margins.angle_of(cosine) - margin * quality, 0.0)
        margined = margins.continued_cosine(angle, self.continuation)
        return margined - margin * (1.0 + quality)
