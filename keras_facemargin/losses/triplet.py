"""Triplet losses with mining in the batch: semi-hard (Schroff et al.) and hard (Hermans et al.)."""

import keras
from keras import ops

from keras_facemargin.heads.margin_head.arguments import check_flag
from keras_facemargin.losses.loss import MetricLoss, per_pair_mean, split

# A row of distances for more samples than 2^17 would not fit any memory; bounds the search below
# where a compiled graph does not know its batch size.
_MOST_STEPS = 17


@keras.saving.register_keras_serializable("keras_facemargin")
class TripletSemiHardLoss(MetricLoss):
    """Triplet loss with semi-hard negatives: the nearest that is farther than the positive.

    `L = 1/P sum_(i, j) max(0, D_ij + m - D_in)` over the P ordered pairs (i, j) of one label, j not
    i, where `D_in = min {D_ik : k of another label, D_ik > D_ij}`, or, where no negative is
    farther than j, `D_in = max {D_ik : k of another label}`.

    `tfa.losses.TripletSemiHardLoss`, arguments and defaults of tensorflow-addons 0.23. Normalise
    the embeddings to length 1. If the loss remains at the margin, the embeddings have collapsed to
    a point: lower the learning rate, or start with a margin softmax. Fill batches with several
    images of each person; one image per person makes no positive pair.

    Reference: Schroff, Kalenichenko, Philbin, "FaceNet", arXiv:1503.03832, section 3.1 (the loss)
    and 3.2 (semi-hard negatives). Where implementations differ:

    - FaceNet squares the distance ("squared-L2" here); tensorflow-addons defaults to "L2".
    - A batch without positives: 0 here; NaN in tensorflow-addons (0 pairs divided by 0).
    - An anchor without negatives: as in tensorflow-addons `D_in` is the smallest of its row, its
      distance to itself, and the loss `D_ij + m` pulls the class together.
    - The farthest and nearest are searched in memory of order B^2 here, B^3 there.
    - Where several negatives are equally near, one gets the gradient; there all share it.

    Args:
        margin: m >= 0, in units of the distance.
        distance_metric: "L2", "squared-L2", "angular", or a function (see `MetricLoss`).
        name: of the loss.
        **kwargs: `reduction` and `dtype`.

    Input shape:
        `y_true`: (B,) or (B, 1) integers. `y_pred`: (B, D) float.

    Output shape:
        A float32 scalar: the mean of the anchors' losses `l_i = B/P sum_j max(0, ...)`, which is L
        above. (B,) with `reduction=None`.

    Raises:
        ValueError: `margin` or `distance_metric` is not one of these; see also `PairwiseLoss`.

    Example:

    >>> import numpy as np
    >>> loss = TripletSemiHardLoss(margin=1.0)
    >>> labels = np.array([0, 0, 1])
    >>> embeddings = np.array([[0.0, 0.0], [0.0, 3.0], [3.5, 0.0]], "float32")
    >>> float(loss(labels, embeddings))  # (max(0, 3 + 1 - 3.5) + max(0, 3 + 1 - 4.61)) / 2
    0.25
    """

    def __init__(self, margin=1.0, distance_metric="L2", *, name=None, **kwargs):
        super().__init__(margin, distance_metric, name=name, **kwargs)

    def call(self, same, embeddings):
        if embeddings.shape[0] == 0:
            return ops.sum(embeddings, axis=1)
        positives, negatives = split(same)
        distances = self.distances(embeddings)
        beyond, exists = _nearest_beyond(distances, negatives)
        negative = ops.where(exists, beyond, _farthest(distances, negatives))
        hinge = ops.relu(distances + self.margin - negative)
        return per_pair_mean(ops.where(positives, hinge, 0.0), positives)


