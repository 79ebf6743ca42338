"""Five points on a photo -> the crop that an embedder was trained on.

An embedder is trained on crops with eyes, nose and mouth at fixed places. Alignment maps five
points of a face onto those places by the similarity transform (turn, scale, shift: four numbers)
with the least squared error: Umeyama's (1991). In the plane it has a closed form in complex
numbers. With `z_i` the centred points and `w_i` the centred places, both as `x + iy`,

    a = sum(conj(z_i) w_i) / sum(|z_i|^2),    place = a (point - mean) + mean place

where `|a|` is the scale and `arg a` the turn. A reflection is never chosen.

**Coordinates.** Pixels: x to the right, y down, `(0, 0)` the *centre* of the first pixel, as in
OpenCV, MTCNN and InsightFace. Left and right are as a viewer sees them: the left eye is the one on
the left of the picture, the person's right.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from keras_facemargin.images.crop import Crop, Size

_Floats: TypeAlias = npt.NDArray[np.float64]
_Pixels: TypeAlias = npt.NDArray[np.uint8]

# Five points are on a line if their spread across it is less than this part of the spread along it:
# they do not determine a crop. In 13,232 photos of LFW the least is 0.47.
_THIN = 0.02
# Left and right count as swapped if the points fit so many times better mirrored. In LFW the ratio
# is below 0.6, for a full profile about 1, and in LFW with left and right swapped at least 1.7.
_MIRRORED = 1.5
# Pixels of the photo, root mean square distance of the five points from their middle: eyes 1.4
# pixels apart. A smaller face shows nothing; fractions of width and height (0..1) reach 0.5.
_SMALLEST = 1.0
_FARTHEST = 1e9  # pixels; the squares of larger numbers may overflow
_POINTS = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")


def similarity_transform(points: npt.ArrayLike, target: npt.ArrayLike) -> _Floats:
    """The similarity transforms that map point sets onto a target with the least squared error.

    Umeyama's closed form without the reflection, in float64, for any number of point sets at once:
    the `M` that minimises `sum_i |M (x_i, y_i, 1) - target_i|^2` over turns, scales and shifts.

    **Implementations differ.** `cv2.estimateAffinePartial2D` finds the same transform for clean
    points, but discards points that do not agree (RANSAC, LMEDS), and five points of a real face
    never agree; scikit-image's `SimilarityTransform.estimate` is this one. An affine or perspective
    transform (some croppers use one) squeezes the face onto the template into shapes that the
    embedder was not trained on.

    Args:
        points: array `(..., K, 2)`, x and y of K >= 2 points, finite.
        target: array `(K, 2)`, the places of the K points.

    Returns:
        float64 `(..., 2, 3)`: from `points` to `target`, as `cv2.warpAffine` takes it.

    Raises:
        ValueError: a shape is wrong, a number is not finite, or all points of a set coincide.

    Example:

    >>> similarity_transform([[0, 0], [2, 0]], [[1, 1], [1, 5]]).tolist()
    [[0.0, -2.0, 1.0], [2.0, 0.0, 1.0]]
    """
    target = _numbers(target, "target")
    if target.ndim != 2 or target.shape[0] < 2:
        raise ValueError(
            f"`target` must have shape (K, 2) with K >= 2. Received: shape {target.shape}"
        )
    points = _numbers(points, "points")
    if points.shape[-2:] != target.shape:
        raise ValueError(
            f"`points` must have shape (..., {len(target)}, 2) for a target of "
            f"{len(target)} points. Received: shape {points.shape}"
        )
    z, w = _complex(points), _complex(target)
    mean, mean_target = z.mean(-1, keepdims=True), w.mean()
    # In floating point the differences of equal large numbers are not always zero.
    spread = (np.abs(z - mean) ** 2).sum(-1)
    _refuse(
        spread <= (1e-12 * np.abs(mean[..., 0])) ** 2,
        "The points of a face must not all be the same",
        points,
        "Leave the face out, or find its points again.",
    )
    a = (np.conj(z - mean) * (w - mean_target)).sum(-1) / spread
    shift = mean_target - a * mean[..., 0]
    rows = [[a.real, -a.imag, shift.real], [a.imag, a.real, shift.imag]]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def alignment_matrix(
    points: npt.ArrayLike, size: Size | None = None, *, template: str | None = None
) -> _Floats:
    """The transforms that map the five points of faces onto those of a crop.

    Args:
        points: array `(5, 2)` or `(..., 5, 2)`, x and y in pixels of the photo: left eye, right
            eye, nose, left and right mouth corner, left and right as a viewer sees them.
        size, template: the crop, as `Crop.of` takes them. Default: ArcFace's 112x112.

    Returns:
        float64 `(2, 3)` or `(..., 2, 3)`, from photo to crop.

    Raises:
        ValueError: a shape is wrong; a number is not finite; the points of a face all coincide,
            are on a line or within a pixel or two (they are not in pixels); left and right are
            swapped, of all points or only of eyes or mouth corners; x and y are swapped.

    Example:

    >>> points = Crop(112, 112).points
    >>> alignment_matrix(2 * points + 10)[:, 2].round(6).tolist()  # twice as large, 10 further
    [-5.0, -5.0]
    """
    target = Crop.of(size, template).points
    points = _numbers(points, "points")
    if points.shape[-2:] != (5, 2):
        raise ValueError(
            f"`points` must have shape (5, 2) or (..., 5, 2): x and y of {', '.join(_POINTS)}. "
            f"Received: shape {points.shape}"
        )
    matrix = similarity_transform(points, target)
    z = _complex(points)
    z = z - z.mean(-1, keepdims=True)
    _refuse(
        (np.abs(z) ** 2).mean(-1) < _SMALLEST**2,
        "`points` must be in pixels of the photo, and the points of a face more than a pixel apart",
        points,
        "Multiply points that are fractions of the width and height (0..1) by the width and height "
        "of the photo.",
    )
    length = np.abs((z**2).sum(-1)) / (np.abs(z) ** 2).sum(-1)  # 0: as wide as long, 1: a line
    _refuse(
        1 - length < 2 * _THIN**2,
        "The points of a face must not be on a line",
        points,
        "Leave the face out, or find its points again.",
    )
    eyes, mouth = z[..., 1] - z[..., 0], z[..., 4] - z[..., 3]
    reach = 0.25 * np.abs(z[..., 3:].sum(-1) - z[..., :2].sum(-1)) / 2
    _refuse(
        ((eyes * np.conj(mouth)).real < 0) & (np.minimum(np.abs(eyes), np.abs(mouth)) > reach),
        f"`points` must be {', '.join(_POINTS)}; the direction from the left to the right eye is "
        "opposite to that between the mouth corners",
        points,
        "Swap the two eyes or the two mouth corners.",
    )
    w = _complex(target)
    w = w - w.mean()
    _refuse(
        np.abs((z * w).sum(-1)) > _MIRRORED * np.abs((np.conj(z) * w).sum(-1)),
        "`points` must have left before right as a viewer of the picture sees them, and x before "
        "y; these fit the template better mirrored",
        points,
        "Swap the two eyes and the two mouth corners, or x and y. The points of a mirrored image "
        "must be mirrored too: x -> width - 1 - x.",
    )
    return matrix


def align_face(
    image: npt.ArrayLike,
    points: npt.ArrayLike,
    size: Size | None = None,
    *,
    template: str | None = None,
) -> _Pixels:
    """Cuts the crop of a face out of a photo: its five points move to those of the crop.

    Each pixel of the crop is interpolated bilinearly at its place in the photo and rounded to the
    nearest level; outside the photo everything is black. `cv2.warpAffine` does the same by default,
    and so does InsightFace's `norm_crop`. If the photo is at least twice as fine as the crop, it is
    first averaged over squares of whole pixels: bilinear interpolation would skip the pixels
    between its four and alias, as `norm_crop` does.

    Measured on 250 photos of LFW (250x250), mean absolute difference of the crops in levels of
    255: below 0.001 to OpenCV's; 0.49 to Pillow's bilinear, which truncates fractions and so
    darkens a crop by half a level (the reason not to interpolate with Pillow here).

    Args:
        image: array `(H, W, 3)`, uint8, RGB, as `read_photo` returns it.
        points: array `(5, 2)`, x and y in pixels: left eye, right eye, nose, left and right mouth
            corner, left and right as a viewer sees them. `(0, 0)` is the centre of the pixel in
            the upper left.
        size, template: the crop, as `Crop.of` takes them. Default: ArcFace's 112x112.

    Returns:
        uint8 array `(height, width, 3)` of the crop.

    Raises:
        ValueError: as `alignment_matrix`; `image` is not such an array; the middle of the points
            is outside the image.

    Example:

    >>> points = Crop(112, 112).points
    >>> photo = np.full((250, 250, 3), 90, "uint8")
    >>> align_face(photo, 1.5 * points + 40, (112, 96)).shape
    (112, 96, 3)
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            "`image` must be a uint8 array of shape (H, W, 3), RGB 0..255. Received: "
            f"{image.dtype} of shape {image.shape}. Read a picture with read_photo."
        )
    points = _numbers(points, "points")
    if points.shape != (5, 2):
        raise ValueError(
            f"`points` must have shape (5, 2): x and y of {', '.join(_POINTS)}. "
            f"Received: shape {points.shape}"
        )
    crop = Crop.of(size, template)
    matrix = alignment_matrix(points, crop)
    middle, border = points.mean(0), [image.shape[1] - 0.5, image.shape[0] - 0.5]
    if np.any(middle < -0.5) or np.any(middle > border):
        raise ValueError(
            "`points` must be on the face in the image. Received: "
            f"points={points.tolist()} for an image of {image.shape[1]}x{image.shape[0]} (width x "
            "height). Do they belong to another image, or to this one at another size?"
        )
    linear = np.linalg.inv(matrix[:, :2])  # from crop to photo
    y, x = np.mgrid[: crop.height, : crop.width]
    places = np.stack([x - matrix[0, 2], y - matrix[1, 2]], -1) @ linear.T
    low, high = places.min((0, 1)), places.max((0, 1))
    factor = int(np.linalg.norm(linear[:, 0]) + 1e-9)  # pixels of the photo a pixel of the crop
    if factor > 1:
        image, places = _reduce(image, places, low, high, factor)
    return _bilinear(image, places)


