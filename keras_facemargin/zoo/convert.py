"""Published files become Keras models, on the user's machine, as their cards describe them.

A file with its graph (ONNX, TFLite, MXNet, dlib) is converted operation by operation. A file of
weights (PyTorch, safetensors, HDF5) fills a network of this package by name. No framework other
than Keras is needed and nothing of a file is executed.
"""

import functools
import os
import typing
from collections.abc import Callable
from importlib import resources

import keras
import numpy as np

from keras_facemargin import backbones
from keras_facemargin.backbones.necks import NECKS
from keras_facemargin.zoo import graph as graphs
from keras_facemargin.zoo.card import Card
from keras_facemargin.zoo.maps import (
    edgeface,
    ghostfacenet,
    inception_resnet,
    iresnet,
    mobilefacenet,
)
from keras_facemargin.zoo.maps.tensors import swap_channels
from keras_facemargin.zoo.parts import BackboneNetwork
from keras_facemargin.zoo.readers import (
    dlib,
    keras_h5,
    mxnet,
    onnx,
    safetensors,
    tflite,
    torch,
)
from keras_facemargin.zoo.readers.contents import Graph, State
from keras_facemargin.zoo.unfold import Statistics, give_statistics

VERSION = 1  # counts up when a converter makes another model of the same file

Path = str | os.PathLike[str]
_STATISTICS = "dlib_statistics.npz"


def convert(path: Path, card: Card) -> keras.Model:
    """Converts a published file.

    Args:
        path: the file.
        card: its card, which names the converter, the network, the crop and the pixels.

    Returns:
        `keras.Model` of stock layers, (B, H, W, 3) float32 RGB 0..255 -> (B, D). It opens with
        Keras alone, trains and exports.

    Raises:
        ValueError: the converter is not known; the file is damaged, is of another kind or holds
            another network; an operator has no Keras layer.
        ImportError: the reader needs a package that is not installed.
        OSError: the file cannot be read.
    """
    if card.converter not in CONVERTERS:
        raise ValueError(
            f"The card {card.name!r} must name a converter. Received: {card.converter!r}. Known "
            f"converters: {', '.join(CONVERTERS)}."
        )
    try:
        model = CONVERTERS[card.converter](path, card)
    except (ValueError, ImportError, OSError):
        raise
    except Exception as error:  # Keras has many types for weights and shapes that do not fit
        raise ValueError(
            f"{path}: must hold the network of the card {card.name!r}. Received: a file that is "
            f"damaged or of another network ({type(error).__name__}: {error!s:.150})."
        ) from error
    wanted = ((None, card.crop.height, card.crop.width, 3), (None, card.embedding_dim))
    if (model.input_shape, model.output_shape) != wanted:
        raise ValueError(
            f"{path}: the network must map {wanted[0]} to {wanted[1]}, as the card {card.name!r} "
            f"states. Received: {model.input_shape} to {model.output_shape}."
        )
    return model


def preprocessing_of(card: Card) -> typing.Any:
    """The pixels that the card's file takes, as `build_embedder` takes them."""
    rule, order = card.input.pixel_rule, card.input.channel_order
    if rule is None and order == "RGB":
        return "inside"
    mean, scale = (rule.mean, rule.scale) if rule is not None else ((0.0,) * 3, (1.0,) * 3)
    if order == "BGR":  # the card has the file's order, `build_embedder` that of RGB
        mean, scale = mean[::-1], scale[::-1]
    return mean, scale, order


# Files with their graph.


def _graph(read: Callable[[Path], Graph], path: Path, card: Card) -> keras.Model:
    built = graphs.build(
        read(path),
        size=card.crop.shape,
        preprocessing=preprocessing_of(card),
        name=_name(card),
    )
    return built.model


def _dlib(path: Path, card: Card) -> keras.Model:
    """dlib's network; its folded batch normalisation gets the statistics of real faces.

    The file holds its pixel rule and takes RGB, whatever the card states.
    """
    built = graphs.build(dlib.read(path), size=card.crop.shape, name=_name(card))
    statistics = dlib_statistics()
    if len(statistics) == len(built.folded):
        give_statistics(built.model, built.folded, statistics)
    return built.model


