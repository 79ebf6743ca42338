"""PairwiseLoss: the base class of the losses in this room.

A pairwise loss needs only to know which samples of the batch share a label. This file compares the
integer labels before Keras casts them to the loss's float type.
"""

import inspect
import math

import keras
import numpy as np
from keras import ops

from keras_facemargin.backend.dry_run import is_dry_run
from keras_facemargin.heads.margin_head.arguments import shown
from keras_facemargin.heads.margin_head.labels import is_tensor, one_each
from keras_facemargin.losses.distances import get_metric, itself

_NUMBER_THEM = (
    "Number the identities (`np.unique(labels, return_inverse=True)[1]`); cast whole numbers to "
    "int32."
)


class PairwiseLoss(keras.losses.Loss):
    """A Keras loss of integer labels (B,) and embeddings (B, D) that compares all pairs of a batch.

    `keras.losses.Loss` casts `y_true` to float: in float32 person 16,777,217 becomes 16,777,216, in
    float16 80,001 becomes infinity. Here `relate` turns the labels into a (B, B) matrix of zeros
    and ones while they are integers; Keras casts this matrix and passes it to `call`.

    A subclass gives `call(same, embeddings)`, the losses of the B anchors. `sum_over_batch_size`
    averages them; each class documents that scalar. `sample_weight` of shape (B,) weighs the
    anchors' losses; a sample of weight 0 remains a positive or a negative of others.

    A sample that is not finite (or so long that its squared length is not) makes the loss NaN.

    Computed in float32 under any global policy, or in float64 with `dtype="float64"`. Labels are
    integers of up to 64 bits; on jax, like all integers there, of 32.

    On several replicas of `tf.distribute` each compares the pairs of its own share of the batch, as
    in tensorflow-addons, and Keras averages the losses of the shares: each share should have
    several samples of each person.

    Args:
        name: of the loss.
        reduction: as of `keras.losses.Loss`.
        dtype: "float32" (None means this too) or "float64".

    Raises:
        ValueError: a half-precision `dtype`; labels that are not integers or not of shape (B,) or
            (B, 1); embeddings not of shape (B, D).
    """

    def __init__(self, *, name=None, reduction="sum_over_batch_size", dtype=None):
        if not isinstance(reduction, str | None):
            raise ValueError(
                "`reduction` must be one of Keras' names, such as 'sum_over_batch_size' or 'sum', "
                f"or None for the samples' losses. Received: reduction={shown(reduction)}"
            )
        super().__init__(name=name, reduction=reduction, dtype=dtype or "float32")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(
                "A pairwise loss computes in float32 or float64: half precision loses small "
                f"distances. Received: dtype={self.dtype!r}. Leave `dtype` out; under a mixed "
                "policy the embedder alone computes in half precision."
            )

    def __call__(self, y_true, y_pred, sample_weight=None):
        y_pred = ops.convert_to_tensor(y_pred)
        loss = super().__call__(self.relate(y_true, y_pred), y_pred, sample_weight)
        loss = loss + nan_unless_finite(ops.cast(y_pred, self.dtype))
        # Keras returns the losses of an empty batch without reduction.
        is_empty = tuple(loss.shape) == (0,)
        return ops.sum(loss) if is_empty and self.reduction not in (None, "none") else loss

    def relate(self, y_true, y_pred):
        """Labels before any cast -> (B, B) bool: whether samples i and j share their label."""
        if len(y_pred.shape) != 2:
            raise ValueError(
                "`y_pred` must be embeddings of shape (batch, dim). "
                f"Received: y_pred of shape {tuple(y_pred.shape)}. End the embedder in a Dense or "
                "Flatten layer."
            )
        return share_label(y_true, y_pred)

    def get_config(self):
        config = {**super().get_config(), "dtype": self.dtype}
        for name, parameter in inspect.signature(type(self).__init__).parameters.items():
            if name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
                config[name] = getattr(self, name)
        return config


