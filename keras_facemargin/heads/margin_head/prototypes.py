"""The prototypes of a head: one row per class, how they are trained and stored."""

import math

import keras
import numpy as np
from keras import ops

from keras_facemargin.heads.margin_head.arguments import check_integer, check_number
from keras_facemargin.heads.margin_head.labels import IGNORED
from keras_facemargin.heads.margin_head.layer import LabelledLayer
from keras_facemargin.heads.margin_head.shards import shard_count


class PrototypeLayer(LabelledLayer):
    """A layer with a row of weights for each class; `MarginHead` uses them.

    Rows of padding fill them up to a multiple of the devices that share them (`shards`). A step may
    train some rows only (`sampling`): these have weights of their own. Arguments as `MarginHead`.
    """

    def __init__(
        self,
        num_classes,
        *,
        prototypes_initializer="glorot_uniform",
        prototypes_regularizer=None,
        prototypes_constraint=None,
        sample_rate=1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_integer("num_classes", num_classes, 2)
        self.num_classes = int(num_classes)
        self.prototypes_initializer = keras.initializers.get(prototypes_initializer)
        self.prototypes_regularizer = keras.regularizers.get(prototypes_regularizer)
        self.prototypes_constraint = keras.constraints.get(prototypes_constraint)
        check_number(
            "sample_rate",
            sample_rate,
            "is the share of the prototypes that a step trains and must be in (0, 1]",
            lambda rate: 0 < rate <= 1,
        )
        self.sample_rate = float(sample_rate)
        if self.samples and self._penalties():
            raise ValueError(
                "A regularizer or constraint of the prototypes needs all of them in every step. "
                f"Received: {self._penalties()} with sample_rate={self.sample_rate}. "
                "Leave one of the two out."
            )

    def _penalties(self):
        """Names of the arguments that need every prototype in every step, with their values."""
        given = {
            "prototypes_regularizer": self.prototypes_regularizer,
            "prototypes_constraint": self.prototypes_constraint,
        }
        return ", ".join(f"{k}={type(v).__name__}" for k, v in given.items() if v is not None)

    @property
    def prototypes_shape(self):
        """Shape of the prototypes: one row per class, and rows of padding (`shards`)."""
        return (self.num_rows, self.embedding_dim)

    @property
    def num_rows(self):
        """Number of classes, rounded up to a multiple of the devices that share the prototypes."""
        shards = shard_count()
        return -(-self.num_classes // shards) * shards

    @property
    def samples(self):
        """Whether a step trains only some of the prototypes."""
        return self.sample_rate < 1

    def add_prototypes(self, embedding_dim):
        """Adds the weights with a row for each class, in `build`."""
        if self.samples and shard_count() > 1:
            raise ValueError(
                "Prototypes that are split over devices cannot be sampled. Received: "
                f"sample_rate={self.sample_rate} under PrototypeParallel. Leave one of the two out."
            )
        if self.num_rows > self.num_classes and self._penalties():
            raise ValueError(
                "A regularizer or constraint of the prototypes must not meet rows of padding. "
                f"Received: {self._penalties()} with num_classes={self.num_classes} on "
                f"{shard_count()} devices. Leave it out, or choose a number of devices that "
                "divides num_classes."
            )
        self.embedding_dim = embedding_dim
        self.prototypes = self.add_weight(
            name="prototypes",
            shape=self.prototypes_shape,
            initializer=self.prototypes_initializer,
            regularizer=self.prototypes_regularizer,
            constraint=self.prototypes_constraint,
        )
        self.bias = None
        self.sample = self.sample_bias = None
        if self.samples:
            self._add_sample()

    def _add_sample(self):
        rows = math.ceil(self.sample_rate * self.num_classes)
        self.prototypes.trainable = False
        self.sample = self.add_weight(
            name="sample", shape=(rows, *self.prototypes_shape[1:]), initializer="zeros"
        )
        self.sample_rows = self.add_weight(
            name="sample_rows",
            shape=(rows,),
            dtype="int32",
            initializer=lambda shape, dtype=None: ops.arange(shape[0], dtype=dtype),
            trainable=False,
            aggregation="only_first_replica",
        )

    def add_bias(self):
        """Adds one bias per class, initially 0."""
        self.bias = self.add_weight(name="bias", shape=(self.num_rows,), initializer="zeros")
        if self.samples:
            self.bias.trainable = False
            self.sample_bias = self.add_weight(
                name="sample_bias", shape=self.sample.shape[:1], initializer="zeros"
            )

    def class_weights(self, sampled=False):
        """The prototypes and, if there is one, the bias; `sampled`, those of a step's sample."""
        weights = (self.sample, self.sample_bias) if sampled else (self.prototypes, self.bias)
        return tuple(ops.convert_to_tensor(weight) for weight in weights if weight is not None)

    def labels_in_sample(self, labels):
        """The row of each label in the sample, and whether the sample lacks it."""
        rows = ops.convert_to_tensor(self.sample_rows)
        places = ops.cast(ops.searchsorted(rows, ops.maximum(labels, 0)), "int32")
        places = ops.minimum(places, rows.shape[0] - 1)
        missing = ops.not_equal(ops.take(rows, places, axis=0), labels)
        ignored = ops.equal(labels, IGNORED)
        return ops.where(ignored, IGNORED, places), ops.logical_and(
            missing, ops.logical_not(ignored)
        )

    @property
    def other_weights(self):
        """All weights without a row for each class."""
        of_classes = (self.prototypes, self.bias, self.sample, self.sample_bias)
        return [w for w in self.weights if not any(w is other for other in of_classes)]

    def set_prototypes(self, prototypes, *, classes=None):
        """Assigns prototypes of another head, or the mean embeddings of the classes.

        If they have more sub-centres than this head, the first ones are used; if they have fewer,
        the other sub-centres keep their values.

        Args:
            prototypes: (C, D) or (C, K, D) float array or weight.
            classes: the class of each row, if only some of the prototypes are assigned; the others
                keep their values. None: all classes in order.

        Raises:
            ValueError: the classes or the length of the embeddings differ; `classes` are not
                different classes of the head; the head is not built.

        Example:

        >>> from keras_facemargin import CosFace
        >>> head = CosFace(num_classes=3)
        >>> head.build((None, 4))
        >>> head.set_prototypes(np.zeros((3, 4)))
        >>> head.set_prototypes(np.ones((1, 4)), classes=[2])
        >>> keras.ops.convert_to_numpy(head.prototypes)[:, 0].tolist()
        [0.0, 0.0, 1.0]
        """
        if not self.built:
            raise ValueError(
                "A head has no prototypes before it is built. Received: an unbuilt "
                f"{type(self).__name__}. Call `build((None, embedding_dim))`, or make a "
                "MarginClassifier of it."
            )
        taken = ops.convert_to_numpy(prototypes)
        if classes is None:
            if len(taken) == self.num_rows:
                taken = taken[: self.num_classes]  # another head's, with its padding
            classes = np.arange(self.num_classes)
        classes = self._checked_classes(classes)
        if taken.ndim not in (2, 3) or (len(taken), taken.shape[-1]) != (
            len(classes),
            self.embedding_dim,
        ):
            raise ValueError(
                "`prototypes` must have a row of an embedding's length for each class: shape "
                f"({len(classes)}, {self.embedding_dim}), sub-centres in between. "
                f"Received: prototypes of shape {taken.shape}."
            )
        rows = np.array(ops.convert_to_numpy(self.prototypes)[: self.num_classes])
        centers = rows.reshape(self.num_classes, -1, self.embedding_dim)
        taken = taken.reshape(len(classes), -1, self.embedding_dim)
        count = min(centers.shape[1], taken.shape[1])
        centers[classes, :count] = taken[:, :count]
        self.prototypes.assign(_padded(centers.reshape(rows.shape), self.num_rows))

    def _checked_classes(self, classes):
        """The numbers of different classes, as an integer array."""
        numbers = np.asarray(classes)
        if (
            numbers.ndim != 1
            or not (len(numbers) and np.issubdtype(numbers.dtype, np.integer))
            or len(np.unique(numbers)) < len(numbers)
            or not 0 <= numbers.min() <= numbers.max() < self.num_classes
        ):
            raise ValueError(
                f"`classes` must be different integers in 0..{self.num_classes - 1}. "
                f"Received: classes={classes!r:.200}"
            )
        return numbers

    def prototypes_config(self):
        """The arguments of this class, for `get_config`."""
        return {
            "prototypes_initializer": keras.initializers.serialize(self.prototypes_initializer),
            "prototypes_regularizer": keras.regularizers.serialize(self.prototypes_regularizer),
            "prototypes_constraint": keras.constraints.serialize(self.prototypes_constraint),
            "sample_rate": self.sample_rate,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if "initializer" in config:  # the name of the argument in older files
            config["prototypes_initializer"] = config.pop("initializer")
        return cls(**config)

    def save_own_variables(self, store):
        if self.num_rows == self.num_classes:
            return super().save_own_variables(store)
        whole = {}
        super().save_own_variables(whole)
        for key, value in whole.items():
            # Padding depends on the devices, so a file has none.
            padded = value.shape[:1] == (self.num_rows,)
            store[key] = np.asarray(value)[: self.num_classes] if padded else value

    def load_own_variables(self, store):
        if self.num_rows > self.num_classes:
            store = {key: np.asarray(store[key]) for key in tuple(store.keys())}
            for key, value in store.items():
                if value.ndim and len(value) == self.num_classes:
                    store[key] = _padded(value, self.num_rows)
        super().load_own_variables(store)


def _padded(rows, count):
    """The rows, followed by zeros up to a count."""
    return np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]), rows.dtype)])
