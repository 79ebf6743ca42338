"""A file in its own runtime, behind one interface."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_facemargin.images.crop import Crop
from keras_facemargin.runtime.carried import Carried
from keras_facemargin.runtime.pixels import Pixels

_SUFFIXES = (".onnx", ".tflite")
_BATCH = 32  # images a call of a file whose batch is free


class Quantization(NamedTuple):
    """Numbers as integers: value = scale * (integer - zero_point)."""

    scale: float
    zero_point: int


class Session(NamedTuple):
    """A file that its runtime has opened.

    Attributes:
        shape: of the input, None for a free side.
        dtype: of the input.
        quantization: of an integer input; None if it has none.
        run: from the input to all outputs, in float32.
        carried: text of the entry of the file on its input; None without one.
    """

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    quantization: Quantization | None
    run: Callable[[npt.NDArray[Any]], list[npt.NDArray[Any]]]
    carried: str | bytes | None


class ModelFile:
    """An ONNX or TFLite file in its own runtime. See `open_file`.

    Attributes:
        path: the file.
        batch: number of images that it takes at a time; None if that is free.
        carried: the crop and the pixels that the file states, if our export wrote it; else None.
    """

    def __init__(self, path: Path, session: Session) -> None:
        shape = session.shape
        if len(shape) != 4 or 3 not in (shape[1], shape[3]):
            raise ValueError(
                f"{path}: must take images (B, H, W, 3) or (B, 3, H, W). Received: an input of "
                f"shape {shown(shape)}."
            )
        self.path = path
        self.carried = None if session.carried is None else Carried.from_json(session.carried)
        self.batch = shape[0]
        self._channels_first = shape[3] != 3
        self._sides = shape[2:] if self._channels_first else shape[1:3]
        self._session = session

    def check_crop(self, crop: Crop) -> None:
        """Raises a `ValueError` if the file does not take crops of that size."""
        if any(side not in (None, own) for side, own in zip(self._sides, crop.shape, strict=True)):
            raise ValueError(
                f"{self.path}: the crop must have the size that the file takes, "
                f"{'x'.join(map(str, self._sides))} (height x width). Received: {crop}"
            )

    def embed(self, images: npt.NDArray[Any], pixels: Pixels) -> npt.NDArray[np.float32]:
        """Embeddings of crops.

        Args:
            images: (N, H, W, 3) RGB 0..255.
            pixels: the pixels that the file takes.

        Returns:
            float32 (N, D).

        Raises:
            ValueError: the output of the file is not (B, D), or the file cannot be run.
        """
        size = self.batch or min(_BATCH, len(images))
        parts = []
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            missing = size - len(batch)  # a fixed batch is filled up; its rows are dropped
            full = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
            parts.append(self._rows(self._values(full, pixels))[: len(batch)])
        return np.concatenate(parts)

    def _values(self, images: npt.NDArray[Any], pixels: Pixels) -> npt.NDArray[Any]:
        dtype, quantization = self._session.dtype, self._session.quantization
        if dtype == np.uint8 and pixels.raw:
            values: npt.NDArray[Any] = np.rint(images).astype(dtype)
        else:
            values = pixels.apply(images)
            if dtype.kind != "f":
                values = self._quantized(values, dtype, quantization)
        if self._channels_first:
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values, dtype)

    def _quantized(
        self, values: npt.NDArray[Any], dtype: np.dtype[Any], quantization: Quantization | None
    ) -> npt.NDArray[Any]:
        if quantization is None:
            raise ValueError(
                f"{self.path}: an input of integers without a scale takes raw pixels, as uint8. "
                f"Received: {dtype} with other pixels. Pass pixels='raw'."
            )
        limits = np.iinfo(dtype)
        whole = np.rint(values / quantization.scale) + quantization.zero_point
        clipped: npt.NDArray[Any] = np.clip(whole, limits.min, limits.max)
        return clipped

    def _rows(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        try:
            outputs = self._session.run(values)
        except Exception as error:  # each runtime has types of its own
            raise ValueError(
                f"{self.path}: the file cannot be run on {len(values)} images of shape "
                f"{values.shape[1:]}. Received: {one_line(error)}"
            ) from None
        rows = [each for each in outputs if each.ndim == 2 and len(each) == len(values)]
        if len(rows) != 1 or rows[0].shape[1] < 2:
            found = ", ".join(str(each.shape) for each in outputs)
            raise ValueError(
                f"{self.path}: must have one output of embeddings (B, D), here B = {len(values)}. "
                f"Received: {found}."
            )
        return rows[0].astype("float32")


def runs(path: str | os.PathLike[str]) -> bool:
    """Whether a file has an ending that `open_file` takes: `.onnx` or `.tflite`."""
    return Path(path).suffix.lower() in _SUFFIXES


def open_file(
    path: str | os.PathLike[str], *, form: str | None = None, threads: int | None = None
) -> ModelFile:
    """Opens an ONNX file in ONNX Runtime, or a TFLite file in LiteRT.

    Args:
        path: the file.
        form: "onnx" or "tflite"; None: the ending of the path.
        threads: CPU threads of the runtime; None leaves the number to it.

    Returns:
        A `ModelFile`. It is not safe to call it from two threads at a time.

    Raises:
        ValueError: the file is damaged, of another kind, or does not take one image.
        ImportError: the runtime is not installed.
        FileNotFoundError: the file does not exist.
    """
    from keras_facemargin.runtime import onnx, tflite

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The embedder file does not exist. Received: {path}")
    opener = {"onnx": onnx.open_session, "tflite": tflite.open_session}[
        form or path.suffix.lower().removeprefix(".")
    ]
    try:
        session = opener(path, threads)
    except (ImportError, OSError):
        raise
    except Exception as error:  # each runtime has types of its own
        raise ValueError(
            f"{path}: the file cannot be opened. Received: {one_line(error)} Copy or download it "
            "again, or convert it with `load_embedder`."
        ) from None
    return ModelFile(path, session)


def shown(shape: tuple[int | None, ...]) -> str:
    """A shape as text, with `?` for a free side."""
    return f"({', '.join('?' if side is None else str(side) for side in shape)})"


def one_line(error: Exception) -> str:
    """The text of a runtime's error on one line, cut."""
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{text:.200}".rstrip(".") + "."
