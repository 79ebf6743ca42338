"""The audit of a set: its table and its sentences on planted errors, and the sheet of faces."""

import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from keras_facemargin.audit import audit_faces, draw_audit
from keras_facemargin.data import FaceFolder
from keras_facemargin.images import Crop, write_synthetic_faces


@pytest.fixture(params=[112, (112, 96)], ids=str)
def faces(request, tmp_path):
    write_synthetic_faces(tmp_path / "people", 3, 4, image_size=request.param)
    return FaceFolder(tmp_path / "people", image_size=request.param)


def test_planted_errors_are_counted_and_named(faces):
    embeddings = np.eye(16)[np.repeat([0, 1, 2], 4)] + 0.1 * np.eye(16)[np.arange(12) + 3]
    embeddings[0] = np.eye(16)[1]  # a wrong label
    embeddings[1] = embeddings[2]  # one image twice
    embeddings[8:] = embeddings[4:8] + 0.3 * np.eye(16)[0]  # one person with two labels
    audit = audit_faces(
        faces, embeddings, against=(faces, embeddings), duplicate_cosine=0.999, person_cosine=0.9
    )
    assert audit.noise.suspects[0] == 0
    assert (audit.twins.first.tolist(), audit.twins.second.tolist()) == ([1], [2])
    assert audit.duplicates.same.tolist() == [True]
    console = Console(width=300, file=io.StringIO(), record=True)
    console.print(audit)
    table = {
        line.split("│")[1].strip(): line.split("│")[2].strip()
        for line in console.export_text().splitlines()
        if line.startswith("│")
    }
    assert table["Bad files, left out"] == "0"
    assert table["Pairs of near-duplicates, one identity"] == "1"
    assert table["Pairs of near-duplicates, two identities"] == "0"
    assert table["Pairs of identities that may be one person"] == "1"
    assert table["People also in the test set"] == "5"  # each with itself, the pair both ways
    assert table["Images also in the test set"] == "14"
    sentences = list(audit.sentences())
    assert sentences[0].startswith("Two labels, one person? person_001, person_002: 0.9")
    assert sum(each.startswith("In both sets? ") for each in sentences) == 5
    alone = audit_faces(faces, embeddings)
    assert alone.shared_images is None
    assert not any(each.startswith("In both") for each in alone.sentences())


def test_the_sheet_shows_the_faces(faces, tmp_path):
    audit = audit_faces(faces, np.random.default_rng(1).normal(size=(12, 4)), duplicate_cosine=0.5)
    assert len(audit.noise.suspects) > 1
    draw_audit(audit, tmp_path / "sheet.png", most=2)
    height, width = Crop.of(faces.image_size).shape
    with Image.open(tmp_path / "sheet.png") as sheet:
        count = 2 + min(2, (~audit.duplicates.same).sum())
        assert sheet.size == (10 * width, count * (height + 40))
        shown = np.asarray(sheet)[40 : 40 + height, :width]
    with Image.open(faces.paths[audit.noise.suspects[0]]) as face:
        np.testing.assert_array_equal(shown, np.asarray(face))
