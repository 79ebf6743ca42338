"""The manifest of a bundle: what its model files take and give, for programs that read it."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import Field

from keras_facemargin.files import read_text
from keras_facemargin.zoo.card_file import first_problem, refuse_constant
from keras_facemargin.zoo.parts import (
    CropSize,
    FileName,
    LicenseEntry,
    MemberPath,
    Positive,
    Record,
    Sha256,
    Share,
    Text,
    Threshold,
)

MANIFEST = "manifest.json"
SCHEMA = "manifest.schema.json"
_VERSION = 1
_Kind = TypeVar("_Kind", bound=Record)
_WAY_OUT = f"{SCHEMA} beside it lists the fields; `facemargin export --bundle` writes a manifest."


class ModelInput(Record):
    """Input of a model file.

    Attributes:
        name: of the tensor.
        shape: (batch, height, width, 3); None is a free batch.
        dtype: "float32", the pixels as numbers, or "uint8", the pixels as bytes.
        layout: "NHWC": the three colours of a pixel are neighbours.
        channel_order: "RGB": red first.
        range: lowest and highest pixel value.
        pixel_rule: "raw": the file takes the pixels unchanged and normalises them itself.
    """

    name: Text
    shape: tuple[Positive | None, Positive, Positive, Literal[3]]
    dtype: Literal["float32", "uint8"]
    layout: Literal["NHWC"]
    channel_order: Literal["RGB"]
    range: tuple[int, int]
    pixel_rule: Literal["raw"]


class ModelOutput(Record):
    """Output of a model file.

    Attributes:
        name: of the tensor.
        dtype: "float32".
        embedding_dim: D.
        normalised: whether every embedding has unit length to within 0.001, so that the dot product
            of two is their cosine. False for a file that rounds its activations.
    """

    name: Text
    dtype: Literal["float32"]
    embedding_dim: Positive
    normalised: bool


class FileThresholds(Record):
    """Thresholds of a model file, for the embedding of the image alone.

    Attributes:
        of: "this file": calibrated on its own embeddings; "the Keras embedder": those of the
            embedder before the export, which fit a float file and may not fit an int8 one.
        single: from the highest false accept rate to the lowest.
    """

    of: Literal["this file", "the Keras embedder"]
    single: Annotated[tuple[Threshold, ...], Field(min_length=1)]


class ModelEntry(Record):
    """A model file of a bundle.

    Attributes:
        file: its name in the folder.
        format: "tflite" or "onnx".
        precision: as `export_tflite` names it.
        bytes: its size.
        input, output: see there.
        embedding_id: digest of all that decides whether two embeddings can be compared. Store it
            beside embeddings; those of two files of a bundle must not be mixed.
        thresholds: see there; None if neither crops nor a card were given.
        verdict: comparison with Keras, as `Verdict.to_dict` gives it.
        expected: path of the self-test's embeddings for this file, as `Expected` holds them.
    """

    file: FileName
    format: Literal["tflite", "onnx"]
    precision: Text
    bytes: Positive
    input: ModelInput
    output: ModelOutput
    embedding_id: Sha256
    thresholds: FileThresholds | None
    verdict: dict[str, pydantic.JsonValue]
    expected: MemberPath


class GoldenPhoto(Record):
    """A drawn photo with the five points of its face.

    Attributes:
        png, rgb: paths of the photo, as a PNG file and as raw bytes, row by row, RGB.
        width, height: in pixels.
        points: x and y of the left eye, the right eye, the nose, and the left and the right corner
            of the mouth, as a viewer sees them; (0, 0) is the centre of the first pixel.
    """

    png: MemberPath
    rgb: MemberPath
    width: Positive
    height: Positive
    points: Annotated[tuple[tuple[float, float], ...], Field(min_length=5, max_length=5)]


class GoldenCrop(Record):
    """A drawn face, aligned.

    Attributes:
        png, rgb: paths of the crop, as a PNG file and as raw bytes, row by row, RGB.
    """

    png: MemberPath
    rgb: MemberPath


class SelfTest(Record):
    """Images of people who do not exist, which every program must embed alike.

    Attributes:
        crops: two crops of two people.
        photo: the first face on a photo; None if the crop has no template.
    """

    crops: Annotated[tuple[GoldenCrop, ...], Field(min_length=2, max_length=2)]
    photo: GoldenPhoto | None


class Manifest(Record):
    """Manifest of a bundle, the content of its `manifest.json`.

    Attributes:
        schema_version: 1.
        name, description: of the embedder.
        made_by: package and version.
        crop: the crop that every model file takes.
        models: the model files.
        selftest: see there.
        license: the ledger of the embedder's card; empty if nothing is known.
        commercial_use: whether the ledger clears commercial use.
        commercial_obstacles: the reasons against it, one sentence each.
        lineage: from which models and data the embedder descends.
        caution: limits to know before the model is used on people.
        digests: SHA-256 of the model files and of the files of the self-test, by path.
    """

    schema_version: Literal[1]
    name: Text
    description: Text
    made_by: Text
    crop: CropSize
    models: Annotated[tuple[ModelEntry, ...], Field(min_length=1)]
    selftest: SelfTest
    license: tuple[LicenseEntry, ...]
    commercial_use: bool
    commercial_obstacles: tuple[str, ...]
    lineage: tuple[str, ...]
    caution: Text
    digests: dict[MemberPath, Sha256]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `manifest.json` holds them."""
        return self.model_dump(mode="json")


