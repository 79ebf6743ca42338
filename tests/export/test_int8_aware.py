"""Training with the rounding of int8 inside."""

import keras
import numpy as np
import pytest
from inference import infer

from keras_facemargin import open_embedder
from keras_facemargin.export import Tolerance, export_bundle, export_embedder, write
from keras_facemargin.export.int8_aware import _rounded, tune_for_int8

layers = keras.layers


def network(seed=0):
    """A layer called twice, a ReLU behind a layer, and two outputs of one operation."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 127.5, -1.0)(image)
    x = layers.ReLU()(layers.Conv2D(8, 3, strides=2)(x))
    x = layers.PReLU(shared_axes=[1, 2])(layers.DepthwiseConv2D(3, depth_multiplier=2)(x))
    twice = layers.Conv2D(16, 3, padding="same", activation="relu")
    x = layers.Add()([x, twice(twice(x))])
    halves = keras.ops.split(x, 2, axis=-1)
    x = layers.Flatten()(layers.Add()(halves))
    return keras.Model(image, layers.UnitNormalization()(layers.Dense(8)(x)))


def normalised(model):
    return keras.Model(model.input, layers.UnitNormalization()(model.output))


def cosines(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def rounded(x, steps, low, high):
    """By a formula of its own: the nearest multiple of a step, of which 0 is one."""
    step = (high - low) / steps
    zero = np.round(-low / step)
    return (np.clip(np.round(x / step) + zero, 0, steps) - zero) * step


@pytest.mark.any_backend
def test_weights_and_tensors_are_rounded(squares):
    """One dense layer, in numpy."""
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    embedder = keras.Model(image, layers.Dense(4)(layers.Flatten()(image)))
    _, model = _rounded(embedder)
    kernel, bias = embedder.get_weights()
    most = np.abs(kernel).max(axis=0)
    pixels = rounded(squares.reshape(len(squares), -1), 255, 0, squares.max())
    expected = pixels @ rounded(kernel, 254, -most, most) + bias
    expected = rounded(expected, 255, expected.min(), expected.max())
    step = np.ptp(expected) / 255
    found = infer(model, squares)
    assert np.quantile(np.abs(found - expected), 0.95) < 0.01 * step
    assert np.abs(found - expected).max() < 1.1 * step  # a sum in another order


@pytest.mark.any_backend
def test_embeddings_come_nearer_when_they_are_rounded(uneven, squares):
    """Channels that differ in range by up to 300, which the export would equalise."""
    embedder = normalised(uneven(300))
    before, weights = infer(embedder, squares), embedder.get_weights()
    tuned = tune_for_int8(embedder, squares.astype("uint8"))
    for own, other in zip(weights, embedder.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)
    assert not any(type(each).__name__.startswith("_") for each in tuned.layers)
    old, new = (
        cosines(infer(_rounded(each)[1], squares), before).mean() for each in (embedder, tuned)
    )
    assert 1 - new < 0.8 * (1 - old)


@pytest.mark.any_backend
def test_a_layer_and_the_relu_behind_it_round_once():
    _, model = _rounded(network())
    names = [type(each).__name__ for each in model.layers]
    first = names.index("_RoundedWeights")
    assert names[first : first + 3] == ["_RoundedWeights", "ReLU", "_RoundedTensor"]
    assert names[first + 3 : first + 5] == ["_RoundedWeights", "_RoundedTensor"]


@pytest.mark.parametrize("ending", ["tflite", "onnx"])
def test_a_file_comes_nearer_to_keras(uneven, squares, tmp_path, monkeypatch, ending):
    """Without the equalising, which leaves this network nothing to lose."""
    monkeypatch.setattr(write, "equalise", lambda embedder, squares: embedder)
    options = {"precision": "int8", "images": squares, "tolerance": Tolerance(0.5, 0.5)}
    alone = export_embedder(normalised(uneven(300)), tmp_path / f"alone.{ending}", **options)
    file = tmp_path / f"tuned.{ending}"
    tuned = export_embedder(normalised(uneven(300)), file, tune=squares, **options)
    assert 1 - tuned.cosine_mean < 0.8 * (1 - alone.cosine_mean)
    norms = np.linalg.norm(open_embedder(file)(squares[:8]), axis=1)
    np.testing.assert_allclose(norms, 1.0, atol=0.05)


def test_the_progress_is_seen(uneven, squares, tmp_path, capfd):
    """What converters print is hidden."""
    options = {"precision": "int8", "images": squares, "tolerance": Tolerance(0.5, 0.5)}
    export_embedder(
        normalised(uneven(300)), tmp_path / "e.tflite", tune=squares, progress=True, **options
    )
    assert "epoch 2/2" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("file", "precision", "count", "message"),
    [
        ("f.tflite", "dynamic_int8", 80, r"precision=\"int8\".*Received: precision='dynamic_int8'"),
        ("f.onnx", "float32", 80, r"precision=\"int8\".*Received: precision='float32'"),
        ("f.tflite", "int8", 63, "at least 64 aligned face crops.*Received: 63 images"),
        ("f.onnx", "int8", 0, "tune must have the shape"),
    ],
)
def test_what_cannot_train_is_refused(squares, tmp_path, file, precision, count, message):
    images = squares if precision == "int8" else None
    with pytest.raises(ValueError, match=message):
        export_embedder(
            network(), tmp_path / file, precision=precision, images=images, tune=squares[:count]
        )
    assert not list(tmp_path.iterdir())


def test_a_bundle_without_an_int8_file_is_refused(squares, tmp_path):
    with pytest.raises(ValueError, match=r"must have an int8 file\. Received: files="):
        export_bundle(network(), tmp_path / "bundle", images=squares, tune=squares)
    assert not list(tmp_path.iterdir())
