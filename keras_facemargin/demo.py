"""The demo: faces, fine-tuning, verification, export and one report."""

import dataclasses
import math
import os
import shutil
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate import plot_hardest_pairs, plot_roc, plot_scores
from keras_facemargin.export import Verdict, export_onnx, export_tflite
from keras_facemargin.export.formats import TFLITE
from keras_facemargin.export.graph import check_backend, float32_embedder
from keras_facemargin.export.write import MIN_REPRESENTATIVE
from keras_facemargin.files import check_writable, exclusive, replace
from keras_facemargin.images import Crop, read_face, write_synthetic_faces
from keras_facemargin.report import Report
from keras_facemargin.training.finetune import SAVED_FILES, FineTuned, finetune
from keras_facemargin.zoo import CARD, CAUTION, Card, find_card, load_embedder

PEOPLE, IMAGES_EACH = 64, 12
PRECISIONS = ("float32", "float16", "dynamic_int8", "int8")
_PACKAGES = ("matplotlib", "ai_edge_litert", "tf2onnx", "onnxruntime")
FILES = (
    *SAVED_FILES,
    *(f"embedder_{precision}.tflite" for precision in PRECISIONS),
    "embedder.onnx",
    "report.html",
)


@dataclasses.dataclass(frozen=True)
class _Results:
    """Everything that the report shows."""

    output: Path
    embedder: str
    people: FaceFolder
    origin: str
    tuned: FineTuned
    verdicts: list[Verdict]
    seconds: float


def run_demo(
    output: str | os.PathLike[str],
    embedder: str,
    *,
    faces: str | os.PathLike[str] | None = None,
) -> Path:
    """Fine-tunes an embedder, judges it on your people and strangers, exports it, reports.

    Args:
        output: folder for all results: `report.html`, the files of `FineTuned.save`,
            `embedder.onnx`, four `.tflite` files and, without `faces`, the drawn faces. It is
            created if missing. Files of an earlier demo are replaced, but its faces are reused.
        embedder: as `load_embedder` takes it.
        faces: folder of aligned crops of real people, one folder for each person; bad images are
            left out with a warning. None draws 64 people who do not exist.

    Returns:
        `pathlib.Path` of the report.

    Raises:
        ValueError: `faces` is not a folder of faces or is too small (eight people and 64 images
            are the least); the embedder is unknown.
        ImportError: a package for plots or export is not installed (extras `export`, `plots`).
        OSError: a file cannot be written; this is checked before the work. Another process writes
            to `output`.
    """
    output = Path(output)
    model = load_embedder(embedder)
    check_backend(TFLITE)
    float32_embedder(model)  # refuses what cannot be exported before the training
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if missing:
        raise ImportError(
            "The demo needs packages for plots and export. Received: "
            f"{', '.join(missing)} not installed. Run: pip install "
            "'keras_facemargin[export,plots]'"
        )
    for name in FILES:
        check_writable(output / name)
    with exclusive(output / "embedder.keras"):
        return _run(output, model, embedder, faces)


def _run(output: Path, model: Any, embedder: str, faces: str | os.PathLike[str] | None) -> Path:
    console = Console()
    start = time.monotonic()
    console.rule("1/4  Faces")
    people, origin = _open_people(console, output, Crop.of_embedder(model), faces)
    console.print(f"{len(people):,} images of {people.num_classes:,} identities: {origin}.")

    console.rule("2/4  Fine-tuning")
    tuned = finetune(model, people)
    console.print(
        f"Trained on {tuned.parts.training.num_classes} identities; "
        f"{tuned.parts.strangers.num_classes} others only test."
    )
    _save(tuned, output, embedder)

    console.rule("3/4  Your people and strangers, before and after")
    console.print(tuned)
    for remark in tuned.remarks:
        console.print(remark, markup=False, highlight=False, soft_wrap=True)

    console.rule("4/4  Export")
    verdicts = _export(console, output, tuned.classifier.embedder, people)
    seconds = time.monotonic() - start
    report = _write_report(_Results(output, embedder, people, origin, tuned, verdicts, seconds))
    console.rule("Done")
    console.print(
        f"{report} ({seconds:.0f} s). Open it in a browser.", markup=False, soft_wrap=True
    )
    return report


def _save(tuned: FineTuned, output: Path, embedder: str) -> None:
    """Replaces the files of an earlier demo; the folder has other files, too."""
    with tempfile.TemporaryDirectory(prefix=".", dir=output) as place:
        draft = Path(place) / output.resolve().name  # the card has the name of its folder
        tuned.save(draft, embedder)
        (output / CARD).unlink(missing_ok=True)  # an older card does not describe the new file
        for name in sorted(SAVED_FILES, key=CARD.__eq__):  # the card last
            replace(draft / name, output / name)


def _open_people(
    console: Console, output: Path, crop: Crop, faces: str | os.PathLike[str] | None
) -> tuple[FaceFolder, str]:
    """The faces and a few words about their origin; without a folder they are drawn."""
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
    if len(people) < MIN_REPRESENTATIVE:  # before minutes of training
        raise ValueError(
            f"The demo needs at least {MIN_REPRESENTATIVE} images, because the int8 export finds "
            f"its ranges on them. Received: {len(people)} images in {folder}. `facemargin "
            "finetune` takes fewer."
        )
    return people, origin


