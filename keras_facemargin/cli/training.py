"""Training commands: `demo`, `finetune`, `robustify` and `train`."""

from enum import StrEnum, auto
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_facemargin.cli.alignment import note_unaligned
from keras_facemargin.cli.console import say, show_table
from keras_facemargin.cli.files import unlabelled_images
from keras_facemargin.cli.options import DEFAULT, MODEL, Model, Output
from keras_facemargin.cli.tuned_bundle import check_exportable, export_tuned


class Head(StrEnum):
    """The keys of `finetune.HEADS`: importing them would import TensorFlow."""

    cosface = auto()
    arcface = auto()
    normface = auto()
    l2softmax = auto()
    svsoftmax = auto()
    mvsoftmax = auto()
    combined = auto()
    adacos = auto()
    curricularface = auto()
    adaface = auto()
    elasticface = auto()
    subcenter = auto()
    sphereface2 = auto()
    circle = auto()
    uniface = auto()


class OnBad(StrEnum):
    """Whether to skip a bad file."""

    refuse = auto()
    skip = auto()


def demo(
    output: Output = Path("facemargin-demo"),
    faces: Annotated[
        Path | None, typer.Option(help="Aligned crops of real people, one folder for each person.")
    ] = None,
    model: Model = DEFAULT,
) -> None:
    """Fine-tune, verify and export on synthetic faces, and write a report.

    Without --faces it draws 64 people who do not exist. A second run replaces the results of the
    first and uses the same faces.

    Example: `facemargin demo --output facemargin-demo`
    """
    from keras_facemargin.demo import run_demo

    run_demo(output, model, faces=faces)


def finetune(
    directory: Annotated[
        Path,
        typer.Argument(help="Crops of your people, one folder a person; or a .rec or .tfrecord."),
    ],
    output: Output = Path("finetuned"),
    model: Model = DEFAULT,
    test: Annotated[
        Path | None,
        typer.Option(help="Other images of your people, to test on. Default: one in five."),
    ] = None,
    strangers: Annotated[
        Path | None,
        typer.Option(
            help="Images of other people: half train, as people who are not yours, half test. "
            "Default: a quarter of the people, at most 60."
        ),
    ] = None,
    general: Annotated[
        Path | None,
        typer.Option(help="Other people, other images, such as LFW: shows how much is forgotten."),
    ] = None,
    head: Annotated[Head, typer.Option(help="Loss to train with.")] = Head.cosface,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            help="Also train the layers: for many images, or images of another kind than the "
            "embedder's (another camera, drawings). Takes minutes; without it a linear map of the "
            "embedding is learned in seconds.",
        ),
    ] = False,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the split and the order of the images.")
    ] = 0,
    on_bad: Annotated[
        OnBad,
        typer.Option(help="A file that is not a face crop: refuse the folder, or skip the file."),
    ] = OnBad.refuse,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--export",
            help="Folder to write, too: the result for apps, as export --bundle writes it, in "
            "float32 and int8. Your people set the ranges of int8, and the strangers that test set "
            "the thresholds of each file.",
        ),
    ] = None,
) -> None:
    """Fine-tune an embedder on your people, and keep the better of before and after.

    Tests before and after whether your people are recognised, alone and among strangers, whether
    strangers are distinguished, and how much is forgotten. Learns a linear map of the embedding:
    each image is embedded once, and the layers of the embedder stay as they are. With --layers it
    trains them too, and keeps what gains more. Writes embedder.keras (to use) with its card,
    classifier.keras (to train further) and report.json; `--model FOLDER` takes them everywhere.
    Fine-tuning with --model FOLDER again adds people to those that the folder knows. With --export
    each exported file is tested on the same people as the embedder before.

    Example: `facemargin finetune facemargin-demo/faces-64x12-seed0 --output finetuned`
    """
    from keras_facemargin.data import open_faces
    from keras_facemargin.files import check_unused, exclusive
    from keras_facemargin.images import Crop
    from keras_facemargin.training.finetune import SAVED_FILES, find_known, finetune
    from keras_facemargin.zoo import load_embedder

    check_unused(output)
    embedder = load_embedder(model)
    if bundle is not None:
        check_exportable(embedder, bundle)
    known = find_known(model)
    crop = Crop.of_embedder(embedder)
    faces = open_faces(directory, image_size=crop, on_bad=on_bad.value)
    given = {"test": test, "strangers": strangers, "general": general}
    others: dict[str, Any] = {
        name: open_faces(path, image_size=crop, on_bad=on_bad.value)
        for name, path in given.items()
        if path is not None
    }
    say(f"{len(faces):,} images of {faces.num_classes:,} identities")
    if known is not None:
        say(f"{len(known.identities):,} people are known from {model}")
    note_unaligned(faces)
    with exclusive(output):
        check_unused(output)
        tuned = finetune(
            embedder,
            faces,
            head.value,
            **others,
            known=known,
            layers=layers,
            seed=seed,
        )
        tuned.save(output, model)
    show_table(tuned)
    for remark in tuned.remarks:
        say(remark, style=None if remark == tuned.verdict and tuned.share else "yellow")
    chosen = tuned.thresholds.find(mirrored=True)
    say(f"Threshold: cosine {chosen}; facemargin verify --model {output} uses it")
    say(f"{output}/{', '.join(SAVED_FILES)}")
    if bundle is not None:
        export_tuned(tuned, output, bundle)


