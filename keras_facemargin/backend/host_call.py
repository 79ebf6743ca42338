"""Calls Python from inside a compiled training step."""

import keras
import numpy as np


def can_call(jit_compile):
    """Whether a step can call Python: not where TensorFlow compiles it with XLA."""
    return not (keras.backend.backend() == "tensorflow" and jit_compile)


def call_if(condition, function, *tensors):
    """Calls `function(*arrays)` if a scalar of the running step is true.

    Args:
        condition: scalar bool tensor.
        function: takes numpy arrays; an exception in it ends the step before any weight changes
            (on jax it ends the run).
        *tensors: passed to it as numpy arrays.

    Returns:
        A scalar float32 1 that depends on the call. Multiply a tensor by it to make the tensor and
        its gradient wait for the call (adding a zero would not delay the gradient).
    """

    def call(*arrays):
        function(*(np.asarray(keras.ops.convert_to_numpy(array)) for array in arrays))
        return np.float32(1)

    tensors = [keras.ops.stop_gradient(tensor) for tensor in tensors]
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.cond(
            condition,
            lambda: tf.ensure_shape(tf.numpy_function(call, tensors, tf.float32), ()),
            lambda: tf.constant(1.0),
        )
    if backend == "jax":
        import jax

        one = jax.ShapeDtypeStruct((), "float32")
        return jax.lax.cond(
            condition,
            lambda tensors: jax.pure_callback(call, one, *tensors),
            lambda tensors: jax.numpy.float32(1),
            tensors,
        )
    return call(*tensors) if bool(condition) else 1.0
