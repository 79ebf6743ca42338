"""Batches of clean crops and degraded views of them, for the training of a robust embedder."""

import collections
import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_facemargin.images.crop import Crop
from keras_facemargin.images.degrade import blur, compress, shrink
from keras_facemargin.images.image import read_face

# Ranges of the drawn strengths, beyond those that `evaluate degraded` tests.
PIXELS = (12, 56)  # height of the small crop
SIGMA = (0.7, 6.0)  # of a blur, in pixels of a crop 112 pixels high
QUALITY = (4, 40)  # of a JPEG
GROUPS = 4  # clean, shrunk, blurred, compressed
_READERS = 2
_READ_AHEAD = 2  # batches

Crop8 = npt.NDArray[np.uint8]


class Views(NamedTuple):
    """A batch.

    Attributes:
        clean: uint8 (B, H, W, 3), RGB.
        degraded: the same crops; of each four one is clean, one shrunk, one blurred, one
            compressed.
        is_clean: bool (B,): whether a view is clean.
    """

    clean: npt.NDArray[np.uint8]
    degraded: npt.NDArray[np.uint8]
    is_clean: npt.NDArray[np.bool_]


class DegradedViews:
    """A stream of batches; each depends only on the seed and its number.

    Every image comes once in each pass, in a random order, mirrored at random. The quarters of a
    batch have one degradation each, of one strength that is drawn for the batch, evenly on a
    logarithmic scale: two strangers that the embedder must tell apart are usually equally bad, as
    those before one camera.

    Args:
        images: as `read_face` takes them.
        crop: of the embedder.
        batch_size: a multiple of 4.
        seed: non-negative integer.
    """

    def __init__(self, images: Sequence[Any], crop: Crop, *, batch_size: int, seed: int) -> None:
        self._images, self._crop = images, crop
        self._size, self._seed = batch_size, seed

    def batch(self, step: int) -> Views:
        """The batch of a step, from 0."""
        rng = np.random.default_rng((self._seed, step))
        clean = np.stack([read_face(self._images[row], self._crop) for row in self._rows(step)])
        mirrored = rng.random(len(clean)) < 0.5
        clean[mirrored] = clean[mirrored, :, ::-1]
        degraded = clean.copy()
        quarter = self._size // GROUPS
        for group, change in enumerate(draw_degradations(rng), 1):
            for row in range(group * quarter, (group + 1) * quarter):
                degraded[row] = change(clean[row])
        return Views(clean, degraded, np.arange(self._size) < quarter)

    def batches(self, start: int, stop: int) -> Iterator[Views]:
        """The batches of some steps; threads read ahead."""
        pending: collections.deque[Future[Views]] = collections.deque()
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(_READERS))
            stack.callback(pool.shutdown, cancel_futures=True)
            for step in range(start, stop):
                pending.append(pool.submit(self.batch, step))
                if len(pending) > _READ_AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def _rows(self, step: int) -> list[int]:
        """The images of a step, which may take the end of a pass and the beginning of the next."""
        places = np.arange(step * self._size, (step + 1) * self._size)
        passes, inside = np.divmod(places, len(self._images))
        orders = {
            each: np.random.default_rng((self._seed, 1, each)).permutation(len(self._images))
            for each in np.unique(passes).tolist()
        }
        return [int(orders[p][i]) for p, i in zip(passes.tolist(), inside.tolist(), strict=True)]


def draw_degradations(rng: np.random.Generator) -> list[Callable[[Crop8], Crop8]]:
    """One function of a crop for each kind of degradation, with a drawn strength."""
    pixels, quality = round(_draw(rng, PIXELS)), round(_draw(rng, QUALITY))
    sigma = _draw(rng, SIGMA)
    return [
        lambda crop: shrink(crop, pixels),
        lambda crop: blur(crop, sigma),
        lambda crop: compress(crop, quality),
    ]


def _draw(rng: np.random.Generator, between: tuple[float, float]) -> float:
    """A strength, even on a logarithmic scale."""
    low, high = map(math.log, between)
    return math.exp(rng.uniform(low, high))
