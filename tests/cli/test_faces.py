"""From photos to a decision: files of embeddings, thresholds, warnings."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from one_sentence import assert_one_sentence
from PIL import Image

from keras_facemargin.cli.options import DEFAULT
from keras_facemargin.zoo import DIRECTORY, load_card


def test_embed_writes_embeddings_and_paths(facemargin, model, faces):
    code, out, _ = facemargin("embed", faces, "-m", model, "-o", "new/folder/e.npz")
    assert code == 0
    assert "new/folder/e.npz: 64 embeddings of 48 numbers" in out
    with np.load("new/folder/e.npz", allow_pickle=False) as file:
        assert file["embeddings"].shape == (64, 48)
        assert file["embeddings"].dtype == "float32"
        assert list(file["paths"]) == [str(path) for path in sorted(faces.rglob("*.jpg"))]
    assert [path.name for path in Path("new/folder").iterdir()] == ["e.npz"]


def test_embed_takes_files_in_order_and_passes_over_hidden_ones(facemargin, model, faces):
    shutil.copytree(faces / "person_001", "more")
    Path("more/._000.jpg").write_bytes(b"junk")
    first = faces / "person_003" / "002.jpg"
    code, *_ = facemargin("embed", first, "more", "--no-flip", "-m", model, "-o", "e.npz")
    assert code == 0
    with np.load("e.npz") as file:
        assert file["embeddings"].shape == (9, 24)
        assert file["paths"][0] == str(first)


def test_verify_at_a_threshold_of_ones_own(facemargin, model, faces):
    pair = [faces / "person_000" / "000.jpg", faces / "person_001" / "000.jpg"]
    code, out, _ = facemargin("verify", *pair, "-m", model, "--threshold", "-1")
    assert (code, out.split(":")[0]) == (0, "same person")
    code, out, _ = facemargin("verify", *pair, "-m", model, "--threshold", "1")
    assert (code, out.split(":")[0]) == (0, "different people")
    code, out, _ = facemargin("verify", pair[0], pair[0], "-m", model, "--threshold", "0.999")
    assert "same person: cosine 1.0000, threshold 0.9990" in out


def test_verify_at_the_cards_threshold(facemargin, faces):
    different = [faces / "person_000" / "000.jpg", faces / "person_001" / "000.jpg"]
    chosen = load_card(DEFAULT).thresholds.find(mirrored=True)
    _, out, _ = facemargin("verify", *different)
    assert out.startswith("different people: ")
    assert f"threshold {chosen.cosine:.4f}" in out
    assert f"FAR {chosen.far:g} on {chosen.impostor_pairs:,} impostor pairs" in out


def test_verify_refuses_photos(facemargin, model, faces):
    face = faces / "person_000" / "000.jpg"
    command = ("-m", model, "--threshold", "0.5")
    Image.open(face).resize((250, 250)).save("photo.jpg")
    assert_one_sentence(
        facemargin("verify", face, "photo.jpg", *command),
        *("aligned crops of 112x112", "photo.jpg of 250x250", "`facemargin align PHOTOS CROPS`"),
    )
    # Images of the crop's size that are not crops: only the pixels show it.
    for index in range(2):
        turned = Image.open(faces / f"person_00{index}" / "000.jpg").rotate(180)
        turned.save(f"turned{index}.png")
    assert_one_sentence(
        facemargin("verify", "turned0.png", "turned1.png", *command),
        *("turned0.png and turned1.png", "do not resemble an upright face", "facemargin align"),
    )
    code, _, error = facemargin("verify", face, face, *command)
    assert (code, error) == (0, "")


def test_verify_refuses_pairs_of_real_photos(facemargin, shared_data):
    photos = sorted((shared_data / "photos").rglob("*.jpg"))[:4]
    for pair in zip(photos[::2], photos[1::2], strict=True):
        assert_one_sentence(facemargin("verify", *pair), "of 250x250", "facemargin align")


@pytest.mark.filterwarnings("always")
def test_embed_warns_of_photos_with_the_checks_verdict(facemargin, model, faces):
    Path("photos").mkdir()
    Path("large").mkdir()
    for index, path in enumerate(sorted(faces.rglob("*.jpg"))[::4]):
        face = Image.open(path)
        face.resize((224, 224)).save(f"large/{index:02}.png")
        photo = Image.new("RGB", (250, 250), "grey")
        photo.paste(face, (69, 69))
        photo.save(f"photos/{index:02}.png")
    code, _, error = facemargin("embed", "photos", "-m", model)
    assert code == 0
    assert error.count("Warning") == 1
    assert "photos/00.png (250x250)" in error.replace("\n", "")
    assert "(16 images: shifted" in error
    code, _, error = facemargin("embed", "large", "-m", model)  # crops, if larger ones
    assert (code, "Warning" in error) == (0, False)
    for path in Path("photos").iterdir():
        Image.open(path).resize((112, 112)).save(path)
    code, _, error = facemargin("embed", "photos", "-m", model)
    assert error.count("Warning") == 1
    assert "(16 images: shifted" in error


def test_verify_takes_a_folder_with_a_card_and_the_file_in_it(facemargin, faces):
    pair = [faces / "person_000" / "000.jpg", faces / "person_001" / "000.jpg"]
    shutil.copytree(DIRECTORY / DEFAULT, "mine")
    _, expected, _ = facemargin("verify", *pair)
    for model in ("mine", "mine/", "mine/card.json", "mine/embedder.keras"):
        assert facemargin("verify", *pair, "-m", model)[:2] == (0, expected)
    card = json.loads(Path("mine/card.json").read_text())
    Path("mine/card.json").write_text(json.dumps(card | {"thresholds": None}))
    assert_one_sentence(
        facemargin("verify", *pair, "-m", "mine"), "`facemargin calibrate FACES --model mine`"
    )
    Path("mine/card.json").write_text(json.dumps(card | {"parameters": 5}))
    assert_one_sentence(facemargin("verify", *pair, "-m", "mine"), "`parameters` must be that")
    Path("mine/card.json").unlink()
    assert_one_sentence(
        facemargin("verify", *pair, "-m", "mine/embedder.keras"),
        *("without mine/card.json", "calibrate FACES --model mine/embedder.keras"),
    )
    Path("x.tflite").write_bytes(b"x")
    assert_one_sentence(
        facemargin("verify", *pair, "-m", "x.tflite"), "x.tflite: the file cannot be"
    )


def test_an_embedding_file_is_replaced_whole_or_not_at_all(facemargin, model, faces, monkeypatch):
    Path("e.npz").write_bytes(b"before")

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device", "e.npz")

    monkeypatch.setattr(np, "savez", full)
    result = facemargin("embed", faces / "person_000", "-m", model, "-o", "e.npz")
    assert_one_sentence(result, "e.npz: The disk is full.")
    assert Path("e.npz").read_bytes() == b"before"
    assert [path.name for path in Path().iterdir()] == ["e.npz"]
