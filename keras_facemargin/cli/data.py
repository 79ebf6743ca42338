"""Commands for sets of faces: `fetch`, `pack`, `check-data`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from keras_facemargin.cli.console import say, show_table
from keras_facemargin.cli.files import prepare_file
from keras_facemargin.cli.opening import open_model
from keras_facemargin.cli.options import (
    DEFAULT,
    CropSize,
    FileCrop,
    FilePixels,
    Model,
    read_size,
)

LfwImages = StrEnum("LfwImages", ["funneled", "original"])


def fetch_lfw(
    directory: Annotated[Path, typer.Argument(help="Folder to fill.")],
    images: Annotated[
        LfwImages, typer.Option(help="funneled, or the photos before funneling.")
    ] = LfwImages.funneled,
) -> None:
    """Fetch Labeled Faces in the Wild and its lists: 240 MB of photos, for research.

    A second run resumes an interrupted download. docs/datasets.md describes sets that are available
    on application only.

    Example: `facemargin fetch lfw lfw`
    """
    from keras_facemargin.data.fetch import fetch_lfw

    photos = fetch_lfw(directory, images=images.value)
    say(f"{photos}: photos. To align them: facemargin align {photos} {directory}/aligned")


def pack(
    source: Annotated[
        Path, typer.Argument(help="Folder, .rec, .tfrecord, list (.csv, .lst) or CelebA's .txt.")
    ],
    destination: Annotated[
        Path, typer.Argument(help="A container of the same kinds; it must not exist.")
    ],
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the images of a list; their paths start from it."),
    ] = None,
    shards: Annotated[int, typer.Option(min=1, help="Number of files of a .tfrecord.")] = 1,
    size: CropSize = "112",
) -> None:
    """Copy labelled face crops from one container into another, byte for byte.

    Images that are not face crops are skipped, counted and listed in DESTINATION.skipped.csv.
    Identities are sorted by name, whole numbers by value. After an interruption the same command
    continues and ends with the same bytes.

    Example: `facemargin pack facemargin-demo/faces-64x12-seed0 train.rec`
    """
    from keras_facemargin.data import pack_faces

    packed = pack_faces(
        source, destination, images=images, shards=shards, image_size=read_size(size)
    )
    say(f"{destination}: {packed.images:,} images of {packed.identities:,} identities")
    if packed.skipped:
        table = Table(Column("Skipped", justify="right"), "Reason")
        for reason, count in packed.reasons().items():
            table.add_row(f"{count:,}", escape(reason))
        show_table(table)
        say(f"{destination}.skipped.csv lists them.")


def check_data(
    faces: Annotated[Path, typer.Argument(help="Folder, .rec or .tfrecord of labelled crops.")],
    against: Annotated[
        Path | None, typer.Option(help="Test set; it must not share a person with the first.")
    ] = None,
    model: Model = DEFAULT,
    crop: FileCrop = None,
    pixels: FilePixels = None,
    duplicates: Annotated[
        float,
        typer.Option(min=-0.99, max=1, help="Cosine from which two images count as duplicates."),
    ] = 0.9,
    people: Annotated[
        float,
        typer.Option(
            min=-0.99, max=1, help="Cosine from which two identities count as one person."
        ),
    ] = 0.7,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Picture of the doubtful images, .png.")
    ] = Path("check-data.png"),
) -> None:
    """Find wrong labels, duplicates and people with two labels in a set, from its embeddings.

    Bad files are reported and skipped first. An embedder makes errors, and the thresholds fit the
    default one: look at the picture before you remove images.

    Example: `facemargin check-data facemargin-demo/faces-64x12-seed0`
    """
    from keras_facemargin.audit import audit_faces, draw_audit
    from keras_facemargin.data import open_faces
    from keras_facemargin.evaluate import embed

    embedder = open_model(model, crop, pixels)
    sets = [
        open_faces(each, image_size=embedder.crop, on_bad="skip")
        for each in (faces, against)
        if each is not None
    ]
    prepare_file("--output", output, ".png")
    ours, *other = [(each, embed(embedder, each.paths)) for each in sets]
    audit = audit_faces(
        *ours,
        against=other[0] if other else None,
        duplicate_cosine=duplicates,
        person_cosine=people,
    )
    show_table(audit)
    for sentence in audit.sentences():
        say(sentence)
    draw_audit(audit, output)
    say(f"{output}: the most doubtful images, to look at.")
