"""Every pair of a set of embeddings: in memory where it is small, streamed exactly where it is not.

N embeddings hold N (N - 1) / 2 pairs, and a false accept rate of 1e-8 needs a hundred million
impostor pairs before it means anything. `verify_all_pairs` counts them without keeping them, and
its answer is not an approximation: it is the one that `verification` gives on the full list of
`cosine_scores`.

How: float32 products sort out and float64 decides, see `refine`.

The windows are guessed from a sample of the rows before the first sweep over the blocks, so that
the pairs inside them can be collected on the way. If a guess turns out wrong, a second sweep uses
the windows that the full histogram names. Guesses cost time, never exactness.
"""

import dataclasses
import functools
import hashlib
import itertools
import math
import time
import zipfile
from pathlib import Path

import numpy as np

from keras_facemargin.data.whole import whole_file
from keras_facemargin.evaluate.cosine import cosine_scores_of_pairs, unit_rows
from keras_facemargin.evaluate.refine import (
    BINS_PER_UNIT,
    FARS,
    Bins,
    PairRates,
    crossing,
    exact_curve,
    float32_units,
    merged,
    pairs_bar,
    windows_of,
)
from keras_facemargin.evaluate.roc import allowed_false_accepts

# All pairs of 5,000 embeddings are 12.5 million scores and about 400 MB while they are formed.
ALL_PAIRS_LIMIT = 5_000

# Rows of a block: its scores (4 MB) and their bins (8 MB) stay near the processor.
BLOCK = 1_024

# Pairs that the windows may hold at a time, 12 bytes each until they are scored.
CANDIDATES = 8_000_000

# Rows of the sample that the windows are guessed from, at most.
SAMPLE = 16_384

# Impostor pairs that `hardest_pairs` holds, 40 bytes each.
TAIL = 1_000_000

# Between two savings of the state.
SAVE_SECONDS = 10.0


def all_pairs(embeddings, labels) -> tuple[np.ndarray, np.ndarray]:
    """Cosine scores of every pair of different embeddings, for sets that fit in memory.

    Args:
        embeddings: ``(N, D)``, N at most `ALL_PAIRS_LIMIT`.
        labels: ``(N,)``, whose face each row is.

    Returns:
        ``scores`` float64 and ``same`` bool, ``(N * (N - 1) / 2,)`` each, in the order (0, 1),
        (0, 2), ..., (1, 2), ...

    Raises:
        ValueError: if there are more rows than the limit or fewer than two, lengths differ, or a
            row is zero or not finite.

    Example:
        >>> scores, same = all_pairs([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]], labels=[7, 7, 8])
        >>> scores.tolist(), same.tolist()
        ([1.0, 0.0, 0.0], [True, False, False])
    """
    embeddings, labels = _checked(embeddings, labels)
    if not 2 <= len(embeddings) <= ALL_PAIRS_LIMIT:
        raise ValueError(
            f"`all_pairs` holds every pair in memory and takes 2 to {ALL_PAIRS_LIMIT:,} "
            f"embeddings. Received: {len(embeddings):,}. `verify_all_pairs` takes any number."
        )
    units = unit_rows(embeddings, "embeddings")
    upper = np.triu(np.ones((len(units), len(units)), dtype=bool), k=1)
    scores = np.clip((units @ units.T)[upper], -1.0, 1.0)
    return scores, (labels[:, None] == labels)[upper]


