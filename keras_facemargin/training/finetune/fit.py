"""The training itself: a linear map of embeddings, learned with a head."""

import dataclasses
import math
from typing import Any, ClassVar

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_facemargin.classifier import MarginClassifier
from keras_facemargin.evaluate.cosine import unit_rows
from keras_facemargin.training.finetune.learned import Learned, Trained
from keras_facemargin.training.interpolation import interpolate_weights

MAP = "fine_tuned"  # name of the layer that fine-tuning appends
# Chosen on people whom docs/finetune.md does not report.
KEEP = 30.0
_RATE, _STEPS, _LEAST_EPOCHS, _BATCH = 2.5e-3, 60, 10, 1024

_Rows = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class LearnedMap(Learned):
    """A map of the embedding.

    Attributes:
        embedder: the embedder before; it is not changed.
        matrix: float32 (D, D); embeddings e become e W. It started at the identity.
    """

    trained: ClassVar[Trained] = "embedding"
    embedder: keras.Model
    matrix: _Rows

    def map_at(self, share: float) -> _Rows:
        """The matrix that went a share of the way from the identity: (1 - share) I + share W."""
        identity = np.eye(len(self.matrix), dtype="float32")
        return interpolate_weights([identity], [self.matrix], share)[0]  # type: ignore[no-any-return]

    def embedder_at(self, share: float) -> keras.Model:
        """The embedder and the map that went a share of the way."""
        return with_map(self.embedder, self.map_at(share))

    def carry(self, prototypes: _Rows, share: float) -> _Rows:
        """The prototypes after the map, as embeddings are."""
        return prototypes @ self.map_at(share)


def fit(
    embedder: keras.Model,
    head: Any,
    prototypes: _Rows,
    embeddings: _Rows,
    labels: _Rows,
    *,
    seed: int,
) -> LearnedMap:
    """Learns a linear map W of embeddings e, and the prototypes, with a head.

        loss = head(e W) + 30 (1 - cos(e, e W)) / d

    The second term keeps embeddings where they were, for people whom the training does not see
    (distillation from the embedder before: Li, Hoiem, "Learning without Forgetting",
    arXiv:1606.09282, which distils class probabilities). d is the mean of 1 - cos between the
    prototypes of two people at the start: 0.9 or more in most networks, and less where all
    embeddings point to one side, as dlib's do, so that the same move means more.

    Args:
        embedder: (B, H, W, 3) -> (B, D), whose embeddings these are.
        head: a `MarginHead`.
        prototypes: (C, D) or (C, K, D), where they start.
        embeddings: (N, D).
        labels: (N,).
        seed: seed of the order of the embeddings.
    """
    keras.utils.set_random_seed(seed)
    width = embeddings.shape[1]
    source = keras.Input((width,), dtype="float32")
    layer = keras.layers.Dense(
        width, use_bias=False, kernel_initializer="identity", name=MAP, dtype="float32"
    )
    keep = KEEP / _distance(prototypes)
    classifier = KeepingClassifier(keras.Model(source, layer(source)), head, keep)
    head.set_prototypes(prototypes)
    before = ops.convert_to_numpy(head.prototypes)[: head.num_classes]
    steps = math.ceil(len(embeddings) / _BATCH)
    epochs = max(_LEAST_EPOCHS, math.ceil(_STEPS / steps))
    rate = keras.optimizers.schedules.CosineDecay(_RATE, steps * epochs)
    classifier.compile(keras.optimizers.Adam(rate))
    history = classifier.fit(
        embeddings, labels, batch_size=_BATCH, epochs=epochs, verbose=0
    ).history
    after = ops.convert_to_numpy(head.prototypes)[: head.num_classes]
    return LearnedMap(
        before=before,
        after=after,
        history=history,
        embedder=embedder,
        matrix=ops.convert_to_numpy(layer.kernel),
    )


class KeepingClassifier(MarginClassifier):
    """Learns a map of embeddings that stays near the identity; see `fit`."""

    def __init__(self, embedder: keras.Model, head: Any, keep: float) -> None:
        super().__init__(embedder, head)
        self.keep = keep

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: Any = True,
    ) -> Any:
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        cosines = ops.sum(ops.normalize(x) * ops.normalize(y_pred), axis=-1)
        return loss + self.keep * ops.mean(1 - cosines)


def _distance(prototypes: _Rows) -> float:
    """The mean of 1 - cos between two people."""
    rows = prototypes if prototypes.ndim == 2 else prototypes[:, 0]
    rows = unit_rows(rows, "prototypes")
    people = len(rows)
    cosines = (np.sum(rows.sum(axis=0) ** 2) - people) / (people * (people - 1))
    return max(1 - float(cosines), 1e-3)


def with_map(embedder: keras.Model, matrix: _Rows) -> keras.Model:
    """The embedder and a linear map of its embeddings, as one model of stock layers.

    A map that an earlier fine-tuning appended is multiplied, so a model does not grow.

    Args:
        embedder: (B, H, W, 3) -> (B, D).
        matrix: (D, D).
    """
    last = embedder.layers[-1]
    inside = embedder.outputs[0]
    if isinstance(last, keras.layers.Dense) and last.name == MAP:
        inside, matrix = last.input, ops.convert_to_numpy(last.kernel) @ matrix
    layer = keras.layers.Dense(len(matrix), use_bias=False, name=MAP, dtype="float32")
    model = keras.Model(embedder.inputs[0], layer(inside), name=embedder.name)
    layer.kernel.assign(matrix)
    if hasattr(embedder, "crop"):
        model.crop = embedder.crop
    return model
