"""MarginHead: the one core that all margin softmaxes share.

Every loss of the field scores a sample against its own class one way and against the others
another way:

    z_y = s * target(cos_y),    z_j = s * others(cos_j; cos_y),    loss = -log softmax(z)_y

The core therefore works target first: it gathers the true class's prototype of each sample, takes
those B similarities in float32, applies the margin to B numbers, and only then forms the (B, C)
product, one block of classes after the other (`heads.blocks`). No one-hot labels, no arccos of a
matrix.

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

import functools
import inspect
import math

import keras
import numpy as np
from keras import ops

from keras_facemargin import margins
from keras_facemargin.heads import blocks
from keras_facemargin.heads.argument_check import check_positive
from keras_facemargin.heads.label_check import IGNORED, check_drawn, check_labels
from keras_facemargin.heads.reductions import NEVER, LogSumExp
from keras_facemargin.heads.shards import over_shards, shard_count

_TINY = 1e-12  # of a squared norm: a zero vector has direction zero, not NaN
_MOST_KEPT = 2**26  # products of embeddings and prototypes that stay in memory: 256 MiB
_LARGE_BATCH = 512


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
        blockwise: True forms the products of a block of classes twice, in the forward and again in
            the backward pass, and keeps none: training then takes no memory that grows with B x C,
            for one matrix product in four more. False keeps them, 4 B C bytes. None, the default,
            keeps them up to 256 MiB (512 samples are counted where the batch size is not known).
        sample_rate: share r of the prototypes that a step of `MarginClassifier.fit` trains, those
            of the batch's people always among them (Partial FC, see `heads.sampling`); 1 trains all
            in every step. At least as many rows as samples a batch must remain.
        **kwargs: of `keras.layers.Layer`; `dtype` may be "float32" or "float64".

    Input shape:
        `embeddings`: (B, D) float. `labels`: (B,) or (B, 1) integers in [0, C), or -1; sparse.

    Raises:
        ValueError: an argument is out of range; labels are not integers, are one-hot, or lie
            outside [-1, C).
    """

    learn_scale = False
    reduction = LogSumExp()  # of the wrong classes' logits

    def __init__(
        self,
        num_classes,
        scale=None,
        initializer="glorot_uniform",
        detach_margin=False,
        blockwise=None,
        sample_rate=1.0,
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
        if not 0 < sample_rate <= 1:
            raise ValueError(
                "`sample_rate` is the share of the prototypes that a step trains and must lie in "
                f"(0, 1]. Received: sample_rate={sample_rate}"
            )
        self.sample_rate = float(sample_rate)
        self.blockwise = None if blockwise is None else bool(blockwise)
        # Angle to the true class, in radians, past which the paper's formula turns upward.
        self.bend = math.pi

    @property
    def prototypes_shape(self):
        """Shape of the prototypes, one row a class (and rows of padding, see `heads.shards`)."""
        return (self.num_rows, self.embedding_dim)

    @property
    def num_rows(self):
        """Classes, filled up to a multiple of the devices that prototypes are split over."""
        shards = shard_count()
        return -(-self.num_classes // shards) * shards

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
        if self.samples and shard_count() > 1:
            raise ValueError(
                "Prototypes that are split over devices are trained whole. Received: "
                f"sample_rate={self.sample_rate} under PrototypeParallel. Leave one of the two out."
            )
        self.embedding_dim = int(embeddings_shape[-1])
        self.prototypes = self.add_weight(
            name="prototypes", shape=self.prototypes_shape, initializer=self.initializer
        )
        self.bias = None
        self.sample = self.sample_bias = None
        if self.samples:
            self._add_sample()
        self.margin_share = self.add_statistic("margin_share", 1.0)
        if self.scale is not None:
            self.scale_weight = (
                self.add_weight(
                    name="scale", shape=(), initializer=keras.initializers.Constant(self.scale)
                )
                if self.learn_scale
                else self.add_statistic("scale", self.scale)
            )

    @property
    def samples(self):
        """Whether a step trains some of the prototypes only."""
        return self.sample_rate < 1

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
        """A number a class, added to its similarity, from 0."""
        self.bias = self.add_weight(name="bias", shape=(self.num_rows,), initializer="zeros")
        if self.samples:
            self.bias.trainable = False
            self.sample_bias = self.add_weight(
                name="sample_bias", shape=self.sample.shape[:1], initializer="zeros"
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
        if self.built and len(taken) == self.num_rows:
            taken = taken[: self.num_classes]  # another head's, with its padding
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
        centers = ops.convert_to_numpy(self.prototypes)[: self.num_classes]
        taken, centers = (
            rows.reshape(self.num_classes, -1, self.embedding_dim) for rows in (taken, centers)
        )
        count = min(centers.shape[1], taken.shape[1])
        rows = np.concatenate([taken[:, :count], centers[:, count:]], axis=1)
        rows = rows.reshape(self.num_classes, *self.prototypes_shape[1:])
        self.prototypes.assign(_padded(rows, self.num_rows))

    def save_own_variables(self, store):
        if self.num_rows == self.num_classes:
            return super().save_own_variables(store)
        whole = {}
        super().save_own_variables(whole)
        for key, value in whole.items():
            # A file knows no devices: it holds no padding.
            padded = value.shape[:1] == (self.num_rows,)
            store[key] = np.asarray(value)[: self.num_classes] if padded else value

    def load_own_variables(self, store):
        if self.num_rows > self.num_classes:
            store = {key: np.asarray(store[key]) for key in tuple(store.keys())}
            for key, value in store.items():
                if value.ndim and len(value) == self.num_classes:
                    store[key] = _padded(value, self.num_rows)
        super().load_own_variables(store)

    def call(self, embeddings, labels=None, training=None):
        features, norms = self.features(embeddings)
        weights = self._class_weights()
        similarities = self.measure(features, *_with_bias(weights), blocks.every_pair)
        similarities = similarities[:, : self.num_classes]
        if labels is None:
            return self.logits(similarities, norms)
        labels = check_labels(_flat(labels), self.num_classes)
        rows = ops.maximum(labels, 0)
        own = [ops.take(weight, rows, axis=0) for weight in weights]
        classes = ops.arange(self.num_classes, dtype="int32")
        is_target = ops.equal(classes, ops.expand_dims(labels, -1))

        def log_sum():
            logits = ops.where(is_target, NEVER, self.logits(similarities, norms))
            return ops.logsumexp(logits, axis=-1)

        target, moved = self._own(features, norms, own, labels, log_sum, training)
        others = self._moved_others(similarities, target, moved, labels)
        moved = self._in_force(target, moved)
        return self.logits(ops.where(is_target, moved, others), norms)

    def judge(self, embeddings, labels, training=None):
        """Per-sample losses, and whether the plain similarities already pick the right class.

        The logits of all classes never stand in memory together (`heads.blocks`).

        Args:
            embeddings: (B, D) float.
            labels: (B,) or (B, 1) integers in [0, C), or -1.
            training: whether state such as SphereFace's annealing counter moves on.

        Returns:
            Two float tensors of shape (B,): `losses`, for most heads `-log softmax(z)_y` in nats,
            and `hits`, 1 where the *margin-free* similarity of the true class is larger than that
            of any other, else 0. (Accuracy on the margin logits would be depressed by the margin.)
            Both are 0 where the label is -1.
        """
        embeddings = ops.cast(embeddings, self.compute_dtype)
        labels = check_labels(_flat(labels), self.num_classes)
        # A compiled step that cannot raise (jax, XLA) must not train on a stray label in silence.
        stray = ops.logical_or(labels < IGNORED, labels >= self.num_classes)
        sampled = bool(training) and self.samples
        if sampled:
            labels, missing = self._labels_in_sample(labels)
            labels = check_drawn(labels, missing, self.sample_rows.shape[0])
            stray = ops.logical_or(stray, missing)
        rows = ops.maximum(labels, 0)
        features, norms = self.features(embeddings)
        both = [blocks.with_own_rows(weight, rows) for weight in self._class_weights(sampled)]
        weights, own = zip(*both, strict=True)
        others_of = functools.partial(self._reduce_others, features, norms, labels, weights)

        def log_sum():
            return ops.squeeze(others_of(LogSumExp())[0], -1)

        target, moved = self._own(features, norms, own, labels, log_sum, training)
        keep = bool(training) and self._keeps_products(embeddings.shape[0])
        others, best = others_of(self.reduction, target, moved, keep=keep)
        own_logits = self.logits(self._in_force(target, moved), norms)
        losses = self.losses(ops.squeeze(own_logits, -1), ops.squeeze(others, -1))
        losses = self.objective(losses, norms)
        known = ops.not_equal(labels, IGNORED)
        losses = ops.where(known, losses, 0.0)
        losses = ops.where(stray, float("nan"), losses)
        hits = ops.logical_and(known, ops.squeeze(target > best, -1))
        return losses, ops.cast(hits, self.compute_dtype)

    def _class_weights(self, sampled=False):
        """The weights with a row for each class: prototypes, maybe a bias; or those of a sample."""
        weights = (self.sample, self.sample_bias) if sampled else (self.prototypes, self.bias)
        return tuple(ops.convert_to_tensor(weight) for weight in weights if weight is not None)

    def _labels_in_sample(self, labels):
        """Where each label's row stands in the sample, and whether it is not there."""
        rows = ops.convert_to_tensor(self.sample_rows)
        places = ops.cast(ops.searchsorted(rows, ops.maximum(labels, 0)), "int32")
        places = ops.minimum(places, rows.shape[0] - 1)
        missing = ops.not_equal(ops.take(rows, places, axis=0), labels)
        ignored = ops.equal(labels, IGNORED)
        return ops.where(ignored, IGNORED, places), ops.logical_and(
            missing, ops.logical_not(ignored)
        )

    def _own(self, features, norms, own, labels, log_sum, training):
        """Similarity of the true class (B, 1), before and after its margin."""
        target = ops.expand_dims(self.measure(features, *_with_bias(own), blocks.own_pair), -1)
        if training:
            self.observe(target, norms, ops.not_equal(labels, IGNORED), log_sum)
        return target, self.target(target, norms, own[0], training)

    def _moved_others(self, similarities, target, moved, labels):
        others = self.others(similarities, target, moved)
        if others is similarities:
            return others
        known = ops.expand_dims(ops.not_equal(labels, IGNORED), -1)
        return ops.where(known, self._in_force(similarities, others), similarities)

    def _in_force(self, plain, moved):
        if self.detach_margin:
            moved = margins.straight_through(plain, moved)
        return plain + self.margin_share * (moved - plain)

    def _keeps_products(self, batch):
        if self.blockwise is not None:
            return not self.blockwise
        return (batch or _LARGE_BATCH) * self.num_classes <= _MOST_KEPT

    def _reduce_others(
        self, features, norms, labels, weights, reduction, target=None, moved=None, keep=False
    ):
        """`blocks.reduce_others` of this head's hooks; of its plain logits without `moved`."""
        named = {"features": features, "norms": norms, "target": target, "moved": moved}
        named = {name: tensor for name, tensor in named.items() if tensor is not None}
        # The hooks read the head's other weights: a custom gradient must be handed each.
        of_classes = (self.prototypes, self.bias, self.sample, self.sample_bias)
        state = [w for w in self.weights if not any(w is other for other in of_classes)]
        learned = [weight for weight in state if weight.trainable]
        still = [(w, ops.convert_to_tensor(w)) for w in state if not w.trainable]

        def score(inputs, rows, pair):
            tensors = dict(zip(named, inputs, strict=False))
            mapping = [*still, *zip(learned, inputs[len(named) :], strict=True)]
            with keras.StatelessScope(state_mapping=mapping):
                similarities = self.measure(tensors["features"], *_with_bias(rows), pair)
                others = similarities
                if "moved" in named:
                    others = self._moved_others(
                        similarities, tensors["target"], tensors["moved"], labels
                    )
                return self.logits(others, tensors.get("norms")), similarities

        inputs = (*named.values(), *(ops.convert_to_tensor(weight) for weight in learned))

        def reduce(labels, inputs, weights, num_classes=None):
            return blocks.reduce_others(
                score, reduction, labels, inputs, weights, num_classes, keep
            )

        if shard_count() > 1:
            return over_shards(reduce, reduction, labels, inputs, weights, self.num_classes)
        return reduce(labels, inputs, weights)

    # The eight hooks, in the order they are called.

    def features(self, embeddings):
        """(B, D) -> what is compared with the prototypes (B, D), and the norms (B, 1)."""
        norms = ops.sqrt(
            ops.maximum(ops.sum(ops.square(embeddings), axis=-1, keepdims=True), _TINY)
        )
        return embeddings / norms, norms

    def measure(self, features, prototypes, bias, pair):
        """Similarity of features and prototypes.

        `pair` gives the inner products, of each feature with all prototypes or with its own, and
        the squared lengths of the prototypes, or None in their place with `lengths=False`. The
        lengths are divided out after the product: normalising the (C, D) matrix first would hold a
        second copy of it.
        """
        products, squares = pair(features, prototypes)
        return products * ops.rsqrt(ops.maximum(squares, _TINY))

    def observe(self, target, norms, known, log_sum):
        """In training, once a step and before the other hooks: updates the head's own state.

        `known` (B,) is False where the label is -1; `log_sum()` gives `log sum exp` of the wrong
        classes' plain logits (B,), at the price of one more matrix product. Nothing here is
        differentiated.
        """
        return  # AutoGraph cannot read a function without a statement.

    def target(self, cosine, norms, own, training):
        """Similarity of the true class (B, 1) -> the one to train with (B, 1).

        `norms` (B, 1) are those of the embeddings, `own` (B, D) the true class's prototypes.
        """
        return cosine

    def others(self, cosines, target, moved):
        """Similarities of K classes (B, K), given the true one before and after its margin."""
        return cosines

    def logits(self, similarities, norms):
        """Similarities (B, K) and norms (B, 1) -> logits (B, K)."""
        return self.scale_weight * similarities

    def losses(self, own, others):
        """Logit of the true class (B,), and all others reduced by `reduction` (B,) -> losses."""
        return ops.softplus(others - own)

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
        config["blockwise"] = self.blockwise
        config["sample_rate"] = self.sample_rate
        return config


def _padded(rows, count):
    """Rows of zeros after these, up to a count."""
    return np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]), rows.dtype)])


def _with_bias(weights):
    """Prototypes and bias, None where there is none."""
    return weights if len(weights) == 2 else (*weights, None)


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
