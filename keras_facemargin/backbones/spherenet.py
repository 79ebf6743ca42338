"""SphereNet: the plain residual network of SphereFace, all dense 3x3 convolutions."""

import keras
from keras import layers


def SphereNet(
    input_shape=(112, 112, 3),
    *,
    widths=(64, 128, 256, 512),
    depths=(1, 2, 4, 1),
    activation="prelu",
    name="spherenet",
):
    """The residual network of SphereFace (Liu et al., CVPR 2017, arXiv:1704.08063, table 2).

    Each stage is one 3x3 convolution of stride 2 followed by `depth` residual units
    `x + f(f(x))`, where `f` is a 3x3 convolution, batch normalisation and a PReLU with one slope
    per channel; the sum has no activation. Four stages reduce 112x112 pixels to a 7x7 map. The
    defaults are the paper's 20-layer network: it has `sum(1 + 2 * depth)` convolutions.

    CPU libraries run dense 3x3 convolutions on small maps fastest: a narrow SphereNet trains
    several times faster on a CPU than a depthwise network with as many parameters.

    Implementations differ: the paper's Caffe model has biases and no batch normalisation; here, as
    in most later ports, batch normalisation follows each convolution.

    Args:
        input_shape: `(height, width, 3)`, channels last.
        widths: channels of each stage.
        depths: residual units in each stage, as many numbers as `widths`; 0 leaves only the
            strided convolution.
        activation: "prelu", the paper's, or an activation of Keras such as "relu", which mobile
            runtimes compute in int8 as part of the convolution.
        name: name of the model.

    Returns:
        A Functional `keras.Model` from RGB pixels 0..255, shape `(B, *input_shape)`, to the last
        feature map, shape `(B, height / 16, width / 16, widths[-1])` for four stages.

    Raises:
        ValueError: if `widths` and `depths` differ in length, or the activation is unknown.

    Example:

    >>> SphereNet(widths=(16, 32, 96, 160), depths=(0, 1, 2, 1)).output_shape
    (None, 7, 7, 160)
    """
    if len(widths) != len(depths):
        raise ValueError(
            "`widths` and `depths` must have one entry per stage each. "
            f"Received: widths={tuple(widths)}, depths={tuple(depths)}"
        )
    image = keras.Input(input_shape, name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(image)
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True), start=1):
        x = _convolve(x, width, activation, strides=2, name=f"stage{stage}_down")
        for unit in range(1, depth + 1):
            prefix = f"stage{stage}_unit{unit}"
            y = _convolve(x, width, activation, name=f"{prefix}_conv1")
            y = _convolve(y, width, activation, name=f"{prefix}_conv2")
            x = layers.Add(name=f"{prefix}_add")([x, y])
    return keras.Model(image, x, name=name)


def _convolve(x, width, activation, name, strides=1):
    x = layers.Conv2D(width, 3, strides, padding="same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    if activation == "prelu":
        return layers.PReLU(shared_axes=[1, 2], name=f"{name}_prelu")(x)
    return layers.Activation(activation, name=f"{name}_{activation}")(x)
