"""ArcFace, additive angular margin (Deng et al. 2019, arXiv:1801.07698)."""

import math

import keras
import numpy as np

from keras_facemargin import margins
from keras_facemargin.heads.bounds import warn_if_scale_is_low
from keras_facemargin.heads.class_margins import margin_of, read_margin
from keras_facemargin.heads.margin_head.arguments import check_choice, check_radians
from keras_facemargin.heads.margin_head.head import MarginHead


@keras.saving.register_keras_serializable("keras_facemargin")
class ArcFace(MarginHead):
    """ArcFace: adds a margin to the angle of the true class.

    `z_y = s cos(theta_y + m)`, `z_j = s cos(theta_j)`

    Reference: Deng, Guo, Xue, Zafeiriou, "ArcFace: Additive Angular Margin Loss for Deep Face
    Recognition", arXiv:1801.07698, Eq. 3. Where implementations differ: past theta = pi - m,
    where the formula rises again with the angle (`margins.additive_angle`), and in the gradient,
    which here is that of the formula. Today's insightface for PyTorch equals `continuation="none",
    detach_margin=True`; insightface for MXNet had "linear" (or "easy") at first, "none" later.

    Args:
        num_classes: C, integer >= 2.
        margin: m in [0, pi/2), radians (0.5 rad = 28.6 degrees); one number, or one for each class.
        scale: s > 0.
        continuation: past the turning angle "reflect" (monotone and smooth), or one of the
            published "linear", "easy", "clip", "none".
        **kwargs: of `MarginHead`, such as `prototypes_initializer` and `detach_margin`, and of
            `keras.layers.Layer`.

    Input shape:
        `embeddings`: (B, D) float. `labels`: (B,) or (B, 1) integers in [0, C), or -1.

    Output shape:
        (B, C) float32 logits, in [-s (2 - cos m), s].

    Raises:
        ValueError: `margin` is out of range, `continuation` unknown; see also `MarginHead`. Warns
            where s is below `scale_lower_bound`.

    Example:

    >>> import numpy as np
    >>> head = ArcFace(num_classes=3, margin=0.5, scale=64.0, prototypes_initializer="ones")
    >>> logits = np.asarray(head(np.ones((1, 4), "float32"), np.array([0])))
    >>> logits.round(1).tolist()
    [[56.2, 64.0, 64.0]]
    """

    def __init__(self, num_classes, margin=0.5, scale=64.0, *, continuation="reflect", **kwargs):
        super().__init__(num_classes, scale, **kwargs)
        check_choice("continuation", continuation, margins.CONTINUATIONS)
        self.margin = read_margin("margin", margin, self.num_classes, check_radians)
        self.continuation = continuation
        self.turning_angle = math.pi - float(np.max(self.margin))
        warn_if_scale_is_low(self)

    def target_similarity(self, cosine, norms, prototypes, labels, training):
        margin = margin_of(self.margin, labels, self.compute_dtype)
        return margins.additive_angle(cosine, margin, self.continuation)
