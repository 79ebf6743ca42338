"""Knows when Keras only asks for shapes. Alone in its file because that is asked in the backend's
own words.
"""

import keras


def is_dry_run():
    """Is this Keras' trial run before training starts under a strategy of `tf.distribute`?

    Keras then calls a loss on placeholders of the dtypes that the *mean* of the replicas' batches
    has: integer labels are float64 there, and there alone. No value is ever computed.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return (
        not tf.executing_eagerly()
        and tf.distribute.has_strategy()
        and tf.distribute.in_cross_replica_context()
    )
