"""`load_recognizer`: one object from photos to faces, and from two photos to a verdict."""

import dataclasses
import os
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate import cosine_scores
from keras_facemargin.images import (
    BadImage,
    DetectedFace,
    Detector,
    align_face,
    load_detector,
    read_photo,
)
from keras_facemargin.recognizer.verification import Verification, find_threshold
from keras_facemargin.zoo.open import Embedder, open_embedder

Photo: TypeAlias = str | os.PathLike[str] | npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, eq=False)
class Face:
    """A face on a photo, ready to be compared.

    Attributes:
        box: float array `(4,)`: left, top, right, bottom in pixels of the upright photo; None for
            an aligned crop.
        points: float array `(5, 2)`: left eye, right eye, nose, left and right mouth corner, left
            and right as a viewer sees them; None for an aligned crop.
        score: the detector's; NaN for an aligned crop.
        crop: uint8 `(H, W, 3)`, RGB, the crop that the embedder takes.
        embedding: float32 `(D,)`: of the crop and of its mirror image, appended; not normalised.
        quality: None until it is judged.
        doubt: the detector's reason not to trust the points; None without one.
    """

    box: npt.NDArray[Any] | None
    points: npt.NDArray[Any] | None
    score: float
    crop: npt.NDArray[np.uint8]
    embedding: npt.NDArray[np.float32]
    quality: Any = None
    doubt: str | None = None


class Recognizer:
    """Finds, embeds and compares faces; made by `load_recognizer`.

    Attributes:
        embedder: an `Embedder`.
        detector: a `Detector`.
    """

    def __init__(self, embedder: Embedder, detector: Detector) -> None:
        self.embedder = embedder
        self.detector = detector

    @property
    def embedding_id(self) -> str | None:
        """Digest of all that decides whether two embeddings can be compared."""
        return self.embedder.id_of(mirrored=True)

    @property
    def embedding_dim(self) -> int:
        """D of `Face.embedding`: twice the embedder's, for the mirror image."""
        return 2 * self.embedder.embedding_dim

    def faces(self, photo: Photo) -> list[Face]:
        """All faces of a photo, the largest box first.

        Args:
            photo: an image file, or uint8 `(H, W, 3)`, RGB.

        Returns:
            List of `Face`, empty if the detector finds none.

        Raises:
            BadImage: the file cannot become a photo.
            OSError: the file cannot be opened.
        """
        pixels = photo if isinstance(photo, np.ndarray) else read_photo(photo)
        found: list[DetectedFace] = []
        crops: list[npt.NDArray[np.uint8]] = []
        for face in sorted(self.detector(pixels), key=lambda each: -_area(each.box)):
            try:
                crops.append(align_face(pixels, face.points, self.embedder.crop))
            except ValueError:  # its points are no face: on a line, mirrored, beside the photo
                continue
            found.append(face)
        if not found:
            return []
        embeddings = self._embed(np.stack(crops))
        return [
            Face(
                np.asarray(face.box, float),
                np.asarray(face.points, float),
                face.score,
                crop,
                row,
                doubt=face.doubt,
            )
            for face, crop, row in zip(found, crops, embeddings, strict=True)
        ]

    def face_of_crop(self, crop: npt.NDArray[np.uint8]) -> Face:
        """The face of an aligned crop.

        Args:
            crop: uint8 `(H, W, 3)`, RGB, of the size of `embedder.crop`.

        Raises:
            ValueError: another shape.
        """
        pixels = np.asarray(crop)
        return Face(None, None, float("nan"), pixels, self._embed(pixels[None])[0])

    def verify(
        self,
        a: Photo | Face,
        b: Photo | Face,
        *,
        far: float = 1e-3,
        threshold: float | None = None,
    ) -> Verification:
        """Decides whether two photos show one person.

        Args:
            a, b: photos, as `faces` takes them; the largest face of each is compared. A `Face`
                chooses another one.
            far: false accept rate; the card must have a threshold for it.
            threshold: smallest cosine of the verdict "same", in place of the card's.

        Returns:
            A `Verification`.

        Raises:
            BadImage: a photo has no face, or cannot be read.
            ValueError: the card has no threshold for `far`.
        """
        calibrated_on = None
        if threshold is None:
            chosen = self._threshold(far)
            threshold, calibrated_on = chosen.cosine, chosen.data
        first, second = self._face(a), self._face(b)
        cosine = float(cosine_scores(first.embedding[None], second.embedding[None])[0])
        same = cosine >= threshold
        return Verification(
            verdict="same" if same else "different",
            cosine=cosine,
            threshold=threshold,
            far=None if calibrated_on is None else far,
            calibrated_on=calibrated_on,
            qualities=(first.quality, second.quality),
            sentence=f"{'same person' if same else 'different people'}: cosine {cosine:.4f}, "
            f"threshold {threshold:.4f}",
        )

    def identify(self, photo: Photo, gallery: Any, *, count: int = 1) -> list[Any]:
        """Searches every face of a photo in a gallery.

        Args:
            photo: as `faces`.
            gallery: a `Gallery` of the same embedding id.
            count: matches for each face.

        Returns:
            The result of `gallery.search` for the faces in the order of `faces`; an empty list if
            there are none.
        """
        faces = self.faces(photo)
        if not faces:
            return []
        found: list[Any] = gallery.search(np.stack([face.embedding for face in faces]), count=count)
        return found

    def _threshold(self, far: float) -> Any:
        if self.embedder.thresholds is None:
            raise ValueError(
                f"A verdict needs a threshold. Received: {self.embedder.name} without one on a "
                "card. Run `facemargin calibrate FACES --model MODEL`, or pass `threshold`."
            )
        return find_threshold(self.embedder.thresholds, far, self.embedder.name)

    def _face(self, photo: Photo | Face) -> Face:
        if isinstance(photo, Face):
            return photo
        faces = self.faces(photo)
        if not faces:
            name = "the array" if isinstance(photo, np.ndarray) else photo
            raise BadImage(name, "the detector found no face on the photo.")
        return faces[0]

    def _embed(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return self.embedder(crops, mirrored=True)


def load_recognizer(
    model: Any = "spherenet_distilled", *, detector: Detector | str | None = None
) -> Recognizer:
    """Loads an embedder and a detector.

    Args:
        model: as `open_embedder`, or an `Embedder`, which names the crop and the pixels of a file
            without a card.
        detector: a `Detector`, or a name as `load_detector` takes it. Default: "mtcnn".

    Returns:
        A `Recognizer`.

    Raises:
        FileNotFoundError, FetchError, ValueError, ImportError: as `open_embedder` and
            `load_detector`.
    """
    embedder = model if isinstance(model, Embedder) else open_embedder(model)
    detect = load_detector(detector or "mtcnn") if not callable(detector) else detector
    return Recognizer(embedder, detect)


def _area(box: Any) -> float:
    left, top, right, bottom = np.asarray(box, float)
    return float(np.nan_to_num((right - left) * (bottom - top)))
