"""The training of the layers: steps in proportion to the weights, and slower to the first layer."""

import copy
import dataclasses
import math
from typing import Any, ClassVar

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_facemargin.callbacks import StepBar
from keras_facemargin.classifier import MarginClassifier
from keras_facemargin.training.finetune.judge import Judge
from keras_facemargin.training.finetune.learned import Learned, Trained
from keras_facemargin.training.interpolation import interpolate_weights

FEW = 5  # images a person: so many and fewer are few
_BATCH, _EPOCHS, _FEW_STEPS = 32, 10, 60
_RATE, _FEW_RATE = 3e-3, 1e-3  # of the norm of the weights
_LAYER_DECAY = 0.1

_Rows = npt.NDArray[Any]


class DepthLamb(keras.optimizers.Lamb):  # type: ignore[misc]
    """LAMB whose learning rate falls from the last layer to the first.

    A step changes weights w by rate * |w|, whatever the gradient, so that one rate fits every
    network (You et al., "Large Batch Optimization for Deep Learning", arXiv:1904.00962). With n
    layers that have weights, layer i = 1..n of an embedder learns at

        rate_i = rate * layer_decay ** ((n - i) / (n - 1))

    and all else, the prototypes, at `rate`. The first layers see edges and skin, which are the same
    for all people; the last ones decide whose they are (discriminative fine-tuning: Howard, Ruder,
    "Universal Language Model Fine-tuning", arXiv:1801.06146, with a factor from layer to layer).

    Args:
        learning_rate: rate of the last layer, or a schedule.
        embedder: `keras.Model`, whose layers learn at different rates.
        layer_decay: rate of the first layer divided by that of the last one.
    """

    def __init__(self, learning_rate: Any, embedder: keras.Model, layer_decay: float) -> None:
        super().__init__(learning_rate)
        layers = [
            layer
            for layer in embedder._flatten_layers(include_self=False)
            if layer.trainable_variables and not isinstance(layer, keras.Model)
        ]
        last = max(1, len(layers) - 1)
        self._factors = {
            variable.path: layer_decay ** (1 - index / last)
            for index, layer in enumerate(layers)
            for variable in layer.trainable_variables
        }

    def build(self, variables: Any) -> None:
        super().build(variables)
        self._factor_of = [self._factors.get(variable.path, 1.0) for variable in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        factor = self._factor_of[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * factor)


def require_trainable(embedder: keras.Model) -> None:
    """Refuses an embedder without weights to train.

    Raises:
        ValueError: every layer is frozen or has no weights but those of batch normalisation.
    """
    if not any(
        layer.trainable_variables
        for layer in embedder._flatten_layers()
        if not isinstance(layer, keras.Model | keras.layers.BatchNormalization)
    ):
        raise ValueError(
            "Training layers needs an embedder with weights to train. Received: "
            f"{embedder.name!r}, {embedder.count_params():,} weights, all frozen. Set "
            "`trainable = True` on the layers to train and save the file again, or leave `layers` "
            "(--layers) out."
        )


@dataclasses.dataclass(frozen=True)
class LearnedLayers(Learned):
    """A trained network.

    Attributes:
        embedder: a copy of the embedder, trained.
        start, end: its weights before and after the training.
    """

    trained: ClassVar[Trained] = "layers"
    embedder: keras.Model
    start: list[_Rows]
    end: list[_Rows]

    def embedder_at(self, share: float) -> keras.Model:
        """The network with weights that went a share of the way; the same object each time."""
        self.embedder.set_weights(interpolate_weights(self.start, self.end, share))
        return self.embedder


def fit_layers(
    embedder: keras.Model,
    head: Any,
    prototypes: _Rows,
    judge: Judge,
    *,
    seed: int,
    progress: bool,
) -> LearnedLayers:
    """Trains a copy of the embedder, and the prototypes, with a head.

    In training mode batch normalisation would replace statistics of millions of faces by those of a
    few, and normalise a face by the others of its batch; so it keeps its statistics, its scale and
    its offset. Few images are learned by heart in a few passes, and every further step moves the
    embedder away from what it knows of other people; so few images get few steps at a low rate.

    Args:
        embedder: (B, H, W, 3) -> (B, D); it is not changed.
        head: a `MarginHead`.
        prototypes: (C, D) or (C, K, D), where they start.
        judge: its images of my people and of the others train.
        seed: seed of the order of the images and their augmentation.
        progress: whether to show progress on standard error.
    """
    keras.utils.set_random_seed(seed)
    network = keras.models.clone_model(embedder)
    network.set_weights(embedder.get_weights())
    if hasattr(embedder, "crop"):
        network.crop = embedder.crop
    start = network.get_weights()
    classifier = MarginClassifier(network, head)
    head.set_prototypes(prototypes)
    before = ops.convert_to_numpy(head.prototypes)[: head.num_classes]
    faces = _training_faces(judge)
    epochs, rate = choose_recipe(judge.sets["training"].labels, len(faces))
    steps = epochs * math.ceil(len(faces) / _BATCH)
    frozen = [
        layer
        for layer in network._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    for layer in frozen:
        layer.trainable = False
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    classifier.compile(DepthLamb(schedule, network, _LAYER_DECAY))
    with StepBar(steps, progress) as bar:
        history = classifier.fit(
            faces.py_dataset(_BATCH, training=True, seed=seed),
            epochs=epochs,
            verbose=0,
            callbacks=[bar],
        ).history
    for layer in frozen:
        layer.trainable = True
    after = ops.convert_to_numpy(head.prototypes)[: head.num_classes]
    return LearnedLayers(
        before=before,
        after=after,
        history=history,
        embedder=network,
        start=start,
        end=network.get_weights(),
    )


def choose_recipe(labels: npt.NDArray[Any], images: int) -> tuple[int, float]:
    """Epochs and the initial rate of the last layer.

    Args:
        labels: of the training images of my people.
        images: how many train, those of others too.
    """
    counts = np.bincount(labels)
    if np.median(counts[counts > 0]) > FEW:
        return _EPOCHS, _RATE
    return max(_EPOCHS, round(_FEW_STEPS / math.ceil(images / _BATCH))), _FEW_RATE


def _training_faces(judge: Judge) -> Any:
    """The images of my people and of the others as one set."""
    faces = copy.copy(judge.parts.training)
    classes = judge.classes()
    faces.paths = [path for name in classes for path in judge.sets[name].paths]
    faces.labels = np.concatenate(list(classes.values())).astype("int32")
    return faces
