"""The pairs of a set that decide its rates: every genuine one, and the impostors most alike."""

import dataclasses
import itertools

import numpy as np

from keras_facemargin.evaluate.cosine import cosine_scores_of_pairs
from keras_facemargin.evaluate.histogram import BINS_PER_UNIT, float32_units
from keras_facemargin.evaluate.sweep import State, Sweep, Work, checked_faces, edges_of_people

# Impostor pairs that `hardest_pairs` holds, 40 bytes each.
TAIL = 1_000_000


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
    embeddings, labels = checked_faces(embeddings, labels)
    _, people = np.unique(labels, return_inverse=True)
    order = np.argsort(people, kind="stable")
    work = Work(embeddings, order, float32_units(embeddings, order), people[order], [], 0)
    sweep = Sweep(work, [])
    sweep.run(State(None, None), progress)
    accepted = np.cumsum((sweep.everyone - sweep.genuine)[::-1])[::-1]
    wanted = np.flatnonzero(accepted >= min(impostors, accepted[0]))[-1]
    lowest = max(int(wanted) - 2 * work.bins.margin, 0)
    sweep = Sweep(work, [(lowest, work.bins.count - 1)], number=2)
    sweep.run(State(None, None), progress)
    row, column = np.divmod(sweep.candidates()[0], len(order))
    two = work.labels[row] != work.labels[column]
    mates = [
        order[start + np.stack(np.triu_indices(stop - start, k=1))]
        for start, stop in itertools.pairwise(edges_of_people(work.labels))
    ]
    first, second = np.concatenate([np.stack([order[row[two]], order[column[two]]]), *mates], 1)
    scores = cosine_scores_of_pairs(embeddings, first, embeddings, second)
    # What float32 put below the lowest bin is certainly below the one a margin above it.
    floor = (lowest + work.bins.margin - work.bins.offset) / BINS_PER_UNIT if lowest else -np.inf
    same = np.arange(len(first)) >= np.count_nonzero(two)
    kept = same | (scores >= floor)
    return HardestPairs(first[kept], second[kept], scores[kept], same[kept], people, floor)
