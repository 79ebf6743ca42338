"""ONNX files are opened here with ONNX Runtime itself, not through the code that judged them."""

import sys

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers

from keras_facemargin.export import ExportError, Tolerance, export_embedder, export_onnx


@pytest.fixture(scope="module")
def verdict(embedder, faces, tmp_path_factory):
    return export_onnx(embedder, tmp_path_factory.mktemp("onnx") / "face.onnx", images=faces)


def run(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["embedding"], {"image": images.astype("float32")})[0]


@pytest.mark.parametrize("batch", [1, 3, 128])
def test_file_equals_keras_for_any_batch(verdict, embedder, faces, unit_embeddings, batch):
    expected = unit_embeddings(embedder, faces[:batch])
    np.testing.assert_allclose(run(verdict.path, faces[:batch]), expected, atol=1e-5)


def test_verdict(verdict, faces):
    assert verdict.passed
    assert verdict.cosine_min > 0.999999
    assert verdict.num_images == len(faces)
    assert (verdict.format, verdict.precision) == ("onnx", "float32")


def test_interface(verdict):
    session = onnxruntime.InferenceSession(verdict.path, providers=["CPUExecutionProvider"])
    (image,), (embedding,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape, image.type) == (
        "image",
        ["batch", 112, 112, 3],
        "tensor(float)",
    )
    assert (embedding.name, embedding.shape) == ("embedding", ["batch", 32])
    model = onnx.load(verdict.path)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 15


def test_graph_that_converters_stumble_over(make_embedder, stumbling_blocks, faces, tmp_path):
    embedder = make_embedder(stumbling_blocks)
    verdict = export_onnx(embedder, tmp_path / "face.onnx", images=faces[::8])
    assert verdict.passed
    session = onnxruntime.InferenceSession(verdict.path, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["image"]


def test_failure_raises_and_keeps_the_old_file(embedder, faces, tmp_path, capfd):
    path = tmp_path / "face.onnx"
    path.write_bytes(b"the good one")
    with pytest.raises(ExportError, match="please report it") as info:
        export_onnx(embedder, path, images=faces, tolerance=Tolerance(1.1, 1.1))
    assert path.read_bytes() == b"the good one"
    assert info.value.verdict.path == f"{path}.failed"
    assert run(info.value.verdict.path, faces[:1]).shape == (1, 32)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("module", ["tf2onnx", "onnxruntime"])
def test_missing_package_names_the_extra(embedder, faces, tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'keras_facemargin\[export\]'"):
        export_onnx(embedder, tmp_path / "face.onnx", images=faces)


def test_the_ending_of_the_file_chooses_the_format(embedder, faces, tmp_path):
    for name in ("tflite", "onnx"):
        verdict = export_embedder(embedder, tmp_path / f"face.{name}", images=faces[::8])
        assert verdict.format == name and verdict.passed
    with pytest.raises(ValueError, match=r"must end in \.tflite or .* Received: '.*face\.pb'"):
        export_embedder(embedder, tmp_path / "face.pb")
    rule = r"precision of a \.onnx file must be float32 or .*\. Received.*A \.tflite file can"
    with pytest.raises(ValueError, match=rule):
        export_embedder(embedder, tmp_path / "face.onnx", precision="int16x8")


def pooled_after_zeros():
    """Negative values everywhere, then zeros around them, then a MaxPool."""
    keras.utils.set_random_seed(0)
    negative = keras.initializers.RandomUniform(-0.1, 0.0, seed=0)
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, kernel_initializer=negative)(layers.Rescaling(1 / 255)(image))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    return keras.Model(image, layers.Dense(8)(layers.Flatten()(x)))


@pytest.mark.any_backend
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="ONNX is not written from jax")
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_zeros_before_a_max_pool_stay_zeros(precision, tmp_path):
    """ONNX Runtime 1.31 replaces them by the pool's own padding, minus infinity."""
    images = np.random.default_rng(0).integers(1, 256, (64, 4, 4, 3)).astype("uint8")
    images = images.repeat(4, axis=1).repeat(4, axis=2)
    model = pooled_after_zeros()
    verdict = export_onnx(model, tmp_path / "a.onnx", precision=precision, images=images)
    assert verdict.cosine_min > 0.9999


def test_bytes_are_unsigned(embedder, faces, tmp_path):
    """Signed ones overflow in ONNX Runtime on x86 processors without VNNI."""
    export_onnx(embedder, tmp_path / "a.onnx", precision="int8", images=faces)
    graph = onnx.load(tmp_path / "a.onnx").graph
    types = {each.name: each.data_type for each in graph.initializer}
    ops = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert ops and {types[node.input[2]] for node in ops} == {onnx.TensorProto.UINT8}
    weights = [node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"]
    kinds = {types[name] for name in weights if name in types}
    assert kinds <= {onnx.TensorProto.UINT8, onnx.TensorProto.INT32}  # INT32: of biases
