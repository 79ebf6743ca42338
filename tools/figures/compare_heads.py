"""Writes docs/comparison.md: logits of published codes and of our heads at a few angles.

    python tools/figures/compare_heads.py docs/comparison.md

Each published behaviour is a function here from an angle to the logit (scale 1) and to the slope
of that logit by the cosine *as the code's own autograd takes it*: plain float64, written from what
the code does and not from its text. Ours come from calling the layer, its slope from autodiff. A
row that names arguments of ours is held to `TOLERANCE` by tests/test_docs_comparison.py.
"""

import argparse
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import keras
import numpy as np

from keras_facemargin import heads

ANGLES = (30, 90, 150, 170)  # degrees, to the true class
OTHER_ANGLES = (30, 50, 70, 120)  # degrees, to a wrong class, the true one being at 60
TRUE_ANGLE = 60
TOLERANCE = 1e-6
CLASSES = 1000


class Row(NamedTuple):
    """A published behaviour, and which of our heads is that."""

    code: str
    source: str
    published: Callable  # angle in radians -> (logit / scale, its slope by the cosine)
    ours: str = ""  # as one would type it; "" where nothing of ours does that
    remark: str = ""
    state: tuple = ()  # of our head: (attribute, value)
    norm: float = 1.0  # of the embedding


# Slopes by c = cos(theta): d theta / d c = -1 / sin(theta).


def plain(theta):
    return math.cos(theta), 1.0


def arc(theta, margin):
    """cos(theta + m), differentiated."""
    return math.cos(theta + margin), math.sin(theta + margin) / math.sin(theta)


def detached(behaviour):
    """The value, with the slope of the bare cosine: the margin is put on without gradient."""
    return lambda theta, *rest: (behaviour(theta, *rest)[0], 1.0)


def arc_linear(theta, margin):
    if theta < math.pi - margin:
        return arc(theta, margin)
    return math.cos(theta) - margin * math.sin(margin), 1.0


def arc_easy(theta, margin):
    return arc(theta, margin) if theta < math.pi / 2 - 1e-12 else plain(theta)


def arc_else_plain(theta, margin):
    return arc(theta, margin) if theta < math.pi - margin else plain(theta)


def arc_reflected(theta, margin):
    value, slope = arc(theta, margin)
    return (value, slope) if theta < math.pi - margin else (-2.0 - value, -slope)


def arc_clipped(theta, margin):
    return math.cos(min(max(theta + margin, 1e-5), 3.14159)), 0.0


def am(theta, margin):
    return math.cos(theta) - margin, 1.0


def am_where(theta, margin, least):
    """The margin where the cosine is above `least` (cos(90 degrees) counts as 0)."""
    return am(theta, margin) if math.cos(theta) > least + 1e-12 else plain(theta)


def combined(theta, m1, m2, m3):
    angle = m1 * theta + m2
    return math.cos(angle) - m3, m1 * math.sin(angle) / math.sin(theta)


def combined_reflected(theta, m1, m2, m3):
    """One reflection, at the first bend."""
    value, slope = combined(theta, m1, m2, m3)
    if m1 * theta + m2 < math.pi:
        return value, slope
    return 2.0 * (-1.0 - m3) - value, -slope


def psi(theta, margin):
    k = math.floor(margin * theta / math.pi + 1e-12)
    sign = (-1) ** k
    return (
        sign * math.cos(margin * theta) - 2 * k,
        sign * margin * math.sin(margin * theta) / math.sin(theta),
    )


def annealed(theta, margin, weight):
    value, slope = psi(theta, margin)
    return (weight * math.cos(theta) + value) / (1 + weight), (weight + slope) / (1 + weight)


def adaface(theta, margin, quality):
    moved = theta - margin * quality
    clipped = min(max(moved, 1e-3), math.pi - 1e-3)
    slope = math.sin(moved) / math.sin(theta) if clipped == moved else 0.0
    return math.cos(clipped) - margin * (1 + quality), slope


def adaface_unclipped(theta, margin, quality):
    return math.cos(theta - margin * quality) - margin * (1 + quality), 1.0


