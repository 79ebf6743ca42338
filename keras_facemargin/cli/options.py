"""Arguments and options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

DEFAULT = "spherenet_distilled"
DEFAULT_MODELS = [DEFAULT]

OnMissing = StrEnum("OnMissing", ["refuse", "reject"])

Model = Annotated[
    str,
    typer.Option("--model", "-m", help="Name in the zoo, a .keras file, or a folder with one."),
]
Models = Annotated[
    list[str],
    typer.Option(
        "--model",
        "-m",
        help="Name in the zoo, a .keras file, or a folder with one. Repeat to compare.",
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]
Flip = Annotated[bool, typer.Option(help="Append the embedding of the mirror image.")]
ReportFile = Annotated[
    Path | None,
    typer.Option(
        "--report",
        help="Write one HTML report (and a JSON file beside it) instead of a results folder.",
    ),
]
Groups = Annotated[
    Path | None,
    typer.Option(
        help="CSV file for --report: a column `image` or `person`, and one for each grouping."
    ),
]

CropSize = Annotated[str, typer.Option(help="Height, or HEIGHTxWIDTH, of a crop in pixels.")]

# For protocols with official lists.
Lists = Annotated[Path, typer.Option(help="Folder of the official lists.")]
Images = Annotated[Path, typer.Option(help="Folder of aligned crops, named as in the lists.")]
OnMissingImage = Annotated[
    OnMissing,
    typer.Option(help="Missing images: 'refuse' stops, 'reject' counts them as failures to enrol."),
]
QualityWeight = Annotated[
    float,
    typer.Option(min=0, help="Weight of image quality in a template. 0: the mean over media."),
]


def read_size(text: str) -> int | tuple[int, int]:
    """The size of a crop from the text of an option: `112` or `112x96`, height first."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise ValueError(
            "--size must be a height or HEIGHTxWIDTH in pixels, such as 160 or 112x96. "
            f"Received: --size {text}"
        )
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))
