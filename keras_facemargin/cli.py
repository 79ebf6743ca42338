"""The command `facemargin`: each subcommand opens its room only when it is asked."""

import dataclasses
import functools
import json
import math
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

DEFAULT = "spherenet_distilled"

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,  # opening Keras takes seconds, too long for a press of the tab key
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
evaluate = typer.Typer(no_args_is_help=True)
app.add_typer(evaluate, name="evaluate")
fetch = typer.Typer(no_args_is_help=True)
app.add_typer(fetch, name="fetch")
console = Console()

Model = Annotated[
    str, typer.Option("--model", "-m", help="Name in the zoo, or path of a .keras file.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for what is made.")]
Flip = Annotated[bool, typer.Option(help="Append the mirror image's embedding.")]
Models = Annotated[
    list[str],
    typer.Option(
        "--model", "-m", help="Name in the zoo, or path of a .keras file; repeat to compare."
    ),
]
ReportFile = Annotated[
    Path | None,
    typer.Option("--report", help="Page to write, .html, and its .json, not the folder."),
]
Groups = Annotated[
    Path | None,
    typer.Option(help="CSV for a --report: image or person, and a column for each grouping."),
]

# The names of `finetune.HEADS`, written out: that room opens TensorFlow.
Head = StrEnum(
    "Head",
    [
        *("cosface", "arcface", "normface", "l2softmax", "svsoftmax", "mvsoftmax", "combined"),
        *("adacos", "curricularface", "adaface", "elasticface", "subcenter", "sphereface2"),
        *("circle", "uniface"),
    ],
)
Precision = StrEnum("Precision", ["float32", "float16", "dynamic_int8", "int8"])
OnBad = StrEnum("OnBad", ["refuse", "skip"])
LfwImages = StrEnum("LfwImages", ["funneled", "original"])
OnMissing = StrEnum("OnMissing", ["refuse", "reject"])
Choose = StrEnum("Choose", ["centre", "largest"])
Task = StrEnum("Task", ["verify", "search", "covariates"])
Template = StrEnum("Template", ["arcface", "sphereface"])


@app.callback()
def _facemargin():
    """Face recognition in Keras 3: load an embedder, fine-tune it, verify, export to mobile.

    Example: `facemargin demo`
    """


@evaluate.callback()
def _evaluate():
    """Run a verification protocol on an embedder.

    Example: `facemargin evaluate lfw --images DIR --pairs pairs.txt`
    """


@fetch.callback()
def _fetch():
    """Fetch a public data set, resumed where it stopped and checked by its SHA-256.

    Example: `facemargin fetch lfw lfw`
    """


@app.command()
def demo(
    output: Output = Path("facemargin-demo"),
    faces: Annotated[
        Path | None, typer.Option(help="Aligned crops of real people, one folder a person.")
    ] = None,
    model: Model = DEFAULT,
):
    """Run the whole job and leave a report: faces, fine-tuning, verification, export.

    Without --faces it draws 64 people who do not exist. A second run replaces the results of the
    first, but uses its faces again.

    Example: `facemargin demo --output facemargin-demo`
    """
    from keras_facemargin.demo import run_demo

    run_demo(output, model, faces)


@app.command()
def align(
    photos: Annotated[Path, typer.Argument(help="Folder of photos, one subfolder a person.")],
    crops: Annotated[
        Path | None, typer.Argument(help="Folder for the crops, with the same subfolders.")
    ] = None,
    detector: Annotated[
        str | None, typer.Option(help="mtcnn, or MODULE:FUNCTION of your own. Default: mtcnn.")
    ] = None,
    landmarks: Annotated[
        Path | None,
        typer.Option(help="Points that you have, .jsonl or .csv, in place of a detector."),
    ] = None,
    choose: Annotated[Choose, typer.Option(help="Which of several faces.")] = Choose.centre,
    template: Annotated[
        Template, typer.Option(help="arcface: 112x112, what the zoo needs; sphereface: 112x96.")
    ] = Template.arcface,
    size: Annotated[int, typer.Option(min=7, max=4096, help="Height of a crop in pixels.")] = 112,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether PHOTOS are aligned crops already.")
    ] = False,
):
    """Cut aligned face crops out of photos: what every other command needs.

    A second run goes on where the first was stopped. Photos without a crop are listed with the
    reason in CROPS.misses.csv.

    `--landmarks` takes lines of `{"file": "ADA/1.jpg", "points": [[x, y], ... five]}`, or a CSV
    with the columns file,x1,y1,...,x5,y5: left eye, right eye, nose, left and right mouth corner as
    a viewer sees them, in pixels.

    `--check` looks at the mean of up to 200 images, without a detector: shifted, scaled, turned,
    upside down, BGR? Exit code 1 if so.

    Example: `facemargin align photos faces`
    """
    from keras_facemargin.data import align_folder, alignment_report

    if check:
        report = alignment_report(photos)
        _say(str(report))
        raise typer.Exit(0 if report.aligned else 1)
    if crops is None:
        raise ValueError(
            f"The crops need a folder. Received: facemargin align {photos}. Name one, or say "
            "--check to look at the images only."
        )
    if detector is None and landmarks is None:
        detector = "mtcnn"
    done = align_folder(photos, crops, detector, landmarks, choose.value, template.value, size)
    console.print(done)
    if done.misses:
        _say(f"{len(done.misses):,} photos without a crop: {done.misses_file}")


