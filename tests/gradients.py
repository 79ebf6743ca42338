"""Value and gradients of a head on whichever backend runs the tests."""

import keras
import numpy as np


def sum_of_losses(head, embeddings, labels):
    """Sum of the head's losses, and its gradients by embeddings and prototypes, as numpy."""
    backend = keras.backend.backend()
    embeddings = keras.ops.convert_to_tensor(embeddings, dtype=head.compute_dtype)
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            loss = keras.ops.sum(head.judge(embeddings, labels)[0])
        by_embeddings, by_prototypes = tape.gradient(loss, [embeddings, head.prototypes.value])
        by_prototypes = tf.convert_to_tensor(by_prototypes)
    elif backend == "jax":
        import jax

        def objective(embeddings, prototypes):
            mapping = [(head.prototypes, prototypes)]
            with keras.StatelessScope(state_mapping=mapping):
                return keras.ops.sum(head.judge(embeddings, labels)[0])

        loss, (by_embeddings, by_prototypes) = jax.value_and_grad(objective, argnums=(0, 1))(
            embeddings, head.prototypes.value
        )
    else:
        embeddings = embeddings.detach().requires_grad_(True)
        head.prototypes.value.grad = None
        loss = keras.ops.sum(head.judge(embeddings, labels)[0])
        loss.backward()
        by_embeddings, by_prototypes = embeddings.grad, head.prototypes.value.grad
    return tuple(
        np.asarray(keras.ops.convert_to_numpy(t)) for t in (loss, by_embeddings, by_prototypes)
    )


def value_and_gradient(function, inputs, dtype="float32"):
    """A scalar function of one tensor, and its gradient, as numpy."""
    backend = keras.backend.backend()
    inputs = keras.ops.convert_to_tensor(inputs, dtype=dtype)
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = function(inputs)
        gradient = tf.convert_to_tensor(tape.gradient(value, inputs))
    elif backend == "jax":
        import jax

        value, gradient = jax.value_and_grad(function)(inputs)
    else:
        inputs = inputs.detach().requires_grad_(True)
        value = function(inputs)
        value.backward()
        gradient = inputs.grad
    return tuple(np.asarray(keras.ops.convert_to_numpy(t)) for t in (value, gradient))
