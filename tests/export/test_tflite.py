"""TFLite files are opened here with LiteRT itself, not through the code that judged them."""

import sys

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_facemargin.export import ExportError, Tolerance, export_tflite
from keras_facemargin.export.tflite import list_ops

# Least mean cosine required of this small trained embedder; size as a share of the float32 file.
PRECISIONS = {
    "float32": (0.999999, 1.0),
    "float16": (0.9999, 0.8),
    "dynamic_int8": (0.995, 0.7),
    "int16x8": (0.995, 0.7),
    "int8": (0.98, 0.7),
}


def run(path, images):
    interpreter = Interpreter(model_path=str(path))
    signature = interpreter.get_signature_runner("serving_default")
    dtype = signature.get_input_details()["image"]["dtype"]
    return np.concatenate(
        [signature(image=image[None].astype(dtype))["embedding"].copy() for image in images]
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_file_equals_keras(exported, embedder, faces, unit_embeddings, precision):
    verdict = exported[precision]
    cosine = (run(verdict.path, faces) * unit_embeddings(embedder, faces)).sum(axis=1)
    assert cosine.mean() > PRECISIONS[precision][0]
    assert verdict.passed
    assert verdict.cosine_mean > PRECISIONS[precision][0]
    assert (verdict.format, verdict.precision) == ("tflite", precision)
    assert verdict.latency_ms > 0 and verdict.keras_latency_ms > 0


def test_smaller_precision_makes_smaller_file(exported):
    full = exported["float32"].size_bytes
    for precision, (_, share) in PRECISIONS.items():
        assert exported[precision].size_bytes <= share * full


@pytest.mark.parametrize("precision", PRECISIONS)
def test_interface(exported, precision):
    interpreter = Interpreter(model_path=exported[precision].path)
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["image"], "outputs": ["embedding"]}
    }
    (image,), (embedding,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert tuple(image["shape"]) == (1, 112, 112, 3)
    assert tuple(embedding["shape"]) == (1, 32)
    assert embedding["dtype"] == np.float32
    if precision == "int8":
        # RGB bytes go straight in: one level of the image is one level of the tensor.
        assert image["dtype"] == np.uint8
        assert image["quantization"] == (1.0, 0)
    else:
        assert image["dtype"] == np.float32


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_normalisation_is_one_fused_op(exported, precision):
    interpreter = Interpreter(model_path=exported[precision].path)
    names = [op["op_name"] for op in interpreter._get_ops_details()]
    assert names.count("L2_NORMALIZATION") == 1
    assert not {"RSQRT", "SQRT", "SUM", "DIV"} & set(names)
    norms = np.linalg.norm(run(exported[precision].path, np.zeros((1, 112, 112, 3))), axis=1)
    np.testing.assert_allclose(norms, 1.0, atol=0.05 if precision == "int8" else 1e-6)


def test_a_larger_batch_runs_after_resizing(exported, faces):
    interpreter = Interpreter(model_path=exported["float32"].path)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, (3, 112, 112, 3))
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, faces[:3].astype("float32"))
    interpreter.invoke()
    embeddings = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(embeddings, run(exported["float32"].path, faces[:3]), atol=1e-6)


def test_int8_judges_on_images_that_did_not_set_the_ranges(exported, faces):
    assert exported["float32"].num_images == len(faces)
    assert exported["int8"].num_images == exported["int16x8"].num_images == len(faces) // 2


def test_int8_has_no_float_islands_and_lists_them_where_there_are(exported):
    assert exported["int8"].float_islands == ()
    assert exported["int16x8"].float_islands == ("PRELU", "PRELU", "L2_NORMALIZATION")
    assert exported["int16x8"].ops["PRELU"] == 2
    with open(exported["float32"].path, "rb") as file:
        islands = [op.name for op in list_ops(file.read()) if op.is_float]
    assert islands[-1] == "L2_NORMALIZATION"
    assert islands.count("PRELU") == 2


