"""Augmentation of aligned faces as Keras layers: in a model, in `tf.data`, on every backend.

Each layer changes a batch of RGB 0..255 by parameters drawn for each image, and returns float32 RGB
0..255 of the same shape. The random numbers are in 0..1, a row for each image. In a model the
layer's seed draws them; `Faces.dataset` and `Faces.py_dataset` (argument `augmentation`) draw them
by seed and epoch, so that an epoch can be repeated whatever runs in parallel. The same code uses
the numbers in both, on every backend.

Outside of training (`training=False`, the default of a plain call) a layer returns its input.
"""

import functools
import inspect
import types

import keras
import numpy as np

from keras_facemargin.augmentation.light import (
    BRIGHTNESS,
    CONTRAST,
    GREY,
    LUMA,
    SATURATION,
    SHIFT,
    colour_map,
)
from keras_facemargin.backend.foreign import is_foreign

_TEMPLATE = 112.0  # side of the crop in which the outline of a mask is given


class FaceAugmentation(keras.layers.Layer):
    """Base class of the augmentation layers: rate of changed images, seed and random numbers.

    Args:
        rate: share of the images that are changed, 0 to 1, drawn for each image.
        seed: integer, or None for a random one.
        **kwargs: of `keras.layers.Layer`; `dtype` is float32 unless it is given.

    Attributes:
        numbers: random numbers of an image; the first is for `rate`.

    Call: images `(B, H, W, 3)`, RGB 0..255, any number type; returns float32 of that shape. In a
    `tf.data` pipeline of your own, `dataset.map(lambda images, labels: (layer(images,
    training=True), labels))` works on every backend; with `num_parallel_calls` the order in which
    batches take their numbers is not fixed.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> faces = np.full((2, 112, 112, 3), 100, "uint8")
        >>> tuple(RandomPhotometric(seed=0)(faces, training=True).shape)
        (2, 112, 112, 3)
    """

    numbers = 1

    def __init__(self, rate, seed=None, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.rate = _checked_share("rate", rate)
        self.seed = seed
        self._generator = keras.random.SeedGenerator(seed)
        self._foreign_generator = None
        self._allow_non_tensor_positional_args = True

    def __call__(self, images, training=None, **kwargs):
        if is_foreign(images):  # TensorFlow's tensors in a pipeline, Keras on another backend
            images = _operations(images).cast(images, "float32")
            return self.transform(images, self._foreign_numbers(images)) if training else images
        return super().__call__(images, training=training, **kwargs)

    def call(self, images, training=None):
        images = keras.ops.cast(images, self.compute_dtype)
        if not training:
            return images
        shape = (keras.ops.shape(images)[0], self.numbers)
        return self.transform(images, keras.random.uniform(shape, seed=self._generator))

    def _foreign_numbers(self, images):
        import tensorflow as tf

        if self._foreign_generator is None:
            with tf.init_scope():  # outside of the pipeline that is being made
                self._foreign_generator = (
                    tf.random.Generator.from_non_deterministic_state()
                    if self.seed is None
                    else tf.random.Generator.from_seed(self.seed)
                )
        return self._foreign_generator.uniform((tf.shape(images)[0], self.numbers))

    def transform(self, images, numbers):
        """Changes images by given numbers, without state.

        Args:
            images: float32 `(B, H, W, 3)`, RGB 0..255, a tensor of Keras' backend or of TensorFlow.
            numbers: float32 `(B, numbers)`, from 0 to 1.

        Returns:
            float32 `(B, H, W, 3)`, RGB 0..255.
        """
        ops = _operations(images)
        changed = self.change(ops, images, [numbers[:, n] for n in range(1, self.numbers)])
        if self.rate == 1.0:
            return changed
        # Images as rows: TensorFlow chooses between rows several times faster than by broadcasting
        # over four axes.
        shape = (-1, *images.shape[1:])
        size = images.shape[1] * images.shape[2] * images.shape[3]
        changed, images = (ops.reshape(each, (-1, size)) for each in (changed, images))
        return ops.reshape(ops.where(numbers[:, :1] < self.rate, changed, images), shape)

    def change(self, ops, images, numbers):
        """Changes every image.

        Args:
            ops: `keras.ops`, or functions of TensorFlow by the same names.
            images: float32 `(B, H, W, 3)`.
            numbers: list of `numbers - 1` tensors `(B,)`, 0 to 1.
        """
        raise NotImplementedError

    def compute_output_spec(self, images, training=None):
        return keras.KerasTensor(images.shape, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        """The arguments of the constructor, each an attribute of the same name."""
        names = inspect.signature(type(self).__init__).parameters  # in order: a set has a new one
        own = {name: getattr(self, name) for name in names if name not in ("self", "kwargs")}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("keras_facemargin")
class RandomMirror(FaceAugmentation):
    """Mirrors left and right.

    Args:
        rate: share of the images that are mirrored.
        seed, **kwargs: as in `FaceAugmentation`.

    Raises:
        ValueError: `rate` is out of its range.

    Example:
        >>> faces = np.zeros((1, 2, 2, 3))
        >>> faces[:, :, 0] = 9
        >>> float(RandomMirror(rate=1.0)(faces, training=True)[0, 0, 1, 0])
        9.0
    """

    def __init__(self, rate=0.5, seed=None, **kwargs):
        super().__init__(rate, seed, **kwargs)

    def change(self, ops, images, numbers):
        return ops.flip(images, axis=2)


@keras.saving.register_keras_serializable("keras_facemargin")
class RandomShift(FaceAugmentation):
    """Shifts by a random number of whole pixels along each axis and fills with black.

    Args:
        pixels: largest shift, at least 0. Within 4 of 112 the eyes stay where embedders tolerate
            them.
        rate, seed, **kwargs: as in `FaceAugmentation`.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> tuple(RandomShift(pixels=2, seed=0)(np.ones((1, 8, 8, 3)), training=True).shape)
        (1, 8, 8, 3)
    """

    numbers = 3

    def __init__(self, pixels=SHIFT, rate=1.0, seed=None, **kwargs):
        super().__init__(rate, seed, **kwargs)
        if not (isinstance(pixels, int) and pixels >= 0):
            raise ValueError(
                f"`pixels` must be an integer of at least 0. Received: pixels={pixels!r}"
            )
        self.pixels = pixels

    def change(self, ops, images, numbers):
        height, width = images.shape[1:3]
        padded_height, padded_width = height + 2 * self.pixels, width + 2 * self.pixels
        padding = [[0, 0], [self.pixels, self.pixels], [self.pixels, self.pixels], [0, 0]]
        padded = ops.pad(images, padding)
        steps = 2 * self.pixels + 1
        rows, columns = (
            _grid(ops, side)[None] + ops.minimum(ops.floor(each * steps), steps - 1.0)[:, None]
            for side, each in zip((height, width), numbers, strict=True)
        )
        image = _grid(ops, ops.shape(images)[0])
        # The source of each pixel, among the pixels of all images.
        size = padded_height * padded_width
        places = (ops.cast(image, "int32") * size)[:, None, None] + ops.cast(
            rows[:, :, None] * padded_width + columns[:, None, :], "int32"
        )
        return ops.reshape(
            ops.take(ops.reshape(padded, (-1, 3)), places, axis=0), (-1, height, width, 3)
        )


@keras.saving.register_keras_serializable("keras_facemargin")
class RandomCropAndPad(FaceAugmentation):
    """Keeps a rectangle of the face in its place and blackens the rest: AdaFace's crop.

    Kim, Jain and Liu, *AdaFace: Quality Adaptive Margin for Face Recognition*, CVPR 2022. The area
    and, on a logarithmic scale, the aspect ratio are drawn evenly, then the place. Implementations
    differ: AdaFace draws again (torchvision's random resized crop) if a side is longer than the
    image; here the side is clipped.

    Args:
        scale: smallest and largest share of the area that is kept, 0 to 1.
        ratio: smallest and largest width : height.
        rate, seed, **kwargs: as in `FaceAugmentation`.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> layer = RandomCropAndPad(scale=(0.25, 0.25), ratio=(1, 1), rate=1.0, seed=0)
        >>> float(np.mean(layer(np.ones((4, 112, 112, 3)), training=True)))
        0.25
    """

    numbers = 5

    def __init__(self, scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3), rate=0.2, seed=None, **kwargs):
        super().__init__(rate, seed, **kwargs)
        self.scale = _checked_range("scale", scale, 0, 1)
        self.ratio = _checked_range("ratio", ratio, 1e-3, 1e3)

    def change(self, ops, images, numbers):
        sides = images.shape[1:3]
        area = sides[0] * sides[1] * _between(numbers[0], self.scale)
        ratio = ops.exp(_between(numbers[1], tuple(np.log(self.ratio).tolist())))
        height = ops.clip(ops.round(ops.sqrt(area / ratio)), 0.0, sides[0])
        width = ops.clip(ops.round(ops.sqrt(area * ratio)), 0.0, sides[1])
        return images * _rectangle(ops, sides, height, width, *numbers[2:])


@keras.saving.register_keras_serializable("keras_facemargin")
class RandomLowResolution(FaceAugmentation):
    """Shrinks the face and enlarges it again, like a face far from the camera.

    Both use Pillow's BILINEAR filter, which averages all pixels when it shrinks. Implementations
    differ: AdaFace draws one of five filters for each way, the nearest pixel among them.

    Args:
        scale: smallest and largest side of the small image, as a share of the side, above 0 to 1.
        rate, seed, **kwargs: as in `FaceAugmentation`.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> tuple(RandomLowResolution(seed=0)(np.ones((2, 112, 112, 3)), training=True).shape)
        (2, 112, 112, 3)
    """

    numbers = 2

    def __init__(self, scale=(0.2, 1.0), rate=0.2, seed=None, **kwargs):
        super().__init__(rate, seed, **kwargs)
        self.scale = _checked_range("scale", scale, 1e-6, 1)

    def change(self, ops, images, numbers):
        height, width = images.shape[1:3]
        lowest, highest = (max(1, round(height * each)) for each in self.scale)
        steps = highest - lowest + 1
        drawn = ops.cast(ops.minimum(ops.floor(numbers[0] * steps), steps - 1.0), "int32")
        heights = range(lowest, highest + 1)
        widths = (max(1, round(each * width / height)) for each in heights)
        matrices = (
            ops.take(ops.convert_to_tensor(_down_and_up(side, tuple(sizes))), drawn, axis=0)
            for side, sizes in ((height, heights), (width, widths))
        )
        return _along_both(ops, images, *matrices)


@keras.saving.register_keras_serializable("keras_facemargin")
class RandomBlur(FaceAugmentation):
    """Blurs with a Gaussian; at the border its weights are scaled up to 1.

    Args:
        sigma: smallest and largest deviation in pixels, at least 0.
        rate, seed, **kwargs: as in `FaceAugmentation`.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> tuple(RandomBlur(seed=0)(np.ones((2, 112, 112, 3)), training=True).shape)
        (2, 112, 112, 3)
    """

    numbers = 2

    def __init__(self, sigma=(0.0, 2.0), rate=0.2, seed=None, **kwargs):
        super().__init__(rate, seed, **kwargs)
        self.sigma = _checked_range("sigma", sigma, 0, 1e3)

    def change(self, ops, images, numbers):
        sigma = ops.maximum(_between(numbers[0], self.sigma), 1e-3)[:, None, None]
        return _along_both(ops, images, *(self._weights(ops, n, sigma) for n in images.shape[1:3]))

    def _weights(self, ops, side, sigma):
        """The Gaussian's weights for a column of `side` pixels: `(B, side, side)`."""
        places = _grid(ops, side)
        distance = (places[:, None] - places[None, :])[None] / sigma
        weights = ops.exp(ops.maximum(-0.5 * distance * distance, -80.0))
        weights = ops.where(distance * distance > 160.0, ops.zeros_like(weights), weights)
        return weights / ops.sum(weights, axis=2, keepdims=True)


@keras.saving.register_keras_serializable("keras_facemargin")
class RandomJPEG(FaceAugmentation):
    """Applies the loss of baseline JPEG compression to the pixels, in the graph, without encoding.

    YCbCr, chroma halved along both axes, cosine transform of 8x8 blocks, quantisation by the tables
    of the standard's annex K at libjpeg's scale for the quality, and the inverse with libjpeg's
    triangular enlargement of chroma. It differs from libjpeg only by rounding, about half a level
    on average. Rounding has no gradient. Implementations differ: TensorFlow's `random_jpeg_quality`
    encodes and decodes, exactly and on the CPU, with one quality for a batch.

    Args:
        quality: smallest and largest quality, whole numbers 1 to 100, drawn evenly.
        rate, seed, **kwargs: as in `FaceAugmentation`.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> tuple(RandomJPEG(seed=0)(np.ones((2, 112, 112, 3)), training=True).shape)
        (2, 112, 112, 3)
    """

    numbers = 2

    def __init__(self, quality=(30, 95), rate=0.2, seed=None, **kwargs):
        super().__init__(rate, seed, **kwargs)
        self.quality = _checked_range("quality", quality, 1, 100)
        if any(each != int(each) for each in self.quality):
            raise ValueError(f"`quality` must be whole numbers. Received: quality={quality!r}")

    def change(self, ops, images, numbers):
        height, width = images.shape[1:3]
        lowest, highest = map(int, self.quality)
        steps = highest - lowest + 1
        drawn = ops.cast(ops.minimum(ops.floor(numbers[0] * steps), steps - 1.0), "int32")
        tables = ops.take(ops.convert_to_tensor(_tables(lowest, highest)), drawn, axis=0)
        halves = [ops.convert_to_tensor(_half(side)) for side in (height, width)]
        doubles = [ops.convert_to_tensor(_twice(side)) for side in (height, width)]
        to_ycc = ops.convert_to_tensor(_TO_YCC)
        planes = ops.matmul(ops.reshape(images, (-1, height * width, 3)), to_ycc)
        planes = ops.round(ops.reshape(planes, (-1, height, width, 3)))  # as bytes, at every step
        found = []
        for channel in range(3):
            plane = planes[..., channel]
            if channel:  # the halves are padded to whole blocks as well
                plane = ops.matmul(ops.matmul(halves[0], plane), ops.transpose(halves[1]))
                plane = ops.round(plane)
            else:
                plane = _pad_to_blocks(ops, plane) - 128.0
            plane = _quantise(ops, plane, tables[:, min(channel, 1)])
            plane = ops.clip(ops.round(plane), -128.0, 127.0)
            if channel:
                plane = ops.matmul(ops.matmul(doubles[0], plane), ops.transpose(doubles[1]))
            else:
                plane = plane[:, :height, :width] + 128.0
            found.append(plane)
        planes = ops.reshape(ops.stack(found, axis=-1), (-1, height * width, 3))
        pixels = ops.matmul(planes, ops.convert_to_tensor(_FROM_YCC))
        return ops.clip(ops.round(ops.reshape(pixels, (-1, height, width, 3))), 0.0, 255.0)


@keras.saving.register_keras_serializable("keras_facemargin")
class RandomPhotometric(FaceAugmentation):
    """Changes saturation, then contrast about mid-grey, then brightness; cut to 0..255.

    Implementations differ: torchvision's jitter (AdaFace's) multiplies the brightness, takes
    contrast about the image's own mean and draws the order; arcface-tf2's brightness has no effect,
    since it adds a part of 1 to pixels of 0..255.

    Args:
        brightness: added to every channel, at most, of 255.
        contrast: factor 1 +- at most this, below 1.
        saturation: factor 1 +- at most this about the pixel's luma (BT.601), at most 1.
        rate, seed, **kwargs: as in `FaceAugmentation`.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> tuple(RandomPhotometric(seed=0)(np.ones((2, 112, 112, 3)), training=True).shape)
        (2, 112, 112, 3)
    """

    numbers = 4

    def __init__(
        self,
        brightness=BRIGHTNESS,
        contrast=CONTRAST,
        saturation=SATURATION,
        rate=1.0,
        seed=None,
        **kwargs,
    ):
        super().__init__(rate, seed, **kwargs)
        self.brightness = _checked_share("brightness", brightness, 255)
        self.contrast = _checked_share("contrast", contrast)
        self.saturation = _checked_share("saturation", saturation)

    def change(self, ops, images, numbers):
        saturation, contrast, brightness = (
            (strength * (2.0 * each - 1.0))[:, None, None]
            for strength, each in zip(
                (self.saturation, self.contrast, self.brightness), numbers, strict=True
            )
        )
        unit, grey = map(ops.convert_to_tensor, (np.eye(3, dtype="float32"), GREY))
        colour, offset = colour_map(1.0 + saturation, 1.0 + contrast, brightness, unit, grey)
        height, width = images.shape[1:3]
        pixels = ops.matmul(ops.reshape(images, (-1, height * width, 3)), colour) + offset
        return ops.reshape(ops.clip(pixels, 0.0, 255.0), (-1, height, width, 3))


@keras.saving.register_keras_serializable("keras_facemargin")
class RandomCutout(FaceAugmentation):
    """Covers a square with one value (DeVries and Taylor, 2017).

    Implementations differ: in the paper the middle is anywhere in the image and the square may
    cross its border; here the whole square is inside.

    Args:
        size: smallest and largest side of the square, as a share of the image's shorter side.
        value: of the square in all channels, 0 to 255.
        rate, seed, **kwargs: as in `FaceAugmentation`.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> layer = RandomCutout(size=(0.5, 0.5), rate=1.0, seed=0)
        >>> float(np.mean(layer(np.ones((4, 112, 112, 3)), training=True)))
        0.75
    """

    numbers = 4

    def __init__(self, size=(0.1, 0.4), value=0.0, rate=0.2, seed=None, **kwargs):
        super().__init__(rate, seed, **kwargs)
        self.size = _checked_range("size", size, 0, 1)
        self.value = _checked_share("value", value, 255)

    def change(self, ops, images, numbers):
        sides = images.shape[1:3]
        length = ops.round(min(sides) * _between(numbers[0], self.size))
        covered = _rectangle(ops, sides, length, length, *numbers[1:])
        return images + covered * (self.value - images)


@keras.saving.register_keras_serializable("keras_facemargin")
class RandomFaceMask(FaceAugmentation):
    """Covers nose, mouth and chin as a medical mask does, in one random colour.

    The face must be aligned to a template of `keras_facemargin.images.Crop`; the size of the images
    decides which one, as in `Crop.of`. The outline is drawn on the ArcFace template (eyes at row
    51.6, tip of the nose at 71.7, mouth at 92.3 of 112) and moved to the places of the other
    templates. It has an upper edge that falls from the bridge of the nose to the cheeks, straight
    sides and a round chin. Implementations differ: FMA-3D (FaceX-Zoo) projects photographs of masks
    onto a 3D model of the face.

    Args:
        top: highest and lowest row of the edge on the nose, in pixels of ArcFace's 112x112 crop.
        rate, seed, **kwargs: as in `FaceAugmentation`.

    Raises:
        ValueError: an argument is out of its range, or the images have a shape without a template.

    Example:
        >>> tuple(RandomFaceMask(seed=0)(np.ones((2, 112, 112, 3)), training=True).shape)
        (2, 112, 112, 3)
    """

    numbers = 5

    def __init__(self, top=(58.0, 72.0), rate=0.2, seed=None, **kwargs):
        super().__init__(rate, seed, **kwargs)
        self.top = _checked_range("top", top, 0, _TEMPLATE)

    def change(self, ops, images, numbers):
        height, width = images.shape[1:3]
        factor, (left, above) = _to_arcface(height, width)
        across = ops.abs(factor * _grid(ops, width) + (left - 56.0))[None, None, :]
        down = (factor * _grid(ops, height) + above)[None, :, None]
        edge = _between(numbers[0], self.top)[:, None, None] + 9.0 * (across / 38.0) ** 2
        below = down - edge
        # Distance to an outline of half width 38 that is round below row 78, about, in pixels.
        chin = ops.maximum(down - 78.0, 0.0)
        inside = 38.0 - ops.sqrt(across * across + (chin * (38.0 / 33.0)) ** 2)
        covered = ops.clip(ops.minimum(below, inside) + 0.5, 0.0, 1.0)[..., None]
        colour = 255.0 * ops.stack(numbers[1:], axis=-1)[:, None, None, :]
        return images + covered * (colour - images)


def _to_arcface(height, width):
    """(factor, (x, y)): ``factor * pixel + x`` is the place in ArcFace's 112x112 crop.

    The five points of the two templates agree best in the least-squares sense.
    """
    from keras_facemargin.images.crop import Crop  # opens the room only for a mask

    own, arcface = Crop.of((height, width)).points, Crop.of().points
    middle = own.mean(axis=0)
    factor = float(np.vdot(own - middle, arcface) / np.vdot(own - middle, own))
    return factor, (arcface.mean(axis=0) - factor * middle).tolist()


# Numbers and places.


def _checked_share(name, value, highest=1):
    if not 0 <= value <= highest:
        raise ValueError(f"`{name}` must be in 0..{highest}. Received: {name}={value!r}")
    return float(value)


def _checked_range(name, value, lowest, highest):
    try:
        low, high = map(float, value)
    except (TypeError, ValueError):
        low, high = 1.0, 0.0
    if not lowest <= low <= high <= highest:
        raise ValueError(
            f"`{name}` must be two numbers (smallest, largest) within {lowest:g}..{highest:g}. "
            f"Received: {name}={value!r}"
        )
    return low, high


def _between(number, bounds):
    low, high = bounds
    return low + (high - low) * number


def _grid(ops, count):
    return ops.cast(ops.arange(count), "float32")


def _rectangle(ops, sides, height, width, down, across):
    """1 inside a rectangle that two numbers place, 0 outside: `(B, H, W, 1)`."""
    within = []
    for side, length, number in zip(sides, (height, width), (down, across), strict=True):
        places = _grid(ops, side)[None]
        first = ops.floor(number * (side - length + 1.0))
        first = ops.minimum(first, side - length)[:, None]
        inside = (places >= first) & (places < first + length[:, None])
        within.append(ops.cast(inside, "float32"))
    return (within[0][:, :, None] * within[1][:, None, :])[..., None]


def _along_both(ops, images, down, across):
    """Each image's columns and rows times its own matrices `(B, S, S)`; clipped to 0..255."""
    for matrices in (down, across):
        side, other = images.shape[1:3]
        images = ops.matmul(matrices, ops.reshape(images, (-1, side, other * 3)))
        images = ops.transpose(ops.reshape(images, (-1, side, other, 3)), (0, 2, 1, 3))
    return ops.clip(images, 0.0, 255.0)


@functools.cache
def _down_and_up(side, sizes):
    """Matrices that shrink a column to each size and enlarge it: float32 `(sizes, side, side)`."""
    found = [_resizing(size, side) @ _resizing(side, size) for size in sizes]
    return np.array(found, "float32")


def _resizing(before, after):
    """Pillow's BILINEAR resizing of a column as a matrix, float64 `(after, before)`."""
    scale = before / after
    width = max(scale, 1.0)
    middle = (np.arange(after)[:, None] + 0.5) * scale
    weights = np.maximum(0.0, 1 - np.abs(np.arange(before) + 0.5 - middle) / width)
    return weights / weights.sum(axis=1, keepdims=True)


# JPEG.

_TO_YCC = np.array(
    [LUMA, [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], "float32"
).T.copy()
_FROM_YCC = np.array([[1, 1, 1], [0, -0.344136, 1.772], [1.402, -0.714136, 0]], "float32")
# ITU-T T.81, tables K.1 and K.2.
_LUMA_TABLE = """
    16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
    18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101
    72 92 95 98 112 100 103 99"""
_CHROMA_TABLE = """
    17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
    99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99
    99 99 99 99 99 99 99 99"""


@functools.cache
def _tables(lowest, highest):
    """libjpeg's quantisation tables of each quality, luma and chroma: `(qualities, 2, 64)`."""
    base = np.array([_LUMA_TABLE.split(), _CHROMA_TABLE.split()], "int64")
    quality = np.arange(lowest, highest + 1)[:, None, None]
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return np.clip((base * scale + 50) // 100, 1, 255).astype("float32")


@functools.cache
def _cosines():
    """The 8x8 cosine transform of 64 numbers in a row, float32 `(64, 64)`, orthonormal."""
    rows, columns = np.mgrid[0:8, 0:8]
    matrix = np.cos((2 * columns + 1) * rows * np.pi / 16) / 2
    matrix[0] /= np.sqrt(2)
    return np.kron(matrix, matrix).T.astype("float32").copy()


def _quantise(ops, planes, tables):
    """Planes `(B, 8 n, 8 m)` after transform, rounding by tables `(B, 64)` and inverse."""
    height, width = planes.shape[1:3]
    down, across = height // 8, width // 8
    cosines = ops.convert_to_tensor(_cosines())
    rows = ops.transpose(ops.reshape(planes, (-1, down, 8, across, 8)), (0, 1, 3, 2, 4))
    found = ops.matmul(ops.reshape(rows, (-1, down * across, 64)), cosines)
    found = ops.round(found / tables[:, None]) * tables[:, None]
    found = ops.reshape(ops.matmul(found, ops.transpose(cosines)), (-1, down, across, 8, 8))
    return ops.reshape(ops.transpose(found, (0, 1, 3, 2, 4)), (-1, height, width))


def _pad_to_blocks(ops, planes):
    """Repeats the last row and column up to a multiple of 8."""
    down, across = (-side % 8 for side in planes.shape[1:3])
    if down:
        planes = ops.concatenate([planes] + [planes[:, -1:]] * down, axis=1)
    if across:
        planes = ops.concatenate([planes] + [planes[:, :, -1:]] * across, axis=2)
    return planes


@functools.cache
def _half(side):
    """Means of neighbours, padded to whole blocks with the last: float32 `(8 n, side)`."""
    halves = (side + 1) // 2
    matrix = np.zeros((halves + -halves % 8, side), "float32")
    for row, line in enumerate(matrix):
        first = 2 * min(row, halves - 1)
        line[first] += 0.5
        line[min(first + 1, side - 1)] += 0.5
    return matrix


@functools.cache
def _twice(side):
    """libjpeg's enlargement: three parts of the nearer half, one of the next: `(side, 8 n)`."""
    halves = (side + 1) // 2
    matrix = np.zeros((side, halves + -halves % 8), "float32")
    for row, line in enumerate(matrix):
        near = row // 2
        line[near] += 0.75
        line[min(max(near + (1 if row % 2 else -1), 0), halves - 1)] += 0.25
    return matrix


# Operations.


def _operations(images):
    return _tensorflow_operations() if is_foreign(images) else keras.ops


@functools.cache
def _tensorflow_operations():
    """The functions of `keras.ops` that are used here, for TensorFlow's tensors."""
    import tensorflow as tf

    return types.SimpleNamespace(
        abs=tf.abs,
        arange=tf.range,
        cast=tf.cast,
        clip=tf.clip_by_value,
        concatenate=tf.concat,
        convert_to_tensor=tf.convert_to_tensor,
        exp=tf.exp,
        flip=lambda images, axis: tf.reverse(images, [axis]),
        floor=tf.floor,
        matmul=tf.matmul,
        maximum=tf.maximum,
        minimum=tf.minimum,
        pad=tf.pad,
        reshape=tf.reshape,
        round=tf.round,
        shape=tf.shape,
        sqrt=tf.sqrt,
        stack=tf.stack,
        sum=tf.reduce_sum,
        take=tf.gather,
        transpose=tf.transpose,
        where=tf.where,
        zeros_like=tf.zeros_like,
    )
