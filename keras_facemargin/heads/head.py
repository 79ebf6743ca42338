"""MarginHead: the one core that all margin softmaxes share.

Every loss of the field scores a sample against its own class one way and against the others
another way:

    z_y = s * target(cos_y),    z_j = s * others(cos_j; cos_y),    loss = -log softmax(z)_y

The core therefore works target first: it gathers the true class's prototype of each sample, takes
those B similarities in float32, applies the margin to B numbers, and only then forms the (B, C)
product. No one-hot labels, no arccos of a matrix.

A loss is a subclass that overrides one or two of eight hooks, each a term of that equation:

| hook | question it answers | default |
| --- | --- | --- |
| `features` | what of an embedding is compared? | its direction; its norm beside it |
| `measure` | how alike are features and prototypes? | cosine |
| `observe` | what does a training batch teach the head itself? | nothing |
| `target` | what becomes of the true class? | nothing |
| `others` | what becomes of the wrong classes? | nothing |
| `logits` | how are similarities scaled? | times the scale |
| `losses` | what do the logits of a sample cost? | softmax cross-entropy |
| `objective` | what is minimised in the end? | that cost |

Heads speak `keras.ops` only and run on the tensorflow, jax and torch backends.
"""

import inspect
import math

import keras
import numpy as np
from keras import ops

from keras_facemargin import margins
from keras_facemargin.heads.argument_check import check_positive
from keras_facemargin.heads.label_check import IGNORED, check_labels

_TINY = 1e-12  # of a squared norm: a zero vector has direction zero, not NaN


