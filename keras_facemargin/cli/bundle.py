"""Bundles of exported embedders: `bundle check`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from keras_facemargin.cli.console import say, show_table
from keras_facemargin.cli.opening import without_greetings
from keras_facemargin.cli.options import Json


def check(
    directory: Annotated[Path, typer.Argument(help="Folder that `export --bundle` wrote.")],
    runner: Annotated[
        str | None,
        typer.Option(
            help="Program of the app: started as PROGRAM crop_1.png, it prints the embedding of "
            "the crop as a JSON list in its last line."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model file that the program runs. Default: the one that fits best."),
    ] = None,
    photo: Annotated[
        bool,
        typer.Option(
            "--photo",
            help="The program aligns: start it on the photo, too, with the ten coordinates of the "
            "five points as arguments.",
        ),
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds that one run of the program may take.")
    ] = 60.0,
    as_json: Json = False,
) -> None:
    """Verify the files of a bundle, and name what is wrong with the program of an app.

    Compares the digests, embeds the self-test with every file, and tells six faults of a program
    apart: BGR, 0..1, normalised twice, NCHW, a shifted crop, constant output. The exit code is 1 if
    anything is wrong. Needs LiteRT or ONNX Runtime, not Keras.

    Example: `facemargin bundle check bundle --runner "python bundle/face_embedder.py" --photo`
    """
    with without_greetings():
        from keras_facemargin.export import check_bundle

        checked = check_bundle(directory, runner=runner, model=model, photo=photo, timeout=timeout)
    if as_json:
        say(json.dumps(checked.to_dict(), indent=2))
    else:
        table = Table("Step", "Found", "Cosine", "")
        for one in checked.findings:
            found = " or ".join(one.faults) or "passed"
            cosines = ", ".join(f"{each:.4f}" for each in one.cosines)
            table.add_row(one.step, found, cosines, one.words)
        show_table(table)
        say("The bundle passed." if checked.passed else "The bundle did not pass.")
    if not checked.passed:
        raise typer.Exit(1)
