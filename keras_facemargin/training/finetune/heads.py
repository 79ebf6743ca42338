"""The heads that `finetune` trains with."""

import functools
from collections.abc import Callable
from typing import Any

from keras_facemargin.heads import (
    AdaCos,
    AdaFace,
    ArcFace,
    CircleLoss,
    CombinedMargin,
    CosFace,
    CurricularFace,
    ElasticFace,
    L2Softmax,
    MVSoftmax,
    NormFace,
    SphereFace2,
    SubCenterArcFace,
    SVSoftmax,
    UniFace,
)

# Margins are the papers'; scales suit hundreds of people, not the papers' tens of thousands. The
# default's was chosen on people whom docs/finetune.md does not report.
HEADS: dict[str, Callable[[int], Any]] = {
    "cosface": functools.partial(CosFace, margin=0.35, scale=16.0),
    "arcface": functools.partial(ArcFace, margin=0.5, scale=30.0),
    "normface": functools.partial(NormFace, scale=30.0),
    "l2softmax": L2Softmax,
    "svsoftmax": functools.partial(SVSoftmax, variant="am"),
    "mvsoftmax": MVSoftmax,
    "combined": functools.partial(CombinedMargin, scale=30.0),
    "adacos": AdaCos,
    "curricularface": functools.partial(CurricularFace, scale=30.0),
    "adaface": functools.partial(AdaFace, scale=30.0),
    "elasticface": functools.partial(ElasticFace, scale=30.0),
    "subcenter": functools.partial(SubCenterArcFace, scale=30.0),
    "sphereface2": SphereFace2,
    "circle": CircleLoss,
    "uniface": functools.partial(UniFace, scale=30.0),
}


def head_of(head: str | Callable[[int], Any]) -> Callable[[int], Any]:
    """The function that makes a head, from a key of `HEADS` or as given.

    Raises:
        ValueError: an unknown key.
    """
    make = head if callable(head) else HEADS.get(head)
    if make is None:
        raise ValueError(
            f"`head` must be one of {', '.join(sorted(HEADS))} or a function of the number of "
            f"identities. Received: head={head!r}"
        )
    return make
