"""A folder of photos -> a folder of aligned crops, with every photo that gave none named."""

import contextlib
import csv
import dataclasses
import errno
import hashlib
import io
import json
import math
import os

import numpy as np
from PIL import Image
from rich.table import Table

from keras_facemargin.files import atomic_write, exclusive, read_text
from keras_facemargin.images.align import align_face
from keras_facemargin.images.alignment_check import warn_unaligned
from keras_facemargin.images.crop import Crop
from keras_facemargin.images.detect import CHOICES, DetectedFace, choose_face, load_detector
from keras_facemargin.images.image import BadImage, read_photo
from keras_facemargin.progress import track

_SETTINGS = ".facemargin-align.json"
_NAMELESS = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)  # no file of that name


@dataclasses.dataclass(frozen=True)
class AlignedFolder:
    """What `align_folder` did.

    Attributes:
        destination: the folder of crops, a string.
        written: number of crops made now.
        kept: number of crops that were there already.
        several: number of photos of `written` with more than one face.
        misses: list of `BadImage`, each with its `path` and `reason`.
        misses_file: the file that lists `misses`, a string; None if there are none.
    """

    destination: str
    written: int
    kept: int
    several: int
    misses: list
    misses_file: str | None

    def __rich__(self):
        table = Table("Photos", "", title=f"Aligned to {self.destination}")
        table.columns[1].justify = "right"
        total = self.written + self.kept + len(self.misses)
        table.add_row("crops written", f"{self.written:,}")
        table.add_row("  of photos with several faces", f"{self.several:,}")
        table.add_row("crops there already", f"{self.kept:,}")
        table.add_row("without a crop", f"{len(self.misses):,}")
        table.add_row("all", f"{total:,}", style="bold")
        return table


