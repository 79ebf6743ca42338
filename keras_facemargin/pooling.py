"""Pools the embeddings of a template, several images of one person, into one embedding.

A template is a set of still images and video frames of one person. Pooling weighs its features,
adds them and divides by the length of the sum, so that a dot product of templates is a cosine:

    r = Σ_k w_k f_k,    template = r / |r|

| pooling | w_k |
| --- | --- |
| mean (`video_pooling`) | 1 / K |
| quality (`quality_pooling`) | softmax over k of λ l_k, l_k = min(log(d_k / (1 - d_k)) / 2, 7) |
| media (`media_pooling`) | 1 / (number of media x number of images in the image's medium) |
| both | softmax over media of λ (mean l of the medium), shared equally within the medium |

d_k in [0, 1] is the quality of image k, such as a detector's score (Crystal Loss,
arXiv:1804.01159). A medium is a still image or a video; the frames of a video count together as
much as one still.

Templates of different sizes are padded, ``(T, K, D)`` with a mask (`quality_pooling`,
`media_pooling`, their layers), or all images are in a row, ``(N, D)`` with a template number for
each (`segment_pooling`; `pool_templates` takes arrays with any identifiers). Every function
computes in float32, or in float64 if the features are float64, on any backend. A template without
an image is the zero vector, with a gradient of zero; `keras_facemargin.evaluate` refuses it and
names its row.
"""

import keras
import numpy as np
from keras import ops

from keras_facemargin.heads.margin_head.arguments import check_integer, check_number, shown
from keras_facemargin.heads.margin_head.labels import is_tensor
from keras_facemargin.margins import direction_of
from keras_facemargin.template_pooling import (
    LIMIT,
    SHORTEST,
    check_quality,
    check_same_shape,
    pool_templates,
)

__all__ = [
    "MediaPooling",
    "QualityPooling",
    "attenuate",
    "media_pooling",
    "pool_templates",
    "quality_logits",
    "quality_pooling",
    "segment_pooling",
    "video_pooling",
]


def quality_logits(quality):
    """`min(log(d / (1 - d)) / 2, 7)` of qualities d: Crystal Loss (arXiv:1804.01159).

    The paper's formula has no lower limit; here it is -7 (d = 8.3e-7), so that a template whose
    qualities are all 0 has weights too. Where implementations differ: another one in use adds 1e-8
    to d and to 1 - d, so that its lower limit is -9.2. At the limits the gradient is zero.

    Args:
        quality: float tensor of any shape, in [0, 1]; other numbers in a tensor count as 0 or 1.

    Returns:
        Tensor of the same shape, in [-7, 7].

    Raises:
        ValueError: `quality` is a NumPy array or list, and holds a number outside [0, 1].

    Example:

    >>> from keras_facemargin import pooling
    >>> [round(float(l), 6) for l in pooling.quality_logits([0.5, 0.75, 0.9, 1.0])]
    [0.0, 0.549306, 1.098612, 7.0]
    """
    _check_quality(quality)
    quality = _float(quality)
    # Outside the limits, but the derivative 1 / (2 d (1 - d)) is finite there.
    inner = ops.clip(quality, 2.0**-23, 1.0 - 2.0**-23)
    logits = 0.5 * (ops.log(inner) - ops.log1p(-inner))
    return ops.clip(logits, -LIMIT, LIMIT)


def quality_pooling(features, quality, quality_weight, *, present=None, media=None):
    """Quality pooling of padded templates: Crystal Loss (arXiv:1804.01159).

    `quality_weight` is the paper's λ: with 0 the result is the mean, with a large number the best
    image alone. It has no default, because the paper chooses it on held-out data.

    With `media` the weight of a medium is the softmax of λ times the mean logit of its images, and
    its images have equal parts of it. With `quality_weight` = 0 the result is that of
    `media_pooling`; with one image per medium it is that without `media`. Where implementations
    differ: one that cites the paper weighs a video's frames like stills, as here without `media`.

    Args:
        features: ``(T, K, D)`` float, K images of T templates, of unit length, or raw if the
            embedder's recipe has it so: then a feature also weighs by its length.
        quality: ``(T, K)`` float in [0, 1].
        quality_weight: λ >= 0.
        present: ``(T, K)`` bool, False for padding, whose values have no effect; None: no padding.
        media: ``(T, K)`` numbers: images of a template with the same number belong to one medium.
            Takes memory for T K^2 numbers.

    Returns:
        ``(T, D)`` of unit length; zeros for a template without an image.

    Raises:
        ValueError: `quality_weight` is negative or not finite; shapes do not fit; `quality` as
            `quality_logits`.

    Example:

    >>> from keras_facemargin import pooling
    >>> faces = [[[1.0, 0.0], [0.0, 1.0]]]
    >>> sharp_and_blurred = [[0.9, 0.5]]
    >>> pooled = pooling.quality_pooling(faces, sharp_and_blurred, quality_weight=1.0)
    >>> [round(float(x), 4) for x in pooled[0]]
    [0.9487, 0.3162]
    """
    _check_quality_weight(quality_weight)
    logits = quality_weight * quality_logits(quality)
    return _pooled(_float(features), logits, present, media)


