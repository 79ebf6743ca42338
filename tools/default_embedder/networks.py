"""Candidate networks for the default embedder: 112x112 crops -> 128 numbers, stock layers only.

`CANDIDATES` has a function each. A candidate that trains with branches (`repvgg`) has its plain
form by `plain`; of every other, the trained network is the plain one.
"""

import keras
import numpy as np
from keras import layers

from keras_facemargin.backbones import GhostFaceNetV1, MobileFaceNet
from keras_facemargin.backbones.necks import NECKS
from keras_facemargin.backbones.spherenet import SphereNet

EMBEDDING_DIM = 128
_SMALL = {"widths": (16, 32, 96, 160), "depths": (0, 1, 2, 1)}  # the first generation
_LATE = {"widths": (16, 32, 96, 224), "depths": (0, 1, 2, 1)}
_LONG = {"widths": (16, 32, 96, 160), "depths": (0, 1, 3, 1)}
_WIDE = {"widths": (24, 48, 112, 192), "depths": (0, 1, 2, 1)}
_DEEP = {"widths": (16, 32, 96, 192), "depths": (0, 1, 3, 2)}


def spherenet_prelu(size=112):
    return _embedder(SphereNet(_shape(size), **_SMALL))


def spherenet(size=112):
    return _embedder(SphereNet(_shape(size), activation="relu", **_SMALL))


def spherenet_late(size=112):
    return _embedder(SphereNet(_shape(size), activation="relu", **_LATE))


def spherenet_long(size=112):
    return _embedder(SphereNet(_shape(size), activation="relu", **_LONG))


def spherenet_wide(size=112):
    return _embedder(SphereNet(_shape(size), activation="relu", **_WIDE))


def spherenet_deep(size=112):
    return _embedder(SphereNet(_shape(size), activation="relu", **_DEEP))


def mobilefacenet_prelu(size=112):
    return _embedder(MobileFaceNet(_shape(size)))


def mobilefacenet_relu6(size=112):
    return _with_activation(mobilefacenet_prelu(size), layers.ReLU, max_value=6.0)


def mobilefacenet_hard_swish(size=112):
    return _with_activation(mobilefacenet_prelu(size), layers.Activation, activation="hard_silu")


def mobilefacenet_leaky(size=112):
    return _with_activation(mobilefacenet_prelu(size), layers.LeakyReLU, negative_slope=0.25)


def ghostfacenet(size=112):
    """Half as wide as the published one, with ReLU: 7x7 maps at the end."""
    network = GhostFaceNetV1(_shape(size), width=0.5)
    return _with_activation(_embedder(network), layers.ReLU)


def mobilenet_v4(size=112):
    """MobileNetV4-Conv-Small (arXiv:2404.10518, table 11), one stride less and 0.75 as wide.

    A universal inverted bottleneck is: depthwise (optional), expand, depthwise (optional), project.
    """
    image, x = _pixels(size)
    x = _convolve(x, 24, 3, 2, "stem")
    x = _convolve(_convolve(x, 24, 3, 2, "fused1"), 24, 1, 1, "fused1_project")
    x = _convolve(_convolve(x, 72, 3, 2, "fused2"), 48, 1, 1, "fused2_project")
    units = (  # first depthwise, second depthwise, channels, expansion, stride
        (5, 5, 72, 3, 2),
        *((0, 3, 72, 2, 1),) * 4,
        (3, 0, 72, 4, 1),
        (3, 3, 96, 6, 1),
        (5, 5, 96, 4, 1),
        (0, 5, 96, 4, 1),
        (0, 5, 96, 3, 1),
        *((0, 3, 96, 4, 1),) * 2,
    )
    for number, unit in enumerate(units, start=1):
        x = _universal(x, *unit, name=f"unit{number}")
    return _embedder(keras.Model(image, _convolve(x, 384, 1, 1, "last"), name="mobilenet_v4"))


def fused_bottlenecks(size=112):
    """Units of EfficientNetV2 (arXiv:2104.00298): a 3x3 layer that expands, a 1x1 layer back."""
    image, x = _pixels(size)
    x = _convolve(x, 24, 3, 2, "stem")
    for stage, (channels, depth) in enumerate(((48, 2), (80, 4), (128, 2)), start=1):
        for unit in range(depth):
            name, stride = f"stage{stage}_unit{unit + 1}", 2 if unit == 0 else 1
            y = _convolve(x, 2 * channels, 3, stride, f"{name}_expand")
            y = _convolve(y, channels, 1, 1, f"{name}_project", activate=False)
            x = y if unit == 0 else layers.Add(name=f"{name}_add")([x, y])
    return _embedder(keras.Model(image, x, name="fused_bottlenecks"))


def repvgg(size=112):
    """RepVGG (arXiv:2101.03697): 3x3, 1x1 and identity branches in training, one 3x3 when saved."""
    return _repvgg(size, branches=True)


CANDIDATES = {
    each.__name__: each
    for each in (
        spherenet_prelu,
        spherenet,
        spherenet_late,
        spherenet_long,
        spherenet_wide,
        spherenet_deep,
        fused_bottlenecks,
        repvgg,
        mobilefacenet_prelu,
        mobilefacenet_relu6,
        mobilefacenet_hard_swish,
        mobilefacenet_leaky,
        ghostfacenet,
        mobilenet_v4,
    )
}


def plain(network):
    """The network to save: branches are summed into one convolution with a bias."""
    names = {layer.name for layer in network.layers}
    if not any(name.endswith("_point") for name in names):
        return network
    merged = _repvgg(network.input_shape[1], branches=False)
    for layer in merged.layers:
        if isinstance(layer, layers.Conv2D) and f"{layer.name}_point" in names:
            layer.set_weights(_merged(network, layer.name))
        else:
            layer.set_weights(network.get_layer(layer.name).get_weights())
    return merged


