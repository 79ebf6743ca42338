"""The two conventions of published weights for the padding of a convolution with a stride."""

from keras import layers


def pad_before_stride(x, size, strides, padding, name):
    """Pads a map for a convolution, and gives the `padding` argument of the convolution.

    With a stride of 2 on an even map, TensorFlow's "same" pads only the end of the map; PyTorch and
    MXNet pad both sides. With the other convention the same weights compute another function.

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
