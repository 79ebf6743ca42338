"""Exact search of probes in a gallery: float32 products select, float64 decides.

Scores are the float64 cosines of `cosine_scores`. Every comparison that a float32 product cannot
decide is made in float64, so neither ranks nor best scores depend on the BLAS. The gallery is not
copied: memory holds a block of it and the undecided pairs.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import embedding_rows, identifiers
from keras_facemargin.evaluate.cosine import (
    cosine_scores_of_pairs,
    require_one_width,
    unit_rows,
)
from keras_facemargin.progress import progress_bar

# Rows in a block of probes and in a block of the gallery.
BLOCK = 1_024

# Undecided pairs in memory.
PENDING = 500_000


def best_of_gallery(
    gallery: npt.ArrayLike, probes: npt.ArrayLike, count: int, *, progress: bool = True
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """The `count` best scores of each probe in the gallery, whatever the person.

    Args:
        gallery: ``(M, D)`` float templates, of any length but zero.
        probes: ``(P, D)`` float, likewise.
        count: at least 1.
        progress: whether to draw a progress bar on standard error.

    Returns:
        float64 ``(P, K)``, descending, where K is `count` or the size of the gallery if that is
        less; and int ``(P, K)``, the rows of the templates.

    Raises:
        ValueError: `count` is less than 1; else as `identify`.

    Example:
        >>> scores, rows = best_of_gallery(
        ...     [[1.0, 0.0], [0.0, 1.0]], [[0.8, 0.6]], 2, progress=False
        ... )
        >>> scores.round(2).tolist(), rows.tolist()
        ([[0.8, 0.6]], [[0, 1]])
    """
    if count < 1:
        raise ValueError(f"`count` must be at least 1. Received: count={count}.")
    gallery, probes = embedding_rows(gallery, "gallery"), embedding_rows(probes, "probes")
    gallery, none = checked_templates("gallery", gallery, np.full(len(gallery), -1))
    probes, labels = checked_templates("probes", probes, np.arange(len(probes)))
    count = min(count, len(gallery))
    search = Search(gallery, none, probes, labels)
    margin = 2 * search.error + 1e-6
    level = np.full(len(probes), -np.inf, np.float32)
    kept: list[Scored] = []
    waiting = 0
    for rows, columns, scores in search.blocks(progress):
        near = np.flatnonzero(scores >= (level[rows] - np.float32(margin))[:, None])
        row, column = np.divmod(near, scores.shape[1])
        kept.append((row + rows.start, column + columns.start, scores.ravel()[near]))
        waiting += len(near)
        if waiting > PENDING:
            kept = [_near_the_best(kept, count, margin, level)]
            waiting = 0
    row, column, _ = _near_the_best(kept, count, margin, level)
    score = search.exact(row, column)
    order = np.lexsort((-score, row))
    starts = np.searchsorted(row[order], np.arange(len(probes)))
    chosen = order[starts[:, None] + np.arange(count)]
    return score[chosen], column[chosen]


def largest_scores_of_others(
    gallery: npt.ArrayLike,
    probes: npt.ArrayLike,
    *,
    gallery_labels: npt.ArrayLike,
    probe_labels: npt.ArrayLike,
    count: int,
    progress: bool = True,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """The `count` largest scores of probes with templates of other people, in bounded memory.

    Args:
        gallery, probes, gallery_labels, probe_labels, progress: as `identify`.
        count: at least 1.

    Returns:
        float64 ``(count,)``, descending, or fewer if there are not so many; and int ``(count,)``,
        the probe of each.

    Raises:
        ValueError: `count` is less than 1; else as `identify`.

    Example:
        >>> gallery, probes = [[1.0, 0.0], [0.0, 1.0]], [[0.9, 0.2], [0.1, 0.9]]
        >>> labels = ["ann", "bob"]
        >>> scores, rows = largest_scores_of_others(
        ...     gallery, probes, gallery_labels=labels, probe_labels=labels, count=1, progress=False
        ... )
        >>> scores.round(2).tolist(), rows.tolist()
        ([0.22], [0])
    """
    if count < 1:
        raise ValueError(f"`count` must be at least 1. Received: count={count}.")
    gallery, gallery_labels = checked_templates("gallery", gallery, gallery_labels)
    probes, probe_labels = checked_templates("probes", probes, probe_labels)
    search = Search(gallery, gallery_labels, probes, probe_labels)
    scores, rows = largest_of_others(search, count, progress)
    order = np.argsort(scores)[::-1][:count]
    return scores[order], rows[order]


# Rows, columns and float32 scores of pairs.
Scored = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]


class Search:
    """All probes against all templates, a block of each at a time."""

    def __init__(
        self,
        gallery: npt.NDArray[Any],
        gallery_labels: npt.NDArray[Any],
        probes: npt.NDArray[Any],
        probe_labels: npt.NDArray[Any],
    ) -> None:
        require_one_width(gallery=gallery, probes=probes)
        self.gallery, self.probes = gallery, probes
        labels = identifiers(gallery_labels=gallery_labels, probe_labels=probe_labels)
        names, numbers = np.unique(np.concatenate(labels), return_inverse=True)
        self.gallery_labels, self.probe_labels = np.split(numbers, [len(gallery)])
        in_gallery = np.bincount(self.gallery_labels, minlength=len(names))
        self.mated = in_gallery[self.probe_labels] > 0
        self.units = np.empty(probes.shape, np.float32)
        for start in range(0, len(probes), BLOCK):
            rows = slice(start, start + BLOCK)
            self.units[rows] = unit_rows(probes[rows], "probes", start)
        # The largest difference of a float32 score from the float64 one, see `all_pairs`.
        self.error = (probes.shape[1] + 8) * 1.01 * 2.0**-24
        self.mate_scores = np.full(len(probes), -np.inf)
        self.best_scores = np.full(len(probes), -np.inf)
        self.ranks = np.ones(len(probes), np.int64)
        self.columns = np.full(len(probes), -1)  # the template of the score
        self.pending: list[Scored] = []
        self.waiting = 0
        self._score_mates(in_gallery)
        # The best float32 score so far of a non-mated probe, the mate's score of a mated one.
        self.level = np.where(self.mated, self.mate_scores, -np.inf)

    def _score_mates(self, in_gallery: npt.NDArray[np.intp]) -> None:
        order = np.argsort(self.gallery_labels, kind="stable")
        first = np.cumsum(in_gallery) - in_gallery
        counts = in_gallery[self.probe_labels]
        for start in range(0, len(self.probes), BLOCK):
            rows = np.arange(start, min(start + BLOCK, len(self.probes)))
            row = np.repeat(rows, counts[rows])
            step = np.arange(len(row)) - np.repeat(
                np.cumsum(counts[rows]) - counts[rows], counts[rows]
            )
            column = order[first[self.probe_labels[row]] + step]
            self._raise(self.mate_scores, row, column, self.exact(row, column))

    def exact(
        self, row: npt.NDArray[np.intp], column: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float64]:
        """Float64 scores of pairs."""
        return cosine_scores_of_pairs(self.probes, self.gallery, first=row, second=column)

    def blocks(self, progress: bool) -> Iterator[tuple[slice, slice, npt.NDArray[np.float32]]]:
        """(rows of the probes, columns of the gallery, their float32 scores)."""
        buffer = np.empty(BLOCK * BLOCK, np.float32)
        with progress_bar("scores", progress) as bar:
            task = bar.add_task("Searching", total=len(self.gallery) * len(self.probes))
            for start in range(0, len(self.gallery), BLOCK):
                columns = slice(start, min(start + BLOCK, len(self.gallery)))
                units = unit_rows(self.gallery[columns], "gallery", start).astype(np.float32)
                for row in range(0, len(self.probes), BLOCK):
                    rows = slice(row, min(row + BLOCK, len(self.probes)))
                    shape = rows.stop - rows.start, len(units)
                    scores = buffer[: shape[0] * shape[1]].reshape(shape)
                    np.matmul(self.units[rows], units.T, out=scores)
                    yield rows, columns, scores
                    bar.advance(task, scores.size)

    def run(self, progress: bool) -> None:
        """Computes ranks and best scores."""
        for rows, columns, scores in self.blocks(progress):
            level, mated = self.level[rows], self.mated[rows]
            if not mated.all():
                np.maximum(level, scores.max(axis=1), out=level, where=~mated)
            # Those that could rank before a mate, or be the best of a non-mated probe.
            lowest = (level - 2 * self.error - 1e-6).astype(np.float32)
            near = np.flatnonzero(scores >= lowest[:, None])
            row, column = np.divmod(near, scores.shape[1])
            value, is_mated = scores.ravel()[near], mated[row]
            other = self.probe_labels[rows][row] != self.gallery_labels[columns][column]
            sure = is_mated & (value > level[row] + 2 * self.error + 1e-6)
            self.ranks[rows] += np.bincount(row[sure & other], minlength=len(level))
            open_ = other & ~sure
            self.pending.append(
                (row[open_] + rows.start, column[open_] + columns.start, value[open_])
            )
            self.waiting += int(np.count_nonzero(open_))
            if self.waiting > PENDING:
                self._settle()
        self._settle()

    def _settle(self) -> None:
        """Decides the undecided pairs in float64."""
        if not self.pending:
            return
        row, column, value = map(np.concatenate, zip(*self.pending, strict=True))
        self.pending, self.waiting = [], 0
        # A later block may have raised a non-mated probe's best score.
        keep = self.mated[row] | (value >= self.level[row] - 2 * self.error - 1e-6)
        row, column = row[keep], column[keep]
        score = self.exact(row, column)
        mated = self.mated[row]
        before = mated & (score >= self.mate_scores[row])
        self.ranks += np.bincount(row[before], minlength=len(self.probes))
        self._raise(self.best_scores, row[~mated], column[~mated], score[~mated])

    def _raise(
        self,
        best: npt.NDArray[np.float64],
        row: npt.NDArray[np.intp],
        column: npt.NDArray[np.intp],
        score: npt.NDArray[np.float64],
    ) -> None:
        """Keeps each probe's best score and its template."""
        before = best[row]
        np.maximum.at(best, row, score)
        first = (score == best[row]) & (score > before)
        self.columns[row[first]] = column[first]