def circle(theta, margin):
    c = math.cos(theta)
    weight = max(1 + margin - c, 0.0)
    return weight * (c - (1 - margin)), weight


def circle_other(theta, margin):
    c = math.cos(theta)
    weight = max(c + margin, 0.0)
    return weight * (c - margin), weight


def sharpened(theta, exponent, margin):
    """SphereFace2's g, less a margin."""
    half = (math.cos(theta) + 1) / 2
    return 2 * half**exponent - 1 - margin, exponent * half ** (exponent - 1)


def uniface(theta, margin, scale):
    """(s (c - m) - b) / s, the exponent clipped to [-s, s]."""
    value = math.cos(theta) - margin - math.log(10 * CLASSES) / scale
    return min(max(value, -1.0), 1.0), float(abs(value) < 1)


def hard(easy, harder, is_hard):
    """A wrong class: `harder` where it beats the true one's target, `easy` elsewhere."""

    def behaviour(theta):
        return (harder if is_hard(math.cos(theta)) else easy)(theta)

    return behaviour


def straight(slope, offset):
    return lambda theta: (slope * math.cos(theta) + offset, slope)


def curricular(t):
    return lambda theta: (math.cos(theta) * (t + math.cos(theta)), t + 2 * math.cos(theta))


def divided(theta, margin):
    return math.cos(theta / margin), math.sin(theta / margin) / margin / math.sin(theta)


def at(behaviour, *rest):
    return lambda theta: behaviour(theta, *rest)


COS_TRUE = math.cos(math.radians(TRUE_ANGLE))
ARC_TRUE = math.cos(math.radians(TRUE_ANGLE) + 0.5)

TORCH = "deepinsight/insightface, `recognition/arcface_torch/losses.py` at 7fadd420"
MXNET_OLD = "deepinsight/insightface, `src/train_softmax.py` at 0972924a, loss type 4"
MXNET = "deepinsight/insightface, `recognition/arcface_mxnet/train.py` at ce3600a7"
KI = "leondgarse/Keras_insightface, `losses.py` at 2dae8e64"
PML = "KevinMusgrave/pytorch-metric-learning, `losses/{}.py` at {}"
PML_PSI = PML.format("large_margin_softmax_loss", "130f6813")
OPENSPHERE = "ydwen/opensphere, `opensphere/module/head/{}.py` at ec8a8cab"
FACEX = "JDAI-CV/FaceX-Zoo, `head/{}.py` at {}"
SVX = "xiaoboCASIA/SV-X-Softmax, `fc_layers.py` at de3a82d7"
ADAFACE = "mk-minchul/AdaFace, `head.py` at 9cb98164"
CVLFACE = "mk-minchul/CVLface, `cvlface/research/recognition/code/run_v1/losses/{}.py` at d3d09c93"
ELASTIC = "fdbtrs/ElasticFace, `utils/losses.py` at ea2c5af0"
CURRICULAR = "HuangYG123/CurricularFace, `head/metrics.py` at d3802651"

PML_MARGIN = math.radians(28.6)
RISES = "rises again past the turning angle"
QUALITY = (("norm_mean", 20.0), ("norm_deviation", 5.0))

