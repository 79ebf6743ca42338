"""Inception-ResNet v1 as FaceNet's widely used port defines it."""

import keras
from keras import layers


def InceptionResNetV1(input_shape=(160, 160, 3), *, epsilon=1e-3, name="inception_resnet_v1"):
    """Inception-ResNet v1 (Szegedy et al., arXiv:1602.07261, figures 9 to 15) for faces.

    Five blocks at 35x35 maps of the paper, ten at 17x17 and six at 8x8, smaller here because a face
    crop is 160x160. `build_embedder("InceptionResNetV1", neck="gap", input_shape=(160, 160, 3))`
    adds global average pooling, dropout, a linear layer and batch normalisation: 23.5 million
    weights with 512 numbers.

    Implementations differ: this is the network of the TensorFlow port of FaceNet and of its PyTorch
    conversion. Residuals are scaled by 0.17, 0.10 and 0.20 before they are added; the last block is
    scaled by 1 and has no ReLU; a convolution pads only where the map must keep its size.

    Args:
        input_shape: `(height, width, 3)`, channels last; at least 75 pixels a side.
        epsilon: of every batch normalisation, > 0.
        name: of the model.

    Returns:
        Functional `keras.Model`, RGB pixels 0..255 `(B, 160, 160, 3)` -> `(B, 3, 3, 1792)`. Pixels
        are scaled inside, `(x - 127.5) / 128`.

    Example:

    >>> InceptionResNetV1().output_shape
    (None, 3, 3, 1792)
    """

    def convolve(x, filters, size, name, strides=1, padding="valid"):
        x = layers.Conv2D(filters, size, strides, padding, use_bias=False, name=name)(x)
        x = layers.BatchNormalization(epsilon=epsilon, name=f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    def residual(x, branches, scale, name, activate=True):
        """`x + scale * conv(concat(branches))`; a branch is a list of (filters, kernel size)."""
        ends = []
        for number, branch in enumerate(branches):
            end = x
            for step, (filters, size) in enumerate(branch):
                end = convolve(end, filters, size, f"{name}_branch{number}_{step}", padding="same")
            ends.append(end)
        joined = layers.Concatenate(name=f"{name}_concat")(ends)
        up = layers.Conv2D(x.shape[-1], 1, name=f"{name}_up")(joined)
        if scale != 1:
            up = layers.Rescaling(scale, name=f"{name}_scale")(up)
        x = layers.Add(name=f"{name}_add")([x, up])
        return layers.ReLU(name=f"{name}_relu")(x) if activate else x

    def reduction(x, branches, name):
        """Convolutions whose last one halves the map, beside a max pooling."""
        ends = []
        for number, branch in enumerate(branches):
            end = x
            for step, (filters, size) in enumerate(branch[:-1]):
                end = convolve(end, filters, size, f"{name}_branch{number}_{step}", padding="same")
            filters, size = branch[-1]
            last = f"{name}_branch{number}_{len(branch) - 1}"
            ends.append(convolve(end, filters, size, last, strides=2))
        ends.append(layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x))
        return layers.Concatenate(name=f"{name}_concat")(ends)

    image = keras.Input(input_shape, name="image")
    x = layers.Rescaling(1 / 128, offset=-127.5 / 128, name="rescale")(image)
    x = convolve(x, 32, 3, "stem_1a", strides=2)
    x = convolve(x, 32, 3, "stem_2a")
    x = convolve(x, 64, 3, "stem_2b", padding="same")
    x = layers.MaxPooling2D(3, 2, name="stem_3a_pool")(x)
    x = convolve(x, 80, 1, "stem_3b")
    x = convolve(x, 192, 3, "stem_4a")
    x = convolve(x, 256, 3, "stem_4b", strides=2)
    a = [[(32, 1)], [(32, 1), (32, 3)], [(32, 1), (32, 3), (32, 3)]]
    for number in range(1, 6):
        x = residual(x, a, 0.17, f"a{number}")
    x = reduction(x, [[(384, 3)], [(192, 1), (192, 3), (256, 3)]], "reduction_a")
    b = [[(128, 1)], [(128, 1), (128, (1, 7)), (128, (7, 1))]]
    for number in range(1, 11):
        x = residual(x, b, 0.10, f"b{number}")
    halved = [[(256, 1), (384, 3)], [(256, 1), (256, 3)], [(256, 1), (256, 3), (256, 3)]]
    x = reduction(x, halved, "reduction_b")
    c = [[(192, 1)], [(192, 1), (192, (1, 3)), (192, (3, 1))]]
    for number in range(1, 6):
        x = residual(x, c, 0.20, f"c{number}")
    x = residual(x, c, 1, "c6", activate=False)
    return keras.Model(image, x, name=name)