def largest_of_others(
    search: Search, wanted: int, progress: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """The `wanted` largest float64 scores of probes with templates of others, and some more.

    Returns:
        The scores, and the probe of each.
    """
    kept: list[Scored] = []
    count, cut = 0, -np.inf
    for rows, columns, scores in search.blocks(progress):
        near = np.flatnonzero(scores >= np.float32(cut - 2 * search.error - 1e-6))
        row, column = np.divmod(near, scores.shape[1])
        row, column, value = row + rows.start, column + columns.start, scores.ravel()[near]
        other = search.probe_labels[row] != search.gallery_labels[column]
        kept.append((row[other], column[other], value[other]))
        count += int(np.count_nonzero(other))
        if count > 2 * wanted + PENDING:
            row, column, value = map(np.concatenate, zip(*kept, strict=True))
            cut = np.partition(value, len(value) - wanted)[len(value) - wanted]
            keep = value >= cut - 2 * search.error - 1e-6
            kept, count = [(row[keep], column[keep], value[keep])], int(np.count_nonzero(keep))
    row, column, value = map(np.concatenate, zip(*kept, strict=True))
    if len(value) > wanted:
        cut = np.partition(value, len(value) - wanted)[len(value) - wanted]
        keep = value >= cut - 2 * search.error - 1e-6
        row, column = row[keep], column[keep]
    return search.exact(row, column), row


def _near_the_best(
    parts: list[Scored], count: int, margin: float, level: npt.NDArray[np.float32]
) -> Scored:
    """The pairs within `margin` of the `count`-th best score of their row, which is its level."""
    row, column, value = map(np.concatenate, zip(*parts, strict=True))
    order = np.lexsort((-value, row))
    row, column, value = row[order], column[order], value[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    last = place == count - 1
    level[row[last]] = value[last]
    keep = value >= level[row] - margin
    return row[keep], column[keep], value[keep]


def checked_templates(
    name: str, templates: npt.ArrayLike, labels: npt.ArrayLike
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Embeddings and labels as arrays of one length."""
    templates, (labels,) = (
        embedding_rows(templates, name),
        identifiers(**{f"labels of {name}": labels}),
    )
    if labels.shape != templates.shape[:1] or not len(labels):
        raise ValueError(
            f"`{name}` must be of shape (N, D), N > 0, with N labels. "
            f"Received: shapes {templates.shape} and {labels.shape}."
        )
    return templates, labels
