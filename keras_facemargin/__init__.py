"""Face recognition in Keras 3: margin heads, embedders, evaluation and export.

The front door: names only. `import keras_facemargin` registers every class that a saved model may
hold, so that Keras loads it. All else is opened when it is used: a name of the list below, or a
room such as `keras_facemargin.data`.

The command `facemargin` imports this package as well, and its help must not wait for Keras. For it
alone nothing is registered here: `keras_facemargin.cli` does so for the commands that need Keras.
Using any name or room of this package registers too, so a program that only looks like the command
works as well.
"""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from keras_facemargin.recognizer import load_recognizer
    from keras_facemargin.zoo import list_embedders, load_card, load_embedder, open_embedder

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
    "load_recognizer",
    "open_embedder",
]

# Where each name is; the others are heads.
_HOMES = {
    "MarginClassifier": "classifier",
    "MediaPooling": "pooling",
    "PrototypeParallel": "heads.margin_head.shards",
    "QualityPooling": "pooling",
    "build_embedder": "embedder",
    "list_embedders": "zoo",
    "load_card": "zoo",
    "load_embedder": "zoo",
    "load_recognizer": "recognizer",
    "open_embedder": "zoo",
}
_ROOMS = (
    *("audit", "augmentation", "backbones", "bench", "callbacks", "data", "demo", "evaluate"),
    *("export", "gallery", "heads", "images", "losses", "recognizer", "report", "runtime"),
    *("training", "zoo"),
)


def _is_the_command():
    program = "".join(sys.argv[:1])
    if program == "-m":  # Python is looking for the module to run; its name is not in `argv` yet
        rest = sys.orig_argv[sys.orig_argv.index("-m") :] if "-m" in sys.orig_argv else []
        return rest[1:2] == [__name__]
    return Path(program).name in ("facemargin", "facemargin.exe")


def __getattr__(name):
    if name not in (*__all__, *_ROOMS):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module(f"{__name__}.registered")
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    home = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'heads')}")
    value = globals()[name] = getattr(home, name)
    return value


def __dir__():
    return sorted({*globals(), *__all__, *_ROOMS})


if not _is_the_command():
    importlib.import_module(f"{__name__}.registered")