@app.command()
def embed(
    images: Annotated[list[Path], typer.Argument(help="Aligned face crops, or folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help=".npz file to write.")] = Path(
        "embeddings.npz"
    ),
    model: Model = DEFAULT,
    flip: Flip = True,
):
    """Embed images: writes `embeddings` (N, D) float32 and `paths` (N,) to a .npz file.

    Example: `facemargin embed facemargin-demo/faces-64x12-seed0 --output embeddings.npz`
    """
    import numpy as np

    from keras_facemargin.data.whole import whole_file
    from keras_facemargin.evaluate import embed
    from keras_facemargin.zoo import load_embedder

    embedder = load_embedder(model)
    paths = _image_files(images)
    _prepare_file(output, ".npz")
    embeddings = embed(embedder, paths, flip=flip)
    _note_resized(paths, embedder)
    with whole_file(output, "wb") as file:
        np.savez(file, embeddings=embeddings, paths=np.array([str(path) for path in paths]))
    _say(f"{output}: {embeddings.shape[0]:,} embeddings of {embeddings.shape[1]} numbers")


@app.command()
def verify(
    first: Annotated[Path, typer.Argument(help="Aligned face crop.")],
    second: Annotated[Path, typer.Argument(help="Aligned face crop.")],
    model: Model = DEFAULT,
    threshold: Annotated[
        float | None,
        typer.Option(min=-1, max=1, help="Cosine to accept from; default: the card's."),
    ] = None,
):
    """Say whether two aligned crops show the same person, at the threshold of the model's card.

    The images must be aligned to the ArcFace template: the score of unaligned photos means nothing.
    A .keras file of your own needs --threshold; `finetune` prints one.

    Example: `facemargin verify facemargin-demo/faces-64x12-seed0/person_000/000.jpg
    facemargin-demo/faces-64x12-seed0/person_000/001.jpg`
    """
    from keras_facemargin.evaluate import cosine_scores, embed
    from keras_facemargin.zoo import load_card, load_embedder

    embedder, paths = load_embedder(model), [first, second]
    flip, origin = True, "as you gave it"
    if threshold is None:
        if model.endswith(".keras"):
            raise ValueError(
                "A .keras file has no card, so verify needs a threshold for it. "
                f"Received: --model {model} without --threshold. finetune prints one with its "
                "result; keras_facemargin.evaluate.threshold_at_far finds one on impostor pairs."
            )
        chosen = load_card(model).threshold
        threshold, flip = chosen.cosine, chosen.flip
        origin = f"FAR {chosen.far:g} on {chosen.impostor_pairs:,} impostor pairs ({chosen.data})"
    embeddings = embed(embedder, paths, flip=flip, progress=False)
    _note_resized(paths, embedder)
    score = float(cosine_scores(embeddings[:1], embeddings[1:])[0])
    verdict = "[green]same person[/]" if score >= threshold else "[red]different people[/]"
    console.print(f"{verdict}: cosine {score:.4f}, threshold {threshold:.4f}")
    _say(f"threshold: {origin}", style="dim")
    _say("A score is no proof: do not decide about a person by it alone.", style="dim")


@app.command()
def finetune(
    directory: Annotated[
        Path, typer.Argument(help="Aligned crops, one folder a person; or a .rec or .tfrecord.")
    ],
    output: Output = Path("finetuned"),
    model: Model = DEFAULT,
    head: Annotated[Head, typer.Option(help="Loss to train with.")] = Head.cosface,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images.")] = 10,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step.")] = 32,
    learning_rate: Annotated[
        float, typer.Option(min=0, help="Adam's first one; it falls to zero along a cosine.")
    ] = 3e-4,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the split, the shuffling and the augmentation.")
    ] = 0,
    on_bad: Annotated[
        OnBad,
        typer.Option(help="A file that is no face crop: refuse the folder, or skip the file."),
    ] = OnBad.refuse,
):
    """Fine-tune an embedder on your people; a quarter of them is held out to judge it.

    Writes embedder.keras (to use), classifier.keras (to train on) and report.json, and prints the
    threshold that accepts one in a thousand pairs of held-out strangers.

    Example: `facemargin finetune facemargin-demo/faces-64x12-seed0 --epochs 3 --output finetuned`
    """
    from keras_facemargin.data import open_faces
    from keras_facemargin.finetune import FAR, finetune
    from keras_facemargin.zoo import load_embedder

    embedder_file = output / "embedder.keras"
    if embedder_file.exists():
        raise FileExistsError(
            f"An embedder is never trained over another. Received: {embedder_file} is there "
            "already. Name another folder with --output, or remove it."
        )
    embedder = load_embedder(model)
    faces = open_faces(
        directory,
        image_size=embedder.input_shape[1] or 112,
        on_bad=on_bad.value,
    )
    _say(f"{len(faces):,} images of {faces.num_classes:,} identities")
    _note_unaligned(faces)
    output.mkdir(parents=True, exist_ok=True)  # now, not after the training
    tuned = finetune(embedder, faces, head.value, epochs, batch_size, learning_rate, seed)
    tuned.save(output, model)
    console.print(tuned)
    if tuned.threshold is not None:
        _say(
            f"Threshold at FAR {FAR:g}: verify --model {embedder_file} "
            f"--threshold {tuned.threshold:.4f}"
        )
    _say(f"{embedder_file}, classifier.keras, report.json")


