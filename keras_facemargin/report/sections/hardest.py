"""The pairs with the largest errors, as pictures or by name."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.at_scale import HardestPairs
from keras_facemargin.evaluate.plots import plot_hardest_pairs
from keras_facemargin.evaluate.verification import Pairs
from keras_facemargin.report.page import Report

# Pairs of each kind that are shown of a set.
HARDEST = 6

Shown = tuple[Pairs, npt.NDArray[np.float64]]


def hardest_shown(pairs: HardestPairs, images: Sequence[Any] | None) -> Shown:
    """The pairs to show of `HardestPairs`, as `Pairs` of images or names, and their scores."""
    ascending = np.argsort(pairs.scores, kind="stable")
    same = pairs.same[ascending]
    rows = np.concatenate([ascending[same][:HARDEST], ascending[~same][-HARDEST:][::-1]])
    first: Any
    second: Any
    first, second = (
        tuple(f"row {row}" if images is None else images[row] for row in side[rows].tolist())
        for side in (pairs.first, pairs.second)
    )
    return Pairs(first, second, pairs.same[rows]), pairs.scores[rows]


def add_hardest(page: Report, pairs: Pairs, scores: npt.NDArray[np.float64]) -> None:
    """Adds pictures of the hardest pairs, if there are images."""
    if pairs.first is None:
        return
    page.figure(
        plot_hardest_pairs(pairs, scores),
        "The pairs with the largest errors. Check the list first: a genuine pair that shows two "
        "people, or an impostor pair that shows one person, is an error of the list.",
    )


def add_hardest_names(page: Report, pairs: Pairs, scores: npt.NDArray[np.float64]) -> None:
    """Adds a table of the hardest pairs by name."""
    assert pairs.first is not None and pairs.second is not None
    rows = [
        ["genuine" if same else "impostor", f"{score:.4f}", str(first), str(second)]
        for first, second, same, score in zip(
            pairs.first, pairs.second, pairs.same, scores, strict=True
        )
    ]
    page.table(
        ("Pair", "Score", "First", "Second"),
        rows,
        "The pairs with the largest errors: the least similar genuine pairs and the most similar "
        "impostor pairs. They are listed by name because their images are not available.",
    )
