"""An embedder, faces, and the command in an empty folder."""

import functools
import sys
from pathlib import Path

import pytest
import typer
from tiny import tiny_embedder

from keras_facemargin import cli
from keras_facemargin.cli.console import console
from keras_facemargin.images.synthetic import write_synthetic_faces


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    tiny_embedder().save(path)
    return path


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    directory = tmp_path_factory.mktemp("people") / "faces"
    write_synthetic_faces(directory, 8, 8)
    return directory


@pytest.fixture(autouse=True)
def _short_work(empty_plots, short_finetuning):
    """What the commands call has tests of its own."""


@pytest.fixture(scope="session", autouse=True)
def _build_the_command_once():
    """Typer reads the signature of every command at each call, 0.1 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        yield


@pytest.fixture
def facemargin(monkeypatch, capsys, tmp_path):
    """Runs the command in an empty folder: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "width", 200)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["facemargin", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def few_pairs():
    """A list of pairs and its images in LFW's layout; returns the command to evaluate them."""
    files = write_synthetic_faces("people", 6, 2)
    lines = ["2\t3"]
    for number, image in enumerate(files):
        name = f"p{number // 2}"
        place = Path("lfw", name, f"{name}_{number % 2 + 1:04d}.jpg")
        place.parent.mkdir(parents=True, exist_ok=True)
        Path(image).rename(place)
    for names in (("p0", "p1", "p2"), ("p3", "p4", "p5")):
        lines += [f"{name}\t1\t2" for name in names]
        lines += [f"{names[i]}\t1\t{names[i - 1]}\t2" for i in range(3)]
    Path("pairs.txt").write_text("\n".join(lines) + "\n")
    return "evaluate", "lfw", "--images", "lfw", "--pairs", "pairs.txt"
