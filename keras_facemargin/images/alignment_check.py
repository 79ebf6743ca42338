"""Checks from pixels alone whether crops are aligned to their template, without a detector.

Single faces differ, their mean does not: averaged over a few dozen crops, eyes, nose and mouth are
where alignment put them. So the mean of a set is compared with the mean face that is part of the
package (`face_model.npz`, learned from research sets without LFW). The check searches the
similarity transform at which the two correlate best, over every turn, scales from 0.4 to 1.8 and
every shift by Fourier transform, then refines it to fractions of a pixel. For aligned crops that
transform is near the identity; for others it says what is wrong. Swapped channels show in red minus
blue, which is positive on average for faces of every tone.

The mean face is a 112x112 ArcFace crop. Crops of other sizes and templates are resampled to it.
"""

import dataclasses
import functools
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.files import visible_files
from keras_facemargin.images.align import align_face
from keras_facemargin.images.crop import Crop, Size
from keras_facemargin.images.image import BadImage, read_face, read_size
from keras_facemargin.images.synthetic import mean_luma

_Place = tuple[float, float, float, float, float]  # correlation, scale, turn, x, y

_CROP = Crop(112, 112, "arcface")  # of the mean face
_SIZE = _CROP.height
_MIDDLE = np.array([55.5, 69.5])  # of the part of a face that is compared: x and y in pixels
_REACH = np.array([33.0, 36.0])  # its half axes: brows to chin, no hair, little background
FEWEST = 12  # images that make a mean
_STEP = 4  # pixels between those that the search compares
_HALF = 17  # of its template: pixels each way from the middle
_SIDE = 64  # zeros on all sides of the padded 40 of the face for the template to hang over
_LUMA = np.array([0.299, 0.587, 0.114])

# Limits of an aligned set: see `alignment_report`.
_CORRELATION = 0.7  # anywhere
_LEAST = 0.4  # on the template
_SHIFT = 3.0
_SCALE = 1.1
_TURN = 4.0
_BLUE = -2.0
_SIMILARITY = 0.16  # of few images: see `mean_face_similarity`
# Beyond these limits opening a set warns. Tight crops, black where their photo ended, measure up
# to 1.3 times too small, raw photos twice.
_CLEAR_SHIFT = 8.0
_CLEAR_SCALE = 1.4
_CLEAR_TURN = 15.0
_ALIGN = (
    "Embeddings of such images mean little. `facemargin align` cuts aligned crops out of photos."
)


