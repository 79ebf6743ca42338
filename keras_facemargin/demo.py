"""The main job from end to end: faces, fine-tuning, verification, export, one report to look at."""

import math
import shutil
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from rich.console import Console

from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate import plot_hardest_pairs, plot_roc, plot_scores
from keras_facemargin.export import export_onnx, export_tflite
from keras_facemargin.export.formats import MIN_REPRESENTATIVE
from keras_facemargin.export.graph import float32_embedder
from keras_facemargin.files import check_writable, exclusive
from keras_facemargin.images import Crop, read_face, write_synthetic_faces
from keras_facemargin.report import Report
from keras_facemargin.training.finetune import SAVED_FILES, finetune
from keras_facemargin.zoo import CAUTION, find_card, load_embedder

PEOPLE, IMAGES_EACH, EPOCHS = 64, 12, 6
PRECISIONS = ("float32", "float16", "dynamic_int8", "int8")
_PACKAGES = ("matplotlib", "ai_edge_litert", "tf2onnx", "onnxruntime")
FILES = (
    *SAVED_FILES,
    *(f"embedder_{precision}.tflite" for precision in PRECISIONS),
    "embedder.onnx",
    "report.html",
)


def run_demo(output, embedder, faces=None):
    """Fine-tunes an embedder, verifies strangers before and after, exports it, writes a report.

    Args:
        output: folder for everything that is made: `report.html`, what `FineTuned.save` writes,
            `embedder.onnx`, four `.tflite` files and, without `faces`, the faces drawn. Made if
            missing; files of an earlier demo are replaced, but its faces are used again.
        embedder: as `load_embedder` takes it.
        faces: folder of aligned crops of real people, one folder a person; bad images are left out
            with a warning. None draws 64 people who do not exist.

    Returns:
        `pathlib.Path` of the report.

    Raises:
        ValueError: `faces` is no such folder or too small (eight people and 64 images are needed),
            or the embedder is unknown.
        ImportError: a package that draws or exports is not installed (extras `export`, `plots`).
        OSError: a file cannot be written, which is found before the work; another process writes
            to `output`.
    """
    output = Path(output)
    model = load_embedder(embedder)
    float32_embedder(model)  # what cannot be exported is refused before it is trained
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if missing:
        raise ImportError(
            f"The demo draws and exports. Received: {', '.join(missing)} not installed. "
            "Run: pip install 'keras_facemargin[export,plots]'"
        )
    for name in FILES:
        check_writable(output / name)
    with exclusive(output / "embedder.keras"):
        return _run(output, model, embedder, faces)


def _run(output, model, embedder, faces):
    console = Console()
    began = time.monotonic()
    crop = Crop.of_embedder(model)
    console.rule("1/4  Faces")
    if faces is None:
        size = "" if crop.size == 112 else f"-{crop}"
        folder = output / f"faces-{PEOPLE}x{IMAGES_EACH}-seed0{size}"
        if not folder.is_dir():
            with console.status(f"Drawing {PEOPLE} people who do not exist ..."):
                draft = folder.with_suffix(".draft")
                shutil.rmtree(draft, ignore_errors=True)
                write_synthetic_faces(draft, PEOPLE, IMAGES_EACH, seed=0, image_size=crop)
                draft.rename(folder)
        origin = "people who do not exist, drawn from a statistical face model"
    else:
        folder, origin = Path(faces), "real people, from your folder"
    people = FaceFolder(folder, image_size=crop, on_bad="skip")
    if len(people) < MIN_REPRESENTATIVE:  # said before minutes of training, not after them
        raise ValueError(
            f"The demo exports to int8 too, which takes at least {MIN_REPRESENTATIVE} images to "
            f"find its ranges. Received: {len(people)} images in {folder}. `facemargin finetune` "
            "takes fewer."
        )
    console.print(f"{len(people):,} images of {people.num_classes:,} identities: {origin}.")

    console.rule("2/4  Fine-tuning")
    tuned = finetune(model, people, epochs=EPOCHS)
    console.print(
        f"Trained on {tuned.training.num_classes} identities; "
        f"{tuned.held_out.num_classes} others only judge."
    )
    tuned.save(output, embedder)

    console.rule("3/4  Verification of people never seen in training")
    console.print(tuned)
    for remark in tuned.remarks:
        console.print(remark, markup=False, highlight=False, soft_wrap=True)

    console.rule("4/4  Export")
    spread = people.paths[:: math.ceil(len(people) / 256)]  # each person has a share
    images = np.stack([read_face(path, crop) for path in spread])
    verdicts = []
    for precision in PRECISIONS:
        path = output / f"embedder_{precision}.tflite"
        with console.status(f"Exporting {path.name} ..."):
            verdicts.append(export_tflite(model, path, precision=precision, images=images))
        console.print(str(verdicts[-1]), markup=False, highlight=False, soft_wrap=True)
    with console.status("Exporting embedder.onnx ..."):
        verdicts.append(export_onnx(model, output / "embedder.onnx", images=images))
    console.print(str(verdicts[-1]), markup=False, highlight=False, soft_wrap=True)

    seconds = time.monotonic() - began
    report = _write_report(output, people, origin, embedder, tuned, verdicts, seconds)
    console.rule("Done")
    console.print(
        f"{report} ({seconds:.0f} s). Open it in a browser.", markup=False, soft_wrap=True
    )
    return report