TARGETS = {
    "ArcFace, m = 0.5 (turning angle 151.4 degrees)": [
        Row(
            "keras_facemargin, default",
            "",
            at(arc_reflected, 0.5),
            "ArcFace()",
            "keeps falling, without a jump",
        ),
        Row(
            "insightface, MXNet 2018",
            MXNET_OLD,
            at(arc_linear, 0.5),
            'ArcFace(continuation="linear")',
            "jumps down by 0.117 at the turning angle",
        ),
        Row(
            "the same, `easy_margin`",
            MXNET_OLD,
            at(arc_easy, 0.5),
            'ArcFace(continuation="easy")',
            "no margin from 90 degrees on, where it jumps up by 0.479",
        ),
        Row(
            "insightface, MXNet, margin_softmax (1, 0.5, 0)",
            MXNET,
            at(arc, 0.5),
            'ArcFace(continuation="none")',
            RISES,
        ),
        Row(
            "insightface, PyTorch, an earlier version",
            "deepinsight/insightface, `recognition/arcface_torch/losses.py` at ede87b4a, `ArcFace`",
            at(arc, 0.5),
            'ArcFace(continuation="none")',
            RISES,
        ),
        Row(
            "insightface, PyTorch, today; CVLface",
            f"{TORCH}, `CombinedMarginLoss(s, 1, 0.5, 0)`; {CVLFACE.format('margin_loss')}",
            at(detached(arc), 0.5),
            'ArcFace(continuation="none", detach_margin=True)',
            "value " + RISES + ", gradient as without margin",
        ),
        Row(
            "Keras_insightface, ArcfaceLoss and ArcfaceLossSimple",
            KI,
            at(arc_reflected, 0.5),
            "ArcFace()",
            "NaN at cosines past 1, where ours is finite",
        ),
        Row(
            "Keras_insightface, ArcfaceLossT4 (an earlier version)",
            "leondgarse/Keras_insightface, `losses.py` at 07251ab1",
            at(arc_linear, 0.5),
            'ArcFace(continuation="linear")',
        ),
        Row(
            "arcface-tf2",
            "peteryuX/arcface-tf2, `modules/layers.py` at 617523e3",
            at(arc_linear, 0.5),
            'ArcFace(continuation="linear")',
            "NaN at cosines past 1, where ours is finite",
        ),
        Row(
            "pytorch-metric-learning from 2.0, margin=28.6 degrees",
            PML.format("arcface_loss", "07f880dd"),
            at(arc_linear, PML_MARGIN),
            'ArcFace(margin=math.radians(28.6), continuation="linear")',
            "its later documentation has margin=0.5: check the unit of your version",
        ),
        Row(
            "pytorch-metric-learning before 2.0, margin=28.6 degrees",
            PML.format("arcface_loss", "0441c89b"),
            at(arc, PML_MARGIN),
            'ArcFace(margin=math.radians(28.6), continuation="none")',
            RISES,
        ),
        Row(
            "opensphere",
            OPENSPHERE.format("arcface"),
            at(detached(arc_clipped), 0.5),
            'ArcFace(continuation="clip", detach_margin=True)',
            "flat past the turning angle, but the gradient still pulls",
        ),
        Row(
            "FaceX-Zoo, margin_arc=0.5, margin_am=0",
            FACEX.format("ArcFace", "4380d48e"),
            at(arc_else_plain, 0.5),
            "",
            "*not offered*: jumps up by 0.122 at the turning angle; "
            "margin_am = m sin(m) would be linear",
        ),
        Row(
            "CurricularFace, true class (and its ArcFace)",
            CURRICULAR,
            at(arc_linear, 0.5),
            'CurricularFace(continuation="linear")',
        ),
        Row(
            "ElasticFace-Arc at the mean margin",
            ELASTIC,
            at(arc, 0.5),
            'ElasticFace(continuation="none", deviation=0)',
            RISES + "; our default reflects",
        ),
    ],
    "CosFace, m = 0.35": [
        Row(
            "insightface (MXNet, PyTorch), CVLface, opensphere, FaceX-Zoo AM_Softmax, "
            "Keras_insightface CosFaceLoss, pytorch-metric-learning CosFaceLoss, ElasticFace-Cos",
            f"{TORCH}; {MXNET}; {OPENSPHERE.format('cosface')}; {KI}; {ELASTIC}; "
            f"{FACEX.format('AM_Softmax', '4380d48e')}; {PML.format('cosface_loss', '15050e0b')}",
            at(am, 0.35),
            "CosFace()",
            "all agree, detached or not: the slope is 1 either way",
        ),
        Row(
            "SV-X-Softmax code, 'AM', easy_margin=True (its default)",
            SVX,
            at(am_where, 0.35, 0.0),
            "",
            "*not offered*: no margin from 90 degrees on, where it jumps up by m",
        ),
    ],
    "Combined margin": [
        Row(
            "insightface, MXNet, (1, 0.3, 0.2)",
            MXNET,
            at(combined, 1.0, 0.3, 0.2),
            'CombinedMargin(m1=1, m2=0.3, m3=0.2, continuation="none")',
            RISES,
        ),
        Row(
            "insightface, PyTorch, `CombinedMarginLoss(s, 1, 0.3, 0.2)`",
            TORCH,
            at(am, 0.2),
            "CosFace(margin=0.2)",
            "m2 is ignored as soon as m3 > 0: this is *not* the combined margin",
        ),
        Row(
            "Keras_insightface, ArcfaceLoss(1, 0.3, 0.2)",
            KI,
            at(combined_reflected, 1.0, 0.3, 0.2),
            "CombinedMargin(m1=1, m2=0.3, m3=0.2)",
        ),
        Row(
            "insightface, MXNet, (0.9, 0.4, 0.15)",
            MXNET,
            at(combined, 0.9, 0.4, 0.15),
            'CombinedMargin(m1=0.9, m2=0.4, m3=0.15, continuation="none")',
        ),
        Row(
            "insightface, MXNet, (1.35, 0, 0), its SphereFace",
            MXNET,
            at(combined, 1.35, 0.0, 0.0),
            'CombinedMargin(m1=1.35, m2=0, m3=0, continuation="none")',
            RISES + ", from 133.3 degrees",
        ),
    ],
    "SphereFace and L-Softmax (norm of the embedding 1)": [
        Row(
            "paper, psi with m = 4; pytorch-metric-learning SphereFaceLoss",
            f"arXiv:1704.08063, Eq. 7; {PML.format('sphereface_loss', '15050e0b')}; {PML_PSI}",
            at(psi, 4),
            "SphereFace(base=0, minimum=0)",
            "without annealing",
        ),
        Row(
            "pytorch-metric-learning LargeMarginSoftmaxLoss, m = 4",
            PML_PSI,
            at(psi, 4),
            "LargeMarginSoftmax(base=0, minimum=0)",
            "norm of the prototype 1",
        ),
        Row(
            "paper at the end of its annealing, lambda = 5; SV-X-Softmax code, 'SphereFace'",
            f"wy1iu/sphereface, `margin_inner_product_layer.cpp` at f20b130a; {SVX}",
            at(annealed, 4, 5.0),
            "SphereFace(base=0, minimum=5)",
            "value as in Caffe; Caffe's backward pass differs, see below",
        ),
        Row(
            "Keras_insightface, ArcfaceLoss(4, 0, 0)",
            KI,
            at(combined_reflected, 4.0, 0.0, 0.0),
            "",
            "*not offered*: one reflection only, rises past 90 degrees; psi has three",
        ),
        Row(
            "opensphere SphereFace, m = 1.7",
            OPENSPHERE.format("sphereface"),
            at(detached(psi), 1.7),
            'SphereFaceR(margin=1.7, version="v0", loss_weight=64)',
            "our loss is weighed by loss_weight / scale: equal there with loss_weight = scale",
        ),
        Row(
            "opensphere SphereFaceR, v1, m = 1.5",
            "ydwen/opensphere, `model/head/spherefacer.py` at 310d889c, removed since",
            detached(
                lambda theta: (math.cos(min(1.5 * theta, 3.14159)), 0.0),
            ),
            'SphereFaceR(margin=1.5, version="v1")',
        ),
    ],
    "Margins that follow the norm": [
        Row(
            "AdaFace, q = -1 (ArcFace 0.4)",
            ADAFACE,
            at(adaface, 0.4, -1.0),
            'AdaFace(continuation="clip")',
            "no pull past the turning angle; our default reflects",
            QUALITY,
            1.0,
        ),
        Row(
            "AdaFace, q = 0 (CosFace 0.4)",
            ADAFACE,
            at(adaface, 0.4, 0.0),
            'AdaFace(continuation="clip")',
            "",
            QUALITY,
            20.0,
        ),
        Row(
            "AdaFace, q = 1",
            ADAFACE,
            at(adaface, 0.4, 1.0),
            'AdaFace(continuation="clip")',
            "",
            QUALITY,
            50.0,
        ),
        Row(
            "CVLface AdaFaceLoss, q = -1",
            CVLFACE.format("adaface"),
            at(adaface_unclipped, 0.4, -1.0),
            'AdaFace(continuation="none", detach_margin=True)',
            "clips no angle, unlike AdaFace: " + RISES,
            QUALITY,
            1.0,
        ),
        Row(
            "CVLface AdaFaceLoss, q = 1",
            CVLFACE.format("adaface"),
            at(adaface_unclipped, 0.4, 1.0),
            'AdaFace(continuation="none", detach_margin=True)',
            "below 0.4 rad theirs falls again towards 0 degrees, ours stays at its top",
            QUALITY,
            50.0,
        ),
        Row(
            "MagFace, norm 60 (m = 0.625), easy_margin=True (its default)",
            "IrvingMeng/MagFace, `models/magface.py` at 719001a0",
            at(arc_easy, 0.625),
            'MagFace(continuation="easy")',
            "our default reflects",
            (),
            60.0,
        ),
        Row(
            "the same, easy_margin=False",
            "IrvingMeng/MagFace, `models/magface.py` at 719001a0",
            at(arc_linear, 0.625),
            'MagFace(continuation="linear")',
            "",
            (),
            60.0,
        ),
        Row(
            "FaceX-Zoo MagFace, norm 60, margin_am=0",
            FACEX.format("MagFace", "4380d48e"),
            at(arc_else_plain, 0.625),
            "",
            "*not offered*: same continuation as its ArcFace",
            (),
            60.0,
        ),
    ],
    "Mining losses, true class": [
        Row(
            "SV-AM paper; SV-X-Softmax code, MV-AM, easy_margin=False",
            f"arXiv:1812.11317, Eq. 12-13; {SVX}",
            at(am, 0.35),
            'SVSoftmax(variant="am")',
        ),
        Row(
            "SV-X-Softmax code, MV-AM, easy_margin=True (its default)",
            SVX,
            at(am_where, 0.35, 0.0),
            "",
            "*not offered*: no margin from 90 degrees on",
        ),
        Row(
            "SV-X-Softmax code, MV-Arc, easy_margin=True, m = 0.35 (its default)",
            SVX,
            at(arc_easy, 0.35),
            "",
            '*not offered*; `ArcFace(margin=0.35, continuation="easy")` has this true class, '
            "not the mining",
        ),
        Row(
            "FaceX-Zoo MV_Softmax, is_am, m = 0.35",
            FACEX.format("MV_Softmax", "a82aab33"),
            at(am_where, 0.35, 0.35),
            "",
            "*not offered*: the margin only where cos > m, 69.5 degrees",
        ),
    ],
    "Circle, SphereFace2, UniFace": [
        Row(
            "FaceX-Zoo CircleLoss, m = 0.25 (class level)",
            FACEX.format("CircleLoss", "276f850a"),
            at(circle, 0.25),
            "CircleLoss()",
            "slope: the detached weight, as in the paper",
        ),
        Row(
            "opensphere SphereFace2-C, today (less b / r)",
            OPENSPHERE.format("sphereface2"),
            at(detached(sharpened), 3.0, 0.4),
            "SphereFace2(detach_margin=True)",
        ),
        Row(
            "opensphere SphereFace2-C, first version (less b / r)",
            "ydwen/opensphere, `model/head/sphereface2c.py` at 26494db5",
            at(sharpened, 3.0, 0.4),
            "SphereFace2()",
            "the gradient of the paper's formula",
        ),
        Row(
            f"UniFace, m = 0.4, s = 64, {CLASSES} classes",
            "CVI-SZU/UniFace, `head.py` at d3f1a605",
            at(uniface, 0.4, 64.0),
            "",
            "exponent clipped to [-s, s], no pull outside; `UniFace()` does not clip "
            "and is equal up to that",
        ),
    ],
}

