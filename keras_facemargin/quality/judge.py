"""Utility and sharpness of face crops."""

import dataclasses
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import embedding_rows
from keras_facemargin.quality.resolution import effective_resolution


@dataclasses.dataclass(frozen=True)
class Quality:
    """The quality of one face crop.

    Attributes:
        utility: predicts false rejects: the share of clean celebrity crops that this embedder
            handles worse, 0 to 1. None if the embedder's card has no scale for it.
        sharpness: predicts false accepts: the number of pixels between the eyes that hold the
            detail of the crop. A crop that was enlarged or blurred has fewer than its size
            suggests. A 112x112 crop of the ArcFace template has at most 35.
    """

    utility: float | None
    sharpness: float


class UtilityScale(Protocol):
    """The scale of utility of one embedder, as its card holds it."""

    def utilities(
        self, norms: npt.NDArray[np.float64], agreements: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Utility, 0 to 1, from norms of embeddings and their cosines to the mirror images'."""
        ...


class Limits(Protocol):
    """The lowest qualities at which an embedder's answer holds, as its card holds them."""

    @property
    def utility(self) -> float:
        """The lowest utility."""
        ...

    @property
    def sharpness(self) -> float:
        """The lowest sharpness of both crops of a pair."""
        ...

    @property
    def threshold_rise(self) -> float | None:
        """The rise of the threshold for each missing pixel; None leaves such pairs unanswered."""
        ...


def judge(
    crops: npt.NDArray[np.uint8],
    embeddings: npt.ArrayLike,
    mirrored: npt.ArrayLike | None = None,
    *,
    scale: UtilityScale | None = None,
) -> list[Quality]:
    """Judges face crops.

    Args:
        crops: uint8 (N, H, W, 3), RGB, aligned.
        embeddings: (N, D), of the crops, not normalised.
        mirrored: (N, D), of their mirror images. Without them `utility` is None.
        scale: of the embedder, from its card. Without it `utility` is None.

    Returns:
        A `Quality` for each crop.

    Raises:
        ValueError: the arrays have other shapes.

    Example:

    >>> crops = np.full((2, 112, 112, 3), 128, "uint8")
    >>> [each.sharpness for each in judge(crops, np.ones((2, 4)))]
    [0.0, 0.0]
    """
    rows = embedding_rows(embeddings)
    sharpness = effective_resolution(crops)
    if len(rows) != len(sharpness):
        raise ValueError(
            f"There must be one embedding for each crop. Received: {len(sharpness)} crops and "
            f"{len(rows)} embeddings."
        )
    utilities: list[Any] = [None] * len(rows)
    if scale is not None and mirrored is not None:
        norms, agreements = norm_and_agreement(rows, embedding_rows(mirrored, "mirrored"))
        utilities = scale.utilities(norms, agreements).tolist()
    return [Quality(*each) for each in zip(utilities, sharpness.tolist(), strict=True)]


def norm_and_agreement(
    embeddings: npt.NDArray[Any], mirrored: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Norms of the embeddings, and their cosines to those of the mirror images, (N,) each."""
    if embeddings.shape != mirrored.shape:
        raise ValueError(
            "`mirrored` must have the shape of `embeddings`. Received: shapes "
            f"{embeddings.shape} and {mirrored.shape}."
        )
    a, b = embeddings.astype("float64"), mirrored.astype("float64")
    norms, others = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    products = np.maximum(norms * others, np.finfo("float64").tiny)
    return norms, np.sum(a * b, axis=1) / products


# Deviation of the logarithms of norms below which embeddings count as normalised.
_NORMALISED = 1e-3


def norm_weight(norms: npt.NDArray[Any], agreements: npt.NDArray[Any]) -> float:
    """The weight of the norm's logarithm in raw utility, beside a weight of 1 of the agreement.

    Args:
        norms, agreements: (N,), of a set of crops.

    Returns:
        The weight that gives both one deviation; 0 for normalised embeddings.
    """
    spread = float(np.log(np.maximum(norms, 1e-12)).std())
    return 0.0 if spread < _NORMALISED else float(np.std(agreements)) / spread
