"""Sub-centre ArcFace (Deng et al. 2020, ECCV; Table 3 of arXiv:1801.07698)."""

import functools
import math

import keras
import numpy as np
from keras import ops

from keras_facemargin import margins
from keras_facemargin.heads.bounds import warn_if_scale_is_low
from keras_facemargin.heads.class_margins import margin_of, read_margin
from keras_facemargin.heads.margin_head.arguments import check_choice, check_integer, check_radians
from keras_facemargin.heads.margin_head.head import MarginHead


@keras.saving.register_keras_serializable("keras_facemargin")
class SubCenterArcFace(MarginHead):
    """Sub-center ArcFace: each class has K prototypes, and the nearest counts.

    `cos(theta_j) = max_k cos(theta_{j,k})`, then ArcFace: `z_y = s cos(theta_y + m)`,
    `z_j = s cos(theta_j)`

    The clean faces of a class gather around one sub-centre and its noise around the others. Samples
    far from the dominant sub-centre (in the paper over 75 degrees) are probably mislabelled.

    Reference: Deng, Guo, Liu, Gong, Zafeiriou, "Sub-center ArcFace: Boosting Face Recognition by
    Large-scale Noisy Web Faces", ECCV 2020; K = 3. With K = 1 the loss is ArcFace. Where
    implementations differ: pytorch-metric-learning takes the margin in degrees.

    Args:
        num_classes: C, integer >= 2.
        margin: m in [0, pi/2), radians; one number, or one for each class.
        num_centers: K, integer >= 1, prototypes per class; the weight has shape (C, K, D).
        scale: s > 0.
        continuation: past the turning angle, see `margins.additive_angle`.
        prototypes_initializer: None takes the authors' normal distribution, deviation 0.01.
        **kwargs: of `MarginHead`, such as `detach_margin`, and of `keras.layers.Layer`.

    Input shape:
        `embeddings`: (B, D) float. `labels`: (B,) or (B, 1) integers in [0, C), or -1.

    Output shape:
        (B, C) float32 logits.

    Raises:
        ValueError: an argument is out of range or unknown; see also `MarginHead`. Warns where s is
            below `scale_lower_bound`.

    Example:

    >>> head = SubCenterArcFace(num_classes=100, num_centers=3)
    >>> head.build((None, 8))
    >>> tuple(head.prototypes.shape)
    (100, 3, 8)
    """

    def __init__(
        self,
        num_classes,
        margin=0.5,
        *,
        num_centers=3,
        scale=64.0,
        continuation="reflect",
        prototypes_initializer=None,
        **kwargs,
    ):
        if prototypes_initializer is None:
            prototypes_initializer = keras.initializers.RandomNormal(stddev=0.01)
        super().__init__(
            num_classes, scale, prototypes_initializer=prototypes_initializer, **kwargs
        )
        check_choice("continuation", continuation, margins.CONTINUATIONS)
        check_integer("num_centers", num_centers, 1)
        self.margin = read_margin("margin", margin, self.num_classes, check_radians)
        self.num_centers = int(num_centers)
        self.continuation = continuation
        self.turning_angle = math.pi - float(np.max(self.margin))
        warn_if_scale_is_low(self)

    @property
    def prototypes_shape(self):
        return (self.num_rows, self.num_centers, self.embedding_dim)

    def similarity(self, features, prototypes, bias, pair):
        cosines = [
            super(SubCenterArcFace, self).similarity(features, prototypes[:, k], bias, pair)
            for k in range(self.num_centers)
        ]
        return functools.reduce(ops.maximum, cosines)

    def target_similarity(self, cosine, norms, prototypes, labels, training):
        margin = margin_of(self.margin, labels, self.compute_dtype)
        return margins.additive_angle(cosine, margin, self.continuation)
