"""Plain softmax: the baseline that every margin paper starts from."""

import keras

from keras_facemargin.heads.margin_head.head import MarginHead


@keras.saving.register_keras_serializable("keras_facemargin")
class SoftmaxHead(MarginHead):
    """Softmax over inner products, without normalisation or margin.

    `z_j = W_j . x + b_j`

    The loss of `Dense(num_classes)` with sparse cross-entropy, with the interface of the other
    heads.

    Args:
        num_classes: C, integer >= 2.
        **kwargs: of `MarginHead`, such as `prototypes_initializer` and `detach_margin`, and of
            `keras.layers.Layer`.

    Input shape:
        `embeddings`: (B, D) float. `labels`: (B,) or (B, 1) integers in [0, C), or -1.

    Output shape:
        (B, C) float32 logits.

    Raises:
        ValueError: see `MarginHead`.

    Example:

    >>> import numpy as np
    >>> head = SoftmaxHead(num_classes=10)
    >>> tuple(head(np.ones((2, 4), "float32"), np.array([3, 7])).shape)
    (2, 10)
    """

    def __init__(self, num_classes, **kwargs):
        super().__init__(num_classes, **kwargs)

    def build(self, embeddings_shape, labels_shape=None):
        super().build(embeddings_shape)
        self.add_bias()

    def normalize_embeddings(self, embeddings):
        return embeddings, None

    def similarity(self, features, prototypes, bias, pair):
        return pair(features, prototypes, lengths=False)[0] + bias

    def logits(self, similarities, norms):
        return similarities
