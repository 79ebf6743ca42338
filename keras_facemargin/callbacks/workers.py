"""Values that the workers of a run exchange."""

import functools

import numpy as np

from keras_facemargin.fitting import worker_of


def gather_from_workers(strategy, values):
    """The values of every worker, in the order of the workers.

    All workers must call this together.

    Args:
        strategy: a strategy of `tf.distribute`, or None.
        values: sequence of numbers, of one length on all workers.

    Returns:
        float64 array, one row for each replica; one row if there is one worker.
    """
    if strategy is None or worker_of(strategy)[1] == 1:
        return np.array([values], "float64")
    here = np.array([values], "float64")
    return strategy.experimental_local_results(_gathering(strategy)(here))[0].numpy()


@functools.cache
def _gathering(strategy):
    """The compiled exchange, once for each strategy."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((1, None), tf.float64)])
    def gather(here):
        return strategy.run(
            lambda: tf.distribute.get_replica_context().all_gather(tf.identity(here), axis=0)
        )

    return gather
