"""Embedders of every kind behind one interface: `open_embedder`."""

import dataclasses
import importlib.util
import os
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.images.crop import Crop, Size
from keras_facemargin.runtime import ModelFile, Pixels, open_file, runs
from keras_facemargin.zoo.card import CARD, Card, describe, describe_file, digest_of
from keras_facemargin.zoo.card_file import read_card
from keras_facemargin.zoo.catalogue import (
    card_path,
    check_weights,
    find_card,
    find_place,
    is_name,
    load_card,
    recognize,
)
from keras_facemargin.zoo.load import find_weights, load_embedder
from keras_facemargin.zoo.parts import Thresholds

if typing.TYPE_CHECKING:
    import keras

_BATCH = 64  # images a call of a Keras model or a function
_RUNTIMES = {"onnx": "onnxruntime", "tflite": "ai_edge_litert"}  # converter -> package

Model = typing.Union[str, os.PathLike[str], "keras.Model", Callable[..., Any]]
Run = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class Embedder:
    """An embedder of any kind. See `open_embedder`.

    `keras_facemargin.evaluate` takes it as it takes a Keras model. It is not safe to call it from
    two threads at a time.

    Attributes:
        name: of its card; without a card the name of its file or of the Keras model.
        crop: the crop that it takes.
        pixels: the pixels that its file takes. The embedder itself takes RGB 0..255.
        embedding_dim: D.
        card: its card; None without one.
        runtime: "onnx", "tflite", "keras" or "function".
    """

    name: str
    crop: Crop
    pixels: Pixels
    embedding_dim: int
    card: Card | None = dataclasses.field(repr=False)
    runtime: str
    _run: Run = dataclasses.field(repr=False)
    _described: Card | None = dataclasses.field(repr=False)

    def __call__(self, images: npt.ArrayLike, *, mirrored: bool = False) -> npt.NDArray[np.float32]:
        """Embeds crops.

        Args:
            images: (N, H, W, 3) RGB 0..255, uint8 or float, of the size of `crop`.
            mirrored: whether to append the embeddings of the mirror images.

        Returns:
            float32 (N, D), or (N, 2 * D) if `mirrored`; not normalised.

        Raises:
            ValueError: the images have another shape, or the output is not (N, D).
        """
        array = np.asarray(images)
        if array.ndim != 4 or array.shape[1:] != (*self.crop.shape, 3) or not len(array):
            raise ValueError(
                f"Images must be crops of shape (N, {self.crop.height}, {self.crop.width}, 3). "
                f"Received: shape {array.shape}"
            )
        views = (array, array[:, :, ::-1]) if mirrored else (array,)
        return np.concatenate([self._run(view) for view in views], axis=1).astype("float32")

    @property
    def embedding_id(self) -> str | None:
        """As `id_of()`."""
        return self.id_of()

    def id_of(self, *, mirrored: bool = False) -> str | None:
        """Digest of all that decides whether two embeddings can be compared; see `Card.id_of`.

        Args:
            mirrored: whether the mirror image's embedding is appended.

        Returns:
            64 hexadecimal digits; None if the weights have no digest: a function, or a Keras model
            that was not opened from a file.
        """
        return None if self._described is None else self._described.id_of(mirrored=mirrored)

    @property
    def thresholds(self) -> Thresholds | None:
        """The thresholds on its card; None without them."""
        return None if self.card is None else self.card.thresholds

    def to_card(self) -> Card:
        """Its card; without one, a card that states what is known.

        Raises:
            ValueError: the embedder does not come from a file.
        """
        if self._described is None:
            raise ValueError(
                f"A card describes a file. Received: {self.name}, which was not opened from one. "
                "Save the model, and open the file."
            )
        return self._described


def open_embedder(
    model: Model,
    *,
    crop: Size | None = None,
    pixels: str | Pixels | None = None,
    threads: int | None = None,
) -> Embedder:
    """Opens an embedder of any kind to embed images with it.

    An `.onnx` or `.tflite` file runs as it is, in ONNX Runtime or LiteRT, without Keras and without
    TensorFlow; so does an embedder of the zoo with such a file. Every other model is opened by
    `load_embedder`, which converts it if necessary and is also the door to training and export.

    The crop and the pixels of a file come from its card: the `card.json` beside it, or the zoo's
    card of that SHA-256. A file that `keras_facemargin.export` wrote carries them inside. For
    another file they must be named; they are never guessed.

    Args:
        model: as `load_embedder`; or any `.onnx` or `.tflite` file; or a Keras model or a function
            from (B, H, W, 3) to (B, D).
        crop: for a file without a card, or a function: the crop that it takes, as `Crop.of` takes
            it.
        pixels: for a file without a card, or a function: the pixels that it takes, a `Pixels` or
            its text, such as "raw", "minus1..1", "(x-127.5)/128" or "BGR (x-127.5)/128". A function
            takes RGB 0..255 by default.
        threads: CPU threads of ONNX Runtime or LiteRT; None leaves the number to them.

    Returns:
        An `Embedder`.

    Raises:
        FileNotFoundError, FetchError: as `load_embedder`.
        ValueError: as `load_embedder`; the crop or the pixels of a file are not known, or are named
            although they are known; the output is not (B, D).
        ImportError: the runtime of the file is not installed.

    Example:

    >>> embedder = open_embedder(lambda images: images.mean(axis=(1, 2)))
    >>> embedder(np.zeros((2, 112, 112, 3), "uint8"), mirrored=True).shape
    (2, 6)
    """
    named = None if pixels is None else pixels if isinstance(pixels, Pixels) else Pixels.of(pixels)
    if not isinstance(model, str | os.PathLike):
        return _of_function(
            model, Crop.of_embedder(model) if crop is None else Crop.of(crop), named
        )
    file = unknown_file(model)
    if file is not None:
        return _of_unknown_file(file, crop, named, threads)
    if crop is not None or named is not None:
        raise ValueError(
            "The crop and the pixels are named for a file that no card describes. Received: "
            f"{model}, whose input is known. Leave them out."
        )
    if runs_as_it_is(model):
        card, path = find_weights(model)
        opened = open_file(path, form=card.converter, threads=threads)
        return _of_file(opened, card.crop, card.pixels, card, card)
    return _of_keras(model)