OTHERS = {
    "A wrong class, the true one at 60 degrees": [
        Row(
            "SV-Softmax paper, t = 1.2, plain",
            "arXiv:1812.11317, Eq. 5-7",
            hard(plain, straight(1.2, 0.2), lambda c: c > COS_TRUE),
            "SVSoftmax(hardness=1.2)",
        ),
        Row(
            "SV-AM paper, t = 1.2, m = 0.35",
            "arXiv:1812.11317, Eq. 12-13",
            hard(plain, straight(1.2, 0.2), lambda c: c > COS_TRUE - 0.35),
            'SVSoftmax(variant="am", hardness=1.2)',
        ),
        Row(
            "SV-X-Softmax code, MV-AM, t = 0.2, adaptive",
            SVX,
            hard(plain, straight(1.2, 0.2), lambda c: c > COS_TRUE - 0.35),
            "MVSoftmax(hardness=0.2)",
            "t counts from 0 here, from 1 in the line above: the same loss",
        ),
        Row(
            "the same, fixed (a comment in the code)",
            SVX,
            hard(plain, straight(1.0, 0.2), lambda c: c > COS_TRUE - 0.35),
            'MVSoftmax(mode="fixed", hardness=0.2)',
        ),
        Row(
            "SV-X-Softmax code, MV-Arc, t = 0.2, margin=0.5",
            SVX,
            hard(plain, straight(1.2, 0.2), lambda c: c > ARC_TRUE),
            'MVSoftmax(variant="arc", hardness=0.2)',
        ),
        Row(
            "FaceX-Zoo MV_Softmax, is_am, mv_weight=1.12",
            FACEX.format("MV_Softmax", "a82aab33"),
            hard(plain, straight(1.12, 0.12), lambda c: c > COS_TRUE - 0.35),
            "MVSoftmax(hardness=0.12)",
            "mv_weight is 1 + t",
        ),
        Row(
            "CurricularFace, t = 0.3",
            CURRICULAR,
            hard(plain, curricular(0.3), lambda c: c > ARC_TRUE),
            "CurricularFace()",
            "t is a moving average, set to 0.3 for the comparison",
            (("t", 0.3),),
        ),
        Row(
            "opensphere SphereFaceR, v2, m = 1.4",
            "ydwen/opensphere, `model/head/spherefacer.py` at 310d889c, removed since",
            at(detached(divided), 1.4),
            'SphereFaceR(margin=1.4, version="v2")',
        ),
        Row(
            "the same formula, differentiated",
            "arXiv:2109.05565",
            at(divided, 1.4),
            'SphereFaceR(margin=1.4, version="v2", detach_margin=False)',
        ),
        Row(
            "FaceX-Zoo CircleLoss, m = 0.25",
            FACEX.format("CircleLoss", "276f850a"),
            at(circle_other, 0.25),
            "CircleLoss()",
        ),
        Row(
            "opensphere SphereFace2-C, today (less b / r)",
            OPENSPHERE.format("sphereface2"),
            at(detached(sharpened), 3.0, -0.4),
            "SphereFace2(detach_margin=True)",
        ),
    ],
}


