"""From a photo to a decision: `align`, `embed`, `verify`."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keras_facemargin.cli.alignment import note_crops, refuse_wrong_kind
from keras_facemargin.cli.console import Answer, console, say, show_table
from keras_facemargin.cli.files import check_images, image_files, prepare_file, printable
from keras_facemargin.cli.opening import open_keras, open_model
from keras_facemargin.cli.options import (
    DEFAULT,
    Aligned,
    Detector,
    FileCrop,
    FilePixels,
    Flip,
    Json,
    MinFace,
    Model,
    read_size,
)
from keras_facemargin.cli.photos import (
    box_of,
    faces_of,
    open_recognizer,
    print_caution,
    refuse_two_thresholds,
    threshold_of_card,
)

if TYPE_CHECKING:
    from keras_facemargin.recognizer import Face, Recognizer, Verification

Choose = StrEnum("Choose", ["center", "largest"])
Template = StrEnum("Template", ["arcface", "sphereface", "dlib"])


def align(
    photos: Annotated[Path, typer.Argument(help="Folder of photos, a subfolder for each person.")],
    crops: Annotated[
        Path | None, typer.Argument(help="Folder for the crops, with the same subfolders.")
    ] = None,
    detector: Detector = None,
    min_face: MinFace = None,
    landmarks: Annotated[
        Path | None,
        typer.Option(help="File of known points (.jsonl or .csv) instead of a detector."),
    ] = None,
    choose: Annotated[
        Choose, typer.Option(help="Which of several faces to cut out.")
    ] = Choose.center,
    template: Annotated[
        Template | None,
        typer.Option(
            help="Five points of the crop: arcface (112x112), sphereface (112x96, height x width) "
            "or dlib (150x150). Default: by --size."
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Height, or HEIGHTxWIDTH, of a crop in pixels. Default: 112."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only report whether PHOTOS are aligned crops.")
    ] = False,
) -> None:
    """Cut aligned face crops out of photos. The other commands need such crops.

    A second run continues an interrupted one. CROPS.misses.csv lists each photo without a crop,
    with the reason.

    `--landmarks` takes lines of `{"file": "ADA/1.jpg", "points": [[x, y], ... five]}`, or a CSV
    with the columns file,x1,y1,...,x5,y5: left eye, right eye, nose, left and right mouth corner as
    a viewer sees them, in pixels.

    `--check` compares the mean of up to 200 images with a stored mean face, without a detector, and
    reports faces that are shifted, scaled, turned, upside down or BGR. Then the exit code is 1.

    Example: `facemargin align photos faces`
    """
    from keras_facemargin.images import Crop, align_folder, alignment_report

    crop = Crop.of(
        None if size is None else read_size(size), None if template is None else template.value
    )
    if check:
        report = alignment_report(photos, crop)
        say(str(report))
        raise typer.Exit(0 if report.aligned else 1)
    if crops is None:
        raise ValueError(
            f"The crops need a folder. Received: facemargin align {photos}. Name a folder, or use "
            "--check to check the images only."
        )
    if detector is None and landmarks is None:
        detector = "mtcnn"
    if detector is not None and ":" in detector:
        open_keras()  # your own detector may open a saved model
    done = align_folder(
        photos,
        crops,
        detector=detector,
        min_face=min_face,
        landmarks=landmarks,
        choose=choose.value,
        size=crop,
    )
    show_table(done)
    if done.misses:
        say(
            f"{len(done.misses):,} photos without a crop, listed in {done.misses_file}. "
            f"The first is {done.misses[0]}"
        )


def embed(
    images: Annotated[list[Path], typer.Argument(help="Aligned face crops, or folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help=".npz file to write.")] = Path(
        "embeddings.npz"
    ),
    model: Model = DEFAULT,
    crop: FileCrop = None,
    pixels: FilePixels = None,
    flip: Flip = True,
) -> None:
    """Embed images: write `embeddings` (N, D) float32 and `paths` (N,) to a .npz file.

    The file also has the name of the `model` and its `embedding_id`. Embeddings with two ids must
    not be compared.

    Example: `facemargin embed facemargin-demo/faces-64x12-seed0 --output embeddings.npz`
    """
    from keras_facemargin.evaluate import embed
    from keras_facemargin.evaluate.saved import save_embeddings

    embedder = open_model(model, crop, pixels)
    paths = image_files(images)
    prepare_file("--output", output, ".npz")
    note_crops(paths, embedder)
    embeddings = embed(embedder, paths, flip=flip)
    id = embedder.id_of(mirrored=flip)
    save_embeddings(output, embeddings, paths, embedding_id=id, model=embedder.name)
    say(f"{output}: {embeddings.shape[0]:,} embeddings of {embeddings.shape[1]} numbers")


def verify(
    first: Annotated[Path, typer.Argument(help="Photo.")],
    second: Annotated[Path, typer.Argument(help="Photo.")],
    model: Model = DEFAULT,
    crop: FileCrop = None,
    pixels: FilePixels = None,
    far: Annotated[
        float | None,
        typer.Option(
            help="False accept rate, for which the card must have a threshold. Default: the "
            "card's nearest to 1e-3."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=-1, max=1, help="Smallest cosine to accept, in place of the card's."),
    ] = None,
    face: Annotated[
        str,
        typer.Option(
            metavar="N[,M]",
            help="Face of the first photo, and of the second; 1 is the largest.",
        ),
    ] = "1,1",
    aligned: Aligned = None,
    detector: Detector = None,
    min_face: MinFace = None,
    as_json: Json = False,
) -> None:
    """Decide whether two photos show one person, at the threshold of the model's card.

    The largest face of each photo is compared, together with its mirror image; --face chooses
    another one. `finetune` and `calibrate` write a card; a file without a card needs --threshold.

    Exit code 0: the same person. 1: different people. 2: a face is not good enough to say.
    64 and above: an error, such as a photo without a face.

    Example: `facemargin verify a.jpg b.jpg`
    """
    numbers, paths = _face_numbers(face), (first, second)
    refuse_two_thresholds(far, threshold)
    check_images(paths)
    recognizer = open_recognizer(
        model, crop, pixels, detector=detector, min_face=min_face, aligned=aligned
    )
    embedder = recognizer.embedder
    threshold_of_card(recognizer, model, far, threshold)  # an error comes before the photos
    refuse_wrong_kind(paths, embedder, aligned)
    chosen = [
        _face_of(recognizer, path, number, aligned, quiet=as_json)
        for path, number in zip(paths, numbers, strict=True)
    ]
    result = recognizer.verify(*chosen, far=far, threshold=threshold)
    if as_json:
        faces = [
            {"photo": printable(path), "face": None if aligned else number, "box": box_of(each)}
            for path, number, each in zip(paths, numbers, chosen, strict=True)
        ]
        print(json.dumps(result.to_dict() | {"model": embedder.name, "faces": faces}, indent=2))
    else:
        _print_verdict(result)
    raise Answer({"same": 0, "different": 1}.get(result.verdict, 2))


def _print_verdict(result: "Verification") -> None:
    colour = {"same": "green", "different": "red"}.get(result.verdict, "yellow")
    console.print(f"[{colour}]{result.words}[/]: {result.comparison}", soft_wrap=True)
    if result.reason:
        say(result.reason)
    if result.meaning:
        say(result.meaning)
    far, pairs = result.far, result.calibrated_on
    say("threshold: " + ("your own" if far is None else f"FAR {far:.2g} on {pairs}"), style="dim")
    print_caution()


def _face_numbers(text: str) -> tuple[int, int]:
    parts = text.split(",")
    if len(parts) > 2 or not all(part.strip().isdecimal() and int(part) for part in parts):
        raise ValueError(
            "--face must be the number of a face, 1 the largest, or two numbers N,M for the first "
            f"and the second photo. Received: --face {text}"
        )
    first, second = int(parts[0]), int(parts[-1]) if len(parts) > 1 else 1
    return first, second


def _face_of(
    recognizer: "Recognizer", path: Path, number: int, aligned: bool | None, *, quiet: bool
) -> "Face":
    """The chosen face of a photo, or that of an aligned crop."""
    from keras_facemargin.recognizer.recognizer import no_face

    faces = faces_of(recognizer, path, aligned)
    if aligned:
        return faces[0]
    if not faces:
        raise no_face(path)
    if number > len(faces):
        raise ValueError(
            f"--face must be the number of a face on the photo. Received: --face {number} for "
            f"{path}, which has {len(faces)}."
        )
    if len(faces) > 1 and not quiet:
        say(f"{path} has {len(faces)} faces, largest first; face {number} is compared:")
        for index, each in enumerate(faces, 1):
            left, top, right, bottom = box_of(each) or (0, 0, 0, 0)
            mark = "->" if index == number else "  "
            say(f"{mark} {index}: {right - left}x{bottom - top} pixels at {left},{top}")
    return faces[number - 1]
