"""Checks of a labelled set from its embeddings: doubtful labels, duplicates, shared people.

An embedder that was trained on other people judges the labels of these. It is no judge of last
resort: look at the pictures (`draw_audit`) before you remove any.

Everything is a product of unit vectors, computed a block of rows at a time, so that memory is
bounded by the block whatever the size of the set.
"""

import dataclasses
import os

import numpy as np
from PIL import Image, ImageDraw

from keras_facemargin.arrays import real_numbers
from keras_facemargin.images.image import read_face

_BLOCK = 1024  # rows of a product
_MOST = 1_000_000  # pairs that are listed
_SHOWN = 4  # images that the sheet shows of an identity
_TEXT = 40  # pixels for the words above a row of the sheet


@dataclasses.dataclass(frozen=True)
class LabelNoise:
    """How well each image fits its label. Cosines, -1..1.

    Attributes:
        own: float32 `(N,)`, to the mean of the other images of its identity; NaN if there are none.
        other: float32 `(N,)`, to the nearest mean of another identity.
        nearest: int64 `(N,)`, the label of that identity.
    """

    own: np.ndarray
    other: np.ndarray
    nearest: np.ndarray

    @property
    def suspects(self):
        """int64 `(K,)`, images that are nearer to another identity than to their own, worst first.

        The worst has the largest `other - own`.
        """
        lead = self.other - self.own  # NaN for an image that is alone: no suspect
        found = np.flatnonzero(lead > 0)
        return found[np.argsort(-lead[found], kind="stable")]


@dataclasses.dataclass(frozen=True)
class AlikePairs:
    """Pairs of rows, the most similar first.

    Attributes:
        first, second: int64 `(K,)`, rows: of one set with `first < second`, or of two.
        cosine: float32 `(K,)`.
        same: bool `(K,)`, whether both have one label; None between two sets.
    """

    first: np.ndarray
    second: np.ndarray
    cosine: np.ndarray
    same: np.ndarray | None = None

    def __len__(self):
        return len(self.first)


def label_noise(embeddings, labels):
    """Compares each image with the mean of its own identity and with those of all others.

    With unit vectors `x_i` and the mean direction of identity c, `m_c = sum x_j / |sum x_j|`:

        own_i   = cos(x_i, mean of the images j of y_i, j != i)
        other_i = max over c != y_i of x_i . m_c

    An image is left out of its own mean, without which an identity of two could not be judged.
    Implementations differ: InsightFace's clean-up compares with a mean that holds the image itself;
    pytorch-metric-learning's `get_outliers` reports the largest angles and no other identity.

    Args:
        embeddings: float `(N, D)`, of any length but 0.
        labels: int `(N,)`, from 0 on, at least two identities.

    Returns:
        `LabelNoise`.

    Raises:
        ValueError: shapes or labels are not these, an embedding is 0 or not finite.

    Example:
        >>> rows = np.array([[1, 0], [1, 0.1], [0.1, 1], [0, 1], [0, 1]])
        >>> label_noise(rows, [0, 0, 0, 1, 1]).suspects  # the third lies with the others
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
    lonely = np.bincount(labels)[labels] == 1
    for start in range(0, count, _BLOCK):
        rows = slice(start, start + _BLOCK)
        its_labels = labels[rows]
        rest = sums[its_labels] - directions[rows]
        own[rows] = (directions[rows] * rest).sum(axis=1) / np.maximum(_lengths(rest), 1e-12)
        cosines = directions[rows] @ means.T
        cosines[np.arange(len(its_labels)), its_labels] = -np.inf
        nearest[rows] = cosines.argmax(axis=1)
        other[rows] = cosines.max(axis=1)
    own[lonely] = np.nan
    return LabelNoise(own, other, known[nearest])


def near_duplicates(embeddings, labels, threshold):
    """Finds pairs of nearly identical images: redundant within an identity, an error across two.

    Args:
        embeddings: float `(N, D)`, of any length but 0.
        labels: int `(N,)`, from 0 on.
        threshold: cosine from which a pair counts, above -1 to 1.

    Returns:
        `AlikePairs`, with `same`.

    Raises:
        ValueError: as `label_noise`, or more than a million pairs count.

    Example:
        >>> rows = np.array([[1, 0], [1, 0.01], [0, 1], [0.01, 1]])
        >>> found = near_duplicates(rows, [0, 0, 0, 1], threshold=0.99)
        >>> found.first, found.second, found.same
        (array([0, 2]), array([1, 3]), array([ True, False]))
    """
    directions, labels, _ = _checked(embeddings, labels, "embeddings", "labels", identities=1)
    first, second, cosine = _pairs_above(directions, directions, threshold, within=True)
    return AlikePairs(first, second, cosine, labels[first] == labels[second])


def shared_images(embeddings, other_embeddings, threshold):
    """Finds nearly identical images of two sets, such as test images that leaked into training.

    Args:
        embeddings, other_embeddings: float `(N, D)` and `(M, D)`, of one embedder.
        threshold: as in `near_duplicates`.

    Returns:
        `AlikePairs`, rows of the first and of the second set.

    Raises:
        ValueError: as `near_duplicates`.

    Example:
        >>> shared_images(np.eye(3), np.array([[0.0, 1.0, 0.01]]), 0.9).first
        array([1])
    """
    directions = _directions(embeddings, "embeddings")
    others = _directions(other_embeddings, "other_embeddings")
    _check_same_width(directions, others)
    return AlikePairs(*_pairs_above(directions, others, threshold, within=False))


def shared_identities(embeddings, labels, threshold, against=None):
    """Finds people who have two labels, within one set or in two, by the means of their images.

    Args:
        embeddings, labels: of the set, as in `label_noise`.
        threshold: cosine of two means from which they count as one person, above -1 to 1. Means
            of several images are more alike than images: a threshold for images finds too much.
        against: `(embeddings, labels)` of another set, by the same embedder; by default the labels
            of the one set are compared with each other.

    Returns:
        `AlikePairs`, labels: `first < second` of one set, or of the first and the other set.

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
        return AlikePairs(known[first], known[second], cosine)
    others, other_labels, other_known = _checked(*against, "against[0]", "against[1]", identities=1)
    _check_same_width(directions, others)
    other_means = _means(others, other_labels)[1]
    first, second, cosine = _pairs_above(means, other_means, threshold, within=False)
    return AlikePairs(known[first], other_known[second], cosine)