# Ours.


def make(expression):
    """The head of an `expression` that is written without the number of classes."""
    name, arguments = expression.split("(", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return eval(
            f'heads.{name}({CLASSES}, dtype="float64", {arguments}', {"heads": heads, "math": math}
        )


def ours(row, angles, other=False):
    """(logit / scale, slope by the cosine) at each angle, from calling the layer."""
    import tensorflow as tf

    head = make(row.ours)
    _build(head)
    for attribute, value in row.state:
        getattr(head, attribute).assign(value)
    thetas = np.radians(angles)
    # A right angle has cosine 0, not 6e-17: codes that ask "above 0?" are asked at the bend itself.
    rounding = np.where(np.abs(np.cos(thetas)) < 1e-15, np.cos(thetas), 0.0)
    moving = tf.constant(thetas)
    with tf.GradientTape() as tape:
        tape.watch(moving)
        around = tf.stack([tf.cos(moving) - rounding, tf.sin(moving)], axis=-1)
        logits = (_wrong if other else _true)(head, row.norm, around)
    slopes = -tape.gradient(logits, moving).numpy() / np.sin(thetas)
    factor = row.norm if head.scale is None else head.scale
    bias = float(getattr(head, "shared_bias", 0.0))
    return [
        ((z - bias) / factor, slope / factor)
        for z, slope in zip(logits.numpy(), slopes, strict=True)
    ]


def _build(head):
    with warnings.catch_warnings():  # a margin of 0.35 is too large in the plane, as it says
        warnings.simplefilter("ignore", UserWarning)
        head.build((None, 2))


def _true(head, norm, around):
    """Logits of the true class: embeddings go around, their prototype stays."""
    head.prototypes.assign(np.tile([1.0, 0.0], (CLASSES, 1)))
    return head(norm * around, np.zeros(len(around), "int32"))[:, 0]


def _wrong(head, norm, around):
    """Logits of wrong classes: their prototypes go around, the embedding and its own stay."""
    own = np.array([[COS_TRUE, -math.sqrt(1 - COS_TRUE**2)]])
    rest = np.tile([-1.0, 0.0], (CLASSES - 1 - len(around), 1))
    prototypes = keras.ops.concatenate([own, around, rest], axis=0)
    with keras.StatelessScope(state_mapping=[(head.prototypes, prototypes)]):
        return head(np.array([[norm, 0.0]]), np.array([0]))[0, 1 : 1 + len(around)]


def published(row, angles):
    return [tuple(map(float, row.published(math.radians(angle)))) for angle in angles]


def difference(row, angles, other=False):
    """Largest difference of value or slope between a published code and ours."""
    theirs = np.array(published(row, angles))
    return float(np.abs(theirs - np.array(ours(row, angles, other))).max())


def handed_out():
    """ElasticFace-Cos+: four drawn margins, as the authors' code and as ours hands them out."""
    cosines, drawn = np.array([0.2, 0.9, 0.5, 0.7]), np.array([0.4, 0.45, 0.5, 0.6])
    theirs = np.sort(drawn)[np.argsort(-cosines)]
    head = make('ElasticFace(variant="am", plus=True, seed=0)')
    _build(head)
    head.prototypes.assign(np.tile([1.0, 0.0], (CLASSES, 1)))
    embeddings = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=-1)
    deviations = keras.ops.convert_to_tensor(drawn - head.margin)
    with mock.patch("keras.random.normal", return_value=deviations):
        logits = np.asarray(head(embeddings, np.zeros(4, "int32"), training=True))
    return cosines, drawn, theirs, cosines - logits[:, 0] / head.scale


