"""Arguments and options that several commands share."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from keras_facemargin.images import Crop

DEFAULT = "spherenet_distilled"
DEFAULT_MODELS = [DEFAULT]

OnMissing = StrEnum("OnMissing", ["refuse", "reject"])

MODEL = "Name in the zoo, folder with a card, or a .keras, .onnx or .tflite file."
Model = Annotated[str, typer.Option("--model", "-m", help=MODEL)]
Models = Annotated[list[str], typer.Option("--model", "-m", help=f"{MODEL} Repeat to compare.")]
# For files whose input is not known.
_CROP = (
    "Crop that a file without a card takes: a height, HEIGHTxWIDTH, or either with the template, "
    "as in 160:arcface."
)
_PIXELS = (
    "Pixels that a file without a card takes: raw, 0..1, minus1..1, imagenet or a formula such as "
    "'(x-127.5)/128'; BGR in front if blue comes first."
)
FileCrop = Annotated[str | None, typer.Option("--crop", help=_CROP)]
FilePixels = Annotated[str | None, typer.Option("--pixels", help=_PIXELS)]
FilesCrop = Annotated[
    list[str] | None,
    typer.Option("--crop", help=f"{_CROP} If files differ, repeat it as FILE=CROP."),
]
FilesPixels = Annotated[
    list[str] | None,
    typer.Option("--pixels", help=f"{_PIXELS} If files differ, repeat it as FILE=PIXELS."),
]
# For photos.
Aligned = Annotated[
    bool | None,
    typer.Option(
        "--aligned/--photos",
        help="The images are aligned crops, or photos. Default: photos; an image of the size of a "
        "crop is refused.",
    ),
]
Detector = Annotated[
    str | None, typer.Option(help="mtcnn, or your own MODULE:FUNCTION. Default: mtcnn.")
]
MinFace = Annotated[
    int | None,
    typer.Option(
        min=12,
        help="Side of the smallest face that mtcnn finds, in pixels of the photo. Default: 20, or "
        "an 80th of the photo's longer side if that is more.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
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
OnMissingPair = Annotated[
    OnMissing,
    typer.Option(help="Missing images: 'refuse' stops, 'reject' counts their pairs as rejected."),
]
QualityWeight = Annotated[
    float,
    typer.Option(min=0, help="Weight of image quality in a template. 0: the mean over media."),
]


def value_of_each(
    option: str, values: Sequence[str], *, models: Sequence[str], unknown: Sequence[str]
) -> dict[str, str]:
    """The value of --crop or --pixels for each model.

    Args:
        option: its name.
        values: `FILE=VALUE` for one model, `VALUE` for those whose input is not known.
        models: the models of the command.
        unknown: those whose input is not known.

    Returns:
        A dict of model -> value, without the models that have none.

    Raises:
        ValueError: a file is not one of the models, or is named twice; or a second `VALUE`.
    """
    found: dict[str, str] = {}
    for text in values:
        file, named, value = text.rpartition("=")
        if named:
            matches = [each for each in models if file in (each, Path(each).name)]
            if len(matches) != 1 or matches[0] in found:
                raise ValueError(
                    f"{option} FILE={option[2:].upper()} must name each file once, as --model or "
                    f"the command names it: {', '.join(models)}. Received: {option} {text}"
                )
            found[matches[0]] = value
    plain = [text for text in values if "=" not in text]
    if len(plain) > 1:
        raise ValueError(
            f"{option} must name the file if it is repeated, as in {option} {unknown[0]}="
            f"{plain[0]}. Received: {' '.join(f'{option} {text}' for text in plain)}"
        )
    return {each: text for each in unknown for text in plain} | found


def read_size(text: str) -> int | tuple[int, int]:
    """The size of a crop from the text of an option: `112` or `112x96`, height first."""
    return _sides("--size", text, text)


def read_crop(text: str) -> "Crop":
    """The crop from the text of --crop: `112`, `112x96` or `160:arcface`."""
    from keras_facemargin.images import Crop

    size, _, template = text.partition(":")
    return Crop.of(_sides("--crop", text, size), template or None)


def _sides(option: str, text: str, size: str) -> int | tuple[int, int]:
    from keras_facemargin.images.crop import parse_size

    sides = parse_size(size)
    if sides is None:
        raise ValueError(
            f"{option} must be a height or HEIGHTxWIDTH in pixels, such as 160 or 112x96. "
            f"Received: {option} {text}"
        )
    return sides
