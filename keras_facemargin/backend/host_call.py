"""Calls Python from inside a compiled training step."""

import keras
import numpy as np


def can_call(jit_compile):
    """Whether a step can call Python: not where TensorFlow compiles it with XLA."""
    return not (keras.backend.backend() == "tensorflow" and jit_compile)


def call_if(condition, function, *tensors):
    """Calls `function(*arrays)` when a scalar of the running step turns out true.

    Args:
        condition: scalar bool tensor.
        function: takes numpy arrays; what it raises ends the step before any weight has moved (on
            jax: ends the run).
        *tensors: handed over as numpy arrays.

    Returns:
        A scalar float32 one that depends on the call: multiply by it what must wait for it, its
        gradient included (a zero to add would let the gradient run ahead).
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
