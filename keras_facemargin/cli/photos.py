"""Faces of photos, for `verify`, `identify` and `gallery`."""

from pathlib import Path
from typing import TYPE_CHECKING

from keras_facemargin.cli.console import say
from keras_facemargin.cli.opening import open_keras, open_model

if TYPE_CHECKING:
    from keras_facemargin.images import DetectedFace
    from keras_facemargin.recognizer import Face, Recognizer
    from keras_facemargin.zoo import Threshold


def open_recognizer(
    model: str,
    crop: str | None,
    pixels: str | None,
    *,
    detector: str | None,
    min_face: int | None,
    aligned: bool | None,
) -> "Recognizer":
    """The embedder of a command with its detector; none looks at aligned crops."""
    from keras_facemargin.images import load_detector
    from keras_facemargin.recognizer import load_recognizer

    if aligned and not (detector is None and min_face is None):
        option = f"--min-face {min_face}" if detector is None else f"--detector {detector}"
        raise ValueError(
            f"An aligned crop needs no detector. Received: --aligned with {option}. Leave one of "
            "them out."
        )
    if detector is not None and ":" in detector:
        open_keras()  # your own detector may open a saved model
    detect = _no_detector if aligned else load_detector(detector or "mtcnn", min_face=min_face)
    return load_recognizer(open_model(model, crop, pixels), detector=detect)


def _no_detector(image: object) -> list["DetectedFace"]:
    return []


def faces_of(recognizer: "Recognizer", path: Path, aligned: bool | None) -> "list[Face]":
    """The faces of a photo, the largest first, or that of an aligned crop."""
    if not aligned:
        return recognizer.faces(path)
    from keras_facemargin.images import read_face

    return [recognizer.face_of_crop(read_face(path, recognizer.embedder.crop))]


def box_of(face: "Face") -> list[int] | None:
    """Left, top, right, bottom in whole pixels; None for an aligned crop."""
    return None if face.box is None else [round(float(side)) for side in face.box]


def refuse_two_thresholds(far: float | None, threshold: float | None) -> None:
    """Refuses a threshold beside the false accept rate that chooses another one."""
    if far is not None and threshold is not None:
        raise ValueError(
            f"A threshold is yours or the card's. Received: --far {far:g} and --threshold "
            f"{threshold:g}. Leave one of them out."
        )


def threshold_of_card(
    recognizer: "Recognizer", model: str, far: float | None, threshold: float | None
) -> "Threshold | None":
    """The threshold on the card; None if the user has one."""
    if threshold is not None:
        return None
    embedder = recognizer.embedder
    if embedder.card is None and embedder.runtime == "keras":
        from keras_facemargin.zoo import load_card

        load_card(model)  # names the missing or damaged card
    return recognizer.threshold(far)


def print_caution() -> None:
    """The last line of each answer."""
    say("Do not decide about a person by a score alone.", style="dim")
