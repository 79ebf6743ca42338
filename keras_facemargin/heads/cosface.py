"""CosFace, large margin cosine loss (Wang et al. 2018, arXiv:1801.09414)."""

import functools

import keras
import numpy as np

from keras_facemargin import margins
from keras_facemargin.heads.bounds import (
    cosine_margin_upper_bound,
    warn_if_above,
    warn_if_scale_is_low,
)
from keras_facemargin.heads.class_margins import margin_of, read_margin
from keras_facemargin.heads.margin_head.arguments import check_at_least
from keras_facemargin.heads.margin_head.head import MarginHead


@keras.saving.register_keras_serializable("keras_facemargin")
class CosFace(MarginHead):
    """CosFace (LMCL), also named AM-Softmax: subtracts a margin from the cosine of the true class.

    `z_y = s (cos(theta_y) - m)`, `z_j = s cos(theta_j)`

    Reference: Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition",
    arXiv:1801.09414, Eq. 4 (s = 64, m = 0.35); Wang, Cheng, Liu, Liu, "Additive Margin Softmax for
    Face Verification", arXiv:1801.05599 (s = 30, m = 0.35). Where implementations differ: nowhere;
    pytorch-metric-learning too takes m in units of cosine (but degrees in its ArcFace).

    Args:
        num_classes: C, integer >= 2.
        margin: m >= 0, in units of cosine; one number, or one for each class.
        scale: s > 0.
        **kwargs: of `MarginHead`, such as `prototypes_initializer` and `detach_margin`, and of
            `keras.layers.Layer`.

    Input shape:
        `embeddings`: (B, D) float. `labels`: (B,) or (B, 1) integers in [0, C), or -1.

    Output shape:
        (B, C) float32 logits, in [-s (1 + m), s].

    Raises:
        ValueError: `margin` is negative; see also `MarginHead`. Warns where s is below
            `scale_lower_bound` or m above `cosine_margin_upper_bound`.

    Example:

    >>> import numpy as np
    >>> head = CosFace(num_classes=3, margin=0.35, scale=64.0, prototypes_initializer="ones")
    >>> logits = np.asarray(head(np.ones((1, 4), "float32"), np.array([0])))
    >>> logits.round(1).tolist()
    [[41.6, 64.0, 64.0]]
    """

    def __init__(self, num_classes, margin=0.35, scale=64.0, **kwargs):
        super().__init__(num_classes, scale, **kwargs)
        check = functools.partial(check_at_least, least=0)
        self.margin = read_margin("margin", margin, self.num_classes, check)
        warn_if_scale_is_low(self)

    def build(self, embeddings_shape, labels_shape=None):
        super().build(embeddings_shape)
        bound = cosine_margin_upper_bound(self.num_classes, self.embedding_dim)
        largest = float(np.max(self.margin))
        warn_if_above("CosFace", "margin", largest, bound, "arXiv:1801.09414, Eq. 7")

    def target_similarity(self, cosine, norms, prototypes, labels, training):
        margin = margin_of(self.margin, labels, self.compute_dtype)
        return margins.additive_cosine(cosine, margin)
