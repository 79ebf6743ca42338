"""Inception-ResNet v1 as facenet-pytorch publishes it."""

import re

import keras

from keras_facemargin.zoo.maps.tensors import Tensors
from keras_facemargin.zoo.readers.contents import State

_STEM = {"1a": "conv2d_1a", "2a": "conv2d_2a", "2b": "conv2d_2b"} | {
    "3b": "conv2d_3b",
    "4a": "conv2d_4a",
    "4b": "conv2d_4b",
}
_SERIES = {"a": "repeat_1", "b": "repeat_2", "c": "repeat_3"}
_REDUCTIONS = {"a": "mixed_6a", "b": "mixed_7a"}


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


def _part(name: str, names: set[str]) -> str:
    """facenet-pytorch's name of a convolution: "b3_branch1_2" is "repeat_2.2.branch1.2"."""
    if name.startswith("stem_"):
        return _STEM[name.removeprefix("stem_")]
    match = re.fullmatch(r"(\w+)_(branch\d)_(\d)", name)
    if match is None:
        raise ValueError(f"The layer {name!r} must be one of InceptionResNetV1. Received: another.")
    block, branch, step = match.groups()
    # A branch of one convolution is not a sequence there.
    alone = step == "0" and f"{block}_{branch}_1" not in names
    return f"{_block(block)}.{branch}" + ("" if alone else f".{step}")


def _block(name: str) -> str:
    if name.startswith("reduction_"):
        return _REDUCTIONS[name.removeprefix("reduction_")]
    if name == "c6":
        return "block8"
    return f"{_SERIES[name[0]]}.{int(name[1:]) - 1}"
