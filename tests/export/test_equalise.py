"""Equalised channels: the same function, and eight bits that suffice."""

from collections import Counter

import keras
import numpy as np
import pytest
from inference import infer

from keras_facemargin.export import ExportError, export_tflite, write
from keras_facemargin.export.equalise import equalise

layers = keras.layers


def convolution(x, filters, **options):
    return layers.Conv2D(filters, 3, padding="same", **options)(x)


def everything():
    """A network with each way to pass factors on, to take them, and to stop them."""
    image = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 127.5, -1.0)(image)
    x = layers.BatchNormalization()(convolution(x, 8, use_bias=False))
    x = layers.PReLU(shared_axes=[1, 2])(x)
    nested = keras.Input(x.shape[1:])
    inner = layers.LeakyReLU()(convolution(nested, 8))
    inner = layers.DepthwiseConv2D(3, padding="valid")(layers.ZeroPadding2D()(inner))
    x = layers.Add()([x, keras.Model(nested, inner)(x)])
    x = keras.Sequential([layers.Input(x.shape[1:]), layers.Conv2D(8, 1, activation="relu")])(x)
    twice = layers.Conv2D(8, 3, padding="same")
    x = layers.ReLU()(twice(layers.Activation("relu")(twice(x))))
    x = layers.Conv2D(8, 3, groups=2, padding="same")(x)
    x = layers.BatchNormalization(scale=False)(convolution(x, 8))
    x = convolution(layers.ReLU(6.0)(x), 8, activation="tanh")
    x = layers.Multiply()([x, layers.Conv2D(1, 1)(x)])
    x = layers.Add()([convolution(x, 8), layers.Conv2D(1, 1)(x)])
    x = keras.ops.flip(convolution(x, 8), axis=1)
    x = layers.MaxPooling2D()(layers.AveragePooling2D(2)(convolution(x, 8)))
    x = layers.Dense(12)(layers.Dropout(0.5)(layers.Flatten()(x)))
    embedding = layers.BatchNormalization()(layers.Dense(6)(x))
    model = keras.Model(image, embedding)
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():  # statistics, weights and slopes that are not 0 or 1
        if isinstance(layer, layers.BatchNormalization | layers.PReLU):
            layer.set_weights([rng.uniform(0.1, 2, each.shape) for each in layer.get_weights()])
    return model


def parts(model):
    """The layers with weights, by name."""
    layers = [each for each in model._flatten_layers(recursive=True) if each.weights]
    leaves = [each for each in layers if not isinstance(each, keras.Model)]
    return sorted(leaves, key=lambda layer: layer.name)


@pytest.mark.any_backend
def test_the_function_stays_the_same_and_the_embedder_unchanged(squares):
    keras.utils.set_random_seed(0)
    embedder = everything()
    before, weights = infer(embedder, squares), embedder.get_weights()
    equal = equalise(embedder, squares[:40])
    found = infer(equal, squares)
    np.testing.assert_allclose(found, before, rtol=1e-3, atol=1e-4 * np.abs(before).max())
    for own, other in zip(weights, embedder.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)
    changed = Counter(
        type(own).__name__
        for own, other in zip(parts(embedder), parts(equal), strict=True)
        if any((a != b).any() for a, b in zip(own.get_weights(), other.get_weights(), strict=True))
    )
    assert changed == {"BatchNormalization": 1, "Conv2D": 5, "Dense": 2, "DepthwiseConv2D": 1}
    assert embedder.layers[2].output is not None  # a second call would make it ambiguous


@pytest.mark.parametrize("precision", ["int8", "dynamic_int8"])
def test_channels_of_small_range_are_kept(uneven, squares, precision, tmp_path, monkeypatch):
    options = {"precision": precision, "images": squares.astype("uint8")}
    equal = export_tflite(uneven(1000), tmp_path / "equal.tflite", **options)
    monkeypatch.setattr(write, "equalise", lambda embedder, squares: embedder)
    with pytest.raises(ExportError) as caught:
        export_tflite(uneven(1000), tmp_path / "plain.tflite", **options)
    assert equal.cosine_mean > 0.99
    assert 1 - equal.cosine_mean < 0.2 * (1 - caught.value.verdict.cosine_mean)