@fetch.command("lfw")
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

    photos = fetch_lfw(directory, images.value)
    _say(f"{photos}: photos, not aligned yet: facemargin align {photos} {directory}/aligned")


@app.command()
def pack(
    source: Annotated[
        Path, typer.Argument(help="Folder, .rec, .tfrecord, list (.csv, .lst) or CelebA's .txt.")
    ],
    destination: Annotated[Path, typer.Argument(help="The same, which must not be there yet.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder that the paths of a list start from.")
    ] = None,
    shards: Annotated[int, typer.Option(min=1, help="Files of a .tfrecord.")] = 1,
):
    """Copy labelled face crops from one container into another, byte for byte.

    What is no face crop is skipped, counted and listed in DESTINATION.skipped.csv. Stopped by
    whatever means, the same command goes on and ends with the same bytes.

    Example: `facemargin pack facemargin-demo/faces-64x12-seed0 train.rec`
    """
    from keras_facemargin.data import pack_faces

    packed = pack_faces(source, destination, images, shards)
    _say(f"{destination}: {packed.images:,} images of {packed.identities:,} identities")
    if packed.skipped:
        table = Table(Column("Skipped", justify="right"), "because")
        for reason, count in packed.reasons().items():
            table.add_row(f"{count:,}", escape(reason))
        console.print(table)
        _say(f"Each is listed in {destination}.skipped.csv.")


@app.command("check-data")
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
    """Look for wrong labels, duplicates and people with two labels, by what an embedder sees.

    Bad files are named and left out first. An embedder errs, and the thresholds are the default
    one's: look at the picture before you remove anything.

    Example: `facemargin check-data facemargin-demo/faces-64x12-seed0`
    """
    import numpy as np

    from keras_facemargin.data import open_faces
    from keras_facemargin.evaluate import (
        draw_audit,
        embed,
        label_noise,
        near_duplicates,
        shared_identities,
        shared_images,
    )
    from keras_facemargin.zoo import load_embedder

    embedder = load_embedder(model)
    side = embedder.input_shape[1] or 112
    sets = [open_faces(each, side, "skip") for each in (faces, against) if each is not None]
    _prepare_file(output, ".png")
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
            _say(f"{words} {ours.identities[first]}, {others.identities[second]}: {cosine:.3f}")
    draw_audit(ours, noise, pairs, output)
    _say(f"{output}: the worst of them, to look at.")


