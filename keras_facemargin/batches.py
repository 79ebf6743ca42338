"""Checks of the labels and images that `fit` and `evaluate` receive.

Every label must be a class: a compiled step of jax or XLA cannot raise an error, and a step of
TensorFlow ends in a trace of forty lines. The first images should be RGB 0..255, as
`evaluate.embed` requires: an embedder that trains on images in 0..1 fails on all others. Arrays are
checked once, a stream batch by batch; no batch is removed from it.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_facemargin.backend.trainer import stream_method
from keras_facemargin.heads.margin_head.labels import IGNORED, checked_array

_SOME = 64  # images of an array that are checked
# Larger than any value of 0..1, of -1..1 and of ImageNet's mean and standard deviation.
_SCALED = 3.0


class Inspector:
    """Checks labels and images on the host.

    Args:
        num_classes: C; labels must be in [0, C) or be -1.

    Attributes:
        fault: the error about refused labels as text, or None. A compiled pipeline wraps the error
            that this class raises inside it.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.begin()

    def begin(self) -> None:
        """Starts again: another `fit` or `evaluate` starts."""
        self.fault: str | None = None
        self._seen_images = False

    def look(self, images: Any, labels: Any) -> None:
        """Checks a batch, or the arrays of all batches.

        Args:
            images: array or tensor, or None. Only the first ones are checked.
            labels: array or tensor, or None.

        Raises:
            ValueError: a label is not a class, or labels are not integers of shape (N,) or (N, 1).
        """
        if labels is not None:
            try:
                checked_array(_on_host(labels), self.num_classes)
            except ValueError as error:
                self.fault = str(error)
                raise
        if images is not None and not self._seen_images:
            self._seen_images = True
            _warn_if_scaled(images)

    def watch(self, epochs: Any, strategy: Any = None) -> None:
        """Checks each batch of a stream as `fit` reads it.

        Args:
            epochs: Keras' `EpochIterator` over a stream; its iterators are replaced.
            strategy: the model's strategy, on TensorFlow.
        """
        if getattr(epochs, "inspector", None) is self:  # the validation of an earlier epoch
            return
        epochs.inspector = self
        name = stream_method()
        if name == "get_tf_dataset":
            self._watch_dataset(epochs, strategy)
        elif name is not None:
            stream = getattr(epochs.data_adapter, name)
            setattr(epochs.data_adapter, name, lambda: _Watched(stream(), self.look))

    def _watch_dataset(self, epochs: Any, strategy: Any) -> None:
        """Checks in the pipeline's graph, which calls the host for a first batch or a bad label."""
        import tensorflow as tf

        dataset = epochs.data_adapter.get_tf_dataset()
        if not isinstance(dataset, tf.data.Dataset):
            return  # the strategy distributes it already

        def look(images: Any, labels: Any) -> bool:
            try:
                self.look(images, labels)
            except ValueError:  # TensorFlow would print its whole trace
                return False
            return True

        def watch(number: Any, batch: Any) -> Any:
            images, labels, _ = keras.utils.unpack_x_y_sample_weight(batch)
            if not (tf.is_tensor(images) and tf.is_tensor(labels) and labels.dtype.is_integer):
                return batch
            numbers = tf.cast(labels, tf.float64)  # holds any integer type, -1 and C
            stray = tf.reduce_any((numbers < IGNORED) | (numbers >= self.num_classes))
            looked = tf.cond(
                stray | tf.equal(number, 0),
                lambda: tf.numpy_function(look, [images, labels], tf.bool),
                lambda: True,
            )
            passed = tf.debugging.Assert(looked, ["labels were refused"])
            with tf.control_dependencies([passed]):
                return tf.nest.map_structure(tf.identity, batch)

        watched = dataset.enumerate().map(watch)
        epochs._distributed_dataset = strategy.experimental_distribute_dataset(watched)


class _Watched:
    """A stream with checked batches; it starts as late as the original, which draws on torch."""

    def __init__(self, batches: Iterable[Any], look: Callable[[Any, Any], None]) -> None:
        self._batches = batches
        self._look = look

    def __iter__(self) -> Iterator[Any]:
        return self._each(iter(self._batches))

    def _each(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            images, labels, _ = keras.utils.unpack_x_y_sample_weight(batch)
            self._look(images, labels)
            yield batch


def _on_host(values: Any) -> npt.NDArray[Any]:
    return ops.convert_to_numpy(values) if ops.is_tensor(values) else np.asarray(values)


def _warn_if_scaled(images: Any) -> None:
    shape: tuple[int, ...] = getattr(images, "shape", ())
    if len(shape) != 4 or shape[-1] != 3:
        return
    images = _on_host(images[:_SOME])
    if images.dtype.kind != "f" or images.size == 0:
        return
    low, high = float(images.min()), float(images.max())
    if 0 < max(-low, high) <= _SCALED:
        warnings.warn(
            "Images must be RGB 0..255: the embedder contains its preprocessing. Received: "
            f"values from {low:.3g} to {high:.3g}, which look scaled. Leave the scaling out, or "
            "multiply 0..1 by 255.",
            stacklevel=2,
        )
