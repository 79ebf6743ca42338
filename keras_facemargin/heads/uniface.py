"""UniFace, unified cross-entropy (Zhou et al. 2023, ICCV)."""

import functools
import math

import keras
from keras import ops

from keras_facemargin import margins
from keras_facemargin.heads.bounds import warn_if_scale_is_low
from keras_facemargin.heads.class_margins import margin_of, read_margin
from keras_facemargin.heads.margin_head.arguments import check_at_least
from keras_facemargin.heads.margin_head.head import MarginHead
from keras_facemargin.heads.margin_head.reductions import SoftplusSum


@keras.saving.register_keras_serializable("keras_facemargin")
class UniFace(MarginHead):
    """UniFace: a binary classification for each class, with one learned threshold b for all.

    `loss = log(1 + exp(-z_y)) + sum_{j != y} log(1 + exp(z_j))`, `z_y = s (cos(theta_y) - m) - b`,
    `z_j = s cos(theta_j) - b`; b starts at `log(10 C)`

    After training b / s is the cosine that separates genuine from impostor pairs for all classes
    together, as verification needs it.

    Reference: Zhou, Jia, Li, Shen, Duan, "UniFace: Unified Cross-Entropy Loss for Deep Face
    Recognition", ICCV 2023, pages 20673-20682. Where implementations differ: the authors' code
    clips the exponents to [-s, s], so that samples far away have no gradient; softplus does not
    overflow and needs no clipping. The weight of the negatives and the sampled share of negatives,
    two arguments of their code, are 1 here, as in their recipe.

    Args:
        num_classes: C, integer >= 2.
        margin: m >= 0, in units of cosine; one number, or one for each class.
        scale: s > 0.
        **kwargs: of `MarginHead`, such as `prototypes_initializer` and `detach_margin`, and of
            `keras.layers.Layer`.

    Input shape:
        `embeddings`: (B, D) float. `labels`: (B,) or (B, 1) integers in [0, C), or -1.

    Output shape:
        (B, C) float32 logits; a sigmoid, not a softmax, makes them probabilities.

    Raises:
        ValueError: `margin` is negative; see also `MarginHead`. Warns where s is below
            `scale_lower_bound`.

    Example:

    >>> head = UniFace(num_classes=10572)
    >>> head.build((None, 512))
    >>> round(float(head.threshold), 3)
    11.569
    """

    reduction = SoftplusSum()

    def __init__(self, num_classes, margin=0.4, scale=64.0, **kwargs):
        super().__init__(num_classes, scale, **kwargs)
        check = functools.partial(check_at_least, least=0)
        self.margin = read_margin("margin", margin, self.num_classes, check)
        warn_if_scale_is_low(self)

    def build(self, embeddings_shape, labels_shape=None):
        super().build(embeddings_shape)
        self.threshold = self.add_weight(
            name="threshold",
            shape=(),
            initializer=keras.initializers.Constant(math.log(10.0 * self.num_classes)),
        )

    def target_similarity(self, cosine, norms, prototypes, labels, training):
        margin = margin_of(self.margin, labels, self.compute_dtype)
        return margins.additive_cosine(cosine, margin)

    def logits(self, similarities, norms):
        return super().logits(similarities, norms) - self.threshold

    def sample_loss(self, target_logits, others):
        return ops.softplus(-target_logits) + others
