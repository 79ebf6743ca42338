"""SphereFace-R, SphereFace revived (Liu et al. 2021, arXiv:2109.05565)."""

import keras
from keras import ops

from keras_facemargin import margins
from keras_facemargin.heads.bounds import warn_if_scale_is_low
from keras_facemargin.heads.margin_head.arguments import (
    check_at_least,
    check_choice,
    check_positive,
)
from keras_facemargin.heads.margin_head.head import MarginHead

_VERSIONS = ("v0", "v1", "v2")
_NORMALIZATIONS = ("hard", "soft", "none")


@keras.saving.register_keras_serializable("keras_facemargin")
class SphereFaceR(MarginHead):
    """SphereFace-R: multiplies the angle by a real number, in three versions of the formula.

    | version | `z_y / s` | `z_j / s` |
    | --- | --- | --- |
    | v0 | `psi(theta_y) = (-1)^k cos(m theta_y) - 2k` | `cos(theta_j)` |
    | v1 | `cos(min(m theta_y, pi))` | `cos(theta_j)` |
    | v2 | `cos(theta_y)` | `cos(theta_j / m)` |

    | normalization | factor of the logits | minimised loss |
    | --- | --- | --- |
    | hard | `s` | `w / s` times the loss |
    | soft | `norm of x` | `w / s` times the loss, plus `t abs(norm of x - s)` |
    | none | `norm of x` | the loss |

    By default the gradient is that of the plain cosines ("characteristic gradient detachment");
    `detach_margin=False` takes that of the formula.

    Reference: Liu, Wen, Raj, Singh, Weller, "SphereFace Revived: Unifying Hyperspherical Face
    Recognition", arXiv:2109.05565; weights w = 50, t = 0.01 of the authors' opensphere (which later
    kept the hard form alone). Where implementations differ: opensphere renormalises the prototypes
    in place at each step and raises m in steps in its soft and unscaled forms; here the prototypes
    keep their lengths, and a callback may ramp the margin (`keras_facemargin.callbacks`).

    Args:
        num_classes: C, integer >= 2.
        margin: m >= 1, real, multiplies (v0, v1) or divides (v2) the angle. Published: 1.4 with v2
            and s = 60; 1.5 with s = 30, 1.7 with s = 64.
        version: "v0", "v1" or "v2".
        normalization: of the embeddings, "hard", "soft" or "none".
        loss_weight: w > 0, for "hard" and "soft".
        norm_weight: t >= 0, for "soft".
        scale: s > 0; with "none" scores are not scaled, and the attribute is None.
        detach_margin: True takes the gradient of the plain cosines.
        **kwargs: of `MarginHead`, such as `prototypes_initializer`, and of `keras.layers.Layer`.

    Input shape:
        `embeddings`: (B, D) float. `labels`: (B,) or (B, 1) integers in [0, C), or -1.

    Output shape:
        (B, C) float32 logits.

    Raises:
        ValueError: an argument is out of range or unknown; see also `MarginHead`. Warns where s is
            below `scale_lower_bound`.

    Example:

    >>> SphereFaceR(num_classes=1000).detach_margin
    True
    """

    def __init__(
        self,
        num_classes,
        margin=1.4,
        *,
        version="v2",
        normalization="hard",
        loss_weight=50.0,
        norm_weight=0.01,
        scale=60.0,
        detach_margin=True,
        **kwargs,
    ):
        check_choice("version", version, _VERSIONS)
        check_choice("normalization", normalization, _NORMALIZATIONS)
        super().__init__(
            num_classes,
            1.0 if normalization == "none" else scale,
            detach_margin=detach_margin,
            **kwargs,
        )
        check_at_least("margin", margin, 1)
        check_positive("loss_weight", loss_weight)
        check_at_least("norm_weight", norm_weight, 0)
        self.margin = float(margin)
        self.version = version
        if normalization == "none":
            self.scale = None
        self.normalization = normalization
        self.keeps_norms = normalization != "hard"
        self.loss_weight = float(loss_weight)
        self.norm_weight = float(norm_weight)
        if normalization == "hard":
            warn_if_scale_is_low(self)

    @property
    def is_cross_entropy(self):
        return self.normalization == "none"

    def target_similarity(self, cosine, norms, prototypes, labels, training):
        if self.version == "v2":
            return cosine
        continuation = "reflect" if self.version == "v0" else "clip"
        return margins.continued_cosine(self.margin * margins.angle_of(cosine), continuation)

    def other_similarities(self, cosines, target, margined):
        return margins.divided_angle(cosines, self.margin) if self.version == "v2" else cosines

    def logits(self, similarities, norms):
        if self.normalization == "hard":
            return super().logits(similarities, norms)
        return norms * similarities

    def regularized_loss(self, losses, norms):
        if self.normalization == "none":
            return losses
        weighted = self.loss_weight / self.scale_weight * losses
        if self.normalization == "hard":
            return weighted
        deviations = ops.abs(ops.squeeze(norms, -1) - self.scale_weight)
        return weighted + self.norm_weight * deviations
