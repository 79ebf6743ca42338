"""Protocols that need every image of a set: all pairs, BLUFR, MegaFace, Trillion Pairs, folders."""

from pathlib import Path
from typing import Annotated

import typer

from keras_facemargin.cli.alignment import note_resized
from keras_facemargin.cli.console import console, say
from keras_facemargin.cli.evaluate import kinds
from keras_facemargin.cli.evaluate.run import Protocol, to_folder, to_page_or_folder
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
    model: Model = DEFAULT,
    output: Output = Path("blufr-results"),
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
):
    """BLUFR: all of LFW in ten trials, verification of all pairs and open-set identification.

    Prints the table; writes results.json.

    Example: `facemargin evaluate blufr --lists BLUFR/config/lfw --images lfw/aligned`
    """
    from keras_facemargin.evaluate.protocols import read_blufr

    protocol = Protocol(
        "BLUFR",
        "All of LFW in ten trials.",
        {"protocol": "blufr"},
        lambda: read_blufr(lists, images, on_missing.value),
        kinds.blufr(),
    )
    to_folder(protocol, model, output, flip)


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

    protocol = Protocol(
        "MegaFace",
        "FaceScrub among Flickr's faces" + (", refined." if refined else "."),
        {"protocol": "megaface", "size": size, "refined": refined},
        lambda: read_megaface(lists, images, size, refined, on_missing.value),
        kinds.megaface(),
    )
    to_page_or_folder(protocol, model, output, flip, report)


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
    listed, missing = read_trillion_pairs(lists, images, on_missing.value)
    prepare_file("--output", output, ".bin")
    rows, columns = write_trillion_pairs(embedder, listed, output, missing, flip)
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

    protocol = Protocol(
        "1:N",
        f"The images of {probes} searched in {gallery}.",
        {"gallery": str(gallery), "probes": str(probes)},
        lambda: searches_of_folders(image_files([gallery]), image_files([probes])),
        kinds.searches_of_folders(),
    )
    to_page_or_folder(protocol, model, output, flip, report)


def every_pair(
    faces: Annotated[
        Path, typer.Argument(help="A .npz file that embed wrote; or aligned crops, a folder each.")
    ],
    model: Model = DEFAULT,
    output: Output = Path("all-pairs-results"),
    flip: Flip = True,
    report: ReportFile = None,
):
    """Every pair of a set of faces, exactly: EER and TAR at FAR 1e-1 to 1e-8.

    Who is on an image is the name of the folder that it lies in; a .npz file may hold `labels` (N,)
    of its own. Prints the table and writes results.json, or one page with intervals. Of a .npz
    file the work for results.json is saved in state.npz meanwhile: after an interruption the same
    command goes on.

    Example: `facemargin evaluate all-pairs embeddings.npz`
    """
    from keras_facemargin.data.whole import write_json
    from keras_facemargin.evaluate import embed, verify_all_pairs
    from keras_facemargin.zoo import load_embedder

    if report is not None:
        prepare_file("--report", report, ".html")
    record, state, paths = {"faces": str(faces)}, None, None
    if faces.suffix == ".npz" and not faces.is_dir():
        embeddings, labels = _read_embeddings(faces)
        state = output / "state.npz"
    else:
        embedder, paths = load_embedder(model), image_files([faces])
        embeddings, labels = embed(embedder, paths, flip=flip), [path.parent.name for path in paths]
        note_resized(paths, embedder)
        record |= {"model": model, "flip": flip}
    if report is not None:
        from keras_facemargin.report import report_all_pairs

        name = faces.name if paths is None else model
        report_all_pairs(report, f"All pairs of {faces.name}", name, embeddings, labels, paths)
        say(f"{report}, {report.with_suffix('.json').name}")
        return
    output.mkdir(parents=True, exist_ok=True)
    result = verify_all_pairs(embeddings, labels, state=state)
    console.print(result)
    record |= result.to_dict()
    write_json(output / "results.json", record)
    say(f"{output}/results.json")


def _read_embeddings(file):
    """`embeddings` and whose they are, from what the command embed writes."""
    import zipfile

    import numpy as np

    try:
        with file.open("rb") as stream:
            arrays = dict(np.load(stream, allow_pickle=False))
        embeddings = arrays["embeddings"]
        if "labels" in arrays:
            return embeddings, arrays["labels"]
        return embeddings, [Path(path).parent.name for path in arrays["paths"].tolist()]
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            "Embeddings must be a .npz file with `embeddings` and `paths` (or `labels`), as "
            f"`facemargin embed` writes it. Received: {file} ({error})"
        ) from error
