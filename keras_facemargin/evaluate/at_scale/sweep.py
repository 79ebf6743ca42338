"""One pass over all pairs of a set of embeddings, block by block.

A `Sweep` fills histograms of the float32 scores and collects the pairs inside windows of bins. It
can be saved and resumed. `every_pair` and `hardest` use it.
"""

import dataclasses
import functools
import hashlib
import itertools
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import embedding_rows, identifiers, read_npz
from keras_facemargin.evaluate.at_scale.histogram import BINS_PER_UNIT, WIDTH, Bins, ScoreHistogram
from keras_facemargin.evaluate.at_scale.refine import Window, crossing, merged
from keras_facemargin.files import atomic_write
from keras_facemargin.progress import progress_bar

Block = tuple[slice, slice, bool]  # rows, columns, whether on the diagonal

# Rows of a block: its scores (4 MB) and their bins (8 MB) stay near the processor.
BLOCK = 1_024

# The most pairs inside the windows, 12 bytes each until they are scored.
CANDIDATES = 8_000_000

# The most rows of the sample for the first windows.
SAMPLE = 16_384

# Seconds between two saves of the state.
SAVE_SECONDS = 10.0


def checked_faces(
    embeddings: npt.ArrayLike, labels: npt.ArrayLike
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    embeddings, (labels,) = embedding_rows(embeddings), identifiers(labels=labels)
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(
            "`embeddings` must be of shape (N, D) and `labels` of shape (N,). "
            f"Received: shapes {embeddings.shape} and {labels.shape}."
        )
    return embeddings, labels


@dataclasses.dataclass(frozen=True, eq=False)
class Work:
    """The rows, sorted by person, and the targets."""

    embeddings: npt.NDArray[Any]
    order: npt.NDArray[Any]
    units: npt.NDArray[Any]  # float32, length sqrt(BINS_PER_UNIT): a product is a score in bins
    labels: npt.NDArray[Any]
    ranks: list[int]  # ranks, from the top, of impostor scores that must not be accepted
    impostors: int

    @property
    def bins(self) -> Bins:
        return Bins(self.units.shape[1])


class State:
    """The progress of the sweeps, in memory and, if there is one, in a file."""

    def __init__(self, file: str | os.PathLike[str] | None, digest: str | None) -> None:
        self.file, self.digest = None if file is None else Path(file), digest
        self.found: dict[str, npt.NDArray[Any]] | None = None
        if self.file is not None and self.file.exists():
            self.found = self._read()

    def _read(self) -> dict[str, npt.NDArray[Any]]:
        try:
            found = read_npz(self.file)
        except ValueError as error:
            raise self.refused(str(error)) from None
        if "digest" not in found:
            raise self.refused("it has no digest.")
        if str(found.pop("digest")) != self.digest:
            raise ValueError(
                "`state` must belong to the same embeddings, labels and rates. "
                f"Received: {self.file}, which belongs to others. Pass another file or remove it."
            )
        return found

    def refused(self, why: str) -> ValueError:
        """The error for a file that is not a state."""
        return ValueError(
            "`state` must be a file that `verify_all_pairs` wrote, or not exist. "
            f"Received: {self.file}, another file: {why} Pass another path or remove it."
        )

    def save(self, **arrays: Any) -> None:
        with atomic_write(self.file, "wb") as file:
            np.savez(file, digest=self.digest or "", **arrays)

    def remove(self) -> None:
        if self.file is not None:
            self.file.unlink(missing_ok=True)


class Sweep:
    """One pass over all blocks: histograms of both kinds, and the pairs inside the windows.

    With `levels`: only the impostor pairs inside, and counts by person of those outside.
    """

    def __init__(
        self, work: Work, windows: list[Window], number: int = 1, levels: "Levels | None" = None
    ) -> None:
        self.work, self.number, self.levels = work, number, levels
        self.windows = windows
        self.done = 0  # blocks
        self.everyone = np.zeros(work.bins.count, np.int64)
        self.genuine = np.zeros(work.bins.count, np.int64)
        self.inside = np.zeros(work.bins.count, bool)
        for low, high in windows:
            self.inside[low : high + 1] = True
        self.pairs: list[npt.NDArray[Any]] = []
        self.pair_bins: list[npt.NDArray[Any]] = []
        self.held = 0

    def arrays(self) -> dict[str, Any]:
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
    def restored(cls, work: Work, state: State) -> "Sweep":
        found = state.found
        if found is None or not _is_state(work, found):
            raise state.refused("its arrays are not those of a sweep.")
        windows = [tuple(window) for window in found["windows"].tolist()]
        sweep = cls(work, windows, int(found["number"]))
        sweep.done = int(found["done"])
        sweep.everyone, sweep.genuine = found["everyone"], found["genuine"]
        sweep.pairs, sweep.pair_bins = [found["pairs"]], [found["pair_bins"]]
        sweep.held = len(found["pairs"])
        return sweep

    def candidates(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Pairs inside the windows, as row * N + column, and their bins."""
        self.pairs = [np.concatenate([np.empty(0, np.int64), *self.pairs])]
        self.pair_bins = [np.concatenate([np.empty(0, np.int32), *self.pair_bins])]
        return self.pairs[0], self.pair_bins[0]

    def histogram(self) -> ScoreHistogram:
        """All counted pairs as a `ScoreHistogram`."""
        lowest = -self.work.bins.offset * WIDTH
        return ScoreHistogram(self.genuine, self.everyone - self.genuine, lowest)

    def run(self, state: State, progress: bool) -> None:
        blocks = list(_blocks(len(self.work.units)))
        scores = np.empty((BLOCK, BLOCK), np.float32)
        bins = np.empty(BLOCK * BLOCK, np.intp)
        total = sum(_pairs_of(block) for block in blocks)
        saved = time.monotonic()
        with progress_bar("pairs", progress) as bar:
            title = "All pairs" if self.number == 1 else "All pairs, second pass"
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

    def count(
        self, block: Block, scores: npt.NDArray[np.float32], bins: npt.NDArray[np.intp]
    ) -> None:
        rows, columns, diagonal = block
        work = self.work
        shape = rows.stop - rows.start, columns.stop - columns.start
        scores = scores.ravel()[: shape[0] * shape[1]].reshape(shape)
        np.matmul(work.units[rows], work.units[columns].T, out=scores)
        np.add(scores, np.float32(work.bins.offset), out=scores)
        bins = bins[: scores.size]
        np.copyto(bins.reshape(shape), scores, casting="unsafe")
        cells: npt.NDArray[np.intp] | slice = slice(None)
        if diagonal:  # the upper triangle; the pairs below are the same
            cells = np.flatnonzero(_above_diagonal(shape[0]))
            bins = bins[cells]
        self.everyone += np.bincount(bins, minlength=work.bins.count)
        same = np.zeros(len(bins), bool)
        if work.labels[rows.stop - 1] >= work.labels[columns.start]:
            same = (work.labels[rows, None] == work.labels[columns]).ravel()[cells]
            self.genuine += np.bincount(bins[same], minlength=work.bins.count)
        if self.windows:
            self._collect(block, cells, bins, same)
        if self.levels is not None:
            level = np.full(shape, self.levels.count)  # one more, for pairs that are not counted
            numbers = self.levels.of_bins.take(bins)
            level.ravel()[cells] = np.where(same, self.levels.count, numbers)
            self.levels.add(work.labels[rows], level)
            self.levels.add(work.labels[columns], level.T)

    def _collect(
        self,
        block: Block,
        cells: npt.NDArray[np.intp] | slice,
        bins: npt.NDArray[np.intp],
        same: npt.NDArray[np.bool_],
    ) -> None:
        """Keeps the pairs inside the windows; with levels, only the impostor pairs."""
        rows, columns, _ = block
        inside = self.inside.take(bins)
        if self.levels is not None:
            inside &= ~same
        chosen = np.flatnonzero(inside)
        self.pair_bins.append(bins[chosen].astype(np.int32))
        row, column = np.divmod(
            chosen if isinstance(cells, slice) else cells[chosen], columns.stop - columns.start
        )
        self.pairs.append((row + rows.start) * len(self.work.units) + (column + columns.start))
        self.held += len(chosen)
        if self.held > CANDIDATES:
            self._drop()

    def _drop(self) -> None:
        """Drops the first windows, which are estimates; later ones are needed."""
        if self.number > 1:
            raise ValueError(
                f"At most {CANDIDATES:,} pairs may be so near a threshold that float32 cannot "
                f"decide them. Received: more, among {len(self.work.units):,} embeddings. "
                "Remove duplicates, or pass lower `fars` or a sample of the rows."
            )
        self.windows, self.pairs, self.pair_bins, self.held = [], [], [], 0


class Levels:
    """Counts of the impostor pairs of each person in a few wide bins of the score.

    Attributes:
        cuts: ``(L + 1,)`` narrow bins, ascending: level k is from ``cuts[k]`` to ``cuts[k + 1]``.
        of_bins: the level of every narrow bin; L for bins outside all levels.
        pairs: int64 ``(people, L + 1)``; a pair counts for both of its people. The last column has
            the pairs outside all levels.
    """

    def __init__(self, cuts: npt.NDArray[Any], bins: int, people: int) -> None:
        self.cuts, self.count = cuts, len(cuts) - 1
        numbers = np.searchsorted(cuts, np.arange(bins), side="right") - 1
        self.of_bins = np.where(numbers < 0, self.count, np.minimum(numbers, self.count))
        self.pairs = np.zeros((people, self.count + 1), np.int64)

    def add(self, people: npt.NDArray[Any], level: npt.NDArray[Any]) -> None:
        """Counts a block: ``(rows,)`` sorted people and the levels ``(rows, columns)``."""
        width = self.count + 1
        cells = np.arange(len(people))[:, None] * width + level
        counts = np.bincount(cells.ravel(), minlength=len(people) * width).reshape(-1, width)
        starts = edges_of_people(people)[:-1]
        self.pairs[people[starts]] += np.add.reduceat(counts, starts, axis=0)


def guessed_windows(work: Work) -> list[Window]:
    """Estimated windows of the thresholds, from a sample of the rows."""
    count = len(work.units)
    size = min(count, max(count // 5, 2_048), SAMPLE)
    rows = np.sort(np.random.default_rng(0).choice(count, size, replace=False))
    sample = Sweep(dataclasses.replace(work, units=work.units[rows], labels=work.labels[rows]), [])
    sample.run(State(None, None), progress=False)
    impostor = sample.everyone - sample.genuine
    seen = int(impostor.sum())
    if not seen:
        return []
    accepted = np.cumsum(impostor[::-1])  # from the top
    genuine = _genuine_histogram(work)
    middle = int(accepted[work.bins.count - 1 - crossing(impostor, genuine)])
    windows = []
    for rank in [*(rank * seen / work.impostors for rank in work.ranks), middle]:
        # Pairs that share a row are correlated, hence the second term.
        spread = 4 * math.sqrt(rank) + 2 * rank / math.sqrt(size) + 4
        high, low = (
            work.bins.count - 1 - int(np.searchsorted(accepted, min(max(edge, 0), seen)))
            for edge in (rank - spread, rank + spread)
        )
        windows.append((low - work.bins.margin, high + work.bins.margin))
    return merged(windows, work.bins.count)


def _genuine_histogram(work: Work) -> npt.NDArray[np.int64]:
    """The histogram of genuine pairs of the first `BLOCK` images of each person."""
    edges = edges_of_people(work.labels)
    total = np.zeros(work.bins.count, np.int64)
    pending: list[npt.NDArray[Any]] = []
    held = 0
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


def edges_of_people(labels: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """The first row of each person, and the end."""
    return np.flatnonzero(np.diff(labels, prepend=-1, append=-1))


def _is_state(work: Work, found: dict[str, npt.NDArray[Any]]) -> bool:
    """Whether arrays are those of `Sweep.arrays`."""
    rows, bins, blocks = len(work.units), work.bins.count, len(list(_blocks(len(work.units))))
    pairs = found.get("pairs", np.empty(0)).shape
    shapes = {"number": (), "done": (), "everyone": (bins,), "genuine": (bins,), "pairs": pairs}
    shapes |= {"pair_bins": pairs, "windows": (len(found.get("windows", [])), 2)}
    limits = {"number": 9, "done": blocks + 1, "pairs": rows**2, "pair_bins": bins}
    limits |= {"windows": bins}
    if found.keys() != shapes.keys() or len(pairs) != 1:
        return False
    return all(
        found[name].shape == shape
        and found[name].dtype.kind == "i"
        and (not found[name].size or found[name].min() >= 0)
        and (name not in limits or not found[name].size or found[name].max() < limits[name])
        for name, shape in shapes.items()
    )


@functools.lru_cache(maxsize=64)
def _above_diagonal(count: int) -> npt.NDArray[np.bool_]:
    return np.triu(np.ones((count, count), bool), k=1)


def _blocks(count: int) -> Iterator[Block]:
    """(rows, columns, whether on the diagonal) of the blocks that hold all pairs once."""
    edges = [slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    for number, rows in enumerate(edges):
        for columns in edges[number:]:
            yield rows, columns, columns == rows


def _pairs_of(block: Block) -> int:
    rows, columns, diagonal = block
    height: int = rows.stop - rows.start
    width: int = columns.stop - columns.start
    return height * (height - 1) // 2 if diagonal else height * width


def digest_of(embeddings: npt.NDArray[Any], labels: npt.NDArray[Any], ranks: list[int]) -> str:
    digest = hashlib.sha256(repr((embeddings.shape, embeddings.dtype, ranks)).encode())
    digest.update(repr((BLOCK, BINS_PER_UNIT)).encode())
    digest.update(np.ascontiguousarray(embeddings).data)
    digest.update(np.ascontiguousarray(labels).data)
    return digest.hexdigest()
