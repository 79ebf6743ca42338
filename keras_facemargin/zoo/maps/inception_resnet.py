"""Inception-ResNet v1 as facenet-pytorch and keras-facenet publish it."""

import re

import keras
import numpy as np

from keras_facemargin.zoo.maps.tensors import Tensors, by_layer, fill
from keras_facemargin.zoo.readers.contents import State

_STEM = {"1a": "conv2d_1a", "2a": "conv2d_2a", "2b": "conv2d_2b"} | {
    "3b": "conv2d_3b",
    "4a": "conv2d_4a",
    "4b": "conv2d_4b",
}
_SERIES = {"a": "repeat_1", "b": "repeat_2", "c": "repeat_3"}
_REDUCTIONS = {"a": "mixed_6a", "b": "mixed_7a"}
_BLOCKS = {"a": "Block35", "b": "Block17", "c": "Block8"}  # of keras-facenet


def fill_facenet(model: keras.Model, state: State) -> None:
    """Fills a model of `InceptionResNetV1` and the neck "gap" from facenet-pytorch's files.

    Args:
        model: of one level, as `convert` builds it.
        state: of the file. The classifier `logits` in it is not used.

    Raises:
        ValueError: the file belongs to another network.
    """
    tensors = Tensors(state, "conv2d_1a.conv.weight", ignored=["logits."])
    names = {layer.name for layer in model.layers}
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Conv2D):
            continue
        if layer.name.endswith("_up"):
            tensors.convolution(layer, f"{_block(layer.name.removesuffix('_up'))}.conv2d")
            continue
        part = _part(layer.name, names)
        tensors.convolution(layer, f"{part}.conv")
        tensors.normalization(model.get_layer(f"{layer.name}_bn"), f"{part}.bn")
    tensors.linear(model.get_layer("neck_linear"), "last_linear")
    tensors.normalization(model.get_layer("embedding"), "last_bn")
    tensors.finish()


def fill_keras_facenet(model: keras.Model, state: State) -> None:
    """Fills a model of `InceptionResNetV1` and the neck "gap" from keras-facenet's `.h5` files.

    Layers have the names of the original TensorFlow graph there, "Block35_1_Branch_0_Conv2d_1x1".
    Batch normalisation has no scale.

    Args:
        model: of one level, as `convert` builds it.
        state: of the file, in the order of `keras_h5.read`.

    Raises:
        ValueError: the file belongs to another network.
    """
    found = by_layer(state)

    def take(layer: keras.layers.Layer, name: str) -> None:
        if name not in found:
            raise ValueError(f"The file must hold the layer {name!r}. Received: a file without it.")
        weights = found.pop(name)
        if isinstance(layer, keras.layers.BatchNormalization):
            weights = [np.ones_like(weights[0]), *weights]
        fill(layer, weights)

    names = {layer.name for layer in model.layers}
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            name = _keras_name(layer, names)
            take(layer, name)
            if f"{layer.name}_bn" in names:
                take(model.get_layer(f"{layer.name}_bn"), f"{name}_BatchNorm")
    take(model.get_layer("neck_linear"), "Bottleneck")
    take(model.get_layer("embedding"), "Bottleneck_BatchNorm")
    if found:
        raise ValueError(
            f"Every layer of the file must belong to the network. Received: {', '.join(found)}."
        )


def _keras_name(layer: keras.layers.Conv2D, names: set[str]) -> str:
    """keras-facenet's name: "b3_branch1_2" is "Block17_3_Branch_1_Conv2d_0c_7x1"."""
    size = "x".join(map(str, layer.kernel_size))
    if layer.name.startswith("stem_"):
        return f"Conv2d_{layer.name.removeprefix('stem_')}_{size}"
    if layer.name.endswith("_up"):
        return f"{_keras_block(layer.name.removesuffix('_up'))}_Conv2d_{size}"
    block, branch, step = _places(layer.name)
    if layer.strides == (2, 2):
        place = "1a_"
    elif _is_alone(block, branch, step, names):
        place = ""
    else:
        place = f"0{'abc'[int(step)]}_"
    number = branch.removeprefix("branch")
    return f"{_keras_block(block)}_Branch_{number}_Conv2d_{place}{size}"


def _keras_block(name: str) -> str:
    if name.startswith("reduction_"):
        return _REDUCTIONS[name.removeprefix("reduction_")].capitalize()
    return f"{_BLOCKS[name[0]]}_{name[1:]}"


def _part(name: str, names: set[str]) -> str:
    """facenet-pytorch's name of a convolution: "b3_branch1_2" is "repeat_2.2.branch1.2"."""
    if name.startswith("stem_"):
        return _STEM[name.removeprefix("stem_")]
    block, branch, step = _places(name)
    # A branch of one convolution is not a sequence there.
    alone = _is_alone(block, branch, step, names)
    return f"{_block(block)}.{branch}" + ("" if alone else f".{step}")


def _places(name: str) -> tuple[str, str, str]:
    """Block, branch and step in the name of a layer."""
    match = re.fullmatch(r"(\w+)_(branch\d)_(\d)", name)
    if match is None:
        raise ValueError(f"The layer {name!r} must be one of InceptionResNetV1. Received: another.")
    block, branch, step = match.groups()
    return block, branch, step


def _is_alone(block: str, branch: str, step: str, names: set[str]) -> bool:
    """Whether a convolution is the only one of its branch."""
    return step == "0" and f"{block}_{branch}_1" not in names


def _block(name: str) -> str:
    if name.startswith("reduction_"):
        return _REDUCTIONS[name.removeprefix("reduction_")]
    if name == "c6":
        return "block8"
    return f"{_SERIES[name[0]]}.{int(name[1:]) - 1}"