def dlib_statistics() -> list[Statistics]:
    """Mean and variance of the inputs of dlib's 29 layers `affine_`, measured on real faces."""
    file = resources.files("keras_facemargin.zoo.maps").joinpath(_STATISTICS)
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        means, variances, ends = (arrays[key] for key in ("mean", "variance", "ends"))
    pairs = zip(np.split(means, ends), np.split(variances, ends), strict=True)
    return [(mean.astype("float64"), variance.astype("float64")) for mean, variance in pairs]


# Files of weights.


def _backbone(fill: Callable[[keras.Model, State], None], path: Path, card: Card) -> keras.Model:
    """A backbone of this package with its neck, in one level, filled from the file."""
    network = card.network
    if not isinstance(network, BackboneNetwork) or network.backbone not in backbones.__all__:
        raise ValueError(
            f"The card {card.name!r} must name a backbone of keras_facemargin.backbones. "
            f"Received: {network!r}."
        )
    if network.neck not in NECKS:
        raise ValueError(
            f"The card {card.name!r} must name a neck, one of {', '.join(NECKS)}. "
            f"Received: {network.neck!r}."
        )
    state = read_state(path)
    make = getattr(backbones, network.backbone)
    backbone = make((*card.crop.shape, 3), **network.arguments)
    _check_pixels(backbone, card)
    embedding = NECKS[network.neck](backbone.output, network.embedding_dim, 0.0)
    model = keras.Model(backbone.input, embedding, name=_name(card))
    fill(model, state)
    if card.input.channel_order == "BGR":
        swap_channels(model.get_layer("stem"))
    return model


def _check_pixels(backbone: keras.Model, card: Card) -> None:
    """A backbone scales its pixels inside; the card must state the same."""
    layer, rule = backbone.get_layer("rescale"), card.input.pixel_rule
    inside = [np.broadcast_to(1 / layer.scale, 3), np.broadcast_to(-layer.offset / layer.scale, 3)]
    stated = [rule.scale, rule.mean] if rule is not None else []
    if rule is None or not np.allclose(inside, stated, rtol=1e-6):
        raise ValueError(
            f"The card {card.name!r} must have the pixel rule of its backbone, mean "
            f"{inside[1].tolist()} and scale {inside[0].tolist()}. Received: {rule!r}."
        )


def _whole(make: Callable[[State], keras.Model], path: Path, card: Card) -> keras.Model:
    return make(read_state(path))


def read_state(path: Path) -> State:
    """The tensors of a file of PyTorch, HDF5 or safetensors; the content decides.

    Raises:
        ValueError: the file is none of them, or is damaged.
        OSError: it cannot be read.
    """
    with open(path, "rb") as stream:
        start = stream.read(8)
    if start == b"\x89HDF\r\n\x1a\n":
        return keras_h5.read(path)
    return torch.read(path) if start[:2] in (b"PK", b"\x80\x02") else safetensors.read(path)


def _name(card: Card) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in card.name)


CONVERTERS: dict[str, Callable[[Path, Card], keras.Model]] = {
    "onnx": functools.partial(_graph, onnx.read),
    "tflite": functools.partial(_graph, tflite.read),
    "mxnet": functools.partial(_graph, mxnet.read),
    "dlib": _dlib,
    "mobilefacenet_foamliu": functools.partial(_whole, mobilefacenet.convert_foamliu),
    "mobilefacenet_xiaoccer": functools.partial(_whole, mobilefacenet.convert_xiaoccer),
    "edgeface_xs": functools.partial(_whole, edgeface.convert_edgeface_xs),
    "iresnet_insightface": functools.partial(_backbone, iresnet.fill_insightface),
    "iresnet_adaface": functools.partial(_backbone, iresnet.fill_adaface),
    "ghostfacenet": functools.partial(_backbone, ghostfacenet.fill_ghostfacenet),
    "inception_resnet_facenet": functools.partial(_backbone, inception_resnet.fill_facenet),
    "inception_resnet_keras_facenet": functools.partial(
        _backbone, inception_resnet.fill_keras_facenet
    ),
}
