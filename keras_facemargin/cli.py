"""The command `facemargin`: each subcommand opens its room only when it is asked."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

DEFAULT = "spherenet_distilled"

app = typer.Typer(
    help="Face recognition in Keras 3: load an embedder, fine-tune it, verify, export to mobile.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console()

Model = Annotated[
    str, typer.Option("--model", "-m", help="Name in the zoo, or path of a .keras file.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for what is made.")]


class Head(StrEnum):
    """Heads that `finetune` offers by name, with the papers' parameters."""

    cosface = "cosface"
    arcface = "arcface"
    normface = "normface"
    l2softmax = "l2softmax"
    svsoftmax = "svsoftmax"


class Format(StrEnum):
    """What `export` writes."""

    tflite = "tflite"
    onnx = "onnx"


class Precision(StrEnum):
    """Precisions of a TFLite file."""

    float32 = "float32"
    float16 = "float16"
    dynamic_int8 = "dynamic_int8"
    int8 = "int8"


class Missing(StrEnum):
    """What to do about an image that a protocol lists and the folder lacks."""

    refuse = "refuse"
    reject = "reject"


@app.command()
def demo(
    output: Output = Path("facemargin-demo"),
    faces: Annotated[
        Path | None, typer.Option(help="Aligned crops of real people, one folder a person.")
    ] = None,
    model: Model = DEFAULT,
):
    """Run the whole job and leave a report: faces, fine-tuning, verification, export.

    Example: `facemargin demo --output facemargin-demo`
    """
    from keras_facemargin.demo import run_demo

    run_demo(output, faces, model)


@app.command()
def embed(
    images: Annotated[list[Path], typer.Argument(help="Aligned face crops, or folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help=".npz file to write.")] = Path(
        "embeddings.npz"
    ),
    model: Model = DEFAULT,
    flip: Annotated[bool, typer.Option(help="Append the mirror image's embedding.")] = True,
):
    """Embed images: writes `embeddings` (N, D) float32 and `paths` (N,) to a .npz file.

    Example: `facemargin embed facemargin-demo/faces-64x12-seed0 --output embeddings.npz`
    """
    import numpy as np

    from keras_facemargin.evaluate import embed
    from keras_facemargin.zoo import load_embedder

    paths = _image_files(images)
    embeddings = embed(load_embedder(model), paths, flip=flip)
    np.savez(output, embeddings=embeddings, paths=np.array([str(path) for path in paths]))
    console.print(f"{output}: {embeddings.shape[0]:,} embeddings of {embeddings.shape[1]} numbers")


@app.command()
def verify(
    first: Annotated[Path, typer.Argument(help="Aligned face crop.")],
    second: Annotated[Path, typer.Argument(help="Aligned face crop.")],
    model: Model = DEFAULT,
    threshold: Annotated[
        float | None, typer.Option(help="Cosine to accept from; default: the card's.")
    ] = None,
):
    """Say whether two aligned crops show the same person, at the threshold of the model's card.

    The images must be aligned to the ArcFace template; an unaligned photo gives a meaningless
    score.

    Example: `facemargin verify A.jpg B.jpg`
    """
    from keras_facemargin.evaluate import cosine_scores, embed
    from keras_facemargin.zoo import load_card, load_embedder

    origin = "as you gave it"
    flip = True
    if threshold is None:
        if model.endswith(".keras"):
            raise ValueError(
                "A .keras file has no card, so verify needs a threshold for it. "
                f"Received: --model {model} without --threshold. Calibrate one on impostor pairs "
                "with keras_facemargin.evaluate.threshold_at_far."
            )
        chosen = load_card(model).threshold
        threshold, flip = chosen.cosine, chosen.flip
        origin = f"FAR {chosen.far:g} on {chosen.impostor_pairs:,} impostor pairs ({chosen.data})"
    embeddings = embed(load_embedder(model), [first, second], flip=flip, progress=False)
    score = float(cosine_scores(embeddings[:1], embeddings[1:])[0])
    same = score >= threshold
    verdict = "[green]same person[/]" if same else "[red]different people[/]"
    console.print(f"{verdict}: cosine {score:.4f}, threshold {threshold:.4f}")
    console.print(f"[dim]threshold: {origin}[/]")
    console.print("[dim]A score is no proof: do not decide about a person by it alone.[/]")


@app.command()
def finetune(
    directory: Annotated[Path, typer.Argument(help="Aligned crops, one folder a person.")],
    output: Output = Path("finetuned"),
    model: Model = DEFAULT,
    head: Annotated[Head, typer.Option(help="Loss to train with.")] = Head.cosface,
    epochs: Annotated[int, typer.Option(min=1)] = 10,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    learning_rate: Annotated[float, typer.Option(help="Adam's first one.")] = 3e-4,
    seed: Annotated[int, typer.Option(help="Of the split, the shuffling, the changes.")] = 0,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad images out instead of refusing.")
    ] = False,
):
    """Fine-tune an embedder on your people; a quarter of them is held out to judge it.

    Writes embedder.keras (to use), classifier.keras (to train on) and report.json.

    Example: `facemargin finetune facemargin-demo/faces-64x12-seed0 --epochs 3 --output finetuned`
    """
    from keras_facemargin.data import FaceFolder
    from keras_facemargin.finetune import compared, finetune
    from keras_facemargin.zoo import load_embedder

    faces = FaceFolder(directory, on_bad="skip" if skip_bad else "refuse")
    console.print(f"{len(faces):,} images of {faces.num_classes:,} identities")
    embedder = load_embedder(model)
    tuned = finetune(embedder, faces, _head(head), epochs, batch_size, learning_rate, seed=seed)
    output.mkdir(parents=True, exist_ok=True)
    embedder.save(output / "embedder.keras")
    tuned.classifier.save(output / "classifier.keras")
    _write_json(
        output / "report.json",
        {
            "model": model,
            "head": head.value,
            "held_out_identities": tuned.held_out.identities,
            "history": tuned.history,
            "before": tuned.before.to_dict(),
            "after": tuned.after.to_dict(),
        },
    )
    table = Table("Held-out people", "Before", "After")
    for row in compared(tuned):
        table.add_row(*row)
    console.print(table)
    console.print(f"{output}/embedder.keras, classifier.keras, report.json")