def contact_sheet(folder, rows=6, columns=12):
    """Faces of a `FaceFolder` as one picture, uint8 RGB: a row for each person."""
    height, width = folder.crop.shape
    sheet = np.full((height * rows, width * columns, 3), 255, "uint8")
    for row, label in enumerate(range(min(rows, folder.num_classes))):
        for column, index in enumerate(np.flatnonzero(folder.labels == label)[:columns]):
            face = read_face(folder.paths[index], folder.crop)
            sheet[height * row : height * (row + 1), width * column : width * (column + 1)] = face
    return sheet


def _write_report(output, people, origin, embedder, tuned, verdicts, seconds):
    report = Report("keras_facemargin: load, fine-tune, verify, export")
    report.paragraph(
        f"{len(people):,} images of {people.num_classes:,} identities: {origin}. The embedder "
        f"{embedder} was fine-tuned on {tuned.training.num_classes} of them with a CosFace head; "
        f"the {tuned.held_out.num_classes} others only judge. It all took {seconds:.0f} seconds."
    )
    report.paragraph(CAUTION)

    report.heading("Faces")
    report.image(contact_sheet(people), f"A person a row. They are {origin}.")

    report.heading("Fine-tuning")
    report.figure(
        _plot_history(tuned.history),
        "Loss with the margin; accuracy without it, as a user of the classifier sees it.",
    )

    report.heading("Verification of people never seen in training")
    report.table(
        ("Measure", "Before", "After"),
        tuned.rows(),
        "All pairs of the held-out images. A rate below what the number of impostor pairs can "
        "tell is not given.",
    )
    for remark in tuned.remarks:
        report.paragraph(remark)
    before, after = tuned.before, tuned.after
    chosen = tuned.thresholds.find(mirrored=True)
    report.figure(
        plot_roc({"before": before.curve, "after": after.curve}),
        "Share of genuine pairs accepted at each share of impostor pairs accepted.",
    )
    report.figure(
        plot_scores(after.scores, after.same, chosen.cosine),
        f"Scores after fine-tuning, with the threshold at FAR {chosen.far:.2g}.",
    )
    report.figure(
        plot_hardest_pairs(tuned.pairs, after.scores), "Where the fine-tuned embedder errs most."
    )

    report.heading("Export")
    report.table(
        ("File", "MB", "Cosine to Keras, min", "mean", "ms per image", "Keras ms", "Verdict"),
        [
            (
                Path(verdict.path).name,
                f"{verdict.size_bytes / 1e6:.2f}",
                f"{verdict.cosine_min:.5f}",
                f"{verdict.cosine_mean:.5f}",
                f"{verdict.latency_ms:.2f}",
                f"{verdict.keras_latency_ms:.2f}",
                "passed" if verdict.passed else "failed",
            )
            for verdict in verdicts
        ],
        f"Batch of one on this host, {verdicts[0].threads} threads; each file was compared with "
        f"Keras on {verdicts[0].num_images} faces. A file that fails its tolerance is an error and "
        "is not written.",
    )
    report.paragraph(
        "Such a file gives the embedding of an image alone. Its threshold is a cosine of "
        f"{tuned.thresholds.find(mirrored=False)}. For embeddings with the mirror image's "
        f"appended, as the command verify compares them, it is {chosen}."
    )

    card = find_card(embedder)
    if card is not None:
        report.heading(f"The embedder: {card.name}")
        report.paragraph(card.description)
        report.table(
            ("", ""),
            [
                ("Architecture", card.architecture),
                *(() if card.training is None else (("Training", card.training.data),)),
                *(("Lineage", line) for line in card.lineage),
                *(("Licence", str(entry)) for entry in card.license),
                ("Caution", card.caution),
            ],
        )
    return report.write(output / "report.html")


def _plot_history(history):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 2.8), layout="constrained", dpi=160, facecolor="white")
    axes = figure.subplots(1, 2)
    epochs = np.arange(1, len(history["loss"]) + 1)
    for axis, key, name in zip(axes, ("loss", "accuracy"), ("Loss", "Accuracy"), strict=True):
        axis.plot(epochs, history[key], marker="o", markersize=3, label="training images")
        axis.plot(
            epochs, history[f"val_{key}"], marker="o", markersize=3, label="held-out images of them"
        )
        axis.set(xlabel="Epoch", ylabel=name, xticks=epochs)
        axis.set_ylim(0, 1.02 if key == "accuracy" else None)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8)
    return figure
