"""From a photo to a decision: `align`, `embed`, `verify`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keras_facemargin.cli.alignment import note_crops, refuse_photos
from keras_facemargin.cli.console import console, say
from keras_facemargin.cli.files import image_files, prepare_file
from keras_facemargin.cli.opening import open_keras, open_model
from keras_facemargin.cli.options import DEFAULT, FileCrop, FilePixels, Flip, Model, read_size

if TYPE_CHECKING:
    from keras_facemargin.zoo import Embedder, Thresholds

Choose = StrEnum("Choose", ["center", "largest"])
Template = StrEnum("Template", ["arcface", "sphereface", "dlib"])


def align(
    photos: Annotated[Path, typer.Argument(help="Folder of photos, a subfolder for each person.")],
    crops: Annotated[
        Path | None, typer.Argument(help="Folder for the crops, with the same subfolders.")
    ] = None,
    detector: Annotated[
        str | None, typer.Option(help="mtcnn, or your own MODULE:FUNCTION. Default: mtcnn.")
    ] = None,
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
        landmarks=landmarks,
        choose=choose.value,
        size=crop,
    )
    console.print(done)
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
    first: Annotated[Path, typer.Argument(help="Aligned face crop.")],
    second: Annotated[Path, typer.Argument(help="Aligned face crop.")],
    model: Model = DEFAULT,
    crop: FileCrop = None,
    pixels: FilePixels = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=-1, max=1, help="Smallest cosine to accept. Default: the card's."),
    ] = None,
) -> None:
    """Decide whether two aligned crops show one person, at the threshold of the model's card.

    The images must be aligned crops of the model's size, as the command align writes them: photos
    are refused. Each crop is compared together with its mirror image. `finetune` and `calibrate`
    write a card; a file without a card needs --threshold.

    Example: `facemargin verify facemargin-demo/faces-64x12-seed0/person_000/000.jpg
    facemargin-demo/faces-64x12-seed0/person_000/001.jpg`
    """
    from keras_facemargin.evaluate import cosine_scores, embed

    embedder, paths = open_model(model, crop, pixels), [first, second]
    origin = "your own"
    if threshold is None:
        chosen = _thresholds(embedder, model).find(mirrored=True)
        threshold = chosen.cosine
        origin = f"FAR {chosen.far:.2g} on {chosen.impostor_pairs:,} impostor pairs ({chosen.data})"
    refuse_photos(paths, embedder)
    embeddings = embed(embedder, paths, progress=False)
    score = float(cosine_scores(embeddings[:1], embeddings[1:])[0])
    verdict = "[green]same person[/]" if score >= threshold else "[red]different people[/]"
    console.print(f"{verdict}: cosine {score:.4f}, threshold {threshold:.4f}")
    say(f"threshold: {origin}", style="dim")
    say("A score is no proof: do not decide about a person by it alone.", style="dim")


def _thresholds(embedder: "Embedder", model: str) -> "Thresholds":
    from keras_facemargin.zoo import load_card

    if embedder.card is None and embedder.runtime == "keras":
        load_card(model)  # names the missing or damaged card
    if embedder.thresholds is None:
        without = "no card" if embedder.card is None else "a card without a threshold"
        raise ValueError(
            f"`verify` needs a threshold. Received: {model} with {without}. Run `facemargin "
            f"calibrate FACES --model {model}`, which writes a card.json, or pass --threshold."
        )
    return embedder.thresholds
