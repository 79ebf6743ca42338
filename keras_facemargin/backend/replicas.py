"""Communication between replicas, so that they train as one device does.

Only TensorFlow runs a step once per replica; on other backends a step sees the global batch.
"""

import keras
from keras import ops


def gather(values):
    """The per-sample values of the whole global batch, on every replica.

    Args:
        values: (B,) tensor, a number per sample of this replica, B may differ between replicas.

    Returns:
        (G,) tensor, G the size of the global batch, in the order of replicas. No gradient.
    """
    context = _context()
    values = ops.stop_gradient(values)
    return values if context is None else context.all_gather(values, axis=0)


def share(values, count):
    """This replica's part of values that are in the order of `gather`.

    Args:
        values: (G,) tensor.
        count: B, integer tensor, the number of samples of this replica.

    Returns:
        (B,) tensor.
    """
    context = _context()
    if context is None:
        return values
    counts = context.all_gather(ops.reshape(count, (1,)), axis=0)
    start = ops.cumsum(counts)[context.replica_id_in_sync_group] - count
    return values[start : start + count]


def replica_count():
    """The number of replicas of the running step; 1 outside of a step."""
    context = _context()
    return 1 if context is None else context.num_replicas_in_sync


def total(value):
    """The sum of a scalar, or of each of a list of scalars, over the replicas."""
    context = _context()
    if context is None:
        return value
    import tensorflow as tf

    # The value of a variable has no device, and workers cannot reduce a tensor without one.
    value = tf.nest.map_structure(lambda each: tf.identity(ops.convert_to_tensor(each)), value)
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def _context():
    """TensorFlow's replica context where there are several replicas, else None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    if not tf.distribute.has_strategy():
        return None
    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None


def batch_mean(values, valid):
    """Mean of a number per sample over the valid samples of the global batch, and their count.

    Args:
        values: (B,) float tensor.
        valid: (B,) bool tensor, False where a sample does not count.

    Returns:
        Two scalars; the mean is 0 where no sample is valid.
    """
    weights = gather(ops.cast(valid, values.dtype))
    count = ops.sum(weights)
    return ops.sum(weights * gather(values)) / ops.maximum(count, 1.0), count
