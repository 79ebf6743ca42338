"""A correction of embeddings: a few layers after an embedder that pull bad images apart."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_facemargin.evaluate.cosine import unit_rows

MAPS = 16
GATE_LAYERS, GATE_WIDTH = 2, 64  # hidden
LEARNING_RATE = 1e-3
DEGRADED_WEIGHT = 0.5  # of the target of degraded views, beside 1 of clean ones
STRANGERS_WEIGHT = 8.0
STRANGERS_LIMIT = 1.5  # deviations above the mean
MOST_OF_ANOTHER = 0.4  # in a mixture of two crops

Rows = npt.NDArray[np.float32]


class Range(NamedTuple):
    """Range of the clean embeddings of an embedder.

    Attributes:
        norm: mean length.
        is_unit: whether each has length 1.
        mean, deviation: of the cosines of two.
    """

    norm: float
    is_unit: bool
    mean: float
    deviation: float

    @classmethod
    def of(cls, clean: npt.NDArray[Any]) -> "Range":
        """From embeddings (N, D), mostly of different people."""
        norms = np.linalg.norm(clean, axis=1)
        units = unit_rows(clean, "embeddings")
        cosines = (units @ units.T)[np.triu_indices(len(units), 1)]
        return cls(
            norm=float(norms.mean()),
            is_unit=bool(np.allclose(norms, 1.0, atol=1e-3)),
            mean=float(cosines.mean()),
            deviation=float(cosines.std()),
        )


def new_correction(dimension: int, found: Range, seed: int) -> keras.Model:
    r"""Builds a correction that changes nothing yet.

    .. math:: e + \bar n \sum_k g_k(x) (A_k x + b_k), \quad x = e \sqrt D / \bar n

    :math:`g` are the weights of `MAPS` affine maps, from a network of dense layers with ReLU and a
    softmax; :math:`\bar n` is the mean length of an embedding. What bad images have in common and
    the little that distinguishes them depend on how bad they are: :math:`g` can tell that, and an
    affine map subtracts the first and enlarges the second. So it holds for people whom the training
    did not see. An embedder of unit embeddings keeps them of unit length.

    Args:
        dimension: D.
        found: of the embedder.
        seed: of the network that weights the maps; the maps start at 0.

    Returns:
        `keras.Model`, (B, D) -> (B, D), of stock layers.
    """
    layers = keras.layers
    embedding = keras.Input((dimension,), name="embedding")
    x = layers.Rescaling(dimension**0.5 / found.norm, name="correction_scale")(embedding)
    gate = x
    for number in range(GATE_LAYERS + 1):
        last = number == GATE_LAYERS
        gate = layers.Dense(
            MAPS if last else GATE_WIDTH,
            activation="softmax" if last else "relu",
            kernel_initializer=keras.initializers.GlorotUniform(seed=seed + number),
            name="correction_gate" if last else f"correction_gate_hidden_{number}",
        )(gate)
    x = layers.Dense(MAPS * dimension, kernel_initializer="zeros", name="correction_maps")(x)
    x = layers.Reshape((MAPS, dimension), name="correction_of_each_map")(x)
    x = layers.Dot(axes=1, name="correction")([gate, x])
    x = layers.Rescaling(found.norm, name="correction_length")(x)
    x = layers.Add(name="corrected")([embedding, x])
    if found.is_unit:
        x = layers.UnitNormalization(name="unit")(x)
    return keras.Model(embedding, x, name="correction")


class CorrectionTrainer(keras.Model):  # type: ignore[misc]  # Keras has no types
    r"""Trains a correction to give degraded views the embeddings of the clean crops.

    A batch has B views of N crops: all clean, then some degradations of all. With the corrected
    unit embeddings :math:`s_i` of the views, the original ones :math:`t_i` of their clean crops,
    and mean :math:`m` and deviation :math:`\sigma` of the original cosines of clean strangers, the
    loss is

    .. math::
        \frac{\operatorname{mean}_{clean} (1 - s_i \cdot t_i)
        + w \operatorname{mean}_{degraded} (1 - s_i \cdot t_i)}{1 - m}
        + \lambda \operatorname{mean}_{ij} \left(\frac
        {\max(s_i \cdot s_j - \max(t_i \cdot t_j, m + k \sigma), 0)}{\sigma}\right)^2

    over the pairs ij of two crops. The first term keeps clean embeddings where they were, the
    second is the target of degraded ones. The third pushes apart strangers who are more similar
    than their clean crops and than most clean strangers: a blurred face has little of its own
    embedding left, and the target alone lets blurred faces gather. Once the cosines of degraded
    strangers are distributed as those of clean ones, the term almost vanishes, so that it costs no
    more true matches than it must. It is the relational distillation of Park et al., CVPR 2019, in
    one direction. Mean and deviation make all terms independent of the range of an embedder's
    cosines: of dlib's network, one in a thousand pairs of strangers has 0.93 or more.

    Args:
        correction: as `new_correction` builds it.
        found: `Range` of the embedder.

    Call: embeddings (B, D) -> corrected embeddings (B, D). `train_on_batch(views, targets)` takes
    the original embeddings of the views and the unit embeddings of the clean crops (N, D). The
    weights :math:`w`, :math:`\lambda` and :math:`k` are `DEGRADED_WEIGHT`, `STRANGERS_WEIGHT` and
    `STRANGERS_LIMIT`.
    """

    def __init__(self, correction: Any, found: Range, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.correction, self.found = correction, found

    def call(self, views: Any, training: Any = None) -> Any:
        return self.correction(views, training=training)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, **_: Any
    ) -> Any:
        crops = ops.shape(y)[0]
        copies = ops.shape(y_pred)[0] // crops
        targets = ops.tile(y, (copies, 1))
        embeddings = ops.normalize(y_pred, axis=1)
        far = 1.0 - ops.sum(embeddings * targets, axis=1)
        own = ops.mean(far[:crops]) + DEGRADED_WEIGHT * ops.mean(far[crops:])
        others = 1.0 - ops.tile(ops.eye(crops), (copies, copies))  # pairs of two crops
        limit = self.found.mean + STRANGERS_LIMIT * self.found.deviation
        allowed = ops.maximum(_cosines(targets), limit)
        excess = ops.relu(_cosines(embeddings) - allowed) * others / self.found.deviation
        gathered = ops.sum(ops.square(excess)) / ops.sum(others)
        return own / (1.0 - self.found.mean) + STRANGERS_WEIGHT * gathered


def _cosines(units: Any) -> Any:
    return ops.matmul(units, ops.transpose(units))


def train_correction(
    blocks: Rows, *, steps: int, seed: int, advance: Callable[[], None]
) -> keras.Model:
    r"""Trains a correction on embeddings of views.

    Each step moves every crop of a block a share of the way to another one, its views and its clean
    embedding alike: :math:`e_i + a (e_j - e_i)`, with :math:`a` drawn from 0 to `MOST_OF_ANOTHER`.
    So no step shows the same crops, and few crops are not learned by heart (mixup: Zhang et al.,
    arXiv:1710.09412, here of embeddings).

    Args:
        blocks: float32 (S, V, N, D): S blocks of V views of N crops, clean views first. The views
            of one kind in a block are equally bad.
        steps: number of steps, a block each; Adam's learning rate decays to 0 on a cosine.
        seed: of the weights and the order.
        advance: called after each step.

    Returns:
        The correction.

    Raises:
        ValueError: the loss is not finite.
    """
    dimension = blocks.shape[-1]
    found = Range.of(np.concatenate(blocks[:, 0])[:1000])
    correction = new_correction(dimension, found, seed)
    trainer = CorrectionTrainer(correction, found)
    schedule = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    trainer.compile(keras.optimizers.Adam(schedule))
    rng = np.random.default_rng(seed)
    for step in range(steps):
        if step % len(blocks) == 0:
            order = rng.permutation(len(blocks))
        block = _mixed(blocks[order[step % len(blocks)]], rng)
        targets = unit_rows(block[0], "embeddings").astype("float32")
        loss = float(trainer.train_on_batch(block.reshape(-1, dimension), targets))
        if not np.isfinite(loss):
            raise ValueError(f"The loss must be finite. Received: {loss} at step {step}.")
        advance()
    return correction


def _mixed(block: Rows, rng: np.random.Generator) -> Rows:
    """A block (V, N, D) whose crops are part of another one."""
    crops = block.shape[1]
    share = rng.uniform(0, MOST_OF_ANOTHER, (crops, 1)).astype("float32")
    mixed: Rows = block + share * (block[:, rng.permutation(crops)] - block)
    return mixed