def unknown_file(model: str | os.PathLike[str]) -> Path | None:
    """The path of an `.onnx` or `.tflite` file that no card describes; None for another model."""
    path = Path(model)
    if is_name(model) or not runs(path) or not path.is_file() or recognize(path) is not None:
        return None
    return path


def states_its_input(model: str | os.PathLike[str]) -> bool:
    """Whether the crop and the pixels of a model are known, from a card or from the file."""
    file = unknown_file(model)
    return file is None or open_file(file).carried is not None


def card_place(model: str | os.PathLike[str]) -> Path:
    """Path of the card of a model; the file may be missing.

    Args:
        model: as `open_embedder`, but a function.

    Raises:
        ValueError: as `load_embedder`; the card beside a file describes another file.
    """
    file = unknown_file(model)
    card = card_path(model) if file is None else file.with_name(CARD)
    if card.is_file():
        if file is None:
            load_card(model)
        else:
            check_weights(read_card(card), card, file)
    return card


def runs_as_it_is(model: str | os.PathLike[str]) -> bool:
    """Whether `open_embedder` runs a model without Keras."""
    if unknown_file(model) is not None:
        return True
    place = find_place(model)
    if place.file is not None and place.recognised is None:  # a .keras file
        return False
    card = find_card(model)
    package = None if card is None else _RUNTIMES.get(card.converter or "")
    return package is not None and importlib.util.find_spec(package) is not None


def _of_unknown_file(
    path: Path, crop: Size | None, pixels: Pixels | None, threads: int | None
) -> Embedder:
    opened = open_file(path, threads=threads)
    if opened.carried is not None:
        if crop is not None or pixels is not None:
            raise ValueError(
                "The crop and the pixels are named for a file that does not state them. Received: "
                f"{path}, which states {opened.carried.crop} and {opened.carried.pixels}. Leave "
                "them out."
            )
        crop, pixels = opened.carried
    if crop is None or pixels is None:
        missing = [name for name, value in (("crop", crop), ("pixels", pixels)) if value is None]
        raise ValueError(
            "The crop and the pixels of a file that no card describes must be named, as its "
            f"authors state them. Received: {path} with the SHA-256 {digest_of(path)}, without "
            f"{' and '.join(missing)}. For example crop=112 and pixels='(x-127.5)/128'; in a "
            "command --crop 112x112 --pixels '(x-127.5)/128'."
        )
    return _of_file(opened, Crop.of(crop), pixels, None, None)


def _of_file(
    opened: ModelFile, crop: Crop, pixels: Pixels, card: Card | None, described: Card | None
) -> Embedder:
    opened.check_crop(crop)

    def run(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return opened.embed(images, pixels)

    dim = _probe(run, crop)
    if described is None:
        described = describe_file(opened.path, crop=crop, pixels=pixels, embedding_dim=dim)
    if dim != described.embedding_dim:
        raise ValueError(
            f"{opened.path}: must give embeddings of {described.embedding_dim} numbers, as its "
            f"card states. Received: {dim}"
        )
    name = opened.path.name if card is None else card.name
    runtime = described.converter or "function"
    return Embedder(name, crop, pixels, dim, card, runtime, run, described)


def _of_keras(model: str | os.PathLike[str]) -> Embedder:
    embedder = load_embedder(model)
    card, place = find_card(model), find_place(model)
    if card is None:
        file = typing.cast(Path, place.file)
        described = describe(embedder, file, "An embedder of your own.")
        name = file.name
    else:
        described, name = card, card.name
    crop = Crop.of_embedder(embedder) if card is None else card.crop
    run = _in_batches(embedder.predict_on_batch)
    dim = embedder.output_shape[-1]
    return Embedder(name, crop, Pixels(), dim, card, "keras", run, described)


def _of_function(function: Any, crop: Crop, pixels: Pixels | None) -> Embedder:
    named = pixels or Pixels()
    # A Keras model's inference call is compiled.
    call = _in_batches(getattr(function, "predict_on_batch", function))

    def run(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return call(named.apply(images))

    kind = "keras" if hasattr(function, "predict_on_batch") else "function"
    name = getattr(function, "name", None) or getattr(function, "__name__", kind)
    return Embedder(str(name), crop, named, _probe(run, crop), None, kind, run, None)


def _in_batches(call: Callable[..., Any]) -> Run:
    """A function of many images; every batch has one shape, so a model is traced once."""

    def run(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        size = min(_BATCH, len(images))
        parts = []
        for start in range(0, len(images), size):
            batch = images[start : start + size].astype("float32")
            missing = np.zeros((size - len(batch), *batch.shape[1:]), "float32")
            rows = np.asarray(call(np.concatenate([batch, missing])))
            if rows.ndim != 2 or len(rows) != size:
                raise ValueError(
                    f"The embedder must give embeddings of shape (B, D), here B = {size}. "
                    f"Received: shape {rows.shape}."
                )
            parts.append(rows[: len(batch)])
        return np.concatenate(parts)

    return run


def _probe(run: Run, crop: Crop) -> int:
    """D, from the embedding of one grey image."""
    return int(run(np.full((1, *crop.shape, 3), 128, "uint8")).shape[1])
