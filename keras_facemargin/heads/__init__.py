"""Margin-softmax heads: one layer a loss, one file a paper, one core (`head.py`).

To add a loss: a file with a subclass of `MarginHead` that overrides one or two hooks, a line here,
and its plain-loop reference in `tests/references.py`. Everything else comes by itself.
"""

from keras_facemargin.heads.arcface import ArcFace
from keras_facemargin.heads.bounds import (
    alpha_lower_bound,
    angle_multiplier_lower_bound,
    cosine_margin_upper_bound,
    loss_lower_bound,
    scale_lower_bound,
)
from keras_facemargin.heads.cosface import CosFace
from keras_facemargin.heads.head import MarginHead
from keras_facemargin.heads.l2_softmax import CrystalLoss, L2Softmax
from keras_facemargin.heads.normface import NormFace
from keras_facemargin.heads.softmax import SoftmaxHead
from keras_facemargin.heads.sphereface import SphereFace
from keras_facemargin.heads.sv_softmax import SVSoftmax

__all__ = [
    "ArcFace",
    "CosFace",
    "CrystalLoss",
    "L2Softmax",
    "MarginHead",
    "NormFace",
    "SVSoftmax",
    "SoftmaxHead",
    "SphereFace",
    "alpha_lower_bound",
    "angle_multiplier_lower_bound",
    "cosine_margin_upper_bound",
    "loss_lower_bound",
    "scale_lower_bound",
]
