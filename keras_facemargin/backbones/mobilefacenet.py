"""MobileFaceNet (Chen, Liu, Gao, Han 2018, arXiv:1804.07573)."""

import keras
from keras import layers

# Table 1 of the paper: expansion t, output channels c, repeats n, stride s of the first repeat.
_BOTTLENECKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


def MobileFaceNet(input_shape=(112, 112, 3), name="mobilefacenet"):
    """MobileFaceNet up to its last 7x7 map: inverted residuals with PReLU, made for faces.

    Strides are spread so that a 112x112 crop ends at 7x7 (MobileNetV2's end at 4x4). Pixels are
    scaled inside, `(x - 127.5) / 128`. `build_embedder("MobileFaceNet", embedding_dim=128)` adds
    the paper's global depthwise convolution and linear layer: 1.0 million weights in all.

    Reference: Chen et al., "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification
    on Mobile Devices", arXiv:1804.07573, Table 1.

    Args:
        input_shape: (height, width, 3); (112, 112, 3) gives a 7x7 map.
        name: of the model.

    Returns:
        Functional `keras.Model`, (B, 112, 112, 3) float32 RGB 0..255 -> (B, 7, 7, 512).

    Example:

    >>> MobileFaceNet().output_shape
    (None, 7, 7, 512)
    """
    image = keras.Input(input_shape, name="image")
    x = layers.Rescaling(1 / 128, offset=-127.5 / 128, name="rescale")(image)
    x = _convolve(x, 64, 3, 2, name="stem")
    x = _depthwise(x, 1, name="stem_depthwise")
    for stage, (expansion, channels, repeats, stride) in enumerate(_BOTTLENECKS, 1):
        for repeat in range(repeats):
            x = _bottleneck(
                x,
                expansion,
                channels,
                stride if repeat == 0 else 1,
                name=f"stage{stage}_block{repeat + 1}",
            )
    x = _convolve(x, 512, 1, 1, name="last")
    return keras.Model(image, x, name=name)


def _bottleneck(x, expansion, channels, stride, name):
    shortcut = x
    width = expansion * x.shape[-1]
    x = _convolve(x, width, 1, 1, name=f"{name}_expand")
    x = _depthwise(x, stride, name=f"{name}_depthwise")
    x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project")(x)
    x = layers.BatchNormalization(name=f"{name}_project_bn")(x)
    if stride == 1 and shortcut.shape[-1] == channels:
        x = layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def _convolve(x, channels, size, stride, name):
    x = layers.Conv2D(channels, size, stride, padding="same", use_bias=False, name=name)(x)
    return _activate(x, name)


def _depthwise(x, stride, name):
    x = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False, name=name)(x)
    return _activate(x, name)


def _activate(x, name):
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    # One slope a channel: without `shared_axes` the slopes are maps, which mobile runtimes refuse.
    return layers.PReLU(shared_axes=[1, 2], name=f"{name}_prelu")(x)