def media_pooling(features, media, *, present=None):
    """Media pooling of padded templates: the mean of the means of the media.

    Usual for IJB-A, B and C: a video of a thousand frames counts as much as one still. Where
    implementations differ: InsightFace adds the means of the media, which gives the same direction.

    Args:
        features, media, present: as `quality_pooling`.

    Returns:
        ``(T, D)`` of unit length; zeros for a template without an image.

    Raises:
        ValueError: shapes do not fit.

    Example:

    >>> from keras_facemargin import pooling
    >>> two_frames_and_a_still = [[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]]
    >>> pooled = pooling.media_pooling(two_frames_and_a_still, media=[[7, 7, 8]])
    >>> [round(float(x), 4) for x in pooled[0]]
    [0.7071, 0.7071]
    """
    features = _float(features)
    return _pooled(features, ops.zeros_like(features[..., 0]), present, media)


def video_pooling(features, *, present=None):
    """Video pooling: the mean of a video's frames, divided by its length.

    Most papers compare these on YouTube Faces. Where implementations differ: NormFace averages the
    scores of all pairs of frames instead.

    Args:
        features: ``(V, K, D)`` float, K frames of V videos.
        present: ``(V, K)`` bool, False for padding; None: no padding.

    Returns:
        ``(V, D)`` of unit length; zeros for a video without a frame.

    Raises:
        ValueError: shapes do not fit.

    Example:

    >>> from keras_facemargin import pooling
    >>> [round(float(x), 2) for x in pooling.video_pooling([[[3.0, 0.0], [0.0, 4.0]]])[0]]
    [0.6, 0.8]
    """
    features = _float(features)
    return _pooled(features, ops.zeros_like(features[..., 0]), present, None)


def segment_pooling(
    features,
    templates,
    num_templates,
    *,
    quality=None,
    quality_weight=0.0,
    media=None,
    num_media=None,
):
    """Mean, quality or media pooling of a list of images, each with the number of its template.

    Args:
        features: ``(N, D)`` float.
        templates: ``(N,)`` integers in [0, `num_templates`), in any order.
        num_templates: T, the number of templates.
        quality: ``(N,)`` float in [0, 1], or None.
        quality_weight: λ >= 0 of `quality_pooling`; 0 without `quality`.
        media: ``(N,)`` integers in [0, `num_media`), or None. A medium belongs to one template: a
            video with frames in two of them has two numbers.
        num_media: number of media over all templates, with `media`.

    Returns:
        ``(T, D)`` of unit length; zeros for a template without an image.

    Raises:
        ValueError: `quality_weight` is negative or not finite, or not 0 without `quality`; one of
            `media` and `num_media` is missing; shapes do not fit; `quality` as `quality_logits`.

    Example:

    >>> from keras_facemargin import pooling
    >>> rows = [[1.0, 0.0], [0.0, 2.0], [0.0, 1.0]]
    >>> pooled = pooling.segment_pooling(rows, templates=[0, 1, 0], num_templates=2)
    >>> [[round(float(x), 4) for x in row] for row in pooled]
    [[0.7071, 0.7071], [0.0, 1.0]]
    """
    _check_quality_weight(quality_weight)
    if quality is None and quality_weight:
        raise ValueError(
            "A `quality_weight` above 0 needs `quality`. "
            f"Received: quality_weight={quality_weight} without quality. Pass the qualities, or "
            "quality_weight=0 for the mean."
        )
    if (media is None) != (num_media is None):
        raise ValueError(
            "`media` and `num_media` must be given together. "
            f"Received: media={'None' if media is None else 'given'}, num_media={num_media}."
        )
    check_integer("num_templates", num_templates, 1)
    features = _float(features)
    _check_shape("features", features.shape, 2, "(N, D)")
    row_shape = tuple(features.shape[:1])
    templates = _numbers("templates", templates, num_templates, row_shape)
    logits = ops.zeros_like(features[:, 0])
    if quality is not None:
        logits = quality_weight * ops.cast(quality_logits(quality), features.dtype)
        check_same_shape("quality", logits.shape, row_shape)
    share = ops.ones_like(logits)
    if media is not None:
        check_integer("num_media", num_media, 1)
        media = _numbers("media", media, num_media, row_shape)
        share = 1.0 / ops.take(ops.segment_sum(share, media, num_media), media)
        logits = ops.take(ops.segment_sum(logits * share, media, num_media), media)
    top = ops.stop_gradient(ops.segment_max(ops.stop_gradient(logits), templates, num_templates))
    # Not divided by their sum, because the pooled vector is divided by its length.
    weights = share * ops.exp(logits - ops.take(top, templates))
    pooled = ops.segment_sum(weights[:, None] * features, templates, num_templates)
    return direction_of(pooled, SHORTEST)


