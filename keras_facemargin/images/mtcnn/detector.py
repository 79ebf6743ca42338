"""Faces and points by MTCNN: one face for all windows around it."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from keras_facemargin.images.detect import DetectedFace
from keras_facemargin.images.mtcnn.cascade import Cascade
from keras_facemargin.images.mtcnn.weights import read_networks

# MTCNN's last network answers for several windows around a face. Two windows are of one face if
# they share at least this part of the smaller one.
_SAME_FACE = 0.7
# Points agree if they are no farther apart, on average, than this part of their spread (the root
# mean square distance from their middle): 6 pixels of a 112x112 crop.
_APART = 0.25
# The smallest face by default: pixels, and its part of the longer side of the photo.
_SMALLEST, _PART = 20, 80


class MtcnnDetector:
    """Faces by MTCNN (Zhang et al., 2016): three small networks, run in NumPy.

    The weights are those of the package `mtcnn` 1.0 (MIT), a dependency. Its files are read; its
    code, which needs TensorFlow, does not run.

    **Measured** on 250 photos of LFW (250x250, the face about 110 pixels wide), against the points
    of another MTCNN: a face in every photo; the points of the most central face are 1.4 pixels off
    on average (3.3% of the distance between the eyes), 4.1 in the worst photo. Half a pixel of
    that, right and down, is a shift between the two MTCNNs; the points of mirrored photos agree
    with this one's to 0.1. 20 ms of CPU time a photo, a third of the package's on TensorFlow.

    **Wrong points.** The window with the highest score of all around a face may be wrong. For 3 of
    those 250 photos, unchanged or mirrored, that window's points have the shape of a face but are
    beside it, the eyes on the forehead: 14 pixels off, with a score of 0.9995. The score does not
    show the error. The fit to the template does not either: the residual is 1.8 pixels of the crop,
    below the median of 2.8 of 13,232 photos; the largest, up to 11.7, are right profiles. The other
    windows show it. So this class keeps more windows than the package (those that share at most 0.9
    of their union) and returns the median of their points. A face gets a `doubt` if fewer than half
    of the windows agree with the median: none of those 500, 1 of 1,219 crops of LFW and CelebA.

    **Implementations differ.** With the package's sampling the windows and points of the 250 photos
    equal the package's to 0.001 pixels. But the package places its patches up to half a pixel
    further left and up the nearer they are to the left and upper border of the photo, and further
    right and down at the other borders; here the place on the photo does not matter. Its
    `detect_faces` truncates points to whole pixels; here they keep their fractions. Its boxes are
    x, y, width, height.

    Args:
        min_face: side of the smallest face to find, in pixels of the photo, at least 12. The time
            grows with its inverse square. Default: 20, or an 80th of the longer side of the photo
            if that is more: 50 on a photo of 4000x3000.
        largest_side: at least 64. A photo with a longer side, in pixels, is averaged over squares
            of `n`x`n` pixels before the search, and its smallest face has at least `12 * n` pixels:
            36 on a photo of 4000x3000. Alignment still cuts from the original photo.

    Raises:
        ImportError: the package `mtcnn` is not installed.
        ValueError: an argument is out of its range.

    Example:

    ```python
    faces = MtcnnDetector()(read_photo("holiday/IMG_0001.jpg"))
    crop = align_face(photo, faces[0].points)
    ```
    """

    def __init__(self, *, min_face: float | None = None, largest_side: float = 1600) -> None:
        for name, value, least in (("min_face", min_face, 12), ("largest_side", largest_side, 64)):
            if name == "min_face" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
                raise ValueError(
                    f"`{name}` must be a number of pixels of at least {least}. "
                    f"Received: {name}={value!r}"
                )
        self.min_face = min_face
        self.largest_side = largest_side
        self._windows = Cascade(read_networks())

    def __call__(self, image: npt.NDArray[np.uint8]) -> list[DetectedFace]:
        """Finds faces, as `Detector`; highest score first.

        Raises:
            ValueError: `image` is not a uint8 array `(H, W, 3)`.
        """
        image = np.asarray(image)
        if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(
                "`image` must be a uint8 array of shape (H, W, 3), RGB 0..255. Received: "
                f"{image.dtype} of shape {image.shape}. Read a picture with read_photo."
            )
        longest = max(image.shape)
        factor = max(1, math.ceil(longest / self.largest_side))
        min_face = max(_SMALLEST, longest / _PART) if self.min_face is None else self.min_face
        if factor > 1:
            image = np.asarray(Image.fromarray(image).reduce(factor))
        faces = []
        for box, score, points in zip(
            *self._windows(image, max(12, min_face / factor)), strict=True
        ):
            if factor > 1:
                box, points = ((each + 0.5) * factor - 0.5 for each in (box, points))
            faces.append(DetectedFace(box, float(score), points))
        return [_median_face(group) for group in _by_face(faces)]


def _by_face(windows: list[DetectedFace]) -> list[list[DetectedFace]]:
    """Lists of the windows of each face; windows and faces highest score first."""
    faces: list[list[DetectedFace]] = []
    for window in sorted(windows, key=lambda each: -each.score):
        for face in faces:
            if _part_within(window.box, face[0].box) > _SAME_FACE:
                face.append(window)
                break
        else:
            faces.append([window])
    return faces


def _part_within(box: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Common area of two boxes divided by the area of the smaller one."""
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    areas = [np.prod(each[2:] - each[:2]) for each in (box, other)]
    return float(np.prod(np.maximum(high - low, 0)) / max(min(areas), 1e-9))


def _median_face(windows: list[DetectedFace]) -> DetectedFace:
    """The first of a face's windows that agrees with their median, with the median's points."""
    points = np.median([each.points for each in windows], axis=0)
    spread = np.sqrt(np.var(points, axis=0).sum())
    agree = [
        each
        for each in windows
        if np.linalg.norm(each.points - points, axis=1).mean() <= _APART * spread
    ]
    if 2 * len(agree) < len(windows):
        doubt = f"only {len(agree)} of {len(windows)} windows around the face agree on them."
        return windows[0]._replace(points=points, doubt=doubt)
    return agree[0]._replace(points=points)
