"""Cosine scores of embeddings: one float64 number for each pair, whatever computes it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import embedding_rows, row_numbers

# Rows in float64 at a time: a protocol may have many times more pairs than embeddings.
ROWS_AT_ONCE = 1_024

# Pairs that are gathered and scored in float64 at a time: two arrays of 1 MB at 512 numbers.
PAIRS_AT_ONCE = 256


def cosine_scores(a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Cosine similarity of corresponding rows, in float64.

    Args:
        a, b: embeddings, ``(N, D)`` each, of any length but zero.

    Returns:
        float64 ``(N,)`` in [-1, 1].

    Raises:
        ValueError: if shapes differ, numbers are not real and signed, or a row is zero or not
            finite.

    Example:
        >>> cosine_scores([[2.0, 0.0], [0.0, 3.0]], [[5.0, 0.0], [1.0, 0.0]]).tolist()
        [1.0, 0.0]
    """
    a, b = embedding_rows(a, "a"), embedding_rows(b, "b")
    if a.shape != b.shape:
        raise ValueError(
            f"`a` and `b` must have one shape (N, D). Received: shapes {a.shape} and {b.shape}."
        )
    scores = np.empty(len(a))
    for start in range(0, len(a), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        # Not einsum, which adds in another order where it cuts long rows into buffers.
        products = unit_rows(a[rows], "a", start) * unit_rows(b[rows], "b", start)
        scores[rows] = products.sum(axis=1)
    return np.clip(scores, -1.0, 1.0)


def cosine_scores_of_pairs(
    a: npt.ArrayLike, b: npt.ArrayLike, *, first: npt.ArrayLike, second: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """`cosine_scores` of the rows `first` of `a` with the rows `second` of `b`, to the last bit.

    A protocol lists each template in many pairs. Each row is normalised once, and pairs are
    gathered a block at a time.

    Args:
        a, b: ``(N, D)`` and ``(M, D)`` embeddings, of any length but zero; they may be the same.
        first, second: ``(P,)`` integers each, rows of `a` and of `b`.

    Returns:
        float64 ``(P,)`` in [-1, 1].

    Raises:
        ValueError: if `a` and `b` differ in width, numbers are not real and signed, or a row that
            is needed is zero or not finite.
        IndexError: if a row does not exist.

    Example:
        >>> templates = [[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]]
        >>> cosine_scores_of_pairs(templates, templates, first=[0, 0], second=[1, 2]).tolist()
        [0.0, 1.0]
    """
    one_array = b is a
    a = embedding_rows(a, "a")
    b = a if one_array else embedding_rows(b, "b")
    require_one_width(a=a, b=b)
    first, second = row_numbers(first, "first", len(a)), row_numbers(second, "second", len(b))
    if len(first) != len(second):
        raise ValueError(
            "`first` and `second` must hold one row each per pair. "
            f"Received: {len(first):,} and {len(second):,}."
        )
    scores = np.empty(len(first))
    if len(first) < len(a) + len(b):
        for start in range(0, len(first), PAIRS_AT_ONCE):
            part = slice(start, start + PAIRS_AT_ONCE)
            scores[part] = cosine_scores(a[first[part]], b[second[part]])
        return scores
    if b is a:
        units = others = _float64_units(a, "a", first, second)
    else:
        units, others = _float64_units(a, "a", first), _float64_units(b, "b", second)
    for start in range(0, len(first), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        scores[part] = (units[first[part]] * others[second[part]]).sum(axis=1)
    return np.clip(scores, -1.0, 1.0, out=scores)


def require_one_width(**named: npt.NDArray[Any]) -> None:
    """Refuses embeddings of different widths; named: name -> ``(N, D)``."""
    widths = {rows.shape[1] for rows in named.values()}
    if len(widths) > 1:
        raise ValueError(
            f"{' and '.join(f'`{name}`' for name in named)} must come from one embedder. Received: "
            f"widths {' and '.join(str(rows.shape[1]) for rows in named.values())}."
        )


def _float64_units(
    embeddings: npt.NDArray[Any], name: str, *needed: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """`unit_rows` of the needed rows, without a temporary copy; other rows may be zero."""
    used = np.zeros(len(embeddings), bool)
    for rows in needed:
        used[rows] = True
    units = np.empty(embeddings.shape)
    for start in range(0, len(embeddings), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        block = np.where(used[part, None], embeddings[part], 1)
        units[part] = unit_rows(block, name, start)
    return units


def unit_rows(embeddings: npt.ArrayLike, name: str, offset: int = 0) -> npt.NDArray[np.float64]:
    """Rows in float64, each divided by its length; an error names row `offset` + its index."""
    # In C order the sum along a row has one order of additions wherever the row is in the array:
    # the score of a pair is the same number in every array.
    embeddings = np.asarray(embeddings, dtype=np.float64, order="C")
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(norms[:, 0]) | (norms[:, 0] == 0))
    if len(bad):
        raise ValueError(
            f"A cosine needs finite embeddings of non-zero length. Received: `{name}` with length "
            f"{norms[bad[0], 0]} in row {offset + bad[0]}."
        )
    units: npt.NDArray[np.float64] = embeddings / norms
    return units
