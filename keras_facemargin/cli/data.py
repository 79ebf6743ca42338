"""Sets of faces: `fetch`, `pack`, `check-data`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from keras_facemargin.cli.console import console, say
from keras_facemargin.cli.files import prepare_file
from keras_facemargin.cli.options import DEFAULT, Model

LfwImages = StrEnum("LfwImages", ["funneled", "original"])


def fetch_lfw(
    directory: Annotated[Path, typer.Argument(help="Folder to fill.")],
    images: Annotated[
        LfwImages, typer.Option(help="funneled, or the photos before funneling.")
    ] = LfwImages.funneled,
):
    """Fetch Labeled Faces in the Wild and its lists: 240 MB of photos, for research.

    A second run goes on where the first was stopped. Sets that are given on application only are
    described in docs/datasets.md.

    Example: `facemargin fetch lfw lfw`
    """
    from keras_facemargin.data.fetch import fetch_lfw

    photos = fetch_lfw(directory, images=images.value)
    say(f"{photos}: photos, not aligned yet: facemargin align {photos} {directory}/aligned")


def pack(
    source: Annotated[
        Path, typer.Argument(help="Folder, .rec, .tfrecord, list (.csv, .lst) or CelebA's .txt.")
    ],
    destination: Annotated[Path, typer.Argument(help="The same, which must not be there yet.")],
    images: Annotated[
        Path | None,
        typer.Option(help="Folder that the paths of a list start from and must stay in."),
    ] = None,
    shards: Annotated[int, typer.Option(min=1, help="Files of a .tfrecord.")] = 1,
):
    """Copy labelled face crops from one container into another, byte for byte.

    An image that is not a face crop is skipped, counted and listed in DESTINATION.skipped.csv.
    Identities that are whole numbers are sorted by value, others by code point. After an
    interruption the same command continues and ends with the same bytes.

    Example: `facemargin pack facemargin-demo/faces-64x12-seed0 train.rec`
    """
    from keras_facemargin.data import pack_faces

    packed = pack_faces(source, destination, images=images, shards=shards)
    say(f"{destination}: {packed.images:,} images of {packed.identities:,} identities")
    if packed.skipped:
        table = Table(Column("Skipped", justify="right"), "because")
        for reason, count in packed.reasons().items():
            table.add_row(f"{count:,}", escape(reason))
        console.print(table)
        say(f"Each is listed in {destination}.skipped.csv.")


def check_data(
    faces: Annotated[Path, typer.Argument(help="Folder, .rec or .tfrecord of labelled crops.")],
    against: Annotated[
        Path | None, typer.Option(help="Test set that nobody of the first may be in.")
    ] = None,
    model: Model = DEFAULT,
    duplicates: Annotated[
        float, typer.Option(min=-0.99, max=1, help="Cosine of two images that are nearly one.")
    ] = 0.9,
    people: Annotated[
        float,
        typer.Option(min=-0.99, max=1, help="Cosine of two identities' means that are one person."),
    ] = 0.7,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Picture of what is doubtful, .png.")
    ] = Path("check-data.png"),
):
    """Find wrong labels, duplicates and people with two labels in a set, from its embeddings.

    Bad files are named and left out first. An embedder errs, and the thresholds are the default
    one's: look at the picture before you remove anything.

    Example: `facemargin check-data facemargin-demo/faces-64x12-seed0`
    """
    import numpy as np

    from keras_facemargin.audit import (
        draw_audit,
        label_noise,
        near_duplicates,
        shared_identities,
        shared_images,
    )
    from keras_facemargin.data import open_faces
    from keras_facemargin.evaluate import embed
    from keras_facemargin.zoo import load_embedder

    embedder = load_embedder(model)
    side = embedder.input_shape[1] or 112
    sets = [open_faces(each, side, "skip") for each in (faces, against) if each is not None]
    prepare_file("--output", output, ".png")
    ours, theirs = sets[0], sets[-1]
    embeddings = [embed(embedder, each.paths) for each in sets]
    noise = label_noise(embeddings[0], ours.labels)
    pairs = near_duplicates(embeddings[0], ours.labels, duplicates)
    twins = shared_identities(embeddings[0], ours.labels, people)
    table = Table("Found", Column("number", justify="right"), "of", "at cosine")
    table.add_row("Bad files, left out", f"{len(ours.skipped):,}", f"{len(ours):,} others", "-")
    table.add_row(
        "Images nearer to another identity",
        f"{len(noise.suspects):,}",
        f"{len(ours):,} images",
        f"median: own {np.nanmedian(noise.own):.2f}, next {np.median(noise.other):.2f}",
    )
    for words, count in (
        ("Pairs of nearly one image, one identity", pairs.same.sum()),
        ("Pairs of nearly one image, two identities", (~pairs.same).sum()),
    ):
        table.add_row(words, f"{count:,}", f"{len(ours):,} images", f"{duplicates:g}")
    what = f"{ours.num_classes:,} identities"
    table.add_row("Pairs of identities that look like one", f"{len(twins):,}", what, f"{people:g}")
    listed = [("Two labels, one person?", twins)]
    if against is not None:
        rows = [embeddings[1], theirs.labels]
        common = shared_identities(embeddings[0], ours.labels, people, rows)
        leaked = shared_images(*embeddings, duplicates)
        what = f"{theirs.num_classes:,} of {against}"
        table.add_row("People also in the test set", f"{len(common):,}", what, f"{people:g}")
        what = f"{len(theirs):,} of {against}"
        table.add_row("Images also in the test set", f"{len(leaked):,}", what, f"{duplicates:g}")
        listed.append(("In both sets?", common))
    console.print(table)
    for words, found in listed:
        others = theirs if words.startswith("In") else ours
        for first, second, cosine in list(
            zip(found.first, found.second, found.cosine, strict=True)
        )[:10]:
            say(f"{words} {ours.identities[first]}, {others.identities[second]}: {cosine:.3f}")
    draw_audit(ours, noise, pairs, output)
    say(f"{output}: the worst of them, to look at.")
