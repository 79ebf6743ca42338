"""Embedders for deployment: `export`, `calibrate`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.table import Column, Table

from keras_facemargin.cli.alignment import note_unaligned
from keras_facemargin.cli.console import say, show_table
from keras_facemargin.cli.files import image_files, prepare_file
from keras_facemargin.cli.opening import open_model
from keras_facemargin.cli.options import (
    DEFAULT,
    FileCrop,
    FilePixels,
    Model,
    OnMissing,
    OnMissingPair,
)
from keras_facemargin.export.formats import CONTAINERS, NAMES, find_format, format_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from keras_facemargin.data.faces import Faces
    from keras_facemargin.zoo import FaceQuality, Thresholds


def export(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write; or folder, ending in .savedmodel or .openvino.",
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write instead: model files with their manifest, self-test, and code "
            "for Android, iOS, the web and Python."
        ),
    ] = None,
    model: Model = DEFAULT,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help=f"Kind and precision of the file: {', '.join(NAMES)}. With --bundle repeat it for "
            "several files. Default: float32, of the kind that the ending of --output names; in a "
            "bundle TFLite and ONNX.",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Aligned faces to compare on; they also set the ranges of int8 and int16x8. "
            "Default: synthetic faces."
        ),
    ] = None,
    tune: Annotated[
        Path | None,
        typer.Option(
            help="More aligned faces, for an int8 file: a copy of the network trains on them with "
            "the rounding inside, at most 2,000, without labels."
        ),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="Crops of people whom the embedder was not trained on, one folder a person: "
            "decisions before and after the export. In a bundle every file gets thresholds of its "
            "own; without it they are those of the card."
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="With --calibrate: LFW's pairs.txt, for the accuracy over its folds before and "
            "after."
        ),
    ] = None,
    on_missing: OnMissingPair = OnMissing.refuse,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", help="Page of the verdict to write, *.html; a .json is beside it."
        ),
    ] = None,
) -> None:
    """Export an embedder to TFLite, ONNX, SavedModel or OpenVINO, and compare it with Keras.

    With --bundle the folder has all that an app needs; the command bundle check verifies it, and
    the program of the app.

    Example: `facemargin export --format tflite-int8 --output embedder.tflite`
    """
    from keras_facemargin.evaluate import read_pairs
    from keras_facemargin.export.costs import with_costs
    from keras_facemargin.export.decisions import with_decisions
    from keras_facemargin.export.page import write_verdicts
    from keras_facemargin.export.write import export_embedder
    from keras_facemargin.files import write_json
    from keras_facemargin.zoo import find_card, load_embedder

    if (output is None) == (bundle is None):
        received = "neither" if output is None else f"--output {output} and --bundle {bundle}"
        raise ValueError(
            "The export needs either --output FILE, for one file, or --bundle DIR, for a folder. "
            f"Received: {received}"
        )
    if pairs is not None and calibrate is None:
        raise ValueError(
            "--pairs needs the images of the list. Received: --pairs without --calibrate. Name "
            "their folder with --calibrate."
        )
    if output is None:
        if pairs is not None or report is not None:
            raise ValueError(
                "--pairs and --report are for one file. Received: --bundle, whose folder has the "
                "page verdict.html. Leave them out, or name a file with --output."
            )
        _export_bundle(cast(Path, bundle), model, formats, images, tune, calibrate)
        return
    precision = _precision(output, formats)
    if report is not None:
        prepare_file("--report", report, ".html")
    embedder = load_embedder(model)
    if not format_of(output, precision).container.folder:
        prepare_file("--output", output, *CONTAINERS)
    people = None if calibrate is None else _open_people(calibrate, embedder)
    listed = None
    if pairs is not None:
        listed = read_pairs(pairs, cast(Path, calibrate), on_missing=on_missing.value)
    pixels = _test_images(embedder, images)
    verdict = export_embedder(
        embedder,
        output,
        precision=precision,
        images=pixels,
        tune=_tuning_images(embedder, tune),
        progress=True,
    )
    verdict = with_costs(verdict)
    if people is not None:
        verdict = with_decisions(verdict, embedder, people, pairs=listed)
    say(str(verdict))
    if listed is not None and (lost := int(listed.failed_to_enrol.sum())):
        say(f"  missing images   {lost:,} of the {len(listed.same):,} listed pairs are rejected")
    if report is not None:
        write_verdicts(report, model, [verdict])
        write_json(report.with_suffix(".json"), verdict.to_dict())
        say(f"{report}, {report.with_suffix('.json').name}")
    card = find_card(model)
    if card is None or card.thresholds is None:
        say("  threshold        none: `facemargin calibrate FACES` writes one into a card")
    else:
        of = "" if precision == "float32" else ", of the Keras embedder"
        say(f"  threshold        cosine {card.thresholds.find(mirrored=False)}, image alone{of}")


def _precision(output: Path, formats: list[str] | None) -> str:
    """The precision of the one file; its kind must be that of its ending."""
    if not formats:
        return format_of(output).precision
    chosen = find_format(formats[-1])
    own = chosen.container.suffix
    if len(formats) > 1 or output.suffix.lower() != own:
        raise ValueError(
            "--output is one file of one --format, whose kind its ending names. Received: "
            f"--output {output} and {' '.join(f'--format {each}' for each in formats)}. "
            f"Write --output {output.with_suffix(own)} --format {chosen.name}, or several files "
            "with --bundle."
        )
    return chosen.precision


def _bundled(formats: list[str] | None) -> dict[str, str]:
    """Model file of a bundle -> precision. The first file of a kind has the plain name."""
    from keras_facemargin.export.bundle.write import FILES

    files: dict[str, str] = {}
    for each in formats or ():
        chosen = find_format(each)
        name = f"embedder{chosen.container.suffix}"
        if name in files:
            name = f"embedder_{chosen.precision}{chosen.container.suffix}"
        files[name] = chosen.precision
    return files or dict(FILES)


def _export_bundle(
    directory: Path,
    model: str,
    formats: list[str] | None,
    images: Path | None,
    tune: Path | None,
    calibrate: Path | None,
) -> None:
    from keras_facemargin.export import export_bundle
    from keras_facemargin.files import check_unused
    from keras_facemargin.zoo import find_card, load_embedder
    from keras_facemargin.zoo.parts import nearest_far

    check_unused(directory)
    embedder = load_embedder(model)
    people = None if calibrate is None else _open_people(calibrate, embedder)
    manifest = export_bundle(
        embedder,
        directory,
        files=_bundled(formats),
        card=find_card(model),
        images=_test_images(embedder, images),
        tune=_tuning_images(embedder, tune),
        people=people,
        progress=True,
    )
    table = Table("file", "precision", "MB", "least cosine to Keras", "threshold", "FAR", "of")
    for one in manifest.models:
        found = one.thresholds
        chosen = None if found is None else nearest_far(found.single)
        table.add_row(
            one.file,
            one.precision,
            f"{one.bytes / 1e6:.2f}",
            f"{one.verdict['cosine_min']:.6f}",
            *(
                ("none", "-", "-")
                if found is None or chosen is None
                else (f"{chosen.cosine:.4f}", f"{chosen.far:g}", found.of)
            ),
        )
    show_table(table)
    say(f"{directory}/README.md is for the developer of the app")
    say(f"facemargin bundle check {directory} verifies it")


def _open_people(faces: Path, embedder: Any) -> "Faces":
    from keras_facemargin.data import open_faces
    from keras_facemargin.images import Crop

    people = open_faces(faces, image_size=Crop.of_embedder(embedder))
    note_unaligned(people)
    return people


def _test_images(embedder: Any, images: Path | None) -> "npt.NDArray[Any]":
    """The crops that a file is compared on: at most 256 of a folder, or drawn ones."""
    from keras_facemargin.images import Crop, synthesize_faces

    if images is None:
        return synthesize_faces(64, 2, size=Crop.of_embedder(embedder))[0]
    return _some_of(images, embedder, 256)


def _tuning_images(embedder: Any, images: Path | None) -> "npt.NDArray[Any] | None":
    return None if images is None else _some_of(images, embedder, 2000)


def _some_of(images: Path, embedder: Any, most: int) -> "npt.NDArray[Any]":
    """Crops of a folder, some of each person."""
    import numpy as np

    from keras_facemargin.images import Crop, read_face

    crop = Crop.of_embedder(embedder)
    paths = image_files([images])
    spread = paths[:: math.ceil(len(paths) / most)]
    return np.stack([read_face(path, crop) for path in spread])


def calibrate(
    faces: Annotated[
        Path, typer.Argument(help="Folder, .rec or .tfrecord of labelled crops to calibrate on.")
    ],
    model: Annotated[
        str,
        typer.Option(
            *("--model", "-m", "--card"),
            help="A .keras, .onnx or .tflite file, a folder with a card.json or, with --output, a "
            "name in the zoo.",
        ),
    ],
    crop: FileCrop = None,
    pixels: FilePixels = None,
    far: Annotated[
        list[float] | None,
        typer.Option(
            help="Share of the pairs of two people that may be accepted. Repeat for several. "
            "Default: 1e-2 to 1e-5, as far as there are enough pairs.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the card and a copy of the model. Default: the card is written beside "
            "the model.",
        ),
    ] = None,
) -> None:
    """Choose the thresholds for false accept rates and write them into an embedder's card.

    Each rate has two thresholds: one for the image and its mirror image together, which `verify`
    compares, and one for the image alone, which an exported file embeds. Every pair of the faces
    counts. No person of the faces should be in the training set or in a test set. A rate that the
    number of pairs does not support is refused. A file without a card gets one, with the crop and
    the pixels that --crop and --pixels name: later commands take the folder without them.

    The card also gets the quality limits below which a pair of crops has no answer, from up to 600
    people with two images each; with fewer than 33, those on the card stay. From 1,000 pairs of
    two people on, it also gets the map from cosine to likelihood ratio.

    Example: `facemargin calibrate facemargin-demo/faces-64x12-seed0 --model spherenet_distilled
    --output my_embedder`
    """
    from keras_facemargin.data import open_faces
    from keras_facemargin.evaluate import embed
    from keras_facemargin.files import check_writable
    from keras_facemargin.zoo import (
        calibrate,
        card_place,
        copy_weights,
        find_weights,
        fit_likelihood,
        measure_quality,
        write_card,
    )

    for rate in far or ():
        if not 0 < rate < 1:
            raise ValueError(f"--far must be a rate in (0, 1). Received: {rate}")
    card = card_place(model)
    embedder = open_model(model, crop, pixels)
    old = embedder.to_card()
    file = Path(model) if embedder.card is None else find_weights(model)[1]
    target = file if output is None else output / old.weights.file
    _refuse_places(model, card, target, output)
    check_writable(target.with_name(card.name))
    people = open_faces(faces, image_size=embedder.crop)
    note_unaligned(people)
    about = f"all pairs of {len(people):,} images of {people.num_classes:,} people, {faces.name}"
    embeddings = embed(embedder, people.paths)
    new = calibrate(embeddings, people.labels, far, data=about)
    likelihood, words = old.likelihood, "likelihood ratio: verify prints it"
    try:
        likelihood = fit_likelihood(embeddings, people.labels, data=about)
    except ValueError as error:
        words = f"likelihood ratio: not fitted. {error}"
    quality = measure_quality(embedder, people.paths, people.labels, data=about)
    copied = old if output is None else copy_weights(old, file, output)
    write_card(
        target.with_name(card.name),
        copied.changed(thresholds=new, quality=quality or old.quality, likelihood=likelihood),
    )
    _print_thresholds(embedder.thresholds, new)
    say(words)
    say(_about_quality(quality, kept=old.quality is not None))
    say(f"{target.with_name(card.name)}: {about}")
    say(f"facemargin verify --model {target.parent} uses it")


def _refuse_places(model: str, card: Path, target: Path, output: Path | None) -> None:
    """Refuses to replace another model or to change the installed zoo."""
    from keras_facemargin.zoo import DIRECTORY

    if output is None:
        if card.parent.parent == DIRECTORY:
            raise ValueError(
                "A card in the zoo belongs to the package and is not changed. Received: "
                f"--model {model} without --output. Name a folder for a copy of the model and its "
                "card with --output."
            )
        return
    for taken in (target, target.with_name(card.name)):
        if taken.exists():
            raise FileExistsError(
                f"An existing model is not overwritten. Received: {taken}. Name another folder "
                "with --output, or remove it."
            )


def _about_quality(quality: "FaceQuality | None", kept: bool) -> str:
    if quality is None:
        instead = "those of the card stay" if kept else "none"
        return f"quality limits: {instead}, because fewer than 33 people have two images"
    return (
        f"quality limits: {quality.sharpness:.1f} pixels between the eyes and utility "
        f"{quality.utility:.2f}; {quality.refused:.1%} of these crops are below one"
    )


def _print_thresholds(before: "Thresholds | None", now: "Thresholds") -> None:
    table = Table("Threshold", *(Column(words, justify="right") for words in _COLUMNS))
    for kind, words in (("mirrored", "with mirror image"), ("single", "image alone")):
        old = {} if before is None else {one.far: one for one in getattr(before, kind)}
        new = {one.far: one for one in getattr(now, kind)}
        for far in sorted({*old, *new}, reverse=True):
            chosen = new.get(far)
            table.add_row(
                f"{words}, FAR {far:.2g}",
                f"{old[far].cosine:.4f}" if far in old else "-",
                *(
                    ("-",) * 4
                    if chosen is None
                    else (
                        f"{chosen.cosine:.4f}",
                        f"{chosen.impostor_pairs:,}",
                        f"{chosen.genuine_pairs:,}",
                        f"{chosen.tar:.2%}",
                    )
                ),
            )
    show_table(table)


_COLUMNS = ("cosine before", "now", "impostor pairs", "genuine pairs", "genuine pairs accepted")
