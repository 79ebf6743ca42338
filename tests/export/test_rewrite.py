"""Networks rewritten for integers: the same function, and files that keep it."""

import keras
import numpy as np
import pytest
from inference import infer

from keras_facemargin.export import ExportError, Tolerance, export_tflite, tflite, write
from keras_facemargin.export.rewrite import (
    drop_last_normalisation,
    guard_normalisation,
    merge_normalisation,
    split_prelu,
)
from keras_facemargin.runtime.tflite import count_parts

layers = keras.layers


def shuffled(model, low=0.1, high=2.0):
    """The model with random statistics, weights and slopes of its normalisations and PReLUs."""
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization | layers.PReLU):
            layer.set_weights([rng.uniform(low, high, each.shape) for each in layer.get_weights()])
    return model


def assert_same_function(found, wanted, squares):
    first, second = infer(wanted, squares), infer(found, squares)
    np.testing.assert_allclose(second, first, rtol=1e-3, atol=1e-4 * np.abs(first).max())


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


def normalised_everywhere():
    """Nine normalisations, of which six follow a layer that takes them."""
    image = keras.Input((16, 16, 3))
    x = layers.BatchNormalization()(layers.Rescaling(1 / 127.5, -1.0)(image))
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, use_bias=False)(x))
    x = layers.BatchNormalization(scale=False)(layers.DepthwiseConv2D(3, depth_multiplier=2)(x))
    x = layers.BatchNormalization(center=False)(layers.Conv2D(8, 3, groups=2)(x))
    x = layers.BatchNormalization()(layers.Conv2D(8, 1, activation="relu")(x))
    both = layers.Conv2D(8, 1)(x)
    x = layers.Add()([layers.BatchNormalization()(both), both])
    x = layers.BatchNormalization(axis=3)(layers.Conv2D(8, 3, strides=2)(x))
    nested = keras.Input(x.shape[1:])
    x = keras.Model(nested, layers.BatchNormalization()(layers.Conv2D(8, 1)(nested)))(x)
    x = layers.Dense(6)(layers.Flatten()(x))
    return shuffled(keras.Model(image, layers.BatchNormalization()(x)))


@pytest.mark.any_backend
def test_merged_normalisation_is_the_same_function(squares):
    model = normalised_everywhere()
    merged = merge_normalisation(model)
    assert_same_function(merged, model, squares)
    assert kinds(merged).count("BatchNormalization") == 3


def test_a_layer_that_is_called_twice_keeps_its_normalisation(squares):
    image = keras.Input((16, 16, 3))
    twice, once = layers.Conv2D(3, 3, padding="same"), layers.BatchNormalization()
    x = once(twice(once(twice(image))))
    model = shuffled(keras.Model(image, layers.Dense(4)(layers.Flatten()(x))))
    merged = merge_normalisation(model)
    assert_same_function(merged, model, squares)
    assert kinds(merged).count("BatchNormalization") == 1


def uneven_before_a_dense_layer():
    """Channels that differ by 1,000 in range before their normalisation, and not behind it."""
    keras.utils.set_random_seed(1)
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(16, 3, strides=2, activation="relu")(layers.Rescaling(1 / 127.5)(image))
    depthwise, norm = layers.DepthwiseConv2D(7, use_bias=False), layers.BatchNormalization()
    x = layers.Dense(8)(layers.Flatten()(norm(depthwise(x))))
    model = keras.Model(image, layers.BatchNormalization()(x))
    factors = np.geomspace(1, 1000, 16).astype("float32")
    (kernel,) = depthwise.get_weights()
    depthwise.set_weights([kernel * factors[:, None]])
    gamma, beta, mean, variance = norm.get_weights()
    norm.set_weights([gamma, beta, mean, variance * factors**2])
    return model


