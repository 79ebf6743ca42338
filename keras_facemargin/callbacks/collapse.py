"""Detects a collapse of training early: all embeddings move to one direction."""

from typing import NamedTuple

import keras
import numpy as np

from keras_facemargin.backend.trainer import sync_weights

_BATCH = 256


class Spread(NamedTuple):
    """Statistics of the embeddings of some faces. Angles in degrees."""

    norm: float  # mean length of an embedding
    target_angle: float  # mean angle to the true class's prototype
    past_turning_angle: float  # share of faces past the angle where the margin formula turns upward
    impostor_similarity: float  # mean cosine between faces of different people; 1: all are equal

    def __str__(self):
        return (
            f"norm {self.norm:.3g}, target angle {self.target_angle:.1f} degrees, past the turning "
            f"angle {self.past_turning_angle:.1%}, cosine between different people "
            f"{self.impostor_similarity:.3f}"
        )


def measure_spread(classifier, images, labels):
    """Measures the norm, the target angle and the similarity of different people on some faces.

    `impostor_similarity` is the mean of `cos(x_i, x_j)` over pairs with different labels. The
    turning angle is pi - m for an angular margin m (`MarginHead.turning_angle`), else 180 degrees.

    Args:
        classifier: `MarginClassifier`.
        images: (N, H, W, 3) RGB 0..255.
        labels: (N,) integers in [0, C), at least two different ones.

    Returns:
        `Spread`.

    Raises:
        ValueError: the labels are all the same, or not as many as the images.

    Example:

    >>> import keras
    >>> from keras_facemargin import CosFace, MarginClassifier
    >>> embedder = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()])
    >>> classifier = MarginClassifier(embedder, CosFace(2))
    >>> same = np.ones((2, 4, 4, 3))
    >>> round(measure_spread(classifier, same, [0, 1]).impostor_similarity, 3)
    1.0
    """
    labels = np.asarray(labels).reshape(-1)
    if len(images) != len(labels) or len(np.unique(labels)) < 2:
        raise ValueError(
            "`images` and `labels` must have one length and at least two people. Received: "
            f"{len(images)} images, {len(labels)} labels of {len(np.unique(labels))} people."
        )
    embeddings = np.concatenate(
        [
            keras.ops.convert_to_numpy(
                classifier.embedder(images[start : start + _BATCH], training=False)
            ).astype("float64")
            for start in range(0, len(images), _BATCH)
        ]
    )
    norms = np.linalg.norm(embeddings, axis=1)
    directions = embeddings / np.maximum(norms, 1e-12)[:, None]
    prototypes = keras.ops.convert_to_numpy(classifier.head.prototypes).astype("float64")[labels]
    prototypes = prototypes.reshape(len(labels), -1, directions.shape[1])  # with sub-centres
    lengths = np.maximum(np.linalg.norm(prototypes, axis=-1), 1e-12)
    cosines = (np.einsum("nd,nkd->nk", directions, prototypes) / lengths).max(axis=1)
    angles = np.arccos(np.clip(cosines, -1.0, 1.0))
    strangers = labels[:, None] != labels
    return Spread(
        norm=float(norms.mean()),
        target_angle=float(np.degrees(angles.mean())),
        past_turning_angle=float((angles > classifier.head.turning_angle).mean()),
        impostor_similarity=float((directions @ directions.T)[strangers].mean()),
    )


class CollapseDetector(keras.callbacks.Callback):
    """Measures the embeddings of some faces during training and stops a run that collapses.

    A margin loss can fall although the network learns nothing: if all embeddings and all prototypes
    move to one point, every target angle is small, and the loss stays near `log C` plus the cost of
    the margin. A cosine near 1 between different people shows this. An untrained network has such
    cosines too, so one check never stops a run: a run that learns is below the limit at the second.

    `history` keeps each check. The logs of the epoch get `impostor_similarity` and `target_angle`.

    Args:
        images: (N, H, W, 3) RGB 0..255, some hundred faces of training identities.
        labels: (N,) integers in [0, C).
        limit: cosine between different people above which embeddings count as collapsed.
        patience: consecutive checks above `limit` that stop the run, >= 1.
        every: batches between checks; None checks at the end of each epoch.

    Raises:
        ValueError: an argument is out of range.

    Example:

    >>> detector = CollapseDetector(np.zeros((2, 4, 4, 3)), [0, 1])
    >>> detector.limit
    0.9
    """

    def __init__(self, images, labels, *, limit=0.9, patience=2, every=None):
        super().__init__()
        if not 0 < limit < 1:
            raise ValueError(f"`limit` must be a cosine in (0, 1). Received: limit={limit}")
        if patience < 1:
            raise ValueError(f"`patience` must be at least 1. Received: patience={patience}")
        if every is not None and every < 1:
            raise ValueError(f"`every` must be at least 1 batch. Received: every={every}")
        self.images = images
        self.labels = labels
        self.limit = float(limit)
        self.patience = int(patience)
        self.every = every

    def on_train_begin(self, logs=None):
        self.history = []
        self.verdict = None
        self._batches = 0
        self._above = 0

    def on_train_batch_end(self, batch, logs=None):
        self._batches += 1
        if self.every and self._batches % self.every == 0:
            self._check()

    def on_epoch_end(self, epoch, logs=None):
        if not self.every:
            self._check()
        if logs is not None and self.history:
            logs["impostor_similarity"] = self.history[-1].impostor_similarity
            logs["target_angle"] = self.history[-1].target_angle

    def _check(self):
        sync_weights(self.model)
        now = measure_spread(self.model, self.images, self.labels)
        self.history.append(now)
        self._above = self._above + 1 if now.impostor_similarity > self.limit else 0
        if self._above >= self.patience or not np.isfinite(now.norm):
            self.model.stop_training = True
            self.verdict = (
                f"Training collapsed: {now}. All embeddings are similar. Start without the margin "
                "(`MarginRamp(epochs=..., after=...)`), with a smaller scale (`ScaleRamp`), a "
                "lower learning rate, or batch normalisation on the embedding."
            )
            print(self.verdict)
