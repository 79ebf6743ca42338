"""A folder of photos -> a folder of aligned crops, and a list of the photos without a crop."""

import contextlib
import csv
import dataclasses
import errno
import hashlib
import io
import json
import os
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from rich.table import Table

from keras_facemargin.files import atomic_write, exclusive, read_text, visible_files
from keras_facemargin.images.align import align_face
from keras_facemargin.images.alignment_check import warn_unaligned
from keras_facemargin.images.crop import Crop, Size
from keras_facemargin.images.detect import (
    DetectedFace,
    Detector,
    check_choice,
    check_faces,
    choose_face,
    load_detector,
)
from keras_facemargin.images.image import BadImage, encode_face, read_photo
from keras_facemargin.images.landmarks import check_names, read_landmarks
from keras_facemargin.progress import track

_SETTINGS = ".facemargin-align.json"
_Photo: TypeAlias = npt.NDArray[np.uint8]
# From the name and the pixels of a photo to its faces, and the reason if there is none.
_Find: TypeAlias = Callable[[str, _Photo], tuple[list[DetectedFace], str]]
_NAMELESS = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)  # no file of that name


@dataclasses.dataclass(frozen=True)
class AlignedFolder:
    """The result of `align_folder`.

    Attributes:
        destination: the folder of crops, a string.
        written: number of crops that this call made.
        kept: number of crops that existed.
        several: number of photos of `written` with more than one face.
        misses: list of `BadImage`, each with its `path` and `reason`.
        misses_file: the file that lists `misses`, a string; None if there are none.
    """

    destination: str
    written: int
    kept: int
    several: int
    misses: list[BadImage]
    misses_file: str | None

    def __rich__(self) -> Table:
        table = Table("Photos", "", title=f"Aligned to {self.destination}")
        table.columns[1].justify = "right"
        total = self.written + self.kept + len(self.misses)
        table.add_row("crops written", f"{self.written:,}")
        table.add_row("  of photos with several faces", f"{self.several:,}")
        table.add_row("crops kept", f"{self.kept:,}")
        table.add_row("without a crop", f"{len(self.misses):,}")
        table.add_row("all", f"{total:,}", style="bold")
        return table


