"""One-to-many identification: who of a gallery is it, and is it anybody of it at all?

A *gallery* holds templates of known people; a *probe* is searched in it. A probe is *mated* if its
person is in the gallery. Scores are the float64 cosines of `cosine_scores`; the search runs through
float32 products of blocks, and every comparison that float32 leaves open is decided in float64, so
that ranks do not depend on the BLAS. Of a person with several templates the best one counts.

Ties stand against the system: an impostor that scores as high as the mate ranks before it, and a
score equal to the threshold reaches it.

Grother, Ngan, "Face Recognition Vendor Test", NIST IR 8009, and Maze et al., "IARPA Janus Benchmark
C", 2018, define the measures.
"""

import dataclasses
import math

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from keras_facemargin.evaluate.cosine import cosine_scores_of_pairs, unit_rows
from keras_facemargin.evaluate.measures import Measures
from keras_facemargin.evaluate.roc import Roc, allowed_false_accepts, count_descending

FPIRS = (1e-1, 1e-2, 1e-3)
RANKS = (1, 5, 10)
RULES = ("nist", "ijb_evals")

# Ranks that a CMC is drawn to.
LAST_RANK = 50

# Rows of a block of probes and of a block of the gallery.
BLOCK = 1_024

# Pairs waiting to be scored in float64.
PENDING = 500_000


@dataclasses.dataclass(frozen=True)
class TpirAtFpir:
    """The true positive identification rate at a false positive one, or that there is none.

    Attributes:
        target: the false positive identification rate asked for, in (0, 1).
        rank: the mate must be among so many best.
        non_mated: number of probes without a mate; they resolve rates down to ``1 / non_mated``.
        tpir: share of mated probes found; ``None`` if `target` is out of reach.
        fpir: share of non-mated probes that really raised an alarm; ``None`` likewise.
        threshold: of the score; ``None`` likewise.
    """

    target: float
    rank: int
    non_mated: int
    tpir: float | None = None
    fpir: float | None = None
    threshold: float | None = None

    @property
    def supported(self) -> bool:
        """Whether there are enough non-mated probes to say anything at this target."""
        return self.tpir is not None

    def __str__(self):
        if not self.supported:
            return f"not supported by {self.non_mated:,} non-mated probes"
        return f"{self.tpir:.2%} (threshold {self.threshold:.4f})"


