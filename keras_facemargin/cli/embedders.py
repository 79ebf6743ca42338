"""Embedders as they are published: `export`, `calibrate`, `zoo`."""

import dataclasses
import json
import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from keras_facemargin.cli.alignment import note_unaligned
from keras_facemargin.cli.console import console, say
from keras_facemargin.cli.files import image_files, prepare_file
from keras_facemargin.cli.options import DEFAULT, Flip, Model

Precision = StrEnum("Precision", ["float32", "float16", "dynamic_int8", "int8"])


def export(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write, ending in .tflite or .onnx.")
    ],
    model: Model = DEFAULT,
    precision: Annotated[Precision, typer.Option(help="Of a TFLite file.")] = Precision.float32,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Aligned faces to judge by, and to calibrate int8 with; default: faces "
            "of people who do not exist."
        ),
    ] = None,
):
    """Export an embedder to TFLite or ONNX, and compare the file with Keras before it counts.

    Example: `facemargin export --precision int8 --output embedder.tflite`
    """
    import numpy as np

    from keras_facemargin.data import read_face, synthesize_faces
    from keras_facemargin.export import export_onnx, export_tflite
    from keras_facemargin.zoo import load_embedder

    to_onnx = output.suffix == ".onnx"
    if to_onnx and precision is not Precision.float32:
        raise ValueError(
            "An ONNX file is written in float32. "
            f"Received: --precision {precision.value}. Quantise it with onnxruntime, or export "
            "to .tflite."
        )
    embedder = load_embedder(model)
    prepare_file("--output", output, ".tflite", ".onnx")
    if images is None:
        pixels, _ = synthesize_faces(64, 2)
    else:
        paths = image_files([images])
        spread = paths[:: math.ceil(len(paths) / 256)]  # each person has a share
        pixels = np.stack([read_face(path, embedder.input_shape[1] or 112) for path in spread])
    if to_onnx:
        verdict = export_onnx(embedder, output, pixels)
    else:
        verdict = export_tflite(embedder, output, precision.value, pixels)
    say(str(verdict))


def calibrate(
    faces: Annotated[
        Path, typer.Argument(help="Folder, .rec or .tfrecord of labelled crops to calibrate on.")
    ],
    card: Annotated[Path, typer.Option(help="card.json, its weights beside it.")],
    far: Annotated[
        float, typer.Option(help="Share of the pairs of two people that may be accepted.")
    ] = 1e-3,
    flip: Flip = True,
):
    """Choose the threshold for a false accept rate and write it into an embedder's card.

    Every pair of the faces counts. They should be of people whom the embedder was neither trained
    on nor will be tested on. A rate that the pairs cannot show is refused.

    Example: `facemargin calibrate facemargin-demo/faces-64x12-seed0 --card my_embedder/card.json`
    """
    from keras_facemargin.data import open_faces
    from keras_facemargin.evaluate import embed
    from keras_facemargin.zoo import calibrate, load_weights, read_card, write_card

    if not 0 < far < 1:
        raise ValueError(f"--far must be a rate in (0, 1). Received: {far}")
    old, embedder = read_card(card), load_weights(card)
    people = open_faces(faces, embedder.input_shape[1] or 112)
    note_unaligned(people)
    about = f"all pairs of {len(people):,} images of {people.num_classes:,} people, {faces.name}"
    embeddings = embed(embedder, people.paths, flip=flip)
    new = calibrate(embeddings, people.labels, far, flip, about)
    write_card(card, dataclasses.replace(old, threshold=new))
    table = Table("Threshold", Column("before", justify="right"), Column("now", justify="right"))
    for words, name, form in (
        ("Cosine", "cosine", ".4f"),
        ("False accept rate", "far", "g"),
        ("Impostor pairs", "impostor_pairs", ",d"),
        ("Genuine pairs", "genuine_pairs", ",d"),
        ("Genuine pairs accepted", "tar", ".2%"),
    ):
        table.add_row(words, *(f"{getattr(each, name):{form}}" for each in (old.threshold, new)))
    console.print(table)
    say(f"{card}: {new.data}")


def zoo(
    name: Annotated[str | None, typer.Argument(help="Print this embedder's whole card.")] = None,
):
    """List the embedders that come with the package, or print one's card.

    Example: `facemargin zoo spherenet_distilled`
    """
    from keras_facemargin.zoo import list_embedders, load_card

    if name is not None:
        console.print_json(json.dumps(load_card(name).to_dict()))
        return
    table = Table(
        Column("Embedder", no_wrap=True),
        "Weights",
        "D",
        "LFW 10-fold",
        "Threshold",
        "Commercial use",
    )
    for known in list_embedders():
        card = load_card(known)
        result = card.protocols.get("lfw")
        table.add_row(
            card.name,
            f"{card.parameters / 1e6:.2f} M",
            str(card.embedding_dim),
            "-" if result is None else f"{result.accuracy:.2%} ± {result.standard_error:.2%}",
            f"{card.threshold.cosine:.3f} at FAR {card.threshold.far:g}",
            "cleared" if card.licence.commercial_use else "not cleared",
        )
    console.print(table)
