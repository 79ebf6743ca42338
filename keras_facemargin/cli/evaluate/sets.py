"""Protocols that need every image of a set: BLUFR, MegaFace, Trillion Pairs, folders."""

from pathlib import Path
from typing import Annotated

import typer

from keras_facemargin.cli.console import say, show_table
from keras_facemargin.cli.evaluate import tasks
from keras_facemargin.cli.evaluate.run import EvaluationRun, show, to_page_or_folder
from keras_facemargin.cli.files import (
    image_files,
    prepare_file,
    prepare_folder,
    prepare_page,
    printable,
)
from keras_facemargin.cli.opening import ModelOptions, open_model
from keras_facemargin.cli.options import (
    DEFAULT,
    DEFAULT_MODELS,
    FileCrop,
    FilePixels,
    FilesCrop,
    FilesPixels,
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
    crop: FilesCrop = None,
    pixels: FilesPixels = None,
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
    crop: FilesCrop = None,
    pixels: FilesPixels = None,
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
        Path,
        typer.Option(
            help="Aligned crops of known people, one folder for each; or a .npz file that "
            "`facemargin embed` wrote."
        ),
    ],
    probes: Annotated[
        Path,
        typer.Option(
            help="Aligned crops to search, one folder for each person; or such a .npz file."
        ),
    ],
    model: Models = DEFAULT_MODELS,
    crop: FilesCrop = None,
    pixels: FilesPixels = None,
    output: Output = Path("identification-results"),
    flip: Flip = True,
    report: ReportFile = None,
) -> None:
    """1:N on folders: searches each probe image in the gallery.

    The gallery has one template for each person, the mean of the images. The name of a folder is
    the name of the person. Probes of people who have no folder in the gallery are non-mated; TPIR
    at FPIR needs them. Two .npz files must be of one embedder. Prints a table and writes
    results.json, or with --report one page with intervals, curves and pictures.

    Example: `facemargin evaluate identification --gallery known --probes searched`
    """
    from keras_facemargin.evaluate import searches_of_folders

    files = [each for each in (gallery, probes) if each.suffix == ".npz" and not each.is_dir()]
    if len(files) == 1:
        raise ValueError(
            "The gallery and the probes must both be folders, or both .npz files. Received: "
            f"--gallery {gallery} --probes {probes}"
        )
    if files:
        _search_files(gallery, probes, output, report)
        return
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


def _search_files(gallery: Path, probes: Path, output: Path, report: Path | None) -> None:
    """1:N on two files of embeddings."""
    from keras_facemargin.evaluate.saved import read_embeddings, require_one_embedder
    from keras_facemargin.evaluate.templates import search_embeddings
    from keras_facemargin.files import write_json

    known, searched = read_embeddings(gallery), read_embeddings(probes)
    require_one_embedder(known, searched)
    model = known.model or "embedder"
    if report is None:
        prepare_folder(output, "results.json")
        _, result = search_embeddings(known, searched)
        show_table(result)
        record = {"gallery": str(gallery), "probes": str(probes), "model": model}
        write_json(
            output / "results.json",
            {**record, "embedding_id": known.embedding_id, **result.to_dict()},
        )
        say(f"{output}/results.json")
        return
    for each in (known, searched):
        missing = [path for path in each.paths or () if not path.is_file()]
        if each.paths is None or missing:
            lack = f"whose image {missing[0]} is missing" if missing else "which names no images"
            raise ValueError(
                f"--report shows images of the searches. Received: {each.file}, {lack}. Leave "
                "--report out: --output names a folder for the results."
            )
    prepare_page(report)
    task, result = search_embeddings(known, searched)
    about = [f"The images of {probes} searched in {gallery}.", f"Embeddings of {known}."]
    show(tasks.searches().page(report, "1:N", task, {printable(model): result}, about), report)
