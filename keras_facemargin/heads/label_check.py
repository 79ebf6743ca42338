"""Refuses labels outside [-1, C). Alone in its file because a compiled graph can only be asked in
its backend's own words.
"""

import keras
import numpy as np
from keras import ops

IGNORED = -1  # the label of a sample that belongs to no class
_RULE = "`labels` must lie in [0, num_classes), counted from 0, or be -1 to be ignored"


def flat(labels):
    """Labels as (B,) int32, whatever integer type and trailing 1 they came with."""
    labels = ops.convert_to_tensor(labels)
    dtype = keras.backend.standardize_dtype(labels.dtype)
    if "int" not in dtype:
        raise ValueError(
            "`labels` must be integers: the class of each sample. Floats lose large labels "
            f"(65,505 is not a float16). Received: labels of dtype {dtype}. Cast to int32."
        )
    if len(labels.shape) == 2 and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, -1)
    if len(labels.shape) != 1:
        raise ValueError(
            "`labels` must be sparse, of shape (batch,) or (batch, 1). "
            f"Received: labels of shape {tuple(labels.shape)}. For one-hot labels pass "
            "`ops.argmax(labels, -1)`."
        )
    return ops.cast(labels, "int32")


def check_labels(labels, num_classes):
    """Returns `labels`, or raises where one is neither a class nor -1.

    Concrete labels are checked on every backend. Inside a compiled TensorFlow step the graph
    asserts. A compiled jax step cannot raise; there a stray label makes the loss NaN.

    Args:
        labels: (B,) int32 tensor.
        num_classes: C.

    Raises:
        ValueError: (concrete labels) naming the largest and smallest label received.
        tf.errors.InvalidArgumentError: (TensorFlow graph) the same words.
    """
    if keras.backend.is_keras_tensor(labels):
        return labels
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if not tf.executing_eagerly():
            message = f"{_RULE}; here num_classes={num_classes}. Received a batch with labels"
            inside = tf.reduce_all((labels >= IGNORED) & (labels < num_classes))
            with tf.control_dependencies([tf.debugging.Assert(inside, [message, labels])]):
                return tf.identity(labels)
    elif keras.backend.backend() == "jax":
        import jax

        if isinstance(labels, jax.core.Tracer):
            return labels
    values = keras.ops.convert_to_numpy(labels)
    if values.size and (values.min() < IGNORED or values.max() >= num_classes):
        raise ValueError(
            f"{_RULE}; here num_classes={num_classes}. Received: labels from {np.min(values)} to "
            f"{np.max(values)}. Renumber the identities, or make the head with "
            f"num_classes={int(np.max(values)) + 1}."
        )
    return labels


def checked_array(labels, num_classes):
    """As `check_labels`, of an array before any backend converts it."""
    return check_labels(np.asarray(labels), num_classes)


def check_drawn(labels, missing, rows):
    """The labels, if none of them is missing among the rows of a step's sample of prototypes.

    Raises:
        ValueError: one is; in a graph of TensorFlow an `InvalidArgumentError`. A compiled step of
            jax cannot raise: it calls the sample's loss not a number.
    """
    message = (
        f"A step trains {rows:,} prototypes, `sample_rate` of all, and every person of the global "
        "batch must be among them: raise `sample_rate`, or lower the batch size. (In a loop of "
        "your own call `classifier.sample_exchange.load(labels)` before each step.) Received a "
        "batch with labels that are not"
    )
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if not tf.executing_eagerly():
            with tf.control_dependencies([tf.debugging.Assert(~tf.reduce_any(missing), [message])]):
                return tf.identity(labels)
    elif keras.backend.backend() == "jax":
        import jax

        if isinstance(missing, jax.core.Tracer):
            return labels
    if keras.ops.convert_to_numpy(missing).any():
        raise ValueError(f"{message}.")
    return labels
