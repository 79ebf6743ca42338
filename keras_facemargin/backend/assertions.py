"""Checks of values that a compiled step knows only when it runs."""

import keras


def is_traced(tensor):
    """Whether the tensor has no value yet, because a step is being compiled."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return not tf.executing_eagerly()
    if backend == "jax":
        import jax

        return isinstance(tensor, jax.core.Tracer)
    return False


def asserted(tensor, condition, *message):
    """The tensor, which a graph of TensorFlow computes only if the condition holds.

    A compiled step of jax cannot raise, and torch compiles none: there the tensor is returned
    unchecked.

    Args:
        tensor: any tensor.
        condition: scalar bool tensor.
        *message: texts and tensors for the `tf.errors.InvalidArgumentError`.
    """
    if keras.backend.backend() != "tensorflow":
        return tensor
    import tensorflow as tf

    with tf.control_dependencies([tf.debugging.Assert(condition, list(message))]):
        return tf.identity(tensor)