@dataclasses.dataclass(frozen=True)
class AlignmentReport:
    """The mean place of the faces of a set, compared with the template.

    Attributes:
        images: number of images that were read.
        unread: number of images that could not be read; `findings` names the first.
        correlation: -1..1, of the set's mean face with the stored one, at this place.
        shift: `(x, y)`, how far right and down the faces are, in pixels of a 112x112 crop.
        scale: size of the faces divided by that of the template's face.
        turn: degrees, clockwise as a viewer sees it, -180..180.
        red_minus_blue: mean over the faces, in levels of 255.
        findings: tuple of sentences, one for each fault; empty if the set is aligned.
    """

    images: int
    unread: int
    correlation: float
    shift: tuple[float, float]
    scale: float
    turn: float
    red_minus_blue: float
    findings: tuple[str, ...]

    @property
    def aligned(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def clearly_off(self) -> bool:
        """Whether the faces are so far off the template that they cannot be aligned crops."""
        return bool(self.findings) and (
            math.hypot(*self.shift) > _CLEAR_SHIFT
            or not 1 / _CLEAR_SCALE < self.scale < _CLEAR_SCALE
            or abs(self.turn) > _CLEAR_TURN
            or self.red_minus_blue < _BLUE
        )

    def __str__(self) -> str:
        x, y = self.shift
        findings = " ".join(self.findings) or "The faces are aligned to the template."
        return (
            f"{findings} ({self.images:,} images: shifted {x:+.1f}, {y:+.1f} pixels, "
            f"{self.scale:.2f} times as large, turned {self.turn:+.0f} degrees, correlation "
            f"{self.correlation:.2f})"
        )


def alignment_report(faces: Any, size: Size | None = None, *, most: int = 200) -> AlignmentReport:
    """Reports whether a set of crops is aligned to its template.

    A set is not aligned if its faces on average are more than 3 pixels off, are more than 1.1 times
    too large or too small, are turned by more than 4 degrees, have blue over red, or resemble no
    face (correlation below 0.7; below 0.4 if it is highest on the template).

    **Measured** on random folders of 20 images. Aligned, flagged wrongly: 0 of 80 from LFW. The
    same shifted by 8 or by 4 pixels, scaled by 1.2, turned by 10 or 90 degrees, upside down or BGR,
    and LFW's 250x250 photos resized to 112: found, 20 of 20 each. Twenty images of a single person:
    1 of 239 people flagged wrongly. The stored mean is of mostly light-skinned people; a single
    person who looks otherwise correlates less with it (0.5 to 0.8 in place of 0.9). So a low
    correlation alone does not flag a set that correlates best on the template.

    The check does not find: a set whose crops are each wrong in another way but right on average,
    single bad crops, a mirrored set, and grey or same-coloured channels in the wrong order.

    Args:
        faces: a folder of images (subfolders included); a `FaceFolder` or `FaceRecords`; a sequence
            of image files as `read_face` takes them; or a uint8 array `(N, H, W, 3)`, RGB.
        size: the crop, as `Crop.of` takes it. Default: that of the set or of the array, else
            112x112.
        most: at most so many images are read, spread evenly; about a second for 200.

    Returns:
        An `AlignmentReport`; `report.aligned` is the answer, `str(report)` the sentence.

    Raises:
        ValueError: fewer than 12 images can be read, an array has another shape or type, or the
            crop has no template.

    Example:

    >>> from keras_facemargin.images import synthesize_faces
    >>> images, _ = synthesize_faces(num_identities=12, images_per_identity=1)
    >>> alignment_report(images).aligned
    True
    >>> alignment_report(images[:, ::-1]).findings
    ('The faces are upside down.',)
    """
    images, unread = _images(faces, _crop(faces, size), most)
    if len(images) < FEWEST:
        raise ValueError(
            f"A mean face needs at least {FEWEST} images. Received: {len(images)} that can be read"
            + (f", {len(unread)} that cannot, the first of them {unread[0]}" if unread else "")
        )
    return _report(images, unread)


def _report(images: Sequence[npt.NDArray[np.uint8]], unread: list[BadImage]) -> AlignmentReport:
    face = np.zeros((_SIZE, _SIZE))
    colour = 0.0
    inside = _inside()
    for image in images:
        luma = image @ _LUMA
        face += (luma - luma.mean()) / max(luma.std(), 1.0)
        colour += (image[inside, 0].astype(float) - image[inside, 2]).mean()
    colour /= len(images)
    face = _band(face / len(images))
    # The mean of few people resembles the stored one less, and may resemble it as much elsewhere.
    # A set that correlates better on the template than all around it is on the template.
    place = _refine(face, 1.0, 0.0, 0.0, 0.0)
    if not (place[0] >= _LEAST and _on_template(*place[1:])):
        place = _refine(face, *_search(face))
    correlation, scale, turn, x, y = place
    return AlignmentReport(
        images=len(images),
        unread=len(unread),
        correlation=correlation,
        shift=(x, y),
        scale=scale,
        turn=turn,
        red_minus_blue=colour,
        findings=tuple(_findings(place, colour, unread)),
    )


def mean_face_similarity(images: npt.NDArray[np.uint8]) -> float:
    """Similarity of single images to the mean face, for sets too small to average.

    The mean over the images of the correlation of each with the stored face on the template, -1..1.

    **Measured** on pairs. Below 0.16 are 91% of pairs of LFW's 250x250 photos resized to 112, 0.05%
    of pairs of aligned crops of LFW, 0.1% of CelebA and PubFig, 0.3% of single pictures of people
    of many origins, and 2.3% of pairs of one person among masked or turned faces of films and the
    press. A photo beside an aligned crop is found in 8% of cases only.

    Args:
        images: uint8 `(N, 112, 112, 3)`, RGB.

    Example:

    >>> from keras_facemargin.images import synthesize_faces
    >>> images, _ = synthesize_faces(num_identities=2, images_per_identity=1)
    >>> mean_face_similarity(images) > 0.16, mean_face_similarity(images[:, ::-1]) > 0.16
    (True, False)
    """
    inside = _inside()
    wanted = _unit(_template()[inside])
    faces = [_unit(_band(image @ _LUMA)[inside]) for image in images]
    return float(np.mean([face @ wanted for face in faces]))


def larger(paths: Sequence[Any], crop: Crop, *, most: int = 100) -> list[tuple[Any, int, int]]:
    """Image files that are larger than a crop, as photos are.

    Args:
        paths: as `read_face` takes them.
        crop: the crop that they are read at.
        most: at most so many files are opened, spread evenly.

    Returns:
        list of `(path, width, height)`. Files that cannot be read are left to their reader.
    """
    found = []
    for index in _spread(len(paths), most):
        try:
            width, height = read_size(paths[index])
        except (OSError, ValueError):
            continue
        if width > crop.width or height > crop.height:
            found.append((paths[index], width, height))
    return found


def doubt(faces: Any, size: Size | None = None, *, most: int = 100) -> str | None:
    """The reason why images do not seem to be aligned crops, a sentence; None if they do.

    Args:
        faces: as `alignment_report`, any number; below 12 `mean_face_similarity` decides.
        size, most: as `alignment_report`. Crops without a template are not judged.
    """
    crop = _crop(faces, size)
    if crop.template is None:
        return None
    images, unread = _images(faces, crop, most)
    if len(images) >= FEWEST:
        report = _report(images, unread)
        return None if report.aligned else str(report)
    if not len(images):
        return None
    similarity = mean_face_similarity(np.stack(images))
    if similarity >= _SIMILARITY:
        return None
    return (
        f"The images do not resemble an upright face on the template (correlation "
        f"{similarity:.2f}, of aligned crops {_SIMILARITY} or more)."
    )


def warn_unaligned(
    faces: Any, source: Any, *, size: Size | None = None, cure: str = _ALIGN, stacklevel: int = 3
) -> None:
    """Warns of a set whose faces are clearly off the template; silent below 12 images.

    No set is refused, since a set may be of another kind on purpose. **Measured** on 4,000 random
    sets of 12 to 40 crops of LFW, CelebA (with black frames), UTKFace, RMFD, IMFDB and politicians,
    of two people and more: no warning. On 285 sets of 12 crops of a single person: 2. On 100 such
    sets of LFW's photos resized to 112: 100.

    Args:
        faces: as `alignment_report`.
        source: the set's name.
        size: as `alignment_report`.
        cure: sentence, what to do.
        stacklevel: of the warning, counted from here.
    """
    crop = _crop(faces, size)
    if len(faces) < FEWEST or crop.template is None:
        return
    report = alignment_report(faces, crop)
    if report.clearly_off:
        warnings.warn(
            f"{source}: the images must be face crops aligned to the {crop} template. "
            f"Received: {report} {cure}",
            stacklevel=stacklevel,
        )


def _crop(faces: Any, size: Size | None) -> Crop:
    """The crop of a set: as given, else the set's own, else that of an array, else 112x112."""
    if size is not None:
        return Crop.of(size)
    if isinstance(faces, np.ndarray) and faces.ndim == 4:
        return Crop.of(faces.shape[1:3])
    return Crop.of(getattr(faces, "crop", None))


def _images(
    faces: Any, crop: Crop, most: int
) -> tuple[Sequence[npt.NDArray[np.uint8]], list[BadImage]]:
    """Up to `most` images as ArcFace crops of 112x112, and a `BadImage` for each failure."""
    if isinstance(faces, np.ndarray) and faces.ndim > 1:
        if faces.dtype != np.uint8 or faces.shape[1:] != (*crop.shape, 3):
            raise ValueError(
                f"Images must be a uint8 array of shape (N, {crop.height}, {crop.width}, 3), RGB "
                f"0..255. Received: {faces.dtype} of shape {faces.shape}"
            )
        chosen = faces[_spread(len(faces), most)]
        return [_aligned(image, crop) for image in chosen], []
    if isinstance(faces, str | os.PathLike):
        if not os.path.isdir(faces):
            raise ValueError(f"A folder of face crops is needed. Received: {os.fspath(faces)!r}")
        faces = [os.path.join(faces, name) for name in visible_files(faces)]
    paths = getattr(faces, "paths", faces)  # a labelled set, or the images themselves
    if crop.template == "arcface":
        crop = _CROP  # resized, with a filter against aliases
    images, unread = [], []
    for index in _spread(len(paths), most):
        try:
            image = read_face(paths[index], crop)
            images.append(_aligned(image, crop))
        except BadImage as error:
            unread.append(error)
        except OSError as error:
            unread.append(BadImage(paths[index], f"it cannot be read: {error.strerror}."))
    return images, unread


def _aligned(image: npt.NDArray[np.uint8], crop: Crop) -> npt.NDArray[np.uint8]:
    """The crop as an ArcFace crop of 112x112."""
    # From that crop to itself every pixel stays, after most of the time of the check.
    return image if crop == _CROP else align_face(image, crop.points, _CROP)


def _spread(count: int, most: int) -> npt.NDArray[np.int_]:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _on_template(scale: float, turn: float, x: float, y: float) -> bool:
    return math.hypot(x, y) <= _SHIFT and 1 / _SCALE < scale < _SCALE and abs(turn) <= _TURN


def _findings(place: _Place, red_minus_blue: float, unread: list[BadImage]) -> Iterator[str]:
    correlation, scale, turn, x, y = place
    if unread:
        yield f"{len(unread):,} images cannot be read as crops, the first of them {unread[0]}"
    on_template = _on_template(scale, turn, x, y)
    if correlation < (_LEAST if on_template else _CORRELATION):
        yield "The images do not resemble upright, evenly placed faces."
        return
    if abs(turn) > 135:
        yield "The faces are upside down."
        return
    if abs(turn) > _TURN:
        side = "clockwise" if turn > 0 else "counter-clockwise"
        yield f"The faces are turned by {abs(turn):.0f} degrees {side}."
    if not 1 / _SCALE < scale < _SCALE:
        yield f"The faces are {scale:.2f} times as large as the template's."
    if math.hypot(x, y) > _SHIFT:
        ways = [
            f"{abs(way):.1f} pixels {names[way > 0]}"
            for way, names in ((x, ("to the left", "to the right")), (y, ("up", "down")))
            if abs(way) >= 1
        ]
        yield f"The faces are shifted by {' and '.join(ways)}."
    if red_minus_blue < _BLUE:
        yield "The faces are bluer than red: the channels seem to be BGR, not RGB."


def _smooth(image: npt.NDArray[np.float64], times: int) -> npt.NDArray[np.float64]:
    """Binomial smoothing of an `(H, W)` array, edges continued."""
    for _ in range(times):
        image = np.pad(image, 1, mode="edge")
        image = (image[:-2] + 2 * image[1:-1] + image[2:]) / 4
        image = (image[:, :-2] + 2 * image[:, 1:-1] + image[:, 2:]) / 4
    return image


def _band(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The part of an image that is neither single hairs nor light from one side."""
    fine = _smooth(image, 4)
    return fine - _smooth(fine, 116)


@functools.cache
def _template() -> npt.NDArray[np.float64]:
    return _band(mean_luma().astype(float))


def _inside() -> npt.NDArray[np.bool_]:
    y, x = np.mgrid[:_SIZE, :_SIZE]
    return np.asarray((((np.stack([x, y], -1) - _MIDDLE) / _REACH) ** 2).sum(-1) < 1)


def _unit(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    values = values - values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-9)


def _sample(
    image: npt.NDArray[Any], x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Bilinear interpolation of an `(H, W)` array, edges continued."""
    x = np.clip(x, 0, image.shape[1] - 1.001)
    y = np.clip(y, 0, image.shape[0] - 1.001)
    column, row = x.astype(int), y.astype(int)
    across, down = x - column, y - row
    upper = image[row, column] * (1 - across) + image[row, column + 1] * across
    lower = image[row + 1, column] * (1 - across) + image[row + 1, column + 1] * across
    return np.asarray(upper * (1 - down) + lower * down)


def _search(face: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Scale, turn and shift of the best agreement on a grid, at a quarter of the resolution.

    The correlation of the moved template, cut to its ellipse, with the face at every shift at once:
    three convolutions for each turn and scale.
    """
    step, border = _STEP, 6
    padded = np.pad(_smooth(face, 4)[::step, ::step], border, mode="edge")
    spectrum = np.fft.rfft2(padded, (_SIDE, _SIDE))
    of_squares = np.fft.rfft2(padded**2, (_SIDE, _SIDE))
    highest, best = -np.inf, (1.0, 0.0, 0.0, 0.0)
    for scale in 0.4 * 1.12 ** np.arange(14):
        for turn in np.radians(np.arange(0, 360, 10)):
            moved, mask, size, energy = _moved_template(scale, turn)
            products, sums, squares = np.fft.irfft2(
                [spectrum * moved, spectrum * mask, of_squares * mask], (_SIDE, _SIDE)
            )
            variance = np.maximum(squares - sums**2 / size, 1e-9)
            values = products / np.sqrt(variance * energy)
            # The template's middle is `_HALF` from its corner, the face `border` from its own.
            values = np.roll(values, (_HALF, _HALF), (0, 1))
            stop = border + _SIZE // step
            values = values[border:stop, border:stop]
            row, column = np.unravel_index(np.argmax(values), values.shape)
            if values[row, column] > highest:
                highest = values[row, column]
                best = scale, turn, float(step * column), float(step * row)
    scale, turn, x_best, y_best = best
    return scale, turn, x_best - _MIDDLE[0], y_best - _MIDDLE[1]


def _moved_template(
    scale: float, turn: float
) -> tuple[npt.NDArray[np.complex128], npt.NDArray[np.complex128], float, float]:
    """The template, scaled, turned and cut to its ellipse: conjugate spectra of it and of the
    ellipse, and sums of the squares of the ellipse and of it."""
    y, x = float(_STEP) * np.mgrid[-_HALF : _HALF + 1, -_HALF : _HALF + 1]
    cosine, sine = math.cos(turn) / scale, math.sin(turn) / scale
    across, down = cosine * x + sine * y, cosine * y - sine * x
    mask = ((across / _REACH[0]) ** 2 + (down / _REACH[1]) ** 2 < 1).astype(float)
    moved = _sample(_template(), across + _MIDDLE[0], down + _MIDDLE[1])
    moved = (moved - (moved * mask).sum() / mask.sum()) * mask
    of_moved, of_mask = (np.conj(np.fft.rfft2(each, (_SIDE, _SIDE))) for each in (moved, mask))
    return of_moved, of_mask, float(mask.sum()), float((moved**2).sum())


def _refine(face: npt.NDArray[np.float64], scale: float, turn: float, x: float, y: float) -> _Place:
    """Correlation, scale, turn (degrees) and shift of the best agreement nearby."""
    inside = _inside()
    rows, columns = np.nonzero(inside)
    across, down = columns - _MIDDLE[0], rows - _MIDDLE[1]
    wanted = _unit(_template()[inside])

    def correlation(place: npt.NDArray[np.float64]) -> float:
        cosine = math.exp(place[0]) * math.cos(place[1])
        sine = math.exp(place[0]) * math.sin(place[1])
        seen = _sample(
            face,
            cosine * across - sine * down + _MIDDLE[0] + place[2],
            sine * across + cosine * down + _MIDDLE[1] + place[3],
        )
        return float(_unit(seen) @ wanted)

    place = np.array([math.log(scale), turn, x, y])
    value = correlation(place)
    steps = np.diag([0.06, 0.09, 2.0, 2.0])
    while steps[2, 2] > 0.05:
        tried = [(correlation(place + way), tuple(place + way)) for way in (*steps, *-steps)]
        highest, there = max(tried)
        if highest > value:
            value, place = highest, np.array(there)
        else:
            steps /= 2
    turn = math.degrees((place[1] + math.pi) % (2 * math.pi) - math.pi)
    return value, math.exp(place[0]), turn, float(place[2]), float(place[3])
