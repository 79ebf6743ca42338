"""N-pairs losses (Sohn 2016)."""

import keras
from keras import ops

from keras_facemargin.heads.margin_head.arguments import check_flag
from keras_facemargin.losses.loss import PairwiseLoss, check_same_batch, share_label, split

_NOTHING = -1e30  # as a logit: finite, so that no gradient is NaN


@keras.saving.register_keras_serializable("keras_facemargin")
class NpairsLoss(PairwiseLoss):
    """N-pairs loss: each anchor's positive against the positives of all other people, by softmax.

    `L = 1/N sum_i ln(1 + sum_(j not i) exp(S_ij - S_ii))`, `S_ij = a_i . b_j`, for N people with an
    anchor a and a positive b each: the cross-entropy of row i of S with target i. Where a label
    occurs more than once, its columns share the target equally.

    `tfa.losses.NpairsLoss` of tensorflow-addons 0.23: `y_pred` is the matrix S. With
    `from_embeddings=True` the loss takes a plain embedder's output instead: the samples of a label
    are paired in the order of the batch, first with second, third with fourth; the earlier is the
    anchor. A last sample without a partner is ignored. The result is that of tensorflow-addons for
    the S of these pairs.

    Reference: Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective",
    NeurIPS 2016, section 3.2 (N-pair-mc). Where implementations differ: the paper also penalises
    the norm of the embeddings, here an `activity_regularizer` of the embedder's last layer; TF 1's
    `tf.contrib` had it built in. tensorflow-addons casts the labels to the dtype of `y_pred`, and
    treats 16,777,216 and 16,777,217 as one person; here labels are compared as integers.

    Args:
        name: of the loss.
        from_embeddings: whether `y_pred` is embeddings.
        **kwargs: `reduction` and `dtype`.

    Input shape:
        `y_true`: (B,) or (B, 1) integers. `y_pred`: (B, B) similarities, anchors by positives, or
        with `from_embeddings` (B, D) float. (Embeddings passed without it are refused, except where
        D happens to equal B.)

    Output shape:
        A float32 scalar: L above. With `reduction=None` (B,), the cross-entropies of the rows; with
        `from_embeddings` those of the N anchors times B/N, and 0 for the other samples.

    Raises:
        ValueError: a shape is not one of these; see also `PairwiseLoss`.

    Example:

    >>> import numpy as np
    >>> anchors = np.array([[1.0, 0.0], [0.0, 1.0]], "float32")
    >>> positives = np.array([[1.0, 0.0], [1.0, 1.0]], "float32")
    >>> float(NpairsLoss()(np.array([0, 1]), anchors @ positives.T))  # (ln 2 + ln(1 + 1/e)) / 2
    0.5032
    >>> loss = NpairsLoss(from_embeddings=True)
    >>> batch = np.stack([anchors, positives], 1).reshape(4, 2)
    >>> float(loss(np.array([0, 0, 1, 1]), batch))
    0.5032
    """

    def __init__(self, name="npairs_loss", *, from_embeddings=False, **kwargs):
        super().__init__(name=name, **kwargs)
        check_flag("from_embeddings", from_embeddings)
        self.from_embeddings = bool(from_embeddings)

    def relate(self, y_true, y_pred):
        if self.from_embeddings:
            return super().relate(y_true, y_pred)
        way_out = "For embeddings (batch, dim) pass `NpairsLoss(from_embeddings=True)`."
        _check_square(y_pred, way_out)
        return share_label(y_true, y_pred)

    def call(self, same, y_pred):
        if y_pred.shape[0] == 0:
            return ops.sum(y_pred, axis=1)
        if not self.from_embeddings:
            return _cross_entropy(same, y_pred)
        anchors, partners = _pair_up(same)
        similarities = ops.matmul(y_pred, ops.transpose(y_pred))
        partners = ops.expand_dims(partners, 0)
        targets = ops.where(partners, same, 0.0)
        losses = _cross_entropy(targets, ops.where(partners, similarities, _NOTHING))
        number = ops.sum(ops.cast(anchors, losses.dtype))
        size = ops.cast(ops.shape(losses)[0], losses.dtype)
        return ops.where(anchors, losses, 0.0) * (size / ops.maximum(number, 1.0))


