"""The epochs of a training pipeline: order, worker's share and random numbers, from a seed."""

import itertools
import math
import operator
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.data.samplers import Sampler

if TYPE_CHECKING:
    from keras_facemargin.data.faces import Faces

Rows = npt.NDArray[np.int64]
Generator = np.random.Generator

_DRAWN = 4096  # images whose augmentation is drawn at a time
HANDED = 256  # images that the pipeline passes on at a time, before it decodes each


class Plan:
    """The checked arguments of a pipeline, and the epochs that follow from them.

    Args:
        faces: the images and labels.
        batch_size, training, seed, shard, sampler, augmentation: as in `Faces.dataset`.

    Raises:
        ValueError: as `Faces.dataset`.
    """

    def __init__(
        self,
        faces: "Faces",
        batch_size: int,
        training: bool,
        seed: int,
        shard: tuple[int, int],
        sampler: Sampler | None,
        augmentation: Sequence[Any] | None,
    ) -> None:
        if not training and (sampler is not None or augmentation is not None):
            raise ValueError(
                "`sampler` and `augmentation` need training=True. "
                f"Received: training={training} with sampler={sampler} and "
                f"augmentation={augmentation}"
            )
        for layer in augmentation or ():
            if not hasattr(layer, "transform"):
                raise ValueError(
                    "`augmentation` must be a list of FaceAugmentation layers. "
                    f"Received: {layer!r} in the list"
                )
        self._labels = faces.labels
        self._sampler = sampler
        self._seed = seed
        self._layers = augmentation
        self.batch_size = batch_size
        self.training = training
        self._unit = 1 if sampler is None else sampler.unit
        if batch_size % self._unit:
            raise ValueError(
                f"`batch_size` must be a multiple of the {self._unit} images of one batch of "
                f"{sampler!r}. Received: batch_size={batch_size}"
            )
        drawn = len(faces) if sampler is None else len(sampler.draw(self._labels, self._rng(0)))
        self.drawn = drawn
        self.shard = _checked_shard(shard, drawn, self._unit)
        index, count = self.shard
        if training:
            self.count = math.ceil(drawn / self._unit / count) * self._unit
        else:
            self.count = len(range(index, drawn, count))

    def fingerprint(self, faces: "Faces", pipeline: str) -> dict[str, Any]:
        """`Faces.fingerprint`, with all that decides the order and the pixels of the batches."""
        layers = [_settings(layer) for layer in self._layers or ()]
        return {
            **faces.fingerprint(),
            "pipeline": pipeline,
            "training": self.training,
            "batch_size": self.batch_size,
            "seed": self._seed,
            "shard": list(self.shard),
            "sampler": repr(self._sampler),
            "augmentation": "light" if self._layers is None else repr(layers),
        }

    @property
    def light(self) -> bool:
        """Whether the images get the light augmentation."""
        return self._layers is None

    @property
    def numbers(self) -> int:
        """Random numbers for each image; at least one, because TensorFlow fails on empty rows."""
        return max(1, sum(int(layer.numbers) for layer in self._layers or ()))

    def _rng(self, epoch: int) -> Generator:
        return np.random.default_rng([self._seed, epoch])

    def order(self, epoch: int) -> tuple[Rows, Rows]:
        """This worker's images of an epoch, and the place of each in the order of all workers."""
        index, count = self.shard
        if not self.training:
            rows = np.arange(index, len(self._labels), count)
            return rows, rows
        rng = self._rng(epoch)
        if self._sampler is None:
            order = rng.permutation(len(self._labels))
        else:
            order = self._sampler.draw(self._labels, rng)
        places = _share(np.arange(len(order)), self.shard, self._unit)
        return order[places], places

    def place(self, start: Any) -> tuple[int, int]:
        """The epoch of `start`, and the number of this worker's images in it before `start`.

        Raises:
            ValueError: `start` is not a step of an epoch.
        """
        try:
            epoch, step = map(operator.index, start)
        except (TypeError, ValueError):
            epoch, step = -1, -1
        steps = math.ceil(self.count / self.batch_size)
        if epoch < 0 or not 0 <= step < steps or (not self.training and (epoch or step)):
            raise ValueError(
                "`start` needs training=True and must be (epoch, step): the epoch 0 or more, the "
                f"step 0..{steps - 1}. Received: start={start!r} with training={self.training}"
            )
        return epoch, step * self.batch_size

    def draw_block(self, epoch: int, block: int) -> Any:
        """The random numbers for the images at places `block * _DRAWN`, ... of an epoch.

        They are the same for every worker, and need no earlier block.
        """
        # From 1: for numpy [seed, epoch, 0] equals [seed, epoch], which drew the order.
        rng = np.random.default_rng([self._seed, epoch, block + 1])
        return self.draw(rng, min(_DRAWN, self.drawn - block * _DRAWN))

    def worker_rng(self, epoch: int, *rest: int) -> Generator:
        """A random generator of this worker, for an epoch and a step in it."""
        return np.random.default_rng([self._seed, epoch, self.shard[0], *rest])

    def draw(self, rng: Generator, count: int) -> Any:
        """The random numbers of the augmentation for `count` images."""
        if self._layers is None:
            from keras_facemargin.augmentation.light import draw_augmentation  # opens Keras

            return draw_augmentation(rng, count)
        return rng.random((count, self.numbers), "float32")

    def augment(self, images: Any, numbers: Any) -> Any:
        """Applies the layers in order, each with its own columns of the numbers."""
        start = 0
        for layer in self._layers or ():
            images = layer.transform(images, numbers[:, start : start + layer.numbers])
            start += layer.numbers
        return images

    def augment_arrays(self, images: npt.NDArray[np.uint8], drawn: Any) -> npt.NDArray[Any]:
        """Applies the layers, or the light augmentation, to uint8 arrays."""
        if self._layers is None:
            from keras_facemargin.augmentation.light import augment

            return np.asarray(augment(images, drawn))
        import keras

        tensors = map(keras.ops.convert_to_tensor, (images.astype("float32"), drawn))
        return np.asarray(keras.ops.convert_to_numpy(self.augment(*tensors)))


