"""The heads, and epochs and learning rates from the number of images."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_facemargin.heads import (
    AdaCos,
    AdaFace,
    ArcFace,
    CircleLoss,
    CombinedMargin,
    CosFace,
    CurricularFace,
    ElasticFace,
    L2Softmax,
    MVSoftmax,
    NormFace,
    SphereFace2,
    SubCenterArcFace,
    SVSoftmax,
    UniFace,
)

# Margins are the papers'; scales suit hundreds of people, not the papers' tens of thousands.
HEADS: dict[str, Callable[[int], Any]] = {
    "cosface": functools.partial(CosFace, margin=0.35, scale=30.0),
    "arcface": functools.partial(ArcFace, margin=0.5, scale=30.0),
    "normface": functools.partial(NormFace, scale=30.0),
    "l2softmax": L2Softmax,
    "svsoftmax": functools.partial(SVSoftmax, variant="am"),
    "mvsoftmax": MVSoftmax,
    "combined": functools.partial(CombinedMargin, scale=30.0),
    "adacos": AdaCos,
    "curricularface": functools.partial(CurricularFace, scale=30.0),
    "adaface": functools.partial(AdaFace, scale=30.0),
    "elasticface": functools.partial(ElasticFace, scale=30.0),
    "subcenter": functools.partial(SubCenterArcFace, scale=30.0),
    "sphereface2": SphereFace2,
    "circle": CircleLoss,
    "uniface": functools.partial(UniFace, scale=30.0),
}
FEW = 5  # images a person: so many and fewer are few
_FEW_STEPS, _FEW_RATE = 60, 1e-4
_EPOCHS, _RATE = 10, 3e-4
_LAYER_DECAY = 0.1


@dataclasses.dataclass(frozen=True)
class FineTuningRecipe:
    """How long and how fast to train.

    Attributes:
        images_each: median number of training images of a person.
        epochs: passes over the training images.
        learning_rate: initial rate of the last layer and of the prototypes.
        layer_decay: rate of the first layer divided by that of the last one.
    """

    images_each: int
    epochs: int
    learning_rate: float
    layer_decay: float

    @property
    def few(self) -> bool:
        """Whether a person has few images."""
        return self.images_each <= FEW

    def __str__(self) -> str:
        images = "1 training image" if self.images_each == 1 else f"{self.images_each} images"
        return (
            f"{images} a person, the {'few-shot' if self.few else 'usual'} recipe: "
            f"{self.epochs} epochs, learning rate {self.learning_rate:g} at the last layer and "
            f"{self.learning_rate * self.layer_decay:.2g} at the first, prototypes from mean "
            "embeddings, batch normalisation as it is."
        )


def choose_recipe(
    training: Any,
    batch_size: int,
    *,
    epochs: int | None = None,
    learning_rate: float | None = None,
    layer_decay: float | None = None,
) -> FineTuningRecipe:
    """The recipe for so many images.

    Few images are learned by heart in a few passes, and every further step moves the embedder away
    from what it knows of other people. So few images get few steps at a low rate.

    Args:
        training: `FaceFolder` or `FaceRecords` of the people to train on.
        batch_size: images per step.
        epochs, learning_rate, layer_decay: your own values; None chooses.

    Raises:
        ValueError: `layer_decay` is not in (0, 1].
    """
    counts = np.bincount(training.labels)
    each = int(np.median(counts[counts > 0]))
    few = each <= FEW
    steps = math.ceil(len(training) / batch_size)
    chosen = FineTuningRecipe(
        images_each=each,
        epochs=(max(_EPOCHS, round(_FEW_STEPS / steps)) if few else _EPOCHS)
        if epochs is None
        else epochs,
        learning_rate=(_FEW_RATE if few else _RATE) if learning_rate is None else learning_rate,
        layer_decay=_LAYER_DECAY if layer_decay is None else layer_decay,
    )
    if not 0 < chosen.layer_decay <= 1:
        raise ValueError(
            "`layer_decay` is the learning rate of the first layer divided by that of the last and "
            f"must be in (0, 1]. Received: layer_decay={layer_decay!r}"
        )
    return chosen


def head_of(head: str | Callable[[int], Any]) -> Callable[[int], Any]:
    """The function that makes a head, from a key of `HEADS` or as given.

    Raises:
        ValueError: an unknown key.
    """
    make = head if callable(head) else HEADS.get(head)
    if make is None:
        raise ValueError(
            f"`head` must be one of {', '.join(sorted(HEADS))} or a function of the number of "
            f"identities. Received: head={head!r}"
        )
    return make
