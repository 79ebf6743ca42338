"""Exact search of probes among unit vectors, in float32, a block at a time.

A block of products stays in the processor's cache. The largest product of each row decides whether
the block has a candidate at all; few blocks have one, so that sorting costs little beside the
products. The scores of what was found are computed again in float64: the score of a pair does not
depend on the block that it was in.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]

# Probes at a time, and products of a block: 4 MB.
_PROBES = 1_024
_PRODUCTS = 1_048_576
# Rows of a block; more do not make the products faster.
_LARGEST_BLOCK = 65_536
# Rows before the first block.
_FIRST = 64


def nearest(units: Floats, probes: Floats, count: int) -> tuple[npt.NDArray[np.float64], Rows]:
    """The `count` largest cosines of each probe.

    Args:
        units: float32 ``(N, D)``, rows of unit length.
        probes: float32 ``(P, D)``, likewise.
        count: at least 1.

    Returns:
        float64 ``(P, K)``, descending, where K is `count` or N if that is less; and ``(P, K)``, the
        rows of `units`.

    Example:

    >>> scores, rows = nearest(np.eye(2, dtype="float32"), np.float32([[0.6, 0.8]]), 1)
    >>> scores.round(2).tolist(), rows.tolist()
    ([[0.8]], [[1]])
    """
    count = min(count, len(units))
    if not count:
        return np.empty((len(probes), 0)), np.empty((len(probes), 0), np.intp)
    scores, rows = np.empty((len(probes), count)), np.empty((len(probes), count), np.intp)
    for start in range(0, len(probes), _PROBES):
        part = slice(start, start + _PROBES)
        found = _rows_of_largest(units, probes[part], count)
        value = _in_float64(units, probes[part].astype(np.float64)[:, None], found)
        order = np.lexsort((found, -value))
        scores[part] = np.take_along_axis(value, order, axis=1).clip(-1.0, 1.0)
        rows[part] = np.take_along_axis(found, order, axis=1)
    return scores, rows


def _in_float64(
    units: Floats, probes: npt.NDArray[np.float64], rows: Rows
) -> npt.NDArray[np.float64]:
    scores = np.empty(rows.shape)
    for start in range(0, rows.shape[1], 64):
        part = slice(start, start + 64)
        scores[:, part] = (units[rows[:, part]] * probes).sum(axis=2)
    return scores


def _rows_of_largest(units: Floats, probes: Floats, count: int) -> Rows:
    """Rows of the `count` largest float32 products of each probe, in any order."""
    # A few rows give each probe a level, so that no whole block is sorted.
    first = max(4 * count, _FIRST)
    products = probes @ units[:first].T
    rows = np.argpartition(products, -count, axis=1)[:, -count:]
    best = np.take_along_axis(products, rows, axis=1)
    size = max(min(_PRODUCTS // len(probes), _LARGEST_BLOCK, len(units)), 1)
    buffer = np.empty((len(probes), size), np.float32)
    for start in range(first, len(units), size):
        block = units[start : start + size]
        products = buffer[:, : len(block)]
        np.matmul(probes, block.T, out=products)
        level = best.min(axis=1)
        better = np.flatnonzero(products.max(axis=1) > level)
        if len(better):
            near = products[better]
            probe, column = np.nonzero(near > level[better, None])
            best[better], rows[better] = _merged(
                best[better], rows[better], (probe, near[probe, column], column + start)
            )
    return rows


def _merged(best: Floats, rows: Rows, found: tuple[Rows, Floats, Rows]) -> tuple[Floats, Rows]:
    """The largest of each probe's best and of what was found: its probe, value and row."""
    count = best.shape[1]
    probe = np.concatenate([np.repeat(np.arange(len(best)), count), found[0]])
    value = np.concatenate([best.ravel(), found[1]])
    place = np.concatenate([rows.ravel(), found[2]])
    order = np.lexsort((-value, probe))
    starts = np.searchsorted(probe[order], np.arange(len(best)))
    kept = order[starts[:, None] + np.arange(count)]
    return value[kept], place[kept]
