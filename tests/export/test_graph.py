import keras
import numpy as np
import pytest

from keras_facemargin.export.graph import float32_embedder


def test_float32_embedder_is_left_alone(embedder):
    assert float32_embedder(embedder) is embedder


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_twin_of_a_mixed_embedder(make_embedder, policy):
    embedder = make_embedder(keras.Sequential([keras.layers.ReLU(dtype=policy)]), dtype=policy)
    before = [layer.dtype_policy.name for layer in embedder._flatten_layers()]
    twin = float32_embedder(embedder)
    assert {layer.compute_dtype for layer in twin._flatten_layers()} == {"float32"}
    assert {variable.dtype for variable in twin.weights} == {"float32"}
    for weight, original in zip(twin.get_weights(), embedder.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, original.astype("float32"))
    assert [layer.dtype_policy.name for layer in embedder._flatten_layers()] == before


def test_quantised_keras_model_is_refused(make_embedder):
    embedder = make_embedder()
    next(layer for layer in embedder.layers if layer.name.startswith("dense")).quantize("int8")
    with pytest.raises(ValueError, match=r"QuantizedDTypePolicy.*before quantize"):
        float32_embedder(embedder)


def _embedder(input_shape, *layers):
    return keras.Sequential([keras.Input(input_shape), *layers])


@pytest.mark.parametrize(
    ("wrong", "received"),
    [
        ("embedder.keras", r"embedder='embedder.keras' \(type str\)"),
        (keras.Sequential([keras.layers.Flatten()]), "a Sequential without fixed inputs"),
        (_embedder((112, 112, 1), keras.layers.Flatten()), r"\(None, 112, 112, 1\)"),
        (_embedder((None, None, 3), keras.layers.GlobalMaxPool2D()), r"\(None, None, None, 3\)"),
        (_embedder((8, 8, 3), keras.layers.ReLU()), r"outputs \[\(None, 8, 8, 3\)\]"),
    ],
)
def test_other_interfaces_are_refused(wrong, received):
    with pytest.raises(ValueError, match=f"built Functional keras.Model.*Received: .*{received}"):
        float32_embedder(wrong)


def test_several_inputs_are_refused(embedder):
    pair = [keras.Input((112, 112, 3)), keras.Input((112, 112, 3))]
    both = keras.Model(pair, keras.layers.Add()([embedder(image) for image in pair]))
    with pytest.raises(
        ValueError, match=r"one input.*Received: inputs \[\(None, 112.*, \(None, 112"
    ):
        float32_embedder(both)


def test_a_subclassed_model_is_refused():
    class Subclassed(keras.Model):
        def call(self, images):
            return keras.ops.mean(images, axis=(1, 2))

    model = Subclassed()
    model(np.zeros((1, 8, 8, 3), "float32"))
    with pytest.raises(ValueError, match="a Subclassed without fixed inputs and outputs"):
        float32_embedder(model)


def test_several_outputs_are_refused(embedder):
    both = keras.Model(embedder.input, [embedder.output, embedder.output])
    with pytest.raises(ValueError, match=r"outputs \[\(None, 32\), \(None, 32\)\]"):
        float32_embedder(both)