def test_input_range_is_exact_without_black_and_white_pixels(embedder, faces, tmp_path):
    dull = (60 + faces // 4).astype("uint8")
    path = tmp_path / "face.tflite"
    # An embedder that has only seen contrast may fail on these; the range is what matters here.
    try:
        export_tflite(embedder, path, precision="int8", images=dull)
    except ExportError as error:
        path = error.verdict.path
    (image,) = Interpreter(model_path=str(path)).get_input_details()
    assert image["quantization"] == (1.0, 0)


def test_failure_raises_and_keeps_the_old_file(embedder, faces, tmp_path, capfd):
    path = tmp_path / "face.tflite"
    path.write_bytes(b"the good one")
    with pytest.raises(ExportError, match=r"at least 1 for every image.*Received: min 0\.") as info:
        export_tflite(embedder, path, precision="int8", images=faces, tolerance=Tolerance(1.0, 1.0))
    assert path.read_bytes() == b"the good one"
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, path.name + ".failed"]
    verdict = info.value.verdict
    assert not verdict.passed
    assert verdict.path == f"{path}.failed"
    assert Interpreter(model_path=verdict.path).get_signature_list()
    assert "unchanged" in str(info.value) and "representative" not in str(info.value)
    assert capfd.readouterr() == ("", "")  # The converters' chatter stays away.


def test_graph_that_converters_stumble_over(make_embedder, stumbling_blocks, faces, tmp_path):
    embedder = make_embedder(stumbling_blocks)
    assert export_tflite(embedder, tmp_path / "face.tflite", images=faces[::8]).passed


@pytest.mark.parametrize(
    "policy",
    ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow), "float16"],
)
def test_mixed_precision_is_exported_in_float32(make_embedder, faces, tmp_path, policy):
    embedder = make_embedder(dtype=policy)
    verdict = export_tflite(embedder, tmp_path / "face.tflite", images=faces[::8])
    assert verdict.passed
    embeddings = run(verdict.path, faces[:4])
    expected = embedder.predict(faces[:4].astype("float32"), verbose=0).astype("float32")
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert (embeddings * expected).sum(axis=1).min() > 0.99
    assert {op["op_name"] for op in Interpreter(verdict.path)._get_ops_details()}.isdisjoint(
        {"CAST", "DEQUANTIZE"}
    )


def test_unknown_precision(embedder, tmp_path):
    with pytest.raises(
        ValueError, match=r"must be float32 or float16 or .* Received: precision='int4'"
    ):
        export_tflite(embedder, tmp_path / "face.tflite", precision="int4")


@pytest.mark.parametrize(("count", "received"), [(None, "none"), (63, "63 images")])
def test_int8_without_representative_set(embedder, faces, tmp_path, count, received):
    images = None if count is None else faces[:count]
    with pytest.raises(ValueError, match=f"at least 64 .* Received: {received}"):
        export_tflite(embedder, tmp_path / "face.tflite", precision="int8", images=images)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "received"),
    [
        (lambda faces: faces / 255, "values from 0 to 1"),
        (lambda faces: faces.mean(axis=3), r"shape \(128, 112, 112\).*grey"),
        (lambda faces: faces[:, ::2, ::2], r"shape \(128, 56, 56, 3\)"),
        (lambda faces: faces[0], r"shape \(112, 112, 3\)"),
        (lambda faces: "faces", r"shape \(\)"),
    ],
    ids=["0..1", "grey", "another size", "one image", "a path"],
)
def test_int8_with_wrong_representative_images(embedder, faces, tmp_path, change, received):
    with pytest.raises(ValueError, match=rf"Received: {received}"):
        export_tflite(embedder, tmp_path / "face.tflite", precision="int8", images=change(faces))
    assert not list(tmp_path.iterdir())


def test_missing_package_names_the_extra(embedder, faces, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(ImportError, match=r"pip install 'keras_facemargin\[export\]'"):
        export_tflite(embedder, tmp_path / "face.tflite", images=faces)


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_applications_network_enlarged_in_the_graph(applications, faces, tmp_path, precision):
    verdict = export_tflite(
        applications, tmp_path / "face.tflite", precision=precision, images=faces
    )
    assert verdict.passed
    islands = ("L2_NORMALIZATION",) if precision == "int16x8" else ()
    assert verdict.float_islands == islands


@pytest.fixture(scope="module")
def applications(train):
    """BGR as the caffe families want it, enlarged, MobileNetV2: what build_embedder makes."""
    layers = keras.layers
    image = keras.Input((112, 112, 3))
    x = keras.ops.take(image, [2, 1, 0], axis=-1) - np.float32([103.939, 116.779, 123.68])
    x = layers.Rescaling(1 / 60)(layers.Resizing(160, 160)(x))
    backbone = keras.applications.MobileNetV2((160, 160, 3), 0.35, False, weights=None)
    for layer in backbone.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.7  # A few steps shall be enough for its moving statistics.
    x = layers.DepthwiseConv2D(5, use_bias=False)(backbone(x))
    x = layers.Dense(64, use_bias=False)(layers.Flatten()(x))
    return train(keras.Model(image, layers.BatchNormalization(momentum=0.7)(x)), epochs=12)
