"""Memory, latency and delegate parts, on files of one layer more or less."""

from pathlib import Path

import keras
import pytest
from keras import layers

from keras_facemargin.export import costs, export_embedder, tflite, with_costs
from keras_facemargin.runtime.tflite import count_parts


def network(*more):
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3)(image)
    for layer in more:
        x = layers.Conv2D(4, 3)(layer(x))
    return keras.Model(image, layers.Dense(8)(layers.Flatten()(x)))


def test_parts_of_the_delegate_and_the_ops_outside():
    one = tflite.convert(network(layers.ReLU()), "float32", None)
    assert count_parts(one) == (1, ("L2_NORMALIZATION",))
    # XNNPACK has no CUMSUM: one part before it, and one behind it.
    sums = layers.Lambda(lambda x: x + keras.ops.cumsum(x, axis=1))
    two = tflite.convert(network(sums), "float32", None)
    assert count_parts(two) == (2, ("CUMSUM", "L2_NORMALIZATION"))


@pytest.mark.parametrize("name", ["e.tflite", "e.onnx"])
def test_costs_of_a_file(exported, embedder, faces, tmp_path, name):
    verdict = exported["float32"]
    if name == "e.onnx":
        verdict = export_embedder(embedder, tmp_path / name, images=faces[::8])
    found = with_costs(verdict).costs
    assert set(found.latency_ms) == {1, 2} and min(found.latency_ms.values()) > 0
    assert found.host == costs.host() and "CPUs" in found.host
    assert (found.delegate_parts is None) == (name == "e.onnx")
    if Path("/proc/self/status").is_file():
        assert 1e5 < found.memory_bytes < 1e9
    else:
        assert found.memory_bytes is None


def test_memory_grows_with_the_file(tmp_path):
    image = keras.Input((64, 64, 3))
    x = layers.Flatten()(image)
    small, large = (keras.Model(image, layers.Dense(width)(x)) for width in (8, 400))
    found = []
    for name, model in (("small", small), ("large", large)):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(tflite.convert(model, "float32", None))
        found.append(costs.measure_memory(path))
    if None not in found:
        assert found[1] - found[0] > 15e6  # the weights: 20 MB