@dataclasses.dataclass(frozen=True, eq=False)
class Identification(Measures):
    """What a search of all probes in one gallery found.

    Attributes:
        ranks: int64 ``(mated,)``, rank of the mate of each mated probe, from 1: one more than the
            number of gallery templates of other people that score at least as high.
        mate_scores: float64 ``(mated,)``, cosine with the best template of the mate.
        best_scores: float64 ``(non_mated,)``, of each non-mated probe the best cosine in the
            gallery.
        gallery: number of templates in the gallery.
        mated, non_mated: int ``(mated,)`` and ``(non_mated,)``, which probe each of them is.
        mates: int ``(mated,)``, which template of the gallery `mate_scores` are of; -1 for none.
        nearest: int ``(non_mated,)``, which template `best_scores` are of; -1 for none.
    """

    ranks: np.ndarray
    mate_scores: np.ndarray
    best_scores: np.ndarray
    gallery: int
    mated: np.ndarray
    non_mated: np.ndarray
    mates: np.ndarray
    nearest: np.ndarray

    def rank_rate(self, rank: int) -> float:
        """Share of mated probes whose mate is among the `rank` best: closed-set rank-k accuracy.

        Raises:
            ValueError: `rank` is less than 1, or no probe is mated.
        """
        self._check_rank(rank)
        return float(np.mean(self.ranks <= rank))

    def cmc(self, last: int) -> np.ndarray:
        """The cumulative match characteristic: `rank_rate` of 1, 2, ..., `last`, ``(last,)``.

        Raises:
            ValueError: as `rank_rate`.
        """
        self._check_rank(last)
        return np.bincount(np.minimum(self.ranks, last + 1), minlength=last + 2)[
            1 : last + 1
        ].cumsum() / len(self.ranks)

    def scored(self, rank=1) -> tuple[np.ndarray, np.ndarray]:
        """Scores and truths whose `Roc` is TPIR over FPIR: a mate beyond `rank` scores -inf."""
        mates = np.where(self.ranks <= rank, self.mate_scores, -np.inf)
        same = np.arange(len(mates) + len(self.best_scores)) < len(mates)
        return np.append(mates, self.best_scores), same

    def open_set(self, rank=1) -> Roc:
        """TPIR (`Roc.tar`) over FPIR (`Roc.far`) at every threshold.

        Raises:
            ValueError: as `tpir_at_fpir`.
        """
        self._check_rank(rank)
        self._check_strangers()
        scores, same = self.scored(rank)
        order = np.argsort(scores)[::-1]
        return count_descending(scores[order], same[order])

    def tpir_at_fpir(self, fpir: float, rank: int = 1, rule: str = "nist") -> TpirAtFpir:
        """Open set: the share of mated probes found when at most a share `fpir` raise an alarm.

            FPIR(t) = share of non-mated probes whose best score in the gallery is >= t
            TPIR(t) = share of mated probes whose mate is at rank <= N and scores >= t

        - `"nist"` (default): the largest TPIR whose FPIR does not exceed the target; the threshold
          is the smallest float64 that keeps to it. Below ``1 / non_mated`` there is no number.
        - `"ijb_evals"`: InsightFace's ijb_evals.py: t is the k-th largest best score of non-mated
          probes, k = max(int(fpir * non_mated), 1), and a mate must score *more* than t. At least
          as strict as the target, except that below ``1 / non_mated`` it takes k = 1.

        A third in use has neither FPIR nor ranks: `closed_gallery_rate`.

        Args:
            fpir: target, in (0, 1).
            rank: N, 1 in most papers.
            rule: one of the names above.

        Raises:
            ValueError: `fpir` is not in (0, 1), `rank` is less than 1, `rule` is none of the names,
                or there are not both mated and non-mated probes.
        """
        self._check_rank(rank)
        if rule not in RULES:
            raise ValueError(f"`rule` must be one of {RULES}. Received: rule={rule!r}")
        self._check_strangers()
        count = len(self.best_scores)
        allowed = allowed_false_accepts(fpir, count)
        descending = np.sort(self.best_scores)[::-1]
        if rule == "ijb_evals":
            limit = descending[max(int(fpir * count) - 1, 0)]
        elif allowed == 0:
            return TpirAtFpir(fpir, rank, count)
        else:
            limit = descending[allowed]
        # `> limit` is `>= threshold` for the next float64.
        return TpirAtFpir(
            fpir,
            rank,
            count,
            tpir=float(np.mean((self.ranks <= rank) & (self.mate_scores > limit))),
            fpir=float(np.mean(self.best_scores > limit)),
            threshold=float(np.nextafter(limit, np.inf)),
        )

    def to_dict(self) -> dict:
        """Plain numbers for a card or a JSON file; rates out of reach are ``None``."""
        return {
            "gallery_templates": self.gallery,
            "mated_probes": len(self.ranks),
            "non_mated_probes": len(self.best_scores),
            "rank_rates": {str(rank): self.rank_rate(rank) for rank in RANKS},
            "tpir_at_fpir": [dataclasses.asdict(entry) for entry in self._open_set()],
        }

    def rows(self) -> list[tuple[str, str]]:
        """(measure, value) as text, for a table."""
        rows = [(f"Rank-{rank}", f"{self.rank_rate(rank):.2%}") for rank in RANKS]
        rows += [(f"TPIR @ FPIR {entry.target:.3g}", str(entry)) for entry in self._open_set()]
        probes = f"{len(self.ranks):,} mated, {len(self.best_scores):,} non-mated"
        return [*rows, (f"Probes, in a gallery of {self.gallery:,}", probes)]

    def _open_set(self):
        return [self.tpir_at_fpir(fpir) for fpir in FPIRS] if len(self.best_scores) else []

    def _check_strangers(self):
        if not len(self.best_scores):
            raise ValueError(
                "A false positive identification rate needs probes of people who are not in the "
                "gallery. Received: mated probes only. `rank_rate` needs no others."
            )

    def _check_rank(self, rank):
        if rank != int(rank) or rank < 1:
            raise ValueError(f"`rank` must be an integer of at least 1. Received: {rank}.")
        if not len(self.ranks):
            raise ValueError(
                "Identification needs probes of people in the gallery. "
                "Received: non-mated probes only."
            )


