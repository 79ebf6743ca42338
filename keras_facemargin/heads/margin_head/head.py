"""MarginHead: the one core that all margin softmaxes share.

Every loss of the field scores a sample against its own class one way and against the others
another way:

    z_y = s * target(cos_y),    z_j = s * others(cos_j; cos_y),    loss = -log softmax(z)_y

The core therefore works target first: it gathers the true class's prototype of each sample, takes
those B similarities in float32, applies the margin to B numbers, and only then forms the (B, C)
product, one block of classes after the other (`blocks`). No one-hot labels, no arccos of a
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
| `sample_loss` | what do the logits of a sample cost? | softmax cross-entropy |
| `objective` | what is minimised in the end? | that cost |

Heads speak `keras.ops` only and run on the tensorflow, jax and torch backends.
"""

import functools
import inspect
import math
import warnings

import keras
import numpy as np
from keras import ops

from keras_facemargin import margins
from keras_facemargin.heads.margin_head import blocks
from keras_facemargin.heads.margin_head.arguments import check_flag, check_positive
from keras_facemargin.heads.margin_head.labels import (
    IGNORED,
    check_drawn,
    checked_array,
    is_tensor,
    read_labels,
)
from keras_facemargin.heads.margin_head.prototypes import PrototypeLayer
from keras_facemargin.heads.margin_head.reductions import NEVER, LogSumExp
from keras_facemargin.heads.margin_head.shards import over_shards, shard_count

_TINY = 1e-12  # of a prototype's squared length: below it counts as 1, and nothing is steep
_MOST_KEPT = 2**26  # products of embeddings and prototypes that stay in memory: 256 MiB
_LARGE_BATCH = 512


