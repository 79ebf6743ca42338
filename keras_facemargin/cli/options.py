"""Arguments and options that several commands take."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

DEFAULT = "spherenet_distilled"

OnMissing = StrEnum("OnMissing", ["refuse", "reject"])

Model = Annotated[
    str,
    typer.Option("--model", "-m", help="Name in the zoo; or a .keras file, or a folder with one."),
]
Models = Annotated[
    list[str],
    typer.Option(
        "--model",
        "-m",
        help="Name in the zoo; or a .keras file, or a folder with one. Repeat to compare.",
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for what is made.")]
Flip = Annotated[bool, typer.Option(help="Append the mirror image's embedding.")]
ReportFile = Annotated[
    Path | None,
    typer.Option("--report", help="Page to write, .html, and its .json, not the folder."),
]
Groups = Annotated[
    Path | None,
    typer.Option(help="CSV for a --report: image or person, and a column for each grouping."),
]

CropSize = Annotated[str, typer.Option(help="Height, or HEIGHTxWIDTH, of a crop in pixels.")]

# Of protocols with official lists.
Lists = Annotated[Path, typer.Option(help="Folder of the official lists.")]
Images = Annotated[Path, typer.Option(help="Folder of aligned crops, named as the lists do.")]
OnMissingImage = Annotated[
    OnMissing,
    typer.Option(
        help="A listed image that is not there: refuse, or let it count as a failure to enrol."
    ),
]
QualityWeight = Annotated[
    float,
    typer.Option(min=0, help="Weight of image quality in templates; 0: the mean over media."),
]


def read_size(text):
    """The size of a crop from the text of an option: `112` or `112x96`, height first."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise ValueError(
            "--size must be a height or HEIGHTxWIDTH in pixels, such as 160 or 112x96. "
            f"Received: --size {text}"
        )
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))
