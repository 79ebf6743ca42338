"""Bad versions of a face crop: few pixels, blur, JPEG. Deterministic, by NumPy and Pillow.

A protocol tests embedders on `KINDS`; `robustify` trains on drawn strengths of the same three.
`keras_facemargin.augmentation` has random layers for batches instead, in a graph.
"""

import io
import math
import re

import numpy as np
import numpy.typing as npt
from PIL import Image

Crop8 = npt.NDArray[np.uint8]

# From the mildest to the hardest of each: `degrade` takes any other strength too.
KINDS = ("28px", "20px", "14px", "blur2", "blur4", "jpeg8")
_HEIGHT = 112  # of the crop in whose pixels a blur is measured
_PIXELS = re.compile(r"([1-9]\d{0,3})px")
_BLUR = re.compile(r"blur(\d{1,3}(?:\.\d+)?)")
_JPEG = re.compile(r"jpeg(100|[1-9]\d?)")


def degrade(crop: Crop8, kind: str) -> Crop8:
    """Makes a crop worse, always in the same way.

    Args:
        crop: uint8 (H, W, 3), RGB; it is not changed.
        kind: "clean"; "20px", as `shrink` to 20 pixels; "blur4", as `blur` by sigma 4; "jpeg8", as
            `compress` at quality 8. Other numbers work too.

    Returns:
        uint8 (H, W, 3), a new array.

    Raises:
        ValueError: the crop is not uint8 (H, W, 3), or the kind is unknown.

    Example:

    >>> crop = np.zeros((112, 112, 3), "uint8")
    >>> [degrade(crop, kind).shape for kind in ("20px", "blur4", "jpeg8")]
    [(112, 112, 3), (112, 112, 3), (112, 112, 3)]
    """
    if kind == "clean":
        return _checked(crop).copy()
    if match := _PIXELS.fullmatch(kind):
        return shrink(crop, int(match[1]))
    if match := _BLUR.fullmatch(kind):
        return blur(crop, float(match[1]))
    if match := _JPEG.fullmatch(kind):
        return compress(crop, int(match[1]))
    raise ValueError(
        "`kind` must be clean, a number of pixels such as 20px, a blur such as blur4, or a JPEG "
        f"quality such as jpeg8. Received: kind={kind!r}"
    )


def shrink(crop: Crop8, pixels: int) -> Crop8:
    """Shrinks a crop and enlarges it again, like a face far from the camera.

    The area filter shrinks it, the bilinear filter enlarges it. A crop of no more pixels than that
    is returned as it is.

    Args:
        crop: uint8 (H, W, 3).
        pixels: height of the small crop, at least 1. The width keeps the proportion.

    Returns:
        uint8 (H, W, 3), a new array.
    """
    height, width = _checked(crop).shape[:2]
    if pixels < 1:
        raise ValueError(f"`pixels` must be at least 1. Received: pixels={pixels}")
    if pixels >= height:
        return crop.copy()
    small = (max(1, round(width * pixels / height)), pixels)
    image = Image.fromarray(crop).resize(small, Image.Resampling.BOX)
    return np.array(image.resize((width, height), Image.Resampling.BILINEAR))


def blur(crop: Crop8, sigma: float) -> Crop8:
    """Blurs a crop with a Gaussian, like a face out of focus.

    At the border the weights inside of the crop are scaled up to 1.

    Args:
        crop: uint8 (H, W, 3).
        sigma: deviation, at least 0, in pixels of a crop 112 pixels high: that of a crop of another
            height is in proportion.

    Returns:
        uint8 (H, W, 3), a new array.
    """
    height = len(_checked(crop))
    if not sigma >= 0:
        raise ValueError(f"`sigma` must be at least 0. Received: sigma={sigma}")
    weights = _gaussian(sigma * height / _HEIGHT)
    blurred = _along_rows(_along_rows(crop.astype("float32"), weights).swapaxes(0, 1), weights)
    return np.ascontiguousarray(np.rint(blurred.swapaxes(0, 1)).astype("uint8"))


def compress(crop: Crop8, quality: int) -> Crop8:
    """Writes a crop as a JPEG of a quality, with halved colour channels, and reads it.

    Args:
        crop: uint8 (H, W, 3).
        quality: libjpeg's, 1 to 100.

    Returns:
        uint8 (H, W, 3), a new array.
    """
    _checked(crop)
    if not 1 <= quality <= 100:
        raise ValueError(f"`quality` must be from 1 to 100. Received: quality={quality}")
    stream = io.BytesIO()
    Image.fromarray(crop).save(stream, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(stream, formats=["JPEG"]) as image:
        return np.array(image)


def _checked(crop: Crop8) -> Crop8:
    if not isinstance(crop, np.ndarray) or crop.dtype != np.uint8 or crop.shape[2:] != (3,):
        about = (
            f"{crop.dtype} of shape {crop.shape}"
            if isinstance(crop, np.ndarray)
            else type(crop).__name__
        )
        raise ValueError(f"`crop` must be a uint8 array of shape (H, W, 3). Received: {about}")
    return crop


def _gaussian(sigma: float) -> list[float]:
    """The weights of the pixel and of its neighbours to one side, to 4 deviations."""
    reach = math.ceil(4 * sigma)
    return [math.exp(-0.5 * (step / sigma) ** 2) if step else 1.0 for step in range(reach + 1)]


def _along_rows(image: npt.NDArray[np.float32], weights: list[float]) -> npt.NDArray[np.float32]:
    """The weighted mean of each pixel and those above and below it, inside of the image.

    By additions, whose order is fixed: the sums of a matrix product depend on the processor.
    """
    total = image.copy()
    weight: npt.NDArray[np.float32] = np.ones((len(image), 1, 1), "float32")
    for step, share in enumerate(weights[: len(image)]):
        if step:
            weighted = np.float32(share) * image
            total[step:] += weighted[:-step]
            total[:-step] += weighted[step:]
            weight[step:] += np.float32(share)
            weight[:-step] += np.float32(share)
    total /= weight
    return total
