"""Contrastive loss (Hadsell, Chopra, LeCun 2006)."""

import keras
import numpy as np
from keras import ops

from keras_facemargin.heads.margin_head.arguments import check_flag
from keras_facemargin.heads.margin_head.labels import is_tensor, one_each
from keras_facemargin.losses.distances import l2, squared_l2
from keras_facemargin.losses.loss import PairwiseLoss, check_margin, check_same_batch, flat


@keras.saving.register_keras_serializable("keras_facemargin")
class ContrastiveLoss(PairwiseLoss):
    """Contrastive loss: pulls pairs of one person together, pushes other pairs a margin apart.

    `l = y D^2 + (1 - y) max(0, m - D)^2` for a pair at distance D, y = 1 for one person and 0 for
    two.

    `tfa.losses.ContrastiveLoss`, arguments and defaults of tensorflow-addons 0.23: a siamese
    network returns the distance of each pair, and the label is 1 if it is one person. With
    `from_embeddings=True` the loss takes a plain embedder's output and the identities instead, and
    compares all B (B - 1) / 2 pairs of the batch.

    Reference: Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant Mapping",
    CVPR 2006, Eq. 4. Where implementations differ: the paper's Y is 1 for *different* samples, and
    both its terms have a factor 1/2. Two embeddings of different people at the same point have no
    direction between them: their gradient is 0.

    Args:
        margin: m >= 0, in units of the distance.
        reduction: as of `keras.losses.Loss`.
        name: of the loss.
        from_embeddings: whether `y_pred` is embeddings and `y_true` identities.
        dtype: "float32" (None means this too) or "float64".

    Input shape:
        `y_pred`: (P,) or (P, 1) distances and `y_true`: (P,) or (P, 1) of 0 and 1 (any other value
        makes the loss NaN); with `from_embeddings` `y_pred`: (B, D) float and `y_true`: (B,) or
        (B, 1) integers.

    Output shape:
        A float32 scalar: the mean of l over the pairs. With `reduction=None` (P,), or with
        `from_embeddings` (B,), the mean over the B - 1 pairs of each sample.

    Raises:
        ValueError: `margin` is out of range; a shape is not one of these; see also `PairwiseLoss`.

    Example:

    >>> import numpy as np
    >>> float(ContrastiveLoss(margin=1.0)(np.array([1, 0]), np.array([0.5, 0.5], "float32")))
    0.25
    >>> loss = ContrastiveLoss(margin=6.0, from_embeddings=True)
    >>> embeddings = np.array([[0.0, 0.0], [3.0, 4.0]], "float32")
    >>> float(loss(np.array([7, 8]), embeddings))
    1.0
    """

    def __init__(
        self,
        margin=1.0,
        reduction="sum_over_batch_size",
        name="contrastive_loss",
        *,
        from_embeddings=False,
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.margin = check_margin(margin)
        check_flag("from_embeddings", from_embeddings)
        self.from_embeddings = bool(from_embeddings)

    def __call__(self, y_true, y_pred, sample_weight=None):
        if not self.from_embeddings:
            y_pred = flat(
                "y_pred",
                ops.convert_to_tensor(y_pred),
                "It is the distance of each pair; for embeddings (batch, dim) pass "
                "`ContrastiveLoss(from_embeddings=True)`.",
            )
        return super().__call__(y_true, y_pred, sample_weight)

    def relate(self, y_true, y_pred):
        if self.from_embeddings:
            return super().relate(y_true, y_pred)
        way_out = "It holds 1 for a pair of one person and 0 for a pair of two."
        if not is_tensor(y_true):  # 2**32, which is neither, must not be cut off to 0
            y_true = np.asarray(y_true, self.dtype)
        y_true = flat("y_true", ops.convert_to_tensor(y_true), way_out)
        check_same_batch(y_true, y_pred)
        return one_each("y_true", y_true, y_pred)

    def call(self, same, y_pred):
        if not self.from_embeddings:
            valid = ops.logical_or(ops.equal(same, 0.0), ops.equal(same, 1.0))
            losses = self._losses(same, y_pred, ops.square(y_pred))
            return ops.where(valid, losses, float("nan"))
        losses = self._losses(same, l2(y_pred), squared_l2(y_pred))
        others = ops.cast(ops.shape(losses)[0] - 1, losses.dtype)  # a sample costs itself nothing
        return ops.sum(losses, axis=1) / ops.maximum(others, 1.0)

    def _losses(self, same, distance, squared):
        return same * squared + (1.0 - same) * ops.square(ops.relu(self.margin - distance))
