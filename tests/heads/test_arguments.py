"""A wrong argument of a head or pairwise loss, of any type, gives an error of one sentence."""

import inspect

import numpy as np
import pytest
from cases import HEADS

from keras_facemargin import heads, losses, margins

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.filterwarnings("ignore:.*should be at:UserWarning"),
]
MANY = np.full(1000, "a")
# No argument of a head takes one of these.
WRONG = ("64", "", float("nan"), float("inf"), 1j, {}, object(), b"1", [[0.1]], MANY)
# Where None means the paper's value, or that the head chooses.
MAY_BE_NONE = {
    *(("L2Softmax", "alpha"), ("ElasticFace", "deviation"), ("ElasticFace", "seed")),
    *((name, "margin") for name in ("ElasticFace", "SVSoftmax", "MVSoftmax", "SphereFace2")),
}
LOSSES = [name for name in losses.list() if name != "CenterLoss"]


def arguments_of(cls, *more):
    names = [*inspect.signature(cls.__init__).parameters, *more]
    return [
        n for n in dict.fromkeys(names) if n not in ("self", "kwargs", "prototypes_initializer")
    ]


def refuse(call, name, values):
    for value in values:
        with pytest.raises(ValueError) as error:
            call(**{name: value})
        message = str(error.value)
        assert f"`{name}`" in message and "Received: " in message
        assert len(message) < 300 and "\n" not in message


@pytest.mark.parametrize("name", HEADS)
def test_every_argument_of_a_head(name):
    cls = getattr(heads, name)

    def make(num_classes=5, **arguments):
        return cls(num_classes, **arguments)

    for argument in arguments_of(cls, "detach_margin", "blockwise", "sample_rate"):
        may_be_none = (name, argument) in MAY_BE_NONE or argument == "blockwise"
        refuse(make, argument, WRONG if may_be_none else (*WRONG, None))
    refuse(make, "detach_margin", ["False", 1])


@pytest.mark.parametrize("name", LOSSES)
def test_every_argument_of_a_pairwise_loss(name):
    cls = getattr(losses, name)
    for argument in arguments_of(cls, "reduction"):
        if argument not in ("name", "dtype"):  # Keras' own
            refuse(cls, argument, WRONG)


def test_every_argument_of_centre_loss():
    def make(**arguments):
        return losses.CenterLoss(**{"head": heads.SoftmaxHead(5), **arguments})

    for argument in ("head", "weight", "alpha"):
        refuse(make, argument, (*WRONG, None))


@pytest.mark.parametrize(
    ("bound", "arguments"),
    [
        (heads.alpha_lower_bound, {"num_classes": 5, "probability": 0.9}),
        (heads.scale_lower_bound, {"num_classes": 5, "probability": 0.9}),
        (heads.cosine_margin_upper_bound, {"num_classes": 5, "embedding_dim": 3}),
        (heads.angle_multiplier_lower_bound, {"num_classes": 5}),
        (heads.loss_lower_bound, {"num_classes": 5, "scale": 3.0}),
    ],
)
def test_every_argument_of_a_bound(bound, arguments):
    for name in arguments:
        refuse(lambda **one: bound(**{**arguments, **one}), name, (*WRONG, None))


@pytest.mark.parametrize("margin", ["4", None, float("nan"), float("inf"), [4]])
def test_the_multiplier_of_an_angle(margin):
    with pytest.raises(ValueError, match="`margin` multiplies"):
        margins.multiplied_angle(0.5, margin)


def test_numbers_of_numpy_are_numbers():
    head = heads.CosFace(np.int64(30), np.float32(0.25), np.float16(16), detach_margin=np.True_)
    assert (head.num_classes, head.margin, head.scale, head.detach_margin) == (30, 0.25, 16.0, True)