def _export(console: Console, output: Path, model: Any, people: FaceFolder) -> list[Verdict]:
    """Writes the TFLite files and the ONNX file, tested on a share of each person's images."""
    sample = people.paths[:: math.ceil(len(people) / 256)]
    images = np.stack([read_face(path, people.crop) for path in sample])
    verdicts: list[Verdict] = []
    for precision in PRECISIONS:
        path = output / f"embedder_{precision}.tflite"
        with console.status(f"Exporting {path.name} ..."):
            verdicts.append(export_tflite(model, path, precision=precision, images=images))
        console.print(str(verdicts[-1]), markup=False, highlight=False, soft_wrap=True)
    with console.status("Exporting embedder.onnx ..."):
        verdicts.append(export_onnx(model, output / "embedder.onnx", images=images))
    console.print(str(verdicts[-1]), markup=False, highlight=False, soft_wrap=True)
    return verdicts


def contact_sheet(folder: FaceFolder, *, rows: int = 6, columns: int = 12) -> npt.NDArray[np.uint8]:
    """Faces of a folder as one picture, one row for each person: uint8 RGB."""
    height, width = folder.crop.shape
    sheet = np.full((height * rows, width * columns, 3), 255, "uint8")
    for row, label in enumerate(range(min(rows, folder.num_classes))):
        for column, index in enumerate(np.flatnonzero(folder.labels == label)[:columns]):
            face = read_face(folder.paths[index], folder.crop)
            sheet[height * row : height * (row + 1), width * column : width * (column + 1)] = face
    return sheet


def _write_report(run: _Results) -> Path:
    report = Report("keras_facemargin: load, fine-tune, verify, export")
    tuned = run.tuned
    report.paragraph(
        f"{len(run.people):,} images of {run.people.num_classes:,} identities: {run.origin}. The "
        f"embedder {run.embedder} was fine-tuned on {tuned.parts.training.num_classes} of them "
        f"with a CosFace head; the {tuned.parts.strangers.num_classes} others only test, as "
        "strangers. The demo took "
        f"{run.seconds:.0f} seconds."
    )
    report.paragraph(CAUTION)
    report.heading("Faces")
    report.image(contact_sheet(run.people), f"One row for each person. They are {run.origin}.")
    report.heading("Fine-tuning")
    report.figure(
        _plot_history(tuned.history),
        "Loss with the margin; accuracy without it, as a user of the classifier sees it.",
    )
    _report_verification(report, tuned)
    _report_exports(report, run.verdicts, tuned)
    card = find_card(run.embedder)
    if card is not None:
        _report_card(report, card)
    return report.write(run.output / "report.html")


def _report_verification(report: Report, tuned: FineTuned) -> None:
    report.heading("Your people and strangers, before and after")
    report.table(
        ("Measure", "Before", "After", "Difference, in points"),
        tuned.rows(),
        "Your people: test images searched among the mean embeddings of the training images. "
        "Strangers: all pairs of their images. In brackets: 95 % of draws of people.",
    )
    for remark in tuned.remarks:
        report.paragraph(remark)
    before, after = tuned.before.strangers, tuned.after.strangers
    chosen = tuned.thresholds.find(mirrored=True)
    report.figure(
        plot_roc({"before": before.curve, "after": after.curve}),
        "Strangers: share of genuine pairs accepted at each share of impostor pairs accepted.",
    )
    kept = tuned.result.strangers
    report.figure(
        plot_scores(kept.scores, kept.same, threshold=chosen.cosine),
        f"Scores of the embedder that was kept, with the threshold at FAR {chosen.far:.2g}.",
    )
    report.figure(
        plot_hardest_pairs(tuned.pairs, kept.scores),
        "The largest errors of the embedder that was kept.",
    )


def _report_exports(report: Report, verdicts: list[Verdict], tuned: FineTuned) -> None:
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
        f"Batch of one on this host, {verdicts[0].threads} threads. Each file was compared with "
        f"Keras on {verdicts[0].num_images} faces. A file outside its tolerance is an error and "
        "is not written.",
    )
    report.paragraph(
        "An exported file gives the embedding of an image alone. Its threshold is a cosine of "
        f"{tuned.thresholds.find(mirrored=False)}. For embeddings with the mirror image's "
        "appended, as the command verify compares them, it is "
        f"{tuned.thresholds.find(mirrored=True)}."
    )


def _report_card(report: Report, card: Card) -> None:
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


def _plot_history(history: dict[str, list[float]]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 2.8), layout="constrained", dpi=160, facecolor="white")
    axes = figure.subplots(1, 2)
    epochs = np.arange(1, len(history["loss"]) + 1)
    for axis, key, name in zip(axes, ("loss", "accuracy"), ("Loss", "Accuracy"), strict=True):
        axis.plot(epochs, history[key])
        axis.set(xlabel="Epoch", ylabel=name)
        axis.set_ylim(0, 1.02 if key == "accuracy" else None)
        axis.grid(alpha=0.3)
    return figure