def identify(gallery, gallery_labels, probes, probe_labels, progress=True) -> Identification:
    """Searches every probe in a gallery.

    Memory beyond the arguments is a float32 copy of the probes and some 30 MB; the gallery is not
    copied. Time is that of the float32 product of all with all.

    Args:
        gallery: ``(M, D)`` float templates, of any length but zero.
        gallery_labels: ``(M,)`` integers or strings, whose they are; several of a person may be.
        probes: ``(P, D)`` float; none of them in the gallery.
        probe_labels: ``(P,)``, of the same kind; of people in the gallery or not.
        progress: whether to draw a progress bar on standard error.

    Returns:
        An `Identification`; its arrays follow the order of the mated and the non-mated probes.

    Raises:
        ValueError: shapes do not fit, there is no template or probe, or a row is zero or not
            finite.

    Example:
        >>> gallery, probes = [[1.0, 0.0], [0.0, 1.0]], [[0.9, 0.1], [0.4, 0.6], [0.7, 0.7]]
        >>> found = identify(gallery, ["ann", "bob"], probes, ["ann", "ann", "eve"], progress=False)
        >>> found.ranks.tolist(), found.rank_rate(1)
        ([1, 2], 0.5)
        >>> print(found.tpir_at_fpir(0.01))
        not supported by 1 non-mated probes
    """
    gallery, gallery_labels = _checked("gallery", gallery, gallery_labels)
    probes, probe_labels = _checked("probes", probes, probe_labels)
    if gallery.shape[1] != probes.shape[1]:
        raise ValueError(
            "`gallery` and `probes` must be of one embedder. "
            f"Received: lengths {gallery.shape[1]} and {probes.shape[1]}."
        )
    search = _Search(gallery, gallery_labels, probes, probe_labels)
    search.run(progress)
    return Identification(
        ranks=search.ranks[search.mated],
        mate_scores=search.mate_scores[search.mated],
        best_scores=search.best_scores[~search.mated],
        gallery=len(gallery),
        mated=np.flatnonzero(search.mated),
        non_mated=np.flatnonzero(~search.mated),
        mates=search.columns[search.mated],
        nearest=search.columns[~search.mated],
    )


def mean_over_galleries(identifications, fpir=None, rank=1, rule="nist") -> float:
    """The mean over galleries, as IJB-B and IJB-C report it for their two, G1 and G2.

    Each person of IJB is in one of the two galleries, so that the probes of either are the
    non-mated ones of the other: `identify` all probes in each. Implementations differ: InsightFace
    pools the mated probes of both for rank-k, which weighs a gallery by its probes.

    Args:
        identifications: one `Identification` for each gallery.
        fpir: for the open set, the target in (0, 1); ``None`` for the closed one, `rank_rate`.
        rank, rule: as `Identification.tpir_at_fpir`.

    Returns:
        The mean rate, each gallery at its own threshold.

    Raises:
        ValueError: there is no gallery, or one of them does not support `fpir`; else as
            `Identification.rank_rate` and `Identification.tpir_at_fpir`.

    Example:
        >>> gallery, probes = [[1.0, 0.0], [0.0, 1.0]], [[0.9, 0.1], [0.1, 0.9]]
        >>> galleries = [
        ...     identify(gallery[:1], ["ann"], probes, ["ann", "bob"], progress=False),
        ...     identify(gallery[1:], ["bob"], probes, ["ann", "bob"], progress=False),
        ... ]
        >>> mean_over_galleries(galleries)
        1.0
    """
    if not identifications:
        raise ValueError("`identifications` must hold at least one gallery's. Received: none.")
    if fpir is None:
        return float(np.mean([found.rank_rate(rank) for found in identifications]))
    rates = [found.tpir_at_fpir(fpir, rank, rule) for found in identifications]
    for number, rate in enumerate(rates):
        if not rate.supported:
            raise ValueError(
                "A mean needs a rate from every gallery. "
                f"Received: fpir={fpir:g}, {rate} of gallery {number}. Ask for a larger rate."
            )
    return float(np.mean([rate.tpir for rate in rates]))


