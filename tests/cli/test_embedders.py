"""`export`, `calibrate` and `zoo`."""

import json
import shutil
from pathlib import Path

import numpy as np
from one_sentence import assert_one_sentence

from keras_facemargin.cli.console import console
from keras_facemargin.cli.options import DEFAULT
from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate import all_pairs, embed
from keras_facemargin.zoo import DIRECTORY, load_card, load_embedder


def test_calibrate_writes_the_threshold_into_the_card(facemargin, faces):
    shutil.copytree(DIRECTORY / DEFAULT, DEFAULT)
    card = Path(DEFAULT, "card.json")
    before = json.loads(card.read_text())
    command = ("calibrate", faces, "--card", card)
    code, out, _ = facemargin(*command, "--far", 0.01, "--no-flip")
    assert code == 0
    assert "all pairs of 64 images of 8 people, faces" in out
    after = json.loads(card.read_text())
    threshold = after.pop("threshold")
    old = before.pop("threshold")
    assert after == before
    assert (threshold["far"], threshold["flip"]) == (0.01, False)
    assert (threshold["genuine_pairs"], threshold["impostor_pairs"]) == (224, 1_792)
    assert f"{old['cosine']:.4f}" in out and f"{threshold['cosine']:.4f}" in out
    embedder = load_embedder(DEFAULT)
    people = FaceFolder(faces)
    scores, same = all_pairs(
        embed(embedder, people.paths, flip=False, progress=False), people.labels
    )
    impostors = scores[~same]
    # One per cent of 1,792; the next impostor lies at the threshold, but for a rounding.
    assert (impostors > threshold["cosine"] + 1e-9).sum() == 17
    assert (impostors > threshold["cosine"] - 1e-9).sum() == 18
    assert threshold["tar"] == np.mean(scores[same] > threshold["cosine"] + 1e-9)
    written = card.read_bytes()
    assert_one_sentence(
        facemargin(*command, "--far", 1e-4), "not supported by 1,792 impostor pairs"
    )
    assert_one_sentence(facemargin(*command, "--far", 1.5), "--far must be a rate")
    assert_one_sentence(facemargin("calibrate", faces, "--card", "no.json"), "no.json")
    assert card.read_bytes() == written


def test_export_to_onnx(facemargin, model):
    code, out, _ = facemargin("export", "-m", model, "-o", "made/embedder.onnx")
    assert code == 0
    assert "made/embedder.onnx: onnx float32, passed" in out
    assert Path("made/embedder.onnx").stat().st_size > 1000


def test_export_int8_by_faces_of_ones_own(facemargin, model, faces):
    code, out, _ = facemargin(
        *("export", "-m", model, "-o", "e.tflite", "--precision", "int8", "--images", faces)
    )
    assert code == 0
    assert "int8, passed" in out
    assert "over 32 images" in out  # the other 32 set the ranges


def test_zoo_lists_and_prints_cards(facemargin):
    console.width = 80  # the name is what one types: it must not be cut
    code, out, _ = facemargin("zoo")
    assert code == 0
    assert DEFAULT in out
    assert f"{load_card(DEFAULT).threshold.cosine:.3f}" in out
    code, out, _ = facemargin("zoo", DEFAULT)
    assert json.loads(out) == json.loads(json.dumps(load_card(DEFAULT).to_dict()))


def test_an_unknown_card(facemargin):
    assert_one_sentence(facemargin("zoo", "nosuch"), DEFAULT, "Received: 'nosuch'")