class MetricLoss(PairwiseLoss):
    """A pairwise loss with a margin and a choice of distance.

    Args:
        margin: in units of the distance, >= 0.
        distance_metric: "L2", "squared-L2", "angular", or a function from (B, D) float32
            embeddings to the (B, B) matrix of their distances, written in `keras.ops`. Register the
            function (`keras.saving.register_keras_serializable`) to save the loss with a model.
        name: of the loss.
        **kwargs: `reduction` and `dtype`.

    Raises:
        ValueError: `margin` is negative or not a number; `distance_metric` is unknown.
    """

    def __init__(self, margin=1.0, distance_metric="L2", *, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        self.margin = check_margin(margin)
        self.distances = get_metric(distance_metric)
        self.distance_metric = distance_metric

    def get_config(self):
        config = super().get_config()
        if callable(self.distance_metric):
            config["distance_metric"] = keras.saving.serialize_keras_object(self.distance_metric)
        return config

    @classmethod
    def from_config(cls, config):
        if isinstance(config.get("distance_metric"), dict):
            metric = keras.saving.deserialize_keras_object(config["distance_metric"])
            config = {**config, "distance_metric": metric}
        return cls(**config)


def nan_unless_finite(samples):
    """0, or NaN if a sample (B, ...) or its squared length is not finite.

    Every loss compares all samples and searches for a largest and a smallest distance. Backends
    differ in whether these become NaN, while the gradient is NaN on all of them.
    """
    lengths = ops.sum(ops.square(samples), axis=tuple(range(1, len(samples.shape))))
    finite = ops.all(ops.isfinite(lengths))
    return ops.cast(ops.where(finite, 0.0, float("nan")), samples.dtype)


def share_label(labels, y_pred):
    """(B, B) bool: whether samples i and j share their label. Exact for every integer type."""
    if not is_tensor(labels):
        labels = numbered(labels)
    labels = ops.convert_to_tensor(labels)
    dtype = keras.backend.standardize_dtype(labels.dtype)
    labels = flat("y_true", labels, "For one-hot labels pass `ops.argmax(y_true, -1)`.")
    if "int" not in dtype and not is_dry_run():
        raise ValueError(
            "`y_true` must be integers: the identity of each sample. "
            f"Received: y_true of dtype {dtype}. {_NUMBER_THEM}"
        )
    check_same_batch(labels, y_pred)
    labels = one_each("y_true", labels, y_pred)
    labels = ops.cast(labels, "int64" if dtype in ("int64", "uint64") else "int32")
    return ops.equal(ops.expand_dims(labels, 1), ops.expand_dims(labels, 0))


def numbered(labels):
    """Labels of an array or list; integers of more than 32 bits are renumbered.

    Only equality matters, and a backend without int64, as jax by default, would truncate numbers
    silently: person 2**32 would become person 0.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iufb":
        raise ValueError(
            "`y_true` must be integers: the identity of each sample. "
            f"Received: y_true of dtype {labels.dtype}. {_NUMBER_THEM}"
        )
    if labels.dtype.kind not in "iu" or labels.dtype.itemsize < 8:
        return labels
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype("int32")


def flat(name, values, way_out):
    """(B,) or (B, 1) -> (B,); an error for other shapes."""
    if len(values.shape) == 2 and values.shape[-1] == 1:
        values = ops.squeeze(values, -1)
    if len(values.shape) != 1:
        raise ValueError(
            f"`{name}` must be of shape (batch,) or (batch, 1). "
            f"Received: {name} of shape {tuple(values.shape)}. {way_out}"
        )
    return values


def check_same_batch(y_true, y_pred):
    here, there = y_true.shape[0], y_pred.shape[0]
    if here is not None and there is not None and here != there:
        raise ValueError(
            "`y_true` and `y_pred` must hold the same samples. "
            f"Received: y_true of shape {tuple(y_true.shape)}, y_pred of shape "
            f"{tuple(y_pred.shape)}. Pass one label for each row of `y_pred`."
        )


def check_margin(margin):
    """The margin as a float; an error for other values."""
    is_number = isinstance(margin, (int, float)) and not isinstance(margin, bool)
    if not is_number or not math.isfinite(margin) or margin < 0:
        raise ValueError(
            "`margin` must be a finite number of at least 0, in units of the distance. "
            f"Received: margin={shown(margin)}. "
            "Embeddings of length 1 are 0 to 2 apart: try 0.2 to 1."
        )
    return float(margin)


def split(same):
    """(B, B) zeros and ones, or bool -> positives (without the sample itself), negatives: bool."""
    same = ops.cast(same, "bool")
    return ops.logical_and(same, ops.logical_not(itself(same))), ops.logical_not(same)


def per_pair_mean(terms, positives):
    """Sums of each row, scaled so that their mean over the batch is the mean over positives.

    Without any positive every row is 0 (tensorflow-addons divides 0 by 0 there).
    """
    number = ops.sum(ops.cast(positives, terms.dtype))
    size = ops.cast(ops.shape(terms)[0], terms.dtype)
    return ops.sum(terms, axis=1) * (size / ops.maximum(number, 1.0))
