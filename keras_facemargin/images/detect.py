"""Photo -> the faces in it: box, score and five points each.

A detector is any callable from a photo to a list of `DetectedFace`; alignment needs no more.
`docs/data.md` compares the detectors that were measured. One is here:

| detector | weights | licence | points |
| --- | --- | --- | --- |
| `MtcnnDetector` | in the package `mtcnn` 1.0 (Zhang et al., 2016), a dependency | MIT | five |

No detector downloads at run time. If you have the file of another one, write a function of a few
lines around it and pass it to `facemargin align --detector MODULE:FUNCTION`.
"""

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt

DETECTORS = ("mtcnn",)


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


def load_detector(name: str, *, min_face: float | None = None) -> Detector:
    """Loads a detector by name: one of the package, or your own function.

    Args:
        name: `"mtcnn"`, or `"MODULE:FUNCTION"` for a `Detector` that Python can import.
        min_face: as `MtcnnDetector`; only for `"mtcnn"`.

    Returns:
        A `Detector`.

    Raises:
        ValueError: the name has neither form, or MODULE has no such function; `min_face` is out of
            its range, or the detector is your own.
        ImportError: MODULE or the detector's package is not installed.

    Example:

    ```python
    detect = load_detector("mtcnn")
    ```
    """
    if name == "mtcnn":
        from keras_facemargin.images.mtcnn import MtcnnDetector

        return MtcnnDetector(min_face=min_face)
    module, colon, function = str(name).partition(":")
    if not (module and colon and function):
        raise ValueError(
            f"A detector must be {', '.join(DETECTORS)} or MODULE:FUNCTION. Received: {name!r}"
        )
    if min_face is not None:
        raise ValueError(
            f"`min_face` is an argument of mtcnn. Received: min_face={min_face} with {name!r}. Set "
            "the smallest face in your own detector."
        )
    detector = getattr(importlib.import_module(module), function, None)
    if not callable(detector):
        raise ValueError(f"{module} must have a function {function}. Received: {name!r}")
    return cast(Detector, detector)


def check_faces(found: Any, name: str) -> list[DetectedFace]:
    """The faces that a detector returns for a photo of this name; it may be your own function."""
    try:
        faces = list(found)
        sound = all(
            isinstance(face, DetectedFace)
            and np.asarray(face.box, np.float64).shape == (4,)
            and np.asarray(face.points, np.float64).shape == (5, 2)
            for face in faces
        )
    except (TypeError, ValueError):
        sound = False
    if not sound:
        raise ValueError(
            "A detector must return a list of DetectedFace, each with a box of four numbers and "
            "points of shape (5, 2); an empty list for a photo without a face. "
            f"Received: {found!r:.200} for {name}"
        )
    return faces


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