@evaluate.command()
def lfw(
    images: Annotated[Path, typer.Option(help="Folder of aligned crops: NAME/NAME_0001.jpg.")],
    pairs: Annotated[Path, typer.Option(help="The official pairs.txt.")],
    model: Models = (DEFAULT,),
    output: Output = Path("lfw-results"),
    flip: Flip = True,
    on_missing: Annotated[
        OnMissing,
        typer.Option(help="A listed image that is not there: refuse, or count its pair rejected."),
    ] = OnMissing.refuse,
    report: ReportFile = None,
    groups: Groups = None,
):
    """LFW, View 2: 10 folds, the threshold of each chosen on the other nine.

    Prints the table; writes roc.png, scores.png, hardest_pairs.png and results.json, or one page
    that holds all that and the intervals.

    Example: `facemargin evaluate lfw --images lfw/aligned --pairs lfw/pairs.txt --report lfw.html`
    """
    from keras_facemargin.evaluate import read_pairs

    _evaluate_pairs(
        "LFW",
        f"The pairs of {pairs.name}. Unrestricted with labeled outside data, for embedders that "
        "were trained on other people's labelled faces.",
        lambda: read_pairs(pairs, images, on_missing.value),
        *(model, output, flip, report, groups),
    )


Lists = Annotated[Path, typer.Option(help="Folder of the official lists.")]
Images = Annotated[Path, typer.Option(help="Folder of aligned crops, named as the lists do.")]
OnMissingImage = Annotated[
    OnMissing,
    typer.Option(help="A listed image that is not there: refuse, or let it count as not enrolled."),
]
Lam = Annotated[
    float, typer.Option("--lambda", min=0, help="Of quality pooling; 0: the mean over media.")
]


@evaluate.command("lfw-view1")
def lfw_view_1(
    lists: Lists,
    images: Annotated[Path, typer.Option(help="Folder of aligned crops: NAME/NAME_0001.jpg.")],
    model: Model = DEFAULT,
    output: Output = Path("lfw-view1-results"),
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
):
    """LFW, View 1, for development: a threshold from pairsDevTrain.txt, judged on pairsDevTest.txt.

    Prints the table; writes results.json.

    Example: `facemargin evaluate lfw-view1 --lists lfw --images lfw/aligned`
    """
    from keras_facemargin.evaluate import evaluate_view_1, read_view_1

    _evaluate_protocol(
        lambda: read_view_1(lists, images, on_missing.value),
        lambda embedder, view: evaluate_view_1(embedder, view, flip),
        *({"protocol": "lfw, view 1"}, model, output, flip),
    )


PAIRS_WRITTEN = "Prints the table; writes roc.png, scores.png, hardest_pairs.png and results.json."


def _add_pairs_command(name, about, read):
    """The command of a protocol whose list is `Pairs` in folds."""
    example = f"Example: `facemargin evaluate {name} --lists lists --images crops`"

    @evaluate.command(name, help=f"{about}\n\n{PAIRS_WRITTEN}\n\n{example}")
    def command(
        lists: Lists,
        images: Images,
        model: Models = (DEFAULT,),
        output: Output = Path(f"{name}-results"),
        flip: Flip = True,
        on_missing: OnMissingImage = OnMissing.refuse,
        report: ReportFile = None,
        groups: Groups = None,
    ):
        from keras_facemargin.evaluate import protocols

        def listed():
            return read(protocols)(lists, images, on_missing=on_missing.value)

        _evaluate_pairs(name, about, listed, model, output, flip, report, groups)


_add_pairs_command(
    "cfp-ff",
    "CFP, frontal with frontal: 10 folds, 7,000 pairs, by Pair_list_F.txt and Split/FF.",
    lambda protocols: functools.partial(protocols.read_cfp, kind="FF"),
)
_add_pairs_command(
    "cfp-fp",
    "CFP, frontal with profile: 10 folds, 7,000 pairs, by Pair_list_F.txt, _P.txt and Split/FP.",
    lambda protocols: functools.partial(protocols.read_cfp, kind="FP"),
)
_add_pairs_command(
    "agedb-30",
    "AgeDB-30: 10 folds, 6,000 pairs 30 years apart, by 04_FINAL_protocol_30_years.mat.",
    lambda protocols: protocols.read_agedb,
)
_add_pairs_command(
    "calfw",
    "Cross-Age LFW: 10 folds, 6,000 pairs, by pairs_CALFW.txt.",
    lambda protocols: protocols.read_calfw,
)
_add_pairs_command(
    "cplfw",
    "Cross-Pose LFW: 10 folds, 6,000 pairs, by pairs_CPLFW.txt.",
    lambda protocols: protocols.read_cplfw,
)


