"""Face recognition in Keras 3: margin heads, embedders, evaluation and export.

The front door: names only. Opening it registers every layer and loss with Keras, so that a saved
model loads. The rooms that go with it are opened by importing them: `keras_facemargin.pairwise`,
`.data`, `.evaluate`, `.export`.
"""

try:
    import keras  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        f"Keras needs a backend. Received: {error}. Install one: pip install "
        "'keras_facemargin[tensorflow]' (or [jax], [torch] with KERAS_BACKEND set to its name)."
    ) from error

from keras_facemargin import pairwise  # noqa: F401  (registers its losses)
from keras_facemargin.classifier import MarginClassifier
from keras_facemargin.embedder import build_embedder
from keras_facemargin.heads import (
    AdaCos,
    AdaFace,
    ArcFace,
    CircleLoss,
    CombinedMargin,
    CosFace,
    CrystalLoss,
    CurricularFace,
    ElasticFace,
    L2Softmax,
    LargeMarginSoftmax,
    MagFace,
    MVSoftmax,
    NormFace,
    SoftmaxHead,
    SphereFace,
    SphereFace2,
    SphereFaceR,
    SubCenterArcFace,
    SVSoftmax,
    UniFace,
)
from keras_facemargin.heads.shards import PrototypeParallel
from keras_facemargin.pooling import MediaPooling, QualityPooling
from keras_facemargin.zoo import list_embedders, load_card, load_embedder

__version__ = "0.1.0"

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
    "MarginClassifier",
    "MediaPooling",
    "NormFace",
    "PrototypeParallel",
    "QualityPooling",
    "SVSoftmax",
    "SoftmaxHead",
    "SphereFace",
    "SphereFace2",
    "SphereFaceR",
    "SubCenterArcFace",
    "UniFace",
    "build_embedder",
    "list_embedders",
    "load_card",
    "load_embedder",
]
