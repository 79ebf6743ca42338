"""MV-Softmax, mis-classified vector guided softmax (Wang et al. 2020, arXiv:1912.00833)."""

import keras
from keras import ops

from keras_facemargin.heads.bounds import warn_if_scale_is_low
from keras_facemargin.heads.class_margins import margin_of
from keras_facemargin.heads.margin_head.arguments import check_at_least, check_choice
from keras_facemargin.heads.margin_head.head import MarginHead
from keras_facemargin.heads.variants import apply_margin, checked_margin, turning_angle


@keras.saving.register_keras_serializable("keras_facemargin")
class MVSoftmax(MarginHead):
    """MV-Softmax, MV-AM, MV-Arc: weighs wrong classes more if they exceed the margined true class.

    `z_y = s f(theta_y)`; where `cos(theta_j) > f(theta_y)`, `z_j = s (cos(theta_j) + t)` (fixed) or
    `s ((t + 1) cos(theta_j) + t)` (adaptive), else `s cos(theta_j)`; `f` is `cos(theta) - m` ("am")
    or `cos(theta + m)` ("arc").

    The adaptive form is SV-Softmax with `t_SV = t + 1` (`SVSoftmax`), t = 0 is the bare margin.

    Reference: Wang, Zhang, Wang, Fu, Shi, Mei, "Mis-Classified Vector Guided Softmax Loss for Face
    Recognition", arXiv:1912.00833; defaults of the authors' code. Where implementations
    differ: the authors apply the margin only where the cosine is positive (`easy_margin`) while the
    test for a mis-classified class ignores that; here the margin always applies, and past the
    turning angle the logit continues to fall. FaceX-Zoo's `mv_weight` is t + 1, and its AM margin
    applies only where cos(theta_y) > m.

    Args:
        num_classes: C, integer >= 2.
        margin: m, units of cosine for "am", radians for "arc"; None takes 0.35 / 0.5. One number,
            or one for each class.
        variant: "am" or "arc".
        mode: "fixed" or "adaptive".
        hardness: t >= 0.
        scale: s > 0.
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

    >>> MVSoftmax(num_classes=100, variant="arc").margin
    0.5
    """

    def __init__(
        self,
        num_classes,
        margin=None,
        *,
        variant="am",
        mode="adaptive",
        hardness=0.2,
        scale=32.0,
        **kwargs,
    ):
        super().__init__(num_classes, scale, **kwargs)
        check_choice("mode", mode, ("fixed", "adaptive"))
        check_at_least("hardness", hardness, 0)
        self.margin = checked_margin(variant, margin, ("am", "arc"), self.num_classes)
        self.variant = variant
        self.mode = mode
        self.hardness = float(hardness)
        self.turning_angle = turning_angle(variant, self.margin)
        warn_if_scale_is_low(self)

    def target_similarity(self, cosine, norms, prototypes, labels, training):
        margin = margin_of(self.margin, labels, self.compute_dtype)
        return apply_margin(self.variant, cosine, margin)

    def other_similarities(self, cosines, target, margined):
        slope = 1.0 if self.mode == "fixed" else 1.0 + self.hardness
        return ops.where(cosines > margined, slope * cosines + self.hardness, cosines)
