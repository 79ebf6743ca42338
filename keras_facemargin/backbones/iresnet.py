"""IResNet: the residual networks of ArcFace and InsightFace."""

import keras
from keras import layers

from keras_facemargin.backbones.padding import pad_before_stride

_WIDTHS = (64, 128, 256, 512)


def IResNet(
    input_shape=(112, 112, 3),
    *,
    depths=(3, 4, 14, 3),
    padding="symmetric",
    epsilon=1e-5,
    first_shortcut="convolution",
    name="iresnet",
):
    """The improved residual network of ArcFace (Deng et al., arXiv:1801.07698, section 3.2.1).

    A 3x3 convolution of stride 1, then four stages of 64, 128, 256 and 512 channels. Each unit is
    `x + BN(conv(PReLU(BN(conv(BN(x))))))`; the first unit of a stage halves the map in its second
    convolution and has a 1x1 convolution and batch normalisation on its shortcut. A crop of 112x112
    ends at 7x7. `build_embedder("IResNet50", neck="fc")` adds the paper's output (option E: batch
    normalisation, dropout, linear layer, batch normalisation): 43.6 million weights with 512
    numbers.

    Implementations differ: InsightFace for PyTorch pads both sides of a map before a stride of 2,
    as here; TensorFlow's "same" pads only the end of the map, so that the same weights compute
    another function. InsightFace for MXNet has squeeze-and-excitation and epsilon 2e-5 as options.
    AdaFace has no convolution on the first unit's shortcut, whose channels do not change: it takes
    every second row and column, `first_shortcut="pooling"`.

    Args:
        input_shape: `(height, width, 3)`, channels last.
        depths: units in each of the four stages; the default is that of `IResNet50`.
        padding: "symmetric" pads both sides before a stride of 2; "same" is TensorFlow's.
        epsilon: of every batch normalisation, > 0.
        first_shortcut: "convolution", or "pooling" for AdaFace's form.
        name: of the model.

    Returns:
        Functional `keras.Model`, RGB pixels 0..255 `(B, 112, 112, 3)` -> `(B, 7, 7, 512)`. Pixels
        are scaled inside, `(x - 127.5) / 127.5`.

    Raises:
        ValueError: `depths` are not four positive integers, or `padding` or `first_shortcut` is
            unknown.

    Example:

    >>> IResNet(depths=(1, 1, 1, 1)).output_shape
    (None, 7, 7, 512)
    """
    depths = tuple(depths)
    if len(depths) != len(_WIDTHS) or not all(isinstance(d, int) and d > 0 for d in depths):
        raise ValueError(
            f"`depths` must be four positive integers, units in each stage. Received: {depths}"
        )
    if first_shortcut not in ("convolution", "pooling"):
        raise ValueError(
            "`first_shortcut` must be 'convolution' or 'pooling'. "
            f"Received: first_shortcut={first_shortcut!r}"
        )

    def normalize(x, name):
        return layers.BatchNormalization(epsilon=epsilon, name=name)(x)

    def convolve(x, width, size, strides, name):
        x, pad = pad_before_stride(x, size, strides, padding, name)
        return layers.Conv2D(width, size, strides, pad, use_bias=False, name=name)(x)

    def activate(x, name):
        return layers.PReLU(shared_axes=[1, 2], alpha_initializer=_slope(), name=name)(x)

    image = keras.Input(input_shape, name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(image)
    x = convolve(x, _WIDTHS[0], 3, 1, "stem")
    x = activate(normalize(x, "stem_bn"), "stem_prelu")
    for stage, (width, depth) in enumerate(zip(_WIDTHS, depths, strict=True), start=1):
        for unit in range(1, depth + 1):
            prefix, strides, shortcut = f"stage{stage}_unit{unit}", 2 if unit == 1 else 1, x
            x = normalize(x, f"{prefix}_bn1")
            x = normalize(convolve(x, width, 3, 1, f"{prefix}_conv1"), f"{prefix}_bn2")
            x = convolve(activate(x, f"{prefix}_prelu"), width, 3, strides, f"{prefix}_conv2")
            x = normalize(x, f"{prefix}_bn3")
            if (stage, unit, first_shortcut) == (1, 1, "pooling"):
                shortcut = layers.MaxPooling2D(1, strides, name=f"{prefix}_shortcut")(shortcut)
            elif unit == 1:
                shortcut = convolve(shortcut, width, 1, strides, f"{prefix}_shortcut")
                shortcut = normalize(shortcut, f"{prefix}_shortcut_bn")
            x = layers.Add(name=f"{prefix}_add")([shortcut, x])
    return keras.Model(image, x, name=name)


def _slope():
    return keras.initializers.Constant(0.25)  # PyTorch's and MXNet's start


def IResNet18(input_shape=(112, 112, 3), *, name="iresnet18", **kwargs):
    """`IResNet` with 2, 2, 2, 2 units: 24.0 million weights with an output of 512 numbers.

    Args:
        input_shape, name, **kwargs: of `IResNet`.

    Returns:
        As `IResNet`.

    Raises:
        ValueError: as `IResNet`.

    Example:

    >>> IResNet18().name
    'iresnet18'
    """
    return IResNet(input_shape, depths=(2, 2, 2, 2), name=name, **kwargs)


def IResNet34(input_shape=(112, 112, 3), *, name="iresnet34", **kwargs):
    """`IResNet` with 3, 4, 6, 3 units: 34.1 million weights with an output of 512 numbers.

    Args:
        input_shape, name, **kwargs: of `IResNet`.

    Returns:
        As `IResNet`.

    Raises:
        ValueError: as `IResNet`.

    Example:

    >>> IResNet34().name
    'iresnet34'
    """
    return IResNet(input_shape, depths=(3, 4, 6, 3), name=name, **kwargs)


def IResNet50(input_shape=(112, 112, 3), *, name="iresnet50", **kwargs):
    """`IResNet` with 3, 4, 14, 3 units: 43.6 million weights with an output of 512 numbers.

    Args:
        input_shape, name, **kwargs: of `IResNet`.

    Returns:
        As `IResNet`.

    Raises:
        ValueError: as `IResNet`.

    Example:

    >>> IResNet50().name
    'iresnet50'
    """
    return IResNet(input_shape, depths=(3, 4, 14, 3), name=name, **kwargs)


def IResNet100(input_shape=(112, 112, 3), *, name="iresnet100", **kwargs):
    """`IResNet` with 3, 13, 30, 3 units: 65.2 million weights with an output of 512 numbers.

    Args:
        input_shape, name, **kwargs: of `IResNet`.

    Returns:
        As `IResNet`.

    Raises:
        ValueError: as `IResNet`.

    Example:

    >>> IResNet100((48, 48, 3)).name
    'iresnet100'
    """
    return IResNet(input_shape, depths=(3, 13, 30, 3), name=name, **kwargs)
