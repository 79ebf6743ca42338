"""Light augmentation of aligned faces: the default of a training pipeline.

`RandomShift`, `RandomMirror` and `RandomPhotometric`, one after the other, do the same to the
pixels; this code needs half as many passes over them, the first two in bytes.

The random numbers are drawn in numpy, a block of images at a time, and enter the TensorFlow graph
as parameters: an epoch depends only on its seed, and the graph has only the few operations on
pixels. Images are moved one by one, as bytes that stay in the cache; colours change a batch at a
time, in one matrix product for all images.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

# Largest shift in pixels: 112x112 embedders tolerate eyes that move by 4 % of the side. The new
# border is black, as the border of alignment is.
SHIFT = 4
BRIGHTNESS = 24.0  # added to every channel, at most, of 255
CONTRAST = 0.2  # factor 1 +- this about mid-grey
SATURATION = 0.3  # factor 1 +- this about the pixel's luma
LUMA = np.array([0.299, 0.587, 0.114], "float32")  # ITU-R BT.601
GREY = np.repeat(LUMA[:, None], 3, axis=1)  # RGB times this: three channels of luma


class Augmentation(NamedTuple):
    """Parameters for N images.

    Attributes:
        corner: int32 `(N, 3)`, where the crop starts in the padded image (row, column, 0).
        mirror: bool `(N, 3)`, which axes are reversed (only ever the columns).
        colour: float32 `(N, 3, 3)`, RGB row vector times this.
        offset: float32 `(N, 1)`, added to every channel after that.
    """

    corner: npt.NDArray[Any]
    mirror: npt.NDArray[Any]
    colour: npt.NDArray[Any]
    offset: npt.NDArray[Any]


def draw_augmentation(rng: np.random.Generator, count: int) -> Augmentation:
    """Draws shift, mirroring, saturation, contrast and brightness for `count` images.

    Args:
        rng: a `numpy.random.Generator`.
        count: number of images.

    Returns:
        An `Augmentation` of `count` rows.
    """
    corner = np.zeros((count, 3), "int32")
    corner[:, :2] = rng.integers(0, 2 * SHIFT + 1, (count, 2))
    mirror = np.zeros((count, 3), "bool")
    mirror[:, 1] = rng.random(count) < 0.5
    jitter = rng.uniform(-1.0, 1.0, (3, count, 1, 1)).astype("float32")
    saturation, contrast = 1 + SATURATION * jitter[0], 1 + CONTRAST * jitter[1]
    unit = np.eye(3, dtype="float32")
    colour, offset = colour_map(saturation, contrast, BRIGHTNESS * jitter[2], unit, GREY)
    return Augmentation(corner, mirror, colour, offset[:, :, 0])


def colour_map(
    saturation: Any, contrast: Any, brightness: Any, unit: Any, grey: Any
) -> tuple[Any, Any]:
    """Saturation, then contrast about 127.5, then brightness, as one affine map per image.

    Args:
        saturation, contrast: factors, `(N, 1, 1)`, arrays or tensors of any backend.
        brightness: added to every channel, `(N, 1, 1)`.
        unit, grey: the unit matrix and `GREY`, of the same kind.

    Returns:
        The matrices `(N, 3, 3)` that RGB row vectors are multiplied with, and what is added to
        every channel, `(N, 1, 1)`.
    """
    colour = contrast * (saturation * unit + (1.0 - saturation) * grey)
    return colour, 127.5 * (1.0 - contrast) + brightness


def move(image: Any, corner: Any, mirror: Any) -> Any:
    """Shifts and mirrors one image in a TensorFlow graph, still in bytes.

    Args:
        image: uint8 `(H, W, 3)` of static shape.
        corner, mirror: one row of an `Augmentation`'s fields.

    Returns:
        uint8 `(H, W, 3)`.
    """
    import tensorflow as tf

    height, width, channels = image.shape
    # As rows of bytes: TensorFlow pads along an axis of 336 several times faster than of 3.
    rows = tf.reshape(image, (height, width * channels))
    padded = tf.pad(rows, [[SHIFT, SHIFT], [SHIFT * channels, SHIFT * channels]])
    padded = tf.reshape(padded, (height + 2 * SHIFT, width + 2 * SHIFT, channels))
    shifted = tf.slice(padded, corner, image.shape)
    # The raw operation takes one flag per axis, so that no branch is needed.
    return tf.raw_ops.Reverse(tensor=shifted, dims=mirror)


def recolour(images: Any, colour: Any, offset: Any) -> Any:
    """Applies each image's colour map to a batch in a TensorFlow graph.

    Args:
        images: uint8 `(B, H, W, 3)` of static size, RGB.
        colour, offset: B rows of an `Augmentation`'s fields.

    Returns:
        float32 `(B, H, W, 3)`, RGB 0..255.
    """
    import tensorflow as tf

    _, height, width, channels = images.shape
    pixels = tf.reshape(tf.cast(images, tf.float32), (-1, height * width, channels))
    pixels = tf.matmul(pixels, colour) + offset[:, None]
    return tf.reshape(tf.clip_by_value(pixels, 0.0, 255.0), (-1, height, width, channels))


def augment(images: npt.NDArray[Any], parameters: Augmentation) -> npt.NDArray[np.float32]:
    """`move` and `recolour` for a batch, in numpy.

    Args:
        images: uint8 `(B, H, W, 3)`, RGB.
        parameters: an `Augmentation` of B rows.

    Returns:
        float32 `(B, H, W, 3)`, RGB 0..255: as `recolour`, up to the rounding of its sums.
    """
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)))
    moved = np.empty_like(images)
    for place, image, (row, column, _), mirror in zip(
        moved, padded, parameters.corner, parameters.mirror[:, 1], strict=True
    ):
        crop = image[row : row + height, column : column + width]
        place[:] = crop[:, ::-1] if mirror else crop
    pixels = moved.reshape(len(moved), -1, 3).astype("float32") @ parameters.colour
    pixels += parameters.offset[:, None]
    result: npt.NDArray[np.float32] = np.clip(pixels, 0.0, 255.0).reshape(moved.shape)
    return result
