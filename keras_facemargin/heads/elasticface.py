"""ElasticFace (Boutros et al. 2022, arXiv:2109.09416)."""

import random

import keras
from keras import ops

from keras_facemargin import margins
from keras_facemargin.backend.replicas import gather, share
from keras_facemargin.heads.annealing import add_step
from keras_facemargin.heads.bounds import warn_if_scale_is_low
from keras_facemargin.heads.class_margins import margin_of
from keras_facemargin.heads.draws import restart
from keras_facemargin.heads.margin_head.arguments import (
    check_at_least,
    check_choice,
    check_flag,
    check_integer,
)
from keras_facemargin.heads.margin_head.head import MarginHead
from keras_facemargin.heads.variants import apply_margin, checked_margin, turning_angle

_PAPER_DEVIATIONS = {
    ("arc", False): 0.05,
    ("arc", True): 0.0175,
    ("am", False): 0.05,
    ("am", True): 0.02,
}


@keras.saving.register_keras_serializable("keras_facemargin")
class ElasticFace(MarginHead):
    """ElasticFace-Arc, -Cos, -Arc+, -Cos+: draws a new margin for each sample in each step.

    `z_y = s cos(theta_y + m_i)` ("arc") or `s (cos(theta_y) - m_i)` ("am"), `z_j = s cos(theta_j)`,
    `m_i ~ N(m, sigma^2)` in training, `m_i = m` otherwise

    With `plus` the margins of a batch are assigned by rank, the largest to the sample farthest from
    its class.

    Under `MirroredStrategy` the margins are drawn for the global batch. Seed and step are saved
    with the layer, so that a resumed run continues the sequence.

    Reference: Boutros, Damer, Kirchbuchner, Kuijper, "ElasticFace: Elastic Margin Loss for Deep
    Face Recognition", arXiv:2109.09416. Where implementations differ: past the turning angle
    the authors' code is `continuation="none"`. Their code of "plus" indexes the sorted margins with
    argsort, not with ranks, so that the farthest sample does not always get the largest; here it
    does. Their code and this head do not clip the margins.

    Args:
        num_classes: C, integer >= 2.
        margin: m, radians for "arc", units of cosine for "am"; None takes 0.5 / 0.35. One number,
            or one for each class.
        variant: "arc" or "am".
        plus: whether margins are assigned by rank.
        deviation: sigma >= 0; None takes the authors' 0.05, with `plus` 0.0175 / 0.02.
        scale: s > 0.
        continuation: of "arc" past the turning angle, see `margins.additive_angle`.
        seed: integer, for the margins; None takes one from Python's generator.
        **kwargs: of `MarginHead`, such as `prototypes_initializer` and `detach_margin`, and of
            `keras.layers.Layer`.

    Input shape:
        `embeddings`: (B, D) float. `labels`: (B,) or (B, 1) integers in [0, C), or -1.

    Output shape:
        (B, C) float32 logits.

    Raises:
        ValueError: an argument is out of range or unknown; see also `MarginHead`. Warns where s is
            below `scale_lower_bound`.

    Example:

    >>> ElasticFace(num_classes=100, variant="am", plus=True).deviation
    0.02
    """

    def __init__(
        self,
        num_classes,
        margin=None,
        *,
        variant="arc",
        plus=False,
        deviation=None,
        scale=64.0,
        continuation="reflect",
        seed=None,
        **kwargs,
    ):
        super().__init__(num_classes, scale, **kwargs)
        self.margin = checked_margin(variant, margin, ("arc", "am"), self.num_classes)
        self.variant = variant
        check_flag("plus", plus)
        self.plus = bool(plus)
        deviation = _PAPER_DEVIATIONS[variant, self.plus] if deviation is None else deviation
        check_at_least("deviation", deviation, 0)
        self.deviation = float(deviation)
        check_choice("continuation", continuation, margins.CONTINUATIONS)
        self.continuation = continuation
        # Kept, so that a saved layer continues the same sequence.
        seed = random.randint(1, 10**9) if seed is None else seed
        check_integer("seed", seed, 0)
        self.seed = int(seed)
        self.draws = keras.random.SeedGenerator(self.seed)
        self.turning_angle = turning_angle(variant, self.margin)
        warn_if_scale_is_low(self)

    def build(self, embeddings_shape, labels_shape=None):
        super().build(embeddings_shape)
        self.step = add_step(self)

    def update_state(self, target, norms, valid, log_sum):
        step = self.step + 1
        self.step.assign(step)
        restart(self.draws, self.seed, step)

    def target_similarity(self, cosine, norms, prototypes, labels, training):
        margin = margin_of(self.margin, labels, self.compute_dtype)
        if training:
            margin = margin + self._draw(cosine)
        return apply_margin(self.variant, cosine, margin, self.continuation)

    def _draw(self, cosine):
        """The deviation of each sample's margin, (B, 1): its share of the global batch's draws.

        With `plus` the rank of the cosine decides, also if classes have their own margins.
        """
        cosines = gather(ops.squeeze(cosine, -1))
        drawn = keras.random.normal(
            ops.shape(cosines), 0.0, self.deviation, cosines.dtype, seed=self.draws
        )
        if self.plus:
            ranks = ops.argsort(ops.argsort(cosines))
            drawn = ops.take(ops.flip(ops.sort(drawn)), ranks, axis=0)
        return ops.expand_dims(share(drawn, ops.shape(cosine)[0]), -1)