def verify_all_pairs(embeddings, labels, fars=FARS, state=None, progress=True) -> PairRates:
    """EER and TAR at FAR over every pair of different embeddings, exact, in bounded memory.

    The score of a pair is the float64 cosine that `cosine_scores` gives for it, so the result
    equals `tar_at_far` and `equal_error_rate` on the list of all pairs, to the last bit, whatever
    BLAS, threads or blocks were used; equal scores enter together. The rule is the conservative one
    (the largest TAR whose FAR does not exceed the target), and a target below ``1 / impostors`` has
    no number.

    Time is that of the float32 product of all pairs, about half as much again for counting. Memory
    beyond the embeddings is a float32 copy of them, 20 MB for a block, and 12 bytes for every pair
    near a threshold (at most 96 MB), which are scored again in float64.

    Args:
        embeddings: ``(N, D)`` float, of any length but zero. They are not changed.
        labels: ``(N,)`` integers or strings, whose face each row is.
        fars: target false accept rates, each in (0, 1).
        state: a file to save the state of the work in, about every ten seconds, or ``None``. If it
            is there already the work goes on from it; when the work is done it is removed.
        progress: whether to draw a progress bar on standard error.

    Returns:
        A `PairRates`.

    Raises:
        ValueError: if shapes are not those, a row is zero or not finite, a rate is not in (0, 1),
            there are not both genuine and impostor pairs, `state` is of other data or no state at
            all, or so many pairs lie near a threshold that they cannot be held (at FAR 1e-1, from
            some 250,000 embeddings on).
        OSError: if `state` cannot be read or written.

    Example:
        >>> embeddings = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]
        >>> result = verify_all_pairs(embeddings, ["a", "a", "b", "b"], [0.3], progress=False)
        >>> result.eer, str(result.tar_at_far[0])
        (0.0, '100.00% (threshold 0.1104)')
    """
    embeddings, labels = _checked(embeddings, labels)
    _, labels, people = np.unique(labels, return_inverse=True, return_counts=True)
    genuines = sum(n * (n - 1) // 2 for n in people.tolist())
    impostors = len(labels) * (len(labels) - 1) // 2 - genuines
    if not genuines or not impostors:
        raise ValueError(
            "Verification needs genuine and impostor pairs. "
            f"Received: {len(labels):,} embeddings of {len(people):,} people, which have "
            f"{genuines:,} genuine and {impostors:,} impostor pairs."
        )
    allowed = [allowed_false_accepts(far, impostors) for far in fars]
    # Sorted by person, genuine pairs lie near the diagonal and most blocks hold none.
    order = np.argsort(labels, kind="stable")
    work = _Work(
        embeddings=embeddings,
        order=order,
        units=float32_units(embeddings, order),
        labels=labels[order],
        ranks=sorted({count + 1 for count in allowed if count}),
        impostors=impostors,
    )
    digest = None if state is None else _digest(embeddings, labels, work.ranks)
    curve = _curve_near_thresholds(work, _State(state, digest), progress)
    return PairRates(
        embeddings=len(labels),
        genuines=genuines,
        impostors=impostors,
        eer=curve.equal_error_rate(),
        tar_at_far=tuple(curve.tar_at_far(far) for far in fars),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class HardestPairs:
    """The pairs of a set that decide its rates, and how often they count in draws of people.

    Attributes:
        first, second: rows of the embeddings, ``(P,)`` each: every genuine pair, and every impostor
            pair that scores at least `floor`.
        scores: float64 ``(P,)``, as `cosine_scores`.
        same: bool ``(P,)``.
        people: ``(N,)``, whose face each row is, counted from 0.
        floor: below it no impostor pair is held; -inf if all are.
    """

    first: np.ndarray
    second: np.ndarray
    scores: np.ndarray
    same: np.ndarray
    people: np.ndarray
    floor: float

    @property
    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """Whose the two faces of each pair are, counted from 0, ``(P,)`` each."""
        return self.people[self.first], self.people[self.second]

    @property
    def units(self) -> int:
        """Number of people."""
        return int(self.people.max()) + 1

    def impostors(self, counts) -> int:
        """Number of all impostor pairs of the set, if person p counts ``counts[p]`` times."""
        weights = counts * np.bincount(self.people)
        return (int(weights.sum()) ** 2 - int(weights @ weights)) // 2


def hardest_pairs(embeddings, labels, impostors=TAIL, progress=True) -> HardestPairs:
    """Every genuine pair of a set, and about so many of its impostor pairs, the most alike.

    Args:
        embeddings, labels, progress: as `verify_all_pairs`.
        impostors: how many impostor pairs to hold at least, if there are so many.

    Returns:
        A `HardestPairs`, of which none is left out by rounding.

    Raises:
        ValueError: as `verify_all_pairs`.

    Example:
        >>> embeddings = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]
        >>> found = hardest_pairs(embeddings, ["a", "a", "b", "b"], 1, progress=False)
        >>> found.first[~found.same].tolist(), found.second[~found.same].tolist()
        ([1], [3])
    """
    embeddings, labels = _checked(embeddings, labels)
    _, people = np.unique(labels, return_inverse=True)
    order = np.argsort(people, kind="stable")
    work = _Work(embeddings, order, float32_units(embeddings, order), people[order], [], 0)
    sweep = _Sweep(work, [])
    sweep.run(_State(None, None), progress)
    accepted = np.cumsum((sweep.everyone - sweep.genuine)[::-1])[::-1]
    wanted = np.flatnonzero(accepted >= min(impostors, accepted[0]))[-1]
    lowest = max(int(wanted) - 2 * work.bins.margin, 0)
    sweep = _Sweep(work, [(lowest, work.bins.count - 1)], number=2)
    sweep.run(_State(None, None), progress)
    row, column = np.divmod(sweep.candidates()[0], len(order))
    two = work.labels[row] != work.labels[column]
    mates = [
        order[start + np.stack(np.triu_indices(stop - start, k=1))]
        for start, stop in itertools.pairwise(_edges(work.labels))
    ]
    first, second = np.concatenate([np.stack([order[row[two]], order[column[two]]]), *mates], 1)
    scores = cosine_scores_of_pairs(embeddings, first, embeddings, second)
    # What float32 put below the lowest bin is certainly below the one a margin above it.
    floor = (lowest + work.bins.margin - work.bins.offset) / BINS_PER_UNIT if lowest else -np.inf
    same = np.arange(len(first)) >= np.count_nonzero(two)
    kept = same | (scores >= floor)
    return HardestPairs(first[kept], second[kept], scores[kept], same[kept], people, floor)


@dataclasses.dataclass(frozen=True, eq=False)
class _Work:
    """The rows sorted by person, and what is sought among their pairs."""

    embeddings: np.ndarray
    order: np.ndarray
    units: np.ndarray  # float32, length sqrt(BINS_PER_UNIT): a product is a score in bins
    labels: np.ndarray
    ranks: list[int]  # of the impostor scores that must not be accepted, from the top
    impostors: int

    @property
    def bins(self):
        return Bins(self.units.shape[1])


class _State:
    """How far the sweeps have come, in memory and, if there is a file, in it."""

    def __init__(self, file, digest):
        self.file, self.digest = None if file is None else Path(file), digest
        self.found = None
        if self.file is not None and self.file.exists():
            self.found = self._read()

    def _read(self):
        try:
            with self.file.open("rb") as file:
                found = dict(np.load(file, allow_pickle=False))
            digest = str(found.pop("digest"))
        except (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise ValueError(
                "`state` must be a file that `verify_all_pairs` wrote, or not exist. "
                f"Received: {self.file}, which is none ({error}). Name another."
            ) from error
        if digest != self.digest:
            raise ValueError(
                "`state` must be of the same embeddings, labels and rates. "
                f"Received: {self.file}, which is of others. Name another file or remove it."
            )
        return found

    def save(self, **arrays):
        with whole_file(self.file, "wb") as file:
            np.savez(file, digest=self.digest, **arrays)

    def remove(self):
        if self.file is not None:
            self.file.unlink(missing_ok=True)


class _Sweep:
    """One pass over all blocks: histograms of both kinds, and the pairs inside the windows."""

    def __init__(self, work, windows, number=1):
        self.work, self.number = work, number
        self.windows = windows
        self.done = 0  # blocks
        self.everyone = np.zeros(work.bins.count, np.int64)
        self.genuine = np.zeros(work.bins.count, np.int64)
        self.inside = np.zeros(work.bins.count, bool)
        for low, high in windows:
            self.inside[low : high + 1] = True
        self.pairs, self.pair_bins, self.held = [], [], 0

    def arrays(self):
        pairs, bins = self.candidates()
        return {
            "number": self.number,
            "windows": np.array(self.windows, np.int64).reshape(-1, 2),
            "done": self.done,
            "everyone": self.everyone,
            "genuine": self.genuine,
            "pairs": pairs,
            "pair_bins": bins,
        }

    @classmethod
    def restored(cls, work, found):
        windows = [tuple(window) for window in found["windows"].tolist()]
        sweep = cls(work, windows, int(found["number"]))
        sweep.done = int(found["done"])
        sweep.everyone, sweep.genuine = found["everyone"], found["genuine"]
        sweep.pairs, sweep.pair_bins = [found["pairs"]], [found["pair_bins"]]
        sweep.held = len(found["pairs"])
        return sweep

    def candidates(self):
        """Pairs inside the windows, as row * N + column, and their bins."""
        self.pairs = [np.concatenate([np.empty(0, np.int64), *self.pairs])]
        self.pair_bins = [np.concatenate([np.empty(0, np.int32), *self.pair_bins])]
        return self.pairs[0], self.pair_bins[0]

    def run(self, state, progress):
        blocks = list(_blocks(len(self.work.units)))
        scores = np.empty((BLOCK, BLOCK), np.float32)
        bins = np.empty(BLOCK * BLOCK, np.intp)
        total = sum(_pairs_of(block) for block in blocks)
        saved = time.monotonic()
        with pairs_bar(progress) as bar:
            title = "All pairs" if self.number == 1 else "All pairs, once more"
            task = bar.add_task(title, total=total)
            bar.advance(task, sum(_pairs_of(block) for block in blocks[: self.done]))
            for block in blocks[self.done :]:
                self.count(block, scores, bins)
                self.done += 1
                bar.advance(task, _pairs_of(block))
                if state.file is not None and time.monotonic() - saved >= SAVE_SECONDS:
                    state.save(**self.arrays())
                    saved = time.monotonic()
        if state.file is not None:
            state.save(**self.arrays())

    def count(self, block, scores, bins):
        rows, columns, diagonal = block
        work = self.work
        shape = rows.stop - rows.start, columns.stop - columns.start
        scores = scores.ravel()[: shape[0] * shape[1]].reshape(shape)
        np.matmul(work.units[rows], work.units[columns].T, out=scores)
        np.add(scores, np.float32(work.bins.offset), out=scores)
        bins = bins[: scores.size]
        np.copyto(bins.reshape(shape), scores, casting="unsafe")
        if diagonal:  # its upper triangle; the pairs below are the same ones
            upper = np.flatnonzero(_above_diagonal(shape[0]))
            bins = bins[upper]
        self.everyone += np.bincount(bins, minlength=work.bins.count)
        if work.labels[rows.stop - 1] >= work.labels[columns.start]:
            same = (work.labels[rows, None] == work.labels[columns]).ravel()
            same = same[upper] if diagonal else same
            self.genuine += np.bincount(bins[same], minlength=work.bins.count)
        if self.windows:
            chosen = np.flatnonzero(self.inside.take(bins))
            self.pair_bins.append(bins[chosen].astype(np.int32))
            cells = upper[chosen] if diagonal else chosen
            row, column = np.divmod(cells, shape[1])
            self.pairs.append((row + rows.start) * len(work.units) + (column + columns.start))
            self.held += len(chosen)
            if self.held > CANDIDATES:
                self._drop()

    def _drop(self):
        """Windows guessed too wide are given up; those that are needed cannot be."""
        if self.number > 1:
            raise ValueError(
                f"At most {CANDIDATES:,} pairs may lie so near a threshold that float32 cannot "
                f"tell their side. Received: more, among {len(self.work.units):,} embeddings. "
                "Remove duplicates, or ask for lower `fars` or on a sample of the rows."
            )
        self.windows, self.pairs, self.pair_bins, self.held = [], [], [], 0


def _curve_near_thresholds(work, state, progress):
    """The exact `Roc`, whole near every threshold that is sought and lumped elsewhere."""
    if state.found is None:
        sweep = _Sweep(work, _guessed_windows(work))
        if state.file is not None:
            state.save(**sweep.arrays())  # now, not after minutes, if it cannot be written
    else:
        sweep = _Sweep.restored(work, state.found)
    while True:
        sweep.run(state, progress)
        impostor = sweep.everyone - sweep.genuine
        windows = windows_of(work.bins, work.ranks, impostor, sweep.genuine)
        if all(any(a <= low and high <= b for a, b in sweep.windows) for low, high in windows):
            break
        # Wider by another margin: float32 scores may fall out a little otherwise next time.
        wider = [(low - work.bins.margin, high + work.bins.margin) for low, high in windows]
        sweep = _Sweep(work, merged(wider, work.bins.count), sweep.number + 1)
    pairs, pair_bins = sweep.candidates()

    def score(chosen):
        row, column = np.divmod(pairs[chosen], len(work.units))
        scores = cosine_scores_of_pairs(
            work.embeddings, work.order[row], work.embeddings, work.order[column]
        )
        return scores, work.labels[row] == work.labels[column]

    windows = merged(windows, work.bins.count)
    curve = exact_curve(work.bins, windows, impostor, sweep.genuine, pair_bins, score)
    state.remove()
    return curve


def _guessed_windows(work):
    """Where the thresholds will lie, as far as a sample of the rows can tell."""
    count = len(work.units)
    size = min(count, max(count // 5, 2_048), SAMPLE)
    rows = np.sort(np.random.default_rng(0).choice(count, size, replace=False))
    sample = _Sweep(dataclasses.replace(work, units=work.units[rows], labels=work.labels[rows]), [])
    sample.run(_State(None, None), progress=False)
    impostor = sample.everyone - sample.genuine
    seen = int(impostor.sum())
    if not seen:
        return []
    accepted = np.cumsum(impostor[::-1])  # from the top
    genuine = _genuine_histogram(work)
    middle = int(accepted[work.bins.count - 1 - crossing(impostor, genuine)])
    windows = []
    for rank in [*(rank * seen / work.impostors for rank in work.ranks), middle]:
        # Pairs that share a row vary together, hence the second term.
        spread = 4 * math.sqrt(rank) + 2 * rank / math.sqrt(size) + 4
        high, low = (
            work.bins.count - 1 - int(np.searchsorted(accepted, min(max(edge, 0), seen)))
            for edge in (rank - spread, rank + spread)
        )
        windows.append((low - work.bins.margin, high + work.bins.margin))
    return merged(windows, work.bins.count)


def _genuine_histogram(work):
    """Of the genuine pairs, person by person, of the first `BLOCK` images of each."""
    edges = _edges(work.labels)
    total, pending, held = np.zeros(work.bins.count, np.int64), [], 0
    for start, stop in itertools.pairwise(edges):
        units = work.units[start : min(stop, start + BLOCK)]
        scores = (units @ units.T)[_above_diagonal(len(units))]
        pending.append(scores + np.float32(work.bins.offset))
        held += len(pending[-1])
        if held > BLOCK * BLOCK or stop == edges[-1]:
            bins = np.concatenate(pending).astype(np.intp)
            total += np.bincount(bins, minlength=work.bins.count)
            pending, held = [], 0
    return total


def _edges(labels):
    """Where each person's rows begin, and the end."""
    return np.flatnonzero(np.diff(labels, prepend=-1, append=-1))


@functools.lru_cache(maxsize=64)
def _above_diagonal(count):
    return np.triu(np.ones((count, count), bool), k=1)


def _blocks(count):
    """(rows, columns, whether on the diagonal) of the blocks that hold all pairs once."""
    edges = [slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    for number, rows in enumerate(edges):
        for columns in edges[number:]:
            yield rows, columns, columns == rows


def _pairs_of(block):
    rows, columns, diagonal = block
    height, width = rows.stop - rows.start, columns.stop - columns.start
    return height * (height - 1) // 2 if diagonal else height * width


def _digest(embeddings, labels, ranks):
    digest = hashlib.sha256(repr((embeddings.shape, embeddings.dtype, ranks)).encode())
    digest.update(repr((BLOCK, BINS_PER_UNIT)).encode())
    digest.update(np.ascontiguousarray(embeddings))
    digest.update(np.ascontiguousarray(labels))
    return digest.hexdigest()


def _checked(embeddings, labels):
    embeddings, labels = np.asarray(embeddings), np.asarray(labels)
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        raise ValueError(
            "`embeddings` must be of shape (N, D) and `labels` of shape (N,). "
            f"Received: shapes {embeddings.shape} and {labels.shape}."
        )
    return embeddings, labels
