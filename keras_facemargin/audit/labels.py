"""Checks of a labelled set from its embeddings: doubtful labels, duplicates, shared people.

An embedder that was trained on other people judges the labels of these. Embedders err: look at the
pictures (`draw_audit`) before you remove an image.

Each check is a product of unit vectors, computed a block of rows at a time, so that the block
bounds the memory whatever the size of the set.
"""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import real_numbers

_BLOCK = 1024  # rows of a product
_MOST = 1_000_000  # pairs that are listed

_Rows = npt.NDArray[np.float32]
_Labels = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class LabelNoise:
    """Cosines between each image and the identities, -1..1.

    Attributes:
        own: float32 `(N,)`, to the mean of the other images of its identity; NaN if there are none.
        other: float32 `(N,)`, to the most similar mean of another identity.
        nearest: int64 `(N,)`, the label of that identity.
    """

    own: _Rows
    other: _Rows
    nearest: _Labels

    @property
    def suspects(self) -> npt.NDArray[np.intp]:
        """int `(K,)`, images more similar to another identity than to their own, worst first.

        The worst has the largest `other - own`.
        """
        lead = self.other - self.own  # NaN, so not a suspect, where an identity has one image
        found = np.flatnonzero(lead > 0)
        return found[np.argsort(-lead[found], kind="stable")]


@dataclasses.dataclass(frozen=True)
class SimilarPairs:
    """Pairs of rows, the most similar first.

    Attributes:
        first, second: int64 `(K,)`, rows: of one set with `first < second`, or of two.
        cosine: float32 `(K,)`.
        same: bool `(K,)`, whether both rows have one label; None between two sets.
    """

    first: _Labels
    second: _Labels
    cosine: _Rows
    same: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.first)


def label_noise(embeddings: Any, labels: Any) -> LabelNoise:
    """Compares each image with the mean of its own identity and with those of all others.

    With unit vectors `x_i` and the mean direction of identity c, `m_c = sum x_j / |sum x_j|`:

        own_i   = cos(x_i, mean of the images j of y_i, j != i)
        other_i = max over c != y_i of x_i . m_c

    The mean of its identity leaves the image itself out, so that an identity of two images can be
    judged. Implementations differ: InsightFace's clean-up compares with a mean that contains the
    image; pytorch-metric-learning's `get_outliers` reports the largest angles and no other
    identity.

    Args:
        embeddings: float `(N, D)`, finite, of any norm except 0.
        labels: int `(N,)`, not negative, at least two identities.

    Returns:
        `LabelNoise`.

    Raises:
        ValueError: a shape or a label is wrong, an embedding is 0 or not finite.

    Example:
        >>> rows = np.array([[1, 0], [1, 0.1], [0.1, 1], [0, 1], [0, 1]])
        >>> label_noise(rows, [0, 0, 0, 1, 1]).suspects  # the third is with the others
        array([2])
    """
    directions, labels, known = _checked(embeddings, labels, "embeddings", "labels")
    sums, means = _means(directions, labels)
    count = len(labels)
    own, other, nearest = (
        np.empty(count, "float32"),
        np.empty(count, "float32"),
        np.empty(count, "int64"),
    )
    alone = np.bincount(labels)[labels] == 1
    for start in range(0, count, _BLOCK):
        rows = slice(start, start + _BLOCK)
        its_labels = labels[rows]
        rest = sums[its_labels] - directions[rows]
        own[rows] = (directions[rows] * rest).sum(axis=1) / np.maximum(_lengths(rest), 1e-12)
        cosines = directions[rows] @ means.T
        cosines[np.arange(len(its_labels)), its_labels] = -np.inf
        nearest[rows] = cosines.argmax(axis=1)
        other[rows] = cosines.max(axis=1)
    own[alone] = np.nan
    return LabelNoise(own, other, known[nearest])


def near_duplicates(embeddings: Any, labels: Any, threshold: float) -> SimilarPairs:
    """Finds pairs of nearly identical images: redundant within an identity, an error across two.

    Args:
        embeddings: float `(N, D)`, finite, of any norm except 0.
        labels: int `(N,)`, not negative.
        threshold: smallest cosine of a pair, in (-1, 1].

    Returns:
        `SimilarPairs`, with `same`.

    Raises:
        ValueError: as `label_noise`; more than a million pairs reach the threshold.

    Example:
        >>> rows = np.array([[1, 0], [1, 0.01], [0, 1], [0.01, 1]])
        >>> found = near_duplicates(rows, [0, 0, 0, 1], threshold=0.99)
        >>> found.first, found.second, found.same
        (array([0, 2]), array([1, 3]), array([ True, False]))
    """
    directions, labels, _ = _checked(embeddings, labels, "embeddings", "labels", identities=1)
    first, second, cosine = _pairs_above(directions, directions, threshold, within=True)
    return SimilarPairs(first, second, cosine, labels[first] == labels[second])


def shared_images(embeddings: Any, other_embeddings: Any, threshold: float) -> SimilarPairs:
    """Finds nearly identical images of two sets, such as test images in the training set.

    Args:
        embeddings, other_embeddings: float `(N, D)` and `(M, D)`, of one embedder.
        threshold: as in `near_duplicates`.

    Returns:
        `SimilarPairs`, rows of the first and of the second set.

    Raises:
        ValueError: as `near_duplicates`.

    Example:
        >>> shared_images(np.eye(3), np.array([[0.0, 1.0, 0.01]]), 0.9).first
        array([1])
    """
    directions = _directions(embeddings, "embeddings")
    others = _directions(other_embeddings, "other_embeddings")
    _check_same_width(directions, others)
    return SimilarPairs(*_pairs_above(directions, others, threshold, within=False))


