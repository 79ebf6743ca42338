"""Lists of labelled images: every line is an image, or is reported with its fault.

A list is text, a line for each image:

- `.csv`: PATH,LABEL. The first line may name the columns, in any order and among others. A field
  may be in quotes, but ends on its line;
- `.lst`: PATH<tab>LABEL, im2rec's KEY<tab>LABEL<tab>PATH (of several labels the first is the
  identity, as in `FaceRecords`) or InsightFace's 1<tab>PATH<tab>LABEL. Quotes have no meaning.
  Spaces separate the columns of a list without tabs;
- `.txt`: PATH LABEL, as in CelebA.

The majority of the lines decides the form of a `.lst`. Only the lines of another form are bad.
"""

import collections
import csv
import os
import re
from collections.abc import Callable
from typing import NamedTuple

from keras_facemargin.data.formats.shared_file import FileName
from keras_facemargin.files import read_text
from keras_facemargin.images.image import BadImage

_PATH, _LABEL = ("path", "image", "file", "filename"), ("label", "identity", "id", "person")
_COLUMNS = {
    ".csv": "PATH,LABEL (or line 1 names the columns, `path` and `label` among them)",
    ".lst": "PATH<tab>LABEL, KEY<tab>LABEL<tab>PATH or 1<tab>PATH<tab>LABEL",
    ".txt": "PATH LABEL",
}
_SEPARATORS = {".csv": ",", ".lst": "\t", ".txt": " "}
_NAMES = {",": "commas", "\t": "tabs", " ": "spaces", ";": "semicolons"}
_NUMBER = re.compile(r"(\d+)(?:\.0*)?", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|nan", re.ASCII | re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
_SAMPLE = 1000  # lines that decide the form of a list
_LONGEST = 1 << 16  # characters of a line; the longest path has 4,096 bytes
_SHOWN = 200  # characters of a line in an error

Split = Callable[[str], list[str]]


def read_list(file: str, folder: str) -> tuple[list[str], list[str], list[BadImage]]:
    """Reads the images of a list.

    Args:
        file: the list.
        folder: its paths start from this folder and must be below it.

    Returns:
        Paths and identities, two lists of texts of equal length, and a list of `BadImage`. Every
        line is in one of them, except blank lines and one that names the columns.

    Raises:
        ValueError: the file is not text in UTF-8, or no line has the columns of a list.
        OSError: the file cannot be opened.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("two.csv").write_text("ada/1.jpg,Ada\\nbo/1.jpg;Bo\\n")
        >>> paths, identities, bad = read_list("two.csv", "faces")
        >>> paths, identities
        (['faces/ada/1.jpg'], ['Ada'])
        >>> bad[0].path
        'two.csv, line 2'
    """
    ending = os.path.splitext(file)[1].lower()
    lines = [each for each in enumerate(text_lines(file), start=1) if each[1].strip(" \t")]
    split, form = _layout(ending, [line for _, line in lines[: _SAMPLE + 1]])
    if lines and form.named:
        del lines[0]
    place = _places(folder)
    paths, identities, misfits = [], [], 0
    bad: list[BadImage] = []
    outside: BadImage | None = None
    for number, line in lines:
        fields = split(line)
        if len(line) > _LONGEST or not form.fits(fields):
            misfits += 1
            reason = f"a line must be {_COLUMNS[ending]}. Received: {shown(line)}."
            bad.append(BadImage(f"{file}, line {number:,}", reason))
            continue
        path = fields[form.path]
        found = place(path)
        if found is None:
            reason = (
                f"its path must be below {os.path.abspath(folder)}. Received: {shown(path)}. Name "
                "the folder of the images with `images` (--images FOLDER)."
            )
            bad.append(BadImage(f"{file}, line {number:,}", reason))
            outside = outside or bad[-1]
            continue
        paths.append(found)
        identities.append(list_identity(fields[form.label]))
    if misfits and misfits == len(lines):
        raise ValueError(_misfit(file, ending, *lines[0]))
    if outside and not paths:
        raise ValueError(str(outside))
    return paths, identities, bad


def list_identity(text: str) -> str:
    """The identity of a label in a list; a whole number loses its decimals.

    Example:
        >>> list_identity("3.000000"), list_identity("007"), list_identity(" Ada ")
        ('3', '007', 'Ada')
    """
    text = text.strip(" \t")
    number = _NUMBER.fullmatch(text)
    return number[1] if number else text


def text_lines(file: FileName) -> list[str]:
    """The lines of a list; bytes that are not UTF-8 are kept, as in names of files."""
    text: str = read_text(file, "a list of images", errors="surrogateescape")
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


class _Form(NamedTuple):
    """The fields of a line.

    Attributes:
        path, label: columns of the path and of the label.
        width: number of fields.
        named: whether line 1 names the columns.
        numbers: how many of the first fields must be whole numbers.
    """

    path: int
    label: int
    width: int
    named: bool
    numbers: int

    def fits(self, fields: list[str]) -> bool:
        return len(fields) == self.width and all(map(_NUMBER.fullmatch, fields[: self.numbers]))


_TWO = _Form(0, 1, 2, False, 0)


def _layout(ending: str, sample: list[str]) -> tuple[Split, _Form]:
    """The function that splits a line, and the `_Form` of the list."""
    split: Split = {".csv": _split_csv, ".lst": _split_tabs, ".txt": _split_last}[ending]
    if ending == ".lst" and 2 * sum("\t" in line for line in sample) < len(sample):
        split = _split_spaces
    rows = list(map(split, sample))
    head = [field.strip().lower() for field in rows[0]] if rows else []
    path, label = (
        next((place for place, name in enumerate(head) if name in names), None)
        for names in (_PATH, _LABEL)
    )
    if path is not None and label is not None:
        return split, _Form(path, label, len(head), True, 0)
    if ending != ".lst":
        return split, _TWO
    counts = collections.Counter(filter(None, map(_lst_form, rows)))
    return split, counts.most_common(1)[0][0] if counts else _TWO


def _lst_form(fields: list[str]) -> _Form | None:
    width = len(fields)
    if width == 2:
        return _TWO
    if width < 2 or not _NUMBER.fullmatch(fields[0]):
        return None
    if not _FLOAT.fullmatch(fields[1]):
        return _Form(1, 2, width, False, 1)  # InsightFace's
    im2rec = _Form(width - 1, 1, width, False, width - 1)
    return im2rec if im2rec.fits(fields) else None


def _split_csv(line: str) -> list[str]:
    if '"' not in line:
        return [field.lstrip(" ") for field in line.split(",")]
    try:
        # One line at a time, so that an open quote spoils only its own line.
        return next(csv.reader([line], strict=True, skipinitialspace=True))
    except csv.Error:
        return []


def _split_tabs(line: str) -> list[str]:
    return line.split("\t")


def _split_spaces(line: str) -> list[str]:
    return [field for field in line.split(" ") if field]


def _split_last(line: str) -> list[str]:
    path, _, label = line.strip(" \t").replace("\t", " ").rpartition(" ")
    return [path.rstrip(" "), label] if path else [label]


def _places(folder: str) -> Callable[[str], str | None]:
    """A function from a path in a list to the file, or to None if it is not below the folder."""
    prefix = os.path.join(folder, "")
    root = os.path.join(os.path.abspath(folder), "")

    def place(path: str) -> str | None:
        if not (path[:1] == "/" or ".." in path or "\\" in path or _DRIVE.match(path)):
            return prefix + path
        if "\\" in os.path.basename(path):  # names of images have none: a path of Windows
            path = path.replace("\\", "/")
        if _DRIVE.match(path) and not os.path.isabs(path):
            return None
        if ".." in path or not path.startswith(root):
            path = os.path.normpath(prefix + path if path[:1] != "/" else path)
        return path if os.path.abspath(path).startswith(root) else None

    return place


def _misfit(file: str, ending: str, number: int, line: str) -> str:
    message = (
        f"{file}, line {number:,}: the lines of a {ending} must be {_COLUMNS[ending]}, and all "
        f"lines of this list differ. Received: {shown(line)}"
    )
    ours = _SEPARATORS[ending]
    theirs = next((mark for mark in ";\t, " if mark in line), None)
    if ours in line or theirs is None:
        return f"{message}."
    return f"{message}, with {_NAMES[theirs]} between the columns. Separate them by {_NAMES[ours]}."


def shown(text: str) -> str:
    """A text in the form of an error: only its beginning if it is long."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r} and more"
