"""Writes a bundle."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

import keras_facemargin
from keras_facemargin.evaluate import embed
from keras_facemargin.export.bundle.clients import write_clients
from keras_facemargin.export.bundle.manifest import (
    MANIFEST,
    SCHEMA,
    FileThresholds,
    GoldenCrop,
    GoldenPhoto,
    Manifest,
    ModelEntry,
    SelfTest,
    schema,
)
from keras_facemargin.export.bundle.page import has_page, write_page
from keras_facemargin.export.bundle.selftest import (
    Photo,
    expected_embeddings,
    golden_crops,
    golden_photo,
)
from keras_facemargin.export.costs import with_costs
from keras_facemargin.export.decisions import LabelledFaces, compare_decisions
from keras_facemargin.export.formats import format_of
from keras_facemargin.export.graph import INPUT_NAME, OUTPUT_NAME
from keras_facemargin.export.page import write_verdicts
from keras_facemargin.export.write import export_embedder, open_session
from keras_facemargin.files import draft_folder, write_json
from keras_facemargin.images.crop import Crop
from keras_facemargin.runtime.file import Session
from keras_facemargin.runtime.pixels import Pixels
from keras_facemargin.zoo.calibration import find_thresholds
from keras_facemargin.zoo.card import Card, describe_file, digest_of
from keras_facemargin.zoo.open import open_embedder
from keras_facemargin.zoo.parts import Threshold

# A phone's file and a browser's.
FILES = {"embedder.tflite": "float32", "embedder.onnx": "float32"}
_SELFTEST = "selftest"
VERDICTS = "verdict.html"
_UNIT = 1e-3  # the norm of a normalised embedding is one to within this


def export_bundle(
    embedder: Any,
    directory: str | os.PathLike[str],
    *,
    files: Mapping[str, str] = FILES,
    card: Card | None = None,
    images: npt.NDArray[Any] | None = None,
    tune: npt.NDArray[Any] | None = None,
    people: LabelledFaces | None = None,
    fars: Sequence[float] | None = None,
    progress: bool = False,
) -> Manifest:
    """Writes a folder with all that an app needs to use an embedder, and to prove that it does.

    | file | content |
    | --- | --- |
    | the model files | each tested as `export_embedder` tests it |
    | `manifest.json` | what the files take and give, thresholds, licence ledger, digests |
    | `selftest/` | drawn faces, their embeddings, and those under each known fault of an app |
    | `face_embedder.py`, `.mjs`, `FaceEmbedder.kt`, `.swift` | from five points to the answer |
    | `web/` | a page that compares two photos in a browser, if a file is ONNX in float32 |
    | `verdict.html` | cosines, size, latency and, with `people`, decisions before and after |
    | `README.md` | for the developer of the app |

    Args:
        embedder: as `export_embedder`.
        directory: the folder to write; it must not exist, or be empty. It appears in one step.
        files: name of each model file -> precision. The ending chooses the format.
        card: `Card` of the embedder, for the ledger and, without `people`, the thresholds. None:
            the ledger is empty.
        images, tune, progress: as `export_embedder`; int8 needs at least 64 images, and only its
            files train.
        people: labelled crops of people whom the embedder was not trained on. Every pair calibrates
            the thresholds of each file on its own embeddings, and is decided before and after.
        fars: false accept rates of the thresholds, as `calibrate` takes them.

    Returns:
        The `Manifest` in the folder.

    Raises:
        FileExistsError: the folder is in use.
        ExportError: as `export_embedder`; the failed file is kept as `<directory>.<file>.failed`.
        ValueError: as `export_embedder` and `calibrate`; a name of `files` is a path.
        RuntimeError, ImportError, OSError: as `export_embedder`.

    Example:

    ```python
    manifest = export_bundle(embedder, "bundle", images=crops)
    ```
    """
    directory = Path(directory)
    _check_names(files)
    _check_tuned(files, tune)
    crop = Crop.of_embedder(embedder) if card is None else card.crop
    with draft_folder(directory) as draft:
        (draft / _SELFTEST).mkdir()
        crops, photo = golden_crops(crop), golden_photo(crop)
        selftest = _write_images(draft, crops, photo)
        models, verdicts = [], []
        page = _model_of_page(files, crop)
        before = mirrored = None
        if people is not None:
            mirrored = embed(embedder, people.paths)
            before = mirrored[:, : mirrored.shape[1] // 2]
        for name, precision in files.items():
            verdict = export_embedder(
                embedder,
                draft / name,
                precision=precision,
                images=images,
                tune=tune if precision == "int8" else None,
                progress=progress,
                keep=directory.with_name(f"{directory.name}.{name}.failed"),
            )
            verdict = with_costs(verdict)
            file = draft / name
            session = open_session(file, None)
            expected = expected_embeddings(session, crops, photo, crop, precision)
            place = f"{_SELFTEST}/{name}.json"
            (draft / place).write_text(expected.model_dump_json(), encoding="utf-8")
            thresholds = None
            if people is not None and before is not None:
                after = embed(open_embedder(file), people.paths, flip=False)
                thresholds = _calibrated(after, people.labels, fars)
                found = compare_decisions(before, after, people.labels)
                verdict = dataclasses.replace(verdict, decisions=found)
            elif card is not None and card.thresholds is not None:
                thresholds = FileThresholds(of="the Keras embedder", single=card.thresholds.single)
            verdicts.append(dataclasses.replace(verdict, path=name))
            described = describe_file(
                file, crop=crop, pixels=Pixels(), embedding_dim=len(expected.crops[0])
            )
            models.append(
                ModelEntry.model_validate(
                    {
                        "file": name,
                        "format": described.converter,
                        "precision": precision,
                        "bytes": described.weights.bytes,
                        "input": {
                            "name": INPUT_NAME,
                            "shape": session.shape,
                            "dtype": session.dtype.name,
                            "layout": "NHWC",
                            "channel_order": "RGB",
                            "range": (0, 255),
                            "pixel_rule": "raw",
                        },
                        "output": {
                            "name": OUTPUT_NAME,
                            "dtype": "float32",
                            "embedding_dim": described.embedding_dim,
                            # An output of 256 steps has unit length for some crops only.
                            "normalised": not format_of(name, precision).calibrated
                            and _normalised(session, crops),
                        },
                        "embedding_id": described.embedding_id,
                        "thresholds": thresholds,
                        "verdict": verdicts[-1].to_dict(),
                        "expected": place,
                    }
                )
            )
        about = described if card is None else card
        manifest = Manifest(
            schema_version=1,
            name=directory.resolve().name if card is None else card.name,
            description="A face embedder." if card is None else card.description,
            made_by=f"keras_facemargin {keras_facemargin.__version__}",
            crop=described.input.crop,
            models=tuple(models),
            selftest=selftest,
            license=about.license,
            commercial_use=about.commercial_use,
            commercial_obstacles=about.commercial_obstacles,
            lineage=about.lineage,
            caution=about.caution,
            digests={
                file.relative_to(draft).as_posix(): digest_of(file)
                for file in sorted(draft.rglob("*"))
                if file.is_file()
            },
        )
        write_json(draft / MANIFEST, manifest.to_dict())
        write_json(draft / SCHEMA, schema())
        write_clients(draft, manifest, page=page is not None)
        if page is not None:
            write_page(
                draft,
                draft / page,
                crop,
                card=card,
                thresholds=_thresholds_of_page(mirrored, people, card, fars),
            )
        write_verdicts(draft / VERDICTS, manifest.name, verdicts)
    return manifest


def _model_of_page(files: Mapping[str, str], crop: Crop) -> str | None:
    """The model file that the page runs; None: the bundle gets no page."""
    for name, precision in files.items():
        if name.lower().endswith(".onnx") and precision == "float32" and has_page(crop):
            return name
    return None


def _thresholds_of_page(
    mirrored: npt.NDArray[np.float32] | None,
    people: LabelledFaces | None,
    card: Card | None,
    fars: Sequence[float] | None,
) -> tuple[Threshold, ...]:
    """The thresholds for embeddings with the mirror image's appended."""
    if mirrored is not None and people is not None:
        about = _about(mirrored, people.labels)
        return find_thresholds(mirrored, people.labels, fars, about, True)
    return () if card is None or card.thresholds is None else card.thresholds.mirrored


