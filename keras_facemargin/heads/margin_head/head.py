"""MarginHead: the one core that all margin softmaxes share.

Every margin softmax treats the true class y differently from each other class j:

    z_y = s * target_similarity(cos_y)
    z_j = s * other_similarities(cos_j; cos_y)
    loss = -log softmax(z)_y

The core computes the true class first. It gathers the prototype of each sample's class, computes
those B similarities in float32 and applies the margin to B numbers. Only then it forms the (B, C)
product, one block of classes after the other (`blocks`). It needs neither one-hot labels nor the
arccos of a matrix.

A loss is a subclass that overrides one or two of eight hooks, each a term of that equation:

| hook | returns | default |
| --- | --- | --- |
| `normalize_embeddings` | features to compare with the prototypes, and norms | direction, norm |
| `similarity` | the similarity of features and prototypes | cosine |
| `update_state` | nothing; updates the head's statistics from a training batch | no update |
| `target_similarity` | the similarity of the true class, after its margin | unchanged |
| `other_similarities` | the similarities of the wrong classes, after their margin | unchanged |
| `logits` | the logits of similarities | scale times similarity |
| `sample_loss` | the loss of each sample | softmax cross-entropy |
| `regularized_loss` | the loss that is minimised | unchanged |

Heads use `keras.ops` only and run on the tensorflow, jax and torch backends.
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
from keras_facemargin.heads.margin_head.labels import IGNORED, check_drawn, read_labels
from keras_facemargin.heads.margin_head.prototypes import PrototypeLayer
from keras_facemargin.heads.margin_head.reductions import NEVER, LogSumExp
from keras_facemargin.heads.margin_head.shards import over_shards, shard_count

_TINY = 1e-12  # a shorter squared length of a prototype counts as 1, so that gradients are small
_MOST_KEPT = 2**26  # products of embeddings and prototypes that stay in memory: 256 MiB
_LARGE_BATCH = 512


class MarginHead(PrototypeLayer):
    """Turns embeddings into class logits, with the margin applied to the target class.

    `head(embeddings, labels)` returns logits to train on, `head(embeddings)` plain logits for
    prediction; both are float32 of shape (B, C). `head.compute_losses(embeddings, labels)` returns
    the per-sample losses directly.

    The head owns the class prototypes, weight `prototypes` of shape (C, D). It computes in float32
    under any global policy: half precision loses the differences of cosines near 1.

    A sample with label -1 belongs to no class: its logits are plain, its loss is 0 and it trains
    nothing.

    Two scalar weights are for schedules (`keras_facemargin.callbacks`). `margin_weight` w, 1 by
    default, is the share of the margin: every similarity is `plain + w (margined - plain)`, for
    CosFace a margin of `w * m`. `scale_weight` is the current scale, `scale` by default.

    Args:
        num_classes: C, number of identities, integer >= 2.
        scale: s > 0, multiplies the similarities; None for a loss without this factor.
        prototypes_initializer: a Keras initializer or its name.
        prototypes_regularizer, prototypes_constraint: as `kernel_regularizer` and
            `kernel_constraint` of `keras.layers.Dense`, of a matrix of shape (C, D). They need all
            prototypes in every step: `sample_rate` must be 1, and under `PrototypeParallel` the
            number of devices must divide C.
        detach_margin: True takes the gradient as if there were no margin, as insightface for
            PyTorch and opensphere do (`margins.straight_through`); False takes the gradient of the
            loss itself.
        blockwise: True computes the products of embeddings and prototypes in the forward and again
            in the backward pass: training needs no memory that grows with B x C, and five matrix
            products instead of four. False keeps the products, 4 B C bytes. None, the default,
            keeps them up to 256 MiB (an unknown batch size counts as 512).
        sample_rate: share r of the prototypes that a step of `MarginClassifier.fit` trains (Partial
            FC, see `sampling`), those of the batch's classes always included; 1 trains all in every
            step. r C must be at least the batch size.
        **kwargs: of `keras.layers.Layer`; `dtype` may be "float32" or "float64".

    Input shape:
        `embeddings`: (B, D) float. `labels`: (B,) or (B, 1) integers in [0, C), or -1; sparse.

    Raises:
        ValueError: an argument is out of range; labels are not integers, are one-hot, or are
            outside [-1, C).
    """

    learn_scale = False
    keeps_norms = False  # True if logits are multiples of the embedding's norm
    reduction = LogSumExp()  # of the wrong classes' logits

    def __init__(
        self,
        num_classes,
        scale=None,
        *,
        detach_margin=False,
        blockwise=None,
        **kwargs,
    ):
        super().__init__(num_classes, **kwargs)
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
        self.turning_angle = math.pi
        self._warned = False

    @property
    def scale_is_fixed(self):
        """Whether the head has a scale that only a schedule changes."""
        return self.scale is not None and not self.learn_scale

    @property
    def needs_labels(self):
        """Whether labels change the logits in training, or the state of the head."""
        hooks = ("update_state", "target_similarity", "other_similarities")
        return any(getattr(type(self), hook) is not getattr(MarginHead, hook) for hook in hooks)

    @property
    def is_cross_entropy(self):
        """Whether the loss is the softmax cross-entropy of the logits."""
        hooks = ("reduction", "sample_loss", "regularized_loss")
        return all(getattr(type(self), hook) is getattr(MarginHead, hook) for hook in hooks)

    def build(self, embeddings_shape, labels_shape=None):
        if len(embeddings_shape) != 2 or embeddings_shape[-1] is None:
            raise ValueError(
                "A margin head takes embeddings of shape (batch, dim) with a known dim. "
                f"Received: embeddings of shape {tuple(embeddings_shape)}"
            )
        self.add_prototypes(int(embeddings_shape[-1]))
        self.margin_weight = self.add_statistic("margin_share", 1.0)
        if self.scale is not None:
            self.scale_weight = (
                self.add_weight(
                    name="scale", shape=(), initializer=keras.initializers.Constant(self.scale)
                )
                if self.learn_scale
                else self.add_statistic("scale", self.scale)
            )

    def add_statistic(self, name, value):
        """A scalar weight without gradient, the same on every replica.

        `update_statistic` must assign a value of the whole global batch (`replicas.gather`), so
        that the copies on all replicas are equal.
        """
        return self.add_weight(
            name=name,
            shape=(),
            initializer=keras.initializers.Constant(value),
            trainable=False,
            aggregation="only_first_replica",
        )

    def update_statistic(self, statistic, value, defined):
        """Assigns a new value to a statistic if it is defined: if the batch had samples."""
        statistic.assign(ops.where(defined, value, ops.convert_to_tensor(statistic)))

    def call(self, embeddings, labels=None, training=None):
        features, norms = self.normalize_embeddings(embeddings)
        weights = self.class_weights()
        similarities = self.similarity(features, *_with_bias(weights), blocks.every_pair)
        similarities = similarities[:, : self.num_classes]
        if training:
            self._warn_of_another_loss(labels)
        if labels is None:
            return self.logits(similarities, norms)
        labels = read_labels(labels, self.num_classes, embeddings)
        invalid = ops.equal(labels, self.num_classes)
        labels = ops.where(invalid, 0, labels)
        indices = ops.maximum(labels, 0)
        target_weights = [ops.take(weight, indices, axis=0) for weight in weights]
        classes = ops.arange(self.num_classes, dtype="int32")
        is_target = ops.equal(classes, ops.expand_dims(labels, -1))

        def log_sum():
            logits = ops.where(is_target, NEVER, self.logits(similarities, norms))
            return ops.logsumexp(logits, axis=-1)

        target, margined = self._target(features, norms, target_weights, labels, log_sum, training)
        others = self._others(similarities, target, margined, labels)
        blended = self._blend(target, margined)
        # As in `compute_losses`, where no error can be raised: the row's softmax is NaN.
        blended = ops.where(ops.expand_dims(invalid, -1), float("nan"), blended)
        return self.logits(ops.where(is_target, blended, others), norms)

    def compute_losses(self, embeddings, labels, training=None):
        """Per-sample losses, and whether the plain similarities already pick the right class.

        The logits of all classes are never in memory together (`blocks`).

        Args:
            embeddings: (B, D) float.
            labels: (B,) or (B, 1) integers in [0, C), or -1.
            training: whether the head updates its state, such as SphereFace's annealing counter.

        Returns:
            Two float tensors of shape (B,): `losses`, for most heads `-log softmax(z)_y` in nats,
            and `correct`, 1 where the *margin-free* similarity of the true class is larger than
            that of any other, else 0. (The margin would lower an accuracy of its logits.) Both are
            0 where the label is -1.
        """
        embeddings = ops.cast(embeddings, self.compute_dtype)
        labels = read_labels(labels, self.num_classes, embeddings)
        # A compiled step that cannot raise (jax, XLA) must not train on an invalid label silently.
        invalid = ops.equal(labels, self.num_classes)
        classes = labels
        sampled = bool(training) and self.samples
        if sampled:
            labels, missing = self.labels_in_sample(classes)
            labels = check_drawn(labels, missing, self.sample_rows.shape[0])
            invalid = ops.logical_or(invalid, missing)
        indices = ops.maximum(labels, 0)
        features, norms = self.normalize_embeddings(embeddings)
        pairs = [blocks.with_target_rows(w, indices) for w in self.class_weights(sampled)]
        weights, target_weights = zip(*pairs, strict=True)
        reduce_others = functools.partial(self._reduce_others, features, norms, labels, weights)

        def log_sum():
            return ops.squeeze(reduce_others(LogSumExp())[0], -1)

        target, margined = self._target(features, norms, target_weights, classes, log_sum, training)
        keep = bool(training) and self._keeps_products(embeddings.shape[0])
        others, best = reduce_others(self.reduction, target, margined, keep=keep)
        target_logits = self.logits(self._blend(target, margined), norms)
        losses = self.sample_loss(ops.squeeze(target_logits, -1), ops.squeeze(others, -1))
        losses = self.regularized_loss(losses, norms)
        valid = ops.not_equal(labels, IGNORED)
        losses = ops.where(valid, losses, 0.0)
        losses = ops.where(invalid, float("nan"), losses)
        correct = ops.logical_and(valid, ops.squeeze(target > best, -1))
        return losses, ops.cast(correct, self.compute_dtype)

    def _warn_of_another_loss(self, labels):
        """Warns once if training uses logits from which no Keras loss computes this head's loss."""
        name = type(self).__name__
        if labels is None and self.needs_labels:
            fault = (
                f"{name} was called in training without labels: its logits have no margin. "
                "Pass them, `head(embeddings, labels)`, or train"
            )
        elif not self.is_cross_entropy:
            fault = (
                f"{name} was called in training for its logits, but its loss is not their "
                "cross-entropy. Use `head.compute_losses(embeddings, labels)`, or train"
            )
        else:
            return
        if not self._warned:
            self._warned = True
            warnings.warn(f"{fault} with `MarginClassifier(embedder, head)`.", stacklevel=3)

    def _target(self, features, norms, target_weights, labels, log_sum, training):
        """Similarity of the true class (B, 1), before and after its margin."""
        similarity = self.similarity(features, *_with_bias(target_weights), blocks.target_pair)
        target = ops.expand_dims(similarity, -1)
        if training:
            self.update_state(target, norms, ops.not_equal(labels, IGNORED), log_sum)
        return target, self.target_similarity(target, norms, target_weights[0], labels, training)

    def _others(self, similarities, target, margined, labels):
        """Similarities of K classes (B, K), as if none of them were the true one."""
        others = self.other_similarities(similarities, target, margined)
        if others is similarities:
            return others
        valid = ops.expand_dims(ops.not_equal(labels, IGNORED), -1)
        return ops.where(valid, self._blend(similarities, others), similarities)

    def _blend(self, plain, margined):
        """The share `margin_weight` of the margin, detached if the head says so."""
        if self.detach_margin:
            margined = margins.straight_through(plain, margined)
        return plain + self.margin_weight * (margined - plain)

    def _keeps_products(self, batch):
        if self.blockwise is not None:
            return not self.blockwise
        return (batch or _LARGE_BATCH) * self.num_classes <= _MOST_KEPT

    def _reduce_others(
        self, features, norms, labels, weights, reduction, target=None, margined=None, keep=False
    ):
        """`blocks.OtherClasses` with this head's hooks; without `margined`, of plain logits."""
        named = {"features": features, "norms": norms, "target": target, "margined": margined}
        named = {name: tensor for name, tensor in named.items() if tensor is not None}
        # The hooks read the head's other weights, and a custom gradient needs each as an input.
        state = self.other_weights
        learned = [weight for weight in state if weight.trainable]
        fixed = [(w, ops.convert_to_tensor(w)) for w in state if not w.trainable]

        def score(inputs, rows, pair):
            tensors = dict(zip(named, inputs, strict=False))
            mapping = [*fixed, *zip(learned, inputs[len(named) :], strict=True)]
            with keras.StatelessScope(state_mapping=mapping):
                similarities = self.similarity(tensors["features"], *_with_bias(rows), pair)
                others = similarities
                if "margined" in named:
                    others = self._others(
                        similarities, tensors["target"], tensors["margined"], labels
                    )
                return self.logits(others, tensors.get("norms")), similarities

        inputs = (*named.values(), *(ops.convert_to_tensor(weight) for weight in learned))

        def reduce(labels, inputs, weights, num_classes=None):
            others = blocks.OtherClasses(score, reduction, labels, num_classes, keep)
            return others.reduce(inputs, weights)

        if shard_count() > 1:
            return over_shards(reduce, reduction, labels, inputs, weights, self.num_classes)
        return reduce(labels, inputs, weights)

    # The eight hooks, in the order of their calls.

    def normalize_embeddings(self, embeddings):
        """(B, D) -> what is compared with the prototypes (B, D), and the norms (B, 1)."""
        norms = margins.length_of(embeddings)
        if self.keeps_norms:  # the norm cancels the steep gradient of a short embedding's direction
            return embeddings / norms, norms
        return margins.direction_of(embeddings), norms

    def similarity(self, features, prototypes, bias, pair):
        """Similarity of features and prototypes.

        `pair` returns the inner products of each feature with all prototypes or with its target,
        and the squared lengths of the prototypes (None with `lengths=False`). Divide by the lengths
        after the product: normalising the (C, D) matrix first needs a second copy of it.
        """
        products, squares = pair(features, prototypes)
        return products * ops.rsqrt(ops.where(squares > _TINY, squares, 1.0))

    def update_state(self, target, norms, valid, log_sum):
        """Updates the head's statistics, once a training step, before the margin is applied.

        `target` (B, 1) is the plain similarity of the true class. `valid` (B,) is False where the
        label is -1. `log_sum()` returns `log sum exp` of the wrong classes' plain logits (B,) and
        costs one more matrix product. No gradient passes through this hook.
        """
        return  # AutoGraph cannot read a function without a statement.

    def target_similarity(self, cosine, norms, prototypes, labels, training):
        """Plain similarity of the true class (B, 1) -> its similarity after the margin (B, 1).

        `norms` (B, 1) are the norms of the embeddings, `prototypes` (B, D) those of the true
        classes, `labels` (B,) the classes, for a margin that differs by class (`class_margins`).
        """
        return cosine

    def other_similarities(self, cosines, target, margined):
        """Similarities of K classes (B, K), after a margin on wrong classes.

        `target` and `margined` (B, 1) are the true class's similarity before and after its margin.
        """
        return cosines

    def logits(self, similarities, norms):
        """Similarities (B, K) and norms (B, 1) -> logits (B, K)."""
        return self.scale_weight * similarities

    def sample_loss(self, target_logits, others):
        """Logits of the true classes (B,), and the other logits by `reduction` (B,) -> losses."""
        return ops.softplus(others - target_logits)

    def regularized_loss(self, losses, norms):
        """Per-sample losses (B,) and norms (B, 1) -> losses to minimise (B,)."""
        return losses

    def compute_output_shape(self, embeddings_shape, labels_shape=None):
        return (*embeddings_shape[:-1], self.num_classes)

    def get_config(self):
        config = super().get_config()
        for name, parameter in inspect.signature(type(self).__init__).parameters.items():
            if name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
                value = getattr(self, name)
                config[name] = value.tolist() if isinstance(value, np.ndarray) else value
        config["detach_margin"] = self.detach_margin
        config["blockwise"] = self.blockwise
        return {**config, **self.prototypes_config()}


def _with_bias(weights):
    """Prototypes and bias, None where there is none."""
    return weights if len(weights) == 2 else (*weights, None)
