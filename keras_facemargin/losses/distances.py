"""Distances of all pairs of a batch: (B, D) -> (B, B), finite in value and gradient everywhere.

The three metrics of tensorflow-addons. Each needs one (B, B) product, so that memory grows with B^2
and not with B^2 D.
"""

from keras import ops

from keras_facemargin.heads.margin_head.arguments import shown
from keras_facemargin.margins import direction_of


def squared_l2(embeddings):
    """`|x_i - x_j|^2`, exactly 0 on the diagonal; "squared-L2".

    The mean embedding is subtracted first: distances do not change, and embeddings far from the
    origin keep digits that `|x_i|^2 + |x_j|^2 - 2 x_i.x_j` would otherwise cancel.

    Args:
        embeddings: (B, D) float.

    Returns:
        (B, B), >= 0.

    Example:

    >>> import numpy as np
    >>> np.asarray(squared_l2(np.array([[0.0, 0.0], [3.0, 4.0]], "float32"))).tolist()
    [[0.0, 25.0], [25.0, 0.0]]
    """
    embeddings = ops.convert_to_tensor(embeddings)
    embeddings = embeddings - ops.stop_gradient(ops.mean(embeddings, axis=0, keepdims=True))
    products = ops.matmul(embeddings, ops.transpose(embeddings))
    norms = ops.sum(ops.square(embeddings), axis=1)
    squared = ops.expand_dims(norms, 1) + ops.expand_dims(norms, 0) - 2.0 * products
    together = ops.logical_or(squared <= 0.0, itself(squared))  # not of a NaN, which stays one
    return ops.where(together, 0.0, squared)


def l2(embeddings):
    """`|x_i - x_j|`; "L2". The gradient at distance 0, which has no direction, is 0.

    Args:
        embeddings: (B, D) float.

    Returns:
        (B, B), >= 0.

    Example:

    >>> import numpy as np
    >>> np.asarray(l2(np.array([[0.0, 0.0], [3.0, 4.0]], "float32"))).tolist()
    [[0.0, 5.0], [5.0, 0.0]]
    """
    squared = squared_l2(embeddings)
    together = ops.equal(squared, 0.0)
    return ops.where(together, 0.0, ops.sqrt(ops.where(together, 1.0, squared)))


def angular(embeddings):
    """`1 - cos(x_i, x_j)`; "angular", although not an angle: 0 parallel, 1 orthogonal, 2 opposite.

    An embedding of zero has direction zero: it is 1 from everything, itself included. The gradient
    of an embedding shorter than 0.01 is bounded (`margins.direction_of`); in tensorflow-addons that
    of a zero embedding is of the order 1e6.

    Args:
        embeddings: (B, D) float.

    Returns:
        (B, B), in [0, 2].

    Example:

    >>> import numpy as np
    >>> np.asarray(angular(np.array([[1.0, 0.0], [0.0, 2.0]], "float32"))).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    directions = direction_of(ops.convert_to_tensor(embeddings))
    return ops.relu(1.0 - ops.matmul(directions, ops.transpose(directions)))


METRICS = {"L2": l2, "squared-L2": squared_l2, "angular": angular}


def get_metric(metric):
    """The function of a metric's name; a function is returned unchanged.

    Args:
        metric: "L2", "squared-L2", "angular", or a function from (B, D) to (B, B).

    Raises:
        ValueError: `metric` is not one of these.

    Example:

    >>> get_metric("L2").__name__
    'l2'
    """
    if callable(metric):
        return metric
    if not isinstance(metric, str) or metric not in METRICS:
        raise ValueError(
            f"`distance_metric` must be one of {tuple(METRICS)}, or a function from embeddings "
            f"(B, D) to distances (B, B). Received: distance_metric={shown(metric)}"
        )
    return METRICS[metric]


def itself(matrix):
    """(B, B) bool, true on the diagonal, for a batch size known or not."""
    index = ops.arange(ops.shape(matrix)[0], dtype="int32")
    return ops.equal(ops.expand_dims(index, 1), ops.expand_dims(index, 0))
