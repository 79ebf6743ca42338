"""Differences between the trainers of Keras' backends.

During `fit` on jax, the trainer's state holds the values of a model's weights, not its variables.
"""

import keras


def sync_weights(model):
    """Copies the current weights into the variables of a model that is training (jax)."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


def restore_values(model, pairs):
    """As `sync_weights`, for a step that never ran: the trainer has emptied the variables (jax).

    Args:
        model: the model.
        pairs: function without arguments to (variable, value) pairs, the values before that step.
    """
    if keras.backend.backend() != "jax":
        return
    model.jax_state_sync()
    for variable, value in pairs():
        if variable._value is None:
            variable.assign(value)


def stream_method():
    """Name of the method with which a Keras data adapter hands its batches to the trainer."""
    return {
        "tensorflow": "get_tf_dataset",
        "jax": "get_jax_iterator",
        "torch": "get_torch_dataloader",
    }.get(keras.backend.backend())


def xla_is_faster(replicas):
    """Whether XLA works and speeds up training: on jax, and on one TensorFlow GPU."""
    if keras.backend.backend() != "tensorflow":
        return True
    import tensorflow as tf

    return replicas == 1 and bool(tf.config.list_physical_devices("GPU"))