class MarginHead(PrototypeLayer):
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
            of the batch's people always among them (Partial FC, see `sampling`); 1 trains all
            in every step. At least as many rows as samples a batch must remain.
        **kwargs: of `keras.layers.Layer`; `dtype` may be "float32" or "float64".

    Input shape:
        `embeddings`: (B, D) float. `labels`: (B,) or (B, 1) integers in [0, C), or -1; sparse.

    Raises:
        ValueError: an argument is out of range; labels are not integers, are one-hot, or lie
            outside [-1, C).
    """

    learn_scale = False
    keeps_norms = False  # whether logits are multiples of the embedding's norm
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
        super().__init__(num_classes, initializer, sample_rate, **kwargs)
        takes_scale = "scale" in inspect.signature(type(self).__init__).parameters
        if scale is not None or (takes_scale and type(self).__init__ is not MarginHead.__init__):
            check_positive("scale", scale)
        self.scale = None if scale is None else float(scale)
        check_flag("detach_margin", detach_margin)
        if blockwise is not None:
            check_flag("blockwise", blockwise)
        self.detach_margin = bool(detach_margin)
        self.blockwise = None if blockwise is None else bool(blockwise)
        # Angle to the true class, in radians, past which the paper's formula turns upward.
        self.bend = math.pi
        self._warned = False

    @property
    def scale_is_fixed(self):
        """Whether there is a scale and nothing but a schedule moves it."""
        return self.scale is not None and not self.learn_scale

    @property
    def needs_labels(self):
        """Whether its logits in training differ from those without labels, or its state does."""
        hooks = ("observe", "target", "others")
        return any(getattr(type(self), hook) is not getattr(MarginHead, hook) for hook in hooks)

    @property
    def is_cross_entropy(self):
        """Whether what it minimises is the softmax cross-entropy of its logits."""
        hooks = ("reduction", "sample_loss", "objective")
        return all(getattr(type(self), hook) is getattr(MarginHead, hook) for hook in hooks)

    def build(self, embeddings_shape, labels_shape=None):
        if len(embeddings_shape) != 2 or embeddings_shape[-1] is None:
            raise ValueError(
                "A margin head takes embeddings of shape (batch, dim) with a known dim. "
                f"Received: embeddings of shape {tuple(embeddings_shape)}"
            )
        self.add_prototypes(int(embeddings_shape[-1]))
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

    def __call__(self, embeddings, labels=None, **kwargs):
        if labels is None:
            return super().__call__(embeddings, **kwargs)
        if not is_tensor(labels):  # before Keras converts them
            labels = checked_array(labels, self.num_classes)
        return super().__call__(embeddings, labels, **kwargs)

    def call(self, embeddings, labels=None, training=None):
        features, norms = self.features(embeddings)
        weights = self.class_weights()
        similarities = self.measure(features, *_with_bias(weights), blocks.every_pair)
        similarities = similarities[:, : self.num_classes]
        if training:
            self._warn_of_another_loss(labels)
        if labels is None:
            return self.logits(similarities, norms)
        labels = read_labels(labels, self.num_classes, embeddings)
        stray = ops.equal(labels, self.num_classes)
        labels = ops.where(stray, 0, labels)
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
        # As in `judge`, where no error can be raised: the row's softmax is not a number.
        moved = ops.where(ops.expand_dims(stray, -1), float("nan"), moved)
        return self.logits(ops.where(is_target, moved, others), norms)

    def judge(self, embeddings, labels, training=None):
        """Per-sample losses, and whether the plain similarities already pick the right class.

        The logits of all classes never stand in memory together (`blocks`).

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
        labels = read_labels(labels, self.num_classes, embeddings)
        # A compiled step that cannot raise (jax, XLA) must not train on a stray label in silence.
        stray = ops.equal(labels, self.num_classes)
        classes = labels
        sampled = bool(training) and self.samples
        if sampled:
            labels, missing = self.labels_in_sample(classes)
            labels = check_drawn(labels, missing, self.sample_rows.shape[0])
            stray = ops.logical_or(stray, missing)
        rows = ops.maximum(labels, 0)
        features, norms = self.features(embeddings)
        both = [blocks.with_own_rows(weight, rows) for weight in self.class_weights(sampled)]
        weights, own = zip(*both, strict=True)
        others_of = functools.partial(self._reduce_others, features, norms, labels, weights)

        def log_sum():
            return ops.squeeze(others_of(LogSumExp())[0], -1)

        target, moved = self._own(features, norms, own, classes, log_sum, training)
        keep = bool(training) and self._keeps_products(embeddings.shape[0])
        others, best = others_of(self.reduction, target, moved, keep=keep)
        own_logits = self.logits(self._in_force(target, moved), norms)
        losses = self.sample_loss(ops.squeeze(own_logits, -1), ops.squeeze(others, -1))
        losses = self.objective(losses, norms)
        known = ops.not_equal(labels, IGNORED)
        losses = ops.where(known, losses, 0.0)
        losses = ops.where(stray, float("nan"), losses)
        hits = ops.logical_and(known, ops.squeeze(target > best, -1))
        return losses, ops.cast(hits, self.compute_dtype)

    def _warn_of_another_loss(self, labels):
        """Once, where logits are trained on that no Keras loss makes this head's loss of."""
        name = type(self).__name__
        if labels is None and self.needs_labels:
            fault = (
                f"{name} was called in training without labels, so that its logits have no margin. "
                "Pass them, `head(embeddings, labels)`, or train"
            )
        elif not self.is_cross_entropy:
            fault = (
                f"{name} was called in training for its logits, whose cross-entropy is not its "
                "loss. Take the losses from `head.judge(embeddings, labels)`, or train"
            )
        else:
            return
        if not self._warned:
            self._warned = True
            warnings.warn(f"{fault} with `MarginClassifier(embedder, head)`.", stacklevel=3)

    def _own(self, features, norms, own, labels, log_sum, training):
        """Similarity of the true class (B, 1), before and after its margin."""
        target = ops.expand_dims(self.measure(features, *_with_bias(own), blocks.own_pair), -1)
        if training:
            self.observe(target, norms, ops.not_equal(labels, IGNORED), log_sum)
        return target, self.target(target, norms, own[0], labels, training)

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
        state = self.other_weights
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
        norms = margins.length_of(embeddings)
        if self.keeps_norms:  # which take the steepness of a short embedding's direction back
            return embeddings / norms, norms
        return margins.direction_of(embeddings), norms

    def measure(self, features, prototypes, bias, pair):
        """Similarity of features and prototypes.

        `pair` gives the inner products, of each feature with all prototypes or with its own, and
        the squared lengths of the prototypes, or None in their place with `lengths=False`. The
        lengths are divided out after the product: normalising the (C, D) matrix first would hold a
        second copy of it.
        """
        products, squares = pair(features, prototypes)
        return products * ops.rsqrt(ops.where(squares > _TINY, squares, 1.0))

    def observe(self, target, norms, known, log_sum):
        """In training, once a step and before the other hooks: updates the head's own state.

        `known` (B,) is False where the label is -1; `log_sum()` gives `log sum exp` of the wrong
        classes' plain logits (B,), at the price of one more matrix product. Nothing here is
        differentiated.
        """
        return  # AutoGraph cannot read a function without a statement.

    def target(self, cosine, norms, own, labels, training):
        """Similarity of the true class (B, 1) -> the one to train with (B, 1).

        `norms` (B, 1) are those of the embeddings, `own` (B, D) the true class's prototypes,
        `labels` (B,) the classes themselves, of which a margin may be one each (`class_margins`).
        """
        return cosine

    def others(self, cosines, target, moved):
        """Similarities of K classes (B, K), given the true one before and after its margin."""
        return cosines

    def logits(self, similarities, norms):
        """Similarities (B, K) and norms (B, 1) -> logits (B, K)."""
        return self.scale_weight * similarities

    def sample_loss(self, own, others):
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
                value = getattr(self, name)
                config[name] = value.tolist() if isinstance(value, np.ndarray) else value
        config["initializer"] = keras.initializers.serialize(self.initializer)
        config["detach_margin"] = self.detach_margin
        config["blockwise"] = self.blockwise
        config["sample_rate"] = self.sample_rate
        return config


def _with_bias(weights):
    """Prototypes and bias, None where there is none."""
    return weights if len(weights) == 2 else (*weights, None)
