"""`load_recognizer`: one object from photos to faces, and from two photos to a verdict."""

import dataclasses
import os
from typing import Any, TypeAlias, TypeGuard, cast

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate import cosine_scores
from keras_facemargin.gallery import Gallery, Identity
from keras_facemargin.images import (
    BadImage,
    DetectedFace,
    Detector,
    align_face,
    alignment_matrix,
    load_detector,
    read_photo,
)
from keras_facemargin.images.detect import check_faces
from keras_facemargin.quality import Decision, Quality, decide, judge, shortfall
from keras_facemargin.recognizer.verification import Verification, find_threshold
from keras_facemargin.zoo.open import Embedder, open_embedder
from keras_facemargin.zoo.parts import FaceQuality, Threshold

# Pixels between the eyes on a photo, for an embedder without measured limits of quality. With 9 of
# them the default embedder accepts strangers 39 times as often as its threshold states.
_FEWEST = 11

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
        quality: a `Quality`: utility and sharpness.
        doubt: the detector's reason not to trust the points; None without one.
    """

    box: npt.NDArray[np.float64] | None
    points: npt.NDArray[np.float64] | None
    score: float
    crop: npt.NDArray[np.uint8]
    embedding: npt.NDArray[np.float32]
    quality: Quality | None = None
    doubt: str | None = None


class Recognizer:
    """Finds, embeds and compares faces; made by `load_recognizer`.

    It is not safe to call it from two threads at a time.

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

    @property
    def quality(self) -> FaceQuality | None:
        """The scale and the limits of quality on the embedder's card; None without them."""
        card = self.embedder.card
        return None if card is None else card.quality

    def faces(self, photo: Photo) -> list[Face]:
        """All faces of a photo, the largest box first.

        A face whose points cannot be aligned (they are on a line, or beside the photo) is left out.

        Args:
            photo: an image file, which is turned upright as its EXIF tag says, or uint8
                `(H, W, 3)`, RGB.

        Returns:
            List of `Face`, empty if the detector finds none.

        Raises:
            BadImage: the file cannot become a photo.
            OSError: the file cannot be opened.
            ValueError: an array of another kind; the detector returns something else.
        """
        pixels = _pixels(photo)
        found: list[DetectedFace] = []
        crops: list[npt.NDArray[np.uint8]] = []
        detected = check_faces(self.detector(pixels), _name(photo))
        for face in sorted(detected, key=lambda each: -_area(each.box)):
            try:
                crops.append(align_face(pixels, face.points, self.embedder.crop))
            except ValueError:
                continue
            found.append(face)
        if not found:
            return []
        return [
            dataclasses.replace(
                face,
                box=np.asarray(place.box, float),
                points=np.asarray(place.points, float),
                score=place.score,
                doubt=place.doubt,
            )
            for place, face in zip(found, self._faces_of_crops(np.stack(crops)), strict=True)
        ]

    def face_of_crop(self, crop: npt.NDArray[np.uint8]) -> Face:
        """The face of an aligned crop, which the detector does not see.

        Args:
            crop: uint8 `(H, W, 3)`, RGB, of the size of `embedder.crop`.

        Raises:
            ValueError: another shape or type.
        """
        pixels = np.asarray(crop)
        if pixels.dtype != np.uint8 or pixels.shape != (*self.embedder.crop.shape, 3):
            raise ValueError(
                f"An aligned crop must be a uint8 array of shape {(*self.embedder.crop.shape, 3)}. "
                f"Received: {pixels.dtype} of shape {pixels.shape}. `faces` takes photos."
            )
        return self._faces_of_crops(pixels[None])[0]

    def verify(
        self,
        a: Photo | Face,
        b: Photo | Face,
        *,
        far: float | None = None,
        threshold: float | None = None,
    ) -> Verification:
        """Decides whether two photos show one person.

        Args:
            a, b: photos, as `faces` takes them; the largest face of each is compared. A `Face`
                chooses another one.
            far: false accept rate; the card must have a threshold for it. Default: the nearest to
                1e-3 that the card has.
            threshold: smallest cosine of the verdict "same", in place of the card's.

        Returns:
            A `Verification`.

        Raises:
            BadImage: a photo has no face, or cannot be read.
            ValueError: the card has no threshold for `far`; as `faces`.

        Example:

        ```python
        answer = recognizer.verify("a.jpg", "b.jpg", far=1e-3)
        print(answer.verdict, answer)
        ```
        """
        rate = calibrated_on = None
        if threshold is None:
            chosen = self.threshold(far)
            threshold, rate = chosen.cosine, chosen.far
            calibrated_on = f"{chosen.impostor_pairs:,} impostor pairs ({chosen.data})"
        first, second = self._face(a), self._face(b)
        cosine = float(cosine_scores(first.embedding[None], second.embedding[None])[0])
        decision = self._decide(cosine, threshold, first, second)
        card, likelihood = self.embedder.card, None
        if decision.verdict != "cannot say" and not self._below_a_limit(first, second):
            likelihood = None if card is None else card.likelihood
        return Verification(
            verdict=decision.verdict,
            cosine=cosine,
            threshold=decision.threshold,
            raised_by=decision.threshold - threshold,
            far=rate,
            calibrated_on=calibrated_on,
            qualities=(first.quality, second.quality),
            reason=decision.reason,
            log10_likelihood_ratio=None if likelihood is None else likelihood.log10_ratio(cosine),
            likelihood_ratio_is_bound=likelihood is not None and likelihood.is_bound(cosine),
        )

    def threshold(self, far: float | None = None) -> Threshold:
        """The threshold on the embedder's card, of all people and mirrored embeddings.

        Args:
            far: false accept rate of one comparison. Default: the nearest to 1e-3 that the card
                has.

        Returns:
            A `Threshold`: `cosine`, `far`, and the data on which it was calibrated.

        Raises:
            ValueError: the card has no threshold for that rate, or none at all.
        """
        embedder = self.embedder
        if embedder.thresholds is None:
            without = "a card without a threshold" if embedder.card else "no card"
            raise ValueError(
                f"A verdict needs a threshold. Received: {embedder.name} with {without}. Run "
                "`facemargin calibrate FACES --model MODEL`, which writes a card.json, or pass a "
                "threshold of your own (--threshold)."
            )
        return find_threshold(embedder.thresholds, far, embedder.name)

    def shortcoming(self, face: Face, *, name: str = "face") -> str | None:
        """The reason why a face gets no answer, whatever it is compared with.

        The points of the face are in doubt; or the embedder has no measured limits of quality, and
        the face has too few pixels on its photo. Measured limits are judged with the cosine, by
        `keras_facemargin.quality.decide`.

        Args:
            face: of `faces` or `face_of_crop`.
            name: of the face in the sentence.

        Returns:
            One sentence; None for a face that can be compared.
        """
        if face.doubt:
            return f"The points of the {name} are in doubt: {face.doubt}"
        if self.quality is None and (pixels := self._pixels_between_eyes(face)) < _FEWEST:
            return (
                f"The {name} has {pixels:.0f} pixels between the eyes on its photo; at least "
                f"{_FEWEST} are needed."
            )
        return None

    def identify(
        self,
        photo: Photo | list[Face],
        gallery: Gallery,
        *,
        far: float | None = None,
        threshold: float | None = None,
    ) -> list[tuple[Face, Identity]]:
        """Names every face of a photo, or calls it unknown.

        Args:
            photo: as `faces`, or the faces themselves.
            gallery: of the same embedding id.
            far, threshold: as `verify`. The rate is that of one comparison:
                `keras_facemargin.gallery.expected_fpir` gives that of a gallery.

        Returns:
            Each face, the largest first, with its `Identity`; "cannot say" for a face with a
            `shortcoming`.

        Raises:
            BadImage, OSError: as `faces`.
            ValueError: as `verify`; the gallery is of another embedder.
        """
        gallery.check_embedder(self.embedding_id, self.embedder.name)
        if threshold is None:
            threshold = self.threshold(far).cosine
        faces = photo if _are_faces(photo) else self.faces(cast(Photo, photo))
        if not faces:
            return []
        answers = gallery.identify(
            np.stack([face.embedding for face in faces]),
            threshold=threshold,
            qualities=[face.quality for face in faces],
            limits=self.quality,
        )
        return [
            (face, answer.refused(reason) if (reason := self.shortcoming(face)) else answer)
            for face, answer in zip(faces, answers, strict=True)
        ]

    def _decide(self, cosine: float, threshold: float, first: Face, second: Face) -> Decision:
        doubts = [
            self.shortcoming(first, name="first face"),
            self.shortcoming(second, name="second face"),
        ]
        if any(doubts):
            return Decision("cannot say", threshold, " ".join(filter(None, doubts)))
        return decide(
            cosine, threshold, qualities=(first.quality, second.quality), limits=self.quality
        )

    def _below_a_limit(self, *faces: Face) -> bool:
        limits = self.quality
        return limits is not None and any(shortfall(face.quality, limits) for face in faces)

    def _pixels_between_eyes(self, face: Face) -> float:
        """On the photo, for a face that looks ahead; infinite for an aligned crop."""
        if face.points is None:
            return float("inf")
        crop = self.embedder.crop
        scale = np.linalg.norm(alignment_matrix(face.points, crop)[:, 0])
        return float(np.linalg.norm(crop.points[1] - crop.points[0]) / scale)

    def _face(self, photo: Photo | Face) -> Face:
        if isinstance(photo, Face):
            return photo
        faces = self.faces(photo)
        if not faces:
            raise no_face(photo)
        return faces[0]

    def _faces_of_crops(self, crops: npt.NDArray[np.uint8]) -> list[Face]:
        embeddings = self.embedder(crops, mirrored=True)
        plain, mirrored = np.split(embeddings, 2, axis=1)
        qualities = judge(crops, plain, mirrored, scale=self.quality)
        return [
            Face(None, None, float("nan"), *each)
            for each in zip(crops, embeddings, qualities, strict=True)
        ]