def robustify(
    model: Annotated[str, typer.Argument(help=MODEL)],
    faces: Annotated[
        list[Path],
        typer.Argument(
            help="Aligned crops to train on: images, folders with subfolders, .rec or .tfrecord. "
            "Names of people are not used."
        ),
    ],
    output: Output = Path("robust"),
    test: Annotated[
        Path | None,
        typer.Option(
            help="Crops of other people, one folder a person, or a .rec or .tfrecord: error rates "
            "before and after, and the thresholds of the card."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the order and the degradations.")] = 0,
) -> None:
    """Make an embedder fail safe on small, blurred and compressed faces, without labels.

    Adds a few layers that learn to keep strangers on bad images apart and to leave clean embeddings
    where they were. Writes embedder.keras with its card and report.json. The same command resumes a
    run that was stopped.

    Example: `facemargin robustify mobilefacenet_192 crops/ --test people/ --output robust`
    """
    from keras_facemargin.data import open_faces
    from keras_facemargin.files import check_unused, check_writable, exclusive
    from keras_facemargin.images import Crop
    from keras_facemargin.training.robustify import SAVED_FILES, robustify
    from keras_facemargin.zoo import load_embedder

    check_unused(output)
    _refuse_overlap(faces, test, output)
    embedder = load_embedder(model)
    images = unlabelled_images(faces)
    say(f"{len(images):,} images to train on")
    people = None
    if test is not None:
        people = open_faces(test, image_size=Crop.of_embedder(embedder))
        say(f"{len(people):,} images of {people.num_classes:,} people to test on")
        note_unaligned(people)
    whole = output.absolute()  # "." has no name
    checkpoint = whole.with_name(f".{whole.name}.checkpoint")
    with exclusive(output):
        check_unused(output)
        if checkpoint.exists():
            say(f"Resuming from {checkpoint}")
        check_writable(checkpoint)
        robust = robustify(
            embedder,
            images,
            test=people,
            seed=seed,
            checkpoint=checkpoint,
        )
        robust.save(output, model)
        checkpoint.unlink(missing_ok=True)
    show_table(robust)
    for remark in robust.remarks:
        say(remark, style="yellow")
    say(f"{output}/{', '.join(SAVED_FILES)}")


def _refuse_overlap(faces: list[Path], test: Path | None, output: Path) -> None:
    """The test people must be others; the next start must not train on the results."""
    for place in map(Path.resolve, faces):
        if test is not None and (
            test.resolve().is_relative_to(place) or place.is_relative_to(test.resolve())
        ):
            raise ValueError(
                "The people of --test must not be in the training. "
                f"Received: --test {test} and faces in {place}. Choose other people."
            )
        if place.is_dir() and output.resolve().is_relative_to(place):
            raise ValueError(
                "The output folder must not be inside the folder of faces. "
                f"Received: {output} in {place}. Choose another folder."
            )


def train(
    recipe: Annotated[Path, typer.Argument(help="TOML file; docs/training.md lists its keys.")],
    output: Output,
    devices: Annotated[
        str,
        typer.Option(
            help="Number of GPUs, or of logical CPU devices without a GPU; all: every GPU."
        ),
    ] = "1",
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    set_: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a key of the recipe: head.margin=0.4. Repeat for several keys.",
        ),
    ] = [],  # noqa: B006  (typer copies it)
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write event files to OUTPUT/tensorboard.")
    ] = False,
) -> None:
    """Train an embedder by a recipe file; the same command continues a stopped run.

    Writes recipe.toml (with the changes of --set), checkpoints/ and steps.csv; at the end
    history.csv, embedder.keras (to use) and classifier.keras (to train further). With [validation]
    in the recipe, both hold the best weights. A run continues only with the same recipe and --set,
    on any number of devices and workers.

    On several machines, start the command on each with TF_CONFIG set as TensorFlow documents it and
    --output on a shared file system. --workers 2 tries this on one machine; if one worker fails,
    the others end.

    Example: `facemargin train recipe.toml --output run --set head.margin=0.4`
    """
    if not (devices == "all" or (devices.isdecimal() and int(devices))):
        raise typer.BadParameter(
            f"--devices must be a positive number or all. Received: {devices}",
            param_hint="--devices",
        )
    from keras_facemargin.training.run import run

    code = run(
        recipe,
        output,
        devices=devices,
        workers=workers,
        changes=set_,
        tensorboard=tensorboard,
    )
    if code:
        raise typer.Exit(code)
