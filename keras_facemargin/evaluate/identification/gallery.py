"""Probes searched in a gallery, exactly: float32 products of blocks sort out, float64 decides.

Scores are the float64 cosines of `cosine_scores`. Every comparison that a float32 product leaves
open is decided in float64, so that neither ranks nor best scores depend on the BLAS. The gallery is
not copied: memory is that of a block of it and of what is still open.
"""

import numpy as np

from keras_facemargin.arrays import embedding_rows, identifiers
from keras_facemargin.evaluate.cosine import (
    cosine_scores_of_pairs,
    require_one_width,
    unit_rows,
)
from keras_facemargin.progress import progress_bar

# Rows of a block of probes and of a block of the gallery.
BLOCK = 1_024

# Pairs waiting to be scored in float64.
PENDING = 500_000


def best_of_gallery(gallery, probes, count, *, progress=True) -> tuple[np.ndarray, np.ndarray]:
    """The `count` best scores of each probe in the gallery, whoever they are of.

    Args:
        gallery: ``(M, D)`` float templates, of any length but zero.
        probes: ``(P, D)`` float, likewise.
        progress: whether to draw a progress bar on standard error.
        count: at least 1.

    Returns:
        float64 ``(P, K)``, descending, K being `count` or the size of the gallery if that is less;
        and int ``(P, K)``, which templates they are of.

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
    gallery, nobody = checked_templates("gallery", gallery, np.full(len(gallery), -1))
    probes, labels = checked_templates("probes", probes, np.arange(len(probes)))
    count = min(count, len(gallery))
    search = Search(gallery, nobody, probes, labels)
    margin = 2 * search.error + 1e-6
    level = np.full(len(probes), -np.inf, np.float32)
    kept, waiting = [], 0
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
    gallery, probes, *, gallery_labels, probe_labels, count, progress=True
) -> tuple[np.ndarray, np.ndarray]:
    """The `count` largest scores of probes with templates of other people, in bounded memory.

    Args:
        gallery, gallery_labels, probes, probe_labels, progress: as `identify`.
        count: at least 1.

    Returns:
        float64 ``(count,)``, descending, fewer if there are not so many; and of which probe each
        is, int ``(count,)``.

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


class Search:
    """All probes against all templates, a block of each at a time."""

    def __init__(self, gallery, gallery_labels, probes, probe_labels):
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
        # How far a float32 score may lie from the float64 one, see `all_pairs`.
        self.error = (probes.shape[1] + 8) * 1.01 * 2.0**-24
        self.mate_scores = np.full(len(probes), -np.inf)
        self.best_scores = np.full(len(probes), -np.inf)
        self.ranks = np.ones(len(probes), np.int64)
        self.columns = np.full(len(probes), -1)  # of the template that the score is of
        self.pending, self.waiting = [], 0
        self._score_mates(in_gallery)
        # Of a non-mated probe, the best float32 score so far; of a mated one the mate's.
        self.level = np.where(self.mated, self.mate_scores, -np.inf)

    def _score_mates(self, in_gallery):
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

    def exact(self, row, column):
        return cosine_scores_of_pairs(self.probes, self.gallery, first=row, second=column)

    def blocks(self, progress):
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

    def run(self, progress):
        for rows, columns, scores in self.blocks(progress):
            level, mated = self.level[rows], self.mated[rows]
            if not mated.all():
                np.maximum(level, scores.max(axis=1), out=level, where=~mated)
            # At most as many as could rank before a mate, or be the best of a non-mated probe.
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
            self.waiting += np.count_nonzero(open_)
            if self.waiting > PENDING:
                self._settle()
        self._settle()

    def _settle(self):
        """Decides what float32 left open."""
        if not self.pending:
            return
        row, column, value = map(np.concatenate, zip(*self.pending, strict=True))
        self.pending, self.waiting = [], 0
        # A non-mated probe's best may have been overtaken since.
        keep = self.mated[row] | (value >= self.level[row] - 2 * self.error - 1e-6)
        row, column = row[keep], column[keep]
        score = self.exact(row, column)
        mated = self.mated[row]
        before = mated & (score >= self.mate_scores[row])
        self.ranks += np.bincount(row[before], minlength=len(self.probes))
        self._raise(self.best_scores, row[~mated], column[~mated], score[~mated])

    def _raise(self, best, row, column, score):
        """Keeps each probe's best score, and the template that it is of."""
        before = best[row]
        np.maximum.at(best, row, score)
        first = (score == best[row]) & (score > before)
        self.columns[row[first]] = column[first]


def largest_of_others(search, wanted, progress):
    """The `wanted` largest float64 scores of probes with templates of others and some more; and
    the probes."""
    kept, count, cut = [], 0, -np.inf
    for rows, columns, scores in search.blocks(progress):
        near = np.flatnonzero(scores >= np.float32(cut - 2 * search.error - 1e-6))
        row, column = np.divmod(near, scores.shape[1])
        row, column, value = row + rows.start, column + columns.start, scores.ravel()[near]
        other = search.probe_labels[row] != search.gallery_labels[column]
        kept.append((row[other], column[other], value[other]))
        count += np.count_nonzero(other)
        if count > 2 * wanted + PENDING:
            row, column, value = map(np.concatenate, zip(*kept, strict=True))
            cut = np.partition(value, len(value) - wanted)[len(value) - wanted]
            keep = value >= cut - 2 * search.error - 1e-6
            kept, count = [(row[keep], column[keep], value[keep])], np.count_nonzero(keep)
    row, column, value = map(np.concatenate, zip(*kept, strict=True))
    if len(value) > wanted:
        cut = np.partition(value, len(value) - wanted)[len(value) - wanted]
        keep = value >= cut - 2 * search.error - 1e-6
        row, column = row[keep], column[keep]
    return search.exact(row, column), row


def _near_the_best(parts, count, margin, level):
    """Of (rows, columns, scores) those within `margin` of the `count`-th best of their row, which
    becomes its level."""
    row, column, value = map(np.concatenate, zip(*parts, strict=True))
    order = np.lexsort((-value, row))
    row, column, value = row[order], column[order], value[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    last = place == count - 1
    level[row[last]] = value[last]
    keep = value >= level[row] - margin
    return row[keep], column[keep], value[keep]


def checked_templates(name, templates, labels):
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
