"""Writes an embedder as a file of a format, tested before it is delivered."""

import os
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_facemargin.export import onnx, openvino, savedmodel, tflite
from keras_facemargin.export.conversion import converting, unrunnable
from keras_facemargin.export.equalise import equalise
from keras_facemargin.export.formats import (
    CONTAINERS,
    TFLITE,
    Format,
    Tolerance,
    format_of,
    require,
)
from keras_facemargin.export.graph import check_backend, float32_embedder, reference_of
from keras_facemargin.export.images import check_images
from keras_facemargin.export.int8_aware import tune_for_int8
from keras_facemargin.export.rewrite import merge_normalisation
from keras_facemargin.export.verdict import (
    Artefact,
    Op,
    Run,
    Verdict,
    check_path,
    deliver,
    threads,
    write_artefact,
)
from keras_facemargin.images.crop import Crop
from keras_facemargin.runtime import onnx as onnx_runtime
from keras_facemargin.runtime import openvino as openvino_runtime
from keras_facemargin.runtime import savedmodel as savedmodel_runtime
from keras_facemargin.runtime import tflite as tflite_runtime
from keras_facemargin.runtime.carried import Carried
from keras_facemargin.runtime.file import Session
from keras_facemargin.runtime.pixels import Pixels
from keras_facemargin.zoo.open import Embedder, open_embedder

Images: TypeAlias = npt.NDArray[Any]
MIN_REPRESENTATIVE = 64


@dataclass(frozen=True)
class _Writer:
    """How the files of a container are written and opened.

    Attributes:
        convert: from embedder, precision, representative images and the entry on the input to the
            bytes of the file.
        list_ops: from the bytes to the ops.
        open_session: from a file, or the bytes of one, and a number of threads to a `Session`.
    """

    convert: Callable[[Any, str, Images | None, bytes | None], Artefact]
    list_ops: Callable[[Any], list[Op]]
    open_session: Callable[[Any, int | None], Session]


_WRITERS = {
    "tflite": _Writer(tflite.convert, tflite.list_ops, tflite_runtime.open_session),
    "onnx": _Writer(onnx.convert, onnx.list_ops, onnx_runtime.open_session),
    "savedmodel": _Writer(savedmodel.convert, savedmodel.list_ops, savedmodel_runtime.open_session),
    "openvino": _Writer(openvino.convert, openvino.list_ops, openvino_runtime.open_session),
}


def open_session(path: Path, threads: int | None) -> Session:
    """Opens an exported file, or folder, in its runtime; see `open_file`."""
    return _WRITERS[CONTAINERS[path.suffix.lower()].name].open_session(path, threads)


def open_exported(path: str | os.PathLike[str], embedder: Any) -> Embedder:
    """Opens an exported file, or folder, to embed images with it, on as many threads as Keras.

    Args:
        path: as `export_embedder` wrote it.
        embedder: the `keras.Model`, whose crop a folder takes.
    """
    path = Path(path)
    if not CONTAINERS[path.suffix.lower()].folder:
        return open_embedder(path, threads=threads())
    session = open_session(path, threads())
    return open_embedder(
        lambda images: session.run(images.astype(session.dtype))[0],
        crop=Crop.of_embedder(embedder),
    )


def runner(format: Format, artefact: Artefact) -> Run:
    """A function from images to embeddings that runs a file as `open_embedder` does.

    Args:
        format: its `Format`.
        artefact: bytes of the file.
    """
    opener = _WRITERS[format.container.name].open_session
    if isinstance(artefact, bytes):
        session = opener(artefact, threads())
    else:
        with tempfile.TemporaryDirectory(prefix="facemargin-") as name:
            write_artefact(artefact, Path(name))
            session = opener(Path(name), threads())
    return lambda images: session.run(images.astype(session.dtype))[0]