class Fault(Record):
    """The embeddings of the two golden crops under one fault of an app.

    Attributes:
        name: of the fault.
        words: what the app does.
        exact: whether an app with this fault gives exactly these embeddings. A crop that is shifted
            by another distance does not.
        crops: one embedding of unit length for each golden crop.
    """

    name: Text
    words: Text
    exact: bool
    crops: tuple[tuple[float, ...], ...]


class Expected(Record):
    """Embeddings of the self-test by one model file, all of unit length.

    Attributes:
        least_cosine: of an app's embedding of a golden crop to the expected one.
        least_cosine_photo: the same for the photo, which the app aligns.
        crops: of the golden crops.
        photo: of the photo, aligned by its points; None without a photo.
        faults: see there.
    """

    least_cosine: Share
    least_cosine_photo: Share
    crops: tuple[tuple[float, ...], ...]
    photo: tuple[float, ...] | None
    faults: tuple[Fault, ...]


def schema() -> dict[str, Any]:
    """The JSON schema of a manifest, the content of `manifest.schema.json`.

    Example:

    >>> schema()["title"]
    'Manifest'
    """
    return Manifest.model_json_schema()


def read_manifest(directory: str | os.PathLike[str]) -> Manifest:
    """Reads and checks the manifest of a bundle.

    Args:
        directory: the folder that `export_bundle` wrote.

    Raises:
        FileNotFoundError: the folder does not exist, or has no manifest.
        ValueError: the manifest is of another version, or a field is missing, unknown, of another
            type or out of its range.
    """
    directory = Path(directory)
    path = directory / MANIFEST
    if not path.is_file():
        found = "without one" if directory.is_dir() else "which is not a folder"
        raise FileNotFoundError(
            f"A bundle is a folder with a {MANIFEST}. Received: {directory}, {found}. "
            "`facemargin export --bundle DIR` writes a bundle."
        )
    return _read(Manifest, path, "a manifest", version=_VERSION)


def read_expected(directory: str | os.PathLike[str], model: ModelEntry) -> Expected:
    """Reads the embeddings of the self-test for a model file.

    Raises:
        ValueError, OSError: as `read_manifest`.
    """
    return _read(Expected, Path(directory) / model.expected, "the embeddings of a self-test")


def _read(kind: type[_Kind], path: Path, what: str, *, version: int | None = None) -> _Kind:
    text = read_text(path, what)
    try:
        record = json.loads(text, parse_constant=refuse_constant)
        if version is not None and isinstance(record, dict):
            received = record.get("schema_version", version)
            if received != version:
                raise ValueError(
                    f"{what} must have `schema_version` {version}. Received: {received!r:.100}. "
                    "Another version of keras_facemargin wrote it: use that one, or export again."
                )
        return kind.model_validate_json(text)
    except RecursionError:
        raise ValueError(f"{path}: {what} must be an object of a few levels.") from None
    except pydantic.ValidationError as error:
        raise ValueError(f"{path}: {first_problem(error, what, _WAY_OUT)}") from None
    except ValueError as error:  # json's own error is one too
        raise ValueError(f"{path}: {error}") from None
