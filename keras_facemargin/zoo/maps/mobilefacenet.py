"""The published forms of MobileFaceNet in PyTorch.

The order of blocks is Table 1 of the paper in all of them; the rest differs. The forms in TFLite
and MXNet need no map: their files hold the graph.
"""

import dataclasses
from typing import Any

import keras
from keras import layers

from keras_facemargin.backbones.padding import pad_before_stride
from keras_facemargin.backbones.preprocessing import preprocess
from keras_facemargin.zoo.maps.tensors import Tensors
from keras_facemargin.zoo.readers.contents import State

# Expansion, channels, repeats and stride of the first repeat (arXiv:1804.07573, table 1).
_BOTTLENECKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
_IMAGENET = (
    tuple(255 * mean for mean in (0.485, 0.456, 0.406)),
    tuple(255 * std for std in (0.229, 0.224, 0.225)),
    "RGB",
)


@dataclasses.dataclass(frozen=True)
class Form:
    """Where a published MobileFaceNet differs from the others.

    Attributes:
        size: (height, width) of the crop.
        preprocessing: (mean, std, order), as in `build_embedder`.
        activation: "prelu", or "relu6", where the stem's second half has ReLU.
        stem_pointwise: whether a pointwise convolution follows the stem's depthwise one.
        linear_bias: whether the linear layer has a bias.
    """

    size: tuple[int, int]
    preprocessing: tuple[object, object, str]
    activation: str
    stem_pointwise: bool
    linear_bias: bool


# github.com/foamliu/MobileFaceNet and github.com/xiaoccer/MobileFaceNet_Pytorch.
FOAMLIU = Form((112, 112), _IMAGENET, "relu6", True, True)
XIAOCCER = Form((112, 96), (127.5, 128.0, "RGB"), "prelu", False, False)


def convert_foamliu(state: State) -> keras.Model:
    """foamliu's network with its weights: RGB 0..255 (B, 112, 112, 3) -> (B, 128).

    Args:
        state: of `mobilefacenet.pt`, 999,936 parameters.

    Raises:
        ValueError: the file belongs to another network.
    """
    model = build(FOAMLIU, "mobilefacenet_foamliu")
    names = [
        ("conv1.0", "conv1.1", ""),
        ("dw_conv.depthwise", "dw_conv.bn1", ""),
        ("dw_conv.pointwise", "dw_conv.bn2", ""),
    ]
    for block in range(sum(repeats for _, _, repeats, _ in _BOTTLENECKS)):
        part = f"features.{block}.conv"
        names += [
            (f"{part}.0.0", f"{part}.0.1", ""),
            (f"{part}.1.0", f"{part}.1.1", ""),
            (f"{part}.2", f"{part}.3", ""),
        ]
    names += [
        ("conv2.0", "conv2.1", ""),
        ("gdconv.depthwise", "gdconv.bn", ""),
        ("conv3", "bn", ""),
    ]
    _fill(model, Tensors(state, "conv1.0.weight"), names)
    return model


def convert_xiaoccer(state: State) -> keras.Model:
    """xiaoccer's network with its weights: RGB 0..255 (B, 112, 96, 3) -> (B, 128).

    Args:
        state: of `068.ckpt`, 999,552 parameters.

    Raises:
        ValueError: the file belongs to another network.
    """
    model = build(XIAOCCER, "mobilefacenet_xiaoccer")
    names = [_unit("conv1"), _unit("dw_conv1")]
    for block in range(sum(repeats for _, _, repeats, _ in _BOTTLENECKS)):
        part = f"blocks.{block}.conv"
        names += [
            (f"{part}.0", f"{part}.1", f"{part}.2"),
            (f"{part}.3", f"{part}.4", f"{part}.5"),
            (f"{part}.6", f"{part}.7", ""),
        ]
    names += [_unit("conv2"), _unit("linear7", ""), _unit("linear1", "")]
    _fill(model, Tensors(state, "conv1.conv.weight"), names)
    return model


