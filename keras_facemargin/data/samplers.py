"""Which images an epoch shows, and in which order: argument `sampler` of `Faces.dataset`.

A sampler draws an epoch from the labels alone. What it draws depends on the seed and the number of
the epoch, not on the worker: all workers draw the same and each takes its own share of it.
"""

import operator

import numpy as np


class Sampler:
    """What all samplers share.

    Attributes:
        unit: images that stay together on one worker; a batch must be a multiple of it.
    """

    unit = 1

    def draw(self, labels, rng):
        """The order of an epoch.

        Args:
            labels: int array `(N,)`, every one of 0 .. its largest present.
            rng: `numpy.random.Generator`.

        Returns:
            int64 `(M,)`, rows of `labels`; M depends on the labels alone, and is a multiple of
            `unit`.

        Raises:
            ValueError: the labels are too few for the sampler.
        """
        raise NotImplementedError

    def __repr__(self):
        settings = ", ".join(f"{name.strip('_')}={value}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"


class IdentityBatches(Sampler):
    """Batches of p identities with m images each, for losses on pairs and triplets.

    Every image is in a group of m of its identity; a last group that is short is filled up with
    images of the same identity that are seen twice. No identity is twice in a batch. An epoch has
    just as many batches as all groups need, so an identity with more groups than there are batches
    shows a part of its images, another one each epoch; the places that it leaves, and those of a
    last batch, are filled with groups of identities that are not in the batch yet.

    Implementations differ: pytorch-metric-learning's `MPerClassSampler` gives each identity one
    group a round and takes an epoch's length from the user; InsightFace has none.

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

    def __init__(self, identities, images):
        self.identities = _checked("identities", identities, 2)
        self.images = _checked("images", images, 1)

    @property
    def unit(self):
        return self.identities * self.images

    def draw(self, labels, rng):
        size = self.images
        rows, starts, counts = _shuffled_within(labels, rng)
        people = len(counts)
        if people < self.identities:
            raise ValueError(
                "A batch must not show an identity twice, so there must be as many as it shows. "
                f"Received: {people} identities for {self!r}"
            )
        groups = -(-counts // size)
        batches = -(-int(groups.sum()) // self.identities)
        groups = np.minimum(groups, batches)
        # Groups of an identity are dealt to batches that follow each other, round after round, so
        # that no batch gets two of them.
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
    """Every identity shows equally many images in an epoch.

    An identity with more of them shows a part, another one each epoch; one with fewer shows each of
    them equally often, up to one.

    Args:
        images: of each identity in an epoch, at least 1.

    Raises:
        ValueError: `images` is out of its range.

    Example:
        >>> labels = np.array([0, 0, 0, 1])
        >>> order = BalancedSampler(images=2).draw(labels, np.random.default_rng(0))
        >>> np.bincount(labels[order])
        array([2, 2])
    """

    def __init__(self, images):
        self.images = _checked("images", images, 1)

    def draw(self, labels, rng):
        rows, starts, counts = _shuffled_within(labels, rng)
        columns = np.arange(self.images) % counts[:, None]
        return rng.permutation(rows[(starts[:, None] + columns).reshape(-1)])


class CappedSampler(Sampler):
    """An identity shows so many images in an epoch at most: the head of a long tail is cut.

    Which ones of those that have more is drawn anew in each epoch.

    Args:
        images: of each identity in an epoch, at least 1.

    Raises:
        ValueError: `images` is out of its range.

    Example:
        >>> labels = np.array([0, 0, 0, 1])
        >>> order = CappedSampler(images=2).draw(labels, np.random.default_rng(0))
        >>> np.bincount(labels[order])
        array([2, 1])
    """

    def __init__(self, images):
        self.images = _checked("images", images, 1)

    def draw(self, labels, rng):
        rows, starts, counts = _shuffled_within(labels, rng)
        place = np.arange(len(rows)) - np.repeat(starts, counts)
        return rng.permutation(rows[place < self.images])


def _checked(name, value, lowest):
    try:
        number = operator.index(value)
    except TypeError:
        number = lowest - 1
    if number < lowest:
        raise ValueError(
            f"`{name}` must be an integer from {lowest} on. Received: {name}={value!r}"
        )
    return number


def _shuffled_within(labels, rng):
    """Rows sorted by label, shuffled within each; where each label's begin, and how many it has."""
    labels = np.asarray(labels)
    rows = rng.permutation(len(labels))
    rows = rows[np.argsort(labels[rows], kind="stable")]
    counts = np.bincount(labels)
    return rows, np.cumsum(counts) - counts, counts
