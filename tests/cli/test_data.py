"""`pack` and `check-data`; `fetch` and `align --check` are in tests/data."""

import re
import shutil
from pathlib import Path

import pytest
from one_sentence import assert_one_sentence
from PIL import Image


def test_pack_says_what_it_skipped_and_why(facemargin, faces, tmp_path):
    shutil.copytree(faces, tmp_path / "people")
    (tmp_path / "people" / "person_000" / "empty.jpg").write_bytes(b"")
    code, out, _ = facemargin("pack", "people", "made/train.rec")
    assert code == 0
    assert "made/train.rec: 64 images of 8 identities" in out
    assert "the file is empty (0 bytes)" in out
    assert "Each is listed in made/train.rec.skipped.csv." in out
    code, out, _ = facemargin("pack", "made/train.rec", "made/train.tfrecord", "--shards", 2)
    assert (code, "Skipped" in out) == (0, False)
    assert sorted(path.name for path in Path("made").glob("*.tfrecord")) == [
        "train-00000-of-00002.tfrecord",
        "train-00001-of-00002.tfrecord",
    ]
    assert_one_sentence(facemargin("pack", "people", "made/train.rec"), "never written over")


@pytest.mark.filterwarnings("always")
def test_check_data_finds_what_was_put_there(facemargin, model, faces, tmp_path):
    shutil.copytree(faces, tmp_path / "people")
    first, second = (tmp_path / "people" / f"person_00{number}" for number in (0, 1))
    shutil.copy(first / "000.jpg", second / "copied.jpg")
    shutil.copytree(tmp_path / "people" / "person_002", tmp_path / "people" / "again")
    (first / "empty.jpg").write_bytes(b"")
    code, out, error = facemargin("check-data", "people", "-m", model, "--against", faces)
    assert code == 0
    assert "0 bytes" in error
    assert re.search(r"Bad files, left out +│ +1 │", out)
    assert "Two labels, one person? again, person_002: 1.000" in out
    assert re.search(r"In both sets\? person_00\d, person_00\d: 1.000", out)
    with Image.open("check-data.png") as sheet:
        assert sheet.height > 112
    assert_one_sentence(facemargin("check-data", "people", "-o", "sheet.txt"), "*.png")
