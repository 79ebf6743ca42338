"""What a training learned: an embedder and prototypes at any share of the way from the start."""

import abc
import dataclasses
from typing import Any, ClassVar, Literal

import keras
import numpy.typing as npt

from keras_facemargin.training.interpolation import interpolate_weights

Trained = Literal["embedding", "layers"]

_Rows = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Learned(abc.ABC):
    """What was learned, and where it started.

    Attributes:
        trained: what trained, as `FineTuned` names it.
        before, after: prototypes (C, D), or (C, K, D) with sub-centres.
        history: lists by epoch, "loss" and "accuracy".
    """

    trained: ClassVar[Trained]
    before: _Rows
    after: _Rows
    history: dict[str, list[float]]

    @abc.abstractmethod
    def embedder_at(self, share: float) -> keras.Model:
        """The embedder that went a share of the way, 0 to 1."""

    def prototypes_at(self, share: float) -> _Rows:
        """The prototypes that went the same share of their way."""
        return interpolate_weights([self.before], [self.after], share)[0]  # type: ignore[no-any-return]

    def carry(self, prototypes: _Rows, share: float) -> _Rows:
        """Prototypes of people without an image, beside the embedder of a share."""
        return prototypes
