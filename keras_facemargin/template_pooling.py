"""Pools the embeddings of templates in NumPy, without Keras: `pool_templates`.

The equation and its layers are in `keras_facemargin.pooling`. Galleries and protocols pool arrays,
and an embedder in ONNX Runtime or LiteRT does not need Keras.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import embedding_rows, identifiers, real_numbers

# The upper limit of a logit in Crystal Loss: a quality of 0.99999917.
LIMIT = 7.0

# A shorter sum of features has no direction: it consists of rounding errors.
SHORTEST = 1e-15

# Images in float64 at a time.
_IMAGES_AT_ONCE = 16_384


def pool_templates(
    embeddings: npt.ArrayLike,
    template_ids: npt.ArrayLike,
    *,
    quality: npt.ArrayLike | None = None,
    quality_weight: float = 0.0,
    media_ids: npt.ArrayLike | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
    """Pools embeddings by template identifiers of any kind, as in the lists of the IJB protocols.

    Args:
        embeddings: ``(N, D)`` array.
        template_ids: ``(N,)`` integers or strings.
        quality: ``(N,)`` in [0, 1], or None.
        quality_weight: λ >= 0 of `keras_facemargin.pooling.quality_pooling`; 0 without `quality`.
        media_ids: ``(N,)`` integers or strings, or None. The same identifier in two templates is
            two media.

    Returns:
        ``templates`` float32 ``(T, D)`` of unit length, and ``ids`` ``(T,)``, their identifiers,
        sorted. A template whose embeddings add up to zero is zero.

    Raises:
        ValueError: lengths differ or no embedding is given; `quality` holds a number outside
            [0, 1]; `quality_weight` is negative or not finite, or not 0 without `quality`.

    Example:

    >>> from keras_facemargin import pooling
    >>> rows = [[1.0, 0.0], [0.0, 2.0], [0.0, 1.0]]
    >>> templates, ids = pooling.pool_templates(rows, ["ann", "bob", "ann"])
    >>> [str(name) for name in ids], templates.round(4).tolist()
    (['ann', 'bob'], [[0.7071, 0.7071], [0.0, 1.0]])
    """
    rows = embedding_rows(embeddings).astype(np.float32, copy=False)
    (template_ids,) = identifiers(template_ids=template_ids)
    given = {"template_ids": template_ids}
    if quality is not None:
        quality = given["quality"] = real_numbers(quality, "quality")
    if media_ids is not None:
        (media_ids,) = identifiers(media_ids=media_ids)
        given["media_ids"] = media_ids
    if not len(rows):
        raise ValueError(
            f"`embeddings` must be of shape (N, D), N > 0. Received: shape {rows.shape}."
        )
    for name, values in given.items():
        check_same_shape(name, values.shape, rows.shape[:1])
    if not 0 <= quality_weight < np.inf:
        raise ValueError(
            "`quality_weight` must be a number of at least 0; 0 gives the mean. "
            f"Received: quality_weight={quality_weight}."
        )
    if quality is None and quality_weight:
        raise ValueError(
            "A `quality_weight` above 0 needs `quality`. "
            f"Received: quality_weight={quality_weight} without quality. Pass the qualities, or "
            "quality_weight=0 for the mean."
        )
    ids, templates = np.unique(template_ids, return_inverse=True)
    logits: npt.NDArray[np.float64] = np.zeros(len(rows))
    if quality is not None:
        logits = quality_weight * _logits(quality)
    share: npt.NDArray[np.float64] = np.ones(len(rows))
    if media_ids is not None:
        names, numbers = np.unique(media_ids, return_inverse=True)
        media = np.unique(templates * len(names) + numbers, return_inverse=True)[1]
        share = 1.0 / np.bincount(media)[media]
        logits = np.bincount(media, logits * share).astype(np.float64)[media]
    top = np.full(len(ids), -np.inf)
    np.maximum.at(top, templates, logits)
    # Not divided by their sum, because the pooled vector is divided by its length.
    weights = share * np.exp(logits - top[templates])
    return _directions(rows, weights, templates, len(ids)), ids


def check_quality(quality: Any, name: str = "quality") -> None:
    """Refuses a quality outside [0, 1]."""
    quality = np.asarray(quality)
    bad = np.argwhere(~((quality >= 0) & (quality <= 1)))
    if len(bad):
        place = tuple(int(index) for index in bad[0])
        raise ValueError(
            f"`{name}` must be in [0, 1], like a detector's score. "
            f"Received: {quality[place]} at index {place}. Map another measure to a probability."
        )


def check_same_shape(name: str, shape: Any, expected: Any) -> None:
    """Raises if the shapes differ; a length of None equals any."""
    shape, expected = tuple(shape), tuple(expected)
    if len(shape) != len(expected) or any(
        a is not None and b is not None and a != b for a, b in zip(shape, expected, strict=True)
    ):
        raise ValueError(
            f"`{name}` must hold one value per image, shape {expected}. Received: shape {shape}."
        )


def _logits(quality: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    check_quality(quality)
    # Outside the limits.
    inner = np.clip(quality.astype(np.float64), 2.0**-23, 1.0 - 2.0**-23)
    return np.clip(0.5 * (np.log(inner) - np.log1p(-inner)), -LIMIT, LIMIT)


def _directions(
    rows: npt.NDArray[np.float32],
    weights: npt.NDArray[np.float64],
    templates: npt.NDArray[np.intp],
    count: int,
) -> npt.NDArray[np.float32]:
    """The directions of the weighted sums of rows, added in float64."""
    order = np.argsort(templates, kind="stable")
    starts = np.searchsorted(templates[order], np.arange(count + 1))
    pooled = np.empty((count, rows.shape[1]), np.float32)
    first = 0
    while first < count:
        # As many templates as fit, and at least one.
        last = int(np.searchsorted(starts, starts[first] + _IMAGES_AT_ONCE, "right")) - 1
        last = max(last, first + 1)
        images = order[starts[first] : starts[last]]
        sums = rows[images].astype(np.float64)
        if len(images) > last - first:  # one image alone has the direction of its embedding
            sums *= weights[images, None]
            sums = np.add.reduceat(sums, starts[first:last] - starts[first])
        length = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), SHORTEST)
        pooled[first:last] = sums / length
        first = last
    return pooled
