"""The cases of the contract: every head that `keras_facemargin.heads` exports, with its defaults,
and settings that take another path through the code.

An exported head needs no line here.
"""

import warnings

import numpy as np

from keras_facemargin import heads

CLASSES, DIM, BATCH = 7, 5, 12

EACH_CLASS = [0.1, 0.5, 0.3, 0.0, 0.2, 0.45, 0.35]  # a margin for each

SETTINGS = {
    "NormFace": {"learned": {"scale": 15.0, "learn_scale": True}},
    "L2Softmax": {"trained alpha": {"alpha": 14.0, "trainable_alpha": True}},
    "LargeMarginSoftmax": {"bare": {"base": 0.0, "minimum": 0.0}},
    "SphereFace": {
        "bare": {"base": 0.0, "minimum": 0.0},
        "bare m=3": {"margin": 3, "base": 0.0, "minimum": 0.0},
    },
    "SphereFaceR": {
        "v0": {"version": "v0", "margin": 1.7, "scale": 30.0},
        "v1": {"version": "v1", "margin": 1.5, "scale": 30.0},
        "own gradient": {"detach_margin": False},
        "v0 own gradient": {"version": "v0", "margin": 1.7, "detach_margin": False},
        "soft": {"normalization": "soft", "scale": 4.0},
        "unscaled": {"normalization": "none", "version": "v1"},
    },
    "SphereFace2": {
        "A": {"variant": "A"},
        "M": {"variant": "M"},
        "detached": {"detach_margin": True},
    },
    "CosFace": {"detached": {"detach_margin": True}, "each class": {"margin": EACH_CLASS}},
    "ArcFace": {
        "each class": {"margin": EACH_CLASS},
        "linear": {"continuation": "linear"},
        "easy": {"continuation": "easy"},
        "clip": {"continuation": "clip"},
        "none, detached": {"continuation": "none", "detach_margin": True},
    },
    "CombinedMargin": {
        "second of the paper": {"m1": 0.9, "m2": 0.4, "m3": 0.15},
        "each class": {"m2": EACH_CLASS, "m3": EACH_CLASS[::-1]},
        "as published": {"continuation": "none", "m1": 1.35, "m2": 0.0, "m3": 0.0},
    },
    "AdaCos": {"fixed": {"dynamic": False}},
    "SVSoftmax": {"am": {"variant": "am"}, "arc": {"variant": "arc"}},
    "MVSoftmax": {
        "am fixed": {"mode": "fixed"},
        "arc": {"variant": "arc"},
        "arc fixed": {"variant": "arc", "mode": "fixed"},
    },
    "CurricularFace": {"linear": {"continuation": "linear"}},
    "AdaFace": {"clip": {"continuation": "clip"}, "fast": {"rate": 1.0, "concentration": 1.0}},
    "MagFace": {
        "easy": {"continuation": "easy"},
        "short": {"norm_range": (1.0, 4.0), "margin": (0.2, 0.9)},
    },
    "ElasticFace": {
        "plus": {"plus": True},
        "am": {"variant": "am"},
        "am plus": {"variant": "am", "plus": True},
    },
    "SubCenterArcFace": {"one": {"num_centers": 1}},
}

HEADS = tuple(heads.list())
CASES = {
    f"{name} {setting}".strip(): (name, arguments)
    for name in HEADS
    for setting, arguments in {"": {}, **SETTINGS.get(name, {})}.items()
}
# Published continuations that rise again with the angle.
RISING = ("ArcFace easy", "ArcFace none, detached", "CombinedMargin as published", "MagFace easy")


def make(case, num_classes=CLASSES, **kwargs):
    """The head of a case, without the warning that a default is low for so few classes."""
    name, arguments = CASES[case]
    arguments = {
        key: np.resize(value, num_classes) if isinstance(value, list) else value
        for key, value in arguments.items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return getattr(heads, name)(num_classes, **arguments, **kwargs)


def batch(seed=0, spread=1.5, shape=(CLASSES, DIM)):
    """Embeddings on and around the prototypes, so that every branch of every loss is visited."""
    rng = np.random.default_rng(seed)
    prototypes = rng.normal(size=shape)
    labels = rng.integers(0, CLASSES, BATCH)
    signs = np.where(np.arange(BATCH) % 3 == 0, -1.0, 1.0)[:, None]
    centers = prototypes if len(shape) == 2 else prototypes[:, 0]
    embeddings = signs * centers[labels] + spread * rng.normal(size=(BATCH, DIM))
    return embeddings, labels, prototypes