class MarginHead(keras.layers.Layer):
    """Turns embeddings into class logits, with a margin where the label says so.

    `head(embeddings, labels)` gives the logits to train on, `head(embeddings)` the plain ones to
    predict with; both are float32 of shape (B, C). `head.judge(embeddings, labels)` gives the
    per-sample losses directly.

    The head owns the class prototypes, weight `prototypes` of shape (C, D). It computes in float32
    whatever the global policy: cosines close to 1 do not survive half precision.

    A sample whose label is -1 belongs to no class: its logits are the plain ones, its loss is 0 and
    it moves nothing.

    Two scalar weights, 1 and `scale` unless a schedule moves them (`keras_facemargin.callbacks`):
    `margin_share` is how much of the margin is in force, `plain + share (margin - plain)` for every
    similarity (for CosFace that is the margin `share * m`); `scale_weight` is the scale in force.

    Args:
        num_classes: C, number of identities, integer >= 2.
        scale: s > 0, multiplies the similarities; None where a loss has no such factor.
        initializer: of the prototypes.
        detach_margin: whether the gradient is taken as if there were no margin, the straight-
            through gradient of insightface for PyTorch and opensphere (`margins.straight_through`);
            False takes the gradient of the loss itself.
        **kwargs: of `keras.layers.Layer`; `dtype` may be "float32" or "float64".

    Input shape:
        `embeddings`: (B, D) float. `labels`: (B,) or (B, 1) integers in [0, C), or -1; sparse.

    Raises:
        ValueError: an argument is out of range; labels are not integers, are one-hot, or lie
            outside [-1, C).
    """

    learn_scale = False

    def __init__(
        self,
        num_classes,
        scale=None,
        initializer="glorot_uniform",
        detach_margin=False,
        **kwargs,
    ):
        # Not the global policy, which may be half precision.
        dtype = keras.DTypePolicy("float32") if kwargs.get("dtype") is None else kwargs["dtype"]
        super().__init__(**{**kwargs, "dtype": dtype})
        if self.compute_dtype not in ("float32", "float64"):
            raise ValueError(
                "A margin head computes in float32 (or float64): cosines near 1 do not survive "
                f"half precision. Received: dtype={self.compute_dtype!r}. Leave `dtype` out; under "
                "a mixed policy the embedder alone computes in half precision."
            )
        if num_classes != int(num_classes) or num_classes < 2:
            raise ValueError(
                "`num_classes` must be an integer of at least 2. "
                f"Received: num_classes={num_classes}"
            )
        if scale is not None:
            check_positive("scale", scale)
        self.num_classes = int(num_classes)
        self.scale = None if scale is None else float(scale)
        self.initializer = keras.initializers.get(initializer)
        self.detach_margin = bool(detach_margin)
        # Angle to the true class, in radians, past which the paper's formula turns upward.
        self.bend = math.pi

    @property
    def prototypes_shape(self):
        """Shape of the prototypes, one row a class."""
        return (self.num_classes, self.embedding_dim)

    @property
    def scale_is_fixed(self):
        """Whether there is a scale and nothing but a schedule moves it."""
        return self.scale is not None and not self.learn_scale

    def build(self, embeddings_shape, labels_shape=None):
        if len(embeddings_shape) != 2 or embeddings_shape[-1] is None:
            raise ValueError(
                "A margin head takes embeddings of shape (batch, dim) with a known dim. "
                f"Received: embeddings of shape {tuple(embeddings_shape)}"
            )
        self.embedding_dim = int(embeddings_shape[-1])
        self.prototypes = self.add_weight(
            name="prototypes", shape=self.prototypes_shape, initializer=self.initializer
        )
        self.bias = None
        self.margin_share = self.add_statistic("margin_share", 1.0)
        if self.scale is not None:
            self.scale_weight = (
                self.add_weight(
                    name="scale", shape=(), initializer=keras.initializers.Constant(self.scale)
                )
                if self.learn_scale
                else self.add_statistic("scale", self.scale)
            )

    def add_statistic(self, name, value):
        """A scalar weight that no gradient moves, the same on every replica.

        `update` assigns to it what was computed from the whole global batch (`replicas.gather`), so
        that any replica's copy is the right one.
        """
        return self.add_weight(
            name=name,
            shape=(),
            initializer=keras.initializers.Constant(value),
            trainable=False,
            aggregation="only_first_replica",
        )

    def update(self, statistic, value, defined):
        """Assigns a statistic its new value where that is defined (the batch had samples)."""
        statistic.assign(ops.where(defined, value, ops.convert_to_tensor(statistic)))

    def take_prototypes(self, prototypes):
        """Goes on with prototypes from elsewhere: another head's, or the mean embeddings of people.

        Of K sub-centres into a head with fewer, the first are taken; into one with more, the others
        stay as they are.

        Args:
            prototypes: (C, D) or (C, K, D) float array or weight.

        Raises:
            ValueError: the classes or the length of the embeddings differ; the head is not built.

        Example:

        >>> head = MarginHead(num_classes=2, scale=30.0)
        >>> head.build((None, 3))
        >>> head.take_prototypes(np.ones((2, 3)))
        """
        taken = ops.convert_to_numpy(prototypes)
        if not self.built:
            raise ValueError(
                "A head has prototypes once it is built: `build((None, embedding_dim))` it, or put "
                f"it into a MarginClassifier. Received: a {type(self).__name__} that is not."
            )
        if taken.ndim not in (2, 3) or (len(taken), taken.shape[-1]) != (
            self.num_classes,
            self.embedding_dim,
        ):
            raise ValueError(
                "`prototypes` must have a row for each class, as long as an embedding: here "
                f"({self.num_classes}, {self.embedding_dim}), sub-centres in between. "
                f"Received: prototypes of shape {taken.shape}."
            )
        centers = ops.convert_to_numpy(self.prototypes)
        taken, centers = (
            rows.reshape(self.num_classes, -1, self.embedding_dim) for rows in (taken, centers)
        )
        count = min(centers.shape[1], taken.shape[1])
        rows = np.concatenate([taken[:, :count], centers[:, count:]], axis=1)
        self.prototypes.assign(rows.reshape(self.prototypes_shape))

    def call(self, embeddings, labels=None, training=None):
        if labels is None:
            features, norms = self.features(embeddings)
            similarities = self.measure(features, self.prototypes, self.bias, _every_pair)
            return self.logits(similarities, norms)
        return self._score(embeddings, _flat(labels), training)[0]

    def judge(self, embeddings, labels, training=None):
        """Per-sample losses, and whether the plain similarities already pick the right class.

        Args:
            embeddings: (B, D) float.
            labels: (B,) or (B, 1) integers in [0, C), or -1.
            training: whether state such as SphereFace's annealing counter moves on.

        Returns:
            Two float tensors of shape (B,): `losses`, for most heads `-log softmax(z)_y` in nats,
            and `hits`, 1 where the largest *margin-free* similarity is that of the true class, else
            0. (Accuracy on the margin logits would be depressed by the margin.) Both are 0 where
            the label is -1.
        """
        embeddings = ops.cast(embeddings, self.compute_dtype)
        labels = _flat(labels)
        logits, similarities, is_target, norms = self._score(embeddings, labels, training)
        losses = self.losses(logits, ops.maximum(labels, 0), is_target)
        losses = self.objective(losses, norms)
        losses = ops.where(ops.equal(labels, IGNORED), 0.0, losses)
        # A compiled step that cannot raise (jax, XLA) must not train on a stray label in silence.
        stray = ops.logical_or(labels < IGNORED, labels >= self.num_classes)
        losses = ops.where(stray, float("nan"), losses)
        hits = ops.equal(ops.argmax(similarities, axis=-1), ops.cast(labels, "int32"))
        return losses, ops.cast(hits, self.compute_dtype)

    def _score(self, embeddings, labels, training):
        """Logits with the margin, plain similarities, where the true class is, and norms."""
        labels = check_labels(labels, self.num_classes)
        known = ops.not_equal(labels, IGNORED)
        rows = ops.maximum(labels, 0)
        features, norms = self.features(embeddings)
        own = ops.take(self.prototypes, rows, axis=0)
        own_bias = None if self.bias is None else ops.take(self.bias, rows, axis=0)
        target = ops.expand_dims(self.measure(features, own, own_bias, _own_pair), -1)
        similarities = self.measure(features, self.prototypes, self.bias, _every_pair)
        classes = ops.arange(self.num_classes, dtype="int32")
        is_target = ops.equal(classes, ops.expand_dims(labels, -1))
        if training:
            self.observe(target, norms, similarities, is_target, known)
        moved = self.target(target, norms, own, training)
        others = self.others(similarities, target, moved)
        moved = self._in_force(target, moved)
        if others is not similarities:
            others = self._in_force(similarities, others)
            others = ops.where(ops.expand_dims(known, -1), others, similarities)
        return (
            self.logits(ops.where(is_target, moved, others), norms),
            similarities,
            is_target,
            norms,
        )

    def _in_force(self, plain, moved):
        if self.detach_margin:
            moved = margins.straight_through(plain, moved)
        return plain + self.margin_share * (moved - plain)

    # The eight hooks, in the order they are called.

    def features(self, embeddings):
        """(B, D) -> what is compared with the prototypes (B, D), and the norms (B, 1)."""
        norms = ops.sqrt(
            ops.maximum(ops.sum(ops.square(embeddings), axis=-1, keepdims=True), _TINY)
        )
        return embeddings / norms, norms

    def measure(self, features, prototypes, bias, product):
        """Similarity of features and prototypes; `product` pairs each with all or with its own.

        The prototypes' norms are divided out after the product: normalising the (C, D) matrix
        first would hold a second copy of it.
        """
        gain = ops.rsqrt(ops.maximum(ops.sum(ops.square(prototypes), axis=-1), _TINY))
        return product(features, prototypes) * gain

    def observe(self, target, norms, similarities, is_target, known):
        """In training, once a step and before the other hooks: updates the head's own state.

        `known` (B,) is False where the label is -1; the other arguments are those of the hooks
        below. Nothing here is differentiated.
        """

    def target(self, cosine, norms, own, training):
        """Similarity of the true class (B, 1) -> the one to train with (B, 1).

        `norms` (B, 1) are those of the embeddings, `own` (B, D) the true class's prototypes.
        """
        return cosine

    def others(self, cosines, target, moved):
        """Similarities of all classes (B, C), given the true one before and after its margin."""
        return cosines

    def logits(self, similarities, norms):
        """Similarities (B, C) and norms (B, 1) -> logits (B, C)."""
        return self.scale_weight * similarities

    def losses(self, logits, labels, is_target):
        """Logits (B, C), the true class (B,) and where it stands (B, C) -> losses (B,)."""
        return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)

    def objective(self, losses, norms):
        """Per-sample losses (B,) and norms (B, 1) -> what is minimised (B,)."""
        return losses

    def compute_output_shape(self, embeddings_shape, labels_shape=None):
        return (*embeddings_shape[:-1], self.num_classes)

    def get_config(self):
        config = super().get_config()
        for name, parameter in inspect.signature(type(self).__init__).parameters.items():
            if name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
                config[name] = getattr(self, name)
        config["initializer"] = keras.initializers.serialize(self.initializer)
        config["detach_margin"] = self.detach_margin
        return config


def _every_pair(features, prototypes):
    return ops.matmul(features, ops.transpose(prototypes))


def _own_pair(features, prototypes):
    return ops.sum(features * prototypes, axis=-1)


def _flat(labels):
    """Labels as (B,) int32, whatever integer type and trailing 1 they came with."""
    labels = ops.convert_to_tensor(labels)
    dtype = keras.backend.standardize_dtype(labels.dtype)
    if "int" not in dtype:
        raise ValueError(
            "`labels` must be integers: the class of each sample. Floats lose large labels "
            f"(65,505 is not a float16). Received: labels of dtype {dtype}. Cast to int32."
        )
    if len(labels.shape) == 2 and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, -1)
    if len(labels.shape) != 1:
        raise ValueError(
            "`labels` must be sparse, of shape (batch,) or (batch, 1). "
            f"Received: labels of shape {tuple(labels.shape)}. For one-hot labels pass "
            "`ops.argmax(labels, -1)`."
        )
    return ops.cast(labels, "int32")
