"""The formats of exported files, one table, and the functions that write them."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_facemargin.export import onnx, tflite
from keras_facemargin.export.conversion import converting
from keras_facemargin.export.graph import float32_embedder, normalised
from keras_facemargin.export.images import check_images
from keras_facemargin.export.metadata import with_entry
from keras_facemargin.export.verdict import Tolerance, Verdict, check_path, deliver, threads
from keras_facemargin.images.crop import Crop
from keras_facemargin.runtime import onnx as onnx_runtime
from keras_facemargin.runtime import tflite as tflite_runtime
from keras_facemargin.runtime.carried import ENTRY, Carried
from keras_facemargin.runtime.file import Session
from keras_facemargin.runtime.pixels import Pixels

Images: TypeAlias = npt.NDArray[Any]
MIN_REPRESENTATIVE = 64


class Precision(NamedTuple):
    """A precision of a format.

    Attributes:
        tolerance: the default `Tolerance`.
        calibrated: whether images set the ranges of the activations.
    """

    tolerance: Tolerance
    calibrated: bool = False


@dataclass(frozen=True)
class Format:
    """A format of exported files.

    Attributes:
        name: in errors.
        precisions: name -> `Precision`.
        require: raises ImportError if a package is missing.
        convert: from embedder, precision and representative images to the bytes of the file.
        with_entry: from the bytes of a file, the name and the content of an entry of its metadata
            to the bytes with the entry.
        open_session: from the bytes of a file and a number of threads to a `Session`.
        float_islands: from the bytes of a calibrated file to the ops that compute in float.
    """

    name: str
    precisions: Mapping[str, Precision]
    require: Callable[[], None]
    convert: Callable[[Any, str, Images | None], bytes]
    with_entry: Callable[[bytes, str, bytes], bytes]
    open_session: Callable[[bytes, int | None], Session]
    float_islands: Callable[[bytes], tuple[str, ...]]


_FLOAT32 = Precision(Tolerance(0.9999, 0.99999))  # The order of summation; 1 - 1e-6 is usual.
FORMATS = {
    ".tflite": Format(
        name="TFLite",
        precisions={
            "float32": _FLOAT32,
            # 11 bits per weight.
            "float16": Precision(Tolerance(0.999, 0.9999)),
            # 8 bits per weight; activations are rounded at run time.
            "dynamic_int8": Precision(Tolerance(0.99, 0.995)),
            # 8 bits everywhere; the representative images set the ranges.
            "int8": Precision(Tolerance(0.95, 0.98), calibrated=True),
        },
        require=tflite.require,
        convert=tflite.convert,
        with_entry=with_entry,
        open_session=tflite_runtime.open_session,
        float_islands=tflite.float_islands,
    ),
    ".onnx": Format(
        name="ONNX",
        precisions={"float32": _FLOAT32},
        require=onnx.require,
        convert=onnx.convert,
        with_entry=onnx.with_entry,
        open_session=onnx_runtime.open_session,
        float_islands=lambda artefact: (),
    ),
}


def check_format(path: str | os.PathLike[str], precision: str) -> str:
    """Checks that the ending of a file names a format, and that the format has a precision.

    Args:
        path: the file to write.
        precision: the name of a precision.

    Returns:
        The ending, a key of `FORMATS`.

    Raises:
        ValueError: the ending or the precision is unknown.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(
            f"The file to write must end in {' or '.join(FORMATS)}. Received: {os.fspath(path)!r}"
        )
    precisions = FORMATS[suffix].precisions
    if precision not in precisions:
        others = [each for each, format in FORMATS.items() if precision in format.precisions]
        raise ValueError(
            f"The precision of a {suffix} file must be {' or '.join(precisions)}. "
            f"Received: precision={precision!r}."
            + (f" A {others[0]} file can have this precision." if others else "")
        )
    return suffix


def runner(format: Format, artefact: bytes) -> Callable[[Images], Images]:
    """A function from images to embeddings that runs a file as `open_embedder` does.

    Args:
        format: its `Format`.
        artefact: bytes of the file.
    """
    session = format.open_session(artefact, threads())

    def run(images: Images) -> Images:
        (embeddings,) = session.run(images.astype(session.dtype))
        return embeddings

    return run


