"""GhostFaceNet V1 as its authors publish it, in Keras' older `.h5` form.

Layers have Keras' automatic names there, which count the layers of each kind in the order in which
they were created ("conv2d", "conv2d_1", ...). The authors' code creates them unit by unit, as
`GhostFaceNetV1` does. Only the layers of the neck have names of their own.
"""

import re
from collections.abc import Sequence

import keras

from keras_facemargin.zoo.maps.tensors import by_layer, fill
from keras_facemargin.zoo.readers.contents import State, Tensor

# Parts of a unit in the order of creation.
_PARTS = (
    *("expand_primary", "expand_cheap", "depthwise", "squeeze_down", "squeeze_up"),
    *("project_primary", "project_cheap", "shortcut_depthwise", "shortcut"),
)
_NECK = {
    "GDC_dw": "neck_depthwise",
    "GDC_batchnorm": "neck_depthwise_bn",
    "GDC_conv": "neck_linear",
    "pre_embedding": "embedding",
}


def fill_ghostfacenet(model: keras.Model, state: State) -> None:
    """Fills a model of `GhostFaceNetV1` and the neck "gdc" from the authors' `.h5` files.

    Args:
        model: of one level, as `convert` builds it.
        state: of the file, in the order of `keras_h5.read`.

    Raises:
        ValueError: the file belongs to another network.
    """
    found = by_layer(state)
    for theirs, ours in _NECK.items():
        if theirs not in found:
            raise ValueError(f"The file must hold the layer {theirs!r}. Received: a file without.")
        weights, layer = found.pop(theirs), model.get_layer(ours)
        if ours == "neck_linear":  # a pointwise convolution on a map of one place
            weights = [weights[0].reshape(layer.kernel.shape)]
        fill(layer, weights)
    own = [layer for layer in model.layers if layer.weights and layer.name not in _NECK.values()]
    for kind in ("Conv2D", "DepthwiseConv2D", "BatchNormalization", "PReLU"):
        mine = sorted((each for each in own if type(each).__name__ == kind), key=_place)
        names = sorted((each for each in found if _kind(found[each]) == kind), key=_number)
        if len(mine) != len(names):
            raise ValueError(
                f"The file must hold {len(mine)} layers {kind}. Received: {len(names)}."
            )
        for layer, name in zip(mine, names, strict=True):
            fill(layer, found.pop(name))
    if found:
        raise ValueError(
            f"Every layer of the file must belong to the network. Received: {', '.join(found)}."
        )


def _kind(weights: Sequence[Tensor]) -> str:
    """The kind of layer that has such weights."""
    match [each.ndim for each in weights]:
        case [1, 1, 1, 1]:
            return "BatchNormalization"
        case [3]:
            return "PReLU"
        case [4] if weights[0].shape[3] == 1:
            return "DepthwiseConv2D"
        case [4] | [4, 1]:
            return "Conv2D"
    return "unknown"


def _number(name: str) -> int:
    match = re.search(r"_(\d+)$", name)
    return int(match[1]) if match else 0


def _place(layer: keras.layers.Layer) -> tuple[int, int]:
    """Unit and part, from the layer's name."""
    name = layer.name.removesuffix("_bn").removesuffix("_prelu")
    match = re.fullmatch(r"unit(\d+)_(\w+)", name)
    if match is not None:
        return int(match[1]), _PARTS.index(match[2])
    return (0, 0) if name == "stem" else (1000, 0)
