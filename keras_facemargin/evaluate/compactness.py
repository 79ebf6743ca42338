"""How compact people are in the space of embeddings."""

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import embedding_rows
from keras_facemargin.evaluate.cosine import unit_rows


def angular_fisher_score(embeddings: Any, labels: Any) -> float:
    r"""Spread within people over spread between them, in cosines: lower is better.

    With unit embeddings `x`, the mean direction `m_c` of person c with `n_c` images and the mean
    direction `m` of all,

    .. math::
        \mathrm{AFS} = \frac{\sum_c \sum_{x \in c} (1 - x \cdot m_c)}
        {\sum_c n_c (1 - m_c \cdot m)}

    (Liu et al., "SphereFace", CVPR 2017, arXiv:1704.08063, appendix E, equation 11). It is 0 where
    all images of each person have one direction.

    Args:
        embeddings: float `(N, D)`, of any norm except 0.
        labels: int `(N,)`.

    Returns:
        float, 0 or more; NaN if all people have one direction.

    Raises:
        ValueError: the embeddings are not finite numbers of shape `(N, D)`, one is 0, or there are
            not as many labels.

    Example:

    >>> angular_fisher_score([[2, 0], [1, 0], [0, 3]], [0, 0, 1])
    0.0
    """
    vectors = embedding_rows(embeddings)
    labels = np.asarray(labels)
    if labels.shape != (len(vectors),):
        raise ValueError(
            "`labels` must have one entry for each embedding. "
            f"Received: {labels.shape} labels, {vectors.shape} embeddings."
        )
    vectors = unit_rows(vectors, "embeddings")
    center = _direction(vectors.mean(axis=0))
    within = between = 0.0
    for label in np.unique(labels):
        members = vectors[labels == label]
        mean = _direction(members.mean(axis=0))
        within += float((1.0 - members @ mean).sum())
        between += len(members) * (1.0 - float(mean @ center))
    return within / between if between else float("nan")


def _direction(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    direction: npt.NDArray[np.float64] = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return direction
