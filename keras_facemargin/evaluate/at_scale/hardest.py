"""The pairs of a set that decide its rates: all genuine ones, and the most similar impostors."""

import dataclasses
import functools
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.at_scale.histogram import WIDTH, ScoreHistogram, float32_units, whole
from keras_facemargin.evaluate.at_scale.sweep import (
    Levels,
    State,
    Sweep,
    Work,
    checked_faces,
    edges_of_people,
)
from keras_facemargin.evaluate.cosine import cosine_scores_of_pairs
from keras_facemargin.evaluate.verification.curve import Roc

# Impostor pairs that `hardest_pairs` keeps, 40 bytes each.
TAIL = 1_000_000

# Levels that count the other impostor pairs. A level has so few of the pairs above it that scores
# may be taken as uniform within it.
LEVELS = 200


@dataclasses.dataclass(frozen=True, eq=False)
class HardestPairs:
    """The pairs of a set that decide its rates, with their counts in draws of people.

    Attributes:
        first, second: rows of the embeddings, ``(P,)`` each: every genuine pair, and every impostor
            pair that scores at least `floor`.
        scores: float64 ``(P,)``, as `cosine_scores`.
        same: bool ``(P,)``.
        people: ``(N,)``, the person of each row, counted from 0; some may have no row.
        floor: the lowest score of the impostor pairs here; -inf if all are here.
        edges: ``(L + 1,)``, ascending to `floor`: levels of the score of the other impostor pairs.
        below: int64 ``(people, L)``, the number of those in each level for each person; a pair
            counts for both of its people.
    """

    first: npt.NDArray[Any]
    second: npt.NDArray[Any]
    scores: npt.NDArray[Any]
    same: npt.NDArray[Any]
    people: npt.NDArray[Any]
    floor: float
    edges: npt.NDArray[Any]
    below: npt.NDArray[Any]

    @property
    def sides(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The people of the two faces of each pair, counted from 0, ``(P,)`` each."""
        return self.people[self.first], self.people[self.second]

    @property
    def units(self) -> int:
        """Number of people."""
        return len(self.below)

    def impostors(self, counts: npt.NDArray[Any]) -> int:
        """Number of all impostor pairs of the set, if person p counts ``counts[p]`` times."""
        weights = counts * self._images
        return (int(weights.sum()) ** 2 - int(weights @ weights)) // 2

    def completed(self, curve: Roc, counts: npt.NDArray[Any]) -> tuple[Roc, int]:
        """The `Roc` of all pairs in a draw of people, from the `Roc` of the pairs here.

        Args:
            curve: of the pairs here.
            counts: ``(people,)``, how often each person counts.

        Returns:
            The `Roc`, and the number of accepted impostor pairs down to which it is known: all.
        """
        everyone = self.impostors(counts)
        others = (everyone - curve.impostors) * self.unheld(counts, curve.thresholds)
        curve = curve.with_all(everyone)
        accepted = curve.false_accepts + np.append(others.round().astype(np.int64), 0)
        largest = float(everyone) * curve.genuines
        false, true = (whole(kind, largest) for kind in (accepted, curve.true_accepts))
        return Roc(curve.thresholds, false, true), everyone

    def unheld(self, counts: npt.NDArray[Any], thresholds: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Share of the impostor pairs below `floor` that score at least each threshold.

        Only their counts by person are known, ``below``. The model adds the rates of the two
        people: of the ``n_p n_q`` pairs of p and q a share ``r_p + r_q`` is in a level, where the r
        give every person the counted number. The share is right to first order in the differences
        of the counts from 1, and exact if rates do add.

        Args:
            counts: ``(people,)``, how often each counts.
            thresholds: ``(T,)``.

        Returns:
            float64 ``(T,)`` in [0, 1].
        """
        weights = counts * self._images
        pairs = np.maximum(weights * (weights.sum() - weights) @ self._rates, 0)
        above = np.append(np.cumsum(pairs[::-1])[::-1], 0)
        share: npt.NDArray[np.float64] = np.interp(thresholds, self.edges, above / (above[0] or 1))
        return share

    @functools.cached_property
    def _rates(self) -> npt.NDArray[Any]:
        """The ``r`` of `unheld`, ``(people, L)``.

        Row sums: ``n_p (r_p (N - n_p) + R - n_p r_p) = below_p`` with ``R = sum of n_q r_q``.
        """
        images = self._images[:, None]
        others = images.sum() - 2 * images
        others[others == 0] = 1  # a person has half of all images
        total = (self.below / others).sum(axis=0) / (1 + (images / others).sum())
        rates: npt.NDArray[np.float64] = (self.below / np.maximum(images, 1) - total) / others
        return rates

    @functools.cached_property
    def _images(self) -> npt.NDArray[Any]:
        """The number of images of each person, ``(people,)``."""
        return np.bincount(self.people, minlength=self.units)


def hardest_pairs(
    embeddings: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    impostors: int = TAIL,
    progress: bool = True,
    histogram: ScoreHistogram | None = None,
    units: int | None = None,
) -> HardestPairs:
    """Every genuine pair of a set, and about `impostors` of its most similar impostor pairs.

    Args:
        embeddings, labels, progress: as `verify_all_pairs`.
        impostors: the least number of impostor pairs to keep, if there are so many.
        histogram: the `ScoreHistogram` of `verify_all_pairs`; without it pairs are counted first.
        units: the number of people if only some of them are here, as in a trial; `labels` are then
            integers below it, the same in all trials.

    Returns:
        A `HardestPairs`; rounding leaves no pair out.

    Raises:
        ValueError: as `verify_all_pairs`; or if `labels` are not integers below `units`.

    Example:
        >>> embeddings = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]
        >>> found = hardest_pairs(embeddings, ["a", "a", "b", "b"], impostors=1, progress=False)
        >>> found.first[~found.same].tolist(), found.second[~found.same].tolist()
        ([1], [3])
    """
    embeddings, labels = checked_faces(embeddings, labels)
    people = labels
    if units is None:
        names, people = np.unique(labels, return_inverse=True)
        units = len(names)
    elif people.dtype.kind not in "iu" or people.min() < 0 or people.max() >= units:
        raise ValueError(
            f"`labels` must be integers from 0 to {units - 1:,}, one less than `units`. "
            f"Received: {people.dtype}, from {min(people.tolist())!r} to {max(people.tolist())!r}."
        )
    order = np.argsort(people, kind="stable")
    work = Work(embeddings, order, float32_units(embeddings, order), people[order], [], 0)
    if histogram is None:
        sweep = Sweep(work, [])
        sweep.run(State(None, None), progress)
        histogram = sweep.histogram()
    accepted = np.cumsum(histogram.impostor[::-1])[::-1]
    wanted = np.flatnonzero(accepted >= min(impostors, accepted[0]))[-1]
    lowest = max(int(wanted) - 2 * work.bins.margin, 0)
    levels = _levels(accepted, lowest, units)
    sweep = Sweep(work, [(lowest, work.bins.count - 1)], number=2, levels=levels)
    sweep.run(State(None, None), progress)
    row, column = np.divmod(sweep.candidates()[0], len(order))
    mates = [
        order[start + np.stack(np.triu_indices(stop - start, k=1))]
        for start, stop in itertools.pairwise(edges_of_people(work.labels))
    ]
    first, second = np.concatenate([np.stack([order[row], order[column]]), *mates], 1)
    scores = cosine_scores_of_pairs(embeddings, embeddings, first=first, second=second)
    # Pairs that float32 counts below the lowest bin are surely below the bin a margin above it.
    floor = histogram.lowest + (lowest + work.bins.margin) * WIDTH if levels.count else -np.inf
    same = np.arange(len(first)) >= len(row)
    kept = same | (scores >= floor)
    edges, below = histogram.lowest + levels.cuts * WIDTH, levels.pairs[:, :-1]
    if levels.count:
        edges[-1] = floor
        for side in (first, second):
            np.add.at(below[:, -1], people[side[~kept]], 1)
    return HardestPairs(
        *(first[kept], second[kept], scores[kept], same[kept], people, floor, edges, below)
    )


def _levels(accepted: npt.NDArray[Any], lowest: int, people: int) -> Levels:
    """Levels below the bin `lowest`, with ends at evenly spaced logarithms of the FAR."""
    held, everyone = (int(accepted[number]) for number in (lowest, 0))
    if held == everyone:
        return Levels(np.array([lowest]), len(accepted), people)
    ranks = np.geomspace(max(held, 1), everyone, LEVELS + 1)[1:]
    # The highest bin down to which that many are accepted.
    cuts = len(accepted) - 1 - np.searchsorted(accepted[::-1], np.ceil(ranks - 0.5))
    return Levels(np.unique(np.minimum([*cuts, lowest], lowest)), len(accepted), people)
