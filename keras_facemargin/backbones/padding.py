"""How a convolution with a stride pads its map: the two conventions of published weights."""

from keras import layers


def pad_before_stride(x, size, strides, padding, name):
    """The map to convolve, padded if need be, and the `padding` argument of the convolution.

    With a stride of 2 on an even map, TensorFlow's "same" pads after the map only; PyTorch and
    MXNet pad both sides. The same weights are another function under the other convention.

    Args:
        x: (B, H, W, C) tensor.
        size: side of the kernel, odd.
        strides: of the convolution.
        padding: "same" or "symmetric".
        name: of the convolution; the padding layer is named after it.

    Returns:
        A tensor, and "same" or "valid".

    Raises:
        ValueError: `padding` is neither.
    """
    if padding not in ("same", "symmetric"):
        raise ValueError(f"`padding` must be 'same' or 'symmetric'. Received: padding={padding!r}")
    if padding == "same" or strides == 1 or size == 1:
        return x, "same"
    return layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x), "valid"
