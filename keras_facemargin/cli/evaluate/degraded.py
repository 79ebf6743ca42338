"""Degraded faces: errors on small, blurred and poor crops at the threshold of clean ones."""

from pathlib import Path
from typing import Annotated, Any

import typer

from keras_facemargin.cli.alignment import note_crops
from keras_facemargin.cli.console import say, show_table
from keras_facemargin.cli.evaluate.run import about_flip, check_compared
from keras_facemargin.cli.files import image_files, prepare_folder, prepare_page, printable
from keras_facemargin.cli.opening import ModelOptions
from keras_facemargin.cli.options import (
    DEFAULT_MODELS,
    FileCrop,
    FilePixels,
    Flip,
    Models,
    Output,
    ReportFile,
)


def degraded(
    images: Annotated[
        Path,
        typer.Option(
            help="Folder of aligned crops, one folder for each person; those with two crops or "
            "more are used, the first two of each."
        ),
    ],
    model: Models = DEFAULT_MODELS,
    crop: FileCrop = None,
    pixels: FilePixels = None,
    output: Output = Path("degraded-results"),
    flip: Flip = True,
    far: Annotated[
        float, typer.Option(help="False accept rate of the threshold, on clean crops.")
    ] = 1e-3,
    people: Annotated[
        int, typer.Option(min=2, help="Number of people to draw, if there are more.")
    ] = 1_200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of that draw.")] = 0,
    report: ReportFile = None,
) -> None:
    """Small, blurred and poor crops at the threshold of clean ones: do strangers pass?

    Every pair of two people counts. The crops are shrunk to 28, 20 and 14 pixels, blurred by 2 and
    4 pixels, and saved as JPEG of quality 8: both of a pair, then one. If the card of the model has
    quality limits, pairs without an answer are counted apart.

    Prints a table and writes results.json, or with --report one page.

    Example: `facemargin evaluate degraded --images lfw/aligned --report degraded.html`
    """
    from keras_facemargin.evaluate.degraded import draw_people, measure_degraded
    from keras_facemargin.files import write_json

    check_compared("--model", "models", model, report=report, groups=None)
    if not 0 < far < 1:
        raise ValueError(f"--far must be a rate in (0, 1). Received: {far}")
    paths = image_files([images])
    sides = draw_people(paths, [path.parent.name for path in paths], people, seed=seed)
    if report is None:
        prepare_folder(output, "results.json")
    else:
        prepare_page(report)
    results: dict[str, Any] = {}
    for name, embedder in ModelOptions(model, crop, pixels).open().items():
        note_crops([*sides[0], *sides[1]], embedder)
        rule = None if embedder.card is None else embedder.card.quality
        found = measure_degraded(embedder, sides, rule=rule, far=far, flip=flip)
        results[printable(name)] = found
        show_table(found)
    drawn = f"{len(sides[0]):,} people of {images}, drawn by seed {seed}."
    if report is not None:
        from keras_facemargin.report import report_degraded

        title = f"Degraded faces of {images.name}"
        report_degraded(report, results, title=title, about=[drawn, about_flip(flip)])
        say(f"{report}, {report.with_suffix('.json').name}")
        return
    ((name, found),) = results.items()
    record = {"protocol": "degraded", "model": model[0], "flip": flip, "seed": seed}
    write_json(output / "results.json", record | found.to_dict())
    say(f"{output}/results.json")
