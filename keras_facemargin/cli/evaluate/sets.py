"""Protocols that need every image of a set: BLUFR, MegaFace, Trillion Pairs, folders."""

from pathlib import Path
from typing import Annotated

import typer

from keras_facemargin.cli.console import say
from keras_facemargin.cli.evaluate import tasks
from keras_facemargin.cli.evaluate.run import EvaluationRun, to_page_or_folder
from keras_facemargin.cli.files import image_files, prepare_file
from keras_facemargin.cli.options import (
    DEFAULT,
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
    model: Models = (DEFAULT,),
    output: Output = Path("blufr-results"),
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
    report: ReportFile = None,
):
    """BLUFR: all of LFW in ten trials, verification of all pairs and open-set identification.

    Prints the table; writes results.json, or one page with intervals, curves and pictures.

    Example: `facemargin evaluate blufr --lists BLUFR/config/lfw --images lfw/aligned`
    """
    from keras_facemargin.evaluate.protocols import read_blufr

    run = EvaluationRun(
        "BLUFR",
        "All of LFW in ten trials: every pair of a trial's test images, and its probes searched in "
        "its gallery.",
        {"protocol": "blufr"},
        lambda: read_blufr(lists, images, on_missing=on_missing.value),
        tasks.blufr(),
    )
    to_page_or_folder(run, model, output, flip, report)


def megaface(
    lists: Annotated[Path, typer.Option(help="Folder of the devkit's lists.")],
    images: Annotated[
        Path, typer.Option(help="Folder with facescrub_images and megaface_images, aligned.")
    ],
    size: Annotated[int, typer.Option(help="Number of distractors: 10, 100, ... 1000000.")] = (
        1_000_000
    ),
    refined: Annotated[
        bool, typer.Option("--refined", help="Leave out what InsightFace's lists call wrong.")
    ] = False,
    model: Models = (DEFAULT,),
    output: Output = Path("megaface-results"),
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
    report: ReportFile = None,
):
    """MegaFace: FaceScrub among distractors, rank-1 and TAR at FAR 1e-6.

    Figures with and without --refined are not comparable. Prints the table; writes results.json,
    or one page with intervals, curves and pictures.

    Example: `facemargin evaluate megaface --lists templatelists --images testpack --refined`
    """
    from keras_facemargin.evaluate.protocols import read_megaface

    run = EvaluationRun(
        "MegaFace",
        "FaceScrub among Flickr's faces" + (", refined." if refined else "."),
        {"protocol": "megaface", "size": size, "refined": refined},
        lambda: read_megaface(
            lists, images, size=size, refined=refined, on_missing=on_missing.value
        ),
        tasks.megaface(),
    )
    to_page_or_folder(run, model, output, flip, report)


def trillion_pairs(
    lists: Annotated[Path, typer.Option(help="Folder with testdata_lmk.txt.")],
    images: Images,
    output: Annotated[Path, typer.Option("--output", "-o", help=".bin file to write.")] = Path(
        "trillion-pairs.bin"
    ),
    model: Model = DEFAULT,
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
):
    """Trillion Pairs: the file of features to send, whose truth the organisers keep.

    Example: `facemargin evaluate trillion-pairs --lists . --images testdata -o features.bin`
    """
    from keras_facemargin.evaluate.protocols import read_trillion_pairs, write_trillion_pairs
    from keras_facemargin.zoo import load_embedder

    embedder = load_embedder(model)
    listed, missing = read_trillion_pairs(lists, images, on_missing=on_missing.value)
    prepare_file("--output", output, ".bin")
    rows, columns = write_trillion_pairs(embedder, listed, output, missing=missing, flip=flip)
    say(f"{output}: {rows:,} rows of {columns} numbers")


def identification(
    gallery: Annotated[Path, typer.Option(help="Aligned crops of known people, a folder each.")],
    probes: Annotated[Path, typer.Option(help="Aligned crops to search, a folder a person.")],
    model: Models = (DEFAULT,),
    output: Output = Path("identification-results"),
    flip: Flip = True,
    report: ReportFile = None,
):
    """1:N on folders: each probe image searched among the templates of the gallery's people.

    A person of the gallery is one template, the mean of the images. Who is on an image is the name
    of the folder that it lies in; probes of people without a folder in the gallery are the
    non-mated ones, which TPIR at FPIR needs. Prints the table; writes results.json,
    or one page with intervals, curves and pictures.

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
    to_page_or_folder(run, model, output, flip, report)
