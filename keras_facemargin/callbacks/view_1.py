"""Judges the embedder on development pairs while it trains, and ends with its best weights."""

import keras
from keras import ops

from keras_facemargin.evaluate.protocols.lfw import View1, evaluate_view_1


class BestByView1(keras.callbacks.Callback):
    """Runs LFW's View 1, or development pairs of your own, during `fit`; keeps the best weights.

    Each check chooses a threshold on `view.train` and puts into the epoch's logs what it does on
    `view.test`: `view_1_accuracy` and `view_1_eer`, for `EarlyStopping`, `ModelCheckpoint` and such
    that come after this one in the list of callbacks. The best weights are those of the highest
    accuracy, of equal ones with the lowest EER, of equal ones the first; at the end of training
    embedder and head have them again, the optimizer is left as it is. The weights before the first
    step are judged too: a fine-tuning that does only harm gives them back.

    View 2 is refused. Weights chosen on the pairs that a figure is then measured on make the figure
    mean nothing.

    `history` holds every check, a `View1Result` each, the first before training.

    Args:
        view: a `View1`; `read_view_1` reads LFW's.
        epochs: epochs between checks, >= 1.
        batches: batches between checks, >= 1, in place of epochs; the logs of an epoch hold the
            last one.
        flip: whether to append the mirror image's embedding, see `keras_facemargin.evaluate.embed`.
        batch_size: images per call of the embedder.

    Raises:
        ValueError: an argument is out of range, `view` holds pairs with folds or is none, or the
            model that trains has no embedder.

    Example:

    >>> from pathlib import Path
    >>> from keras_facemargin.images import write_synthetic_faces
    >>> from keras_facemargin.evaluate import Pairs, View1
    >>> a, b, c, d = map(Path, write_synthetic_faces("people", 2, 2))
    >>> pairs = Pairs((a, a), (b, c), np.array([True, False]))
    >>> best = BestByView1(View1(train=pairs, test=pairs))  # classifier.fit(..., callbacks=[best])
    >>> best.epochs
    1
    """

    def __init__(self, view, epochs=1, batches=None, flip=True, batch_size=64):
        super().__init__()
        if not isinstance(view, View1):
            raise ValueError(
                "Weights are chosen on development pairs only, a `View1`: read_view_1(lists, "
                "images), or View1(train, test) of pairs that nothing is published on. Received: "
                f"{type(view).__name__}{_of_folds(view)}."
            )
        for name, value in {"epochs": epochs, "batches": batches}.items():
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        self.view = view
        self.epochs = epochs
        self.batches = batches
        self.flip = flip
        self.batch_size = batch_size

    def on_train_begin(self, logs=None):
        if not hasattr(self.model, "embedder"):
            raise ValueError(
                "BestByView1 judges the embedder of a MarginClassifier. "
                f"Received: a model of type {type(self.model).__name__}."
            )
        self.history = []
        self.best = None
        self._seen = 0
        self._check()

    def on_train_batch_end(self, batch, logs=None):
        self._seen += 1
        if self.batches and self._seen % self.batches == 0:
            self._check()

    def on_epoch_end(self, epoch, logs=None):
        if not self.batches and (epoch + 1) % self.epochs == 0:
            self._check()
        if logs is not None:
            logs["view_1_accuracy"] = self.history[-1].accuracy
            logs["view_1_eer"] = self.history[-1].test.eer

    def on_train_end(self, logs=None):
        self._sync()
        for weight, value in zip(self._weights(), self._best_values, strict=True):
            weight.assign(value)

    def _check(self):
        self._sync()
        now = evaluate_view_1(
            self.model.embedder, self.view, self.flip, self.batch_size, progress=False
        )
        self.history.append(now)
        if self.best is None or _rank(now) > _rank(self.best):
            self.best = now
            self._best_values = [ops.convert_to_numpy(weight) for weight in self._weights()]

    def _weights(self):
        return [*self.model.embedder.weights, *self.model.head.weights]

    def _sync(self):
        if keras.backend.backend() == "jax":  # whose trainer keeps the weights elsewhere
            self.model.jax_state_sync()


def _rank(result):
    return result.accuracy, -result.test.eer


def _of_folds(view):
    folds = getattr(view, "folds", None)
    if folds is None:
        return ""
    return " with folds, as View 2 has them: it is for the figure to publish"