def attenuate(scores, quality_a, quality_b, *, threshold, ratio):
    """Quality attenuation: lowers the score of a pair if one of its templates has low quality.

        s' = min(s, s / ratio)  if min(quality_a, quality_b) <= threshold,  else  s

    The abstract of Crystal Loss (arXiv:1804.01159) states that the score is rescaled by the quality
    of the pair. Other users of the paper apply this rule, with the quality of a template's best
    image. The rule and values of `threshold` and `ratio` could not be checked against the paper, so
    they have no defaults: choose them on held-out pairs. A negative score does not change, because
    division would raise it. Between templates of LFW, half of them degraded, a ratio of 1.1 to 1.2
    raised TAR at FAR 1e-3 by 1.3 to 1.7 points, and one of 2 lowered it by 7 (docs/pooling.csv).

    Args:
        scores: similarities, ``(N,)``.
        quality_a, quality_b: quality of the two templates of each pair, ``(N,)`` in [0, 1].
        threshold: in [0, 1].
        ratio: >= 1; 1 changes nothing.

    Returns:
        float64 ``(N,)``, at most `scores`.

    Raises:
        ValueError: shapes differ, or a number is out of its range.

    Example:

    >>> from keras_facemargin import pooling
    >>> scores = [0.55, 0.55, -0.1]
    >>> attenuated = pooling.attenuate(scores, [0.9, 0.6, 0.6], [0.9] * 3, threshold=0.7, ratio=1.1)
    >>> attenuated.round(2).tolist()
    [0.55, 0.5, -0.1]
    """
    scores = np.asarray(scores, np.float64)
    for name, quality in {"quality_a": quality_a, "quality_b": quality_b}.items():
        check_same_shape(name, np.shape(quality), scores.shape)
        _check_quality(np.asarray(quality), name)
    check_number("threshold", threshold, "is a quality in [0, 1]", lambda value: 0 <= value <= 1)
    rule = "must be at least 1, because scores are divided by it"
    check_number("ratio", ratio, rule, lambda value: value >= 1)
    poor = np.minimum(quality_a, quality_b) <= threshold
    return np.where(poor, np.minimum(scores, scores / ratio), scores)


@keras.saving.register_keras_serializable("keras_facemargin")
class QualityPooling(keras.layers.Layer):
    """`quality_pooling` as a layer: ``layer(features, quality, present=None, media=None)``.

    The layer has no weights and can end the graph of an embedder. It computes in float32 under any
    global policy: half precision is too coarse for weights and lengths.

    Args:
        quality_weight: λ >= 0; 0 is the mean.
        **kwargs: of `keras.layers.Layer`; `dtype` may be "float32" or "float64".

    Input shape:
        `features` (T, K, D), `quality` (T, K) in [0, 1], `present` (T, K) bool, `media` (T, K).

    Output shape:
        (T, D), of unit length; zeros for a template without an image.

    Raises:
        ValueError: `quality_weight` is negative or not finite; `dtype` is of half precision; shapes
            do not fit.

    Example:

    >>> import keras
    >>> from keras_facemargin.pooling import QualityPooling
    >>> features, quality = keras.Input((None, 128)), keras.Input((None,))
    >>> pooled = QualityPooling(quality_weight=0.5)(features, quality)
    >>> model = keras.Model([features, quality], pooled)
    >>> model.output_shape
    (None, 128)
    """

    def __init__(self, quality_weight, **kwargs):
        super().__init__(**_float32_policy(kwargs))
        _check_precision(self)
        _check_quality_weight(quality_weight)
        self.quality_weight = float(quality_weight)

    def call(self, features, quality, present=None, media=None):
        return quality_pooling(features, quality, self.quality_weight, present=present, media=media)

    def get_config(self):
        return {**super().get_config(), "quality_weight": self.quality_weight}

    @classmethod
    def from_config(cls, config):
        if "lam" in config:  # saved before it was renamed
            config = {**config, "quality_weight": config["lam"]}
            del config["lam"]
        return super().from_config(config)


