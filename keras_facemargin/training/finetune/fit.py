"""The training itself: rates by depth, frozen batch normalisation, a cosine to zero."""

import math
from typing import Any

import keras

from keras_facemargin.callbacks import StepBar
from keras_facemargin.classifier import MarginClassifier
from keras_facemargin.training.finetune.recipe import FineTuningRecipe


class DepthAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """Adam whose learning rate falls from the last layer to the first.

    With n layers that have weights, layer i = 1..n of an embedder learns at

        rate_i = rate * layer_decay ** ((n - i) / (n - 1))

    and all else, the prototypes, at `rate`. The first layers see edges and skin, which are the same
    for all people; the last ones decide whose they are (discriminative fine-tuning: Howard, Ruder,
    "Universal Language Model Fine-tuning", ACL 2018, with a factor from layer to layer).

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


def fit(
    classifier: MarginClassifier,
    training: Any,
    validation: Any,
    *,
    recipe: FineTuningRecipe,
    batch_size: int,
    seed: int,
    progress: bool,
) -> dict[str, list[float]]:
    """Trains with frozen batch normalisation.

    In training mode batch normalisation would replace statistics of millions of faces by those of a
    few, and normalise a face by the others of its batch; so it keeps its statistics, its scale and
    its offset.

    Args:
        classifier: embedder and head; trained in place, and compiled.
        training, validation: images of the same people, as `FaceFolder` or `FaceRecords`.
        recipe: epochs and rates.
        batch_size, seed, progress: as `finetune`.

    Returns:
        The history: lists by epoch.

    Raises:
        ValueError: nothing but batch normalisation can be trained.
    """
    embedder = classifier.embedder
    frozen = [
        layer
        for layer in embedder._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    for layer in frozen:
        layer.trainable = False
    try:
        require_trainable(embedder)
        steps = recipe.epochs * math.ceil(len(training) / batch_size)
        schedule = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps)
        classifier.compile(DepthAdam(schedule, embedder, recipe.layer_decay))
        with StepBar(steps, progress) as bar:
            history: dict[str, list[float]] = classifier.fit(
                training.dataset(batch_size, training=True, seed=seed),
                validation_data=validation.dataset(batch_size),
                epochs=recipe.epochs,
                shuffle=False,
                verbose=0,
                callbacks=[bar],
            ).history
            return history
    finally:
        for layer in frozen:
            layer.trainable = True


def require_trainable(embedder: keras.Model) -> None:
    """Refuses an embedder without weights to train.

    Raises:
        ValueError: every layer is frozen or has no weights.
    """
    if not embedder.trainable_variables:
        raise ValueError(
            "Fine-tuning needs an embedder with weights to train. Received: "
            f"{embedder.name!r}, {embedder.count_params():,} weights, all frozen. Set "
            "`trainable = True` on the layers to train, and save the file again."
        )
