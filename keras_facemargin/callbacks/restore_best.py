"""Verifies the embedder on development pairs during training and restores its best weights."""

import keras
import numpy as np
from keras import ops

from keras_facemargin.backend.trainer import sync_weights
from keras_facemargin.callbacks.workers import gather_from_workers
from keras_facemargin.evaluate import Pairs, all_pairs, embed, evaluate_pairs, verify
from keras_facemargin.evaluate.protocols import View1, evaluate_view_1

_FAR = 1e-3  # the target of the TAR in the logs; a larger one where the pairs do not support it


class RestoreBestByPairs(keras.callbacks.Callback):
    """Verifies development pairs during `fit` and restores the best weights at the end.

    The figures of the last check are in the logs of each epoch, for `EarlyStopping`,
    `ModelCheckpoint`, `TensorBoard` and other callbacks that follow in the list:

    - for LFW's View 1, `view_1_accuracy` and `view_1_eer`: the threshold comes from `train`, the
      figures come from `test`. The best weights have the highest accuracy and, at equal accuracy,
      the lowest EER.
    - for other pairs, `pairs_eer` and `pairs_tar_at_far_0.001`: the second name has a larger rate
      if the impostor pairs are fewer than 1,000. The best weights have the lowest EER and, at equal
      EER, the highest TAR.

    Of equal results the first is kept. The check before the first step counts: if training makes
    the embedder worse, it keeps its initial weights. At the end the embedder and the head have the
    best weights; the optimizer does not change.

    Pairs with folds, such as LFW's View 2, are refused: a published figure means nothing if the
    weights were chosen on its pairs.

    A resumed run remembers the best weights with `ExactResume(..., remember=[this callback])`. With
    several replicas or workers, each worker embeds all pairs on one device; the figures are those
    of the first worker.

    Args:
        pairs: a `View1` (`read_view_1` reads LFW's), `Pairs` without folds (`read_own_pairs`), or
            `(images, labels)` for all pairs of labelled images.
        epochs: epochs between checks, >= 1.
        batches: batches between checks, >= 1; replaces `epochs`.
        flip: whether to append the mirror image's embedding, see `keras_facemargin.evaluate.embed`.
        batch_size: images per call of the embedder.

    Attributes:
        history: list of the checks, a dict of figures each; the first is before training.
        best: the figures of the best weights, a dict.

    Raises:
        ValueError: an argument is out of range, `pairs` has folds, or the model has no embedder.

    Example:

    >>> from pathlib import Path
    >>> from keras_facemargin.images import write_synthetic_faces
    >>> from keras_facemargin.evaluate import Pairs
    >>> a, b, c, d = map(Path, write_synthetic_faces("people", 2, 2))
    >>> best = RestoreBestByPairs(Pairs((a, b), (b, c), np.array([True, False])))
    >>> best.epochs  # classifier.fit(..., callbacks=[best])
    1
    """

    def __init__(self, pairs, *, epochs=1, batches=None, flip=True, batch_size=64):
        super().__init__()
        if (
            not isinstance(pairs, View1 | Pairs | tuple)
            or getattr(pairs, "folds", None) is not None
        ):
            raise ValueError(
                "`pairs` must be development pairs: a View1, as read_view_1(lists, images) returns "
                "it, Pairs without folds, or (images, labels). Received: "
                f"{type(pairs).__name__}"
                + (" with folds, such as View 2's." if _has_folds(pairs) else ".")
            )
        for name, value in {"epochs": epochs, "batches": batches}.items():
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        self.pairs = pairs
        self.epochs = epochs
        self.batches = batches
        self.flip = flip
        self.batch_size = batch_size

    # `ExactResume` remembers `_figures`, `_best_values` (lists of arrays), `_best`, `_seen`.
    def on_train_begin(self, logs=None):
        if not hasattr(self.model, "embedder"):
            raise ValueError(
                "RestoreBestByPairs needs a MarginClassifier, which has an embedder. "
                f"Received: a model of type {type(self.model).__name__}."
            )
        self._figures = []
        self._best = None
        self._best_values = []
        self._seen = 0
        self._on_one_device = None

    def on_train_batch_begin(self, batch, logs=None):
        if not self._figures:  # here, because a resumed run has its memory now
            self._check()

    def on_train_batch_end(self, batch, logs=None):
        self._seen += 1
        if self.batches and self._seen % self.batches == 0:
            self._check()

    def on_epoch_end(self, epoch, logs=None):
        if not self.batches and (epoch + 1) % self.epochs == 0:
            self._check()
        if logs is not None:
            logs.update(self.history[-1])

    def on_train_end(self, logs=None):
        self._sync()
        for weight, value in zip(self._weights(), self._best_values, strict=bool(self._figures)):
            weight.assign(value)

    @property
    def names(self):
        """The names of the figures, the one that decides first."""
        if isinstance(self.pairs, View1):
            return "view_1_accuracy", "view_1_eer"
        return "pairs_eer", f"pairs_tar_at_far_{self._far():g}"

    @property
    def history(self):
        return [dict(zip(self.names, map(float, row), strict=True)) for row in self._figures]

    @property
    def best(self):
        return None if self._best is None else self.history[self._best]

    def _check(self):
        self._sync()
        figures = np.array(self._measure())
        self._figures.append(figures)
        if self._best is None or self._rank(figures) > self._rank(self._figures[self._best]):
            self._best = len(self._figures) - 1
            self._best_values = [ops.convert_to_numpy(weight) for weight in self._weights()]

    def _measure(self):
        """The figures of the current weights, in the order of `names`."""
        strategy = getattr(self.model, "distribute_strategy", None)
        embedder = self.model.embedder
        if strategy is not None and strategy.num_replicas_in_sync > 1:
            self._on_one_device = self._on_one_device or _OnOneDevice(embedder)
            embedder = self._on_one_device.with_current_weights()
        options = {"flip": self.flip, "batch_size": self.batch_size, "progress": False}
        if isinstance(self.pairs, View1):
            result = evaluate_view_1(embedder, self.pairs, **options)
            figures = result.accuracy, result.test.eer
        else:
            if isinstance(self.pairs, Pairs):
                result = evaluate_pairs(embedder, self.pairs, **options)
            else:
                images, labels = self.pairs
                result = verify(*all_pairs(embed(embedder, images, **options), labels))
            figures = result.eer, result.curve.tar_at_far(self._far()).tar
        return gather_from_workers(strategy, figures)[0]

    def _far(self):
        """The smallest power of ten from 0.001 that the impostor pairs support, or 1 of them."""
        impostors = _impostors(self.pairs)
        supported = [far for far in (_FAR, 1e-2, 1e-1) if far * impostors >= 1]
        return supported[0] if supported else 1 / max(1, impostors)

    def _rank(self, figures):
        first, second = figures
        return (first, -second) if isinstance(self.pairs, View1) else (-first, second)

    def _weights(self):
        return [*self.model.embedder.weights, *self.model.head.weights]

    def _sync(self):
        sync_weights(self.model)


class _OnOneDevice:
    """An embedder under a strategy, as a function of one batch on one device.

    Keras' `predict_on_batch` gives the batch to every replica and returns it once for each.
    """

    def __init__(self, embedder):
        import tensorflow as tf

        self.input_shape = embedder.input_shape
        self._variables = embedder.trainable_variables, embedder.non_trainable_variables
        self._embed = tf.function(
            lambda state, images: embedder.stateless_call(*state, images, training=False)[0]
        )

    def with_current_weights(self):
        import tensorflow as tf

        self._state = [
            [tf.constant(ops.convert_to_numpy(variable)) for variable in variables]
            for variables in self._variables
        ]
        return self

    def __call__(self, images):
        return self._embed(self._state, images).numpy()


def _impostors(pairs):
    if isinstance(pairs, Pairs):
        return int(np.count_nonzero(~np.asarray(pairs.same, bool)))
    counts = np.unique(pairs[1], return_counts=True)[1]
    return int(counts.sum() ** 2 - (counts**2).sum()) // 2


def _has_folds(pairs):
    return getattr(pairs, "folds", None) is not None
