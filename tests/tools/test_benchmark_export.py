"""The race of exported files embeds real crops in each way; no test looks at a time."""

import csv
import sys

import benchmark_export
import numpy as np
import pytest
from tiny import tiny_embedder

from keras_facemargin.images import write_synthetic_faces
from keras_facemargin.runtime import Pixels
from keras_facemargin.runtime.file import Session


@pytest.mark.parametrize(
    ("shape", "dtype", "batches", "example"),
    [
        ((1, 112, 112, 3), "uint8", 4, (1, 112, 112, 3)),
        ((None, 112, 112, 3), "float32", 4, (1, 112, 112, 3)),
        ((2, 3, 112, 112), "float32", 2, (2, 3, 112, 112)),
    ],
)
def test_a_file_gets_every_crop_once_in_its_own_layout(shape, dtype, batches, example):
    images = np.random.default_rng(0).integers(0, 256, (4, 112, 112, 3)).astype("uint8")
    taken = []
    session = Session(shape, np.dtype(dtype), None, taken.append, None)
    pixels = Pixels() if dtype == "uint8" else Pixels.of("x/255")
    assert benchmark_export.calls(session, pixels, images)() == 4
    assert [each.shape for each in taken] == [example] * batches
    assert all(each.dtype == dtype and each.flags.c_contiguous for each in taken)
    seen = np.concatenate(taken)
    seen = seen if shape[1] != 3 else seen.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(seen, images if dtype == "uint8" else images / 255, rtol=1e-6)


@pytest.mark.slow
def test_every_comparison_gets_a_row(tmp_path, monkeypatch):
    people, output = tmp_path / "people", tmp_path / "export.csv"
    write_synthetic_faces(people, benchmark_export.CROPS + 64, 1)
    model = tmp_path / "mine.keras"
    tiny_embedder().save(model)
    command = ["benchmark", str(output), "--crops", str(people), "--model", str(model)]
    monkeypatch.setattr(sys, "argv", [*command, "--rounds", "1", "--starts", "1"])
    # TensorFlow takes the number of threads before its first op only.
    monkeypatch.setattr("tensorflow.config.threading.set_intra_op_parallelism_threads", id)
    benchmark_export.main()
    rows = list(csv.DictReader(output.read_text().splitlines()))
    cases = [row["case"] for row in rows]
    assert "LiteRT int8 / LiteRT float32" in cases
    assert "ONNX Runtime float32 / Keras predict" in cases
    assert cases[-1] == "start of the bundle's code / start of Keras"
    assert {row["threads"] for row in rows} == {"1"}


@pytest.mark.slow
def test_a_published_file_is_raced_as_it_is_and_exported_again(shared_data, tmp_path, monkeypatch):
    model = tmp_path / "mine.keras"
    tiny_embedder().save(model)
    command = ["benchmark", str(tmp_path / "export.csv"), "--model", str(model)]
    command += ["--crops", str(shared_data / "lfw" / "aligned"), "--rounds", "1", "--starts", "1"]
    command += ["--published", str(shared_data / "weights" / "visassist_mobilefacenet.tflite")]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr("tensorflow.config.threading.set_intra_op_parallelism_threads", id)
    benchmark_export.main()
    rows = csv.DictReader((tmp_path / "export.csv").read_text().splitlines())
    published = "LiteRT mobilefacenet_visassist"
    again = {f"{published}, exported as {each} / {published}" for each in ("float32", "int8")}
    assert {f"LiteRT float32 / {published}", *again} <= {row["case"] for row in rows}
