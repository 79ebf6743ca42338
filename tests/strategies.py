"""One MirroredStrategy per number of replicas in a process.

A second object over the same devices numbers its collectives from the start again, and TensorFlow
then holds them to the shapes of the first.
"""

import functools


@functools.cache
def replicas(count):
    import tensorflow as tf

    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)])
