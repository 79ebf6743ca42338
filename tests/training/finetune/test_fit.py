"""Learning rates by depth."""

import keras
import numpy as np
import pytest

from keras_facemargin.training.finetune.fit import DepthAdam


@pytest.mark.any_backend
def test_rates_fall_from_the_last_layer_to_the_first():
    """Adam's first step is the learning rate, whatever the gradient."""
    backbone = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), keras.layers.ReLU()])
    embedder = keras.Sequential([keras.Input((4,)), backbone, *(keras.layers.Dense(4),) * 0])
    embedder.add(keras.layers.Dense(4))
    embedder.add(keras.layers.Dense(4))
    head = keras.Variable(np.zeros(3, "float32"), name="prototypes")
    variables = [*embedder.trainable_variables, head]
    before = [keras.ops.convert_to_numpy(each) for each in variables]
    optimizer = DepthAdam(0.1, embedder, layer_decay=0.01)
    optimizer.build(variables)
    optimizer.apply([keras.ops.ones(each.shape) for each in variables], variables)
    steps = [
        float(np.mean(then - keras.ops.convert_to_numpy(each)))
        for each, then in zip(variables, before, strict=True)
    ]
    assert len(steps) == 7  # three layers with kernel and bias, and the head
    expected = [0.001, 0.001, 0.01, 0.01, 0.1, 0.1, 0.1]
    np.testing.assert_allclose(steps, expected, rtol=1e-2)
