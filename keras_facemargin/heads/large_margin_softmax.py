"""L-Softmax, large-margin softmax (Liu et al. 2016, arXiv:1612.02295)."""

import keras

from keras_facemargin import margins
from keras_facemargin.heads.annealing import add_step, mix, set_schedule
from keras_facemargin.heads.margin_head.arguments import check_integer
from keras_facemargin.heads.margin_head.head import MarginHead


@keras.saving.register_keras_serializable("keras_facemargin")
class LargeMarginSoftmax(MarginHead):
    """L-Softmax: multiplies the angle to the true class; embeddings and prototypes keep lengths.

    `z_y = |W_y| |x| (lambda cos(theta_y) + psi(theta_y)) / (1 + lambda)`, `z_j = W_j . x`,
    `psi(theta) = (-1)^k cos(m theta) - 2k` on `[k pi / m, (k + 1) pi / m]`,
    `lambda = max(minimum, base (1 + gamma n)^(-power))` at training step n (`heads/annealing.py`)

    SphereFace is this loss with `|W_j| = 1`.

    Reference: Liu, Wen, Yu, Yang, "Large-Margin Softmax Loss for Convolutional Neural Networks",
    arXiv:1612.02295, psi in its Eq. 6. Where implementations differ:
    the authors' Caffe layer has another schedule for each data set; the default here is that of
    their SphereFace release.

    Args:
        num_classes: C, integer >= 2.
        margin: m, integer >= 1, the factor of the angle; 1 gives softmax without bias.
        base, gamma, power, minimum: of the annealing; `base=0, minimum=0` sets lambda to 0.
        **kwargs: of `MarginHead`, such as `prototypes_initializer` and `detach_margin`, and of
            `keras.layers.Layer`.

    Input shape:
        `embeddings`: (B, D) float, *not* normalised. `labels`: (B,) or (B, 1) integers in [0, C),
        or -1.

    Output shape:
        (B, C) float32 logits.

    Raises:
        ValueError: `margin` is not an integer >= 1; see also `MarginHead`.

    Example:

    >>> head = LargeMarginSoftmax(num_classes=1000, margin=4)
    >>> head.build((None, 128))
    >>> tuple(head.prototypes.shape)
    (1000, 128)
    """

    keeps_norms = True

    def __init__(
        self, num_classes, margin=4, *, base=1000.0, gamma=0.12, power=1.0, minimum=5.0, **kwargs
    ):
        super().__init__(num_classes, **kwargs)
        check_integer("margin", margin, 1)
        self.margin = int(margin)
        set_schedule(self, base=base, gamma=gamma, power=power, minimum=minimum)

    def build(self, embeddings_shape, labels_shape=None):
        super().build(embeddings_shape)
        self.step = add_step(self)

    def similarity(self, features, prototypes, bias, pair):
        return pair(features, prototypes, lengths=False)[0]

    def update_state(self, target, norms, valid, log_sum):
        self.step.assign(self.step + 1)

    def target_similarity(self, cosine, norms, prototypes, labels, training):
        length = margins.length_of(prototypes)
        psi = margins.multiplied_angle(cosine / length, self.margin)
        return mix(self, cosine, length * psi)

    def logits(self, similarities, norms):
        return norms * similarities
