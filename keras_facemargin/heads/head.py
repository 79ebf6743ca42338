"""MarginHead: the one core that all margin softmaxes share.

Every loss of the field scores a sample against its own class one way and against the others
another way:

    z_y = s * target(cos_y),    z_j = s * others(cos_j; cos_y),    loss = -log softmax(z)_y

The core therefore works target first: it gathers the true class's prototype of each sample, takes
those B similarities in float32, applies the margin to B numbers, and only then forms the (B, C)
product. No one-hot labels, no arccos of a matrix.

A loss is a subclass that overrides one or two of five hooks, each a term of that equation:

| hook | question it answers | default |
| --- | --- | --- |
| `features` | what of an embedding is compared? | its direction; its norm beside it |
| `measure` | how alike are features and prototypes? | cosine |
| `target` | what becomes of the true class? | nothing |
| `others` | what becomes of the wrong classes? | nothing |
| `logits` | how are similarities scaled? | times `scale` |

Heads speak `keras.ops` only and run on the tensorflow, jax and torch backends.
"""

import inspect

import keras
from keras import ops

from keras_facemargin.heads.label_check import check_labels

_TINY = 1e-12  # of a squared norm: a zero vector has direction zero, not NaN


class MarginHead(keras.layers.Layer):
    """Turns embeddings into class logits, with a margin where the label says so.

    `head(embeddings, labels)` gives the logits to train on, `head(embeddings)` the plain ones to
    predict with; both are float32 of shape (B, C). `head.judge(embeddings, labels)` gives the
    per-sample losses directly.

    The head owns the class prototypes, weight `prototypes` of shape (C, D). It computes in float32
    whatever the global policy: cosines close to 1 do not survive half precision.

    Args:
        num_classes: C, number of identities, integer >= 2.
        scale: s > 0, multiplies the similarities.
        initializer: of the prototypes.
        **kwargs: of `keras.layers.Layer`; `dtype` may be "float32" or "float64".

    Input shape:
        `embeddings`: (B, D) float. `labels`: (B,) or (B, 1) integers in [0, C), sparse.

    Raises:
        ValueError: an argument is out of range; labels are not integers, are one-hot, or lie
            outside [0, C).
    """

    def __init__(self, num_classes, scale=1.0, initializer="glorot_uniform", **kwargs):
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
        if not scale > 0:
            raise ValueError(f"`scale` must be positive. Received: scale={scale}")
        self.num_classes = int(num_classes)
        self.scale = float(scale)
        self.initializer = keras.initializers.get(initializer)

    def build(self, embeddings_shape, labels_shape=None):
        if len(embeddings_shape) != 2 or embeddings_shape[-1] is None:
            raise ValueError(
                "A margin head takes embeddings of shape (batch, dim) with a known dim. "
                f"Received: embeddings of shape {tuple(embeddings_shape)}"
            )
        self.embedding_dim = int(embeddings_shape[-1])
        self.prototypes = self.add_weight(
            name="prototypes",
            shape=(self.num_classes, self.embedding_dim),
            initializer=self.initializer,
        )
        self.bias = None

    def call(self, embeddings, labels=None, training=None):
        if labels is None:
            features, norms = self.features(embeddings)
            similarities = self.measure(features, self.prototypes, self.bias, _every_pair)
            return self.logits(similarities, norms)
        return self._margin_logits(embeddings, labels, training)[0]

    def judge(self, embeddings, labels, training=None):
        """Per-sample losses, and whether the plain similarities already pick the right class.

        Args:
            embeddings: (B, D) float.
            labels: (B,) or (B, 1) integers in [0, C).
            training: whether state such as SphereFace's annealing counter moves on.

        Returns:
            Two float tensors of shape (B,): `losses = -log softmax(z)_y` in nats, and `hits`, 1
            where the largest *margin-free* similarity is that of the true class, else 0. (Accuracy
            on the margin logits would be depressed by the margin.)
        """
        logits, similarities = self._margin_logits(
            ops.cast(embeddings, self.compute_dtype), labels, training
        )
        labels = _flat(labels)
        losses = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        # A compiled step that cannot raise (jax, XLA) must not train on a stray label in silence.
        known = ops.logical_and(labels >= 0, labels < self.num_classes)
        losses = ops.where(known, losses, float("nan"))
        hits = ops.equal(ops.argmax(similarities, axis=-1), ops.cast(labels, "int32"))
        return losses, ops.cast(hits, self.compute_dtype)

    def _margin_logits(self, embeddings, labels, training):
        labels = check_labels(_flat(labels), self.num_classes)
        features, norms = self.features(embeddings)
        own = ops.take(self.prototypes, labels, axis=0)
        own_bias = None if self.bias is None else ops.take(self.bias, labels, axis=0)
        target = ops.expand_dims(self.measure(features, own, own_bias, _own_pair), -1)
        moved = self.target(target, norms, training)
        similarities = self.measure(features, self.prototypes, self.bias, _every_pair)
        others = self.others(similarities, target, moved)
        is_target = ops.equal(
            ops.arange(self.num_classes, dtype="int32"), ops.expand_dims(labels, -1)
        )
        return self.logits(ops.where(is_target, moved, others), norms), similarities

    # The five hooks, in the order they are called.

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

    def target(self, cosine, norms, training):
        """Similarity of the true class (B, 1) -> the one to train with (B, 1)."""
        return cosine

    def others(self, cosines, target, moved):
        """Similarities of all classes (B, C), given the true one before and after its margin."""
        return cosines

    def logits(self, similarities, norms):
        """Similarities (B, C) and norms (B, 1) -> logits (B, C)."""
        return self.scale * similarities

    def compute_output_shape(self, embeddings_shape, labels_shape=None):
        return (*embeddings_shape[:-1], self.num_classes)

    def get_config(self):
        config = super().get_config()
        for name, parameter in inspect.signature(type(self).__init__).parameters.items():
            if name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
                config[name] = getattr(self, name)
        config["initializer"] = keras.initializers.serialize(self.initializer)
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
