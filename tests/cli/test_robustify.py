"""`robustify`: a folder that every command takes, a resumed run, one sentence for bad input."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from one_sentence import assert_one_sentence
from processes import finish, start

from keras_facemargin.images.synthetic import write_synthetic_faces
from keras_facemargin.training import robustify
from keras_facemargin.zoo import load_card


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(robustify, "STEPS", 20)


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops") / "crops"
    write_synthetic_faces(folder, 25, 8, seed=3)
    return folder


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("test") / "people"
    write_synthetic_faces(folder, 48, 2, seed=9)
    return folder


def test_the_result_is_a_model_folder_with_thresholds(facemargin, model, crops, people):
    code, out, error = facemargin(*("robustify", model, crops, "--test", people, "-o", "new/[1]"))
    assert code == 0, error
    assert "200 images to train on" in out and "96 images of 48 people to test on" in out
    assert "48 people" in out and "blur4" in out and " -> " in out
    assert "embeddings of clean crops keep a cosine of 0." in out
    assert "new/[1]/embedder.keras, card.json, report.json" in out
    assert [each.name for each in Path("new").iterdir()] == ["[1]"]
    card = load_card("new/[1]")
    assert card.thresholds is not None and card.lineage
    assert json.loads(Path("new/[1]/report.json").read_text())["images"] == 200
    face = sorted(Path(people).rglob("*.jpg"))[0]
    assert facemargin("embed", face, "-m", "new/[1]", "-o", "face.npz")[0] == 0


def test_without_people_it_says_that_thresholds_are_missing(facemargin, model, crops):
    code, out, _ = facemargin("robustify", model, crops)
    assert code == 0 and "facemargin calibrate PEOPLE" in out
    assert load_card("robust").thresholds is None


def test_bad_input_is_one_sentence(facemargin, model, crops, faces):
    Path("used").mkdir(exist_ok=True)
    Path("used/note.txt").write_text("mine")
    Path("empty").mkdir()
    for words, *parts in (
        ((model, "nothere"), "does not exist", "nothere"),
        ((model, "empty"), "must have images", "empty"),
        ((model, faces), "200 or more images", "Received: 64"),
        ((model, crops, "-o", "used"), "must not be in use", "used exists"),
        ((model, crops, "--test", crops), "must not be in the training", "--test"),
        ((model, crops, "--test", crops / "person_000"), "must not be in the training"),
        ((model, crops, "--test", faces), "40 people with two images each", "Received: 8 of 8"),
        ((model, crops, "-o", crops / "new"), "must not be inside the folder of faces"),
        (("nothere", crops), "nothere"),
    ):
        assert_one_sentence(facemargin("robustify", *words), *parts)
    assert Path("used/note.txt").read_text() == "mine"
    assert not Path("robust").exists()


@pytest.mark.slow
def test_a_killed_run_resumes(model, crops, tmp_path):
    body = (
        "import sys; from keras_facemargin.training import robustify; robustify._SECONDS = 0.0; "
        "from keras_facemargin.cli import main; main()"
    )
    words = ["-c", body, "robustify", model, crops, "-o", tmp_path / "robust"]
    process = start(*words)
    checkpoint = tmp_path / ".robust.checkpoint"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(1)
    os.kill(process.pid, signal.SIGKILL)
    finish(process)
    assert checkpoint.exists() and not (tmp_path / "robust").exists()
    ((code, out, error),) = finish(start(*words))
    assert code == 0, error
    assert "Resuming from" in out
    assert [each.name for each in tmp_path.iterdir()] == ["robust"]
