"""Fine-tuning an embedder on a folder of people, measured on people it was not tuned on."""

import math
from dataclasses import dataclass

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from keras_facemargin.classifier import MarginClassifier
from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate import Pairs, Verification, all_pairs, embed, verify
from keras_facemargin.heads import CosFace

_HELD_OUT_SHARE, _MOST_HELD_OUT = 0.25, 60  # of the identities: enough pairs, few enough to show


@dataclass(frozen=True)
class FineTuned:
    """What fine-tuning gave.

    Attributes:
        classifier: the trained `MarginClassifier`; its `embedder` is the result.
        history: lists by epoch: "loss", "accuracy" and, on images held out of the training
            identities, "val_loss", "val_accuracy".
        training: `FaceFolder` of the identities trained on.
        held_out: `FaceFolder` of the identities that only judge.
        pairs: all pairs of the held-out images.
        before, after: `Verification` on these pairs with the embedder as it came and as it went.
    """

    classifier: MarginClassifier
    history: dict
    training: FaceFolder
    held_out: FaceFolder
    pairs: Pairs
    before: Verification
    after: Verification


def finetune(
    embedder, faces, head=None, epochs=10, batch_size=32, learning_rate=3e-4, seed=0, progress=True
) -> FineTuned:
    """Fine-tunes an embedder on new people and measures it on people held out.

    A quarter of the identities (at most 60) is held out by `seed` and only judges: what counts is
    whether *strangers* are told apart better. The prototypes start at each identity's mean
    embedding, so that the first steps do not tear the embedder apart, and batch normalisation keeps
    its statistics, which a few hundred faces would only blur.

    Args:
        embedder: `keras.Model`, (B, 112, 112, 3) RGB 0..255 -> (B, D); trained in place.
        faces: a `FaceFolder` with at least eight identities.
        head: function of the number of training identities to a `MarginHead`; None takes
            `CosFace(n, margin=0.35, scale=30)`.
        epochs: passes over the training images.
        batch_size: images per step.
        learning_rate: Adam's first one; it falls to zero along a cosine.
        seed: of the split, the shuffling and the augmentation.
        progress: whether to draw progress on standard error.

    Returns:
        A `FineTuned`.

    Raises:
        ValueError: fewer than eight identities, or held-out ones without two images each.

    Example:

    >>> from keras_facemargin import load_embedder
    >>> from keras_facemargin.data import FaceFolder
    >>> faces = FaceFolder("people")  # doctest: +SKIP
    >>> result = finetune(load_embedder("spherenet_distilled"), faces)  # doctest: +SKIP
    >>> result.before.eer, result.after.eer  # doctest: +SKIP
    """
    if faces.num_classes < 8:
        raise ValueError(
            "Fine-tuning holds a quarter of the identities out to judge by, so `faces` must have "
            f"at least 8. Received: {faces.num_classes} identities in {faces.directory}"
        )
    count = min(_MOST_HELD_OUT, math.ceil(_HELD_OUT_SHARE * faces.num_classes))
    people, held_out = faces.split(count, seed)
    training, validation = people.split_images(1, seed)

    before, pairs = _judge(embedder, held_out, progress)
    classifier = MarginClassifier(embedder, (head or _default_head)(training.num_classes))
    _imprint(classifier, training, progress)
    frozen = [
        layer
        for layer in embedder._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    for layer in frozen:
        layer.trainable = False
    steps = math.ceil(len(training) / batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps)
    classifier.compile(keras.optimizers.Adam(schedule))
    history = classifier.fit(
        training.dataset(batch_size, training=True, seed=seed),
        validation_data=validation.dataset(batch_size),
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[FitProgress()] if progress else None,
    ).history
    for layer in frozen:
        layer.trainable = True
    after, _ = _judge(embedder, held_out, progress)
    return FineTuned(classifier, history, training, held_out, pairs, before, after)


def compared(tuned) -> list[tuple[str, str, str]]:
    """(measure, before, after) as text, for a table."""
    rows = zip(tuned.before.rows(), tuned.after.rows(), strict=True)
    return [(measure, before, after) for (measure, before), (_, after) in rows]


class FitProgress(keras.callbacks.Callback):
    """Draws `fit` as one rich progress bar with the running loss and accuracy."""

    def __init__(self):
        super().__init__()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}"),
            console=Console(stderr=True),
        )

    def on_train_begin(self, logs=None):
        self.task = None
        self.bar.start()

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if self.task is None:
            steps = self.params["steps"]
            total = steps and steps * self.params["epochs"]
            self.task = self.bar.add_task("Training", total=total, state="")

    def on_train_batch_end(self, batch, logs=None):
        epochs = self.params["epochs"]
        state = f"epoch {self.epoch + 1}/{epochs}  loss {logs['loss']:.3f}"
        self.bar.update(self.task, advance=1, state=f"{state}  accuracy {logs['accuracy']:.1%}")

    def on_train_end(self, logs=None):
        self.bar.stop()


def _default_head(num_classes):
    return CosFace(num_classes, margin=0.35, scale=30.0)


def _judge(embedder, held_out, progress):
    embeddings = embed(embedder, held_out.paths, progress=progress)
    scores, same = all_pairs(embeddings, held_out.labels)
    first, second = np.triu_indices(len(held_out), 1)
    paths = np.array(held_out.paths, object)
    return verify(scores, same), Pairs(list(paths[first]), list(paths[second]), same)


def _imprint(classifier, training, progress):
    """Puts each prototype where the identity's mean embedding is (Qi et al., arXiv:1712.07136)."""
    embeddings = embed(classifier.embedder, training.paths, flip=False, progress=progress)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    means = np.zeros((training.num_classes, embeddings.shape[1]), "float32")
    np.add.at(means, training.labels, embeddings)
    means /= np.bincount(training.labels)[:, None]
    classifier.head.prototypes.assign(means)