def no_face(photo: Photo) -> BadImage:
    """The error for a photo without a face."""
    return BadImage(
        _name(photo),
        "no face was found. The face must be upright, uncovered and not too small: at least 20 "
        "pixels wide and an 80th of the longer side of the photo, unless `min_face` (--min-face) "
        "is smaller.",
    )


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

    Example:

    ```python
    recognizer = load_recognizer()
    for face in recognizer.faces("group.jpg"):
        print(face.box, face.quality)
    print(recognizer.verify("a.jpg", "b.jpg"))
    ```
    """
    embedder = model if isinstance(model, Embedder) else open_embedder(model)
    detect = detector if callable(detector) else load_detector(detector or "mtcnn")
    return Recognizer(embedder, detect)


def _are_faces(photo: Photo | list[Face]) -> TypeGuard[list[Face]]:
    return isinstance(photo, list) and all(isinstance(each, Face) for each in photo)


def _name(photo: Photo) -> str:
    return "the array" if isinstance(photo, np.ndarray) else os.fspath(photo)


def _pixels(photo: Photo) -> npt.NDArray[np.uint8]:
    if isinstance(photo, str | os.PathLike):
        return read_photo(photo)
    pixels = np.asarray(photo)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(
            "A photo must be an image file, or a uint8 array (H, W, 3), RGB. Received: "
            f"{pixels.dtype} of shape {pixels.shape}"
        )
    return pixels


def _area(box: Any) -> float:
    left, top, right, bottom = np.asarray(box, float)
    return float(np.nan_to_num((right - left) * (bottom - top)))