evaluate = typer.Typer(help="Run a verification protocol on an embedder.", no_args_is_help=True)
app.add_typer(evaluate, name="evaluate")


@evaluate.callback()
def _protocols():
    """Run a verification protocol on an embedder.

    Example: `facemargin evaluate lfw --images DIR --pairs pairs.txt`
    """


@evaluate.command()
def lfw(
    images: Annotated[Path, typer.Option(help="Folder of aligned crops: NAME/NAME_0001.jpg.")],
    pairs: Annotated[Path, typer.Option(help="The official pairs.txt.")],
    model: Model = DEFAULT,
    output: Output = Path("lfw-results"),
    flip: Annotated[bool, typer.Option(help="Append the mirror image's embedding.")] = True,
    on_missing: Annotated[
        Missing,
        typer.Option(help="A listed image that is not there: refuse, or count its pair rejected."),
    ] = Missing.refuse,
):
    """LFW, View 2: 10 folds, the threshold of each chosen on the other nine.

    Prints the table; writes roc.png, scores.png, hardest_pairs.png and results.json.

    Example: `facemargin evaluate lfw --images lfw/aligned --pairs lfw/pairs.txt`
    """
    import numpy as np

    from keras_facemargin.evaluate import (
        evaluate_lfw,
        plot_hardest_pairs,
        plot_roc,
        plot_scores,
        read_pairs,
    )
    from keras_facemargin.zoo import load_embedder

    listed = read_pairs(pairs, images, on_missing.value)
    result = evaluate_lfw(load_embedder(model), images, pairs, flip, on_missing.value)
    console.print(result)
    output.mkdir(parents=True, exist_ok=True)
    threshold = None if result.accuracy is None else float(np.mean(result.accuracy.thresholds))
    plot_roc({model: (result.scores, result.same)}).savefig(output / "roc.png")
    plot_scores(result.scores, result.same, threshold).savefig(output / "scores.png")
    plot_hardest_pairs(listed, result.scores).savefig(output / "hardest_pairs.png")
    _write_json(output / "results.json", {"model": model, "flip": flip, **result.to_dict()})
    console.print(f"{output}/roc.png, scores.png, hardest_pairs.png, results.json")


@app.command()
def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    model: Model = DEFAULT,
    format: Annotated[Format | None, typer.Option(help="Default: by the file's ending.")] = None,
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

    from keras_facemargin.data import read_face
    from keras_facemargin.data.synthetic import synthesize_faces
    from keras_facemargin.export import export_onnx, export_tflite
    from keras_facemargin.zoo import load_embedder

    embedder = load_embedder(model)
    if images is None:
        pixels, _ = synthesize_faces(64, 2)
    else:
        paths = _image_files([images])
        pixels = np.stack([read_face(path) for path in paths[:: max(1, len(paths) // 256)]])
    if format is None:
        format = Format.onnx if output.suffix == ".onnx" else Format.tflite
    if format is Format.onnx:
        if precision is not Precision.float32:
            raise ValueError(
                "An ONNX file is written in float32. "
                f"Received: --precision {precision.value}. Quantise it with onnxruntime, or export "
                "to .tflite."
            )
        verdict = export_onnx(embedder, output, pixels)
    else:
        verdict = export_tflite(embedder, output, precision.value, pixels)
    console.print(str(verdict), highlight=False)


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
    table = Table("Embedder", "Parameters", "D", "LFW 10-fold", "Threshold", "Commercial use")
    for known in list_embedders():
        card = load_card(known)
        result = card.protocols.get("lfw")
        table.add_row(
            card.name,
            f"{card.parameters:,}",
            str(card.embedding_dim),
            "-" if result is None else f"{result.accuracy:.2%} ± {result.standard_error:.2%}",
            f"cosine {card.threshold.cosine:.3f} at FAR {card.threshold.far:g}",
            "cleared" if card.licence.commercial_use else "not cleared",
        )
    console.print(table)


def main():
    """Runs the command; an expected error is one sentence on standard error and exit code 1."""
    try:
        app()
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        Console(stderr=True).print(f"[bold red]Error:[/] {_plain(error)}", highlight=False)
        raise SystemExit(1) from None


def _plain(error):
    from rich.markup import escape

    return escape(str(error))


def _head(name):
    from keras_facemargin import heads

    makers = {
        Head.cosface: lambda n: heads.CosFace(n, margin=0.35, scale=30.0),
        Head.arcface: lambda n: heads.ArcFace(n, margin=0.5, scale=30.0),
        Head.normface: lambda n: heads.NormFace(n, scale=30.0),
        Head.l2softmax: lambda n: heads.L2Softmax(n),
        Head.svsoftmax: lambda n: heads.SVSoftmax(n, variant="am"),
    }
    return makers[name]


def _image_files(places):
    endings = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
    files = []
    for place in places:
        if place.is_dir():
            found = sorted(p for p in place.rglob("*") if p.suffix.lower() in endings)
            if not found:
                raise ValueError(
                    f"A folder must hold images ({', '.join(endings)}). Received: {place}"
                )
            files += found
        elif place.is_file():
            files.append(place)
        else:
            raise ValueError(f"There is no such image or folder. Received: {place}")
    return files


def _write_json(path, content):
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
