"""Results of a network without the function that `predict` traces, seconds for a large one."""

import keras


def infer(model, inputs):
    """What `model.predict(inputs)` returns for a single batch, computed operation by operation."""
    return keras.ops.convert_to_numpy(model(inputs, training=False))
