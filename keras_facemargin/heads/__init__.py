"""Margin-softmax heads: one layer a loss, one file a paper, one core (`margin_head/head.py`).

```
head = heads.get("CosFace", num_classes=1000, margin=0.4)
```

To add a loss: a file with a subclass of `MarginHead` that overrides one or two hooks, a line here,
and its plain-loop reference in `tests/references.py`.
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
from keras_facemargin.heads.names import get_object
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
    "get",
    "list",
    "loss_lower_bound",
    "margins_by_class_size",
    "scale_lower_bound",
]

_CLASSES = {
    name: value
    for name, value in globals().items()
    if isinstance(value, type) and issubclass(value, MarginHead) and value is not MarginHead
}


def get(identifier, **arguments):
    """A head by its name, as `keras.losses.get` finds a loss.

    Args:
        identifier: a head's name in any common spelling ("CosFace", "cosface", "cos_face"), its
            serialized config (a dict with "class_name" and "config"), a class, or a head, which is
            returned unchanged.
        **arguments: of the constructor, `num_classes` among them; they override a config's.

    Returns:
        A `MarginHead`.

    Raises:
        ValueError: no head has that name (the error lists the nearest names); an argument
            is out of range.

    Example:

    >>> get("cosface", num_classes=1000, margin=0.4).margin
    0.4
    >>> get({"class_name": "CosFace", "config": {"num_classes": 1000}}).num_classes
    1000
    """
    return get_object("head", identifier, MarginHead, _CLASSES, arguments)


def list():
    """Names of all heads, sorted, each once.

    Example:

    >>> list()[:3]
    ['AdaCos', 'AdaFace', 'ArcFace']
    """
    return sorted(name for name, value in _CLASSES.items() if value.__name__ == name)
