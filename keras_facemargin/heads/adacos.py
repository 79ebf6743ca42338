"""AdaCos (Zhang et al. 2019, arXiv:1905.00292)."""

import math

import keras
from keras import ops

from keras_facemargin import margins
from keras_facemargin.backend.replicas import batch_mean, gather
from keras_facemargin.heads.margin_head.arguments import check_flag, check_integer
from keras_facemargin.heads.margin_head.head import MarginHead


@keras.saving.register_keras_serializable("keras_facemargin")
class AdaCos(MarginHead):
    """AdaCos: softmax over scaled cosines, with a computed scale and without a margin.

    `z_j = s cos(theta_j)`, `s = sqrt(2) log(C - 1)`; with `dynamic` each training batch sets s to

    `s = log B / cos(min(pi / 4, theta_med))`, with B the mean over the batch of
    `sum_{j != y} exp(s' cos(theta_j))`, s' the previous scale and theta_med the median angle to the
    true class.

    Under `MirroredStrategy` mean and median are those of the global batch. The scale is a weight:
    it is saved with the layer, and evaluation uses it unchanged.

    Reference: Zhang, Zhao, Qiao, Wang, Li, "AdaCos: Adaptively Scaling Cosine Logits for
    Effectively Learning Deep Face Representations", arXiv:1905.00292. Where implementations differ:
    the median of an even number of angles is in published code for PyTorch, and here, the lower of
    the two in the middle.

    Args:
        num_classes: C, integer >= 3.
        dynamic: whether training updates the scale.
        **kwargs: of `MarginHead`, such as `prototypes_initializer`, and of `keras.layers.Layer`.

    Input shape:
        `embeddings`: (B, D) float. `labels`: (B,) or (B, 1) integers in [0, C), or -1.

    Output shape:
        (B, C) float32 logits.

    Raises:
        ValueError: C is below 3; see also `MarginHead`.

    Example:

    >>> round(AdaCos(num_classes=10, dynamic=False).scale, 6)
    3.107345
    """

    def __init__(self, num_classes, *, dynamic=True, **kwargs):
        check_integer("num_classes", num_classes, 3)
        check_flag("dynamic", dynamic)
        super().__init__(num_classes, math.sqrt(2.0) * math.log(num_classes - 1), **kwargs)
        self.dynamic = bool(dynamic)

    @property
    def scale_is_fixed(self):
        return not self.dynamic

    @property
    def needs_labels(self):
        return self.dynamic

    def update_state(self, target, norms, valid, log_sum):
        if not self.dynamic:
            return
        sums = log_sum()  # a log: exp(s) overflows for large s
        largest = ops.max(ops.append(gather(sums), 0.0))
        mean, count = batch_mean(ops.exp(sums - largest), valid)
        angles = ops.where(valid, margins.angle_of(ops.squeeze(target, -1)), math.inf)
        ordered = ops.sort(ops.append(gather(angles), math.inf))
        middle = ops.cast(ops.maximum(count - 1.0, 0.0), "int32") // 2
        median = ops.take(ordered, middle, axis=0)
        # The logarithm of nothing, where no sample counts, is never used.
        log_mean = largest + ops.log(ops.maximum(mean, 1e-30))
        scale = log_mean / ops.cos(ops.minimum(math.pi / 4, median))
        self.update_statistic(self.scale_weight, scale, count > 0)
