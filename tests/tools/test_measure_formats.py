"""No network of `keras.applications` ends in an error of a converter, in any format."""

import csv
import functools
import re
import sys

import measure_formats
import numpy as np
import pytest
from measured_crops import crops_of_people
from PIL import Image
from tiny import tiny_embedder

from keras_facemargin.evaluate import embed, verify_all_pairs
from keras_facemargin.export import FORMATS
from keras_facemargin.images import Crop, synthesize_faces, write_synthetic_faces


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people") / "people"
    write_synthetic_faces(folder, 64, 1)
    return folder


@functools.cache
def application(name, people):
    images = crops_of_people(people, Crop.of(measure_formats.SIDE), 64)
    return measure_formats.application(name, images), images


def need(format):
    for package in format.packages:
        pytest.importorskip(package)


def test_crops_are_of_64_people(people):
    found = crops_of_people(people, Crop.of(112), 64)
    assert found.shape == (64, 112, 112, 3)
    assert len(np.unique(found.reshape(64, -1), axis=0)) == 64


@pytest.mark.parametrize("folder", ["people", "absent"])
def test_a_folder_with_too_few_people_is_refused(people, folder):
    with pytest.raises(
        SystemExit, match=r"crops of 65 people or more.* Received: .*with (64|0) pe"
    ):
        crops_of_people(people.with_name(folder), Crop.of(112), 65)


def test_a_stopped_measurement_continues(people, tmp_path, monkeypatch):
    output = tmp_path / "formats.csv"
    monkeypatch.setattr(measure_formats, "load_embedder", lambda name, weights: tiny_embedder())
    command = ["measure", str(output), "--crops", str(people), "--networks", "mine"]
    names = ["tflite-float32", "tflite-float16"]
    monkeypatch.setattr(sys, "argv", [*command, "--formats", *names])
    measure_formats.main()
    rows = rows_of(output)
    assert [(row["format"], row["outcome"]) for row in rows] == [(each, "passed") for each in names]
    monkeypatch.setattr(sys, "argv", [*command, "--formats", names[0]])
    measure_formats.main()
    assert rows_of(output) == rows


def test_decisions_are_those_of_each_side_at_its_own_threshold(people, tmp_path, monkeypatch):
    crops, labels = synthesize_faces(40, 3, seed=5)
    lfw = tmp_path / "lfw"
    for number, (crop, label) in enumerate(zip(crops, labels, strict=True)):
        file = lfw / f"p{label}" / f"p{label}_{number % 3 + 1:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(crop).save(file)
    half = [range(6), range(6, 12)]
    lines = ["2\t6"]
    for fold in half:
        lines += [f"p{person}\t1\t2" for person in fold]
        lines += [f"p{person}\t1\tp{person + 20}\t3" for person in fold]
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("\n".join(lines) + "\n")
    embedder = tiny_embedder()
    monkeypatch.setattr(measure_formats, "load_embedder", lambda name, weights: embedder)
    output = tmp_path / "decided.csv"
    command = ["measure", str(output), "--crops", str(people), "--networks", "mine"]
    decided = ["--decide", str(lfw), "--pairs", str(pairs), "--formats"]
    names = ["tflite-float32", "tflite-int8"]
    monkeypatch.setattr(sys, "argv", [*command, *decided, *names])
    measure_formats.main()
    same, small = rows_of(output)
    assert [same["format"], small["format"]] == names
    assert same["people"] == "64" and same["images"] == "120"
    assert same["accuracy"] == same["accuracy_after"] == small["accuracy"]
    paths = [
        str(lfw / f"p{label}" / f"p{label}_{i % 3 + 1:04}.png") for i, label in enumerate(labels)
    ]
    rows = embed(embedder, paths, flip=False)
    expected = verify_all_pairs(rows, labels, fars=[1e-3], progress=False).tar_at_far[0]
    for row in (same, small):
        assert float(row["tar@1e-3"]) == pytest.approx(expected.tar, abs=1e-6)
        assert float(row["threshold@1e-3"]) == pytest.approx(expected.threshold, abs=1e-6)
        assert row["tar@1e-4"] == ""  # 7,020 impostor pairs do not support it
    change = float(same["threshold_after@1e-3"]) - float(same["threshold@1e-3"])
    assert abs(change) < 1e-4
    assert small["threshold_after@1e-3"] != small["threshold@1e-3"]


def rows_of(output):
    return list(csv.DictReader(output.read_text().splitlines()))


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
@pytest.mark.parametrize("name", measure_formats.APPLICATIONS)
def test_a_network_passes_or_its_error_names_layer_and_op(people, name, format):
    need(format)
    row = measure_formats.measure(name, *_arguments(name, people, format))
    if row["outcome"] == "missed":  # random weights do not stand few bits
        assert format.precision != "float32"
    elif row["outcome"] != "passed":
        assert re.search(r"(no form for|refuses) an op .* in layer '", row["outcome"])


def _arguments(name, people, format):
    embedder, images = application(name, people)
    return embedder, format, images
