"""`export` and `calibrate`."""

import json
import shutil
from pathlib import Path

import numpy as np
from one_sentence import assert_one_sentence

from keras_facemargin.cli.options import DEFAULT
from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate import all_pairs, embed
from keras_facemargin.export import read_manifest
from keras_facemargin.zoo import DIRECTORY, load_card, load_embedder


def test_calibrate_writes_both_thresholds_into_the_card(facemargin, faces):
    shutil.copytree(DIRECTORY / DEFAULT, DEFAULT)
    card = Path(DEFAULT, "card.json")
    before = json.loads(card.read_text())
    command = ("calibrate", faces, "--card", card)
    code, out, _ = facemargin(*command, "--far", 0.01)
    assert code == 0
    assert "all pairs of 64 images of 8 people, faces" in out
    assert "quality limits: those of the card stay, because fewer than 33 people" in out
    after = json.loads(card.read_text())
    chosen = after.pop("thresholds")
    old = before.pop("thresholds")
    assert before.pop("likelihood")["people"] > 8
    assert after.pop("likelihood")["impostor_pairs"] == 1_792
    assert after == before
    embedder = load_embedder(DEFAULT)
    people = FaceFolder(faces)
    for kind, flip in (("single", False), ("mirrored", True)):
        (threshold,) = chosen[kind]
        assert threshold["far"] == 0.01
        assert (threshold["genuine_pairs"], threshold["impostor_pairs"]) == (224, 1_792)
        assert f"{old[kind][0]['cosine']:.4f}" in out and f"{threshold['cosine']:.4f}" in out
        scores, same = all_pairs(
            embed(embedder, people.paths, flip=flip, progress=False), people.labels
        )
        impostors = scores[~same]
        # One per cent of 1,792; the next impostor is at the threshold, up to rounding.
        assert (impostors > threshold["cosine"] + 1e-9).sum() == 17
        assert (impostors > threshold["cosine"] - 1e-9).sum() == 18
        assert threshold["tar"] == np.mean(scores[same] > threshold["cosine"] + 1e-9)
    written = card.read_bytes()
    assert_one_sentence(
        facemargin(*command, "--far", 1e-4), "not supported by 1,792 impostor pairs"
    )
    assert_one_sentence(facemargin("calibrate", faces, "--card", "no.json"), "no.json")
    assert card.read_bytes() == written


def test_calibrate_writes_a_card_beside_a_file_of_ones_own(facemargin, model, faces):
    Path("mine").mkdir()
    shutil.copy(model, "mine/tiny.keras")
    shutil.copy(model, "mine/other.keras")
    code, out, _ = facemargin("calibrate", faces, "-m", "mine/tiny.keras", "--far", 0.01)
    assert code == 0
    assert "mine/card.json: all pairs of 64 images" in out
    card = load_card("mine")
    assert (card.weights.file, card.thresholds.find(mirrored=False).far) == ("tiny.keras", 0.01)
    pair = [faces / "person_000" / "000.jpg", faces / "person_000" / "001.jpg"]
    code, out, _ = facemargin("verify", *pair, "--aligned", "-m", "mine")
    assert f"threshold {card.thresholds.find(mirrored=True).cosine:.4f}" in out
    written = Path("mine/card.json").read_bytes()
    assert_one_sentence(
        facemargin("calibrate", faces, "-m", "mine/other.keras"),
        "describes tiny.keras. Received: mine/other.keras",
    )
    assert Path("mine/card.json").read_bytes() == written


def test_a_zoo_embedder_is_calibrated_as_a_copy(facemargin, faces):
    before = (DIRECTORY / DEFAULT / "card.json").read_bytes()
    command = ("calibrate", faces, "-m", DEFAULT, "--far", 0.01)
    assert_one_sentence(facemargin(*command), "belongs to the package", "--output")
    code, _, _ = facemargin(*command, "-o", "new/mine")
    assert code == 0
    assert (DIRECTORY / DEFAULT / "card.json").read_bytes() == before
    assert sorted(path.name for path in Path("new/mine").iterdir()) == [
        "card.json",
        "embedder.keras",
    ]
    assert load_card("new/mine").license == load_card(DEFAULT).license
    assert load_embedder("new/mine").output_shape == (None, 128)
    assert_one_sentence(facemargin(*command, "-o", "new/mine"), "is not overwritten")


def test_export_to_onnx(facemargin, model):
    code, out, _ = facemargin("export", "-m", model, "-o", "made/embedder.onnx")
    assert code == 0
    assert "made/embedder.onnx: onnx float32, passed" in out
    assert "threshold        none: `facemargin calibrate FACES`" in out
    assert Path("made/embedder.onnx").stat().st_size > 1000


def test_export_int8_by_faces_of_ones_own(facemargin, model, faces):
    command = ("export", "-m", model, "-o", "e.tflite", "--images", faces, "--tune", faces)
    assert_one_sentence(facemargin(*command), '`tune` must go with precision="int8"')
    code, out, err = facemargin(*command, "--format", "tflite-int8")
    assert code == 0
    assert "epoch 2/2" in err
    assert "int8, passed" in out
    assert "over 32 images" in out  # the other 32 set the ranges
    for row in ("LiteRT CompiledModel", "1 thread ", "2 threads", "memory", "delegate", "host"):
        assert row in out, row


def test_pairs_with_a_missing_image_are_rejected_when_asked_for(facemargin, model, few_pairs):
    Path("lfw/p0/p0_0002.jpg").unlink()
    command = ("export", "-m", model, "-o", "e.tflite", "--calibrate", *few_pairs[3:])
    code, _, error = facemargin(*command)
    assert code == 1
    assert "1 of 12 images missing" in error and "--on-missing reject" in error
    code, out, _ = facemargin(*command, "--on-missing", "reject")
    assert code == 0
    assert "2 of the 12 listed pairs are rejected" in out


def test_export_writes_a_folder(facemargin, model):
    code, out, _ = facemargin("export", "-m", model, "-o", "e.savedmodel")
    assert code == 0
    assert "e.savedmodel: savedmodel float32, passed" in out
    assert Path("e.savedmodel/saved_model.pb").is_file()
    assert_one_sentence(
        facemargin("export", "-m", model, "-o", "e.savedmodel"), "must not be in use"
    )


def test_a_bundle_has_the_formats_of_the_command(facemargin, model, faces):
    formats = ("tflite-float16", "tflite-int8", "onnx-float32")
    words = [word for name in formats for word in ("--format", name)]
    code, _, _ = facemargin("export", "-m", model, "--bundle", "b", "--images", faces, *words)
    assert code == 0
    found = {each["file"]: each["precision"] for each in read_manifest("b").to_dict()["models"]}
    assert found == {
        "embedder.tflite": "float16",
        "embedder_int8.tflite": "int8",
        "embedder.onnx": "float32",
    }


def test_export_prints_the_threshold_of_an_image_alone(facemargin):
    chosen = load_card(DEFAULT).thresholds.find(mirrored=False)
    code, out, _ = facemargin("export", "-o", "e.tflite")
    assert code == 0
    pairs = f"{chosen.impostor_pairs:,} impostor"
    assert f"threshold        cosine {chosen.cosine:.4f} at FAR 0.001 on {pairs}" in out
    assert "image alone" in out
