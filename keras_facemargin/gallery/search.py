"""Exact search of probes among unit vectors, in float32, a block at a time.

A block of unit vectors stays in the processor's cache. The smallest of the largest products so far
decides which products of a block are candidates; they are few, so that sorting costs little beside
the products. The scores of what was found are computed again in float64: the score of a pair does
not depend on the block that it was in.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]

# Probes at a time, products of a block (4 MB), and numbers of its unit vectors (8 MB).
_PROBES = 1_024
_PRODUCTS = 1_048_576
_NUMBERS = 2_097_152
# Rows of the first block. The next ones grow, because the first levels are low.
_FIRST = 64
_GROWTH = 8
# Fewer probes take dot products, which read memory at its full speed; OpenBLAS' product of a matrix
# and a vector does not.
_MATRIX = 4


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
    best = np.full((len(probes), count), -np.inf, np.float32)
    rows = np.zeros((len(probes), count), np.intp)
    largest = max(min(_PRODUCTS // len(probes), _NUMBERS // units.shape[1], len(units)), 1)
    products = np.empty((largest, len(probes)), np.float32)
    is_better = np.empty(products.shape, bool)
    start, size = 0, min(_FIRST, largest)
    while start < len(units):
        block = units[start : start + size]
        _multiply(block, probes, products[: len(block)])
        np.greater(products[: len(block)], best.min(axis=1), out=is_better[: len(block)])
        found = np.flatnonzero(is_better[: len(block)])  # of two dimensions `nonzero` is slow
        if len(found):
            row, probe = np.divmod(found, len(probes))
            better, place = np.unique(probe, return_inverse=True)
            best[better], rows[better] = _merged(
                best[better], rows[better], (place, products[row, probe], row + start)
            )
        start, size = start + size, min(_GROWTH * size, largest)
    return rows


def _multiply(block: Floats, probes: Floats, out: Floats) -> None:
    """Products of each row of the block with each probe, to `out`, ``(rows, probes)``."""
    if len(probes) >= _MATRIX:
        np.matmul(block, probes.T, out=out)
        return
    for number, probe in enumerate(probes):
        np.vecdot(block, probe, out=out[:, number])


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
