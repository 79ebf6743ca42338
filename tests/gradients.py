"""Values and gradients on whichever backend runs the tests."""

import keras
import numpy as np


def value_and_gradients(function, *tensors):
    """A scalar function of tensors, and its gradients by each of them, as numpy."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        gradients = tape.gradient(value, tensors, unconnected_gradients="zero")
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
    elif backend == "jax":
        import jax

        value, gradients = jax.value_and_grad(function, argnums=tuple(range(len(tensors))))(
            *tensors
        )
    else:
        import torch

        tensors = [tensor.detach().requires_grad_(True) for tensor in tensors]
        value = function(*tensors)
        gradients = torch.autograd.grad(value, tensors, allow_unused=True, materialize_grads=True)
    return tuple(np.asarray(keras.ops.convert_to_numpy(t)) for t in (value, *gradients))


def sum_of_losses(head, embeddings, labels, training=False):
    """Sum of the head's losses, and its gradients by embeddings and prototypes, as numpy."""

    def total(embeddings, prototypes):
        with keras.StatelessScope(state_mapping=[(head.prototypes, prototypes)]):
            return keras.ops.sum(head.compute_losses(embeddings, labels, training=training)[0])

    return value_and_gradients(
        total,
        keras.ops.convert_to_tensor(embeddings, dtype=head.compute_dtype),
        keras.ops.convert_to_tensor(keras.ops.convert_to_numpy(head.prototypes)),
    )


def value_and_gradient(function, values, dtype="float32"):
    """A scalar function of one array, and its gradient, as numpy."""
    return value_and_gradients(function, keras.ops.convert_to_tensor(values, dtype=dtype))
