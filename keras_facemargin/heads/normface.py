"""NormFace: softmax over scaled cosines (Wang et al. 2017, arXiv:1704.06369)."""

import keras
from keras import ops

from keras_facemargin.heads.bounds import warn_if_scale_is_low
from keras_facemargin.heads.margin_head.arguments import check_flag
from keras_facemargin.heads.margin_head.head import MarginHead

# The authors train a learned scale at 100 times the learning rate of other weights (lr_mult 100).
# Keras has no rate per weight, so the gradient is multiplied: the same under SGD, without effect
# under Adam.
_RATE = 100.0
_SMALLEST_SCALE = 0.01


@keras.saving.register_keras_serializable("keras_facemargin")
class NormFace(MarginHead):
    """NormFace, normalised softmax: softmax over scaled cosines, without a margin.

    `z_j = s cos(theta_j)`

    Reference: Wang, Xiang, Cheng, Yuille, "NormFace: L2 Hypersphere Embedding for Face
    Verification", arXiv:1704.06369, section 3.3. CosFace and ArcFace with margin 0 are this loss.
    Where implementations differ: the authors learn s from 10 upwards (`learn_scale=True,
    scale=10.0`); most later codes fix it.

    Args:
        num_classes: C, integer >= 2.
        scale: s > 0; with `learn_scale` its initial value.
        learn_scale: whether training changes s (to 0.01 or more).
        **kwargs: of `MarginHead`, such as `prototypes_initializer` and `detach_margin`, and of
            `keras.layers.Layer`.

    Input shape:
        `embeddings`: (B, D) float. `labels`: (B,) or (B, 1) integers in [0, C), or -1.

    Output shape:
        (B, C) float32 logits, in [-s, s].

    Raises:
        ValueError: see `MarginHead`. Warns where s is below `scale_lower_bound`.

    Example:

    >>> import numpy as np
    >>> head = NormFace(num_classes=10, scale=20.0)
    >>> bool(abs(np.asarray(head(np.ones((1, 4), "float32")))).max() <= 20.0)
    True
    """

    def __init__(self, num_classes, scale=30.0, *, learn_scale=False, **kwargs):
        super().__init__(num_classes, scale, **kwargs)
        check_flag("learn_scale", learn_scale)
        self.learn_scale = bool(learn_scale)
        if not learn_scale:
            warn_if_scale_is_low(self)

    def logits(self, similarities, norms):
        if not self.learn_scale:
            return super().logits(similarities, norms)
        scale = ops.convert_to_tensor(self.scale_weight)
        faster = _RATE * scale - ops.stop_gradient((_RATE - 1.0) * scale)
        return ops.maximum(faster, _SMALLEST_SCALE) * similarities
