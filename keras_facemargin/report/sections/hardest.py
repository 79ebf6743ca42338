"""The pairs on which an embedder errs most, as pictures or by name."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.at_scale import HardestPairs
from keras_facemargin.evaluate.plots import plot_hardest_pairs
from keras_facemargin.evaluate.verification import Pairs
from keras_facemargin.report.page import Report

# Of each kind, that are shown of a set.
HARDEST = 6

Shown = tuple[Pairs, npt.NDArray[np.float64]]


def hardest_shown(pairs: HardestPairs, images: Sequence[Any] | None) -> Shown:
    """The few of `HardestPairs` that are shown, as `Pairs` of images or names, and their scores."""
    ascending = np.argsort(pairs.scores, kind="stable")
    same = pairs.same[ascending]
    rows = np.concatenate([ascending[same][:HARDEST], ascending[~same][-HARDEST:][::-1]])
    first, second = (
        tuple(f"row {row}" if images is None else images[row] for row in side[rows].tolist())
        for side in (pairs.first, pairs.second)
    )
    return Pairs(first, second, pairs.same[rows]), pairs.scores[rows]


def add_hardest(page: Report, pairs: Pairs, scores: npt.NDArray[np.float64]) -> None:
    """Pictures of the hardest pairs, where the images are at hand."""
    if pairs.first is None:
        return
    page.figure(
        plot_hardest_pairs(pairs, scores),
        "Where the embedder errs most. A genuine pair of two different people, or an impostor pair "
        "of one, is an error of the list: look before you blame.",
    )


def add_hardest_names(page: Report, pairs: Pairs, scores: npt.NDArray[np.float64]) -> None:
    """The hardest pairs, few and in order, as a table of names."""
    rows = [
        ["genuine" if same else "impostor", f"{score:.4f}", str(first), str(second)]
        for first, second, same, score in zip(
            pairs.first, pairs.second, pairs.same, scores, strict=True
        )
    ]
    page.table(
        ("Pair", "Score", "First", "Second"),
        rows,
        "Where the embedder errs most: the genuine pairs least alike and the impostor pairs most "
        "alike, by name, because their images are not at hand.",
    )