@evaluate.command()
def ytf(
    lists: Lists,
    images: Annotated[Path, typer.Option(help="Folder of the frames: NAME/VIDEO/*.jpg.")],
    model: Model = DEFAULT,
    output: Output = Path("ytf-results"),
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
):
    """YouTube Faces: 10 folds, 5,000 pairs of videos, a video being the mean of its frames.

    Prints the table; writes results.json, roc.png and scores.png.

    Example: `facemargin evaluate ytf --lists ytf --images ytf/aligned`
    """
    from keras_facemargin.evaluate import evaluate_template_pairs
    from keras_facemargin.evaluate.protocols import read_ytf

    _evaluate_protocol(
        lambda: read_ytf(lists, images, on_missing.value),
        lambda embedder, pairs: evaluate_template_pairs(embedder, pairs, flip),
        *({"protocol": "ytf"}, model, output, flip),
    )


@evaluate.command()
def ijba(
    lists: Annotated[Path, typer.Option(help="Folder with IJB-A_11_sets or IJB-A_1N_sets.")],
    images: Annotated[Path, typer.Option(help="Folder of crops: img/IMAGE_SIGHTING.jpg.")],
    task: Annotated[Task, typer.Option(help="verify: 1:1; search: 1:N.")] = Task.verify,
    split: Annotated[
        list[int] | None, typer.Option(min=1, max=10, help="One of the ten; default: all.")
    ] = None,
    model: Model = DEFAULT,
    output: Output = Path("ijba-results"),
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
):
    """IJB-A: mean and deviation over ten splits of TAR at FAR, or of rank-k and TPIR at FPIR.

    Line img/10281.jpg of the lists, with SIGHTING_ID 28739, is the crop img/10281_28739.jpg.
    Prints the table; writes results.json.

    Example: `facemargin evaluate ijba --lists IJB-A --images crops --task search`
    """
    from keras_facemargin.evaluate import evaluate_searches, score_template_pairs, verify_by_fold
    from keras_facemargin.evaluate.protocols import read_ijba, read_ijba_search
    from keras_facemargin.evaluate.protocols.ijba import SPLITS

    _refuse_covariates(task)
    read = read_ijba_search if task is Task.search else read_ijba

    def run(embedder, listed):
        if task is Task.search:
            return evaluate_searches(embedder, listed, flip)
        scores = score_template_pairs(embedder, listed, flip)
        found = verify_by_fold(scores, listed.same, listed.folds)
        return dataclasses.replace(found, unseen=int(listed.unseen.sum()))

    _evaluate_protocol(
        lambda: read(lists, images, split or SPLITS, on_missing.value),
        *(run, {"protocol": "ijba", "task": task.value}, model, output, flip),
    )


@evaluate.command()
def ijbb(
    lists: Annotated[Path, typer.Option(help="Folder of NIST's lists, or InsightFace's meta.")],
    images: Images,
    task: Annotated[Task, typer.Option(help="verify: 1:1; search: 1:N.")] = Task.verify,
    lam: Lam = 0.0,
    model: Model = DEFAULT,
    output: Output = Path("ijbb-results"),
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
):
    """IJB-B: 1:1 of 8,010,270 pairs of templates, or 1:N in the two galleries.

    Prints the table; writes results.json, and for 1:1 roc.png and scores.png.

    Example: `facemargin evaluate ijbb --lists IJBB/meta --images IJBB/crops --lambda 0.3`
    """
    _refuse_covariates(task)
    _evaluate_ijb("ijbb", lists, images, task, None, lam, model, output, flip, on_missing)


@evaluate.command()
def ijbc(
    lists: Annotated[Path, typer.Option(help="Folder of NIST's lists, or InsightFace's meta.")],
    images: Images,
    task: Annotated[
        Task, typer.Option(help="verify: 1:1; search: 1:N; covariates: single images.")
    ] = Task.verify,
    by: Annotated[
        str, typer.Option(help="Covariate: GENDER, SKINTONE, AGE, INDOOR_OUTDOOR, FACIAL_HAIR.")
    ] = "GENDER",
    lam: Lam = 0.0,
    model: Model = DEFAULT,
    output: Output = Path("ijbc-results"),
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
):
    """IJB-C: 1:1 of 15,658,489 pairs of templates, 1:N in the two galleries, or its covariates.

    Prints the table; writes results.json, and for 1:1 roc.png and scores.png.

    Example: `facemargin evaluate ijbc --lists IJBC/meta --images IJBC/crops --task search`
    """
    _evaluate_ijb("ijbc", lists, images, task, by, lam, model, output, flip, on_missing)


