"""The embedders of a bench: how each is opened, and the facts that need no face."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from keras_facemargin.bench.faces import BenchFaces
from keras_facemargin.bench.latency import Latency, measure_latency
from keras_facemargin.images.crop import Crop, Size
from keras_facemargin.zoo import Card, Embedder, open_embedder, states_its_input
from keras_facemargin.zoo.open import Model

Value = TypeVar("Value", Size, str)

# Runtimes whose number of threads `open_embedder` sets.
THREADED = ("onnx", "tflite")
THREADS = (1, 2)


@dataclasses.dataclass(frozen=True, eq=False)
class Facts:
    """Facts about one embedder that need no face.

    Attributes:
        embedder: the `Embedder`.
        cut: whether its crop is cut out of the images of the bench.
        file: name of its file, or None.
        file_bytes: size of the file, or None.
        latencies: a `Latency` for each number of threads.
    """

    embedder: Embedder
    cut: bool
    file: str | None
    file_bytes: int | None
    latencies: Sequence[Latency]

    @property
    def card(self) -> Card | None:
        """The card of the embedder, or None."""
        return self.embedder.card

    @property
    def licence(self) -> str:
        """The verdict of the card's ledger on commercial use."""
        if self.card is None:
            return "no card"
        return "cleared" if self.card.commercial_use else "not cleared"

    def rows(self) -> dict[str, str]:
        """Fact -> its text."""
        crop = str(self.embedder.crop)
        size = [] if self.file_bytes is None else [f"{self.file_bytes / 1e6:.1f} MB"]
        return {
            "File": ", ".join([*size, self.embedder.runtime]),
            "Crop": f"{crop}, cut from the images" if self.cut else crop,
            "Numbers": str(self.embedder.embedding_dim),
            "Commercial use": self.licence,
            "Latency": ", ".join(map(str, self.latencies)),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a JSON file."""
        embedder = self.embedder
        return {
            "card": None if self.card is None else self.card.name,
            "file": self.file,
            "file_bytes": self.file_bytes,
            "crop": [embedder.crop.height, embedder.crop.width],
            "cut": self.cut,
            "embedding_dim": embedder.embedding_dim,
            "embedding_id": embedder.embedding_id,
            "commercial_use": None if self.card is None else self.card.commercial_use,
            "obstacles": [] if self.card is None else list(self.card.commercial_obstacles),
            "runtime": embedder.runtime,
            "latency_ms": [dataclasses.asdict(one) for one in self.latencies],
        }


def facts_table(models: Mapping[str, Facts]) -> list[list[str]]:
    """A row for each fact: its name, and its text for each model."""
    columns = [facts.rows() for facts in models.values()]
    return [[name, *(column[name] for column in columns)] for name in columns[0]]


class Cut:
    """An embedder of a narrower crop, for the images of a bench.

    SphereFace's crop is ArcFace's without a fourteenth of the width on each side, so an embedder of
    either takes the same images.

    Args:
        embedder: an embedder of SphereFace's crop, any callable.
        crop: that crop.

    Attributes:
        crop: ArcFace's `Crop` of the same height.
    """

    def __init__(self, embedder: Callable[..., Any], crop: Crop):
        self.crop, self._cut, self._embedder = Crop.of(crop.height), crop, embedder

    def __call__(self, images: npt.NDArray[Any]) -> Any:
        side = (self.crop.width - self._cut.width) // 2
        return self._embedder(np.ascontiguousarray(images[:, :, side : side + self._cut.width]))


class Opener:
    """Opens the embedders of a bench.

    Args:
        models: name -> model.
        crop, pixels: as `open_embedder`, for every file among them that does not state its own; or
            a dict of name or path of a model -> its crop or its pixels.

    Raises:
        ValueError: a dict names another model.
    """

    def __init__(
        self,
        models: Mapping[str, Model | Embedder],
        crop: Size | Mapping[str, Size] | None,
        pixels: str | Mapping[str, str] | None,
    ) -> None:
        unknown = [name for name, each in models.items() if not _states_its_input(each)]
        # If no file needs them, `open_embedder` refuses them.
        asking = unknown or list(models)
        self._models = models
        self._crops = _of_each("crop", crop, models, asking)
        self._pixels = _of_each("pixels", pixels, models, asking)

    def open(self, name: str, threads: int | None = None) -> Embedder:
        """Opens one.

        Raises:
            ValueError, OSError, ImportError: as `open_embedder`.
        """
        model = self._models[name]
        if isinstance(model, Embedder):
            return model
        crop, pixels = self._crops.get(name), self._pixels.get(name)
        return open_embedder(model, crop=crop, pixels=pixels, threads=threads)

    def facts(self, name: str, faces: BenchFaces) -> Facts:
        """The `Facts` of a model, with its latency on one image.

        Args:
            name: of the model.
            faces: the `BenchFaces`.

        Raises:
            ValueError, OSError, ImportError: as `open` and `fitted`.
        """
        embedder = self.open(name)
        try:
            weights = embedder.to_card().weights
        except ValueError:  # not from a file
            weights = None
        return Facts(
            embedder=embedder,
            cut=isinstance(fitted(embedder, faces.crops)[1], Cut),
            file=None if weights is None else weights.file,
            file_bytes=None if weights is None else weights.bytes,
            latencies=tuple(self._latencies(name, embedder, faces)),
        )

    def _latencies(self, name: str, own: Embedder, faces: BenchFaces) -> Iterator[Latency]:
        several = own.runtime in THREADED and own is not self._models[name]
        for threads in THREADS if several else (None,):
            embedder = own if threads is None else self.open(name, threads)
            crop, taker = fitted(embedder, faces.crops)
            yield measure_latency(taker, faces.example(crop), threads=threads)


def _of_each(
    argument: str,
    given: Value | Mapping[str, Value] | None,
    models: Mapping[str, Any],
    asking: Sequence[str],
) -> Mapping[str, Value]:
    """Name -> value; a value that is not in a dict is that of all models that ask."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        return dict.fromkeys(asking, given)
    names = {key: name for name, model in models.items() for key in (name, str(model))}
    strange = [key for key in given if key not in names]
    if strange:
        raise ValueError(
            f"`{argument}` must name embedders of the bench. Received: {', '.join(strange)}; the "
            f"embedders are {', '.join(models)}."
        )
    return {names[key]: value for key, value in given.items()}


def _states_its_input(model: Model | Embedder) -> bool:
    return not isinstance(model, str | os.PathLike) or states_its_input(model)


def fitted(embedder: Embedder, crops: Iterable[Crop]) -> tuple[Crop, Embedder | Cut]:
    """An embedder for the images of a bench, and the crop of the images that it takes.

    Args:
        embedder: the embedder.
        crops: each `Crop` of the images.

    Returns:
        One of the crops, and the embedder or a `Cut` of it. The embedder's own crop comes first,
        then one of another size, which is resized, then one that is cut.

    Raises:
        ValueError: it takes another crop.
    """
    own, crops = embedder.crop, [*crops]
    if own in crops:
        return own, embedder
    for crop in crops:
        if crop.template == own.template and crop.height * own.width == own.height * crop.width:
            return crop, embedder
    for crop in crops:
        if own.template == "sphereface" and crop.template == "arcface":
            return crop, Cut(embedder, own)
    raise ValueError(
        "The embedders of a bench must take the crop of its images, "
        f"{' or '.join(map(_named, crops))}. Received: {embedder.name}, which takes {_named(own)}. "
        f"Cut such crops with `facemargin align --size {own}` into another folder, and name it as "
        "a second folder of images."
    )


def _named(crop: Crop) -> str:
    return f"{crop} ({crop.template or 'no known template'})"