@keras.saving.register_keras_serializable("keras_facemargin")
class TripletHardLoss(MetricLoss):
    """Triplet loss with the hardest positive and the hardest negative of each anchor, "batch hard".

    `l_i = max(0, max_j D_ij - min_k D_ik + m)`, j of the same label, k of another; with
    `soft=True` `l_i = ln(1 + exp(max_j D_ij - min_k D_ik))`, which needs no margin.

    `tfa.losses.TripletHardLoss`, arguments and defaults of tensorflow-addons 0.23. Normalise the
    embeddings to length 1 (but not for the soft form). It collapses more easily than the semi-hard
    loss; the paper starts with a small learning rate.

    Reference: Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person Re-Identification",
    arXiv:1703.07737, Eq. 5 (batch hard; the authors' soft margin in section 2). Where
    implementations differ:

    - The soft form here never overflows; in tensorflow-addons it is infinite, and its gradient NaN,
      once the difference passes 88.
    - An anchor without positives: as in tensorflow-addons the positive is the anchor itself, at
      distance 0, and the negative is pushed beyond the margin. (The paper's batches have several
      images of each person.)
    - An anchor without negatives: as in tensorflow-addons the negative is the farthest sample of
      all; the loss is m (soft: ln 2) and its gradient 0.

    Args:
        margin: m >= 0, in units of the distance; without effect if `soft`.
        soft: the softplus of the difference, instead of the hinge.
        distance_metric: "L2", "squared-L2", "angular", or a function (see `MetricLoss`).
        name: of the loss.
        **kwargs: `reduction` and `dtype`.

    Input shape:
        `y_true`: (B,) or (B, 1) integers. `y_pred`: (B, D) float.

    Output shape:
        A float32 scalar: the mean of `l_i` over the batch. (B,) with `reduction=None`.

    Raises:
        ValueError: `margin` or `distance_metric` is not one of these; see also `PairwiseLoss`.

    Example:

    >>> import numpy as np
    >>> loss = TripletHardLoss(margin=1.0, reduction=None)
    >>> labels = np.array([0, 0, 1])
    >>> embeddings = np.array([[0.0, 0.0], [0.0, 3.0], [3.5, 0.0]], "float32")
    >>> np.asarray(loss(labels, embeddings)).tolist()
    [0.5, 0.0, 0.0]
    """

    def __init__(self, margin=1.0, soft=False, distance_metric="L2", *, name=None, **kwargs):
        super().__init__(margin, distance_metric, name=name, **kwargs)
        check_flag("soft", soft)
        self.soft = bool(soft)

    def call(self, same, embeddings):
        if embeddings.shape[0] == 0:
            return ops.sum(embeddings, axis=1)
        positives, negatives = split(same)
        distances = self.distances(embeddings)
        difference = _farthest(distances, positives) - _nearest(distances, negatives)
        difference = ops.squeeze(difference, 1)
        return ops.softplus(difference) if self.soft else ops.relu(difference + self.margin)


def _farthest(distances, mask):
    """(B, 1): each row's largest distance within the mask; the row's smallest where it is empty."""
    smallest = ops.min(distances, axis=1, keepdims=True)
    return ops.max(ops.where(mask, distances, smallest), axis=1, keepdims=True)


def _nearest(distances, mask):
    """(B, 1): each row's smallest distance within the mask; the row's largest where it is empty."""
    largest = ops.max(distances, axis=1, keepdims=True)
    return ops.min(ops.where(mask, distances, largest), axis=1, keepdims=True)


def _nearest_beyond(distances, negatives):
    """For each (i, j): distance of i's nearest negative farther than j, and whether one exists.

    Each row's negatives are sorted once; a binary search then finds for each distance how many of
    them do not exceed it. No array is larger than (B, B). The search has no gradient; the gradient
    of the result is that of the selected distance.
    """
    fenced = ops.stop_gradient(ops.where(negatives, distances, float("inf")))
    order = ops.argsort(fenced, axis=1)
    ordered = ops.take_along_axis(fenced, order, axis=1)
    queries = ops.stop_gradient(distances)
    size = ops.shape(distances)[1]
    static = distances.shape[1]
    steps = _MOST_STEPS if static is None else static.bit_length()
    count = ops.zeros_like(queries, dtype="int32")
    for step in reversed([2**power for power in range(steps)]):
        probe = count + step
        values = ops.take_along_axis(ordered, ops.minimum(probe, size) - 1, axis=1)
        count = ops.where(ops.logical_and(probe <= size, values <= queries), probe, count)
    exists = count < ops.sum(ops.cast(negatives, "int32"), axis=1, keepdims=True)
    picked = ops.take_along_axis(order, ops.minimum(count, size - 1), axis=1)
    return ops.take_along_axis(distances, picked, axis=1), exists