@pytest.mark.parametrize("precision", ["int8", "int16x8"])
def test_channels_before_their_normalisation_are_kept(squares, precision, tmp_path, monkeypatch):
    """The converter merges it with the dense layer otherwise, as in InsightFace's y1."""
    options = {"precision": precision, "images": squares.astype("uint8")}
    merged = export_tflite(uneven_before_a_dense_layer(), tmp_path / "merged.tflite", **options)
    assert merged.cosine_mean > 0.99
    monkeypatch.setattr(write, "merge_normalisation", lambda embedder: embedder)
    with pytest.raises(ExportError) as caught:
        export_tflite(uneven_before_a_dense_layer(), tmp_path / "plain.tflite", **options)
    assert 1 - merged.cosine_mean < 0.2 * (1 - caught.value.verdict.cosine_mean)


SLOPES = {
    "positive": [0.25, 0.5, 2.0, 1.0],
    "negative": [-0.25, -0.5, -2.0, -1.0],
    "mixed": [-1.5, 0.5, 2.0, 1.0],
    "with zeros": [0.0, 0.5, -2.0, 0.0],
    "zeros": [0.0] * 4,
}


def with_slopes(slopes, shared=(1, 2)):
    keras.utils.set_random_seed(2)
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3)(layers.Rescaling(1 / 127.5, -1.0)(image))
    prelu = layers.PReLU(shared_axes=shared)
    x = layers.Conv2D(4, 3, strides=2)(prelu(x))
    x = layers.PReLU()(layers.Flatten()(x))  # of a vector: it stays
    model = keras.Model(image, layers.Dense(6)(x))
    prelu.set_weights([np.broadcast_to(np.float32(slopes), prelu.alpha.shape)])
    return model


@pytest.mark.any_backend
@pytest.mark.parametrize("kind", SLOPES)
@pytest.mark.parametrize("shared", [(1, 2), None])
def test_a_split_prelu_is_the_same_function(squares, kind, shared):
    model = with_slopes(SLOPES[kind], shared)
    split = split_prelu(model)
    assert_same_function(split, model, squares)
    assert kinds(split).count("PReLU") == 1


@pytest.mark.any_backend
def test_slopes_that_differ_from_place_to_place_stay(squares):
    model = shuffled(with_slopes(SLOPES["positive"], shared=None))
    split = split_prelu(model)
    assert_same_function(split, model, squares)
    assert kinds(split).count("PReLU") == 2


def test_unusual_calls_and_code_of_the_users_own(squares, tmp_path):
    """A PReLU called twice, inputs by name, and a Lambda layer, which Keras does not copy."""
    image = keras.Input((16, 16, 3))
    twice = layers.PReLU(shared_axes=[1, 2])
    x = twice(twice(layers.Conv2D(4, 3)(layers.Lambda(lambda pixels: pixels / 8 - 16)(image))))
    x = layers.BatchNormalization()(inputs=layers.Conv2D(4, 3)(x))
    x = layers.PReLU(shared_axes=[1, 2])(inputs=x)
    model = shuffled(keras.Model(image, layers.Dense(8)(layers.Flatten()(x))))
    rewritten = split_prelu(merge_normalisation(model))
    assert_same_function(rewritten, model, squares)
    assert not {"PReLU", "BatchNormalization"} & set(kinds(rewritten))
    for precision in ("int8", "dynamic_int8"):
        export_tflite(
            model, tmp_path / "a.tflite", precision=precision, images=squares.astype("uint8")
        )


@pytest.mark.parametrize("kind", SLOPES)
def test_full_int8_with_prelu_is_one_part_for_the_delegate(squares, kind, tmp_path, monkeypatch):
    keras.utils.set_random_seed(2)
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3)(layers.Rescaling(1 / 127.5, -1.0)(image))
    prelu = layers.PReLU(shared_axes=[1, 2])
    x = layers.Conv2D(16, 3, strides=2)(prelu(x))
    model = keras.Model(image, layers.Dense(8)(layers.Flatten()(x)))
    prelu.set_weights([np.float32(SLOPES[kind]).reshape(1, 1, 4)])
    options = {"precision": "int8", "images": squares.astype("uint8")}
    verdict = export_tflite(model, tmp_path / "a.tflite", **options)
    assert verdict.cosine_mean > 0.99
    outside = {"QUANTIZE", "L2_NORMALIZATION"}
    assert set(count_parts((tmp_path / "a.tflite").read_bytes())[1]) <= outside
    monkeypatch.setattr(tflite, "split_prelu", lambda embedder: embedder)
    plain = export_tflite(model, tmp_path / "b.tflite", **options)
    assert "PRELU" in count_parts((tmp_path / "b.tflite").read_bytes())[1]
    assert 1 - verdict.cosine_mean < 1.5 * (1 - plain.cosine_mean) + 1e-4


