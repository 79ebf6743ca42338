"""A strategy over logical CPUs, of which a process may make many."""


def replicas(count):
    """MirroredStrategy over the first CPUs that tests/conftest.py sets up.

    Reduced on one device: TensorFlow's collectives are numbered anew by each strategy, and a second
    model's gradient would meet the first one's number, of another shape, in the same process.
    """
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(
        [f"CPU:{i}" for i in range(count)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
