"""EdgeFace-XS in PyTorch (arXiv:2307.01838): EdgeNeXt (arXiv:2206.10589) and a linear layer.

The published network is timm's `edgenext_x_small` with 512 outputs. The file in 8 bits has integers
in its linear layers only; the reader makes numbers of them.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_facemargin.backbones.preprocessing import preprocess
from keras_facemargin.zoo.maps.tensors import Tensors, fill
from keras_facemargin.zoo.readers.contents import State, Tensor

# Each stage: channels, size of the depthwise kernels, blocks, groups of channels that the last
# block splits (None: the last block is like the others), whether it adds the positions.
_STAGES = (
    (32, 3, 3, None, False),
    (64, 5, 3, 2, True),
    (100, 7, 9, 3, False),
    (192, 9, 3, 4, False),
)
_HEADS = 4
_WAVES = 32  # of each axis in the encoding of positions, half sines, half cosines
_EPSILON = 1e-6
# The scales of a quantized layer's output, which the layers here do not have.
_UNUSED = (".scale", ".zero_point")


def convert_edgeface_xs(state: State) -> keras.Model:
    """EdgeFace-XS with its weights: RGB 0..255 (B, 112, 112, 3) -> (B, 512).

    The scales of the residual branches (`gamma`) are part of the linear layers before them. The
    temperatures of the attention and the positions are constants and do not train.

    Args:
        state: of `edgeface_xs_q.pt`.

    Raises:
        ValueError: the file belongs to another network.
    """
    own = {name: value for name, value in state.items() if not name.endswith(_UNUSED)}
    network = _Network(Tensors(own, "stem.0.weight"))
    image = keras.Input((112, 112, 3), name="image")
    x = network.patches(preprocess(image, (127.5, 127.5, "RGB")), "stem.0", 32, 4)
    x = network.norm(x, "stem.1")
    for stage, (channels, size, blocks, groups, positions) in enumerate(_STAGES):
        part = f"stages.{stage}"
        if stage:
            x = network.norm(x, f"{part}.downsample.0")
            x = network.patches(x, f"{part}.downsample.1", channels, 2)
        for block in range(blocks - (groups is not None)):
            x = network.convolution_block(x, f"{part}.blocks.{block}", size)
        if groups is not None:
            x = network.attention_block(x, f"{part}.blocks.{blocks - 1}", groups, positions)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = network.linear(network.norm(x, "head.norm"), "head.fc", 512, name="embedding")
    network.tensors.finish()
    return keras.Model(image, x, name="edgeface_xs")


class _Network:
    """Makes layers, in the names of the file, and gives each its weights."""

    def __init__(self, tensors: Tensors):
        self.tensors = tensors

    def convolution_block(self, x: Any, part: str, size: int) -> Any:
        y = self.depthwise(x, f"{part}.conv_dw", size)
        return layers.Add(name=_name(f"{part}.add"))([x, self.mlp(y, part)])

    def attention_block(self, x: Any, part: str, groups: int, positions: bool) -> Any:
        """Convolutions that grow over groups of channels, then attention between channels."""
        height, width, channels = x.shape[1:]
        widest = -(-channels // groups)
        *convolved, last = ops.split(x, list(range(widest, channels, widest)), axis=-1)
        found: list[Any] = []
        for number, each in enumerate(convolved):
            y = layers.Add(name=_name(f"{part}.sum{number}"))([found[-1], each]) if found else each
            found.append(self.depthwise(y, f"{part}.convs.{number}", 3))
        y = layers.Concatenate(name=_name(f"{part}.concat"))([*found, last])
        tokens = layers.Reshape((height * width, channels), name=_name(f"{part}.tokens"))(y)
        if positions:
            tokens = self.add_positions(tokens, f"{part}.pos_embd", height, width)
        attended = self.attention(self.norm(tokens, f"{part}.norm_xca"), part)
        tokens = layers.Add(name=_name(f"{part}.add_xca"))([tokens, attended])
        y = layers.Reshape((height, width, channels), name=_name(f"{part}.map"))(tokens)
        return layers.Add(name=_name(f"{part}.add"))([x, self.mlp(y, part)])

    def attention(self, x: Any, block: str) -> Any:
        """Attention of each channel to the channels of its head, over all places."""
        part = f"{block}.xca"
        places, channels = x.shape[1:]
        weights, biases = (self.tensors.take(f"{part}.qkv.{each}") for each in ("weight", "bias"))
        heads = []
        for name, weight, bias in zip(
            "qkv", np.split(weights, 3), np.split(biases, 3), strict=True
        ):
            layer = layers.Dense(channels, name=_name(f"{part}.{name}"))
            y = layer(x)
            fill(layer, [weight.T, bias])
            split = (places, _HEADS, channels // _HEADS)
            y = layers.Reshape(split, name=_name(f"{part}.{name}_heads"))(y)
            heads.append(layers.Permute((2, 3, 1), name=_name(f"{part}.{name}_turn"))(y))
        query, key, value = heads
        query, key = (
            layers.UnitNormalization(name=_name(f"{part}.{name}_unit"))(each)
            for name, each in (("q", query), ("k", key))
        )
        key = layers.Permute((1, 3, 2), name=_name(f"{part}.k_back"))(key)
        temperature = self.tensors.take(f"{part}.temperature").reshape(_HEADS, 1, 1)
        scale = layers.Rescaling(temperature.tolist(), name=_name(f"{part}.temperature"))
        scores = scale(ops.matmul(query, key))
        shares = layers.Softmax(name=_name(f"{part}.softmax"))(scores)
        y = ops.matmul(shares, value)
        y = layers.Permute((3, 1, 2), name=_name(f"{part}.turn_back"))(y)
        y = layers.Reshape((places, channels), name=_name(f"{part}.merge"))(y)
        return self.linear(y, f"{part}.proj", channels, scale=f"{block}.gamma_xca")

    def add_positions(self, tokens: Any, part: str, height: int, width: int) -> Any:
        """Adds numbers of each place, which the file has as waves and a linear layer on them."""
        channels = tokens.shape[-1]
        kernel, bias = self.pair(f"{part}.token_projection")
        table = _waves(height, width) @ kernel.reshape(channels, -1).T + bias
        offset = table.astype("float32").tolist()
        return layers.Rescaling(1.0, offset=offset, name=_name(f"{part}.add"))(tokens)

    def mlp(self, x: Any, part: str) -> Any:
        channels = x.shape[-1]
        y = self.linear(self.norm(x, f"{part}.norm"), f"{part}.mlp.fc1", 4 * channels)
        y = layers.Activation("gelu", name=_name(f"{part}.mlp.gelu"))(y)
        return self.linear(y, f"{part}.mlp.fc2", channels, scale=f"{part}.gamma")

    def linear(
        self, x: Any, part: str, units: int, *, scale: str | None = None, name: str | None = None
    ) -> Any:
        """A linear layer; `scale` names a factor of its outputs."""
        layer = layers.Dense(units, name=name or _name(part))
        y = layer(x)
        factor = 1.0 if scale is None else self.tensors.take(scale)
        weight, bias = self.pair(part)
        fill(layer, [weight.T * factor, bias * factor])
        return y

    def norm(self, x: Any, part: str) -> Any:
        layer = layers.LayerNormalization(epsilon=_EPSILON, name=_name(part))
        y = layer(x)
        fill(layer, [self.tensors.take(f"{part}.{each}") for each in ("weight", "bias")])
        return y

    def pair(self, part: str) -> list[Tensor]:
        return [self.tensors.take(f"{part}.{each}") for each in ("weight", "bias")]

    def patches(self, x: Any, part: str, filters: int, size: int) -> Any:
        layer = layers.Conv2D(filters, size, size, name=_name(part))
        y = layer(x)
        self.tensors.convolution(layer, part)
        return y

    def depthwise(self, x: Any, part: str, size: int) -> Any:
        layer = layers.DepthwiseConv2D(size, padding="same", name=_name(part))
        y = layer(x)
        self.tensors.convolution(layer, part)
        return y


def _waves(height: int, width: int) -> Tensor:
    """Sines and cosines of each place, (height * width, 2 * _WAVES)."""
    down, right = (2 * np.pi * (np.arange(n) + 1) / (n + 1e-6) for n in (height, width))
    lengths = 10_000.0 ** (2 * (np.arange(_WAVES) // 2) / _WAVES)

    def of(places: Tensor) -> Tensor:
        angles = places[..., None] / lengths
        pairs = np.stack([np.sin(angles[..., 0::2]), np.cos(angles[..., 1::2])], axis=-1)
        return pairs.reshape(*places.shape, _WAVES)

    rows, columns = np.meshgrid(down, right, indexing="ij")
    return np.concatenate([of(rows), of(columns)], axis=-1).reshape(height * width, -1)


def _name(part: str) -> str:
    return part.replace(".", "_")
