"""The benchmark runs, and all ways lead to the same images; no test looks at a time."""

import csv
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from keras_facemargin.data.folder import FaceFolder
from keras_facemargin.data.recordio import FaceRecords, write_face_records
from keras_facemargin.data.synthetic import write_synthetic_faces
from keras_facemargin.data.tfrecord import FaceTFRecords, write_face_tfrecords

WAYS = ["records", "shuffled", "tfrecord", "folder", "augmented", "layers", "adaface"]
TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmark_data.py"


@pytest.fixture(scope="module")
def benchmark_data():
    pytest.importorskip("tensorflow")
    spec = importlib.util.spec_from_file_location("benchmark_data", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def records(tmp_path):
    files = write_synthetic_faces(tmp_path / "people", 3, 4)
    write_face_records(tmp_path / "faces.rec", files, np.repeat([0, 1, 2], 4))
    return FaceRecords(tmp_path / "faces.rec")


def test_all_ways_lead_to_the_same_images(benchmark_data, records, tmp_path):
    folder = FaceFolder(benchmark_data.write_files(tmp_path / "files", records))
    bare = list(benchmark_data.bare_dataset(records, 5).as_numpy_iterator())
    write_face_tfrecords(tmp_path / "faces.tfrecord", records.paths, records.labels)
    for faces in (records, folder, FaceTFRecords(tmp_path / "faces.tfrecord")):
        for (a, x), (b, y) in zip(bare, faces.dataset(5).as_numpy_iterator(), strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(x, y)
    mixed = benchmark_data.shuffled(records)
    assert sorted(map(str, mixed.paths)) == sorted(map(str, records.paths))
    assert list(mixed.labels) != list(records.labels)


def test_ratios_favour_the_faster_way(benchmark_data):
    way = benchmark_data.Way(rates=[9, 20, 44], costs=[4.0, 5.0, 9.0])
    base = benchmark_data.Way(rates=[10, 40, 40], costs=[1.0, 2.0, 2.5])
    comparison = benchmark_data.Comparison("case", way, base)
    assert comparison.ratio == 0.5
    assert comparison.round_ratios == [0.9, 0.5, 1.1]
    assert comparison.cpu_ratio == 0.4


@pytest.mark.parametrize("given", [True, False])
def test_prints_ratios_with_their_aims_and_appends_them(
    benchmark_data, records, tmp_path, capsys, given
):
    figures = tmp_path / "figures.csv"
    tiny = ["--batch-size", "4", "--passes", "1", "--rounds", "1", "--csv", str(figures)]
    source = ["--records", records.file] if given else ["--people", "2"]
    benchmark_data.main([*tiny, *source])
    printed = capsys.readouterr().out
    aims = {"records": 0.9, "tfrecord": 0.85, "augmented": 0.6}
    for name, aim in aims.items():
        assert re.search(rf"{name} / bare .* {aim} (reached|missed)", printed)
    assert re.search(r"adaface / bare .* - ", printed)
    assert "Load of the machine" in printed
    with figures.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"].split()[0] for row in rows] == WAYS
    assert all(float(row["ratio"]) > 0 and float(row["images_per_second"]) > 0 for row in rows)