def closed_gallery_rate(
    gallery, gallery_labels, probes, probe_labels, rate, progress=True
) -> float:
    """What InsightFace's ijb_1n.py and opensphere print as "TPIR@FPIR"; it is not NIST's measure.

    All probes are searched in the one gallery that holds them all (G1 and G2 together):

        t = the ceil(rate * P)-th largest score of all P probes with all templates of others
        result = share of the probes whose mate scores more than t

    There are no non-mated probes, and the mate's rank is not asked. Published numbers of this kind
    compare with nothing but themselves.

    Args:
        gallery, gallery_labels, probes, probe_labels, progress: as `identify`; each probe's person
            must be in the gallery.
        rate: in (0, 1), called FPIR there.

    Raises:
        ValueError: `rate` is not in (0, 1), a probe has no mate, or there are not so many scores of
            others; else as `identify`.

    Example:
        >>> gallery, probes = [[1.0, 0.0], [0.0, 1.0]], [[0.9, 0.1], [0.1, 0.9]]
        >>> labels = ["ann", "bob"]
        >>> closed_gallery_rate(gallery, labels, probes, labels, rate=0.5, progress=False)
        1.0
    """
    gallery, gallery_labels = _checked("gallery", gallery, gallery_labels)
    probes, probe_labels = _checked("probes", probes, probe_labels)
    if not 0 < rate < 1:
        raise ValueError(f"`rate` must be in (0, 1). Received: rate={rate}.")
    search = _Search(gallery, gallery_labels, probes, probe_labels)
    if not search.mated.all():
        raise ValueError(
            "In a closed gallery every probe has a mate. Received: "
            f"{np.count_nonzero(~search.mated):,} of {len(probes):,} without. `identify` is for "
            "the open set."
        )
    wanted = math.ceil(rate * len(probes))
    others, _ = _largest_of_others(search, wanted, progress)
    if len(others) < wanted:
        raise ValueError(
            f"`rate` asks for the {wanted:,}-th largest score of others. "
            f"Received: {len(others):,} such scores."
        )
    limit = np.sort(others)[-wanted]
    return float(np.mean(search.mate_scores > limit))


def largest_scores_of_others(
    gallery, gallery_labels, probes, probe_labels, count, progress=True
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
        ...     gallery, labels, probes, labels, 1, progress=False
        ... )
        >>> scores.round(2).tolist(), rows.tolist()
        ([0.22], [0])
    """
    if count < 1:
        raise ValueError(f"`count` must be at least 1. Received: count={count}.")
    gallery, gallery_labels = _checked("gallery", gallery, gallery_labels)
    probes, probe_labels = _checked("probes", probes, probe_labels)
    search = _Search(gallery, gallery_labels, probes, probe_labels)
    scores, rows = _largest_of_others(search, count, progress)
    order = np.argsort(scores)[::-1][:count]
    return scores[order], rows[order]


def best_of_gallery(gallery, probes, count, progress=True) -> tuple[np.ndarray, np.ndarray]:
    """The `count` best scores of each probe in the gallery, whoever they are of.

    Args:
        gallery, probes, progress: as `identify`.
        count: at least 1.

    Returns:
        float64 ``(P, K)``, descending, K being `count` or the size of the gallery if that is less;
        and int ``(P, K)``, which templates they are of.

    Raises:
        ValueError: `count` is less than 1; else as `identify`.

    Example:
        >>> scores, rows = best_of_gallery([[1.0, 0.0], [0.0, 1.0]], [[0.8, 0.6]], 2, False)
        >>> scores.round(2).tolist(), rows.tolist()
        ([[0.8, 0.6]], [[0, 1]])
    """
    if count < 1:
        raise ValueError(f"`count` must be at least 1. Received: count={count}.")
    gallery, nobody = _checked("gallery", gallery, np.full(len(gallery), -1))
    probes, labels = _checked("probes", probes, np.arange(len(probes)))
    count = min(count, len(gallery))
    search = _Search(gallery, nobody, probes, labels)
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
    score = search._exact(row, column)
    order = np.lexsort((-score, row))
    starts = np.searchsorted(row[order], np.arange(len(probes)))
    chosen = order[starts[:, None] + np.arange(count)]
    return score[chosen], column[chosen]


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


class _Search:
    """All probes against all templates, a block of each at a time."""

    def __init__(self, gallery, gallery_labels, probes, probe_labels):
        self.gallery, self.probes = gallery, probes
        names, numbers = np.unique(
            np.concatenate([gallery_labels, probe_labels]), return_inverse=True
        )
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
            self._raise(self.mate_scores, row, column, self._exact(row, column))

    def _exact(self, row, column):
        return cosine_scores_of_pairs(self.probes, row, self.gallery, column)

    def blocks(self, progress):
        """(rows of the probes, columns of the gallery, their float32 scores)."""
        buffer = np.empty(BLOCK * BLOCK, np.float32)
        with _bar(progress) as bar:
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
        score = self._exact(row, column)
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


def _largest_of_others(search, wanted, progress):
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
    return search._exact(row, column), row


def _checked(name, templates, labels):
    templates, labels = np.asarray(templates), np.asarray(labels)
    if templates.ndim != 2 or labels.shape != templates.shape[:1] or not len(labels):
        raise ValueError(
            f"`{name}` must be of shape (N, D), N > 0, with N labels. "
            f"Received: shapes {templates.shape} and {labels.shape}."
        )
    return templates, labels


def _bar(progress):
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} scores"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not progress,
    )
