"""Compare embedders side by side: `bench`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from keras_facemargin.cli.console import say, show_table
from keras_facemargin.cli.files import prepare_file
from keras_facemargin.cli.opening import ModelOptions, open_keras, without_greetings
from keras_facemargin.cli.options import FilesCrop, FilesPixels


def bench(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Embedders: .onnx, .tflite or .keras files, folders, names in the zoo."
        ),
    ],
    images: Annotated[
        list[Path],
        typer.Option(
            help="Folder of aligned crops, one folder for each person. Repeat for the same images "
            "in another crop."
        ),
    ],
    pairs: Annotated[
        Path | None, typer.Option(help="LFW's pairs.txt, for the accuracy over its folds.")
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            help="CSV file for errors by group: a column `image` or `person`, and one for each "
            "grouping."
        ),
    ] = None,
    crop: FilesCrop = None,
    pixels: FilesPixels = None,
    flip: Annotated[bool, typer.Option(help="Append the embedding of the mirror image.")] = False,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Page to write, *.html; a .json is beside it.")
    ] = Path("bench.html"),
) -> None:
    """Compare embedders on the same faces: accuracy, thresholds, latency, size, licence.

    Prints a table and writes one page and its JSON. Each image is embedded once by each embedder,
    without its mirror image. An image that --pairs lists and the folder does not have is a failure
    to enrol: its pairs are rejected. The embeddings are kept in a folder beside the page, so that
    the same command resumes after an interruption, and one more model is embedded alone.

    Example: `facemargin bench theirs.onnx phone.tflite spherenet_distilled --images lfw
    --pairs pairs.txt --crop 112 --pixels raw --pixels theirs.onnx=minus1..1`
    """
    from keras_facemargin.zoo import open_embedder, runs_as_it_is

    prepare_file("--output", output, ".html")
    crops, pixel_rules = ModelOptions(models, crop, pixels).inputs()
    files = [each for each in models if runs_as_it_is(each)]
    with without_greetings():  # a bad file is refused before Keras opens
        for each in files:
            open_embedder(each, crop=crops.get(each), pixels=pixel_rules.get(each))
    if len(files) < len(models):
        open_keras()
    from keras_facemargin.bench import bench as run
    from keras_facemargin.bench import terminal_table
    from keras_facemargin.bench.run import EMBEDDINGS

    found = run(
        output,
        models,
        images,
        pairs=pairs,
        groups=groups,
        flip=flip,
        crop=crops,
        pixels=pixel_rules,
    )
    headers, rows = terminal_table(found)
    table = Table(*headers)
    for row in rows:
        table.add_row(*row)
    show_table(table)
    say(f"{output}, {output.with_suffix('.json').name}")
    say(
        f"{output.with_suffix(EMBEDDINGS)}: the embeddings, for the next bench. They are biometric "
        "data: remove the folder when you no longer need it."
    )
