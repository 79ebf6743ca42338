"""The commands of galleries, and `identify`."""

import json
import shutil
import sqlite3

import numpy as np
import pytest
from one_sentence import assert_one_sentence
from tiny import tiny_embedder

from keras_facemargin.gallery import Gallery

FAST = ("--aligned",)


@pytest.fixture(scope="module")
def other_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("other") / "other.keras"
    tiny_embedder(160).save(path)
    return path


@pytest.fixture(scope="module")
def enrolled_once(tmp_path_factory):
    return tmp_path_factory.mktemp("enrolled") / "s.gallery"


@pytest.fixture
def enrolled(facemargin, enrolled_once, model, faces):
    """A gallery of all faces; the first test enrols them, and each test gets a copy."""
    if not enrolled_once.exists():
        code, *_ = facemargin("gallery", "add", enrolled_once, faces, "-m", model, *FAST)
        assert code == 0
    shutil.copy(enrolled_once, "s.gallery")
    return "s.gallery"


def test_add_a_folder_and_again(facemargin, enrolled, faces):
    code, out, _ = facemargin("gallery", "add", enrolled, faces, *FAST)  # the gallery's model
    assert code == 0
    assert "s.gallery: 0 images added, 64 enrolled before, 0 refused" in out
    assert "8 people with 64 images" in out
    code, out, _ = facemargin("gallery", "list", enrolled)
    assert code == 0
    assert "person_007" in out
    assert "8 people, 64 images" in out


def test_list_as_json(facemargin, enrolled):
    _, out, _ = facemargin("gallery", "list", enrolled, "person_001", "--json")
    found = json.loads(out)
    assert (found["people"], found["images"], len(found["rows"])) == (8, 64, 8)
    first = found["rows"][0]
    assert (first["person"], first["has_crop"]) == ("person_001", True)
    assert first["source"].endswith("person_001/000.jpg")


def test_add_some_photos_of_a_person_and_refuse_the_others(facemargin, enrolled, faces, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"junk")
    photo = faces / "person_000" / "000.jpg"
    code, out, _ = facemargin("gallery", "add", enrolled, "Ada Lovelace", photo, "bad.jpg", *FAST)
    assert code == 1
    assert "refused: bad.jpg: " in out
    assert "1 image added, 1 refused" in out
    code, out, _ = facemargin("gallery", "remove", enrolled, "Ada Lovelace")
    assert (code, out) == (0, "s.gallery: Ada Lovelace removed with 1 image\n")
    code, out, _ = facemargin("gallery", "remove", enrolled, "--image", "1")
    assert (code, out) == (0, "s.gallery: image 1 of person_000 removed\n")


def test_add_warns_of_a_photo_under_two_names(facemargin, model, faces, monkeypatch):
    photo = faces / "person_000" / "000.jpg"
    facemargin("gallery", "add", "t.gallery", "Ada Lovelace", photo, "-m", model, *FAST)
    code, out, _ = facemargin("gallery", "add", "t.gallery", "Grace Hopper", photo, *FAST)
    assert code == 0
    assert f"warning: Grace Hopper (image 2, {photo}) and Ada Lovelace (image 1, {photo})" in out
    assert "cosine 1.0000" in out
    code, out, _ = facemargin("gallery", "add", "t.gallery", "Ada Lovelace", photo, *FAST)
    assert "warning" not in out  # nothing was added
    monkeypatch.setattr("keras_facemargin.cli.gallery._WARNINGS", 0)
    _, out, _ = facemargin("gallery", "add", "t.gallery", "Mary Ward", photo, *FAST)
    assert "warnings not printed: 1\n" in out


def test_identify_answers_by_its_exit_code(facemargin, enrolled, faces):
    photo = faces / "person_003" / "002.jpg"
    code, out, _ = facemargin("identify", enrolled, photo, "--threshold", "0.1", *FAST, "--json")
    found = json.loads(out)
    assert code == 0
    (face,) = found["faces"]
    assert (found["people"], face["verdict"]) == (8, "identified")
    assert face["person"] == face["nearest"]
    code, out, _ = facemargin("identify", enrolled, photo, "--threshold", "1", *FAST)
    assert code == 1
    assert "unknown" in out
    assert "threshold 1.0000: your own" in out