def _refuse_covariates(task):
    if task is Task.covariates:
        raise ValueError("--task covariates is of IJB-C only. Received: --task covariates.")


def _evaluate_ijb(name, lists, images, task, by, lam, model, output, flip, on_missing):
    from keras_facemargin.evaluate import (
        evaluate_searches,
        evaluate_template_pairs,
        protocols,
        score_template_pairs,
        verify_by_value,
    )

    def read():
        if task is Task.search:
            return protocols.read_ijb_search(name, lists, images, on_missing.value)
        if task is Task.verify:
            return protocols.read_ijb(name, lists, images, on_missing.value)
        pairs = protocols.read_ijbc_covariates(lists, images, on_missing.value)
        return pairs, pairs.covariate(by)

    def run(embedder, listed):
        if task is Task.search:
            return evaluate_searches(embedder, listed, flip, lam)
        if task is Task.verify:
            return evaluate_template_pairs(embedder, listed, flip, lam)
        pairs, covariate = listed
        scores = score_template_pairs(embedder, pairs, flip, lam)
        return verify_by_value(scores, pairs.same, *covariate)

    record = {"protocol": name, "task": task.value, "lambda": lam}
    if task is Task.covariates:
        record["by"] = by
    _evaluate_protocol(read, run, record, model, output, flip)


@evaluate.command()
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
    from keras_facemargin.evaluate.protocols import evaluate_blufr, read_blufr

    _evaluate_protocol(
        lambda: read_blufr(lists, images, on_missing.value),
        lambda embedder, listed: evaluate_blufr(embedder, listed, flip=flip),
        *({"protocol": "blufr"}, model, output, flip),
    )


@evaluate.command()
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
    model: Model = DEFAULT,
    output: Output = Path("megaface-results"),
    flip: Flip = True,
    on_missing: OnMissingImage = OnMissing.refuse,
):
    """MegaFace: FaceScrub among distractors, rank-1 and TAR at FAR 1e-6.

    Figures with and without --refined are not comparable. Prints the table; writes results.json.

    Example: `facemargin evaluate megaface --lists templatelists --images testpack --refined`
    """
    from keras_facemargin.evaluate.protocols import evaluate_megaface, read_megaface

    _evaluate_protocol(
        lambda: read_megaface(lists, images, size, refined, on_missing.value),
        lambda embedder, listed: evaluate_megaface(embedder, listed, flip=flip),
        *({"protocol": "megaface", "size": size, "refined": refined}, model, output, flip),
    )


@evaluate.command("trillion-pairs")
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
    _prepare_file(output, ".bin")
    rows, columns = write_trillion_pairs(embedder, listed, output, missing, flip)
    _say(f"{output}: {rows:,} rows of {columns} numbers")


@evaluate.command()
def identification(
    gallery: Annotated[Path, typer.Option(help="Aligned crops of known people, a folder each.")],
    probes: Annotated[Path, typer.Option(help="Aligned crops to search, a folder a person.")],
    model: Model = DEFAULT,
    output: Output = Path("identification-results"),
    flip: Flip = True,
):
    """1:N on folders: each probe image searched among the templates of the gallery's people.

    A person of the gallery is one template, the mean of the images. Who is on an image is the name
    of the folder that it lies in; probes of people without a folder in the gallery are the
    non-mated ones, which TPIR at FPIR needs. Prints the table; writes results.json.

    Example: `facemargin evaluate identification --gallery known --probes searched`
    """
    from keras_facemargin.evaluate import evaluate_folders

    def run(embedder, listed):
        for paths in listed:
            _note_resized(paths, embedder)
        return evaluate_folders(embedder, *listed, flip)

    _evaluate_protocol(
        lambda: (_image_files([gallery]), _image_files([probes])),
        *(run, {"gallery": str(gallery), "probes": str(probes)}, model, output, flip),
    )


