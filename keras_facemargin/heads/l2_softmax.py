"""L2-constrained softmax (Ranjan et al. 2017), later named Crystal loss (2018)."""

import math

import keras

from keras_facemargin.heads.bounds import alpha_lower_bound, warn_if_below
from keras_facemargin.heads.margin_head.arguments import check_flag, check_positive
from keras_facemargin.heads.margin_head.head import MarginHead


@keras.saving.register_keras_serializable("keras_facemargin")
class L2Softmax(MarginHead):
    """L2-constrained softmax, also named Crystal loss: softmax over embeddings of length alpha.

    `z_j = W_j . (alpha x / |x|) + b_j`

    Each embedding is scaled to length alpha, so that long and short ones have equal weight. The
    prototypes keep their lengths and each class has a bias, unlike in NormFace and CosFace.

    Reference: Ranjan, Castillo, Chellappa, "L2-constrained Softmax Loss for Discriminative Face
    Verification", arXiv:1703.09507, Eq. 2-3; the same loss in Ranjan et al., "Crystal Loss and
    Quality Pooling for Unconstrained Face Verification and Recognition", arXiv:1804.01159. Where
    implementations differ: the authors published no code, and ports take alpha from 10 to 28. In
    the paper a fixed alpha is slightly better than a trained one, and values in [16, 32] give
    nearly equal results.

    Args:
        num_classes: C, integer >= 3.
        alpha: radius of the sphere, > 0. None takes `max(16, ceil(alpha_lower_bound(C)))`.
        trainable_alpha: whether training changes alpha.
        **kwargs: of `MarginHead`, such as `prototypes_initializer` and `detach_margin`, and of
            `keras.layers.Layer`.

    Input shape:
        `embeddings`: (B, D) float. `labels`: (B,) or (B, 1) integers in [0, C), or -1.

    Output shape:
        (B, C) float32 logits.

    Raises:
        ValueError: see `MarginHead`. Warns where alpha is below `alpha_lower_bound`.

    Example:

    >>> L2Softmax(num_classes=58207).alpha
    16.0
    """

    def __init__(self, num_classes, alpha=None, *, trainable_alpha=False, **kwargs):
        super().__init__(num_classes, **kwargs)
        bound = alpha_lower_bound(num_classes) if num_classes > 2 else 0.0
        alpha = max(16, math.ceil(bound)) if alpha is None else alpha
        check_positive("alpha", alpha)
        check_flag("trainable_alpha", trainable_alpha)
        self.alpha = float(alpha)
        self.trainable_alpha = bool(trainable_alpha)
        warn_if_below("L2Softmax", "alpha", self.alpha, bound, "arXiv:1703.09507, section 3.3")

    def build(self, embeddings_shape, labels_shape=None):
        super().build(embeddings_shape)
        self.add_bias()
        if self.trainable_alpha:
            self.alpha_weight = self.add_weight(
                name="alpha", shape=(), initializer=keras.initializers.Constant(self.alpha)
            )

    def normalize_embeddings(self, embeddings):
        directions, norms = super().normalize_embeddings(embeddings)
        return (self.alpha_weight if self.trainable_alpha else self.alpha) * directions, norms

    def similarity(self, features, prototypes, bias, pair):
        return pair(features, prototypes, lengths=False)[0] + bias

    def logits(self, similarities, norms):
        return similarities


CrystalLoss = L2Softmax
