"""Circle loss at class level (Sun et al. 2020, arXiv:2002.10857)."""

import keras
from keras import ops

from keras_facemargin.heads.margin_head.arguments import check_number
from keras_facemargin.heads.margin_head.head import MarginHead


@keras.saving.register_keras_serializable("keras_facemargin")
class CircleLoss(MarginHead):
    """Circle loss: weighs each similarity by its distance from its optimum.

    `z_y = gamma [1 + m - c_y]_+ (c_y - (1 - m))`, `z_j = gamma [c_j + m]_+ (c_j - m)`, c cosines;
    the weights in brackets have no gradient

    The boundary between classes is the circle `c_j^2 + (1 - c_y)^2 = 2 m^2`.

    Reference: Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization",
    arXiv:2002.10857, Eq. 6 with class prototypes for pairs; gamma = 256, m = 0.25 for faces.
    Where implementations differ: FaceX-Zoo's port is the same loss; pytorch-metric-learning and
    tensorflow-similarity have the form for pairs.

    Args:
        num_classes: C, integer >= 2.
        margin: m in (0, 1), relaxation of the optima; *smaller* is stricter.
        scale: gamma > 0.
        **kwargs: of `MarginHead`, such as `prototypes_initializer` and `detach_margin`, and of
            `keras.layers.Layer`.

    Input shape:
        `embeddings`: (B, D) float. `labels`: (B,) or (B, 1) integers in [0, C), or -1.

    Output shape:
        (B, C) float32 logits.

    Raises:
        ValueError: `margin` is out of range; see also `MarginHead`.

    Example:

    >>> import numpy as np
    >>> head = CircleLoss(num_classes=3, prototypes_initializer="ones")
    >>> np.asarray(head(np.ones((1, 4), "float32"), np.array([0]))).round(1).tolist()
    [[16.0, 240.0, 240.0]]
    """

    def __init__(self, num_classes, margin=0.25, scale=256.0, **kwargs):
        super().__init__(num_classes, scale, **kwargs)
        rule = "must be strictly between 0 and 1"
        check_number("margin", margin, rule, lambda margin: 0 < margin < 1)
        self.margin = float(margin)

    def target_similarity(self, cosine, norms, prototypes, labels, training):
        weight = ops.stop_gradient(ops.relu(1.0 + self.margin - cosine))
        return weight * (cosine - (1.0 - self.margin))

    def other_similarities(self, cosines, target, margined):
        weight = ops.stop_gradient(ops.relu(cosines + self.margin))
        return weight * (cosines - self.margin)
