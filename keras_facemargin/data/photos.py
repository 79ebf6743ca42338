"""A folder of photos -> a folder of aligned crops, with every photo that gave none named."""

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import math
import os

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from keras_facemargin.data.align import align_face, template_points
from keras_facemargin.data.detect import CHOICES, DetectedFace, choose_face, load_detector
from keras_facemargin.data.image import BadImage, read_photo

_SETTINGS = ".facemargin-align.json"


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
    detector=None,
    landmarks=None,
    choose="centre",
    template="arcface",
    size=112,
):
    """Aligns every photo under a folder; subfolders, one a person, are kept.

    `source/ADA/1.jpg` becomes `destination/ADA/1.jpg`; a photo that is no JPEG gets `.jpg` appended
    to its whole name (`1.png.jpg`), so that no two photos meet in one crop. Crops are JPEGs of
    quality 95 with colours at full resolution. Names that begin with a dot are passed over, links
    are followed. A photo without a crop (no face, points in doubt, not an image) is listed with its
    reason in `destination.misses.csv`, beside the folder, and ends nothing.

    A run that was stopped is taken up by the same call: crops appear whole or not at all, those
    that are there are not made again, and photos missed before are tried again. The settings are
    kept in a hidden file of the folder; other settings need another folder.

    Args:
        source: folder of photos.
        destination: folder of crops; made if missing; neither inside `source` nor around it.
        detector: a `Detector`, or a name for `load_detector`. Exactly one of `detector` and
            `landmarks` is needed.
        landmarks: points that are known already: a file for `read_landmarks`.
        choose: which of several faces, as `choose_face`.
        template, size: as `align_face`.

    Returns:
        An `AlignedFolder`.

    Raises:
        ValueError: `source` is no folder or has no file, the folders lie in one another, both or
            neither of `detector` and `landmarks` are given, an argument has an unknown value, or
            `destination` holds crops made with other settings.
        OSError: a crop cannot be written (the disk is full). Finished crops stay.

    Example:

    ```python
    print(align_folder("photos", "faces", detector="mtcnn"))
    faces = FaceFolder("faces")
    ```
    """
    source, destination = os.path.abspath(source), os.path.abspath(destination)
    _, shape = template_points(template, size)
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
    origin = detector if isinstance(detector, str) else getattr(detector, "__qualname__", None)
    if listed is not None:
        with open(landmarks, "rb") as file:
            origin = f"landmarks sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
    origin = origin or type(detector).__qualname__
    if isinstance(detector, str):
        detector = load_detector(detector)
    os.makedirs(destination, exist_ok=True)
    _keep_settings(
        destination,
        {
            "points": origin,
            "choose": choose,
            "template": template,
            "height": shape[0],
            "width": shape[1],
        },
    )

    written = kept = several = 0
    misses, crops, misses_file = [], set(), destination + ".misses.csv"
    try:
        for name in track(
            names,
            description=f"Aligning {len(names):,} photos",
            console=Console(stderr=True),
            transient=True,
            disable=len(names) < 8,
        ):
            crop = name if name.lower().endswith((".jpg", ".jpeg")) else name + ".jpg"
            if crop in crops:
                misses.append(BadImage(name, f"another photo has the crop {crop}. Rename one."))
                continue
            crops.add(crop)
            target = os.path.join(destination, crop)
            if os.path.exists(target):
                kept += 1
                continue
            path = os.path.join(source, name)
            try:
                photo = read_photo(path)
            except BadImage as error:
                misses.append(BadImage(name, error.reason))
                continue
            except OSError as error:
                misses.append(BadImage(name, f"it cannot be read: {error.strerror}."))
                continue
            if listed is None:
                found, none = detector(photo), "the detector found no face."
            else:
                found, none = listed.get(name, []), "the file of points lists no face of it."
            face = choose_face(found, photo.shape, choose)
            if face is None:
                misses.append(BadImage(name, none))
                continue
            if face.doubt:
                misses.append(BadImage(name, f"its points are in doubt: {face.doubt}"))
                continue
            try:
                image = align_face(photo, face.points, template, size)
            except ValueError as error:
                misses.append(BadImage(name, f"its points give no crop: {error}"))
                continue
            _write_whole(target, _jpeg(image))
            written += 1
            several += len(found) > 1
    finally:
        _write_misses(misses_file, misses)
    return AlignedFolder(
        destination, written, kept, several, misses, misses_file if misses else None
    )


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
    faces = {}
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = _json_lines(file) if ending == ".jsonl" else _csv_lines(file, path)
        for number, read in lines:
            try:
                name, score, points = read()
                points = np.array(points, np.float64)
                if not isinstance(name, str) or points.shape != (5, 2):
                    raise ValueError
                score = math.nan if score is None else float(score)
            except (KeyError, TypeError, ValueError):
                raise ValueError(
                    "Each line must have `file`, a string, and five points of x and y. "
                    f"Received: {path}, line {number}, without them. read_landmarks tells the form."
                ) from None
            box = np.concatenate([points.min(0), points.max(0)])
            faces.setdefault(name, []).append(DetectedFace(box, score, points))
    return faces


def _json_lines(file):
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield number, lambda line=line: _json_face(json.loads(line))


def _json_face(record):
    return record["file"], record.get("score"), record["points"]


def _csv_lines(file, path):
    reader = csv.DictReader(file)
    columns = [f"{axis}{point}" for point in range(1, 6) for axis in "xy"]
    missing = [name for name in ["file", *columns] if name not in (reader.fieldnames or [])]
    if missing:
        raise ValueError(
            f"The header of a .csv of points must have the columns file, {', '.join(columns)}. "
            f"Received: {path} without {', '.join(missing)}"
        )

    def face(row):
        return (
            row["file"],
            row.get("score") or None,
            np.reshape([float(row[name]) for name in columns], (5, 2)),
        )

    for row in reader:
        yield reader.line_num, lambda row=row: face(row)


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


def _keep_settings(destination, settings):
    """Refuses a folder of crops that were made otherwise; notes how these are made."""
    path = os.path.join(destination, _SETTINGS)
    try:
        with open(path, encoding="utf-8") as file:
            before = json.load(file)
    except FileNotFoundError:
        _write_whole(path, json.dumps(settings, indent=2).encode())
        return
    except ValueError:
        before = "unreadable"
    if before != settings:
        raise ValueError(
            "The crops of a folder must all be made alike. "
            f"Received: {destination} with crops of {before}, now {settings}. Name another folder, "
            f"or remove the crops and {path}."
        )


def _jpeg(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _write_whole(path, content):
    """The file appears with all of its content, or not at all."""
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    draft = os.path.join(folder, f".{name}.draft")
    try:
        with open(draft, "wb") as file:
            file.write(content)
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise


def _write_misses(path, misses):
    if not misses:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["file", "reason"])
    writer.writerows([miss.path, miss.reason] for miss in misses)
    _write_whole(path, text.getvalue().encode())
