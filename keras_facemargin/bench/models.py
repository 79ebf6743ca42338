"""The embedders of a bench: how each is opened, and the facts that need no face."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.bench.latency import Latency, measure_latency
from keras_facemargin.images.crop import Crop, Size
from keras_facemargin.zoo import Card, Embedder, open_embedder, states_its_input
from keras_facemargin.zoo.open import Model

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
        return f"commercial use {'cleared' if self.card.commercial_use else 'not cleared'}"

    def rows(self) -> dict[str, str]:
        """Fact -> its text."""
        crop = str(self.embedder.crop)
        return {
            "Card": "no card" if self.card is None else self.card.name,
            "File size": "-" if self.file_bytes is None else f"{self.file_bytes / 1e6:.1f} MB",
            "Crop": f"{crop}, cut from the images" if self.cut else crop,
            "Numbers in an embedding": str(self.embedder.embedding_dim),
            "Licence": self.licence,
            "Runtime": self.embedder.runtime,
            **{f"Latency, {_words(one.threads)}": str(one) for one in self.latencies},
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a JSON file."""
        embedder = self.embedder
        return {
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


def _words(threads: int | None) -> str:
    if threads is None:
        return "threads not set"
    return f"{threads} thread{'s' if threads > 1 else ''}"


def facts_table(models: Mapping[str, Facts]) -> list[list[str]]:
    """A row for each fact: its name, and its text for each model."""
    columns = [facts.rows() for facts in models.values()]
    names = dict.fromkeys(name for column in columns for name in column)
    return [[name, *(column.get(name, "-") for column in columns)] for name in names]


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
        models: the models.
        crop, pixels: as `open_embedder`, for every file among them that does not state its own.
    """

    def __init__(
        self, models: Iterable[Model | Embedder], crop: Size | None, pixels: str | None
    ) -> None:
        unknown = [each for each in models if not _states_its_input(each)]
        # If no file needs them, `open_embedder` refuses them.
        self.asking = unknown or list(models)
        self.options = crop, pixels

    def open(self, model: Model | Embedder, threads: int | None = None) -> Embedder:
        """Opens one.

        Raises:
            ValueError, OSError, ImportError: as `open_embedder`.
        """
        if isinstance(model, Embedder):
            return model
        crop, pixels = self.options if model in self.asking else (None, None)
        return open_embedder(model, crop=crop, pixels=pixels, threads=threads)

    def facts(self, model: Model | Embedder, images: Crop, image: npt.NDArray[np.uint8]) -> Facts:
        """The `Facts` of a model, with its latency on one image.

        Args:
            model: the model as it was named.
            images: the `Crop` of the images of the bench.
            image: one of them.
        """
        embedder = self.open(model)
        try:
            weights = embedder.to_card().weights
        except ValueError:  # not from a file
            weights = None
        return Facts(
            embedder=embedder,
            cut=isinstance(fitted(embedder, images), Cut),
            file=None if weights is None else weights.file,
            file_bytes=None if weights is None else weights.bytes,
            latencies=tuple(self._latencies(model, embedder, images, image)),
        )

    def _latencies(
        self, model: Model | Embedder, own: Embedder, images: Crop, image: npt.NDArray[np.uint8]
    ) -> Iterator[Latency]:
        if own.runtime in THREADED and own is not model:
            for threads in THREADS:
                embedder = self.open(model, threads)
                yield measure_latency(fitted(embedder, images), image, threads=threads)
        else:
            yield measure_latency(fitted(own, images), image)


def _states_its_input(model: Model | Embedder) -> bool:
    return not isinstance(model, str | os.PathLike) or states_its_input(model)


def fitted(embedder: Embedder, images: Crop) -> Embedder | Cut:
    """An embedder for the images of a bench.

    Args:
        embedder: the embedder.
        images: the `Crop` of the images.

    Returns:
        The embedder, or a `Cut` of it.

    Raises:
        ValueError: it takes another crop.
    """
    crop = embedder.crop
    if crop.template == "sphereface" and images.template == "arcface":
        return Cut(embedder, crop)
    if (
        crop.template == images.template
        and crop.height * images.width == images.height * crop.width
    ):
        return embedder
    raise ValueError(
        f"The embedders of a bench must take the crop of its images, {_named(images)}. Received: "
        f"{embedder.name}, which takes {_named(crop)}. Cut such crops with `facemargin align "
        f"--size {crop}`, and bench it on them."
    )


def _named(crop: Crop) -> str:
    return f"{crop} ({crop.template or 'no known template'})"
