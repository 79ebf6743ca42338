"""Reads labels: one class number a sample, int32, or an error."""

import keras
import numpy as np
from keras import ops

from keras_facemargin.backend.assertions import asserted, is_traced

IGNORED = -1  # the label of a sample that belongs to no class
_RULE = "`labels` must be in [0, num_classes), counted from 0, or be -1 to be ignored"
_INT32 = np.iinfo("int32")


def read_labels(labels, num_classes, embeddings=None):
    """Labels as (B,) int32, each of them a class or -1.

    The check precedes the cast: as int32, 2**32 would be class 0 and the uint32 4,294,967,295 would
    be -1. Arrays and concrete tensors are checked on every backend; a compiled TensorFlow step
    asserts. A compiled jax step cannot raise (and its tensors are not int64, unless jax is
    configured so): there an invalid label becomes `num_classes`, and its loss must be NaN.

    Args:
        labels: (B,) or (B, 1) integers of any type: array, list or tensor.
        num_classes: C.
        embeddings: (B, D) tensor that the labels belong to, or None.

    Returns:
        (B,) int32 tensor.

    Raises:
        ValueError: labels are one-hot, not integers, more or fewer than the embeddings, or out of
            range.
        tf.errors.InvalidArgumentError: (TensorFlow graph) for the latter two.
    """
    if not is_tensor(labels):
        labels = checked_array(labels, num_classes)
    shape = tuple(labels.shape)
    _check_shape(shape)
    dtype = keras.backend.standardize_dtype(labels.dtype)
    _check_integers("int" in dtype, dtype)
    if not isinstance(labels, np.ndarray):
        labels = _checked_range(labels, dtype, num_classes)
    labels = ops.convert_to_tensor(labels)
    if len(shape) == 2:
        labels = ops.squeeze(labels, -1)
    return labels if embeddings is None else one_each("labels", labels, embeddings)


def checked_array(labels, num_classes):
    """As `read_labels`, for an array or a list before a backend converts it: (B,) or (B, 1) int32.

    A backend without int64, as jax by default, would truncate large numbers silently.
    """
    labels = np.asarray(labels)
    _check_shape(labels.shape)
    _check_integers(labels.dtype.kind in "iu", labels.dtype)
    _check_range(labels, num_classes)
    return labels.astype("int32")


def is_tensor(value):
    """Whether it is a tensor, a variable or a symbolic tensor of the backend."""
    return (
        ops.is_tensor(value)
        or keras.backend.is_keras_tensor(value)
        or isinstance(value, keras.Variable)
    )


def one_each(name, labels, samples):
    """The labels, if there is one for each sample: a single one would be broadcast to all.

    Raises:
        ValueError: the numbers differ. If only the running TensorFlow graph knows them, an
            `InvalidArgumentError`.
    """
    here, there = labels.shape[0], samples.shape[0]
    rule = f"There must be one label for each embedding: `{name}` and embeddings differ in number"
    if here is not None and there is not None:
        if here != there:
            raise ValueError(f"{rule}. Received: {here} labels for {there} embeddings.")
        return labels
    if keras.backend.is_keras_tensor(labels):
        return labels
    here, there = ops.shape(labels)[0], ops.shape(samples)[0]
    message = f"{rule}. Received labels and embeddings:"
    return asserted(labels, ops.equal(here, there), message, here, there)


def _check_shape(shape):
    if len(shape) != 1 and (len(shape) != 2 or shape[1] != 1):
        raise ValueError(
            "`labels` must be sparse, of shape (batch,) or (batch, 1). "
            f"Received: labels of shape {shape}. For one-hot labels pass "
            "`ops.argmax(labels, -1)`."
        )


def _check_integers(are_integers, dtype):
    if not are_integers:
        raise ValueError(
            "`labels` must be integers: the class of each sample, counted from 0. "
            f"Received: labels of dtype {dtype}. Number the identities "
            "(`np.unique(labels, return_inverse=True)[1]`); cast whole numbers to int32."
        )


def _check_range(labels, num_classes):
    if labels.size and (labels.min() < IGNORED or labels.max() >= num_classes):
        needed = int(labels.max()) + 1
        larger = f", or make the head with num_classes={needed}" if needed <= _INT32.max else ""
        raise ValueError(
            f"{_RULE}; here num_classes={num_classes}. Received: labels from {labels.min()} to "
            f"{labels.max()}. Renumber the identities "
            f"(`np.unique(labels, return_inverse=True)[1]`){larger}."
        )


def _checked_range(labels, dtype, num_classes):
    """The labels of a tensor as int32, if they are in range."""
    if keras.backend.is_keras_tensor(labels):
        return ops.cast(labels, "int32")
    if not is_traced(labels):
        _check_range(ops.convert_to_numpy(labels), num_classes)
        return ops.cast(labels, "int32")
    numbers = _within_int32(labels, dtype)
    inside = ops.logical_and(numbers >= IGNORED, numbers < num_classes)
    message = f"{_RULE}; here num_classes={num_classes}. Received a batch with labels"
    numbers = asserted(numbers, ops.all(inside), message, labels)
    return ops.where(inside, numbers, num_classes)


def _within_int32(labels, dtype):
    """The labels as int32, clipped to its range, so that no cast turns one into another class."""
    wide = np.iinfo(dtype)
    if wide.max > _INT32.max:
        top = ops.convert_to_tensor(_INT32.max, dtype)
        labels = ops.where(labels > top, top, labels)
    if wide.min < _INT32.min:
        bottom = ops.convert_to_tensor(_INT32.min, dtype)
        labels = ops.where(labels < bottom, bottom, labels)
    return ops.cast(labels, "int32")


def check_drawn(labels, missing, rows):
    """The labels, if the step's sample of prototypes includes all of them.

    Raises:
        ValueError: a label is missing; in a graph of TensorFlow an `InvalidArgumentError`. A
            compiled step of jax cannot raise: there the loss of the label is NaN.
    """
    message = (
        f"A step trains {rows:,} prototypes, `sample_rate` of all, and every class of the global "
        "batch must be among them: raise `sample_rate`, or lower the batch size. (In your own loop "
        "call `classifier.sample_exchange.gather_rows(labels)` before each step.) Received a batch "
        "with labels that are not"
    )
    if not is_traced(missing):
        if ops.convert_to_numpy(missing).any():
            raise ValueError(f"{message}.")
        return labels
    return asserted(labels, ops.logical_not(ops.any(missing)), message)