def shared_identities(
    embeddings: Any, labels: Any, threshold: float, *, against: tuple[Any, Any] | None = None
) -> SimilarPairs:
    """Finds people with two labels, within one set or across two, by the means of their images.

    Args:
        embeddings, labels: of the set, as in `label_noise`.
        threshold: smallest cosine of two means of one person, in (-1, 1]. Means of several images
            are more similar than images: a threshold for images finds too much.
        against: `(embeddings, labels)` of another set, by the same embedder. Default: the labels
            of the set are compared with each other.

    Returns:
        `SimilarPairs`, labels: `first < second` of one set, or of the first and the other set.

    Raises:
        ValueError: as `near_duplicates`.

    Example:
        >>> shared_identities(np.eye(3), [0, 1, 2], 0.9, against=(np.eye(3)[1:], [0, 1])).first
        array([1, 2])
    """
    directions, labels, known = _checked(embeddings, labels, "embeddings", "labels", identities=1)
    means = _means(directions, labels)[1]
    if against is None:
        first, second, cosine = _pairs_above(means, means, threshold, within=True)
        return SimilarPairs(known[first], known[second], cosine)
    others, other_labels, other_known = _checked(*against, "against[0]", "against[1]", identities=1)
    _check_same_width(directions, others)
    other_means = _means(others, other_labels)[1]
    first, second, cosine = _pairs_above(means, other_means, threshold, within=False)
    return SimilarPairs(known[first], other_known[second], cosine)


def _means(directions: _Rows, labels: _Labels) -> tuple[_Rows, _Rows]:
    """Sums of unit vectors by label, and their directions, float32 `(C, D)`."""
    sums = np.zeros((labels.max() + 1, directions.shape[1]), np.float32)
    np.add.at(sums, labels, directions)
    norms = np.maximum(_lengths(sums), np.float32(1e-12))
    return sums, np.asarray(sums / norms[:, None], np.float32)


def _pairs_above(
    ours: _Rows, theirs: _Rows, threshold: float, within: bool
) -> tuple[_Labels, _Labels, _Rows]:
    """First rows, second rows and cosines of the pairs that reach a threshold, descending."""
    if not -1 < threshold <= 1:
        raise ValueError(
            f"`threshold` must be a cosine in (-1, 1]. Received: threshold={threshold!r}"
        )
    found, count = [], 0
    for start in range(0, len(ours), _BLOCK):
        for other in range(start if within else 0, len(theirs), _BLOCK):
            cosines = ours[start : start + _BLOCK] @ theirs[other : other + _BLOCK].T
            if within and start == other:
                cosines[np.tril_indices_from(cosines)] = -2
            rows, columns = np.nonzero(cosines >= threshold)
            count += len(rows)
            if count > _MOST:
                raise ValueError(
                    f"At most {_MOST:,} pairs can be listed. Received: more pairs with a cosine of "
                    f"threshold={threshold} or more. Raise `threshold`."
                )
            found.append((rows + start, columns + other, cosines[rows, columns]))
    first, second, cosine = map(np.concatenate, zip(*found, strict=True))
    order = np.lexsort((second, first, -cosine))
    return first[order], second[order], cosine[order]


def _checked(
    embeddings: Any, labels: Any, name: str, labels_name: str, identities: int = 2
) -> tuple[_Rows, _Labels, _Labels]:
    """Unit vectors, labels renumbered 0 .. C-1 without a gap, and the original labels."""
    directions = _directions(embeddings, name)
    labels = np.asarray(labels)
    if labels.shape != (len(directions),) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError(
            f"`{labels_name}` must have an integer of at least 0 for each of `{name}`. Received: "
            f"shape {labels.shape}, dtype {labels.dtype} for {len(directions):,} embeddings"
        )
    known, numbers = np.unique(labels, return_inverse=True)
    if len(known) < identities:
        raise ValueError(
            f"`{labels_name}` must have at least two identities. Received: label {labels[0]} only"
        )
    return directions, numbers, known.astype("int64")


def _directions(embeddings: Any, name: str) -> _Rows:
    embeddings = real_numbers(embeddings, name).astype("float32", copy=False)
    if embeddings.ndim != 2 or not embeddings.size:
        raise ValueError(
            f"`{name}` must have the shape (N, D), with at least one row. "
            f"Received: shape {embeddings.shape}"
        )
    lengths = _lengths(embeddings)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise ValueError(
            f"An embedding must be finite and not 0. Received: {name}[{bad[0]}] of norm "
            f"{lengths[bad[0]]}"
        )
    return np.asarray(embeddings / lengths[:, None], np.float32)


def _lengths(rows: _Rows) -> _Rows:
    return np.asarray(np.sqrt(np.einsum("nd,nd->n", rows, rows)), np.float32)


def _check_same_width(ours: _Rows, theirs: _Rows) -> None:
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(
            "Both sets must be embedded by one embedder. Received: embeddings of dimension "
            f"{ours.shape[1]} and {theirs.shape[1]}"
        )
