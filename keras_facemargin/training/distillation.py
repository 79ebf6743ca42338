"""The training step of `robustify`: an embedder learns from its own clean embeddings."""

from typing import Any

import keras
from keras import ops

CLEAN_WEIGHT = 8.0  # of a clean view, beside 1 of a degraded one
STRANGERS_WEIGHT = 1.0


class CleanTarget(keras.Model):  # type: ignore[misc]  # Keras has no types
    r"""Trains a student to give degraded views the embeddings that the teacher gives clean crops.

    With the student's unit embeddings :math:`s_i` of the views, the teacher's :math:`t_i` of the
    clean crops, and mean :math:`\bar t` and variance :math:`v` of the teacher's cosines
    :math:`t_i \cdot t_j` of two crops, the loss of a batch is

    .. math::
        \frac{\sum_i w_i (1 - s_i \cdot t_i)}{(1 - \bar t) \sum_i w_i}
        + \frac{\lambda}{v B (B - 1)} \sum_{i \ne j} \max(s_i \cdot s_j - t_i \cdot t_j, 0)^2

    The first term is the target; clean views have a larger weight :math:`w_i`, which keeps their
    embeddings where they were. The second pushes apart strangers who became more similar than their
    clean crops are: a blurred face has little of its own embedding left, and the first term alone
    lets blurred faces gather. It is the relational distillation of Park et al., CVPR 2019, in one
    direction. Mean and variance make both terms independent of the range of an embedder's cosines:
    of dlib's network, one in a thousand pairs of strangers has 0.93 or more.

    Both networks run in inference mode: batch normalisation keeps its statistics, which a mixture
    of clean and degraded crops would move, and its scale and offset are trained. Without a
    degradation the student starts with a loss of 0.

    Args:
        student: embedder to train.
        teacher: the same embedder; it is not changed.

    Call: views (B, H, W, 3) -> embeddings (B, D). `train_on_batch(views, clean, weights)` takes the
    clean crops as targets and the weights (B,): `CLEAN_WEIGHT` of a clean view, 1 of another.
    :math:`\lambda` is `STRANGERS_WEIGHT`.
    """

    def __init__(self, student: Any, teacher: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        teacher.trainable = False
        self.student, self.teacher = student, teacher

    def call(self, views: Any, training: Any = None) -> Any:
        return self.student(ops.cast(views, "float32"), training=False)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, **_: Any
    ) -> Any:
        targets = self.teacher(ops.cast(y, "float32"), training=False)
        targets = ops.stop_gradient(_unit(targets))
        embeddings = _unit(y_pred)
        count = ops.shape(targets)[0]
        others = 1.0 - ops.eye(count)  # pairs of two crops
        pairs = ops.cast(count * (count - 1), "float32")
        wanted = _cosines(targets)
        mean = ops.sum(wanted * others) / pairs
        variance = ops.sum(ops.square(wanted - mean) * others) / pairs
        weights = ops.cast(sample_weight, "float32")
        far = 1.0 - ops.sum(embeddings * targets, axis=1)
        target_loss = ops.sum(weights * far) / (ops.sum(weights) * (1.0 - mean))
        excess = ops.relu(_cosines(embeddings) - wanted) * others
        return target_loss + STRANGERS_WEIGHT * ops.sum(ops.square(excess)) / (pairs * variance)


def _unit(embeddings: Any) -> Any:
    return ops.normalize(ops.cast(embeddings, "float32"), axis=1)


def _cosines(units: Any) -> Any:
    return ops.matmul(units, ops.transpose(units))
