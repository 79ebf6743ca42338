"""Files of known points of faces: who has points needs no detector."""

import csv
import functools
import io
import json
import math
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from keras_facemargin.files import read_text
from keras_facemargin.images.detect import DetectedFace

Landmarks: TypeAlias = dict[str, list[DetectedFace]]  # photo -> its faces
_Face: TypeAlias = tuple[Any, Any, Any]  # name of the photo, score, points
_Line: TypeAlias = tuple[int, Callable[[], _Face]]  # number, and a function that parses the line


def read_landmarks(path: str | os.PathLike[str]) -> Landmarks:
    """Reads a file of known points of faces.

    The ending chooses one of two forms. `.jsonl` has one object a line, one line a face; other keys
    are ignored:

        {"file": "ADA/1.jpg", "points": [[104.2, 114.0], [149.1, 113.5], ...], "score": 0.99}

    `.csv` has a header with at least `file,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5` in any order.

    `file` is the path under the folder of photos, with `/`. The five points are x and y in pixels
    of the upright photo, `(0, 0)` the centre of the pixel in the upper left: left eye, right eye,
    nose, left and right mouth corner, left and right as a viewer sees them. (Subtract 0.5 from
    coordinates that count the pixel's corner as 0, and 1 from Matlab's.) A photo with several faces
    has several lines; a photo without a face has none.

    Args:
        path: the file, UTF-8.

    Returns:
        Dictionary from `file` to its list of `DetectedFace`, whose boxes are the bounds of their
        points.

    Raises:
        ValueError: the ending is another, or a line has not the form; the error names it.
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
        raise ValueError(f"A file of points must be a .jsonl or a .csv file. Received: {path!r}")
    # Names of files in another encoding keep their bytes, as Python keeps them.
    text = read_text(path, "a file of points", errors="surrogateescape")
    faces: Landmarks = {}
    lines = _json_lines(text) if ending == ".jsonl" else _csv_lines(text, path)
    for number, read in lines:
        try:
            name, score, points = read()
            points = np.array(points, np.float64)
            if not isinstance(name, str) or points.shape != (5, 2):
                raise ValueError
            score = math.nan if score is None else float(score)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            raise ValueError(
                "Each line must have `file`, a string, and five points of x and y. "
                f"Received: {path}, line {number}, without them. The help of `facemargin align` "
                "describes the form."
            ) from None
        box = np.concatenate([points.min(0), points.max(0)])
        faces.setdefault(name, []).append(DetectedFace(box, score, points))
    return faces


def _json_lines(text: str) -> Iterator[_Line]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, functools.partial(_json_face, line)


def _json_face(line: str) -> _Face:
    record = json.loads(line)
    return record["file"], record.get("score"), record["points"]


def _csv_lines(text: str, path: str) -> Iterator[_Line]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    columns = [f"{axis}{point}" for point in range(1, 6) for axis in "xy"]

    def face(row: dict[str, str]) -> _Face:
        if "\n" in row["file"]:
            raise ValueError  # a stray quote joined lines
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
            yield first, functools.partial(face, row)
            first = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"A .csv of points must have a line for each face. Received: {path}, line {first}: "
            f"{error}"
        ) from None


def check_names(file: str | os.PathLike[str], listed: Landmarks, names: list[str]) -> None:
    """Refuses points of other photos before a photo is read.

    Args:
        file: the file of points, for the error.
        listed: its points.
        names: the photos, as paths under their folder.

    Raises:
        ValueError: none of the photos is listed.
    """
    if listed.keys().isdisjoint(names):
        first = next(iter(listed), None)
        raise ValueError(
            "A file of points must name photos by their paths under the folder, with `/`. "
            f"Received: {os.fspath(file)}, which names none of them: its first is {first!r}, "
            f"the first photo is {names[0]!r}"
        )
