"""Every row of the table of formats, from every backend, opened here with its own runtime."""

import json
import re
import sys
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from inference import infer
from tiny import tiny_embedder

from keras_facemargin.export import FORMATS, ExportError, Tolerance, export_embedder
from keras_facemargin.export.formats import NAMES, Format, find_format, format_of
from keras_facemargin.images import synthesize_faces

DOCS = Path(__file__).parents[2] / "docs" / "export.md"
BACKEND = keras.backend.backend()
WRITTEN = [each for each in FORMATS if BACKEND in each.container.backends]
OTHERS = [each for each in FORMATS if BACKEND not in each.container.backends]


@pytest.fixture(scope="module")
def embedder():
    return tiny_embedder()


@pytest.fixture(scope="module")
def crops():
    return synthesize_faces(40, 2, seed=3)[0]


def need(format):
    for package in format.packages:
        if package != "tf2onnx" or BACKEND == "tensorflow":
            pytest.importorskip(package)


def file_of(format, folder):
    return folder / f"face{format.container.suffix}"


def run_tflite(path, images):
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=str(path)).get_signature_runner("serving_default")
    dtype = run.get_input_details()["image"]["dtype"]
    return np.concatenate([run(image=each[None].astype(dtype))["embedding"] for each in images])


def run_onnx(path, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["embedding"], {"image": images.astype("float32")})[0]


def run_savedmodel(path, images):
    import tensorflow as tf

    model = tf.saved_model.load(str(path))
    run = model.signatures["serving_default"]
    return run(image=tf.constant(images, "float32"))["embedding"].numpy()


def run_openvino(path, images):
    import openvino

    # Without the hint it computes in bfloat16 on processors that have it.
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(path / "model.xml", "CPU", hint)
    return model({"image": images.astype("float32")})["embedding"]


RUNTIMES = {
    "tflite": run_tflite,
    "onnx": run_onnx,
    "savedmodel": run_savedmodel,
    "openvino": run_openvino,
}


@pytest.mark.any_backend
@pytest.mark.parametrize("format", WRITTEN, ids=lambda format: format.name)
def test_a_file_equals_keras_in_its_own_runtime(embedder, crops, tmp_path, capfd, format):
    need(format)
    path = file_of(format, tmp_path)
    verdict = export_embedder(embedder, path, precision=format.precision, images=crops)
    assert (verdict.format, verdict.precision) == (format.container.name, format.precision)
    assert capfd.readouterr() == ("", "")
    expected = infer(embedder, crops[1::2].astype("float32"))
    received = RUNTIMES[format.container.name](path, crops[1::2])
    norms = [np.linalg.norm(each, axis=1) for each in (expected, received)]
    np.testing.assert_allclose(norms[1], 1.0, atol=0.05 if format.precision == "int8" else 1e-3)
    cosine = (expected * received).sum(axis=1) / norms[0] / norms[1]
    assert cosine.min() > format.tolerance.cosine_min
    assert cosine.mean() > format.tolerance.cosine_mean
    assert verdict.cosine_min == pytest.approx(cosine.min(), abs=0.02)


@pytest.mark.any_backend
@pytest.mark.parametrize("format", OTHERS, ids=lambda format: format.name)
def test_what_a_backend_does_not_write_is_refused_with_the_way_out(embedder, tmp_path, format):
    with pytest.raises(ExportError, match=f"Received: the {BACKEND} backend.*=tensorflow"):
        export_embedder(embedder, file_of(format, tmp_path), precision=format.precision)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
def test_a_missing_package_gives_one_sentence_with_the_command(
    embedder, crops, tmp_path, monkeypatch, format
):
    for module, extra in reversed(format.packages.items()):
        monkeypatch.setitem(sys.modules, module, None)
        rule = (
            rf"needs {module.partition('.')[0].replace('_', '-')}\. Received: it is not installed"
        )
        with pytest.raises(ImportError, match=rf"{rule}.*'keras_facemargin\[{extra}\]'"):
            export_embedder(
                embedder, file_of(format, tmp_path), precision=format.precision, images=crops
            )
    assert not list(tmp_path.iterdir())


def test_a_smaller_precision_makes_a_smaller_file(embedder, crops, tmp_path):
    sizes = {
        precision: export_embedder(
            embedder, tmp_path / f"{precision}.onnx", precision=precision, images=crops
        ).size_bytes
        for precision in ("float32", "float16", "int8")
    }
    assert sizes["float16"] < 0.75 * sizes["float32"]
    assert sizes["int8"] < 0.75 * sizes["float32"]


def test_onnx_of_a_long_embedding_does_not_leave_the_range_of_float16(crops, tmp_path):
    embedder = tiny_embedder()
    long = keras.layers.Rescaling(200.0)(embedder.output)  # a norm near 1000: its square is not
    model = keras.Model(embedder.input, long)
    path = tmp_path / "e.onnx"
    assert export_embedder(model, path, precision="float16", images=crops).passed
    onnx.checker.check_model(onnx.load(path), full_check=True)  # for one, the order of the nodes


def test_onnx_int8_lists_the_ops_that_compute_in_float(embedder, crops, tmp_path):
    verdict = export_embedder(embedder, tmp_path / "e.onnx", precision="int8", images=crops)
    assert verdict.ops["Conv"] == verdict.ops["MatMul"] == 1
    assert "Conv" not in verdict.float_islands and "MatMul" not in verdict.float_islands
    assert verdict.float_islands[-5:] == ("ReduceSum", "Max", "Sqrt", "Reciprocal", "Mul")


def test_a_folder_states_its_input_and_is_not_overwritten(embedder, crops, tmp_path):
    path = tmp_path / "face.savedmodel"
    export_embedder(embedder, path, images=crops)
    stated = json.loads((path / "keras_facemargin.json").read_text())
    assert (stated["height"], stated["pixels"]) == (112, "raw")
    with pytest.raises(FileExistsError, match="must not be in use"):
        export_embedder(embedder, path, images=crops)


def test_a_folder_that_fails_is_put_aside(embedder, crops, tmp_path):
    path = tmp_path / "face.savedmodel"
    for _ in range(2):  # the second replaces the first
        with pytest.raises(ExportError, match="Nothing was written to"):
            export_embedder(embedder, path, images=crops, tolerance=Tolerance(1.1, 1.1))
        assert [each.name for each in tmp_path.iterdir()] == ["face.savedmodel.failed"]


def test_names_are_found():
    assert len(set(NAMES)) == len(FORMATS)
    for each in FORMATS:
        assert find_format(each.name) is each
        assert format_of(f"x{each.container.suffix}", each.precision) is each
    with pytest.raises(ValueError, match=r"must be one of tflite-float32, .*Received: 'coreml'"):
        find_format("coreml")


def row_of(format: Format) -> str:
    least, mean = format.tolerance
    extras = [each for each in format.packages.values() if each not in ("export", "cpu")]
    cells = (
        f"`{format.name}`",
        f"`{format.container.suffix}`",
        format.weights,
        format.arithmetic,
        format.image,
        f"{least:g}, {mean:g}",
        ", ".join(format.container.backends),
        "".join(f"`{each}`" for each in extras) or "-",
    )
    return f"| {' | '.join(cells)} |"


def test_the_documentation_has_the_table():
    text = DOCS.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `\w+-\w+` \| `\.\w+` \|.*$", text, re.MULTILINE)
    assert rows == [row_of(each) for each in FORMATS]
