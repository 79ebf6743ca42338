"""The demo: every file it promises, faces drawn once, one report with its tables and pictures."""

import dataclasses
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny import tiny_embedder

from keras_facemargin import demo as module
from keras_facemargin.data import FaceFolder
from keras_facemargin.demo import contact_sheet, run_demo
from keras_facemargin.export import export_tflite
from keras_facemargin.files import exclusive
from keras_facemargin.images import read_face
from keras_facemargin.training.finetune import Comparison
from keras_facemargin.zoo import CAUTION, load_card

PRECISIONS = ("float32", "float16", "dynamic_int8", "int8")
FACES = "faces-10x8-seed0"


@pytest.fixture(scope="module")
def small(short_finetuning):
    """The demo with fewer people, and a judgement that is taken for a gain."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PEOPLE", 10)
        patch.setattr(module, "IMAGES_EACH", 8)
        patch.setattr(Comparison, "score", 0.1)
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    tiny_embedder().save(path)
    return str(path)


@pytest.fixture(scope="module")
def output(small, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "new" / "folder"
    assert run_demo(folder, model) == folder / "report.html"
    return folder


@pytest.fixture
def quick_exports(monkeypatch):
    """Skips the slow exports: other tests cover them."""
    done = []

    def export(embedder, path, precision="float32", images=None):
        if not done:
            done.append(export_tflite(embedder, Path(path).with_suffix(".tflite")))
        return dataclasses.replace(done[0], path=str(path), precision=precision)

    monkeypatch.setattr(module, "export_tflite", export)
    monkeypatch.setattr(
        module, "export_onnx", lambda embedder, path, images: export(embedder, path)
    )


def test_every_file_is_there(output):
    assert sorted(path.name for path in output.iterdir()) == sorted(
        [
            FACES,
            "card.json",
            "classifier.keras",
            "embedder.keras",
            "embedder.onnx",
            "report.html",
            "report.json",
            *(f"embedder_{precision}.tflite" for precision in PRECISIONS),
        ]
    )
    assert len(FaceFolder(output / FACES)) == 80


def test_the_embedder_is_the_tuned_one(output, model):
    tuned = keras.saving.load_model(output / "embedder.keras")
    kernel = tuned.layers[-1].kernel.numpy()
    assert kernel.shape == (24, 24) and not np.allclose(kernel, np.eye(24))
    assert json.loads((output / "report.json").read_text())["model"] == model


def test_the_report_has_its_sections_tables_and_pictures(output):
    page = (output / "report.html").read_text()
    assert re.findall(r"<h2>([^<]+)</h2>", page) == [
        "Faces",
        "Fine-tuning",
        "Your people and strangers, before and after",
        "Export",
    ]
    assert page.count("<table") == 2
    # Contact sheet, training curves, ROC, score histograms, hardest pairs.
    assert page.count('src="data:image/png;base64,') == 5
    assert "80 images of 10 identities: people who do not exist" in page
    assert CAUTION in page
    chosen = load_card(output).thresholds.find(mirrored=False)
    assert f"Its threshold is a cosine of {chosen}." in page
    record = json.loads((output / "report.json").read_text())
    for moment in ("before", "after"):
        assert f">{record[moment]['strangers']['eer']:.2%}</td>" in page
    for precision in PRECISIONS:
        assert f"embedder_{precision}.tflite" in page
    assert page.count("passed") == 5


def test_a_second_run_uses_the_faces_again_and_shows_a_zoo_embedders_card(
    output, model, small, quick_exports, monkeypatch
):
    monkeypatch.setattr(module, "load_embedder", lambda name: keras.saving.load_model(model))
    card = load_card("spherenet_distilled")
    face = output / FACES / "person_000" / "000.jpg"
    drawn = face.stat().st_mtime_ns
    page = run_demo(output, card.name).read_text()
    assert face.stat().st_mtime_ns == drawn
    assert f"<h2>The embedder: {card.name}</h2>" in page
    assert card.license[2].license in page


def test_half_drawn_faces_are_drawn_again(model, small, monkeypatch, tmp_path):
    draft = tmp_path / f"{FACES}.draft" / "person_000"
    draft.mkdir(parents=True)
    (draft / "000.jpg").write_bytes(b"half")

    def far_enough(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "finetune", far_enough)
    with pytest.raises(KeyboardInterrupt):
        run_demo(tmp_path, model)
    assert len(FaceFolder(tmp_path / FACES)) == 80
    assert not draft.exists()


def test_a_folder_of_ones_own_with_a_bad_image(output, model, small, quick_exports, tmp_path):
    people = tmp_path / "people"
    people.mkdir()
    for person in sorted((output / FACES).iterdir()):
        (people / person.name).symlink_to(person)
    (people / "notes.txt").write_text("no face")
    with pytest.warns(UserWarning, match=r"notes\.txt"):
        report = run_demo(tmp_path / "out", model, faces=people)
    page = report.read_text()
    assert "80 images of 10 identities: real people, from your folder" in page
    assert "do not exist" not in page
    assert not list((tmp_path / "out").glob("faces-*"))


def test_nothing_is_drawn_for_an_unknown_embedder(tmp_path):
    with pytest.raises(ValueError, match="Received: 'nosuch'"):
        run_demo(tmp_path / "out", "nosuch")
    assert not (tmp_path / "out").exists()


def test_what_would_fail_at_the_end_is_refused_at_the_beginning(model, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "FaceFolder", None)  # the first thing that is done
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    with pytest.raises(IsADirectoryError) as caught:
        run_demo(tmp_path / "out", model)
    assert caught.value.filename == str(tmp_path / "out" / "report.html")
    with (
        exclusive(tmp_path / "other" / "embedder.keras"),
        pytest.raises(BlockingIOError, match="Another process is writing"),
    ):
        run_demo(tmp_path / "other", model)
    monkeypatch.setattr(module, "_PACKAGES", ("json", "nosuchpackage"))
    with pytest.raises(ImportError, match=r"Received: nosuchpackage not installed.*\[export,plots"):
        run_demo(tmp_path / "third", model)
    assert not (tmp_path / "third").exists()


def test_contact_sheet_has_a_person_a_row(output):
    folder = FaceFolder(output / FACES)
    sheet = contact_sheet(folder, rows=3, columns=9)
    assert sheet.shape == (3 * 112, 9 * 112, 3)
    second = read_face(output / FACES / "person_001" / "002.jpg")
    np.testing.assert_array_equal(sheet[112:224, 224:336], second)
    assert (sheet[:, 8 * 112 :] == 255).all()  # each has eight images