def grow(network, source):
    """Begins `network` with the weights of a narrower one, layer by layer, by their names.

    A wider layer has the old channels first. Its new channels keep their random weights, and the
    old channels of the next layer do not read them yet: at the start the network computes what the
    narrower one does, as far as their activations agree (Net2Net, arXiv:1511.05641). A kernel as
    large as the map must have the same size in both.

    Args:
        network: a candidate, changed in place.
        source: an embedder with layers of the same names, perhaps nested.

    Raises:
        ValueError: if no layer has the name of one of the network's.
    """
    old = {layer.name: layer for layer in _leaves(source) if layer.weights}
    shared = [layer for layer in network.layers if layer.name in old]
    if not shared:
        raise ValueError(
            f"The source must have layers of the names of {network.name!r}. Received: "
            f"{source.name!r} with none of them. Take weights of a network of this family."
        )
    for layer in shared:
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        pairs = zip(layer.get_weights(), old[layer.name].get_weights(), strict=True)
        layer.set_weights([_grown(new, had, depthwise) for new, had in pairs])


def _grown(new, had, depthwise):
    new = new.copy()
    if new.ndim == 1:
        new[: len(had)] = had
        return new
    inputs, outputs = had.shape[-2:]
    if not depthwise:
        new[..., inputs:, :outputs] = 0.0
    new[..., :inputs, :outputs] = had
    return new


def _leaves(model):
    for layer in model.layers:
        yield from _leaves(layer) if isinstance(layer, keras.Model) else (layer,)


def multiply_adds(network):
    """Of convolutions and linear layers, for one crop."""
    total = 0
    for layer in network.layers:
        if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
            rows, columns = layer.output.shape[1:3]
            total += rows * columns * int(np.prod(layer.kernel.shape))
        elif isinstance(layer, layers.Dense):
            total += int(np.prod(layer.kernel.shape))
    return total


def _shape(size):
    return (size, size, 3)


def _embedder(backbone):
    """One flat graph: multiply-adds are counted and activations replaced layer by layer."""
    return keras.Model(backbone.input, NECKS["gdc"](backbone.output, EMBEDDING_DIM, 0.0))


def _with_activation(network, kind, **arguments):
    """The network with another activation in place of every PReLU."""

    def clone(layer):
        if isinstance(layer, layers.PReLU):
            return kind(name=layer.name, **arguments)
        return type(layer).from_config(layer.get_config())

    return keras.models.clone_model(network, clone_function=clone)


def _pixels(size):
    image = keras.Input(_shape(size), name="image")
    return image, layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(image)


def _convolve(x, channels, size, stride, name, activate=True):
    x = layers.Conv2D(channels, size, stride, "same", use_bias=False, name=name)(x)
    return _normalize(x, name, activate)


def _depthwise(x, size, stride, name, activate=True):
    x = layers.DepthwiseConv2D(size, stride, "same", use_bias=False, name=name)(x)
    return _normalize(x, name, activate)


def _normalize(x, name, activate):
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if activate else x


def _universal(x, first, second, channels, expansion, stride, name):
    shortcut, width = x, x.shape[-1]
    if first:
        x = _depthwise(x, first, 1 if second else stride, f"{name}_first", activate=False)
    x = _convolve(x, expansion * width, 1, 1, f"{name}_expand")
    if second:
        x = _depthwise(x, second, stride, f"{name}_second")
    x = _convolve(x, channels, 1, 1, f"{name}_project", activate=False)
    if stride == 1 and width == channels:
        x = layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def _repvgg(size, branches):
    image, x = _pixels(size)
    for stage, (channels, depth) in enumerate(((24, 1), (48, 2), (96, 4), (160, 2)), start=1):
        for unit in range(1, depth + 1):
            stride, name = (2 if unit == 1 else 1), f"stage{stage}_unit{unit}"
            y = layers.Conv2D(channels, 3, stride, "same", use_bias=not branches, name=name)(x)
            if branches:
                point = layers.Conv2D(channels, 1, stride, use_bias=False, name=f"{name}_point")(x)
                parts = [
                    layers.BatchNormalization(name=f"{name}_bn")(y),
                    layers.BatchNormalization(name=f"{name}_point_bn")(point),
                ]
                if stride == 1:
                    parts.append(layers.BatchNormalization(name=f"{name}_identity_bn")(x))
                y = layers.Add(name=f"{name}_add")(parts)
            x = layers.ReLU(name=f"{name}_relu")(y)
    return _embedder(keras.Model(image, x, name="repvgg"))


def _merged(network, name):
    """Kernel and bias of the 3x3 convolution that equals the branches."""
    names = {layer.name for layer in network.layers}
    kernel, bias = 0.0, 0.0
    for branch in (name, f"{name}_point", f"{name}_identity"):
        if f"{branch}_bn" not in names:
            continue
        normalization = network.get_layer(f"{branch}_bn")
        gamma, beta, mean, variance = normalization.get_weights()
        gain = gamma / np.sqrt(variance + normalization.epsilon)
        if branch.endswith("_identity"):
            weights = np.eye(len(gain), dtype="float32")[None, None]
        else:
            (weights,) = network.get_layer(branch).get_weights()
        if len(weights) == 1:  # one place of the 3x3 kernel
            # "same" padding of an even map: a stride of 2 begins at the first place of its input,
            # a stride of 1 one place before it.
            before = 1 if network.get_layer(name).strides == (1, 1) else 0
            weights = np.pad(weights, ((before, 2 - before), (before, 2 - before), (0, 0), (0, 0)))
        kernel = kernel + weights * gain
        bias = bias + beta - mean * gain
    return [kernel, bias]
