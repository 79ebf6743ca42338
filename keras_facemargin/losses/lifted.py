"""Lifted structured loss (Oh Song et al. 2016, arXiv:1511.06452)."""

import keras
from keras import ops

from keras_facemargin.losses.distances import l2
from keras_facemargin.losses.loss import PairwiseLoss, check_margin, per_pair_mean, split

# In place of log(0), the logarithm of an empty sum; finite, so that no gradient is NaN.
_NOTHING = -1e30


@keras.saving.register_keras_serializable("keras_facemargin")
class LiftedStructLoss(PairwiseLoss):
    """Lifted structured loss: each positive pair against all negatives of both its samples.

    `J_ij = ln(sum_k exp(m - D_ik) + sum_l exp(m - D_jl)) + D_ij`, k not of the label of i and l not
    of the label of j; `L = 1/(2P) sum_(i, j) max(0, J_ij)^2` over the P unordered positive pairs. D
    is the L2 distance.

    `tfa.losses.LiftedStructLoss`, arguments and defaults of tensorflow-addons 0.23. Do not
    normalise the embeddings.

    Reference: Oh Song, Xiang, Jegelka, Savarese, "Deep Metric Learning via Lifted Structured
    Feature Embedding", arXiv:1511.06452, Eq. 4. Where implementations differ:

    - A batch without positives: 0 here; NaN in tensorflow-addons.
    - A batch of one label: 0 here, since the logarithm of an empty sum is minus infinity and its
      hinge 0; NaN in tensorflow-addons.
    - The sums are formed once for each sample, in memory of order B^2 here, B^3 there.

    Args:
        margin: m >= 0, in units of the distance.
        name: of the loss.
        **kwargs: `reduction` and `dtype`.

    Input shape:
        `y_true`: (B,) or (B, 1) integers. `y_pred`: (B, D) float.

    Output shape:
        A float32 scalar: the mean of the anchors' losses `l_i = B/(4P) sum_j max(0, J_ij)^2`, which
        is L above. (B,) with `reduction=None`.

    Raises:
        ValueError: `margin` is out of range; see also `PairwiseLoss`.

    Example:

    >>> import numpy as np
    >>> labels = np.array([0, 0, 1])
    >>> embeddings = np.array([[0.0, 1.0], [0.0, -1.0], [0.0, 0.0]], "float32")
    >>> float(LiftedStructLoss(margin=1.0)(labels, embeddings))  # (ln 2 + 2)^2 / 2
    3.63
    """

    def __init__(self, margin=1.0, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        self.margin = check_margin(margin)

    def call(self, same, embeddings):
        if embeddings.shape[0] == 0:
            return ops.sum(embeddings, axis=1)
        positives, negatives = split(same)
        distances = l2(embeddings)
        nearness = ops.where(negatives, self.margin - distances, _NOTHING)
        own = ops.logsumexp(nearness, axis=1, keepdims=True)
        both = _log_of_sum(own, ops.transpose(own)) + distances
        squares = ops.square(ops.relu(ops.where(positives, both, 0.0)))
        return per_pair_mean(squares, positives) / 2.0


def _log_of_sum(a, b):
    """`ln(exp(a) + exp(b))`, broadcast; where a equals b, both get half of the gradient."""
    top = ops.stop_gradient(ops.maximum(a, b))
    return top + ops.log(ops.exp(a - top) + ops.exp(b - top))
