"""Tensors of TensorFlow, as `tf.data` passes them, while Keras runs on another backend."""

import sys

import keras


def is_foreign(value):
    """Whether it is a tensor of TensorFlow and Keras runs on jax or torch."""
    return (
        keras.backend.backend() != "tensorflow"
        and "tensorflow" in sys.modules
        and sys.modules["tensorflow"].is_tensor(value)
    )
