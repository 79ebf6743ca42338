"""Weights between those of two states of one network."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def interpolate_weights(before: Sequence[Any], after: Sequence[Any], share: float) -> list[Any]:
    """Weights on the line from one state of a network to another.

        w = (1 - share) * before + share * after

    A network that was trained further from `before` often keeps most of what it gained on the line
    between the two states, and forgets less of what `before` knew (WiSE-FT: Wortsman et al.,
    "Robust fine-tuning of zero-shot models", CVPR 2022, arXiv:2109.01903, which evaluates shares 0,
    0.05 to 1).

    Args:
        before, after: `model.get_weights()` of the same model.
        share: of `after`, 0 to 1.

    Returns:
        Arrays for `model.set_weights`. Whole numbers, such as counters, are those of `after`,
        unless `share` is 0.

    Raises:
        ValueError: `share` is not in [0, 1], or the lists are not of one model.

    Example:

    >>> interpolate_weights([np.array([0.0, 4.0])], [np.array([8.0, 4.0])], 0.25)[0].tolist()
    [2.0, 4.0]
    """
    if not 0 <= share <= 1:
        raise ValueError(f"`share` must be in [0, 1]. Received: share={share!r}.")
    shapes = [[np.shape(one) for one in weights] for weights in (before, after)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "`before` and `after` must be weights of one model. Received: "
            f"{len(before)} and {len(after)} arrays"
            + (" of other shapes." if len(before) == len(after) else ".")
        )
    if share in (0, 1):
        return list(after if share else before)
    return [
        ((1 - share) * np.asarray(one) + share * np.asarray(two)).astype(np.asarray(two).dtype)
        if np.issubdtype(np.asarray(two).dtype, np.floating)
        else two
        for one, two in zip(before, after, strict=True)
    ]