def _reduce(
    image: _Pixels, places: _Floats, low: _Floats, high: _Floats, factor: int
) -> tuple[_Pixels, _Floats]:
    """The visible part of a photo, averaged over squares, and the places in it."""
    # Squares are counted from the photo's corner, so that they do not move with the crop.
    start = np.clip(low // factor - 1, 0, None).astype(int) * factor
    stop = np.maximum(np.ceil(high).astype(int) + 2 * factor, start + 1)
    part = image[start[1] : stop[1], start[0] : stop[0]]
    small = np.array(Image.fromarray(np.ascontiguousarray(part)).reduce(factor))
    return small, (places - start + 0.5) / factor - 0.5


def _bilinear(image: _Pixels, places: _Floats) -> _Pixels:
    """Levels of `image` at `places`, `(h, w, 2)` of x and y; black outside."""
    height, width, _ = image.shape
    corner = np.floor(places)
    across, down = np.moveaxis((places - corner)[..., None], 2, 0)
    left, top = np.moveaxis(np.clip(corner, -2, [width, height]).astype(int), -1, 0)
    # Indices one too far on either side read the black frame around the part.
    x0, y0 = max(left.min(), 0), max(top.min(), 0)
    part = image[y0 : max(top.max() + 2, 0), x0 : max(left.max() + 2, 0)]
    part = np.pad(part, ((2, 2), (2, 2), (0, 0)))
    row = np.clip(top - y0 + 2, 0, len(part) - 2)
    column = np.clip(left - x0 + 2, 0, part.shape[1] - 2)
    upper = part[row, column] * (1 - across) + part[row, column + 1] * across
    lower = part[row + 1, column] * (1 - across) + part[row + 1, column + 1] * across
    pixels = np.rint(upper * (1 - down) + lower * down)
    return np.asarray(pixels, np.uint8)


def _numbers(values: Any, name: str) -> _Floats:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"`{name}` must be numbers, x and y of each point. Received: {name}={values!r}"
        ) from None
    if array.ndim < 2 or array.shape[-1] != 2:
        raise ValueError(
            f"`{name}` must be x and y of each point, an array (..., 2) of points. "
            f"Received: shape {array.shape}"
        )
    sound = np.abs(array) < _FARTHEST  # not NaN either
    if not sound.all():
        bad = np.argwhere(~sound.all(-1))[0]
        raise ValueError(
            f"`{name}` must be finite numbers, of pixels. Received: {array[tuple(bad)].tolist()} "
            f"as the point "
            f"at index {tuple(bad.tolist())}. Leave the face out, or find its points again."
        )
    return array


def _complex(points: _Floats) -> npt.NDArray[np.complex128]:
    return points[..., 0] + 1j * points[..., 1]


def _refuse(bad: Any, rule: str, points: _Floats, way_out: str) -> None:
    if np.any(bad):
        first = tuple(np.argwhere(bad)[0].tolist())
        where = f" at index {first}" if first else ""
        raise ValueError(f"{rule}. Received: {points[first].tolist()}{where}. {way_out}")
