"""The effective resolution of a face crop: pixels between the eyes that hold its detail.

A crop has 112 rows whatever the photo held. If the face was small, out of focus, shaken or saved as
a poor JPEG, the fine detail is missing. Two measures are read off against those of crops that were
shrunk to a known size, and the lower one counts:

- spectrum: the power at 9 to 13 periods over that at 3 to 6 periods, in a window from the eyebrows
  to the mouth, 64 of 112 pixels wide, under a Hann window. Noise misleads it least.
- blocks: the power of the 8x8 cosine transforms at about 3 half periods over that at 1, the
  geometric mean over 64 blocks. The blocks of a JPEG, sharp at their edges and empty inside, do not
  mislead it.

The variance of the Laplacian, which many applications use, calls a crop of 20 pixels with the noise
of a dark photo sharp.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from keras_facemargin.images.crop import Crop

_EYES = 35.24  # pixels between the eyes of ArcFace's 112x112 crop; others are resized to it
SIDE = 64  # of the window, in pixels
_BLOCK = 8
# Median measures of 240 CelebA crops at a number of pixels between the eyes, shrunk by an area
# filter and enlarged linearly: (pixels, spectrum, blocks).
MEASURES = np.array(
    [
        (6.3, -1.98, -1.479),
        (6.9, -1.83, -1.463),
        (7.6, -1.72, -1.406),
        (8.2, -1.64, -1.379),
        (8.8, -1.62, -1.349),
        (10.1, -1.58, -1.253),
        (11.3, -1.53, -1.202),
        (12.6, -1.45, -1.130),
        (13.8, -1.37, -1.110),
        (15.1, -1.27, -1.047),
        (17.6, -1.21, -0.999),
        (20.1, -1.08, -0.921),
        (25.2, -0.97, -0.810),
        (30.2, -0.93, -0.762),
        (35.2, -0.84, -0.665),
    ]
)
_AT_ONCE = 256  # crops whose spectra are in memory at a time


def effective_resolution(crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Pixels between the eyes that hold the detail of a crop.

    The measures resolve 6.3 to 35.2 pixels, a crop of 20 to 112 rows; fewer and more read as the
    nearest of the two. A crop without contrast has 0. Enlargement without interpolation (square
    pixels) reads as sharp.

    Args:
        crops: uint8 (N, H, W, 3), RGB, aligned.

    Returns:
        float64 (N,).

    Raises:
        ValueError: `crops` has another type or shape.

    Example:

    >>> from keras_facemargin.images.degrade import degrade
    >>> noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype="uint8")
    >>> effective_resolution(np.stack([noise, degrade(noise, "blur4")])).tolist()
    [35.2, 6.3]
    """
    crops = np.asarray(crops)
    if crops.ndim != 4 or crops.shape[-1] != 3 or crops.dtype != np.uint8:
        raise ValueError(
            "`crops` must be uint8 of shape (N, H, W, 3). Received: "
            f"{crops.dtype} of shape {crops.shape}."
        )
    pixels, spectrum, blocks = MEASURES.T
    found = np.zeros(len(crops))
    for start in range(0, len(crops), _AT_ONCE):
        windows = _windows(crops[start : start + _AT_ONCE])
        readings = np.minimum(
            np.interp(_of_spectrum(windows), spectrum, pixels),
            np.interp(_of_blocks(windows), blocks, pixels),
        )
        found[start : start + len(windows)] = np.where(
            np.ptp(windows, axis=(1, 2)) > 0, readings, 0
        )
    return found


def pooling_quality(pixels: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The quality of an image for quality pooling and attenuation.

    Its pixels as a share of the 35 between the eyes of a 112x112 crop, within 0.02..0.98: 0 and 1
    would be infinite logits.

    Args:
        pixels: as `effective_resolution` returns them, any shape. NaN stays NaN.

    Returns:
        float64, of the same shape.

    Example:

    >>> pooling_quality([0.0, 7.0, 35.2]).tolist()
    [0.02, 0.2, 0.98]
    """
    return np.clip(np.asarray(pixels, np.float64) / 35.0, 0.02, 0.98)


class Window(NamedTuple):
    """The part of a crop that is measured, from the eyebrows to the mouth: `SIDE` pixels wide.

    Attributes:
        shape: height and width to which the crop is resized first.
        top, left: of the window in it.
    """

    shape: tuple[int, int]
    top: int
    left: int


def find_window(crop: Crop) -> Window:
    """The part of a crop that is measured.

    Example:

    >>> find_window(Crop.of(112))
    Window(shape=(112, 112), top=32, left=24)
    """
    if crop.template is None:  # as if it were an ArcFace crop of that height
        eyes, across, down = _EYES * crop.height / 112, crop.width / 2, 0.465 * crop.height
    else:
        left, right = crop.points[:2]
        eyes = float(np.hypot(*(right - left)))
        across, down = (left + right) / 2 + 0.5
    scale = _EYES / eyes
    height, width = (max(round(side * scale), SIDE) for side in crop.shape)
    # On the grid of the JPEG that the crop may have been.
    top = _on_grid(down * scale - 0.28 * SIDE, height)
    start = _on_grid(across * scale - 0.5 * SIDE, width)
    return Window((height, width), top, start)


def _windows(crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Brightness in the window, float64 (N, 64, 64)."""
    crop = Crop.of(crops.shape[1:3])
    (height, width), top, left = find_window(crop)
    if (height, width) != crop.shape:
        images = [Image.fromarray(each).resize((width, height)) for each in crops]
        crops = np.stack([np.asarray(each) for each in images])
    window = crops[:, top : top + SIDE, left : left + SIDE]
    grey: npt.NDArray[np.float64] = window @ np.array([0.299, 0.587, 0.114])
    return grey


def _on_grid(start: float, length: int) -> int:
    return min(max(_BLOCK * round(start / _BLOCK), 0), length - SIDE)


def _of_spectrum(windows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    hann = np.hanning(SIDE + 2)[1:-1]
    weights = np.outer(hann, hann)
    mean = np.sum(windows * weights, axis=(1, 2), keepdims=True) / weights.sum()
    power = np.abs(np.fft.rfft2((windows - mean) * weights)) ** 2
    power[:, :, 1:] *= 2  # each stands for two columns of the full spectrum
    periods = np.hypot(np.fft.fftfreq(SIDE, 1 / SIDE)[:, None], np.arange(power.shape[2]))
    rings = np.rint(periods)
    high, low = (
        power[:, (rings >= first) & (rings <= last)].sum(axis=1)
        for first, last in ((9, 13), (3, 6))
    )
    found: npt.NDArray[np.float64] = np.log10((high + 1) / (low + 1))
    return found


def _of_blocks(windows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    steps = np.arange(_BLOCK)
    cosines = np.cos(np.pi * steps[:, None] * (2 * steps + 1) / (2 * _BLOCK)) / 2
    cosines[0] /= np.sqrt(2)
    count = SIDE // _BLOCK
    blocks = windows.reshape(-1, count, _BLOCK, count, _BLOCK).swapaxes(2, 3)
    power = (cosines @ blocks @ cosines.T) ** 2
    waves = np.hypot(steps[:, None], steps)  # half periods in a block
    high = power[..., (waves > 2.2) & (waves < 3.7)].sum(axis=-1)
    low = power[..., (waves > 0) & (waves < 1.9)].sum(axis=-1)
    # Below 10 it is the rounding of pixels.
    found: npt.NDArray[np.float64] = np.log10((high + 10) / (low + 10)).mean(axis=(1, 2))
    return found