@keras.saving.register_keras_serializable("keras_facemargin")
class MediaPooling(keras.layers.Layer):
    """`media_pooling` as a layer: ``layer(features, media, present=None)``.

    It computes in float32 under any global policy.

    Args:
        **kwargs: of `keras.layers.Layer`; `dtype` may be "float32" or "float64".

    Input shape:
        `features` (T, K, D), `media` (T, K) integers, `present` (T, K) bool.

    Output shape:
        (T, D), of unit length; zeros for a template without an image.

    Raises:
        ValueError: `dtype` is of half precision; shapes do not fit.

    Example:

    >>> import keras
    >>> from keras_facemargin.pooling import MediaPooling
    >>> features, media = keras.Input((None, 128)), keras.Input((None,), dtype="int32")
    >>> keras.Model([features, media], MediaPooling()(features, media)).output_shape
    (None, 128)
    """

    def __init__(self, **kwargs):
        super().__init__(**_float32_policy(kwargs))
        _check_precision(self)

    def call(self, features, media, present=None):
        return media_pooling(features, media, present=present)


def _pooled(features, logits, present, media):
    """Pools padded templates by the softmax of `logits`, which are averaged within a medium."""
    _check_shape("features", features.shape, 3, "(T, K, D)")
    images = tuple(features.shape[:2])
    check_same_shape("quality", logits.shape, images)
    logits = ops.cast(logits, features.dtype)
    if present is None:
        present = ops.ones_like(logits, dtype="bool")
    else:
        present = ops.cast(ops.convert_to_tensor(present), "bool")
        check_same_shape("present", present.shape, images)
        # Padding may be NaN, and a weight of zero times NaN is NaN.
        features = ops.where(present[..., None], features, ops.zeros_like(features))
        logits = ops.where(present, logits, ops.zeros_like(logits))
    share = ops.cast(present, features.dtype)
    if media is not None:
        if not is_tensor(media):  # a backend may truncate large numbers
            media = np.unique(media, return_inverse=True)[1].reshape(np.shape(media))
        media = ops.convert_to_tensor(media)
        check_same_shape("media", media.shape, images)
        together = ops.cast(media[:, :, None] == media[:, None, :], features.dtype)
        together = together * share[:, None, :]
        sizes = ops.maximum(ops.sum(together, axis=2), 1.0)
        logits = ops.sum(together * logits[:, None, :], axis=2) / sizes
        share = share / sizes
    top = ops.max(ops.where(present, logits, -1e30 * ops.ones_like(logits)), axis=1, keepdims=True)
    below = ops.where(present, logits - ops.stop_gradient(top), ops.zeros_like(logits))
    # Not divided by their sum, because the pooled vector is divided by its length.
    weights = share * ops.exp(below)
    return direction_of(ops.sum(weights[..., None] * features, axis=1), SHORTEST)


def _float(values):
    """A tensor of float32, or of float64 if the values are."""
    values = ops.convert_to_tensor(values)
    dtype = keras.backend.standardize_dtype(values.dtype)
    return values if dtype == "float64" else ops.cast(values, "float32")


def _numbers(name, values, count, shape):
    """Numbers of templates or media as int32; those of an array or list are checked first."""
    values = values if is_tensor(values) else np.asarray(values)
    check_same_shape(name, values.shape, shape)
    if is_tensor(values):
        return ops.cast(values, "int32")
    whole = values.dtype.kind in "iuf" and np.all(values % 1 == 0)
    if not whole or (values.size and (values.min() < 0 or values.max() >= count)):
        found = f"{values.min()} to {values.max()}" if whole else shown(values)
        raise ValueError(
            f"`{name}` must be integers in [0, {count}), the numbers that `num_{name}` counts. "
            f"Received: {found}. `pool_templates` takes identifiers of any kind."
        )
    return ops.convert_to_tensor(values.astype("int32"))


def _float32_policy(kwargs):
    # Not the global policy, which may be half precision.
    dtype = keras.DTypePolicy("float32") if kwargs.get("dtype") is None else kwargs["dtype"]
    return {**kwargs, "dtype": dtype}


def _check_precision(layer):
    if layer.compute_dtype not in ("float32", "float64"):
        raise ValueError(
            "A pooling layer computes in float32 or float64. "
            f"Received: dtype={layer.compute_dtype!r}. Leave `dtype` out; under a mixed policy the "
            "embedder alone computes in half precision."
        )


def _check_quality_weight(quality_weight):
    rule = "must be a number of at least 0; 0 gives the mean"
    check_number("quality_weight", quality_weight, rule, lambda value: value >= 0)


def _check_quality(quality, name="quality"):
    """Checks arrays and lists; the values of a tensor are known only when the graph runs."""
    if not isinstance(quality, np.ndarray | list | tuple | float | int):
        return
    check_quality(quality, name)


def _check_shape(name, shape, rank, letters):
    if len(shape) != rank:
        raise ValueError(f"`{name}` must be of shape {letters}. Received: shape {tuple(shape)}.")