def export_embedder(
    embedder: Any,
    path: str | os.PathLike[str],
    *,
    precision: str = "float32",
    images: Images | None = None,
    tolerance: Tolerance | None = None,
    keep: str | os.PathLike[str] | None = None,
) -> Verdict:
    """Writes an embedder in the format that the ending of the file names: `.tflite` or `.onnx`.

    The file carries its crop and its pixels, RGB 0..255, in an entry `keras_facemargin` of its
    metadata, where `keras_facemargin.open_embedder` reads them.

    Args:
        embedder, path, precision, images, tolerance: as `export_tflite` and `export_onnx`.
        keep: where a file that misses the tolerance is written. Default: `<path>.failed`.

    Returns:
        A `Verdict`.

    Raises:
        As `export_tflite` and `export_onnx`.

    Example:

    ```python
    for file in ("face.tflite", "face.onnx"):
        print(export_embedder(embedder, file))
    ```
    """
    suffix = check_format(path, precision)
    format = FORMATS[suffix]
    own_tolerance, calibrated = format.precisions[precision]
    path = check_path(path, suffix)
    carried = Carried(Crop.of_embedder(embedder), Pixels())
    embedder = float32_embedder(embedder)
    representative = None
    if calibrated:
        representative, images = _split_representative(images, embedder.input_shape[1:])
    else:
        images = check_images(images, embedder.input_shape[1:])
    format.require()
    with converting(format.name, embedder):
        artefact = format.convert(embedder, precision, representative)
        artefact = format.with_entry(artefact, ENTRY, carried.to_json().encode())
        run = runner(format, artefact)
        run(images[:1])
    return deliver(
        artefact,
        path,
        run,
        normalised(embedder),
        images,
        tolerance=tolerance or own_tolerance,
        keep=None if keep is None else Path(keep),
        format=suffix.removeprefix("."),
        precision=precision,
        float_islands=format.float_islands(artefact) if calibrated else (),
    )


def export_tflite(
    embedder: Any,
    path: str | os.PathLike[str],
    *,
    precision: str = "float32",
    images: Images | None = None,
    tolerance: Tolerance | None = None,
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
    | `"dynamic_int8"` | int8 | int8 products, float32 between the layers | float32 0..255 |
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
            Default: 64 synthetic faces. Full int8 has no default: it needs at least 64 images (some
            hundreds of different people are better). Every other image sets the ranges of the
            activations; the rest are compared.
        tolerance: a `Tolerance`. Default: least and mean cosine of 0.9999 and 0.99999 (float32),
            0.999 and 0.9999 (float16), 0.99 and 0.995 (dynamic int8), 0.95 and 0.98 (full int8,
            where 0.995 is usual for a trained embedder and 0.5 for an untrained one).

    Returns:
        A `Verdict`; print it, or keep its `to_dict()`.

    Raises:
        ExportError: the embedder has an op without a TFLite form (the error names layer and op), or
            the file misses the tolerance; it is kept as `<path>.failed`.
        ValueError: a wrong precision, path, embedder or image.
        RuntimeError: Keras runs on another backend than TensorFlow.
        ImportError: LiteRT is not installed (extra `export`).

    Example:

    ```python
    verdict = export_tflite(embedder, "face.tflite", precision="int8", images=crops)
    print(verdict)
    ```
    """
    check_path(path, ".tflite")
    return export_embedder(embedder, path, precision=precision, images=images, tolerance=tolerance)


def export_onnx(
    embedder: Any,
    path: str | os.PathLike[str],
    *,
    images: Images | None = None,
    tolerance: Tolerance | None = None,
) -> Verdict:
    """Writes an embedder as a float32 ONNX file (opset 15) and compares it with Keras.

    The file takes `"image"`, float32 `(batch, H, W, 3)`, NHWC, RGB 0..255 (the preprocessing is
    inside), any batch, and returns `"embedding"`, float32 `(batch, D)`, L2-normalised.

    Args:
        embedder: a Functional `keras.Model`, `(B, H, W, 3)` float32 RGB 0..255 -> `(B, D)`. One
            trained in mixed precision is exported and compared in float32.
        path: the file to write, ending in `.onnx`. Only a file that passes replaces an existing
            one, in one step.
        images: aligned face crops to compare on, uint8 or float `(N, H, W, 3)`, RGB 0..255.
            Default: 64 synthetic faces.
        tolerance: a `Tolerance`. Default: least cosine 0.9999, mean 0.99999.

    Returns:
        A `Verdict`; print it, or keep its `to_dict()`.

    Raises:
        ExportError: the embedder has an op without an ONNX form (the error names layer and op), or
            the file misses the tolerance; it is kept as `<path>.failed`.
        ValueError: a wrong path, embedder or image.
        RuntimeError: Keras runs on another backend than TensorFlow.
        ImportError: tf2onnx or ONNX Runtime is not installed (extra `export`).

    Example:

    ```python
    print(export_onnx(embedder, "face.onnx"))
    ```
    """
    check_path(path, ".onnx")
    return export_embedder(embedder, path, images=images, tolerance=tolerance)


def _split_representative(
    images: Images | None, input_shape: tuple[int, ...]
) -> tuple[Images, Images]:
    """Images -> (float32 images that set the ranges, uint8 images that judge)."""
    if images is not None:
        images = check_images(images, input_shape)
    if images is None or len(images) < MIN_REPRESENTATIVE:
        received = "none" if images is None else f"{len(images)} images"
        raise ValueError(
            f"precision='int8' needs `images`, at least {MIN_REPRESENTATIVE} aligned face crops "
            "(N, H, W, 3), RGB 0..255: one half sets the ranges of the activations, the other "
            f"half tests the file. Received: {received}. Pass more crops, or use "
            "precision='dynamic_int8', which needs none."
        )
    pixels = np.rint(images).astype("uint8")
    representative = pixels[::2].astype("float32")
    # The range of the input must be exactly 0..255: a set without a white or a black pixel would
    # rescale every image a little.
    representative[0, 0, 0], representative[0, 0, -1] = 0.0, 255.0
    return representative, pixels[1::2]
