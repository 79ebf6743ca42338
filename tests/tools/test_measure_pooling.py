"""The measurement runs, pools what it says, and its control cannot see the damage."""

import csv
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_embedder

from keras_facemargin.images.degrade import degrade
from keras_facemargin.images.synthetic import write_synthetic_faces
from keras_facemargin.quality.resolution import effective_resolution, pooling_quality

TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmarks" / "measure_pooling.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("measure_pooling", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_degraded_image_has_a_lower_quality(tool):
    face = np.random.default_rng(0).integers(0, 256, size=(112, 112, 3), dtype=np.uint8)
    pixels = effective_resolution(np.stack([degrade(face, "14px"), face]))
    worse, clean = pooling_quality(pixels)
    assert 0 < worse < tool.POOR < clean < 1


def test_templates_are_disjoint_and_of_one_person(tool):
    person = np.repeat([0, 1, 2], [4, 5, 30])
    rows, template = tool.draw_templates(person, 8, np.random.default_rng(0))
    assert len(set(rows)) == len(rows)
    np.testing.assert_array_equal(template // 2, person[rows])
    assert np.bincount(template).tolist() == [2, 2, 3, 2, 8, 8]


def test_measures_and_writes_what_it_found(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "LAMBDAS", (0.0, 1.0))
    monkeypatch.setattr(tool, "RATIOS", (1.0, 2.0))
    monkeypatch.setattr(tool, "POOR", 0.3)  # drawn faces have less detail
    monkeypatch.setattr(tool, "FARS", (1e-1, 1e-2))
    monkeypatch.setattr(tool, "CHOSEN_BY", 1e-1)
    monkeypatch.setattr(tool, "MEASURES", ("eer", "tar_at_1e-01", "tar_at_1e-02"))
    write_synthetic_faces(tmp_path / "png", 14, 6)
    lines = []
    for path in sorted((tmp_path / "png").rglob("*.*")):
        if int(path.parent.name.rpartition("_")[2]) >= 12 and int(path.stem) >= 2:
            continue  # two people with too few images: the reference
        place = tmp_path / "faces" / path.parent.name / f"{path.stem}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).save(place)
        name = f"{place.parent.name}/{place.name}"
        lines.append(json.dumps({"file": name, "status": "ok", "r": {"score": 0.9}}))
    (tmp_path / "landmarks.jsonl").write_text("\n".join(lines))
    tiny_embedder().save(tmp_path / "tiny.keras")
    tool.main(
        [
            *(str(tmp_path / "faces"), str(tmp_path / "landmarks.jsonl"), "--repeats", "2"),
            *("--model", str(tmp_path / "tiny.keras"), "--output", str(tmp_path / "out")),
        ]
    )
    assert "12 people, 72 images" in capsys.readouterr().out
    with (tmp_path / "out" / "pooling.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["value"] for row in rows] == ["0.0", "1.0", "chosen"] * 3 + ["1.0", "2.0", "chosen"]
    # All detector scores are equal here, so that λ cannot matter in the first two cases.
    for row in rows[:6]:
        assert float(row["eer_gain"]) == 0
    assert float(rows[7]["eer_gain"]) != 0
    assert float(rows[10]["eer_gain"]) != 0
    with Image.open(tmp_path / "out" / "pooling.png") as picture:
        assert picture.width > 500