def align_folder(
    source,
    destination,
    *,
    detector=None,
    landmarks=None,
    choose="center",
    size=None,
    template=None,
):
    """Aligns every photo under a folder; subfolders, one a person, are kept.

    `source/ADA/1.jpg` becomes `destination/ADA/1.jpg`; other photos get `.jpg` appended
    to its whole name (`1.png.jpg`), so that no two photos meet in one crop. Crops are JPEGs of
    quality 95 with colours at full resolution. Names that begin with a dot are passed over, links
    are followed. A photo without a crop (no face, points in doubt, not an image) is listed with its
    reason in `destination.misses.csv`, beside the folder, and ends nothing.

    The same call resumes a stopped run: each crop is written in one step, those that
    are there are not made again, and photos missed before are tried again. The settings are kept
    in a hidden file of the folder; other settings need another folder. One process at a time writes
    to a folder. If the crops are clearly off the template in the end, on average over up to 200 of
    them, one warning says so: the points were not what they must be.

    Args:
        source: folder of photos.
        destination: folder of crops; made if missing; neither inside `source` nor around it.
        detector: a `Detector`, or a name for `load_detector`. Exactly one of `detector` and
            `landmarks` is needed.
        landmarks: points that are known already: a file for `read_landmarks`.
        choose: which of several faces, as `choose_face`.
        size, template: the crop, as `Crop.of` takes them. Default: ArcFace's 112x112.

    Returns:
        An `AlignedFolder`.

    Raises:
        ValueError: `source` is not a folder or has no file, one folder is inside the other, both or
            neither of `detector` and `landmarks` are given, `landmarks` names none of the photos,
            the detector returns anything but a list of `DetectedFace`, an argument has an unknown
            value, or `destination` holds crops made with other settings.
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
    crop.points  # refuses a crop without a template  # noqa: B018
    if choose not in CHOICES:
        choose_face([], (1, 1), choose)  # says so
    if (detector is None) == (landmarks is None):
        raise ValueError(
            "Points come from a detector or from a file: exactly one of `detector` and `landmarks` "
            f"must be given. Received: detector={detector!r}, landmarks={landmarks!r}"
        )
    inside = os.path.commonpath([os.path.realpath(source), os.path.realpath(destination)])
    if inside in (os.path.realpath(source), os.path.realpath(destination)):
        raise ValueError(
            "Photos and crops must lie in folders apart, neither inside the other. "
            f"Received: source={source!r}, destination={destination!r}"
        )
    if not os.path.isdir(source):
        raise ValueError(f"A folder of photos is needed. Received: {source!r}")
    names = _list_photos(source)
    if not names:
        raise ValueError(f"There must be a photo under the folder. Received: {source!r}")
    listed = None if landmarks is None else read_landmarks(landmarks)
    if listed is not None:
        _check_names(landmarks, listed, names)
    origin = detector if isinstance(detector, str) else getattr(detector, "__qualname__", None)
    if listed is not None:
        with open(landmarks, "rb") as file:
            origin = f"landmarks sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
    origin = origin or type(detector).__qualname__
    if isinstance(detector, str):
        detector = load_detector(detector)

    def find(name, photo):
        """The faces of a photo, and the reason if there is none."""
        if listed is None:
            return _checked(detector(photo), name), "the detector found no face."
        return listed.get(name, []), "the file of points lists no face of it."

    def cut(name):
        """The crop of a photo, as the bytes of a file, and whether it was one of several faces."""
        photo = _read(source, name)
        found, none = find(name, photo)
        points = _points(name, found, none, photo.shape, choose)
        try:
            return _jpeg(align_face(photo, points, crop)), len(found) > 1
        except ValueError as error:
            raise BadImage(name, f"its points give no crop: {error}") from None

    settings = {
        "points": origin,
        "choose": choose,
        "template": crop.template,
        "height": crop.height,
        "width": crop.width,
    }
    with exclusive(destination):
        os.makedirs(destination, exist_ok=True)
        _keep_settings(destination, settings)
        done, crops = _align_all(names, destination, cut)
    if crop.template == "arcface":
        warn_unaligned(
            crops,
            destination,
            "Points must be in pixels of the upright photo, in the order left eye, right eye, "
            "nose, left and right mouth corner as a viewer sees them.",
        )
    return done


def _align_all(names, destination, cut):
    """Writes the crops that are missing; an `AlignedFolder`, and the files of all crops."""
    written = kept = several = 0
    misses, crops, claimed = [], [], set()
    misses_file = destination + ".misses.csv"
    try:
        for name in track(names, "Aligning", "photos", shown=len(names) >= 8):
            crop = name if name.lower().endswith((".jpg", ".jpeg")) else name + ".jpg"
            target = os.path.join(destination, crop)
            try:
                if crop in claimed:
                    raise BadImage(name, f"another photo has the crop {crop}. Rename one.")
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
                # Made again: a traceback would keep the photo in memory.
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


def read_landmarks(path):
    """Reads a file of faces' points that are known already.

    Two forms, by the name's ending. `.jsonl` has one object a line, one line a face, and more keys
    are passed over:

        {"file": "ADA/1.jpg", "points": [[104.2, 114.0], [149.1, 113.5], ...], "score": 0.99}

    `.csv` has a header with at least `file,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5` in any order.

    `file` is the path under the folder of photos, with `/`. The five points are x and y in pixels
    of the upright photo, `(0, 0)` the centre of the pixel in the upper left: left eye, right eye,
    nose, left and right mouth corner, left and right as a viewer sees them. (Coordinates that count
    the pixel's corner as 0 need 0.5 subtracted, Matlab's need 1.) A photo with several faces has
    several lines; one without any has none.

    Args:
        path: the file, UTF-8.

    Returns:
        Dictionary from `file` to its list of `DetectedFace`, whose boxes are drawn tightly about
        the points.

    Raises:
        ValueError: the ending is neither, or a line is not of the form; it is named.
        OSError: the file cannot be opened.

    Example:

    >>> with open("points.csv", "w") as file:
    ...     _ = file.write("file,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\\n")
    ...     _ = file.write("ada/1.jpg,38,52,74,52,56,72,42,92,71,92\\n")
    >>> read_landmarks("points.csv")["ada/1.jpg"][0].points[2].tolist()
    [56.0, 72.0]
    """
    path = os.fspath(path)
    ending = os.path.splitext(path)[1].lower()
    if ending not in (".jsonl", ".csv"):
        raise ValueError(f"Points come from a .jsonl or a .csv file. Received: {path!r}")
    # Names of files in another encoding keep their bytes, as Python keeps them.
    text = read_text(path, "a file of points", errors="surrogateescape")
    faces = {}
    for number, read in _json_lines(text) if ending == ".jsonl" else _csv_lines(text, path):
        try:
            name, score, points = read()
            points = np.array(points, np.float64)
            if not isinstance(name, str) or points.shape != (5, 2):
                raise ValueError
            score = math.nan if score is None else float(score)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            raise ValueError(
                "Each line must have `file`, a string, and five points of x and y. "
                f"Received: {path}, line {number}, without them. read_landmarks describes the form."
            ) from None
        box = np.concatenate([points.min(0), points.max(0)])
        faces.setdefault(name, []).append(DetectedFace(box, score, points))
    return faces


def _json_lines(text):
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, lambda line=line: _json_face(json.loads(line))


def _json_face(record):
    return record["file"], record.get("score"), record["points"]


def _csv_lines(text, path):
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    columns = [f"{axis}{point}" for point in range(1, 6) for axis in "xy"]

    def face(row):
        if "\n" in row["file"]:
            raise ValueError  # a stray quote joins lines
        return (
            row["file"],
            row.get("score") or None,
            np.reshape([float(row[name]) for name in columns], (5, 2)),
        )

    first = 1  # line of a row: a stray quote makes the reader count to the end of the file
    try:
        there = reader.fieldnames or []
        missing = [name for name in ["file", *columns] if name not in there]
        if missing:
            raise ValueError(
                "The header of a .csv of points must have the columns file, "
                f"{', '.join(columns)}, with commas between them. Received: {path} without "
                + ", ".join(missing)
                + (", and with semicolons" if ";" in "".join(there) else "")
            )
        first = reader.line_num + 1
        for row in reader:
            yield first, lambda row=row: face(row)
            first = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"A .csv of points must have a line for each face. Received: {path}, line {first}: "
            f"{error}"
        ) from None


def _list_photos(source):
    """Every visible file under a folder: paths relative to it with `/`, in order."""
    names, seen = [], set()
    for folder, folders, files in os.walk(source, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder around it
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for file in files:
            if not file.startswith("."):
                names.append(os.path.relpath(os.path.join(folder, file), source))
    return sorted(name.replace(os.sep, "/") for name in names)


def _check_names(landmarks, listed, names):
    """Refuses points of other photos before one is read."""
    if listed.keys().isdisjoint(names):
        first = next(iter(listed), None)
        raise ValueError(
            "A file of points must name photos by their paths under the folder, with `/`. "
            f"Received: {os.fspath(landmarks)}, which names none of them: its first is {first!r}, "
            f"the first photo is {names[0]!r}"
        )


def _checked(found, name):
    """The faces that a detector returns, which may be a function of the user's."""
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
            "points of shape (5, 2); an empty list where there is no face. "
            f"Received: {found!r:.200} for {name}"
        )
    return faces


