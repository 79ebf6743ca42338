"""GhostFaceNet V1 (Alansari et al. 2023): GhostNet with PReLU for face crops."""

import keras
from keras import layers

# GhostNet (arXiv:1911.11907, table 1): kernel, expansion, output, squeeze, stride of each unit.
_UNITS = (
    (3, 16, 16, False, 1),
    (3, 48, 24, False, 2),
    (3, 72, 24, False, 1),
    (5, 72, 40, True, 2),
    (5, 120, 40, True, 1),
    (3, 240, 80, False, 2),
    (3, 200, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 480, 112, True, 1),
    (3, 672, 112, True, 1),
    (5, 672, 160, True, 2),
    (5, 960, 160, False, 1),
    (5, 960, 160, True, 1),
    (5, 960, 160, False, 1),
    (5, 512, 160, True, 1),
)


def GhostFaceNetV1(
    input_shape=(112, 112, 3),
    *,
    width=1.3,
    strides=1,
    epsilon=1e-3,
    name="ghostfacenet_v1",
):
    """GhostFaceNet V1 up to its last map (Alansari et al., IEEE Access 2023).

    Half of each layer's channels come from a convolution, the other half from a cheap depthwise
    convolution of the first half (GhostNet, Han et al., arXiv:1911.11907, section 3.1). PReLU
    replaces every ReLU except those of squeeze-and-excitation. `build_embedder("GhostFaceNetV1")`
    adds the global depthwise convolution and linear layer of the paper: 4.1 million weights with
    width 1.3 and 512 numbers.

    Implementations differ: GhostNet itself has no convolution on the shortcut of a unit whose
    channels change without a stride, and its authors slice the cheap half where channels are odd.
    The authors' Keras code uses the hard sigmoid of Keras 2, `clip(0.2 x + 0.5)`, as here; that of
    Keras 3 is `clip(x / 6 + 0.5)`.

    Args:
        input_shape: `(height, width, 3)`, channels last.
        width: multiplies the channels of every layer, > 0; published: 0.5, 1, 1.3.
        strides: of the first convolution: 1 ends at 7x7 on a crop of 112x112, 2 at 4x4.
        epsilon: of every batch normalisation, > 0.
        name: of the model.

    Returns:
        Functional `keras.Model`, RGB pixels 0..255 `(B, 112, 112, 3)` -> `(B, 7, 7, 664)` with the
        defaults. Pixels are scaled inside, `(x - 127.5) / 128`.

    Raises:
        ValueError: `width` is not positive, or `strides` is neither 1 nor 2.

    Example:

    >>> GhostFaceNetV1(width=0.5).output_shape
    (None, 7, 7, 256)
    """
    if not width > 0:
        raise ValueError(f"`width` must be positive. Received: width={width!r}")
    if strides not in (1, 2):
        raise ValueError(f"`strides` must be 1 or 2. Received: strides={strides!r}")

    def normalize(x, name):
        return layers.BatchNormalization(epsilon=epsilon, name=f"{name}_bn")(x)

    def convolve(x, filters, size, name, strides=1, activate=False):
        x = layers.Conv2D(filters, size, strides, "same", use_bias=False, name=name)(x)
        x = normalize(x, name)
        return _prelu(x, name) if activate else x

    def depthwise(x, size, name, strides=1, activate=False):
        x = layers.DepthwiseConv2D(size, strides, "same", use_bias=False, name=name)(x)
        x = normalize(x, name)
        return _prelu(x, name) if activate else x

    def ghost(x, filters, name, activate):
        first = convolve(x, filters // 2, 1, f"{name}_primary", activate=activate)
        cheap = depthwise(first, 3, f"{name}_cheap", activate=activate)
        return layers.Concatenate(name=f"{name}_concat")([first, cheap])

    def unit(x, kernel, expansion, filters, squeeze, strides, name):
        y = ghost(x, expansion, f"{name}_expand", activate=True)
        if strides > 1:
            y = depthwise(y, kernel, f"{name}_depthwise", strides)
        if squeeze:
            y = _squeeze(y, f"{name}_squeeze")
        y = ghost(y, filters, f"{name}_project", activate=False)
        if strides > 1 or x.shape[-1] != filters:
            x = depthwise(x, kernel, f"{name}_shortcut_depthwise", strides)
            x = convolve(x, filters, 1, f"{name}_shortcut")
        return layers.Add(name=f"{name}_add")([x, y])

    image = keras.Input(input_shape, name="image")
    x = layers.Rescaling(1 / 128, offset=-127.5 / 128, name="rescale")(image)
    x = convolve(x, _multiple_of_4(16 * width), 3, "stem", strides, activate=True)
    for number, (kernel, expansion, filters, squeeze, stride) in enumerate(_UNITS, start=1):
        expansion, filters = _multiple_of_4(expansion * width), _multiple_of_4(filters * width)
        x = unit(x, kernel, expansion, filters, squeeze, stride, f"unit{number}")
    x = convolve(x, _multiple_of_4(_UNITS[-1][1] * width), 1, "last", activate=True)
    return keras.Model(image, x, name=name)


def _prelu(x, name):
    start = keras.initializers.Constant(0.25)
    return layers.PReLU(shared_axes=[1, 2], alpha_initializer=start, name=f"{name}_prelu")(x)


def _squeeze(x, name):
    """Squeeze-and-excitation with a quarter of the channels between."""
    channels = x.shape[-1]
    y = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    y = layers.Conv2D(_multiple_of_4(channels / 4), 1, activation="relu", name=f"{name}_down")(y)
    y = layers.Conv2D(channels, 1, name=f"{name}_up")(y)
    # Keras 2's hard sigmoid, which the published weights were trained with.
    y = layers.Rescaling(0.2, offset=0.5, name=f"{name}_gate_line")(y)
    y = layers.ReLU(max_value=1.0, name=f"{name}_gate")(y)
    return layers.Multiply(name=f"{name}_multiply")([x, y])


def _multiple_of_4(channels):
    """The nearest multiple of 4, at least 4, and not less than nine tenths of `channels`."""
    rounded = max(4, int(channels + 2) // 4 * 4)
    return rounded + 4 if rounded < 0.9 * channels else rounded
