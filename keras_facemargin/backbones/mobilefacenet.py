"""MobileFaceNet (Chen, Liu, Gao, Han 2018, arXiv:1804.07573)."""

import keras
from keras import layers

from keras_facemargin.backbones.padding import pad_before_stride

# Table 1 of the paper: expansion t, output channels c, repeats n, stride s of the first repeat.
_BOTTLENECKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


def MobileFaceNet(input_shape=(112, 112, 3), *, padding="same", epsilon=1e-3, name="mobilefacenet"):
    """MobileFaceNet up to its last 7x7 map: inverted residuals with PReLU, made for faces.

    Strides are spread so that a 112x112 crop ends at 7x7 (MobileNetV2's end at 4x4). Pixels are
    scaled inside, `(x - 127.5) / 128`. `build_embedder("MobileFaceNet", embedding_dim=128)` adds
    the paper's global depthwise convolution and linear layer: 1.0 million weights in all.

    Reference: Chen et al., "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification
    on Mobile Devices", arXiv:1804.07573, Table 1.

    Implementations differ: published weights of PyTorch and MXNet need `padding="symmetric"`, those
    of TensorFlow "same"; epsilon is 1e-5 in PyTorch and 1e-3 in MXNet. The wrong padding changes
    the cosine of embeddings by 0.18, the wrong epsilon by 0.003. Some implementations have ReLU6
    instead of PReLU, and another pointwise convolution in the stem.

    Args:
        input_shape: (height, width, 3); (112, 112, 3) gives a 7x7 map.
        padding: "same" is TensorFlow's; "symmetric" pads both sides before a stride of 2.
        epsilon: of every batch normalisation, > 0.
        name: of the model.

    Returns:
        Functional `keras.Model`, (B, 112, 112, 3) float32 RGB 0..255 -> (B, 7, 7, 512).

    Raises:
        ValueError: `padding` is unknown.

    Example:

    >>> MobileFaceNet().output_shape
    (None, 7, 7, 512)
    """
    make = _Layers(padding, epsilon)
    image = keras.Input(input_shape, name="image")
    x = layers.Rescaling(1 / 128, offset=-127.5 / 128, name="rescale")(image)
    x = make.convolution(x, 64, 3, 2, name="stem")
    x = make.depthwise(x, 1, name="stem_depthwise")
    for stage, (expansion, channels, repeats, stride) in enumerate(_BOTTLENECKS, 1):
        for repeat in range(repeats):
            x = make.bottleneck(
                x,
                expansion * x.shape[-1],
                channels,
                stride if repeat == 0 else 1,
                residual=repeat > 0 or (stride == 1 and x.shape[-1] == channels),
                name=f"stage{stage}_block{repeat + 1}",
            )
    x = make.convolution(x, 512, 1, 1, name="last")
    return keras.Model(image, x, name=name)


def MobileFaceNetLarge(
    input_shape=(112, 112, 3),
    *,
    depths=(2, 8, 12, 4),
    scale=2,
    padding="symmetric",
    epsilon=1e-5,
    name="mobilefacenet_large",
):
    """InsightFace's wider and deeper MobileFaceNet up to its last 7x7 map.

    Four stages as in `MobileFaceNet`, with `64 * scale` and `128 * scale` channels between the
    units, but with fixed expansions (128, 256, 512). A stem of one unit is a convolution in 64
    groups. `build_embedder("MobileFaceNetLarge")` adds the published global depthwise convolution
    and linear layer: 3.35 million weights with 512 numbers, as many as the published file
    w600k_mbf.onnx has. InsightFace's `get_mbf` has depths (1, 4, 6, 2) and scale 2 (2.06 million),
    its `get_mbf_large` (2, 8, 12, 4) and scale 4 (6.31 million).

    Args:
        input_shape: (height, width, 3); (112, 112, 3) gives a 7x7 map.
        depths: units of the stem and of the three stages.
        scale: multiplies 64 and 128 channels, a positive integer.
        padding, epsilon: as `MobileFaceNet`.
        name: of the model.

    Returns:
        Functional `keras.Model`, (B, 112, 112, 3) float32 RGB 0..255 -> (B, 7, 7, 512). Pixels are
        scaled inside, `(x - 127.5) / 127.5`.

    Raises:
        ValueError: `depths` are not four positive integers, or `padding` is unknown.

    Example:

    >>> MobileFaceNetLarge().output_shape
    (None, 7, 7, 512)
    """
    depths = tuple(depths)
    if len(depths) != 4 or not all(isinstance(d, int) and d > 0 for d in depths):
        raise ValueError(
            "`depths` must be four positive integers, units of the stem and of each stage. "
            f"Received: {depths}"
        )
    make = _Layers(padding, epsilon, slope=0.25)  # PyTorch's start
    narrow, wide = 64 * scale, 128 * scale
    image = keras.Input(input_shape, name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(image)
    x = make.convolution(x, narrow, 3, 2, name="stem")
    if depths[0] == 1:
        x = make.convolution(x, narrow, 3, 1, name="stem_grouped", groups=64)
    else:
        for unit in range(1, depths[0] + 1):
            x = make.bottleneck(x, 128, narrow, 1, residual=True, name=f"stem_block{unit}")
    stages = ((128, 128, narrow), (256, 256, wide), (512, 256, wide))
    for stage, ((first, rest, channels), depth) in enumerate(
        zip(stages, depths[1:], strict=True), start=1
    ):
        x = make.bottleneck(x, first, channels, 2, residual=False, name=f"stage{stage}_down")
        for unit in range(1, depth + 1):
            name_of_unit = f"stage{stage}_block{unit}"
            x = make.bottleneck(x, rest, channels, 1, residual=True, name=name_of_unit)
    x = make.convolution(x, 512, 1, 1, name="last")
    return keras.Model(image, x, name=name)


class _Layers:
    """Layers of both networks, with one padding and one epsilon."""

    def __init__(self, padding, epsilon, slope=0.0):
        self.padding = padding
        self.epsilon = epsilon
        self.slope = slope

    def bottleneck(self, x, expansion, channels, stride, residual, name):
        """An inverted residual unit; `expansion` channels between the two pointwise layers."""
        shortcut = x
        x = self.convolution(x, expansion, 1, 1, name=f"{name}_expand")
        x = self.depthwise(x, stride, name=f"{name}_depthwise")
        x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project")(x)
        x = layers.BatchNormalization(epsilon=self.epsilon, name=f"{name}_project_bn")(x)
        return layers.Add(name=f"{name}_add")([shortcut, x]) if residual else x

    def convolution(self, x, channels, size, stride, name, groups=1):
        x, padding = pad_before_stride(x, size, stride, self.padding, name)
        x = layers.Conv2D(
            channels, size, stride, padding, groups=groups, use_bias=False, name=name
        )(x)
        return self._activate(x, name)

    def depthwise(self, x, stride, name):
        x, padding = pad_before_stride(x, 3, stride, self.padding, name)
        x = layers.DepthwiseConv2D(3, stride, padding, use_bias=False, name=name)(x)
        return self._activate(x, name)

    def _activate(self, x, name):
        x = layers.BatchNormalization(epsilon=self.epsilon, name=f"{name}_bn")(x)
        # One slope a channel: without `shared_axes` the slopes are maps, which mobile runtimes
        # refuse.
        start = keras.initializers.Constant(self.slope)
        return layers.PReLU(shared_axes=[1, 2], alpha_initializer=start, name=f"{name}_prelu")(x)