# The page.

HEADER = """\
# What published codes do, in numbers

`python tools/figures/compare_heads.py docs/comparison.md` writes this page and
`tests/test_docs_comparison.py` tests it. [Choosing a loss](losses.md) is another page.

Two codes with the same paper's name may train differently. Each row gives the logit of a class at
scale 1 for four angles, and its slope: **d logit / d cos(theta), as that code's own autograd
computes it**. A slope of 1 is the pull of a softmax without margin. The published figures are
computed in float64 from what the code does (`tools/figures/compare_heads.py`), not by running it.
Ours come from calling the layer in float64, with the slope from automatic differentiation on
TensorFlow.

*Ours* is the code here with that behaviour; the number of classes comes first (`ArcFace(10572,
continuation="linear")`). *Off by* is the largest difference among the eight figures. A test
requires at most 1e-6 of each row that names arguments. The other rows are behaviours that we do not
offer, with the reason. The *turning angle* is `pi - m`, where the plain formula starts to rise.
"""

WORDS = """\
## In words

- **SphereFace in Caffe** (wy1iu/sphereface, `margin_inner_product_layer.cpp` at f20b130a): the
  forward pass is the row above. The backward pass to the embedding takes the two coefficients of
  the true class's term (of the prototype and of the embedding's direction) and divides them by
  their joint 2-norm, so it replaces the slope by one of unit length. The prototypes receive the
  plain gradient of an inner product, without the margin, and are renormalised in place at each
  forward pass. Ours is the gradient of the formula.
- **Straight-through** (insightface for PyTorch, CVLface, opensphere): the margin is computed
  without gradient, so it affects the backward pass only through the softmax's probabilities.
  `detach_margin=True` does the same in every head here.
- **Clipping**: AdaFace clips cosines to +-(1 - 1e-3) and the angle with its margin to [1e-3, pi -
  1e-3], opensphere to [1e-5, 3.14159]. Inside a clip the gradient is 0 (AdaFace) or 1 (opensphere,
  which is detached). Ours clips at 0 and pi.
- **Annealing**: Caffe's SphereFace counts steps from 1 with 1000 (1 + 0.12 n)^-1 down to 5; the
  SV-X-Softmax code with 1000 (1 + 0.0001 n)^-2 down to 5 (`base=1000, gamma=1e-4, power=2,
  minimum=5`); pytorch-metric-learning does not anneal.
- **CurricularFace in Keras_insightface** compares a wrong class with the *continued* true one,
  reflected past the turning angle. The authors and this package compare it with the plain
  cos(theta + m).
- **interclass_filtering_threshold** of insightface for PyTorch sets wrong classes above it to a
  logit of 0, which stays in the softmax's sum. This package has no such option.
"""


