"""`finetune`, from every kind of set."""

import json
import re
import shutil
from pathlib import Path

import keras
import pytest

from keras_facemargin.cli.training import Head
from keras_facemargin.data import FaceFolder, write_face_records


@pytest.mark.parametrize(
    "head",
    [pytest.param(head, marks=[] if head is Head.cosface else pytest.mark.slow) for head in Head],
)
def test_finetune_trains_with_each_head(facemargin, model, faces, head):
    code, out, _ = facemargin(
        *("finetune", faces, "-m", model, "--head", head.value),
        *("--epochs", 4, "--learning-rate", 0.003, "-o", "new/[1]"),
    )
    assert code == 0
    assert "new/[1]/embedder.keras, classifier.keras, report.json" in out
    assert re.search(r"EER\W+\d+\.\d+%\W+\d+\.\d+%", out)
    record = json.loads(Path("new/[1]/report.json").read_text())
    assert record["head"].lower().startswith(head.value)  # CombinedMargin is `combined`
    assert record["history"]["loss"][-1] < record["history"]["loss"][0]
    assert keras.saving.load_model("new/[1]/embedder.keras").output_shape == (None, 24)


@pytest.mark.filterwarnings("always")
def test_finetune_leaves_bad_images_out_when_told(facemargin, model, faces):
    shutil.copytree(faces, "faces")
    Path("faces/person_000/bad.jpg").write_bytes(b"junk")
    code, _, error = facemargin("finetune", "faces", "-m", model)
    assert code == 1
    assert error.startswith(
        "Error: faces has 1 entry that is no face crop:\n  faces/person_000/bad"
    )
    assert 'on_bad="skip"' in error
    assert not Path("finetuned").exists()
    code, out, error = facemargin(
        "finetune", "faces", "-m", model, "--epochs", 1, "--on-bad", "skip"
    )
    assert code == 0
    assert "64 images of 8 identities" in out
    assert "Warning: faces has 1 entry" in error
    assert "faces/person_000/bad.jpg" in error


def test_finetune_takes_records(facemargin, model, faces):
    folder = FaceFolder(faces)
    write_face_records("faces.rec", folder.paths, folder.labels)
    code, out, _ = facemargin("finetune", "faces.rec", "-m", model, "--epochs", 1)
    assert code == 0
    assert "64 images of 8 identities" in out
    assert Path("finetuned/embedder.keras").exists()


def test_finetune_takes_tfrecords(facemargin, model, faces):
    facemargin("pack", faces, "faces.tfrecord")
    code, out, _ = facemargin("finetune", "faces.tfrecord", "-m", model, "--epochs", 1)
    assert code == 0
    assert "64 images of 8 identities" in out
