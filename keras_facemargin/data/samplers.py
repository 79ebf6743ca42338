"""The images of an epoch and their order: argument `sampler` of `Faces.dataset`.

A sampler draws an epoch from the labels. The draw depends on the seed and the number of the epoch,
not on the worker: all workers draw the same order, and each takes its share.
"""

import operator
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


class Sampler:
    """The base class of samplers.

    Attributes:
        unit: number of images that stay together on one worker; a batch must be a multiple of it.
    """

    unit: int = 1

    def draw(self, labels: npt.ArrayLike, rng: np.random.Generator) -> Rows:
        """The order of an epoch.

        Args:
            labels: int array `(N,)` with every label from 0 to the largest.
            rng: `numpy.random.Generator`.

        Returns:
            int64 `(M,)`, rows of `labels`. M depends on the labels only, and is a multiple of
            `unit`.

        Raises:
            ValueError: the sampler needs more identities.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        settings = ", ".join(
            f"{name.strip('_')}={value}" for name, value in vars(self).items() if name != "unit"
        )
        return f"{type(self).__name__}({settings})"


class IdentityBatches(Sampler):
    """Batches of p identities with m images each, for losses on pairs and triplets.

    Every image is in a group of m images of its identity; images of the same identity fill a short
    last group, and are then seen twice. An identity occurs once in a batch. An epoch has as many
    batches as all groups need. An identity with more groups than batches shows only some of its
    images, different ones in each epoch. Free places in the batches are filled with groups of
    identities that are not in the batch yet.

    Implementations differ: pytorch-metric-learning's `MPerClassSampler` gives each identity one
    group a round and takes the length of an epoch from the user; InsightFace has no such sampler.

    Args:
        identities: p, at least 2.
        images: m, at least 1.

    Attributes:
        unit: p * m, the images of a batch.

    Raises:
        ValueError: an argument is out of its range; in `draw`: there are fewer than p identities.

    Example:
        >>> sampler = IdentityBatches(identities=2, images=2)
        >>> labels = np.array([0, 0, 0, 1, 1, 2, 2])
        >>> order = sampler.draw(labels, np.random.default_rng(0))
        >>> [sorted(batch) for batch in labels[order].reshape(-1, 4).tolist()]
        [[0, 0, 1, 1], [0, 0, 2, 2]]
    """

    def __init__(self, identities: int, images: int) -> None:
        self.identities = _checked("identities", identities, 2)
        self.images = _checked("images", images, 1)
        self.unit = self.identities * self.images

    def draw(self, labels: npt.ArrayLike, rng: np.random.Generator) -> Rows:
        size = self.images
        rows, starts, counts = _shuffled_within(labels, rng)
        people = len(counts)
        if people < self.identities:
            raise ValueError(
                "A batch shows each identity once, so the set needs as many identities as a batch. "
                f"Received: {people} identities for {self!r}"
            )
        groups = -(-counts // size)
        batches = -(-int(groups.sum()) // self.identities)
        groups = np.minimum(groups, batches)
        # The groups of an identity go to consecutive batches, so that no batch gets two of them.
        order = rng.permutation(people)
        dealt = np.repeat(order, groups[order])
        number = np.arange(len(dealt)) - np.repeat(
            np.cumsum(groups[order]) - groups[order], groups[order]
        )
        result = np.empty((batches, self.identities, size), "int64")
        for batch, place in enumerate(rng.permutation(batches).tolist()):
            who, which = dealt[batch::batches], number[batch::batches]
            missing = self.identities - len(who)
            if missing:
                others = np.setdiff1d(rng.integers(0, people, 2 * self.identities), who)
                if len(others) < missing:
                    others = np.setdiff1d(np.arange(people), who)
                who = np.append(who, rng.permutation(others)[:missing])
                which = np.append(which, rng.integers(0, groups[who[-missing:]]))
            columns = (which[:, None] * size + np.arange(size)) % counts[who][:, None]
            result[place] = rows[starts[who][:, None] + columns]
        return result.reshape(-1)


class BalancedSampler(Sampler):
    """Every identity shows the same number of images in an epoch.

    An identity with more images shows some of them, different ones in each epoch. An identity with
    fewer repeats its images; the counts differ by at most one.

    Args:
        images: number of images of each identity in an epoch, at least 1.

    Raises:
        ValueError: `images` is out of its range.

    Example:
        >>> labels = np.array([0, 0, 0, 1])
        >>> order = BalancedSampler(images=2).draw(labels, np.random.default_rng(0))
        >>> np.bincount(labels[order])
        array([2, 2])
    """

    def __init__(self, images: int) -> None:
        self.images = _checked("images", images, 1)

    def draw(self, labels: npt.ArrayLike, rng: np.random.Generator) -> Rows:
        rows, starts, counts = _shuffled_within(labels, rng)
        columns = np.arange(self.images) % counts[:, None]
        return rng.permutation(rows[(starts[:, None] + columns).reshape(-1)])


class CappedSampler(Sampler):
    """Every identity shows at most a number of images in an epoch: it shortens a long tail's head.

    An identity with more images shows some of them, different ones in each epoch.

    Args:
        images: the largest number of images of an identity in an epoch, at least 1.

    Raises:
        ValueError: `images` is out of its range.

    Example:
        >>> labels = np.array([0, 0, 0, 1])
        >>> order = CappedSampler(images=2).draw(labels, np.random.default_rng(0))
        >>> np.bincount(labels[order])
        array([2, 1])
    """

    def __init__(self, images: int) -> None:
        self.images = _checked("images", images, 1)

    def draw(self, labels: npt.ArrayLike, rng: np.random.Generator) -> Rows:
        rows, starts, counts = _shuffled_within(labels, rng)
        place = np.arange(len(rows)) - np.repeat(starts, counts)
        return rng.permutation(rows[place < self.images])


def _checked(name: str, value: Any, lowest: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = lowest - 1
    if number < lowest:
        raise ValueError(
            f"`{name}` must be an integer of at least {lowest}. Received: {name}={value!r}"
        )
    return number


def _shuffled_within(labels: npt.ArrayLike, rng: np.random.Generator) -> tuple[Rows, Rows, Rows]:
    """Rows sorted by label and shuffled within it; the first row and the count of each label."""
    labels = np.asarray(labels)
    rows = rng.permutation(len(labels))
    rows = rows[np.argsort(labels[rows], kind="stable")]
    counts = np.bincount(labels)
    return rows, np.cumsum(counts) - counts, counts
