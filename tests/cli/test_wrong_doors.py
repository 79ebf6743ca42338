"""A wrong argument gives an error of one sentence and changes no file."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from one_sentence import assert_one_sentence
from PIL import Image

from keras_facemargin import cli
from keras_facemargin.cli import faces as faces_commands


@pytest.fixture
def wrong(faces, model):
    """A folder's worth of wrong things, in the current one; returns a good image."""
    Path("bad.jpg").write_bytes(b"junk")
    Path("bad.keras").write_bytes(b"junk")
    Path("empty").mkdir()
    Path("one/a").mkdir(parents=True)
    good = faces / "person_000" / "000.jpg"
    Path("cut.jpg").write_bytes(good.read_bytes()[:2000])
    Image.new("RGB", (100, 80)).save("wide.png")
    shutil.copy(good, "one/a")
    for person in range(5):
        shutil.copytree(faces / f"person_{person:03d}", f"few/{person}")
    Path("finetuned").mkdir()
    Path("finetuned/embedder.keras").write_bytes(b"hours of work")
    Path("pairs.txt").write_text("10\t300\nA\t1\t2\n")
    Path("words.txt").write_text("no pairs\n")
    np.savez("wrong.npz", vectors=np.ones(3))
    np.savez("nan.npz", embeddings=np.ones((3, 2)), labels=[1.0, np.nan, np.nan])
    np.savez("short.npz", embeddings=np.ones((3, 2)), labels=[1, 2])
    np.savez("complex.npz", embeddings=np.ones((3, 2)) * 1j, labels=[1, 2, 2])
    Path("cut.npz").write_bytes(Path("nan.npz").read_bytes()[:-30])
    return good


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("verify --aligned GOOD nothere.jpg --threshold 0", ["nothere.jpg: No such file"]),
        ("verify --aligned GOOD bad.jpg --threshold 0", ["bad.jpg: not an image"]),
        ("verify --aligned GOOD cut.jpg --threshold 0", ["cut.jpg: it does not decode"]),
        (
            "verify --aligned GOOD wide.png --threshold 0",
            ["crop has 112x112", "wide.png of 80x100"],
        ),
        ("verify --aligned GOOD one --threshold 0", ["one: Is a directory"]),
        ("verify GOOD GOOD", ["without", "card.json", "facemargin calibrate FACES --model"]),
        ("embed nothere", ["image or folder does not exist", "Received: nothere"]),
        ("embed empty", ["must have images", "Received: empty"]),
        ("embed bad.jpg", ["bad.jpg: not an image"]),
        ("embed GOOD -o e.txt", ["*.npz", "Received: e.txt"]),
        ("embed GOOD -o bad.jpg/e.npz", ["bad.jpg"]),
        ("finetune nothere -o new", ["folder of identity folders", "nothere"]),
        ("finetune one -o new", ["at least two identities", "Received: 1"]),
        ("finetune few -o new", ["at least 8", "Received: 5 identities in few"]),
        ("finetune few", ["must not be in use", "Received: finetuned exists"]),
        ("finetune few -o bad.jpg", ["bad.jpg"]),
        ("calibrate few --far 1.5", ["--far must be a rate"]),
        ("calibrate few --far 1e-4", ["not supported by 640 impostor pairs"]),
        ("demo --faces few -o new", ["at least 64 images", "Received: 40 images in few"]),
        ("demo --faces nothere -o new", ["folder of identity folders", "nothere"]),
        ("demo -o bad.jpg", ["bad.jpg: File exists"]),
        ("evaluate lfw --images few --pairs nothere.txt", ["nothere.txt: No such file"]),
        ("evaluate lfw --images few --pairs pairs.txt", ["must have 6,000 pairs", "1 lines"]),
        ("evaluate lfw --images few --pairs words.txt", ["words.txt, line 1", "'no pairs'"]),
        ("evaluate lfw-view1 --lists few --images few", ["pairsDevTrain.txt: No such file"]),
        ("evaluate cfp-fp --lists few --images few", ["Pair_list_F.txt: No such file"]),
        ("evaluate ijba --lists few --images few", ["verify_metadata_1.csv: No such file"]),
        ("evaluate megaface --lists . --images . --size 7", ["`size` must be one of"]),
        (
            "evaluate identification --gallery few --probes nothere",
            ["image or folder does not exist"],
        ),
        ("evaluate bin nothere.bin", ["nothere.bin: No such file"]),
        ("evaluate bin bad.jpg", ["bad.jpg: a verification file must be a pickle", "byte 0"]),
        ("evaluate all-pairs nothere.npz", ["nothere.npz: No such file"]),
        (
            "evaluate all-pairs wrong.npz",
            ["`embeddings` (N, D) and `paths`", "Received: wrong.npz, which has vectors"],
        ),
        (
            "evaluate all-pairs one wrong.npz",
            ["one folder of aligned crops, or", "one, wrong"],
        ),
        ("evaluate all-pairs nan.npz", ["nan.npz: `labels` must be all whole numbers or", "nan"]),
        ("evaluate all-pairs short.npz", ["short.npz with `embeddings` (3, 2), `labels` (2,)"]),
        ("evaluate all-pairs cut.npz", ["cut.npz: must be a .npz file of arrays"]),
        ("evaluate all-pairs complex.npz", ["complex.npz: `embeddings` must hold real numbers"]),
        ("evaluate pairs words.txt --images few", ["words.txt, line 1: must be 'PATH PATH TRUTH'"]),
        ("evaluate all-pairs wrong.npz --groups list.csv", ["--groups without --report"]),
        ("evaluate all-pairs wrong.npz wrong.npz", ["Each file must be named once"]),
        ("evaluate all-pairs one -o new", ["1 people", "0 impostor pairs"]),
        ("check-data nothere", ["folder of identity folders", "nothere"]),
        ("check-data list.csv", ["Faces must be in", "list.csv"]),
        ("finetune nothere.tfrecord -o new", ["Neither the file nor a shard"]),
        ("finetune nothere.rec -o new", ["nothere.rec: No such file"]),
        ("export -o e.txt", ["must end in .tflite or .onnx", "Received: 'e.txt'"]),
        ("export -o e.onnx --format tflite-int8", ["Write --output e.tflite --format"]),
        ("export -o e.onnx --format coreml", ["one of tflite-float32,", "Received: 'coreml'"]),
        ("export -o e.onnx --format onnx-int8 --format onnx-float32", ["with --bundle"]),
        ("export --bundle b --format openvino-float32", ["must be .tflite or .onnx"]),
        ("export -o e.tflite --format tflite-int8 --images few", ["at least 64", "40 images"]),
    ],
)
def test_a_wrong_argument_gives_one_sentence(facemargin, model, wrong, command, parts):
    before = sorted(path for path in Path().rglob("*"))
    words = [str(wrong) if word == "GOOD" else word for word in command.split()]
    code = 64 if words[0] == "verify" else 1  # 1 is an answer of verify
    assert_one_sentence(facemargin(*words, "-m", model), *parts, expected_code=code)
    after = sorted(path for path in Path().rglob("*") if path != Path("new"))
    assert after == before
    assert Path("finetuned/embedder.keras").read_bytes() == b"hours of work"


