"""CurricularFace (Huang et al. 2020, arXiv:2004.00288)."""

import math

import keras
from keras import ops

from keras_facemargin import margins
from keras_facemargin.backend.replicas import batch_mean
from keras_facemargin.heads.bounds import warn_if_scale_is_low
from keras_facemargin.heads.margin_head.arguments import check_choice, check_number, check_radians
from keras_facemargin.heads.margin_head.head import MarginHead


@keras.saving.register_keras_serializable("keras_facemargin")
class CurricularFace(MarginHead):
    """CurricularFace: ArcFace that weighs hard wrong classes little at first and more later.

    `z_y = s cos(theta_y + m)`; `z_j = s cos(theta_j) (t + cos(theta_j))` where
    `cos(theta_j) > cos(theta_y + m)`, else `s cos(theta_j)`; at each training step, before use,
    `t = rate * mean(cos(theta_y)) + (1 - rate) t`, t = 0 at the start.

    Under `MirroredStrategy` the mean is that of the global batch. t is a weight, saved with the
    layer.

    Reference: Huang et al., "CurricularFace: Adaptive Curriculum Learning Loss for Deep Face
    Recognition", arXiv:2004.00288, moving average in its Eq. 9. Where implementations differ: in
    print the average takes 0.99 of the batch's *sum*; in the authors' code and here it takes 0.01
    of its mean. Their code continues the true class linearly past pi - m
    (`continuation="linear"`). To find the hard classes, their code and this head compare with the
    unchanged `cos(theta_y + m)`, Keras_insightface with the reflected one.

    Args:
        num_classes: C, integer >= 2.
        margin: m in [0, pi/2), radians; one number, which also decides which classes are hard.
        rate: of the moving average of t, in [0, 1].
        scale: s > 0.
        continuation: of the true class past the turning angle, see `margins.additive_angle`.
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

    >>> head = CurricularFace(num_classes=3)
    >>> head.build((None, 4))
    >>> float(head.t)
    0.0
    """

    def __init__(
        self, num_classes, margin=0.5, *, rate=0.01, scale=64.0, continuation="reflect", **kwargs
    ):
        super().__init__(num_classes, scale, **kwargs)
        check_radians("margin", margin)
        check_choice("continuation", continuation, margins.CONTINUATIONS)
        check_number("rate", rate, "must be in [0, 1]", lambda rate: 0 <= rate <= 1)
        self.margin = float(margin)
        self.rate = float(rate)
        self.continuation = continuation
        self.turning_angle = math.pi - self.margin
        warn_if_scale_is_low(self)

    def build(self, embeddings_shape, labels_shape=None):
        super().build(embeddings_shape)
        self.t = self.add_statistic("t", 0.0)

    def update_state(self, target, norms, valid, log_sum):
        mean, count = batch_mean(ops.squeeze(target, -1), valid)
        self.update_statistic(self.t, self.rate * mean + (1.0 - self.rate) * self.t, count > 0)

    def target_similarity(self, cosine, norms, prototypes, labels, training):
        return margins.additive_angle(cosine, self.margin, self.continuation)

    def other_similarities(self, cosines, target, margined):
        bare = margins.additive_angle(target, self.margin, "none")
        return ops.where(cosines > bare, cosines * (self.t + cosines), cosines)
