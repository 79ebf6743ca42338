"""Quality scores of other projects behind plain functions."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from keras_facemargin.quality.external import load_ediffiqa, load_ofiq


def write_onnx(path, outputs):
    """A file that gives the mean of the pixels, `outputs` times."""
    from onnx import TensorProto, helper, save

    side = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 112, 112])
    score = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, outputs])
    axes = helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3])
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [1, outputs])
    nodes = [
        helper.make_node("ReduceMean", ["input", "axes"], ["mean"], keepdims=0),
        helper.make_node("Expand", ["mean", "shape"], ["output"]),
    ]
    graph = helper.make_graph(nodes, "mean", [side], [score], [axes, shape])
    opset = helper.make_opsetid("", 18)
    save(helper.make_model(graph, opset_imports=[opset], ir_version=9), str(path))


def test_ediffiqa_takes_pixels_from_minus_1_to_1(tmp_path):
    write_onnx(tmp_path / "quality.onnx", 1)
    crops = np.stack([np.full((112, 112, 3), each, "uint8") for each in (0, 255, 51)])
    found = load_ediffiqa(tmp_path / "quality.onnx")(crops)
    np.testing.assert_allclose(found, [-1, 1, -0.6], atol=1e-4)


def test_a_file_of_embeddings_is_refused(tmp_path):
    write_onnx(tmp_path / "embedder.onnx", 4)
    with pytest.raises(ValueError, match="one score for each crop"):
        load_ediffiqa(tmp_path / "embedder.onnx")(np.zeros((2, 112, 112, 3), "uint8"))


def test_files_that_cannot_be_opened_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_ediffiqa(tmp_path / "none.onnx")
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(ValueError, match="cannot open it"):
        load_ediffiqa(tmp_path / "empty.onnx")


class NoFace(Exception):
    pass


def test_ofiq_scores_photos(monkeypatch):
    def scalar_quality(photo):
        if not photo.any():
            raise NoFace
        return 40

    fake = SimpleNamespace(
        OFIQ=lambda: SimpleNamespace(scalar_quality=scalar_quality), FaceDetectionError=NoFace
    )
    monkeypatch.setitem(sys.modules, "ofiq", fake)
    score = load_ofiq()
    assert score(np.ones((9, 9, 3), "uint8")) == 40.0
    assert score(np.zeros((9, 9, 3), "uint8")) == 0.0


def test_ofiq_names_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "ofiq", None)
    with pytest.raises(ImportError, match="pip install python-ofiq"):
        load_ofiq()
