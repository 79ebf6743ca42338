"""When the command imports Keras, and that its output comes first."""

import os
import sys

import keras
import pytest
from processes import finish, run_commands, start

import keras_facemargin
from keras_facemargin.cli.opening import without_greetings

WITHOUT_MODELS = {
    "--help": (0, "Usage: facemargin"),
    "evaluate lfw -h": (0, "Usage: facemargin evaluate lfw"),
    "--version": (0, f"facemargin {keras_facemargin.__version__}"),
    "zoo": (0, "spherenet_distilled"),
    "zoo --nmae": (2, "No such option"),
    "embed": (2, "Missing argument"),
    "algn": (2, "'align'"),
    "evaluate ijbd": (2, "'ijbb'"),
}


def test_commands_without_models_do_not_import_keras():
    results = run_commands(*(arguments.split() for arguments in WITHOUT_MODELS))
    for (code, out, error, packages), expected in zip(
        results, WITHOUT_MODELS.values(), strict=True
    ):
        assert (code, expected[1] in out + error) == (expected[0], True), (out, error)
        assert not packages & {"keras", "tensorflow", "jax", "torch", "numpy", "matplotlib"}


def test_the_module_runs_the_command():
    arguments = ("-X", "importtime", "-m", "keras_facemargin", "--version")
    ((code, out, error),) = finish(start(*arguments))
    assert (code, out) == (0, f"facemargin {keras_facemargin.__version__}\n")
    imported = {line.split("|")[-1].strip() for line in error.splitlines()}
    assert "typer" in imported
    assert "keras" not in imported


def test_the_first_line_is_the_commands_and_classes_are_registered_before_a_model_opens(
    model, faces, tmp_path
):
    """The first command imports TensorFlow, whose lines would come before the error."""
    embedder = keras.models.load_model(model)
    classifier = keras_facemargin.MarginClassifier(embedder, keras_facemargin.CosFace(3))
    classifier.build((None, 112, 112, 3))
    classifier.save(tmp_path / "classifier.keras")
    images = sorted((faces / "person_000").iterdir())[:2]
    refused, done = run_commands(
        ("embed", *images, "-m", tmp_path / "classifier.keras"),
        ("embed", *images, "-m", model, "-o", tmp_path / "e.npz"),
    )
    assert refused[0] == 1
    assert refused[2].startswith("Error: ")
    assert "Received: a MarginClassifier" in refused[2]
    assert (done[0], done[1].split(": ")[1]) == (0, "2 embeddings of 48 numbers")
    assert done[2].startswith("Embedding")  # the progress bar, and no line of TensorFlow


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