def with_dead_vectors():
    """Vectors of unit length along three axes, of which the first and some channels are zeros."""
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="half_dead")(image)
    nested = keras.Input(x.shape[1:])
    once = layers.UnitNormalization(axis=-1)(layers.Rescaling(0.0)(x))
    twice = keras.Model(nested, layers.UnitNormalization(axis=(1, 2))(nested))(x)
    third = keras.ops.normalize(x, axis=1, order=2, epsilon=1e-3)
    other = keras.ops.normalize(x, axis=1, order=1)
    x = layers.Concatenate()([once, twice, third, other])
    model = keras.Model(image, layers.Dense(8)(layers.Flatten()(x)))
    kernel, bias = model.get_layer("half_dead").get_weights()
    kernel[..., ::2] = -np.abs(kernel[..., ::2])
    model.get_layer("half_dead").set_weights([kernel, bias])
    return model


@pytest.mark.any_backend
def test_vectors_of_zeros_keep_their_function(squares):
    model = with_dead_vectors()
    guarded = guard_normalisation(model, 0.0)
    assert_same_function(guarded, model, squares)
    assert "UnitNormalization" not in kinds(guarded)
    plain = keras.Sequential([keras.Input((4, 4, 3)), layers.Flatten()])
    assert guard_normalisation(plain, 0.0) is plain


@pytest.mark.parametrize("precision", ["float32", "float16", "weight_int8", "dynamic_int8"])
def test_vectors_of_zeros_are_numbers_in_every_file(squares, precision, tmp_path):
    """LiteRT's delegate computes 1 / sqrt(0) as NaN, and float16 rounds the guard to 0."""
    options = {"precision": precision, "images": squares.astype("uint8")}
    tolerance = Tolerance(0.98, 0.98)  # a small layer loses more to eight bits
    export_tflite(with_dead_vectors(), tmp_path / "a.tflite", **options, tolerance=tolerance)


def ends_normalised(end):
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2)(layers.Rescaling(1 / 127.5, -1.0)(image))
    return keras.Model(image, end(layers.Dense(8)(layers.Flatten()(x))))


ENDS = {
    "layer": lambda x: layers.UnitNormalization()(x),
    "twice": lambda x: layers.UnitNormalization(axis=1)(keras.ops.normalize(x, epsilon=1e-12)),
    "nested": lambda x: keras.Sequential([layers.Dense(8), layers.UnitNormalization()])(x),
}


@pytest.mark.any_backend
@pytest.mark.parametrize("end", ENDS)
def test_a_last_normalisation_is_left_to_the_file(squares, end):
    model = ends_normalised(ENDS[end])
    dropped = drop_last_normalisation(model)
    found, wanted = infer(dropped, squares), infer(model, squares)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, wanted, atol=1e-5)
    assert np.abs(found - wanted).max() > 0.01 and kinds(dropped)[-1] == "Dense"
    other = ends_normalised(lambda x: layers.Dense(4)(layers.UnitNormalization()(x)))
    assert drop_last_normalisation(other) is other


@pytest.mark.parametrize("precision", ["int16x8", "int8"])
def test_integers_keep_an_embedder_that_ends_normalised(squares, precision, tmp_path):
    """In 16 bits every embedding had the wrong sign."""
    options = {"precision": precision, "images": squares.astype("uint8")}
    tolerance = Tolerance(0.95, 0.98)  # untrained
    file = tmp_path / "a.tflite"
    verdict = export_tflite(ends_normalised(ENDS["layer"]), file, **options, tolerance=tolerance)
    assert not {"SQUARE", "RSQRT"} & set(verdict.ops)