def test_errors_of_identify_have_another_exit_code(facemargin, enrolled, faces):
    photo = faces / "person_003" / "002.jpg"
    for arguments, message in (
        ((enrolled, photo, *FAST), "A card holds the thresholds"),
        ((enrolled, photo, "--min-face", "36", *FAST), "--aligned with --min-face 36"),
        ((enrolled, photo, "--far", "0.1", "--threshold", "0", *FAST), "yours or the card's"),
        ((enrolled, "missing.jpg", "--threshold", "0", *FAST), "missing.jpg"),
        (("missing.gallery", photo), "missing.gallery"),
        ((photo, photo), "must be a gallery"),
    ):
        code, _, error = facemargin("identify", *arguments)
        assert code == 64
        assert message in error
        assert error.count("\n") == 1
    code, _, error = facemargin("identify", enrolled, photo, "--wrong")
    assert code == 64
    assert "--wrong" in error


def test_another_model_is_refused_and_rebuild_changes_it(facemargin, enrolled, other_model, faces):
    photo = faces / "person_003" / "002.jpg"
    code, _, error = facemargin("identify", enrolled, photo, "-m", other_model, *FAST)
    assert code == 64
    assert "facemargin gallery rebuild" in error
    code, out, _ = facemargin("gallery", "rebuild", enrolled, "-m", other_model)
    assert code == 0
    assert f"64 images embedded again with {other_model}" in out
    with Gallery.open(enrolled) as gallery:
        assert gallery.model == str(other_model)


def test_migrate_prints_a_price_and_keeps_the_map(
    facemargin, enrolled, model, other_model, tmp_path
):
    from keras_facemargin.images.synthetic import write_synthetic_faces

    write_synthetic_faces(tmp_path / "others", 64, 4, seed=1)
    command = ("gallery", "migrate", enrolled, "new.gallery", "--to", other_model)
    before = (tmp_path / enrolled).read_bytes()
    rebuild = f"facemargin gallery rebuild {enrolled} --model {other_model}`"
    assert_one_sentence(facemargin(*command), f"or run `{rebuild}, which embeds the kept crops")
    same = ("gallery", "migrate", enrolled, "new.gallery", "--to", model)
    assert_one_sentence(facemargin(*same), "needs another embedder")
    options = ("--map", "map.npz", "--any-price")
    code, out, _ = facemargin(*command, "--faces", "others", *options)
    assert code == 0
    assert "price: TAR " in out and rebuild in out
    assert "64 embeddings mapped from" in out
    with np.load("map.npz") as file:
        assert file["matrix"].shape == (48, 48)
    _, out, _ = facemargin("gallery", "list", "new.gallery")
    assert "migrated: from " in out and "64 images" in out
    assert (tmp_path / enrolled).read_bytes() == before
    assert not list(tmp_path.glob(".*draft*"))
    assert_one_sentence(facemargin(*command, "--map", "map.npz"), "new.gallery, which exists")
    (tmp_path / "new.gallery").unlink()
    refused = facemargin(*command, "--map", "map.npz")
    assert_one_sentence(refused, "nearly all genuine pairs", f"or run `{rebuild}")
    shutil.copy(tmp_path / enrolled, "without.gallery")
    with sqlite3.connect("without.gallery") as database:
        database.execute("DELETE FROM crops")
    refused = facemargin(*command[:2], "without.gallery", *command[3:], "--map", "map.npz")
    assert_one_sentence(refused, "nearly all genuine pairs")
    assert "rebuild" not in refused[2]
    facemargin(*command, "--map", "map.npz", "--any-price")
    command = ("gallery", "migrate", "new.gallery", "third.gallery", "--to", model)
    assert_one_sentence(facemargin(*command, "--map", "map.npz"), "map.npz: must map from")
    assert not (tmp_path / "third.gallery").exists()


def test_bad_commands_are_one_sentence(facemargin, enrolled, tmp_path):
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        (("add", enrolled, "empty", *FAST), "a subfolder for each person"),
        (("add", enrolled, "ann", "missing.jpg", *FAST), "missing.jpg"),
        (("add", enrolled, "./empty", "empty", *FAST), "must come before the photos"),
        (("remove", enrolled, "nobody"), "no person of that name"),
        (("remove", enrolled), "Received: neither"),
        (("remove", enrolled, "--image", 10**30), "no image of that number"),
        (("list", "missing.gallery"), "missing.gallery"),
    ):
        assert_one_sentence(facemargin("gallery", *arguments), message)