def align_folder(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    detector: Detector | str | None = None,
    min_face: float | None = None,
    landmarks: str | os.PathLike[str] | None = None,
    choose: str = "center",
    size: Size | None = None,
    template: str | None = None,
) -> AlignedFolder:
    """Aligns every photo under a folder; subfolders, one a person, are kept.

    `source/ADA/1.jpg` becomes `destination/ADA/1.jpg`; the crop of another kind of file gets `.jpg`
    appended to the whole name (`1.png.jpg`), so that no two photos share a crop. Crops are JPEGs of
    quality 95 with colours at full resolution. Names that begin with a dot are ignored, links are
    followed. A photo without a crop (no face, points in doubt, not an image) does not stop the run:
    `destination.misses.csv`, beside the folder, lists it with the reason.

    The same call resumes an interrupted run: each crop is written in one step, existing crops are
    kept, and photos without a crop are tried again. A hidden file in the folder records the
    settings; other settings need another folder. One process at a time writes to a folder. At the
    end one warning says if the crops are clearly off the template, on average over up to 200 of
    them: then the points were wrong.

    Args:
        source: folder of photos.
        destination: folder of crops; made if missing. Neither folder may be inside the other.
        detector: a `Detector`, or a name for `load_detector`. Exactly one of `detector` and
            `landmarks` is needed.
        min_face: as `load_detector`, for a detector by name.
        landmarks: a file of known points, for `read_landmarks`.
        choose: which of several faces, as `choose_face`.
        size, template: the crop, as `Crop.of` takes them. Default: ArcFace's 112x112.

    Returns:
        An `AlignedFolder`.

    Raises:
        ValueError: `source` is not a folder or has no file, one folder is inside the other, both or
            neither of `detector` and `landmarks` are given, `landmarks` names none of the photos,
            the detector returns anything but a list of `DetectedFace`, an argument has an unknown
            value, or `destination` has crops made with other settings.
        BlockingIOError: another process aligns to `destination`.
        OSError: a crop cannot be written (the disk is full). Finished crops stay.

    Example:

    ```python
    print(align_folder("photos", "faces", detector="mtcnn"))
    faces = FaceFolder("faces")
    ```
    """
    source, destination = os.path.abspath(source), os.path.abspath(destination)
    crop = Crop.of(size, template)
    _check_arguments(source, destination, detector, landmarks, choose, crop)
    if min_face is not None and not isinstance(detector, str):
        raise ValueError(
            "`min_face` needs the name of a detector. Received: "
            f"min_face={min_face}, detector={detector!r}, landmarks={landmarks!r}"
        )
    names = visible_files(source)
    if not names:
        raise ValueError(f"The folder of photos must have a photo. Received: {source!r}")
    if landmarks is not None:
        find, origin = _listed_faces(landmarks, names)
    else:
        find, origin = _detected_faces(detector, min_face)

    def cut(name: str) -> tuple[bytes, bool]:
        """The crop of a photo, as the bytes of a file, and whether it has several faces."""
        photo = _read(source, name)
        found, none = find(name, photo)
        points = _points(name, found, none, photo.shape, choose)
        try:
            return encode_face(align_face(photo, points, crop)), len(found) > 1
        except ValueError as error:
            raise BadImage(name, f"its points give no crop: {error}") from None

    settings = {"points": origin, "choose": choose, **dataclasses.asdict(crop)}
    with exclusive(destination):
        os.makedirs(destination, exist_ok=True)
        _keep_settings(destination, settings)
        done, crops = _align_all(names, destination, cut)
    warn_unaligned(
        crops,
        destination,
        size=crop,
        cure="Points must be in pixels of the upright photo, in the order left eye, right eye, "
        "nose, left and right mouth corner as a viewer sees them.",
    )
    return done


def _check_arguments(
    source: str, destination: str, detector: Any, landmarks: Any, choose: str, crop: Crop
) -> None:
    """Refuses wrong arguments before a photo is read."""
    if crop.template is None:
        crop.points  # noqa: B018  (refuses it)
    check_choice(choose)
    if (detector is None) == (landmarks is None):
        raise ValueError(
            "Points come from a detector or from a file: exactly one of `detector` and `landmarks` "
            f"must be given. Received: detector={detector!r}, landmarks={landmarks!r}"
        )
    real = os.path.realpath(source), os.path.realpath(destination)
    if os.path.commonpath(real) in real:
        raise ValueError(
            "Photos and crops must be in separate folders, neither inside the other. "
            f"Received: source={source!r}, destination={destination!r}"
        )
    if not os.path.isdir(source):
        raise ValueError(f"A folder of photos is needed. Received: {source!r}")


