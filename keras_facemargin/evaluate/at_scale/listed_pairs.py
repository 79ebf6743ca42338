"""Exact rates of a long list of pairs: IJB has 15.7 million pairs of 23,124 templates.

A list has each template in hundreds of pairs, so gathering both sides of every pair moves far more
memory than the templates have. Here the pairs are sorted into tiles of rows and columns. A tile
with many pairs is one matrix product, from which the scores are picked. As in `all_pairs`, float32
selects pairs and float64 decides (see `refine`).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import embedding_rows, row_numbers
from keras_facemargin.evaluate.at_scale.histogram import WIDTH, Bins, ScoreHistogram, float32_units
from keras_facemargin.evaluate.at_scale.refine import (
    FARS,
    PairRates,
    exact_curve,
    merged,
    windows_of,
)
from keras_facemargin.evaluate.cosine import cosine_scores_of_pairs
from keras_facemargin.evaluate.uncertainty.resampling import Sides, identity_codes
from keras_facemargin.evaluate.verification.curve import (
    Roc,
    allowed_false_accepts,
    checked_pairs,
    checked_truth,
    require_both_kinds,
)
from keras_facemargin.progress import progress_bar

# Rows and columns of a tile: its scores (4 MB) stay near the processor.
TILE = 1_024

# Cells of a product that cost as much as one pair gathered from memory.
CELLS_PER_PAIR = 32

# Pairs gathered at a time: two arrays of 0.5 MB at 512 numbers.
PAIRS_AT_ONCE = 256


def verify_listed_pairs(
    embeddings: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    same: npt.ArrayLike,
    fars: Sequence[float] = FARS,
    progress: bool = True,
) -> PairRates:
    """EER and TAR at FAR over a long list of pairs of embeddings, exact and fast.

    The answer equals that of `verify` on the `cosine_scores_of_pairs` of the list, to the last bit:
    equal scores enter together, the rule is the conservative one, and a target below
    ``1 / impostors`` has no number. `PairRates.histogram` has the whole curve in bins.

    Memory beyond the arguments is a float32 copy of the embeddings and about 20 bytes per pair.

    Args:
        embeddings: ``(N, D)`` float, of any length but zero, of images or templates.
        first, second: ``(P,)`` integers, rows of `embeddings`.
        same: ``(P,)``, True for genuine pairs.
        fars: target false accept rates, each in (0, 1).
        progress: whether to draw a progress bar on standard error.

    Returns:
        A `PairRates`.

    Raises:
        ValueError: if shapes or types do not fit, a row is zero or not finite, a rate is not in
            (0, 1), or there are not both genuine and impostor pairs.
        IndexError: if a row does not exist.

    Example:
        >>> templates = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]
        >>> result = verify_listed_pairs(
        ...     templates,
        ...     [0, 0, 1],
        ...     [1, 2, 2],
        ...     same=[True, False, False],
        ...     fars=[0.5],
        ...     progress=False,
        ... )
        >>> result.eer, str(result.tar_at_far[0])
        (0.0, '100.00% (threshold 0.0000)')
    """
    embeddings, first, second, same = _checked(embeddings, first, second, same)
    genuines = int(np.count_nonzero(same))
    impostors = len(same) - genuines
    allowed = [allowed_false_accepts(far, impostors) for far in fars]
    ranks = sorted({count + 1 for count in allowed if count})
    bins = Bins(embeddings.shape[1])
    everyone, genuine = (np.zeros(bins.count, np.int64) for _ in range(2))
    order, cells, edges, tiles = _by_tile(first, second, len(embeddings))
    pair_bins = np.empty(len(same), np.int32)
    units, buffer = float32_units(embeddings), np.empty((TILE, TILE), np.float32)
    with progress_bar("pairs", progress) as bar:
        task = bar.add_task("Listed pairs", total=len(same))
        for start, stop, tile in zip(edges[:-1], edges[1:], tiles, strict=True):
            part = order[start:stop]
            sides = [units[number * TILE : (number + 1) * TILE] for number in tile]
            if (stop - start) * CELLS_PER_PAIR > len(sides[0]) * len(sides[1]):
                np.matmul(sides[0], sides[1].T, out=buffer[: len(sides[0]), : len(sides[1])])
                scores = buffer.ravel().take(cells[part])
            else:
                scores = _gathered(units, first[part], second[part])
            found = pair_bins[start:stop]
            np.copyto(found, scores + np.float32(bins.offset), casting="unsafe")
            everyone += np.bincount(found, minlength=bins.count)
            genuine += np.bincount(found[same[part]], minlength=bins.count)
            bar.advance(task, stop - start)
    impostor = everyone - genuine

    def score(
        chosen: npt.NDArray[np.intp],
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        rows = order[chosen]
        scores = cosine_scores_of_pairs(
            embeddings, embeddings, first=first[rows], second=second[rows]
        )
        return scores, same[rows]

    windows = merged(windows_of(bins, ranks, impostor, genuine), bins.count)
    curve = exact_curve(bins, windows, impostor, genuine, pair_bins, score)
    return PairRates(
        embeddings=len(embeddings),
        genuines=genuines,
        impostors=impostors,
        eer=curve.equal_error_rate(),
        tar_at_far=tuple(curve.tar_at_far(far) for far in fars),
        histogram=ScoreHistogram(genuine, impostor, -bins.offset * WIDTH),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class HardestListedPairs:
    """The pairs of a long list that decide its rates, with their counts in draws of people.

    Attributes:
        rows: int ``(H,)``, rows of the list: every genuine pair, and every impostor pair that
            scores at least as high as the last one wanted.
        scores: float64 ``(H,)``.
        same: bool ``(H,)``.
        sides: the people of the two sides of each pair, counted from 0, ``(H,)`` each.
        units: number of people on the list.
        between: all impostor pairs of the list: ``(first, second, number)`` for each two people.
    """

    rows: npt.NDArray[Any]
    scores: npt.NDArray[Any]
    same: npt.NDArray[Any]
    sides: tuple[npt.NDArray[Any], npt.NDArray[Any]]
    units: int
    between: tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]

    def impostors(self, counts: npt.NDArray[Any]) -> int:
        """Number of all impostor pairs of the list, if person p counts ``counts[p]`` times."""
        first, second, number = self.between
        return int((number * counts[first]) @ counts[second])

    def completed(self, curve: Roc, counts: npt.NDArray[Any]) -> tuple[Roc, int]:
        """As `HardestPairs.completed`, but known only down to the impostor pairs here."""
        return curve.with_all(self.impostors(counts)), curve.impostors


def hardest_listed_pairs(
    scores: npt.ArrayLike, same: npt.ArrayLike, people: Sides, *, impostors: int
) -> HardestListedPairs:
    """Every genuine pair of a list, and about `impostors` of its most similar impostor pairs.

    Args:
        scores: similarities, ``(P,)``.
        same: ``(P,)``, True for genuine pairs.
        people: the identities on the two sides, ``(P,)`` each: integers or strings.
        impostors: number of impostor pairs to keep, if there are so many, plus ties with the last.

    Returns:
        A `HardestListedPairs`, which `bootstrap_hardest` draws.

    Raises:
        ValueError: as `bootstrap`.

    Example:
        >>> people = [[0, 0, 1, 1], [0, 1, 2, 2]]
        >>> found = hardest_listed_pairs([0.9, 0.2, 0.4, 0.3], [1, 0, 0, 0], people, impostors=2)
        >>> found.rows.tolist(), found.impostors(np.array([1, 1, 2]))
        ([0, 2, 3], 5)
    """
    scores, same = checked_pairs(scores, same)
    first, second = identity_codes(same, people)
    units = int(max(first.max(), second.max())) + 1
    strangers = scores[~same]
    floor = -np.inf
    if impostors < len(strangers):
        floor = np.partition(strangers, len(strangers) - impostors)[len(strangers) - impostors]
    rows = np.flatnonzero(same | (scores >= floor))
    keys, number = np.unique(
        first[~same].astype(np.int64) * units + second[~same], return_counts=True
    )
    return HardestListedPairs(
        rows=rows,
        scores=scores[rows],
        same=same[rows],
        sides=(first[rows], second[rows]),
        units=units,
        between=(*np.divmod(keys, units), number),
    )


def _by_tile(
    first: npt.NDArray[Any], second: npt.NDArray[Any], count: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], list[tuple[int, int]]]:
    """The order of the pairs by tile, the cell of each pair, the starts of the tiles, the tiles.

    A pair and its reverse have one score, so the smaller row comes first: only half of the tiles.
    """
    side = -(-count // TILE)
    keys = np.empty(len(first), np.uint16 if side <= 256 else np.int64)
    cells = np.empty(len(first), np.int32)
    for start in range(0, len(first), TILE * TILE):  # a part at a time stays near the processor
        part = slice(start, start + TILE * TILE)
        low, high = np.minimum(first[part], second[part]), np.maximum(first[part], second[part])
        (row, low), (column, high) = np.divmod(low, TILE), np.divmod(high, TILE)
        keys[part] = row * side + column
        cells[part] = low * TILE + high
    order = np.argsort(keys, kind="stable")  # radix sort for short keys
    counts = np.bincount(keys)
    numbers = np.flatnonzero(counts)
    edges = np.concatenate([[0], np.cumsum(counts[numbers])])
    return order, cells, edges, [divmod(number, side) for number in numbers.tolist()]


def _gathered(
    units: npt.NDArray[np.float32], first: npt.NDArray[Any], second: npt.NDArray[Any]
) -> npt.NDArray[np.float32]:
    """float32 scores, in bins, of a few pairs, from gathered rows."""
    scores = np.empty(len(first), np.float32)
    for start in range(0, len(first), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        np.einsum("ij,ij->i", units[first[part]], units[second[part]], out=scores[part])
    return scores


def _checked(
    embeddings: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike, same: npt.ArrayLike
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.bool_]]:
    embeddings, same = embedding_rows(embeddings), checked_truth(same)
    first, second = (
        row_numbers(rows, name, len(embeddings))
        for name, rows in (("first", first), ("second", second))
    )
    if not first.shape == second.shape == same.shape:
        raise ValueError(
            "`embeddings` must be of shape (N, D), `first`, `second` and `same` of shape (P,). "
            f"Received: shapes {embeddings.shape}, {first.shape}, {second.shape}, {same.shape}."
        )
    require_both_kinds(same, "`same`")
    return embeddings, first, second, same