def draw_audit(faces, noise, duplicates, file, most=40):
    """Draws a sheet of the doubtful images.

    A row for each of the worst suspects (the image, images of its identity, images of the one that
    it is nearer to) and for each pair of duplicates across two identities, the most alike first.

    Args:
        faces: the `FaceFolder` (or records) that the reports are about.
        noise: `LabelNoise`.
        duplicates: `AlikePairs` with `same`.
        file: picture to write, by its ending.
        most: rows of each kind.

    Raises:
        OSError: the picture cannot be written.
    """
    rows = []
    for row in noise.suspects[:most].tolist():
        own, nearest = faces.labels[row], noise.nearest[row]
        words = (
            f"{faces.paths[row]}: labelled {faces.identities[own]} ({noise.own[row]:.2f}), "
            f"nearer to {faces.identities[nearest]} ({noise.other[row]:.2f})"
        )
        rows.append((words, [[row], _some(faces, own, row), _some(faces, nearest, row)]))
    across = np.flatnonzero(~duplicates.same)[:most]
    for first, second, cosine in zip(
        duplicates.first[across].tolist(),
        duplicates.second[across].tolist(),
        duplicates.cosine[across],
        strict=True,
    ):
        words = (
            f"{faces.paths[first]} and {faces.paths[second]}: {cosine:.3f}, labelled "
            f"{faces.identities[faces.labels[first]]} and {faces.identities[faces.labels[second]]}"
        )
        rows.append((words, [[first, second]]))
    side = faces.image_size
    width = side * (2 * _SHOWN + 2)
    sheet = Image.new("RGB", (width, max(1, len(rows)) * (side + _TEXT)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (words, groups) in enumerate(rows):
        top, left = number * (side + _TEXT), 0
        draw.text(
            (4, top + _TEXT - 16), words.encode("latin-1", "replace").decode("latin-1"), "black"
        )
        for group in groups:
            for row in group:
                image = read_face(faces.paths[row], side)
                sheet.paste(Image.fromarray(image), (left, top + _TEXT))
                left += side
            left += side // 4
    sheet.save(os.fspath(file))


def _some(faces, label, but):
    rows = np.flatnonzero(faces.labels == label)
    return rows[rows != but][:_SHOWN].tolist()


def _means(directions, labels):
    """Sums of unit vectors by label, and their directions, float32 `(C, D)`."""
    sums = np.zeros((labels.max() + 1, directions.shape[1]), "float32")
    np.add.at(sums, labels, directions)
    return sums, sums / np.maximum(_lengths(sums), 1e-12)[:, None]


def _pairs_above(ours, theirs, threshold, within):
    """First rows, second rows and cosines of the pairs from a threshold on, in descending order."""
    if not -1 < threshold <= 1:
        raise ValueError(
            f"`threshold` is a cosine, above -1 to 1. Received: threshold={threshold!r}"
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
                    f"More than {_MOST:,} pairs have a cosine of threshold={threshold} or more, "
                    "which are no duplicates any more. Raise `threshold`."
                )
            found.append((rows + start, columns + other, cosines[rows, columns]))
    first, second, cosine = map(np.concatenate, zip(*found, strict=True))
    order = np.lexsort((second, first, -cosine))
    return first[order], second[order], cosine[order]


def _checked(embeddings, labels, name, labels_name, identities=2):
    """Unit vectors, labels numbered 0 .. C-1 without a gap, and what they were."""
    directions = _directions(embeddings, name)
    labels = np.asarray(labels)
    if labels.shape != (len(directions),) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError(
            f"`{labels_name}` must hold an integer from 0 on for each of `{name}`. Received: "
            f"shape {labels.shape}, dtype {labels.dtype} for {len(directions):,} embeddings"
        )
    known, numbers = np.unique(labels, return_inverse=True)
    if len(known) < identities:
        raise ValueError(
            f"`{labels_name}` must name at least two identities. Received: label {labels[0]} only"
        )
    return directions, numbers, known.astype("int64")


def _directions(embeddings, name):
    embeddings = real_numbers(embeddings, name).astype("float32", copy=False)
    if embeddings.ndim != 2 or not embeddings.size:
        raise ValueError(
            f"`{name}` must be of shape (N, D), with a row at least. "
            f"Received: shape {embeddings.shape}"
        )
    lengths = _lengths(embeddings)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise ValueError(
            f"An embedding must be finite and not 0. Received: {name}[{bad[0]}] of length "
            f"{lengths[bad[0]]}"
        )
    return embeddings / lengths[:, None]


def _lengths(rows):
    return np.sqrt(np.einsum("nd,nd->n", rows, rows))


def _check_same_width(ours, theirs):
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(
            "Both sets must be embedded by one embedder. Received: embeddings of "
            f"{ours.shape[1]} and of {theirs.shape[1]} numbers"
        )