def _evaluate_protocol(read, run, record, model, output, flip):
    """Reads the lists, prints what `run` finds on them, and writes that to a folder."""
    from keras_facemargin.evaluate import Verification, plot_roc, plot_scores
    from keras_facemargin.zoo import load_embedder

    embedder = load_embedder(model)
    listed = read()
    output.mkdir(parents=True, exist_ok=True)  # now, not after the embedding
    result = run(embedder, listed)
    console.print(result)
    record = {**record, "model": model, "flip": flip, **result.to_dict()}
    (output / "results.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    made = ["results.json"]
    if isinstance(result, Verification):
        plot_roc({model: (result.scores, result.same)}).savefig(output / "roc.png")
        plot_scores(result.scores, result.same, None).savefig(output / "scores.png")
        made += ["roc.png", "scores.png"]
    _say(f"{output}/{', '.join(made)}")


@evaluate.command("bin")
def verification_bin(
    file: Annotated[Path, typer.Argument(help="InsightFace's .bin file of pairs.")],
    model: Models = (DEFAULT,),
    output: Output = Path("bin-results"),
    flip: Flip = True,
    folds: Annotated[
        int, typer.Option(min=0, help="Equal parts of the pairs, in their order; 0: no accuracy.")
    ] = 10,
    report: ReportFile = None,
    groups: Groups = None,
):
    """InsightFace's verification files (lfw.bin, cfp_fp.bin), read without executing the pickle.

    Prints the table; writes roc.png, scores.png, hardest_pairs.png and results.json, or one page
    that holds all that and the intervals.

    Example: `facemargin evaluate bin lfw.bin --report lfw.html`
    """
    from keras_facemargin.evaluate import read_bin_pairs

    parts = f", cut into {folds} folds in their order" if folds else ""
    _evaluate_pairs(
        file.name,
        f"The pairs of an InsightFace verification file{parts}.",
        lambda: read_bin_pairs(file, folds or None),
        *(model, output, flip, report, groups),
    )


@evaluate.command("all-pairs")
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
    from keras_facemargin.evaluate import embed, verify_all_pairs
    from keras_facemargin.zoo import load_embedder

    if report is not None:
        _prepare_file(report, ".html")
    record, state, paths = {"faces": str(faces)}, None, None
    if faces.suffix == ".npz" and not faces.is_dir():
        embeddings, labels = _read_embeddings(faces)
        state = output / "state.npz"
    else:
        embedder, paths = load_embedder(model), _image_files([faces])
        embeddings, labels = embed(embedder, paths, flip=flip), [path.parent.name for path in paths]
        _note_resized(paths, embedder)
        record |= {"model": model, "flip": flip}
    if report is not None:
        from keras_facemargin.report import report_all_pairs

        name = faces.name if paths is None else model
        report_all_pairs(report, f"All pairs of {faces.name}", name, embeddings, labels, paths)
        _say(f"{report}, {report.with_suffix('.json').name}")
        return
    output.mkdir(parents=True, exist_ok=True)
    result = verify_all_pairs(embeddings, labels, state=state)
    console.print(result)
    record |= result.to_dict()
    (output / "results.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    _say(f"{output}/results.json")


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


def _evaluate_pairs(title, about, read, models, output, flip, report, groups):
    """What every 1:1 protocol prints and writes, once `read` has read its pairs."""
    from keras_facemargin.evaluate import evaluate_pairs, read_groups, score_pairs
    from keras_facemargin.zoo import load_embedder

    _check_report(models, report, groups)
    embedders = {model: load_embedder(model) for model in models}
    listed = read()
    if report is None:
        output.mkdir(parents=True, exist_ok=True)  # now, not after the embedding
        (model,) = models
        _write_results(model, listed, evaluate_pairs(embedders[model], listed, flip), output, flip)
        return
    _prepare_file(report, ".html")
    grouped = None if groups is None else read_groups(groups, listed)
    scores = {name: score_pairs(each, listed, flip) for name, each in embedders.items()}
    _write_report(report, title, about, listed, scores, flip, grouped)


def _check_report(models, report, groups):
    """Several embedders and groups have their place in a report only."""
    if len({*models}) < len(models):
        raise ValueError(f"Each --model must be named once. Received: {', '.join(models)}")
    if report is None and (len(models) > 1 or groups is not None):
        what = "--groups" if len(models) == 1 else f"{len(models)} models"
        raise ValueError(
            f"Comparisons are written as one page. Received: {what} without --report. Name the "
            "page: --report FILE.html"
        )


def _write_report(report, title, about, pairs, scores, flip, groups):
    from keras_facemargin.report import report_verification
    from keras_facemargin.report.verification import measures_table

    mirrored = "The embedding of the mirror image is appended." if flip else "No mirror images."
    models = report_verification(report, title, pairs, scores, [about, mirrored], groups)
    headers, rows = measures_table(models)
    table = Table(*headers)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    _say(f"{report}, {report.with_suffix('.json').name}")


def _write_results(model, pairs, result, output, flip):
    """The table of one embedder, its figures and its plots."""
    import numpy as np

    from keras_facemargin.evaluate import plot_hardest_pairs, plot_roc, plot_scores

    console.print(result)
    record = {"model": model, "flip": flip, **result.to_dict()}
    (output / "results.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    threshold = None if result.accuracy is None else float(np.mean(result.accuracy.thresholds))
    plot_roc({model: (result.scores, result.same)}).savefig(output / "roc.png")
    plot_scores(result.scores, result.same, threshold).savefig(output / "scores.png")
    plot_hardest_pairs(pairs, result.scores).savefig(output / "hardest_pairs.png")
    _say(f"{output}/results.json, roc.png, scores.png, hardest_pairs.png")


@app.command()
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
    _prepare_file(output, ".tflite", ".onnx")
    if images is None:
        pixels, _ = synthesize_faces(64, 2)
    else:
        paths = _image_files([images])
        spread = paths[:: math.ceil(len(paths) / 256)]  # each person has a share
        pixels = np.stack([read_face(path, embedder.input_shape[1] or 112) for path in spread])
    if to_onnx:
        verdict = export_onnx(embedder, output, pixels)
    else:
        verdict = export_tflite(embedder, output, precision.value, pixels)
    _say(str(verdict))


@app.command()
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
    import dataclasses

    from keras_facemargin.data import open_faces
    from keras_facemargin.evaluate import embed
    from keras_facemargin.zoo import calibrate, load_weights, read_card, write_card

    if not 0 < far < 1:
        raise ValueError(f"--far must be a rate in (0, 1). Received: {far}")
    old, embedder = read_card(card), load_weights(card)
    people = open_faces(faces, embedder.input_shape[1] or 112)
    _note_unaligned(people)
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
    _say(f"{card}: {new.data}")


@app.command()
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


def main():
    """Runs the command; an expected error is one message on standard error and exit code 1."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            app()
        except (ValueError, OSError, ImportError, RuntimeError) as error:
            _complain("[bold red]Error:[/]", sentence(error))
            raise SystemExit(1) from None


def sentence(error):
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    return str(error)


def _show_warning(message, category, filename, lineno, file=None, line=None):
    _complain("[yellow]Warning:[/]", str(message))


def _complain(label, text):
    Console(stderr=True).print(f"{label} {escape(text)}", highlight=False, soft_wrap=True)


def _say(text, style=None):
    """Prints text as it is: paths may hold what rich takes for markup, and are copied whole."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _prepare_file(path, *endings):
    """Refuses a file that could not be written before minutes are spent on making it."""
    if path.suffix not in endings or path.is_dir():
        raise ValueError(f"--output must be a file *{' or *'.join(endings)}. Received: {path}")
    path.parent.mkdir(parents=True, exist_ok=True)


def _image_files(places):
    """The files named and all images in the folders named, in order."""
    endings = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
    files = []
    for place in places:
        if place.is_dir():
            found = sorted(
                path
                for path in place.rglob("*")
                if path.suffix.lower() in endings and not path.name.startswith(".")
            )
            if not found:
                raise ValueError(
                    f"A folder must hold images ({', '.join(endings)}). Received: {place}"
                )
            files += found
        elif place.is_file():
            files.append(place)
        else:
            raise FileNotFoundError(f"There is no such image or folder. Received: {place}")
    return files


def _note_unaligned(faces):
    """Warns of a set that does not sit on the template, from the mean of a few images of it."""
    from keras_facemargin.data import alignment_report

    if len(faces) < 12:  # no mean to speak of
        return
    report = alignment_report(faces, most=100)
    if not report.aligned:
        warnings.warn(
            f"{report} What an embedder makes of such crops means little: facemargin align makes "
            "new ones from the photos.",
            stacklevel=2,
        )


def _note_resized(paths, embedder):
    """Warns of images that are not of the embedder's size: often photos that nobody aligned."""
    from PIL import Image

    side = embedder.input_shape[1] or 112
    resized = []
    for path in paths:
        with Image.open(path) as image:
            if image.size != (side, side):
                resized.append(f"{path} ({image.width}x{image.height})")
    if resized:
        warnings.warn(
            f"{len(resized):,} of {len(paths):,} images were resized to {side}x{side}, beginning "
            f"with {resized[0]}: unless they are aligned crops, their embeddings mean nothing.",
            stacklevel=2,
        )