def _unit(part: str, activation: str = ".prelu") -> tuple[str, str, str]:
    return f"{part}.conv", f"{part}.bn", activation and f"{part}{activation}"


def build(form: Form, name: str) -> keras.Model:
    """The network of a form, of stock layers, with random weights.

    Args:
        form: one of this module's.
        name: of the model.
    """
    image = keras.Input((*form.size, 3), name="image")

    def normalize(x: Any, name: str) -> Any:
        return layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)

    def activate(x: Any, name: str, kind: str) -> Any:
        match kind:
            case "prelu":
                return layers.PReLU(shared_axes=[1, 2], name=f"{name}_prelu")(x)
            case "relu6" | "relu":
                limit = 6.0 if kind == "relu6" else None
                return layers.ReLU(max_value=limit, name=f"{name}_relu")(x)
        return x

    def convolve(x: Any, filters: int, size: int, strides: int, name: str, kind: str) -> Any:
        x, padding = pad_before_stride(x, size, strides, "symmetric", name)
        x = layers.Conv2D(filters, size, strides, padding, use_bias=False, name=name)(x)
        return activate(normalize(x, name), name, kind)

    def depthwise(x: Any, strides: int, name: str, kind: str) -> Any:
        x, padding = pad_before_stride(x, 3, strides, "symmetric", name)
        x = layers.DepthwiseConv2D(3, strides, padding, use_bias=False, name=name)(x)
        return activate(normalize(x, name), name, kind)

    kind = form.activation
    x = preprocess(image, form.preprocessing)
    x = convolve(x, 64, 3, 2, "stem", kind)
    x = depthwise(x, 1, "stem_depthwise", "relu" if kind == "relu6" else kind)
    if form.stem_pointwise:
        x = convolve(x, 64, 1, 1, "stem_pointwise", "relu")
    for stage, (expansion, channels, repeats, stride) in enumerate(_BOTTLENECKS, 1):
        for repeat in range(repeats):
            prefix, shortcut = f"stage{stage}_block{repeat + 1}", x
            x = convolve(x, expansion * x.shape[-1], 1, 1, f"{prefix}_expand", kind)
            x = depthwise(x, stride if repeat == 0 else 1, f"{prefix}_depthwise", kind)
            x = convolve(x, channels, 1, 1, f"{prefix}_project", "")
            if (stride == 1 or repeat) and shortcut.shape[-1] == channels:
                x = layers.Add(name=f"{prefix}_add")([shortcut, x])
    x = convolve(x, 512, 1, 1, "last", kind)
    kernel = x.shape[1:3]
    x = layers.DepthwiseConv2D(kernel, use_bias=False, name="neck_depthwise")(x)
    x = layers.Flatten(name="neck_flatten")(normalize(x, "neck_depthwise"))
    x = layers.Dense(128, use_bias=form.linear_bias, name="neck_linear")(x)
    x = layers.BatchNormalization(epsilon=1e-5, name="embedding")(x)
    return keras.Model(image, x, name=name)


def _fill(model: keras.Model, tensors: Tensors, names: list[tuple[str, str, str]]) -> None:
    """Fills the layers in the order of computation.

    Args:
        model: of `build`.
        tensors: of the file.
        names: for each convolution the names of it, its batch normalisation and its PReLU.
    """
    kinds = layers.Conv2D | layers.DepthwiseConv2D | layers.Dense
    convolutions = [layer for layer in model.layers if isinstance(layer, kinds)]
    for layer, (own, norm, slopes) in zip(convolutions, names, strict=True):
        if isinstance(layer, layers.Dense):
            tensors.linear(layer, own)
            tensors.normalization(model.get_layer("embedding"), norm)
            continue
        tensors.convolution(layer, own)
        tensors.normalization(model.get_layer(f"{layer.name}_bn"), norm)
        if slopes:
            tensors.prelu(model.get_layer(f"{layer.name}_prelu"), slopes)
    tensors.finish()
