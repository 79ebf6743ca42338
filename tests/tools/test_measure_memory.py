"""The tool reads all records in all its ways; no test looks at a number of bytes."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from keras_facemargin.data.records import FaceRecords

TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmarks" / "measure_memory.py"


@pytest.fixture(scope="module")
def tool():
    pytest.importorskip("tensorflow")
    if not Path("/proc/self/status").exists():
        pytest.skip("resident memory is read from /proc, which only Linux has")
    spec = importlib.util.spec_from_file_location("measure_memory", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_notes_memory_ten_times_a_way_and_removes_its_file(tool, tmp_path, capsys):
    figures = tmp_path / "figures.csv"
    options = ["--records", "400", "--batch-size", "16", "--csv", str(figures)]
    tool.main([*options, "--directory", str(tmp_path)])
    assert "400 records" in capsys.readouterr().out
    with figures.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["way"] for row in rows[:3]] == ["packages", "file written", "open file"]
    assert len(rows) == 3 + 4 * 10
    for start in range(3, 43, 10):
        assert len({row["way"] for row in rows[start : start + 10]}) == 1
        assert int(rows[start + 9]["read"]) == 400
    assert all(float(row["resident_mib"]) > 1 for row in rows)
    assert [each.name for each in tmp_path.iterdir()] == ["figures.csv"]


def test_each_way_reads_every_record_once(tool, tmp_path):
    faces = FaceRecords(tool.write_records(tmp_path / "faces.rec", 300), image_size=tool.SIZE)
    assert np.bincount(faces.labels).tolist() == [100, 100, 100]
    for name, batches in tool.ways(faces, 64).items():
        labels = np.concatenate([labels for _, labels in batches()])
        assert sorted(labels) == sorted(faces.labels), name


def test_growth_is_that_of_the_worst_way(tool):
    notes = [("packages", 0, 1.0), ("a", 10, 5.0), ("a", 20, 6.0), ("b", 10, 9.0), ("b", 20, 8.0)]
    assert tool.largest_growth(notes) == 1.0
