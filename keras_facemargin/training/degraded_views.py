"""Batches of clean crops and degraded views of them, for the training of a robust embedder."""

import collections
import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.images.crop import Crop
from keras_facemargin.images.degrade import blur, compress, shrink
from keras_facemargin.images.image import read_face

# Ranges of the drawn strengths, around those that `evaluate degraded` tests. What is milder needs
# no views of its own: it is between these and the clean ones.
PIXELS = (11, 36)  # height of the small crop
SIGMA = (1.5, 6.0)  # of a blur, in pixels of a crop 112 pixels high
QUALITY = (4, 30)  # of a JPEG
GROUPS = 4  # clean, shrunk, blurred, compressed or blurred otherwise
_READERS = 2
_READ_AHEAD = 2  # batches

Crop8 = npt.NDArray[np.uint8]
Batch = npt.NDArray[np.uint8]


class DegradedViews:
    """A stream of batches of views; each depends only on the seed and its number.

    A batch is uint8 (B, H, W, 3), RGB: B / 4 clean crops, then the same all shrunk, all blurred,
    and all compressed or, in half of the batches, all blurred by another sigma: blurred strangers
    match more often than compressed ones. Every image comes once in each pass, in a random order,
    mirrored at random. Each degradation of a batch has one strength, drawn evenly on a logarithmic
    scale: two strangers that the embedder must tell apart are usually equally bad, as those before
    one camera.

    Args:
        images: as `read_face` takes them.
        crop: of the embedder.
        batch_size: number of views, a multiple of 4.
        seed: non-negative integer.
    """

    def __init__(self, images: Sequence[Any], crop: Crop, *, batch_size: int, seed: int) -> None:
        self._images, self._crop = images, crop
        self._size, self._seed = batch_size // GROUPS, seed

    @property
    def batches_of_a_pass(self) -> int:
        """Batches that show every image."""
        return math.ceil(len(self._images) / self._size)

    def batch(self, step: int) -> Batch:
        """The batch of a step, from 0."""
        rng = np.random.default_rng((self._seed, step))
        clean = np.stack([read_face(self._images[row], self._crop) for row in self._rows(step)])
        mirrored = rng.random(len(clean)) < 0.5
        clean[mirrored] = clean[mirrored, :, ::-1]
        bad = [change(crop) for change in draw_degradations(rng) for crop in clean]
        return np.concatenate([clean, np.stack(bad)])

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of some steps; threads read ahead."""
        pending: collections.deque[Future[Batch]] = collections.deque()
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
    """One function of a crop for each degraded view, with a drawn strength."""
    pixels, quality = (round(_draw(rng, each)) for each in (PIXELS, QUALITY))
    first, second = (_draw(rng, SIGMA) for _ in range(2))
    return [
        functools.partial(shrink, pixels=pixels),
        functools.partial(blur, sigma=first),
        functools.partial(blur, sigma=second)
        if rng.random() < 0.5
        else functools.partial(compress, quality=quality),
    ]


def _draw(rng: np.random.Generator, between: tuple[float, float]) -> float:
    """A strength, even on a logarithmic scale."""
    low, high = map(math.log, between)
    return math.exp(rng.uniform(low, high))
