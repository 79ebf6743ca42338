"""Margin-softmax heads: one layer a loss, one file a paper, one core (`head.py`).

To add a loss: a file with a subclass of `MarginHead` that overrides one or two hooks, a line here,
and its plain-loop reference in `tests/references.py`. Everything else comes by itself.
"""

from keras_facemargin.heads.adacos import AdaCos
from keras_facemargin.heads.adaface import AdaFace
from keras_facemargin.heads.arcface import ArcFace
from keras_facemargin.heads.bounds import (
    alpha_lower_bound,
    angle_multiplier_lower_bound,
    cosine_margin_upper_bound,
    loss_lower_bound,
    scale_lower_bound,
)
from keras_facemargin.heads.circle_loss import CircleLoss
from keras_facemargin.heads.class_margins import margins_by_class_size
from keras_facemargin.heads.combined_margin import CombinedMargin
from keras_facemargin.heads.cosface import CosFace
from keras_facemargin.heads.curricularface import CurricularFace
from keras_facemargin.heads.elasticface import ElasticFace
from keras_facemargin.heads.l2_softmax import CrystalLoss, L2Softmax
from keras_facemargin.heads.large_margin_softmax import LargeMarginSoftmax
from keras_facemargin.heads.magface import MagFace
from keras_facemargin.heads.margin_head.head import MarginHead
from keras_facemargin.heads.mv_softmax import MVSoftmax
from keras_facemargin.heads.normface import NormFace
from keras_facemargin.heads.softmax import SoftmaxHead
from keras_facemargin.heads.sphereface import SphereFace
from keras_facemargin.heads.sphereface2 import SphereFace2
from keras_facemargin.heads.sphereface_r import SphereFaceR
from keras_facemargin.heads.subcenter_arcface import SubCenterArcFace
from keras_facemargin.heads.sv_softmax import SVSoftmax
from keras_facemargin.heads.uniface import UniFace

__all__ = [
    "AdaCos",
    "AdaFace",
    "ArcFace",
    "CircleLoss",
    "CombinedMargin",
    "CosFace",
    "CrystalLoss",
    "CurricularFace",
    "ElasticFace",
    "L2Softmax",
    "LargeMarginSoftmax",
    "MVSoftmax",
    "MagFace",
    "MarginHead",
    "NormFace",
    "SVSoftmax",
    "SoftmaxHead",
    "SphereFace",
    "SphereFace2",
    "SphereFaceR",
    "SubCenterArcFace",
    "UniFace",
    "alpha_lower_bound",
    "angle_multiplier_lower_bound",
    "cosine_margin_upper_bound",
    "loss_lower_bound",
    "margins_by_class_size",
    "scale_lower_bound",
]