def _read(source, name):
    """The pixels of a photo; raises BadImage whatever is wrong with its file."""
    try:
        return read_photo(os.path.join(source, name))
    except BadImage as error:
        raise BadImage(name, error.reason) from None
    except OSError as error:
        raise BadImage(name, f"it cannot be read: {error.strerror}.") from None


def _points(name, found, none, shape, choose):
    """The five points of the face that is meant; raises BadImage if there are none to rely on."""
    if len(found) > 1 and not all(map(_holds_its_points, found)):
        raise BadImage(
            name,
            "of several faces one is chosen by its box, which must be left, top, right, bottom in "
            "pixels; a box does not hold the middle of its points.",
        )
    face = choose_face(found, shape, choose)
    if face is None:
        raise BadImage(name, none)
    if face.doubt:
        raise BadImage(name, f"its points are in doubt: {face.doubt}")
    return face.points


def _holds_its_points(face):
    """Whether a box, if it is known, is where the points are."""
    box, middle = np.asarray(face.box, np.float64), np.mean(face.points, axis=0)
    known = np.isfinite(box).all() and np.isfinite(middle).all()
    return not known or bool(np.all(box[:2] <= middle) and np.all(middle <= box[2:]))


def _keep_settings(destination, settings):
    """Refuses a folder of crops that were made otherwise; notes how these are made."""
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


def _jpeg(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _write_crop(name, target, content):
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with atomic_write(target, "wb") as file:
            file.write(content)
    except OSError as error:
        if error.errno not in _NAMELESS:
            raise
        raise BadImage(name, f"its crop cannot be named {target}: {error.strerror}.") from None


def _write_misses(path, misses):
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