def _check_names(files: Mapping[str, str]) -> None:
    if not files:
        raise ValueError("A bundle must have a model file. Received: files={}")
    for name, precision in files.items():
        if format_of(name, precision).container.folder:
            raise ValueError(
                "The model files of a bundle must be .tflite or .onnx, which its code runs. "
                f"Received: {name!r}. Export a folder beside the bundle with export_embedder."
            )
        if Path(name).name != name:
            raise ValueError(
                f"The model files of a bundle must be names without a folder. Received: {name!r}"
            )


def _check_tuned(files: Mapping[str, str], tune: npt.NDArray[Any] | None) -> None:
    if tune is not None and "int8" not in files.values():
        raise ValueError(
            "`tune` trains the rounding of int8, so the bundle must have an int8 file. Received: "
            f"files={dict(files)}. Add one, or leave `tune` out."
        )


def _write_images(draft: Path, crops: list[npt.NDArray[np.uint8]], photo: Photo | None) -> SelfTest:
    def write(name: str, image: npt.NDArray[np.uint8]) -> dict[str, str]:
        places = {ending: f"{_SELFTEST}/{name}.{ending}" for ending in ("png", "rgb")}
        Image.fromarray(image).save(draft / places["png"])
        (draft / places["rgb"]).write_bytes(image.tobytes())
        return places

    return SelfTest(
        crops=tuple(
            GoldenCrop(**write(f"crop_{number}", crop))
            for number, crop in enumerate(crops, start=1)
        ),
        photo=None
        if photo is None
        else GoldenPhoto(
            **write("photo", photo.image),
            width=photo.image.shape[1],
            height=photo.image.shape[0],
            points=tuple(map(tuple, photo.points.tolist())),
        ),
    )


def _normalised(session: Session, crops: list[npt.NDArray[np.uint8]]) -> bool:
    rows = [session.run(crop[None].astype(session.dtype))[0][0] for crop in crops]
    return bool(np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=_UNIT))


def _calibrated(
    rows: npt.NDArray[np.float32], labels: npt.NDArray[np.int32], fars: Sequence[float] | None
) -> FileThresholds:
    about = _about(rows, labels)
    return FileThresholds(of="this file", single=find_thresholds(rows, labels, fars, about, True))


def _about(rows: npt.NDArray[np.float32], labels: npt.NDArray[np.int32]) -> str:
    return f"all pairs of {len(rows):,} images of {len(np.unique(labels)):,} people"
