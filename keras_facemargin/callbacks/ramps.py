"""Schedules that increase the margin or the scale during training."""

import keras

from keras_facemargin.backend.trainer import sync_weights
from keras_facemargin.heads.margin_head.arguments import check_at_least, check_positive


class _Ramp(keras.callbacks.Callback):
    """Moves a scalar weight of the head along a line, by the epoch and the batch within it.

    The place on the line depends on epoch and batch only, so that `fit(initial_epoch=...)` resumes
    it.
    """

    def __init__(self, start, epochs, after):
        super().__init__()
        check_positive("epochs", epochs)
        check_at_least("after", after, 0)
        self.start = float(start)
        self.epochs = float(epochs)
        self.after = float(after)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._move(epoch)

    def on_train_batch_begin(self, batch, logs=None):
        steps = self.params.get("steps")
        if steps:  # unknown in the first epoch of data without a length: that epoch is one step
            self._move(self._epoch + batch / steps)

    def _move(self, epoch):
        share = min(1.0, max(0.0, (epoch - self.after) / self.epochs))
        value = self.start + share * (self._end() - self.start)
        if value != self._value:
            self._value = value
            sync_weights(self.model)
            self._weight().assign(value)

    def on_train_begin(self, logs=None):
        self._value = None
        if not hasattr(self.model, "head"):
            raise ValueError(
                f"{type(self).__name__} needs a MarginClassifier. "
                f"Received: a model of type {type(self.model).__name__}."
            )


class MarginRamp(_Ramp):
    """Increases the margin from a share of its value to its full value.

    Every similarity is `plain + share * (margin - plain)`: for CosFace that is the margin
    `share * m`, for SphereFace its own annealing with `share = 1 / (1 + lambda)`
    (arXiv:1704.08063, appendix G); it is the same for every head. Training from scratch with a full
    angular margin often collapses: the easiest way to reduce all angles is to map every face to one
    point. After the classes have separated, the margin is safe.

    Args:
        epochs: length of the ramp, may be a fraction.
        start: share of the margin before it, in [0, 1].
        after: epochs before the ramp begins: a softmax-first stage of plain scaled cosines.

    Raises:
        ValueError: an argument is out of range; the model is not a `MarginClassifier`.

    Example:

    >>> ramp = MarginRamp(epochs=4, after=2)  # two epochs without a margin, then four of growth
    >>> ramp.start, ramp.epochs, ramp.after
    (0.0, 4.0, 2.0)
    """

    def __init__(self, epochs, *, start=0.0, after=0):
        super().__init__(start, epochs, after)
        if not 0 <= start <= 1:
            raise ValueError(
                f"`start` must be a share of the margin in [0, 1]. Received: start={start}"
            )

    def _end(self):
        return 1.0

    def _weight(self):
        return self.model.head.margin_weight


class ScaleRamp(_Ramp):
    """Increases the scale from a small value to the head's own value.

    A small scale keeps the softmax soft, so that gradients reach all classes at the start.
    `heads.scale_lower_bound(num_classes)` is the smallest scale that can separate them.

    Args:
        epochs: length of the ramp, may be a fraction.
        start: scale before it, > 0.
        after: epochs before the ramp begins.

    Raises:
        ValueError: an argument is out of range; the head has no fixed scale (softmax, SphereFace,
            a learned or adaptive one); the model is not a `MarginClassifier`.

    Example:

    >>> ScaleRamp(epochs=2, start=16.0).start
    16.0
    """

    def __init__(self, epochs, start, *, after=0):
        super().__init__(start, epochs, after)
        check_positive("start", start)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        head = self.model.head
        if not head.scale_is_fixed:
            raise ValueError(
                "ScaleRamp needs a head with a fixed scale. Received: a "
                f"{type(head).__name__}, whose scale is learned, adaptive or absent. Leave the "
                "ramp out."
            )

    def _end(self):
        return self.model.head.scale

    def _weight(self):
        return self.model.head.scale_weight
