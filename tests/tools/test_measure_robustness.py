"""The measurement draws the same people, writes a row for each kind, and continues."""

import csv
import importlib.util
from pathlib import Path

import pytest
from tiny import tiny_embedder

from keras_facemargin.images.degrade import KINDS
from keras_facemargin.images.synthetic import write_synthetic_faces

TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmarks" / "measure_robustness.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("measure_robustness", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_second_model_is_added_to_the_table(tool, tmp_path, capsys):
    tiny_embedder().save(tmp_path / "tiny.keras")
    faces = write_synthetic_faces(tmp_path / "faces", 40, 2)
    words = ["--images", str(faces), "--output", str(tmp_path / "table.csv"), "--people", "36"]
    tool.main([*words, "--model", f"one={tmp_path / 'tiny.keras'}"])
    tool.main([*words, "--model", "one=nothere", "--model", f"two={tmp_path / 'tiny.keras'}"])
    header, *rows = csv.reader((tmp_path / "table.csv").read_text().splitlines())
    assert header[:4] == ["model", "images", "people", "threshold"]
    assert [row[:2] for row in rows] == [[n, k] for n in ("one", "two") for k in ("clean", *KINDS)]
    assert rows[0][1:] == rows[7][1:] and float(rows[0][4]) <= 1e-3 and rows[0][6:] == ["", ""]
    first, second = tool.draw_people(faces, 36, 0)
    assert len(set(first)) == 36 and not set(first) & set(second)
    assert first == tool.draw_people(faces, 36, 0)[0] != tool.draw_people(faces, 36, 1)[0]