def export_embedder(
    embedder: Any,
    path: str | os.PathLike[str],
    *,
    precision: str = "float32",
    images: Images | None = None,
    tune: Images | None = None,
    tolerance: Tolerance | None = None,
    keep: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Verdict:
    """Writes an embedder in the format that the ending of the file names, and compares it.

    | ending | content | precisions |
    | --- | --- | --- |
    | `.tflite`, `.onnx` | a file | as `export_tflite` and `export_onnx` |
    | `.savedmodel` | a folder for TensorFlow; the batch is free | float32 |
    | `.openvino` | a folder, `model.xml` and `model.bin`; the batch is free | float32, float16 |

    `FORMATS` lists all with their tolerances, the backends of Keras that write them and the
    packages that they need. A file carries its crop and its pixels, RGB 0..255, in an entry
    `keras_facemargin` of its metadata, where `keras_facemargin.open_embedder` reads them; a folder
    in `keras_facemargin.json`.

    Args:
        embedder, images, tune, tolerance: as `export_tflite` and `export_onnx`.
        path: the file to write; a folder must not exist, or be empty.
        precision: of a row of `FORMATS` with this ending.
        keep: where a file that misses the tolerance is written. Default: `<path>.failed`.
        progress: whether to show the progress of `tune` on standard error.

    Returns:
        A `Verdict`.

    Raises:
        FileExistsError: the folder is in use.
        ExportError, ValueError, ImportError: as `export_tflite` and `export_onnx`.

    Example:

    ```python
    for file in ("face.tflite", "face.onnx"):
        print(export_embedder(embedder, file))
    ```
    """
    format = format_of(path, precision)
    path = check_path(path, format.container.suffix, folder=format.container.folder)
    backend = check_backend(format.container)
    carried = Carried(Crop.of_embedder(embedder), Pixels()).to_json().encode()
    embedder = float32_embedder(embedder)
    representative = None
    if format.calibrated:
        representative, images = _split_representative(images, embedder.input_shape[1:], precision)
    else:
        images = check_images(images, embedder.input_shape[1:])
    if tune is not None:
        tune = _check_tuning(tune, embedder.input_shape[1:], precision)
    require(format, backend)
    writer = _WRITERS[format.container.name]
    other_rows = {}
    kind = f"{format.container.title} {precision}"
    faces = images if representative is None else representative
    with converting(kind, embedder):
        converted = _suited(embedder, format, faces)
    if tune is not None:  # out of what hides output, which its progress is
        converted = tune_for_int8(converted, tune, progress)
        converted = equalise(converted, faces)  # its ranges are other ones
    with converting(kind, embedder):
        artefact = writer.convert(converted, precision, representative, carried)
        run = _first_run(format, artefact, embedder, images)
        if isinstance(artefact, bytes) and format.container is TFLITE:
            dtype = "uint8" if precision == "int8" else "float32"
            other_rows = {
                "LiteRT CompiledModel": tflite_runtime.run_compiled(artefact, images.astype(dtype))
            }
        ops = writer.list_ops(artefact)
    return deliver(
        artefact,
        path,
        run,
        reference_of(embedder),
        images,
        format=format,
        tolerance=tolerance,
        other_rows=other_rows,
        keep=None if keep is None else Path(keep),
        ops=dict(Counter(op.name for op in ops)),
        float_islands=tuple(op.name for op in ops if op.is_float) if format.calibrated else (),
    )


def _suited(embedder: Any, format: Format, faces: Images) -> Any:
    """An embedder of the same function that loses less by the integers of a format."""
    if format.weights != "int8":
        return embedder
    merged = merge_normalisation(embedder)
    if format.precision not in ("int8", "dynamic_int8"):
        return merged
    return equalise(merged, faces.astype("float32"))


def _first_run(format: Format, artefact: Artefact, embedder: Any, images: Images) -> Run:
    """The runner of a file, after a first image: an op that LiteRT refuses is named here."""
    try:
        run = runner(format, artefact)
        run(images[:1])
    except RuntimeError as error:
        failed = tflite.failed_op(artefact, str(error)) if isinstance(artefact, bytes) else None
        if failed is None:
            raise
        kind = f"{format.container.title} {format.precision}"
        raise unrunnable(kind, embedder, *failed, error) from error
    return run


def export_tflite(
    embedder: Any,
    path: str | os.PathLike[str],
    *,
    precision: str = "float32",
    images: Images | None = None,
    tune: Images | None = None,
    tolerance: Tolerance | None = None,
    progress: bool = False,
) -> Verdict:
    """Writes an embedder as a TFLite file and compares it with Keras.

    The file takes one image (`"image"`, `(1, H, W, 3)`, NHWC, raw RGB: the preprocessing is inside)
    and returns `"embedding"`, float32 `(1, D)`, L2-normalised by one fused op. The batch is 1,
    because GPU delegates and NPUs compile static shapes only; on a CPU
    `Interpreter.resize_tensor_input` sets any batch.

    | precision | weights | arithmetic | image |
    | --- | --- | --- | --- |
    | `"float32"` | float32 | float32 | float32 0..255 |
    | `"float16"` | float16 | float32, or float16 on a GPU | float32 0..255 |
    | `"weight_int8"` | int8 | float32 | float32 0..255 |
    | `"dynamic_int8"` | int8 | int8 products, float32 between layers | float32 0..255 |
    | `"int16x8"` | int8 | int16, float32 islands | float32 0..255 |
    | `"int8"` | int8 | int8 throughout | uint8 RGB bytes |

    Full int8 takes the bytes of a camera frame unchanged (scale 1, zero point 0) and dequantises
    its own output, so a program needs no scale. MediaPipe's ImageEmbedder opens this file and the
    float ones, which have the metadata that it needs (NormalizationOptions with mean 0 and standard
    deviation 1: the graph takes RGB 0..255). The int8 embeddings are multiples of 1/128 and have
    unit length only to within a few per cent: compare them with the cosine, not the dot product,
    and calibrate their threshold on the file itself.

    Args:
        embedder: a Functional `keras.Model`, `(B, H, W, 3)` float32 RGB 0..255 -> `(B, D)`. One
            trained in mixed precision is exported and compared in float32.
        path: the file to write, ending in `.tflite`. Only a file that passes replaces an existing
            one, in one step.
        precision: a row of the table.
        images: aligned face crops to compare on, uint8 or float `(N, H, W, 3)`, RGB 0..255.
            Default: 64 synthetic faces. int8 and int16x8 have no default: they need at least 64
            images (some hundreds of different people are better). Every other image sets the ranges
            of the activations; the rest are compared.
        tune: uint8 or float `(N, H, W, 3)`, more such crops, at least 64, without labels. For int8
            only: a copy of the network trains on them with the rounding inside, until the file is
            nearer to Keras (arXiv:1712.05877). The embedder itself does not change. It takes some
            minutes. Default: no training.
        tolerance: a `Tolerance`. Default: that of the row in `FORMATS`. In full int8 a mean of
            0.995 is usual for a trained embedder, and 0.5 for an untrained one.
        progress: whether to show the progress of `tune` on standard error.

    Returns:
        A `Verdict`; print it, or keep its `to_dict()`.

    Raises:
        ExportError: the embedder has an op without a TFLite form (the error names layer and op), or
            the file misses the tolerance; it is kept as `<path>.failed`; Keras runs on another
            backend than TensorFlow.
        ValueError: a wrong precision, path, embedder or image.
        ImportError: LiteRT (extra `export`) or, for weight_int8, ai-edge-quantizer (extra
            `quantizer`) is not installed.

    Example:

    ```python
    verdict = export_tflite(embedder, "face.tflite", precision="int8", images=crops)
    print(verdict)
    ```
    """
    check_path(path, ".tflite")
    return export_embedder(
        embedder,
        path,
        precision=precision,
        images=images,
        tune=tune,
        tolerance=tolerance,
        progress=progress,
    )


def export_onnx(
    embedder: Any,
    path: str | os.PathLike[str],
    *,
    precision: str = "float32",
    images: Images | None = None,
    tune: Images | None = None,
    tolerance: Tolerance | None = None,
    progress: bool = False,
) -> Verdict:
    """Writes an embedder as an ONNX file and compares it with Keras.

    The file takes `"image"`, float32 `(batch, H, W, 3)`, NHWC, RGB 0..255 (the preprocessing is
    inside), any batch, and returns `"embedding"`, float32 `(batch, D)`, L2-normalised.

    | precision | weights | arithmetic |
    | --- | --- | --- |
    | `"float32"` | float32 | float32 |
    | `"float16"` | float16 | float16, for GPUs; a CPU is slower with it |
    | `"int8"` | int8 | int8, float32 normalisation, by ONNX Runtime's quantiser |

    Args:
        embedder: a Functional `keras.Model`, `(B, H, W, 3)` float32 RGB 0..255 -> `(B, D)`. One
            trained in mixed precision is exported and compared in float32.
        path: the file to write, ending in `.onnx`. Only a file that passes replaces an existing
            one, in one step.
        precision: a row of the table.
        images, tune, progress: as `export_tflite`; int8 needs at least 64 images.
        tolerance: a `Tolerance`. Default: that of the row in `FORMATS`.

    Returns:
        A `Verdict`; print it, or keep its `to_dict()`.

    Raises:
        ExportError: the embedder has an op without an ONNX form (the error names layer and op), or
            the file misses the tolerance; it is kept as `<path>.failed`; Keras runs on another
            backend than TensorFlow and torch.
        ValueError: a wrong precision, path, embedder or image.
        ImportError: tf2onnx or ONNX Runtime is not installed (extra `export`).

    Example:

    ```python
    print(export_onnx(embedder, "face.onnx"))
    ```
    """
    check_path(path, ".onnx")
    return export_embedder(
        embedder,
        path,
        precision=precision,
        images=images,
        tune=tune,
        tolerance=tolerance,
        progress=progress,
    )


def _split_representative(
    images: Images | None, input_shape: tuple[int, ...], precision: str
) -> tuple[Images, Images]:
    """Images -> (float32 images that set the ranges, uint8 images that judge)."""
    if images is not None:
        images = check_images(images, input_shape)
    if images is None or len(images) < MIN_REPRESENTATIVE:
        received = "none" if images is None else f"{len(images)} images"
        raise ValueError(
            f"precision={precision!r} needs `images`, at least {MIN_REPRESENTATIVE} aligned face "
            "crops (N, H, W, 3), RGB 0..255: one half sets the ranges of the activations, the "
            f"other half tests the file. Received: {received}. Pass more crops, or use a precision "
            "that needs none, such as dynamic_int8 of a .tflite file."
        )
    pixels = np.rint(images).astype("uint8")
    representative = pixels[::2].astype("float32")
    # The range of the input must be exactly 0..255: a set without a white or a black pixel would
    # rescale every image a little.
    representative[0, 0, 0], representative[0, 0, -1] = 0.0, 255.0
    return representative, pixels[1::2]


def _check_tuning(images: Images, input_shape: tuple[int, ...], precision: str) -> Images:
    """Images of the training with rounding -> uint8 images."""
    if precision != "int8":
        raise ValueError(
            '`tune` must go with precision="int8", whose rounding it trains. Received: '
            f"precision={precision!r}. Leave `tune` out, or write int8."
        )
    images = check_images(images, input_shape, "tune")
    if len(images) < MIN_REPRESENTATIVE:
        raise ValueError(
            f"`tune` needs at least {MIN_REPRESENTATIVE} aligned face crops (N, H, W, 3), RGB "
            f"0..255; some thousands of different people are better. Received: {len(images)} "
            "images. Pass more crops, or leave it out."
        )
    return np.rint(images).astype("uint8")
