"""Centre loss beside a softmax head (Wen et al. 2016)."""

import keras
from keras import ops

from keras_facemargin.backend.replicas import total
from keras_facemargin.heads import MarginHead
from keras_facemargin.heads.margin_head.arguments import check_number, shown
from keras_facemargin.heads.margin_head.labels import IGNORED, read_labels
from keras_facemargin.heads.margin_head.layer import LabelledLayer


@keras.saving.register_keras_serializable("keras_facemargin", name="CentreLoss")  # in saved files
class CenterLoss(LabelledLayer):
    """Centre loss: a head's loss plus the distance of each embedding to the centre of its class.

    `L = L_head + lambda L_C`, `L_C = 1/2 |x - c_y|^2` of each sample, averaged over the batch.
    Centres are not trained by the optimiser but follow their samples: after each training step
    `c_j <- c_j + alpha sum_(i: y_i = j) (x_i - c_j) / (1 + n_j)`, n_j the samples of class j in
    the batch.

    The loss has a state, and alone it would collapse all embeddings to one point. It is therefore a
    layer around a head and takes the head's place:

    ```
    MarginClassifier(embedder, CenterLoss(SoftmaxHead(num_classes)))   # labels through fit
    logits = CenterLoss(SoftmaxHead(num_classes))(embeddings, labels)  # labels as an input
    ```

    The second form returns the head's logits, for a cross-entropy, and adds the centre term to the
    model's losses (`add_loss`). The centres are weights: they are saved and restored, and on
    several replicas the sums over the *global* batch update them.

    Reference: Wen, Zhang, Li, Qiao, "A Discriminative Feature Learning Approach for Deep Face
    Recognition", ECCV 2016: Eq. 2 (L_C), 3 (gradient), 4 (update), 5 (with the softmax);
    lambda = 0.003 and alpha = 0.5 are its choice for faces. Where implementations differ: the paper
    sums both losses over the batch, here both are averaged; many Keras layers on the web omit the
    1 + n_j, or let the optimiser train the centres. Centres start at 0 here. tensorflow-addons had
    no centre loss.

    Args:
        head: a `MarginHead`, such as `SoftmaxHead(num_classes)`.
        weight: lambda >= 0, of the centre term.
        alpha: in [0, 1], how far centres follow their samples.
        **kwargs: of `keras.layers.Layer`; `dtype` may be "float32" or "float64".

    Input shape:
        `embeddings`: (B, D) float, not normalised. `labels`: (B,) or (B, 1) integers in [0, C),
        or -1.

    Output shape:
        (B, C) float32: the head's logits.

    Raises:
        ValueError: `head` is not a `MarginHead`; `weight` or `alpha` is out of range; `dtype` has
            half precision; labels as in `MarginHead`.

    Example:

    >>> import numpy as np
    >>> from keras_facemargin.heads import SoftmaxHead
    >>> layer = CenterLoss(SoftmaxHead(num_classes=2), weight=0.1, alpha=0.5)
    >>> embeddings = np.array([[4.0, 0.0], [0.0, 2.0]], "float32")
    >>> layer(embeddings, np.array([0, 1]), training=True).shape == (2, 2)
    True
    >>> float(layer.losses[0])  # 0.1 (4^2 / 2 + 2^2 / 2) / 2
    0.5
    >>> np.asarray(layer.centers).tolist()  # 0 + 0.5 (4 - 0) / (1 + 1)
    [[1.0, 0.0], [0.0, 0.5]]
    """

    samples = False  # MarginClassifier reads it, as it does of a head

    def __init__(self, head, weight=0.003, *, alpha=0.5, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(head, MarginHead):
            raise ValueError(
                "`head` must be a MarginHead. "
                f"Received: head={shown(head)}. Pass one, such as "
                "`CenterLoss(SoftmaxHead(num_classes))`."
            )
        if head.samples:
            raise ValueError(
                "Inside CenterLoss a head must train all of its prototypes in every step. "
                f"Received: a {type(head).__name__} with sample_rate={head.sample_rate}. "
                "Leave `sample_rate` out."
            )
        check_number(
            "weight",
            weight,
            "(the paper's lambda) must be a finite number of at least 0",
            lambda weight: weight >= 0,
            ". The paper takes 0.003.",
        )
        check_number(
            "alpha",
            alpha,
            "must be in [0, 1]: the share of the way to its samples that a centre moves",
            lambda alpha: 0 <= alpha <= 1,
            ". The paper takes 0.5.",
        )
        self.head = head
        self.weight = float(weight)
        self.alpha = float(alpha)

    @property
    def num_classes(self):
        """Number of identities, that of the head."""
        return self.head.num_classes

    def build(self, embeddings_shape, labels_shape=None):
        if not self.head.built:
            self.head.build(embeddings_shape)
        self.centers = self.add_weight(
            name="centres",
            shape=(self.num_classes, self.head.embedding_dim),
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",  # all move by the same global sums
        )

    def call(self, embeddings, labels=None, training=None):
        if labels is None:
            return self.head(embeddings)
        logits = self.head(embeddings, labels, training=training)
        losses = self.weight * self.draw(embeddings, labels, training)
        size = ops.cast(ops.shape(losses)[0], losses.dtype)
        self.add_loss(ops.sum(losses) / ops.maximum(size, 1.0))
        return logits

    def compute_losses(self, embeddings, labels, training=None):
        """Per-sample losses, head and centres together, and the head's `correct`.

        `MarginClassifier` calls it; see `MarginHead.compute_losses`.

        Args:
            embeddings: (B, D) float.
            labels: (B,) or (B, 1) integers in [0, C), or -1.
            training: whether the centres move.

        Returns:
            Two float tensors of shape (B,): losses, and correct of the head's plain similarities.
        """
        losses, correct = self.head.compute_losses(embeddings, labels, training=training)
        return losses + self.weight * self.draw(embeddings, labels, training), correct

    def draw(self, embeddings, labels, training=None):
        """`1/2 |x - c_y|^2` of each sample, (B,), by the centres before they move.

        0 where the label is -1.
        """
        embeddings = ops.cast(embeddings, self.compute_dtype)
        labels = read_labels(labels, self.num_classes, embeddings)
        valid = ops.cast(ops.not_equal(labels, IGNORED), embeddings.dtype)[:, None]
        labels = ops.maximum(labels, 0)
        away = valid * (embeddings - ops.take(self.centers, labels, axis=0))
        if training:
            self._follow(away, valid, labels)
        return 0.5 * ops.sum(ops.square(away), axis=-1)

    def _follow(self, away, valid, labels):
        classes = self.num_classes
        sums = ops.segment_sum(away, labels, num_segments=classes)
        counts = ops.segment_sum(valid, labels, num_segments=classes)
        sums, counts = total(sums), total(counts)
        self.centers.assign(self.centers + self.alpha * sums / (1.0 + counts))

    def compute_output_shape(self, embeddings_shape, labels_shape=None):
        return self.head.compute_output_shape(embeddings_shape)

    def get_config(self):
        config = {**super().get_config(), "weight": self.weight, "alpha": self.alpha}
        return {**config, "head": keras.saving.serialize_keras_object(self.head)}

    @classmethod
    def from_config(cls, config):
        head = keras.saving.deserialize_keras_object(config["head"])
        return cls(**{**config, "head": head})
