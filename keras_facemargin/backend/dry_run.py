"""Recognises the calls in which Keras only asks for shapes."""

import keras


def is_dry_run():
    """Whether this is Keras' trial run before training under a strategy of `tf.distribute`.

    There Keras calls a loss on placeholders with the dtypes of the *mean* of the replicas' batches:
    integer labels are float64 in this call only. No value is computed.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return (
        not tf.executing_eagerly()
        and tf.distribute.has_strategy()
        and tf.distribute.in_cross_replica_context()
    )