def page():
    """The text of docs/comparison.md."""
    sources = {}
    parts = [HEADER]
    for groups, angles, other in ((TARGETS, ANGLES, False), (OTHERS, OTHER_ANGLES, True)):
        for title, rows in groups.items():
            parts.append(f"\n## {title}\n\n{_head(angles)}")
            parts.extend(_line(row, angles, other, sources) for row in rows)
    parts.append("\n## ElasticFace-Cos+: who draws which margin\n\n" + _elastic(sources))
    parts.append("\n" + WORDS + "\n## Sources\n\n")
    parts.extend(f"{number}. {source}\n" for source, number in sources.items())
    return "".join(parts)


def _head(angles):
    columns = ["code", *(f"{angle}°" for angle in angles), *(f"slope {a}°" for a in angles)]
    columns += ["ours", "off by", "remark"]
    return f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}\n"


def _line(row, angles, other, sources):
    figures = published(row, angles)
    numbers = [
        str(sources.setdefault(source, len(sources) + 1))
        for source in filter(None, row.source.split("; "))
    ]
    code = f"{row.code} [{', '.join(numbers)}]" if numbers else f"**{row.code}**"
    cells = [code, *(_figure(value) for value, _ in figures), *(_figure(s) for _, s in figures)]
    cells += [f"`{row.ours}`", _off(difference(row, angles, other))] if row.ours else ["-", "-"]
    return f"| {' | '.join((*cells, row.remark))} |\n"


def _figure(number):
    return f"{round(number, 4) + 0.0:.4f}"


def _off(number):
    return f"< {TOLERANCE:.0e}".replace("e-0", "e-") if number < TOLERANCE else _figure(number)


def _elastic(sources):
    number = sources.setdefault(ELASTIC, len(sources) + 1)
    cosines, drawn, theirs, own = handed_out()
    rows = [("cosine to the true class", cosines), ("margins drawn", drawn)]
    rows += [(f"authors' code assigns [{number}]", theirs), ("ours assigns", own)]
    table = "".join(
        f"| {name} | {' | '.join(f'{v:.2f}' for v in values)} |\n" for name, values in rows
    )
    return (
        "In the paper the farthest sample gets the largest margin. The authors' code indexes the "
        "sorted margins with argsort instead of with ranks.\n\n| | sample 1 | 2 | 3 | 4 |\n"
        f"|{' --- |' * 5}\n{table}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(page(), encoding="utf-8")
    print(f"{arguments.output}: {sum(map(len, (*TARGETS.values(), *OTHERS.values())))} behaviours")


if __name__ == "__main__":
    main()
