"""The measurement runs, on people who were not drawn before, and continues after a stop."""

import csv
import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_facemargin.images import Crop
from keras_facemargin.images.synthetic import write_synthetic_faces
from keras_facemargin.training import robustify

TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmarks" / "measure_robustify.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("measure_robustify", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces") / "people"
    write_synthetic_faces(folder, 60, 4, seed=3)
    return folder


@pytest.mark.slow
def test_the_rates_and_the_accuracy_are_written_once(tool, people, tmp_path, monkeypatch):
    monkeypatch.setattr(robustify, "STEPS", 3)
    monkeypatch.setattr(tool, "CHOSEN_ON", 2)
    monkeypatch.setattr(tool, "MEASURED_ON", 40)
    names = sorted(each.name for each in people.iterdir())
    folds = [(names[2 * n : 2 * n + 2], names[2 * n + 20 : 2 * n + 22]) for n in range(2)]
    lines = ["2\t2"]
    for same, other in folds:
        lines += [f"{name}\t1\t2" for name in same]
        lines += [f"{one}\t1\t{two}\t1" for one, two in zip(same, other, strict=True)]
    lfw = tmp_path / "lfw"
    for name, number in itertools.product(names, range(1, 5)):
        (lfw / name).mkdir(parents=True, exist_ok=True)
        source = sorted((people / name).iterdir())[number - 1]
        (lfw / name / f"{name}_{number:04d}.jpg").symlink_to(source)
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    output = tmp_path / "results" / "robust.csv"
    words = [
        *("tool", output, tmp_path / "cache", "--model", "spherenet_distilled"),
        *("--crops", people, "--people", people, "--lfw", lfw, "--pairs", tmp_path / "pairs.txt"),
    ]
    monkeypatch.setattr("sys.argv", list(map(str, words)))
    tool.main()
    tool.main()
    with open(output, newline="") as file:
        rows = {row["measure"]: row for row in csv.DictReader(file)}
        file.seek(0)
        assert len(file.readlines()) == len(rows) + 1
    assert rows["people"]["after"] == "40" and rows["images to train on"]["after"] == "240"
    assert float(rows["clean cosine, mean"]["after"]) < 1
    assert 0 <= float(rows["LFW accuracy"]["before"]) <= 1
    assert {"fmr, both blur4", "fnmr, one 14px"} <= set(rows)
    assert (tmp_path / "cache" / "spherenet_distilled-0" / "card.json").is_file()


def test_the_people_are_not_those_of_the_settings(tool, people, monkeypatch):
    monkeypatch.setattr(tool, "MEASURED_ON", 25)
    drawn = []
    for chosen_on in (0, 25):
        monkeypatch.setattr(tool, "CHOSEN_ON", chosen_on)
        drawn.append({path.parts[0] for path in tool.draw_people(people)})
    assert [len(each) for each in drawn] == [25, 25] and not drawn[0] & drawn[1]


def test_crops_of_another_template_are_cut(tool, people, tmp_path):
    files = dict(itertools.islice(tool.draw_crops([people]).items(), 2))
    paths = tool.cut(files, tmp_path, Crop.of(150, "dlib"))
    for path in paths:
        with Image.open(path) as image:
            assert image.size == (150, 150) and np.asarray(image).any()
    before = paths[0].stat().st_mtime_ns
    assert tool.cut(files, tmp_path, Crop.of(150, "dlib")) == paths
    assert paths[0].stat().st_mtime_ns == before
