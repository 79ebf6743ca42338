"""From photos to a decision: files of embeddings, thresholds, warnings."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from one_sentence import assert_one_sentence
from PIL import Image

from keras_facemargin.cli.options import DEFAULT
from keras_facemargin.zoo import load_card


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
    chosen = load_card(DEFAULT).threshold
    _, out, _ = facemargin("verify", *different)
    assert out.startswith("different people: ")
    assert f"threshold {chosen.cosine:.4f}" in out
    assert f"FAR {chosen.far:g} on {chosen.impostor_pairs:,} impostor pairs" in out


@pytest.mark.filterwarnings("always")
def test_verify_warns_of_what_looks_like_an_unaligned_photo(facemargin, model, faces):
    face = faces / "person_000" / "000.jpg"
    Image.new("RGB", (250, 250), "grey").save("photo.jpg")
    code, _, error = facemargin("verify", face, "photo.jpg", "-m", model, "--threshold", "0.5")
    assert code == 0
    assert "1 of 2 images were resized to 112x112" in error
    assert "photo.jpg (250x250)" in error
    _, _, error = facemargin("verify", face, face, "-m", model, "--threshold", "0.5")
    assert error == ""


def test_an_embedding_file_is_replaced_whole_or_not_at_all(facemargin, model, faces, monkeypatch):
    Path("e.npz").write_bytes(b"before")

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device", "e.npz")

    monkeypatch.setattr(np, "savez", full)
    result = facemargin("embed", faces / "person_000", "-m", model, "-o", "e.npz")
    assert_one_sentence(result, "e.npz: No space left on device.")
    assert Path("e.npz").read_bytes() == b"before"
    assert [path.name for path in Path().iterdir()] == ["e.npz"]
