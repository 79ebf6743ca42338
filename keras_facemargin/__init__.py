"""Face recognition in Keras 3: margin heads, embedders, evaluation and export.

The front door: names only. Opening it registers every layer and loss with Keras, so that a saved
model loads. The rooms that go with it are opened by importing them: `keras_facemargin.losses`,
`.data`, `.evaluate`, `.export`.
"""

import os
import sys
from pathlib import Path

try:
    import keras  # noqa: F401
except (ModuleNotFoundError, ValueError) as error:  # Keras: ValueError for an unknown backend
    message = (
        "Keras needs an installed backend: tensorflow, jax or torch. Received: "
        f"KERAS_BACKEND={os.environ.get('KERAS_BACKEND', '')!r}, {error}. Run pip install "
        "'keras_facemargin[tensorflow]' (or [jax], [torch]) and set KERAS_BACKEND to its name."
    )
    # The command (`facemargin`, or `python -m keras_facemargin`) answers without a traceback.
    if Path("".join(sys.argv[:1])).stem in ("facemargin", "-m"):
        raise SystemExit(f"Error: {message}") from None
    raise ImportError(message) from error

from keras_facemargin import losses  # noqa: F401  (registers its losses)
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
from keras_facemargin.heads.margin_head.shards import PrototypeParallel
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
