"""When the command imports Keras, and that its output comes first."""

import os
import sys

import keras
import pytest
from processes import finish, run_command, start

import keras_facemargin
from keras_facemargin.cli.opening import without_greetings


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("--help", 0, "Usage: facemargin"),
        ("evaluate lfw -h", 0, "Usage: facemargin evaluate lfw"),
        ("--version", 0, f"facemargin {keras_facemargin.__version__}"),
        ("zoo", 0, "spherenet_distilled"),
        ("zoo --nmae", 2, "No such option"),
        ("embed", 2, "Missing argument"),
        ("algn", 2, "'align'"),
        ("evaluate ijbd", 2, "'ijbb'"),
    ],
)
def test_a_command_without_models_does_not_import_keras(arguments, code, words):
    status, out, error, packages = run_command(*arguments.split())
    assert status == code
    assert words in out + error
    assert not packages & {"keras", "tensorflow", "jax", "torch", "numpy", "matplotlib"}


def test_the_module_runs_the_command():
    arguments = ("-X", "importtime", "-m", "keras_facemargin", "--version")
    ((code, out, error),) = finish(start(*arguments))
    assert (code, out) == (0, f"facemargin {keras_facemargin.__version__}\n")
    imported = {line.split("|")[-1].strip() for line in error.splitlines()}
    assert "typer" in imported
    assert "keras" not in imported


def test_no_line_comes_before_the_output_of_the_command(model, faces, tmp_path):
    images = sorted((faces / "person_000").iterdir())[:2]
    code, out, error, _ = run_command("embed", *images, "-m", model, "-o", tmp_path / "e.npz")
    assert (code, out.split(": ")[1]) == (0, "2 embeddings of 48 numbers")
    assert error.startswith("Embedding")  # the progress bar, and no line of TensorFlow


def test_the_command_registers_classes_before_it_opens_a_model(model, tmp_path):
    embedder = keras.models.load_model(model)
    classifier = keras_facemargin.MarginClassifier(embedder, keras_facemargin.CosFace(3))
    classifier.build((None, 112, 112, 3))
    classifier.save(tmp_path / "classifier.keras")
    code, _, error, _ = run_command("embed", "faces", "-m", tmp_path / "classifier.keras")
    assert code == 1
    assert error.startswith("Error: ")
    assert "Received: a MarginClassifier" in error


def test_lines_during_the_import_are_shown_only_if_it_fails(monkeypatch, capfd):
    monkeypatch.delitem(sys.modules, "tensorflow")
    with without_greetings():
        os.write(2, b"a greeting\n")
    os.write(2, b"a warning\n")
    assert capfd.readouterr().err == "a warning\n"
    with pytest.raises(ImportError), without_greetings():
        os.write(2, b"the cause\n")
        raise ImportError
    assert capfd.readouterr().err == "the cause\n"
