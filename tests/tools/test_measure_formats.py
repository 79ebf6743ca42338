"""No network of `keras.applications` ends in an error of a converter, in any format."""

import csv
import functools
import re
import sys

import measure_formats
import numpy as np
import pytest
from tiny import tiny_embedder

from keras_facemargin.export import FORMATS
from keras_facemargin.images import Crop, write_synthetic_faces


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people") / "people"
    write_synthetic_faces(folder, 64, 1)
    return folder


@functools.cache
def application(name, people):
    images = measure_formats.crops(people, Crop.of(measure_formats.SIDE))
    return measure_formats.application(name, images), images


def need(format):
    for package in format.packages:
        pytest.importorskip(package)


def test_crops_are_of_64_people(people):
    found = measure_formats.crops(people, Crop.of(112))
    assert found.shape == (64, 112, 112, 3)
    assert len(np.unique(found.reshape(64, -1), axis=0)) == 64


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
