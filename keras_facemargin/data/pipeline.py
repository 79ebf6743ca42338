"""Batches for `fit`: a `tf.data` pipeline, and a `keras.utils.PyDataset` without TensorFlow."""

import functools
import math
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import numpy.typing as npt

from keras_facemargin.augmentation.light import Augmentation, move, recolour
from keras_facemargin.data.epochs import HANDED, EpochDrawer, Plan
from keras_facemargin.images.image import decode_face, read_face

if TYPE_CHECKING:
    from keras_facemargin.data.faces import Faces

Function = Callable[..., Any]  # of tensors


def make_dataset(
    faces: "Faces",
    plan: Plan,
    *,
    start: tuple[int, int],
    plain: npt.NDArray[np.bool_],
    bytes_in_graph: Function,
) -> Any:
    """The batches of a plan as a `tf.data.Dataset`: what `Faces.dataset` returns.

    Args:
        faces: the images and labels.
        plan: a `Plan` of `faces`.
        start: `(epoch, step)` of the first batch.
        plain: bool `(N,)`: whether TensorFlow may decode an image (see `check_face`).
        bytes_in_graph: `Faces._bytes_in_graph`.

    Raises:
        ValueError: `start` is not a step of an epoch.
        ImportError: TensorFlow is missing.
    """
    epoch, skipped = plan.place(start)
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            "`dataset` needs tf.data. Install it, pip install 'keras_facemargin[tensorflow]', or "
            "use `py_dataset`."
        ) from error

    labels = tf.constant(faces.labels)
    keys, read = bytes_in_graph()
    decode = _decoder(tf, faces, plain)
    prepare, finish = _stages(tf, plan)

    def add_keys(indices: Any, *drawn: Any) -> tuple[Any, ...]:
        return indices, tf.gather(labels, indices), keys(indices), *drawn

    def read_image(index: Any, label: Any, key: Any, *drawn: Any) -> Any:
        return prepare(decode(index, read(key)), label, *drawn)

    blocks = _blocks(tf, plan, epoch, skipped)
    rows = blocks.map(add_keys, num_parallel_calls=tf.data.AUTOTUNE).unbatch()
    if not skipped:  # else the first pass is shorter than the others
        rows = rows.apply(tf.data.experimental.assert_cardinality(plan.count))
    images = rows.map(read_image, num_parallel_calls=tf.data.AUTOTUNE)
    batches = images.batch(plan.batch_size).map(finish, num_parallel_calls=tf.data.AUTOTUNE)
    if plan.shard[1] > 1:
        batches = batches.with_options(_unshared(tf))
    batches = batches.prefetch(tf.data.AUTOTUNE)
    batches.start = tuple(start)
    # `fingerprint` is TensorFlow's own attribute: that of the graph.
    batches.data_fingerprint = functools.partial(plan.fingerprint, faces, "dataset")
    return batches


def _blocks(tf: ModuleType, plan: Plan, epoch: int, skipped: int) -> Any:
    """Dataset of blocks of indices, in training with the random numbers of each image."""
    if not plan.training:
        order = range(plan.shard[0], plan.drawn, plan.shard[1])
        return tf.data.Dataset.range(order.start, order.stop, order.step).batch(HANDED)
    drawn: Any = tf.TensorSpec((None, plan.numbers), tf.float32)
    if plan.light:
        drawn = Augmentation(
            corner=tf.TensorSpec((None, 3), tf.int32),
            mirror=tf.TensorSpec((None, 3), tf.bool),
            colour=tf.TensorSpec((None, 3, 3), tf.float32),
            offset=tf.TensorSpec((None, 1), tf.float32),
        )
    return tf.data.Dataset.from_generator(
        EpochDrawer(plan, epoch, skipped),
        output_signature=(tf.TensorSpec((None,), tf.int64), drawn),
    )


def _decoder(tf: ModuleType, faces: "Faces", plain: npt.NDArray[np.bool_]) -> Function:
    """A function from the index and the bytes of an image to its pixels, uint8."""
    shape = (*faces.crop.shape, 3)
    is_plain, all_plain = tf.constant(plain), plain.all()

    def decode_plain(encoded: Any) -> Any:
        # Reads PNG as well. The default transform is off by up to 12 levels from libjpeg's own.
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")

    def decode_odd(index: Any, encoded: Any) -> Any:
        return tf.numpy_function(
            lambda index, encoded: decode_face(encoded, faces.crop, name=faces.paths[index]),
            [index, encoded],
            tf.uint8,
        )

    def decode(index: Any, encoded: Any) -> Any:
        if all_plain:
            image = decode_plain(encoded)
        else:
            image = tf.cond(
                is_plain[index],
                lambda: decode_plain(encoded),
                lambda: decode_odd(index, encoded),
            )
        return tf.ensure_shape(image, shape)

    return decode


def _stages(tf: ModuleType, plan: Plan) -> tuple[Function, Function]:
    """The augmentation of single images, before batching, and that of batches."""

    def keep(image: Any, *rest: Any) -> tuple[Any, ...]:
        return image, *rest

    def to_float(images: Any, labels: Any) -> tuple[Any, Any]:
        return tf.cast(images, tf.float32), labels

    def move_image(image: Any, label: Any, drawn: Any) -> tuple[Any, ...]:
        return move(image, drawn.corner, drawn.mirror), label, drawn.colour, drawn.offset

    def recolour_batch(images: Any, labels: Any, colour: Any, offset: Any) -> tuple[Any, Any]:
        return recolour(images, colour, offset), labels

    def augment_batch(images: Any, labels: Any, numbers: Any) -> tuple[Any, Any]:
        return plan.augment(tf.cast(images, tf.float32), numbers), labels

    if not plan.training:
        return keep, to_float
    return (move_image, recolour_batch) if plan.light else (keep, augment_batch)


def _unshared(tf: ModuleType) -> Any:
    """Options that stop `tf.distribute` from dividing a worker's share again."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    """The batches of a plan, by numpy and Pillow: what `Faces.py_dataset` returns."""

    def __init__(self, faces: "Faces", plan: Plan, **options: Any) -> None:
        super().__init__(**options)
        self._faces = faces
        self._plan = plan
        self._epoch = 0
        self._started = False
        self._order, _ = plan.order(0)

    def data_fingerprint(self) -> dict[str, Any]:
        """The fingerprint of the images, their order and augmentation."""
        return self._plan.fingerprint(self._faces, "py_dataset")

    # Keras also ends an epoch before the first, and begins one after its workers began to read. So
    # the beginning is noted, and the end draws the next order.
    def on_epoch_begin(self) -> None:
        self._started = True

    def on_epoch_end(self) -> None:
        if self._started:
            self._epoch += 1
            self._started = False
            self._order, _ = self._plan.order(self._epoch)

    def __len__(self) -> int:
        return math.ceil(len(self._order) / self._plan.batch_size)

    def __getitem__(self, step: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        faces, plan = self._faces, self._plan
        chosen = self._order[step * plan.batch_size : (step + 1) * plan.batch_size]
        images = np.stack([read_face(faces.paths[index], faces.crop) for index in chosen])
        if plan.training:
            rng = plan.worker_rng(self._epoch, step)
            images = plan.augment_arrays(images, plan.draw(rng, len(chosen)))
        return images.astype("float32", copy=False), faces.labels[chosen]
