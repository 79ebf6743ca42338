"""The scripts in examples/ run, with tiny settings."""

import importlib.util
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from strategies import replicas
from tiny import tiny_embedder

from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate import Pairs, embed, score_pairs
from keras_facemargin.export import export_onnx
from keras_facemargin.images import synthesize_faces, write_synthetic_faces

pytestmark = pytest.mark.usefixtures("empty_plots", "short_finetuning")
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    export_onnx(tiny_embedder(), path, images=synthesize_faces(8, 2)[0])
    return path


def test_every_example_has_a_test_and_a_command():
    tests = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f'example("{path.stem}")' in tests
        assert f"python examples/{path.name}" in path.read_text(encoding="utf-8")


def test_fine_tune_on_a_folder(tmp_path, capsys):
    tiny_embedder().save(tmp_path / "tiny.keras")
    output = tmp_path / "out"
    script = example("fine_tune_on_a_folder")
    script.main(["--model", str(tmp_path / "tiny.keras"), "--output", str(output)])
    assert "EER" in capsys.readouterr().out
    report = json.loads((output / "report.json").read_text(encoding="utf-8"))
    assert report["head"] == "CosFace"
    assert len(report["identities"]) + len(report["strangers"]) == 12
    assert keras.saving.load_model(output / "embedder.keras").output_shape == (None, 24)
    assert (output / "embedder.tflite").stat().st_size > 1_000


def test_applications_backbone_mirrored(tmp_path, capsys, monkeypatch):
    def small(include_top, weights, input_shape):
        """A network that compiles in a second and ends at the same map as the real one."""
        image = keras.Input(input_shape)
        x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image)
        x = keras.layers.Conv2D(8, 3, strides=32, padding="same", activation="relu")(x)
        return keras.Model(image, x, name="small")

    import tensorflow as tf

    monkeypatch.setattr(keras.applications, "MobileNetV2", small)
    strategy = replicas(2)
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: strategy)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    script = example("applications_backbone_mirrored")
    script.main(["--epochs", "1", "--embedding-dim", "16", "--output", str(tmp_path)])
    assert "2 device(s), 48 images" in capsys.readouterr().out  # see conftest.py
    embedder = keras.saving.load_model(tmp_path / "embedder.keras")
    assert embedder.output_shape == (None, 16)


def test_evaluate_a_foreign_model(onnx_file, tmp_path, capsys):
    script = example("evaluate_a_foreign_model")
    drawn = script.main([str(onnx_file)])
    assert drawn.genuines == 10 * 6
    assert "EER" in capsys.readouterr().out

    paths = write_synthetic_faces(tmp_path / "faces", 4, 2)
    for path in map(Path, paths):  # person_000/000.jpg -> person_000/person_000_0001.jpg
        path.rename(path.with_name(f"{path.parent.name}_{int(path.stem) + 1:04d}.jpg"))
    genuine = [f"person_00{person}\t1\t2" for person in range(4)]
    impostors = [f"person_00{person}\t1\tperson_00{(person + 1) % 4}\t2" for person in range(4)]
    lines = ["2\t2", *genuine[:2], *impostors[:2], *genuine[2:], *impostors[2:]]
    (tmp_path / "pairs.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    listed = script.main(
        [
            *(str(onnx_file), "--images", str(tmp_path / "faces")),
            *("--pairs", str(tmp_path / "pairs.txt"), "--report", str(tmp_path / "page.html")),
        ]
    )
    assert (tmp_path / "page.html").is_file()
    faces = FaceFolder(tmp_path / "faces")
    first, second = faces.paths[0::2], faces.paths[1::2]
    reference = keras.Sequential([tiny_embedder(), keras.layers.UnitNormalization()])
    keras_scores = score_pairs(reference, Pairs(first, second, np.ones(4, bool)))
    assert listed.scores[listed.same] == pytest.approx(keras_scores, abs=1e-4)


def test_the_foreign_model_gets_its_own_layout_and_pixel_range(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    nodes = [helper.make_node("ReduceMean", ["image"], ["embedding"], axes=[2, 3], keepdims=0)]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 112, 112])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, tmp_path / "means.onnx")
    foreign = example("evaluate_a_foreign_model").OnnxEmbedder(
        tmp_path / "means.onnx", mean=127.5, std=127.5, bgr=True
    )
    images = np.full((2, 112, 112, 3), [0.0, 127.5, 255.0], "float32")
    np.testing.assert_allclose(
        embed(foreign, images, flip=False, progress=False), [[1.0, 0.0, -1.0]] * 2, atol=1e-6
    )
