"""SphereFace, A-Softmax (Liu et al. 2017, arXiv:1704.08063)."""

import keras

from keras_facemargin import margins
from keras_facemargin.heads.annealing import add_step, mix, set_schedule
from keras_facemargin.heads.bounds import angle_multiplier_lower_bound, warn_if_below
from keras_facemargin.heads.margin_head.arguments import check_integer
from keras_facemargin.heads.margin_head.head import MarginHead


@keras.saving.register_keras_serializable("keras_facemargin")
class SphereFace(MarginHead):
    """SphereFace, A-Softmax: multiplies the angle to the true class; embeddings keep their lengths.

    `z_y = |x| (lambda cos(theta_y) + psi(theta_y)) / (1 + lambda)`, `z_j = |x| cos(theta_j)`,
    `psi(theta) = (-1)^k cos(m theta) - 2k` on `[k pi / m, (k + 1) pi / m]`,
    `lambda = max(minimum, base (1 + gamma n)^(-power))` at training step n = 1, 2, ...

    psi alone does not train from random weights. A large lambda makes the loss nearly a plain
    softmax at first; then lambda falls (`heads/annealing.py`).

    Reference: Liu et al., "SphereFace: Deep Hypersphere Embedding for Face Recognition",
    arXiv:1704.08063, Eq. 6-7, annealing in its appendix G; the default schedule is that of the
    authors' released model. Where implementations differ: the authors' code replaces the gradient
    of the target term by one of unit length, and does not project the prototypes' gradient; the
    gradient here is that of the formula. With minimum 5, m = 4 acts like a multiplier of about 1.5.

    Args:
        num_classes: C, integer >= 2.
        margin: m, integer >= 1, the factor of the angle; 1 gives modified softmax, the paper has 4.
        base, gamma, power, minimum: of the annealing; `base=0, minimum=0` sets lambda to 0.
        **kwargs: of `MarginHead`, such as `prototypes_initializer` and `detach_margin`, and of
            `keras.layers.Layer`.

    Input shape:
        `embeddings`: (B, D) float, *not* normalised. `labels`: (B,) or (B, 1) integers in [0, C),
        or -1.

    Output shape:
        (B, C) float32 logits.

    Raises:
        ValueError: `margin` is not an integer >= 1; see also `MarginHead`. Warns where m > 1 is
            below `angle_multiplier_lower_bound`.

    Example:

    >>> head = SphereFace(num_classes=1000, margin=4)
    >>> head.build((None, 128))
    >>> int(head.step)
    0
    """

    keeps_norms = True

    def __init__(
        self, num_classes, margin=4, *, base=1000.0, gamma=0.12, power=1.0, minimum=5.0, **kwargs
    ):
        super().__init__(num_classes, **kwargs)
        check_integer("margin", margin, 1)
        self.margin = int(margin)
        set_schedule(self, base=base, gamma=gamma, power=power, minimum=minimum)
        if margin > 1:
            bound = angle_multiplier_lower_bound(num_classes)
            warn_if_below("SphereFace", "margin", self.margin, bound, "arXiv:1704.08063, 3.4")

    def build(self, embeddings_shape, labels_shape=None):
        super().build(embeddings_shape)
        self.step = add_step(self)

    def update_state(self, target, norms, valid, log_sum):
        self.step.assign(self.step + 1)

    def target_similarity(self, cosine, norms, prototypes, labels, training):
        return mix(self, cosine, margins.multiplied_angle(cosine, self.margin))

    def logits(self, similarities, norms):
        return norms * similarities
