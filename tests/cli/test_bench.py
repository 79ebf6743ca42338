"""The command `bench`: the numbers of the function, and only the runtimes that it needs."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from one_sentence import assert_one_sentence
from onnx import helper
from processes import run_command

from keras_facemargin.bench import bench, models
from keras_facemargin.bench.latency import measure_latency
from keras_facemargin.evaluate import embed, verify_all_pairs
from keras_facemargin.zoo import open_embedder

INPUT = ("--crop", "112", "--pixels", "raw")


@pytest.fixture(autouse=True)
def few_calls(monkeypatch):
    """Of the clock; `tests/bench` has the numbers of the page."""
    monkeypatch.setattr(models, "measure_latency", partial(measure_latency, runs=5))


@pytest.fixture(scope="session")
def small_onnx(tmp_path_factory):
    """A file without a card: the mean colours of 16 squares, (1, 3, 112, 112) -> (1, 48)."""
    image, rows = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("image", (1, 3, 112, 112)), ("rows", (1, 48)))
    )
    pool = {"kernel_shape": [28, 28], "strides": [28, 28]}
    nodes = [
        helper.make_node("AveragePool", ["image"], ["squares"], **pool),
        helper.make_node("Flatten", ["squares"], ["rows"]),
    ]
    graph = helper.make_graph(nodes, "colours", [image], [rows])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    onnx.save(model, path)
    return path


def without_chance(record):
    """The record of a bench without its times."""
    del record["machine"]
    for model in record["models"].values():
        del model["latency_ms"]
    return record


def test_the_command_writes_what_the_function_writes(facemargin, small_onnx, model, faces):
    code, out, _ = facemargin("bench", small_onnx, model, "--images", faces, *INPUT, "-o", "a.html")
    assert code == 0
    bench("b.html", [small_onnx, model], faces, crop=112, pixels="raw", progress=False)
    mine, theirs = (json.loads(Path(f"{name}.json").read_text()) for name in "ab")
    assert [each["threads"] for each in mine["models"]["small.onnx"]["latency_ms"]] == [1, 2]
    assert [each["threads"] for each in mine["models"]["tiny.keras"]["latency_ms"]] == [None]
    held = mine["models"]["small.onnx"]
    assert held["file_bytes"] == small_onnx.stat().st_size
    opened = open_embedder(small_onnx, crop=112, pixels="raw")
    assert held["embedding_id"] == opened.embedding_id
    for words in ("Latency", "1 thread", "2 threads", "no card", "Threshold @ FAR 1e-2"):
        assert words in out
    assert f"{held['eer']:.2%}" in out
    assert without_chance(mine) == without_chance(theirs)


def test_each_file_may_have_pixels_of_its_own(facemargin, small_onnx, faces):
    for name in ("a.onnx", "b.onnx"):
        Path(name).write_bytes(small_onnx.read_bytes())
    command = ("bench", "a.onnx", "./b.onnx", "--images", faces, "--crop", "112")
    rules = ("--pixels", "raw", "--pixels", "b.onnx=minus1..1")
    assert facemargin(*command, *rules)[0] == 0
    held = json.loads(Path("bench.json").read_text())["models"]
    for name, pixels in (("a.onnx", "raw"), ("b.onnx", "minus1..1")):
        opened = open_embedder(name, crop=112, pixels=pixels)
        assert held[name]["embedding_id"] == opened.embedding_id
    assert len(list(Path("bench.embeddings").glob("*/*.npy"))) == 2
    both = ("--pixels", "raw", "--pixels", "x/255")
    assert_one_sentence(facemargin(*command, *both), "--pixels a.onnx=raw")
    for wrong in ("c.onnx=raw", "onnx=raw"):
        assert_one_sentence(facemargin(*command, "--pixels", wrong), f"--pixels {wrong}")
    twice = ("--pixels", "a.onnx=raw", "--pixels", "a.onnx=x/255")
    assert_one_sentence(facemargin(*command, *twice), "once", "a.onnx=x/255")


def test_a_bench_of_an_onnx_file_does_not_import_keras(small_onnx, faces, tmp_path):
    output = tmp_path / "b.html"
    code, out, error, packages = run_command(
        "bench", small_onnx, "--images", faces, *INPUT, "-o", output
    )
    assert code == 0, error
    assert "Commercial use" in out
    assert output.stat().st_size > 10_000
    assert "onnxruntime" in packages
    assert not packages & {"keras", "tensorflow", "jax", "torch"}


def test_a_wrong_argument_is_one_sentence_before_the_work(facemargin, small_onnx, model, faces):
    images = ("--images", faces)
    assert_one_sentence(facemargin("bench", small_onnx, *images), "must be named", "--pixels")
    assert_one_sentence(facemargin("bench", model, *images, *INPUT), "Leave them out")
    assert_one_sentence(facemargin("bench", model, model, *images), "named once")
    assert_one_sentence(facemargin("bench", model, *images, "-o", "b.txt"), "--output", ".html")
    assert_one_sentence(facemargin("bench", "no.onnx", *images), "no.onnx")
    assert not list(Path().iterdir())


def test_published_files_have_the_verdict_of_their_card(facemargin, shared_data, tmp_path):
    names = ["Abdoulaye_Wade", "Abdullah_Gul", "Adrien_Brody", "Alejandro_Toledo"]
    for name in names:
        (tmp_path / "lfw").mkdir(exist_ok=True)
        (tmp_path / "lfw" / name).symlink_to(shared_data / "lfw" / "aligned" / name)
    files = ["foamliu_MobileFaceNet.onnx", "visassist_mobilefacenet.tflite"]
    weights = [shared_data / "weights" / file for file in files]
    code, out, _ = facemargin("bench", *weights, "--images", "lfw")
    assert code == 0
    record = json.loads(Path("bench.json").read_text())
    for file in files:
        held = record["models"][file]
        assert held["commercial_use"] is False
        assert len(held["obstacles"]) > 0
        paths = sorted(Path("lfw").glob("*/*"))
        rows = embed(open_embedder(weights[files.index(file)]), paths, flip=False, progress=False)
        exact = verify_all_pairs(rows, [path.parent.name for path in paths], progress=False)
        assert held["eer"] == exact.eer
        assert held["tar_at_far"][1]["threshold"] == exact.tar_at_far[1].threshold
        assert held["tar_at_far"][1]["tar"] == pytest.approx(1.0, abs=0.05)
        assert np.isfinite([one["median"] for one in held["latency_ms"]]).all()
    assert ">not cleared</td>" in Path("bench.html").read_text()
    assert "not cleared" in out
