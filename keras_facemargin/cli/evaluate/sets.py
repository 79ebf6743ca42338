"""Protocols that need every image of a set: BLUFR, MegaFace, Trillion Pairs, folders."""

from pathlib import Path
from typing import Annotated

import typer

from keras_facemargin.cli.console import say
from keras_facemargin.cli.evaluate import tasks
from keras_facemargin.cli.evaluate.run import EvaluationRun, to_page_or_folder
from keras_facemargin.cli.files import image_files, prepare_file
from keras_facemargin.cli.opening import ModelOptions, open_model
from keras_facemargin.cli.options import (
    DEFAULT,
    DEFAULT_MODELS,
    FileCrop,
    FilePixels,
    Flip,
    Images,
    Model,
    Models,
    OnMissing,
    OnMissingImage,
    Output,
    ReportFile,
)


def blufr(
    lists: Annotated[Path, typer.Option(help="Folder with blufr_lfw_config.mat.")],
    images: Annotated[Path, typer.Option(help="Folder of aligned crops: NAME/NAME_0001.jpg.")],
    model: Models = DEFAULT_MODELS,
    crop: FileCrop = None,
    pixels: FilePixels = None,
    output: Output = Path("blufr-results"),
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
    report: ReportFile = None,
) -> None:
    """BLUFR: all of LFW in ten trials, verification of all pairs and open-set identification.

    Prints a table and writes results.json, or with --report one page with intervals, curves and
    pictures.

    Example: `facemargin evaluate blufr --lists BLUFR/config/lfw --images lfw/aligned`
    """
    from keras_facemargin.evaluate.protocols import read_blufr

    run = EvaluationRun(
        "BLUFR",
        "All of LFW in ten trials: all pairs of the test images of a trial, and searches of its "
        "probes in its gallery.",
        {"protocol": "blufr"},
        lambda: read_blufr(lists, images, on_missing=on_missing.value),
        tasks.blufr(),
    )
    to_page_or_folder(
        run, ModelOptions(model, crop, pixels), output=output, flip=flip, report=report
    )


def megaface(
    lists: Annotated[Path, typer.Option(help="Folder of MegaFace's lists.")],
    images: Annotated[
        Path, typer.Option(help="Folder with facescrub_images and megaface_images, aligned.")
    ],
    size: Annotated[int, typer.Option(help="Number of distractors: 10, 100, ... 1000000.")] = (
        1_000_000
    ),
    refined: Annotated[
        bool,
        typer.Option("--refined", help="Leave out the images that InsightFace's lists call wrong."),
    ] = False,
    model: Models = DEFAULT_MODELS,
    crop: FileCrop = None,
    pixels: FilePixels = None,
    output: Output = Path("megaface-results"),
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
    report: ReportFile = None,
) -> None:
    """MegaFace: FaceScrub among distractors, rank-1 and TAR at FAR 1e-6.

    Results with and without --refined are not comparable. Prints a table and writes results.json,
    or with --report one page with intervals, curves and pictures.

    Example: `facemargin evaluate megaface --lists templatelists --images testpack --refined`
    """
    from keras_facemargin.evaluate.protocols import read_megaface

    run = EvaluationRun(
        "MegaFace",
        "FaceScrub among distractors from Flickr" + (", refined." if refined else "."),
        {"protocol": "megaface", "size": size, "refined": refined},
        lambda: read_megaface(
            lists, images, size=size, refined=refined, on_missing=on_missing.value
        ),
        tasks.megaface(),
    )
    to_page_or_folder(
        run, ModelOptions(model, crop, pixels), output=output, flip=flip, report=report
    )


def trillion_pairs(
    lists: Annotated[Path, typer.Option(help="Folder with testdata_lmk.txt.")],
    images: Images,
    output: Annotated[Path, typer.Option("--output", "-o", help=".bin file to write.")] = Path(
        "trillion-pairs.bin"
    ),
    model: Model = DEFAULT,
    crop: FileCrop = None,
    pixels: FilePixels = None,
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
) -> None:
    """Trillion Pairs: writes the file of features to send in; the organisers keep the labels.

    Example: `facemargin evaluate trillion-pairs --lists . --images testdata -o features.bin`
    """
    from keras_facemargin.evaluate.protocols import read_trillion_pairs, write_trillion_pairs

    embedder = open_model(model, crop, pixels)
    listed, missing = read_trillion_pairs(lists, images, on_missing=on_missing.value)
    prepare_file("--output", output, ".bin")
    rows, columns = write_trillion_pairs(embedder, listed, output, missing=missing, flip=flip)
    say(f"{output}: {rows:,} rows of {columns} numbers")


def identification(
    gallery: Annotated[
        Path, typer.Option(help="Aligned crops of known people, one folder for each.")
    ],
    probes: Annotated[
        Path, typer.Option(help="Aligned crops to search, one folder for each person.")
    ],
    model: Models = DEFAULT_MODELS,
    crop: FileCrop = None,
    pixels: FilePixels = None,
    output: Output = Path("identification-results"),
    flip: Flip = True,
    report: ReportFile = None,
) -> None:
    """1:N on folders: searches each probe image in the gallery.

    The gallery has one template for each person, the mean of the images. The name of a folder is
    the name of the person. Probes of people who have no folder in the gallery are non-mated; TPIR
    at FPIR needs them. Prints a table and writes results.json, or with --report one page with
    intervals, curves and pictures.

    Example: `facemargin evaluate identification --gallery known --probes searched`
    """
    from keras_facemargin.evaluate import searches_of_folders

    run = EvaluationRun(
        "1:N",
        f"The images of {probes} searched in {gallery}.",
        {"gallery": str(gallery), "probes": str(probes)},
        lambda: searches_of_folders(image_files([gallery]), image_files([probes])),
        tasks.searches_of_folders(),
    )
    to_page_or_folder(
        run, ModelOptions(model, crop, pixels), output=output, flip=flip, report=report
    )
