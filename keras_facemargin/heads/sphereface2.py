"""SphereFace2, binary classification on the sphere (Wen et al. 2022, arXiv:2108.01513)."""

import math

import keras
from keras import ops

from keras_facemargin import margins
from keras_facemargin.heads.margin_head.arguments import (
    check_at_least,
    check_choice,
    check_number,
    check_positive,
    check_radians,
)
from keras_facemargin.heads.margin_head.head import MarginHead
from keras_facemargin.heads.margin_head.reductions import SoftplusSum

_PAPER_MARGINS = {"C": 0.4, "A": 0.5, "M": 1.7}


@keras.saving.register_keras_serializable("keras_facemargin")
class SphereFace2(MarginHead):
    """SphereFace2: a binary classification for each class instead of a softmax over all.

    `loss = (w / r) [lambda log(1 + exp(-z_y)) + (1 - lambda) sum_{j != y} log(1 + exp(z_j))]`,
    `g(c) = 2 ((c + 1) / 2)^t - 1`, one learned bias b for all classes, and by variant

    | variant | `z_y` | `z_j` |
    | --- | --- | --- |
    | C | `r (g(cos(theta_y)) - m) + b` | `r (g(cos(theta_j)) + m) + b` |
    | A | `r g(cos(min(pi, theta_y + m))) + b` | `r g(cos(theta_j)) + b` |
    | M | `r g(cos(min(pi, m theta_y))) + b` | `r g(cos(theta_j)) + b` |

    Without labels the logits are `r cos(theta_j) + b`, without g and margin, in the same order.

    Reference: Wen, Liu, Weller, Raj, Singh, "SphereFace2: Binary Classification is All You Need for
    Deep Face Recognition", arXiv:2108.01513, lambda in its Eq. 5. Defaults and initial bias are
    those of the authors' opensphere: for an embedding at right angles to all prototypes, the
    gradient towards its class balances the gradient away from the others. (For a few classes in few
    dimensions this bias is high: set `shared_bias` to -log(10 C).) Where implementations differ:
    opensphere today detaches g (`detach_margin=True`).

    Args:
        num_classes: C, integer >= 2.
        margin: m; units of cosine for "C", radians for "A", a multiplier for "M". None takes the
            authors' 0.4 / 0.5 / 1.7.
        variant: "C", "A" or "M".
        balance: lambda in (0, 1), the weight of the true class.
        sharpness: t >= 1, the exponent in g.
        loss_weight: w > 0.
        scale: r > 0 (40 for small sets; 64 with balance 0.8, margin 0.5 for MS1M).
        **kwargs: of `MarginHead`, such as `prototypes_initializer` and `detach_margin`, and of
            `keras.layers.Layer`.

    Input shape:
        `embeddings`: (B, D) float. `labels`: (B,) or (B, 1) integers in [0, C), or -1.

    Output shape:
        (B, C) float32 logits; a sigmoid, not a softmax, makes them probabilities.

    Raises:
        ValueError: an argument is out of range or unknown; see also `MarginHead`.

    Example:

    >>> head = SphereFace2(num_classes=10572)
    >>> head.build((None, 512))
    >>> round(float(head.shared_bias), 4)
    5.5816
    """

    reduction = SoftplusSum()

    def __init__(
        self,
        num_classes,
        margin=None,
        *,
        variant="C",
        balance=0.7,
        sharpness=3.0,
        loss_weight=50.0,
        scale=40.0,
        **kwargs,
    ):
        super().__init__(num_classes, scale, **kwargs)
        check_choice("variant", variant, _PAPER_MARGINS)
        margin = _PAPER_MARGINS[variant] if margin is None else margin
        if variant == "A":
            check_radians("margin", margin)
        else:
            check_at_least("margin", margin, 0 if variant == "C" else 1)
        check_at_least("sharpness", sharpness, 1)
        check_positive("loss_weight", loss_weight)
        check_number(
            "balance",
            balance,
            "weighs the own class against the others and must be strictly between 0 and 1",
            lambda balance: 0 < balance < 1,
        )
        self.margin = float(margin)
        self.variant = variant
        self.balance = float(balance)
        self.sharpness = float(sharpness)
        self.loss_weight = float(loss_weight)

    def build(self, embeddings_shape, labels_shape=None):
        super().build(embeddings_shape)
        self.shared_bias = self.add_weight(
            name="bias", shape=(), initializer=keras.initializers.Constant(self._balanced_bias())
        )

    def target_similarity(self, cosine, norms, prototypes, labels, training):
        if self.variant == "C":
            return self._sharpen(cosine) - self.margin
        if self.variant == "A":
            return self._sharpen(margins.additive_angle(cosine, self.margin, "clip"))
        angle = self.margin * margins.angle_of(cosine)
        return self._sharpen(margins.continued_cosine(angle, "clip"))

    def other_similarities(self, cosines, target, margined):
        sharp = self._sharpen(cosines)
        return sharp + self.margin if self.variant == "C" else sharp

    def logits(self, similarities, norms):
        return super().logits(similarities, norms) + self.shared_bias

    def sample_loss(self, target_logits, others):
        losses = self.balance * ops.softplus(-target_logits) + (1.0 - self.balance) * others
        return self.loss_weight / self.scale_weight * losses

    def _sharpen(self, cosine):
        """The paper's g: most of its range for the cosines near 1."""
        return 2.0 * ops.power(ops.maximum(0.5 * (cosine + 1.0), 0.0), self.sharpness) - 1.0

    def _balanced_bias(self):
        """b such that `lambda sigmoid(-z_y) = (1 - lambda) (C - 1) sigmoid(z_j)` at 90 degrees."""

        def sharp(cosine):
            return 2.0 * ((cosine + 1.0) / 2.0) ** self.sharpness - 1.0

        target, other = {
            "C": (sharp(0.0) - self.margin, sharp(0.0) + self.margin),
            "A": (sharp(math.cos(math.pi / 2 + self.margin)), sharp(0.0)),
            "M": (sharp(math.cos(min(math.pi, self.margin * math.pi / 2))), sharp(0.0)),
        }[self.variant]
        target, other = self.scale * target, self.scale * other
        z = self.balance / ((1.0 - self.balance) * (self.num_classes - 1.0))
        root = math.sqrt((1.0 - z) ** 2 + 4.0 * z * math.exp(target - other))
        return math.log(2.0 * z) - other - math.log(1.0 - z + root)
