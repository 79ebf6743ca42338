"""SV-Softmax, support-vector guided softmax (Wang et al. 2018, arXiv:1812.11317)."""

import keras
from keras import ops

from keras_facemargin.heads.bounds import warn_if_scale_is_low
from keras_facemargin.heads.class_margins import margin_of
from keras_facemargin.heads.margin_head.arguments import check_number
from keras_facemargin.heads.margin_head.head import MarginHead
from keras_facemargin.heads.variants import apply_margin, checked_margin, turning_angle


@keras.saving.register_keras_serializable("keras_facemargin")
class SVSoftmax(MarginHead):
    """SV-Softmax, SV-AM-Softmax, SV-Arc-Softmax: weighs wrong classes above the true one more.

    `z_y = s f(theta_y)`; `z_j = s (t cos(theta_j) + t - 1)` where `cos(theta_j) > f(theta_y)` (the
    class is a support vector), else `s cos(theta_j)`; `f` is `cos(theta)` ("plain"),
    `cos(theta) - m` ("am") or `cos(theta + m)` ("arc"). The choice of support vectors has no
    gradient.

    Reference: Wang et al., "Support Vector Guided Softmax Loss for Face Recognition",
    arXiv:1812.11317, Eq. 5-7 and 12-13 (s = 30, t = 1.2; t > 1.4 may not converge). Where
    implementations differ: the authors' later code (MV-Softmax) counts its t from 0, so that
    t_MV = t - 1; FaceX-Zoo's `mv_weight` is this t.

    Args:
        num_classes: C, integer >= 2.
        margin: m, in units of cosine for "am", radians for "arc"; None takes the paper's
            0 / 0.35 / 0.5. "plain" takes no margin. One number, or one for each
            class.
        variant: "plain", "am" or "arc".
        hardness: t >= 1; 1 switches the reweighing off.
        scale: s > 0.
        **kwargs: of `MarginHead`, such as `prototypes_initializer` and `detach_margin`, and of
            `keras.layers.Layer`.

    Input shape:
        `embeddings`: (B, D) float. `labels`: (B,) or (B, 1) integers in [0, C), or -1.

    Output shape:
        (B, C) float32 logits.

    Raises:
        ValueError: `variant` unknown, `hardness` below 1, a margin for "plain"; see also
            `MarginHead`. Warns where s is below `scale_lower_bound`.

    Example:

    >>> SVSoftmax(num_classes=100, variant="am").margin
    0.35
    """

    def __init__(
        self, num_classes, margin=None, *, variant="plain", hardness=1.2, scale=30.0, **kwargs
    ):
        super().__init__(num_classes, scale, **kwargs)
        rule = "is the paper's t and must be at least 1 (MV-Softmax counts from 0: its t is t - 1)"
        check_number("hardness", hardness, rule, lambda hardness: hardness >= 1)
        self.variant = variant
        self.margin = checked_margin(variant, margin, ("plain", "am", "arc"), self.num_classes)
        self.turning_angle = turning_angle(variant, self.margin)
        self.hardness = float(hardness)
        warn_if_scale_is_low(self)

    def target_similarity(self, cosine, norms, prototypes, labels, training):
        margin = margin_of(self.margin, labels, self.compute_dtype)
        return apply_margin(self.variant, cosine, margin)

    def other_similarities(self, cosines, target, margined):
        harder = self.hardness * (cosines + 1.0) - 1.0
        return ops.where(cosines > margined, harder, cosines)
