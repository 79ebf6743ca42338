"""`pack` and `check-data`; `fetch` and `align --check` are in tests/data."""

import os
import re
import shutil
from pathlib import Path

import pytest
from one_sentence import assert_one_sentence
from PIL import Image

from keras_facemargin.files import exclusive


def test_pack_reports_skipped_images_and_reasons(facemargin, faces, tmp_path):
    shutil.copytree(faces, tmp_path / "people")
    (tmp_path / "people" / "person_000" / "empty.jpg").write_bytes(b"")
    code, out, _ = facemargin("pack", "people", "made/train.rec")
    assert code == 0
    assert "made/train.rec: 64 images of 8 identities" in out
    assert "the file is empty (0 bytes)" in out
    assert "made/train.rec.skipped.csv lists them." in out
    code, out, _ = facemargin("pack", "made/train.rec", "made/train.tfrecord", "--shards", 2)
    assert (code, "Skipped" in out) == (0, False)
    assert sorted(path.name for path in Path("made").glob("*.tfrecord")) == [
        "train-00000-of-00002.tfrecord",
        "train-00001-of-00002.tfrecord",
    ]
    assert_one_sentence(facemargin("pack", "people", "made/train.rec"), "is not overwritten")
    with exclusive("made/other.rec"):
        result = facemargin("pack", "people", "made/other.rec")
    assert_one_sentence(result, "Another process is writing to made/other.rec")
    assert facemargin("pack", "people", "made/other.rec")[0] == 0


def test_lists_are_packed_from_one_folder(facemargin, faces, tmp_path):
    images = sorted(faces.rglob("*.jpg"))[:24]
    lines = [f"{image},{image.parent.name}\n" for image in images]
    Path("absolute.csv").write_text("".join(lines))
    result = facemargin("pack", "absolute.csv", "a.rec")
    assert_one_sentence(result, f"must be below {tmp_path}.", "--images FOLDER", images[0])
    code, out, _ = facemargin("pack", "absolute.csv", "a.rec", "--images", faces)
    assert (code, "24 images of 3 identities" in out) == (0, True)
    Path("semicolons.csv").write_text("".join(lines).replace(",", ";"))
    result = facemargin("pack", "semicolons.csv", "b.rec", "--images", faces)
    assert_one_sentence(result, "semicolons.csv, line 1", "semicolons between")


def test_names_that_are_not_utf8_do_not_stop_the_work(facemargin, model, faces, tmp_path):
    name = os.fsdecode(b"M\xfcller")
    for person in ("person_000", "person_001"):
        shutil.copytree(faces / person, tmp_path / "people" / f"{name} {person}")
    (tmp_path / "people" / name).mkdir()
    (tmp_path / "people" / name / f"{name}.jpg").write_bytes(b"")
    code, out, _ = facemargin("pack", "people", f"{name}.rec")
    assert code == 0
    assert "M\\udcfcller.rec: 16 images of 2 identities" in out
    skipped = (tmp_path / f"{name}.rec.skipped.csv").read_bytes()
    assert skipped.startswith(b"people/M\xfcller/M\xfcller.jpg,the file is empty")
    code, out, _ = facemargin("pack", f"{name}.rec", "again")
    assert sorted(os.listdir("again")) == [f"{name} person_000", f"{name} person_001"]
    code, _, error = facemargin("pack", f"{name}.csv", "b.rec")
    assert (code, "M\\udcfcller.csv" in error) == (1, True)
    lines = [f"people/{name} person_00{n}/000.jpg,{name}{n}\n" for n in range(2)]
    (tmp_path / f"{name}.csv").write_text("".join(lines), "utf-8", errors="surrogateescape")
    code, out, _ = facemargin("pack", f"{name}.csv", "b.rec")
    assert "b.rec: 2 images of 2 identities" in out


@pytest.mark.filterwarnings("always")
def test_check_data_shows_names_that_are_not_utf8(facemargin, model, faces, tmp_path):
    name = os.fsdecode(b"M\xfcller")
    for person in (name, f"{name} again", "other"):
        original = "person_001" if person == "other" else "person_000"
        shutil.copytree(faces / original, tmp_path / "people" / person)
    (tmp_path / "people" / name / f"{name}.jpg").write_bytes(b"")
    code, out, error = facemargin("check-data", "people", "-m", model)
    assert code == 0
    assert "Two labels, one person? M\\udcfcller, M\\udcfcller again: 1.000" in out
    assert "M\\udcfcller.jpg: the file is empty" in error
    assert Path("check-data.png").exists()


@pytest.mark.filterwarnings("always")
def test_check_data_finds_planted_errors(facemargin, model, faces, tmp_path):
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