@pytest.mark.parametrize("command", ["embed GOOD", "verify GOOD GOOD", "finetune few -o new"])
@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("nosuch", "Received: 'nosuch'"),
        ("nothere.keras", "does not exist"),
        ("bad.keras", "bad.keras"),
    ],
)
def test_a_missing_model_gives_one_sentence(facemargin, wrong, command, name, part):
    words = [str(wrong) if word == "GOOD" else word for word in command.split()]
    code = 64 if words[0] == "verify" else 1
    assert_one_sentence(facemargin(*words, "-m", name), part, expected_code=code)


def test_text_that_looks_like_markup_is_printed_unchanged(facemargin):
    assert_one_sentence(facemargin("embed", "[red]/[/]"), "Received: [red]/[/]")


def test_a_defect_keeps_its_traceback(facemargin, monkeypatch):
    monkeypatch.setattr(faces_commands, "image_files", lambda places: {}["defect"])
    monkeypatch.setattr(sys, "argv", ["facemargin", "embed", "x"])
    with pytest.raises(KeyError):
        cli.main()


def test_an_unknown_option_is_a_usage_error(facemargin):
    code, _, error = facemargin("embed", "x", "--nosuch")
    assert code == 2
    assert "--nosuch" in error


def test_a_missing_file_is_answered_with_the_nearest_name(facemargin, model, faces):
    wrong = faces / "person_000" / "00.jpg"
    result = facemargin("verify", wrong, wrong, "-m", model, "--threshold", 0)
    assert_one_sentence(
        result, f"{wrong}: No such file", "Did you mean", "person_000/00", expected_code=64
    )
    result = facemargin("embed", faces.with_name("face"), "-m", model)
    assert_one_sentence(result, "does not exist", f"Did you mean {faces}?")
    result = facemargin("embed", "nowhere/a.jpg", "-m", model)
    assert_one_sentence(result, "Received: nowhere/a.jpg.", "The folder nowhere does not exist.")
    result = facemargin("embed", faces, "-m", "spherenet_destilled")
    assert_one_sentence(result, "Did you mean 'spherenet_distilled'?")