def _listed_faces(landmarks: str | os.PathLike[str], names: list[str]) -> tuple[_Find, str]:
    """A function that looks the faces of a photo up in a file, and the file's digest."""
    listed = read_landmarks(landmarks)
    check_names(landmarks, listed, names)
    with open(landmarks, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return (
        lambda name, photo: (listed.get(name, []), "the file of points lists no face of it."),
        f"landmarks sha256 {digest}",
    )


def _detected_faces(detector: Any, min_face: float | None) -> tuple[_Find, str]:
    """A function that detects the faces of a photo, and the detector's name and setting."""
    name = detector if isinstance(detector, str) else getattr(detector, "__qualname__", "")
    detect = detector
    if isinstance(detector, str):
        detect = load_detector(detector, min_face=min_face)
        name += "" if min_face is None else f", faces of at least {min_face:g} pixels"
    return (
        lambda name, photo: (check_faces(detect(photo), name), "the detector found no face."),
        name or type(detector).__qualname__,
    )


def _align_all(
    names: list[str], destination: str, cut: Callable[[str], tuple[bytes, bool]]
) -> tuple[AlignedFolder, list[str]]:
    """Writes the missing crops; returns an `AlignedFolder` and the files of all crops."""
    written = kept = several = 0
    misses: list[BadImage] = []
    crops: list[str] = []
    claimed: set[str] = set()
    misses_file = destination + ".misses.csv"
    try:
        for name in track(names, "Aligning", "photos", shown=len(names) >= 8):
            crop = name if name.lower().endswith((".jpg", ".jpeg")) else name + ".jpg"
            target = os.path.join(destination, crop)
            try:
                if crop in claimed:
                    raise BadImage(name, f"another photo has the crop {crop}. Rename one of them.")
                claimed.add(crop)
                if os.path.isfile(target):
                    kept += 1
                else:
                    content, one_of_several = cut(name)
                    _write_crop(name, target, content)
                    written += 1
                    several += one_of_several
                crops.append(target)
            except BadImage as error:
                # A new one: a traceback would keep the photo in memory.
                misses.append(BadImage(error.path, error.reason))
    except BaseException:
        with contextlib.suppress(OSError):  # the first error says more
            _write_misses(misses_file, misses)
        raise
    _write_misses(misses_file, misses)
    done = AlignedFolder(
        destination, written, kept, several, misses, misses_file if misses else None
    )
    return done, crops


def _read(source: str, name: str) -> _Photo:
    """The pixels of a photo; raises `BadImage` whatever the fault of its file."""
    try:
        return read_photo(os.path.join(source, name))
    except BadImage as error:
        raise BadImage(name, error.reason) from None
    except OSError as error:
        raise BadImage(name, f"it cannot be read: {error.strerror}.") from None


def _points(
    name: str, found: list[DetectedFace], none: str, shape: tuple[int, ...], choose: str
) -> npt.NDArray[np.float64]:
    """The five points of the chosen face; raises `BadImage` without reliable ones."""
    if len(found) > 1 and not all(map(_holds_its_points, found)):
        raise BadImage(
            name,
            "one of several faces is chosen by its box, which must be left, top, right, bottom in "
            "pixels; a box here does not contain the middle of its points.",
        )
    face = choose_face(found, shape, choose)
    if face is None:
        raise BadImage(name, none)
    if face.doubt:
        raise BadImage(name, f"its points are in doubt: {face.doubt}")
    return face.points


def _holds_its_points(face: DetectedFace) -> bool:
    """Whether a box, if it is known, contains the middle of the points."""
    box, middle = np.asarray(face.box, np.float64), np.mean(face.points, axis=0)
    known = np.isfinite(box).all() and np.isfinite(middle).all()
    return not known or bool(np.all(box[:2] <= middle) and np.all(middle <= box[2:]))


def _keep_settings(destination: str, settings: dict[str, Any]) -> None:
    """Refuses a folder of crops made with other settings; records these settings."""
    path = os.path.join(destination, _SETTINGS)
    try:
        before = json.loads(read_text(path, "the settings of a folder of crops"))
    except FileNotFoundError:
        with atomic_write(path) as file:
            json.dump(settings, file, indent=2)
        return
    except (ValueError, RecursionError):
        before = "unreadable"
    if before != settings:
        raise ValueError(
            "The crops of a folder must all be made with the same settings. "
            f"Received: {destination} with crops of {before}, now {settings}. Name another folder, "
            f"or remove the crops and {path}."
        )


def _write_crop(name: str, target: str, content: bytes) -> None:
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with atomic_write(target, "wb") as file:
            file.write(content)
    except OSError as error:
        if error.errno not in _NAMELESS:
            raise
        raise BadImage(name, f"its crop cannot be named {target}: {error.strerror}.") from None


def _write_misses(path: str, misses: list[BadImage]) -> None:
    if not misses:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["file", "reason"])
    writer.writerows([miss.path, miss.reason] for miss in misses)
    with atomic_write(path, "wb") as file:
        # Names that are not UTF-8 keep their bytes.
        file.write(text.getvalue().encode("utf-8", "surrogateescape"))