def _settings(layer: Any) -> tuple[str, dict[str, Any]]:
    """The class of an augmentation and its arguments, without the name that Keras generates."""
    try:
        config = layer.get_config()
    except NotImplementedError:
        config = {}
    own = {name: config[name] for name in sorted(config) if name not in ("name", "dtype")}
    return type(layer).__name__, own


class EpochDrawer:
    """Each call yields an epoch: blocks of indices in order, with their random numbers.

    Args:
        plan: the plan.
        epoch: number of the first epoch.
        skipped: images of the first epoch that are not shown.
    """

    def __init__(self, plan: Plan, epoch: int, skipped: int) -> None:
        self._plan = plan
        self._epochs = itertools.count(epoch)
        self._skipped = skipped

    def __call__(self) -> Iterator[tuple[Rows, Any]]:
        plan, epoch = self._plan, next(self._epochs)
        rows, places = (each[self._skipped :] for each in plan.order(epoch))
        self._skipped = 0  # later epochs are complete
        ends = np.flatnonzero(np.diff(places // _DRAWN)) + 1
        for its_rows, its_places in zip(np.split(rows, ends), np.split(places, ends), strict=True):
            drawn = plan.draw_block(epoch, int(its_places[0]) // _DRAWN)
            for first in range(0, len(its_rows), HANDED):
                part = slice(first, first + HANDED)
                chosen = its_places[part] % _DRAWN
                if isinstance(drawn, tuple):  # the fields of the light augmentation
                    yield its_rows[part], type(drawn)(*(field[chosen] for field in drawn))
                else:
                    yield its_rows[part], drawn[chosen]


def _checked_shard(shard: Any, images: int, unit: int) -> tuple[int, int]:
    try:
        index, count = map(operator.index, shard)
    except (TypeError, ValueError):
        index, count = 0, 0
    if not 0 <= index < count <= images // unit:
        what = "images" if unit == 1 else f"images in batches of {unit:,}"
        raise ValueError(
            "`shard` must be (index, count) with index 0..count-1, and each of the count workers "
            f"needs an image (with a sampler: a batch). Received: shard={shard!r} for {images:,} "
            f"{what}"
        )
    return index, count


def _share(order: Rows, shard: tuple[int, int], unit: int) -> Rows:
    """A worker's part of an epoch. All parts have one length: the order repeats at its end.

    The images of one batch of the sampler stay together.
    """
    index, count = shard
    batches = math.ceil(len(order) / unit / count) * count
    return np.resize(order, batches * unit).reshape(batches, unit)[index::count].reshape(-1)