@keras.saving.register_keras_serializable("keras_facemargin")
class NpairsMultilabelLoss(PairwiseLoss):
    """N-pairs loss for samples with several labels each: targets by the number of shared labels.

    `L = -1/N sum_i sum_j T_ij ln softmax(S_i)_j`, `T_ij = n_ij / sum_k n_ik`, n_ij the number of
    labels that samples i and j share.

    `tfa.losses.NpairsMultilabelLoss` of tensorflow-addons 0.23: `y_pred` is the matrix S of
    similarities, anchors by positives; see `NpairsLoss`.

    Reference: as of `NpairsLoss`; the form for several labels is tensorflow-addons'. Where
    implementations differ: a sample without any label has loss 0 here and NaN there.

    Args:
        name: of the loss.
        **kwargs: `reduction` and `dtype`.

    Input shape:
        `y_true`: (B, C) of 0 and 1, whether sample i has label c. `y_pred`: (B, B) similarities.

    Output shape:
        A float32 scalar: L above. (B,) with `reduction=None`.

    Raises:
        ValueError: a shape is not one of these; see also `PairwiseLoss`.

    Example:

    >>> import numpy as np
    >>> labels = np.array([[1, 1, 0], [0, 1, 0]])
    >>> similarities = np.array([[2.0, 1.0], [1.0, 2.0]], "float32")
    >>> float(NpairsMultilabelLoss()(labels, similarities))
    0.7299
    """

    def __init__(self, name="npairs_multilabel_loss", **kwargs):
        super().__init__(name=name, **kwargs)

    def relate(self, y_true, y_pred):
        _check_square(y_pred, "Pass anchors times positives, transposed.")
        y_true = ops.convert_to_tensor(y_true)
        if len(y_true.shape) != 2:
            raise ValueError(
                "`y_true` must hold 0 or 1 for each sample and class, of shape "
                f"(batch, classes). Received: y_true of shape {tuple(y_true.shape)}. For one label "
                "a sample use `NpairsLoss`."
            )
        check_same_batch(y_true, y_pred)
        y_true = ops.cast(y_true, self.dtype)
        return ops.matmul(y_true, ops.transpose(y_true))

    def call(self, shared, similarities):
        if similarities.shape[0] == 0:
            return ops.sum(similarities, axis=1)
        return _cross_entropy(shared, similarities)


def _check_square(similarities, way_out):
    shape = tuple(similarities.shape)
    if len(shape) != 2 or (None not in shape and shape[0] != shape[1]):
        raise ValueError(
            "`y_pred` must be similarities of shape (batch, batch). "
            f"Received: y_pred of shape {shape}. {way_out}"
        )


def _pair_up(same):
    """Which samples are anchors and which their partners, (B,) bool each."""
    index = ops.arange(ops.shape(same)[0], dtype="int32")
    later = ops.expand_dims(index, 1) > ops.expand_dims(index, 0)
    positives, _ = split(same)
    earlier_ones = ops.sum(ops.cast(ops.logical_and(positives, later), "int32"), axis=1)
    all_ones = ops.sum(ops.cast(positives, "int32"), axis=1) + 1
    is_second = ops.equal(earlier_ones % 2, 1)
    has_second = ops.logical_and(ops.logical_not(is_second), earlier_ones + 1 < all_ones)
    return has_second, is_second


def _cross_entropy(weights, logits):
    """(B,): cross-entropy of each row with its weights, scaled to sum to 1; 0 without weights."""
    total = ops.sum(weights, axis=1, keepdims=True)
    targets = weights / ops.where(total > 0.0, total, 1.0)
    return -ops.sum(targets * ops.log_softmax(logits, axis=1), axis=1)
