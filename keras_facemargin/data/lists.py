"""Lists of labelled images, as programs write them: every line is an image or a named fault.

A list is text, a line for each image:

- `.csv`: PATH,LABEL. A first line may name the columns, in any order and among others. A field may
  stand in quotes, but ends on its line;
- `.lst`: PATH<tab>LABEL, im2rec's KEY<tab>LABEL<tab>PATH (of several labels the first is the
  identity, as in `FaceRecords`) or InsightFace's 1<tab>PATH<tab>LABEL. Quotes are characters like
  any other. Spaces separate the columns of a list without tabs;
- `.txt`: PATH LABEL, as CelebA has them.

What most lines are decides which form a `.lst` has. A line of another form is a fault of that line
alone, which costs no other.
"""

import collections
import csv
import os
import re

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
_SAMPLE = 1000  # lines that decide which form a list has
_LONGEST = 1 << 16  # characters of a line; the longest path has 4,096 bytes
_SHOWN = 200  # characters of a line that an error shows


def read_list(file, folder):
    """The images that a list names.

    Args:
        file: the list.
        folder: where its paths start from, and below which they must stay.

    Returns:
        Paths, identities, each a list of texts of equal length, and a list of `BadImage`. Every
        line that is not blank and does not name the columns is in one of them.

    Raises:
        ValueError: the file is no text in UTF-8, or no line has the columns of a list.
        OSError: it cannot be opened.

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
    paths, identities, bad, misfits, outside = [], [], [], 0, None
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
                f"its path leads out of {os.path.abspath(folder)}, below which the images of the "
                f"list must be; `images` (--images FOLDER) names another folder. Received: "
                f"{shown(path)}."
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


def list_identity(text):
    """The identity that a label in a list states: a whole number is one in any form.

    Example:
        >>> list_identity("3.000000"), list_identity("007"), list_identity(" Ada ")
        ('3', '007', 'Ada')
    """
    text = text.strip(" \t")
    number = _NUMBER.fullmatch(text)
    return number[1] if number else text


def text_lines(file):
    """The lines of a list; bytes that are not UTF-8 are kept, as in names of files."""
    text = read_text(file, "a list of images", errors="surrogateescape")
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


class _Form(collections.namedtuple("_Form", "path label width named numbers")):
    """Where path and label are among the fields of a line.

    `width` is the number of fields, `named` whether line 1 names them, `numbers` how many of them,
    from the first on, must be whole numbers.
    """

    def fits(self, fields):
        return len(fields) == self.width and all(map(_NUMBER.fullmatch, fields[: self.numbers]))


_TWO = _Form(0, 1, 2, False, 0)


def _layout(ending, sample):
    """The function that splits a line, and the `_Form` of the list."""
    split = {".csv": _split_csv, ".lst": _split_tabs, ".txt": _split_last}[ending]
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


def _lst_form(fields):
    width = len(fields)
    if width == 2:
        return _TWO
    if width < 2 or not _NUMBER.fullmatch(fields[0]):
        return None
    if not _FLOAT.fullmatch(fields[1]):
        return _Form(1, 2, width, False, 1)  # InsightFace's
    im2rec = _Form(width - 1, 1, width, False, width - 1)
    return im2rec if im2rec.fits(fields) else None


def _split_csv(line):
    if '"' not in line:
        return [field.lstrip(" ") for field in line.split(",")]
    try:
        # One line and no more, so that a quote without its counterpart costs no other line.
        return next(csv.reader([line], strict=True, skipinitialspace=True))
    except csv.Error:
        return []


def _split_tabs(line):
    return line.split("\t")


def _split_spaces(line):
    return [field for field in line.split(" ") if field]


def _split_last(line):
    path, _, label = line.strip(" \t").replace("\t", " ").rpartition(" ")
    return [path.rstrip(" "), label] if path else [label]


def _places(folder):
    """A function from a path in a list to its place, None if that is not below the folder."""
    prefix = os.path.join(folder, "")
    root = os.path.join(os.path.abspath(folder), "")

    def place(path):
        if not (path[:1] == "/" or ".." in path or "\\" in path or _DRIVE.match(path)):
            return prefix + path
        if "\\" in os.path.basename(path):  # no name of an image holds one: a path of Windows
            path = path.replace("\\", "/")
        if _DRIVE.match(path) and not os.path.isabs(path):
            return None
        if ".." in path or not path.startswith(root):
            path = os.path.normpath(prefix + path if path[:1] != "/" else path)
        return path if os.path.abspath(path).startswith(root) else None

    return place


def _misfit(file, ending, number, line):
    message = (
        f"{file}, line {number:,}: a line of a {ending} must be {_COLUMNS[ending]}, and no line of "
        f"the list is. Received: {shown(line)}"
    )
    ours = _SEPARATORS[ending]
    theirs = next((mark for mark in ";\t, " if mark in line), None)
    if ours in line or theirs is None:
        return f"{message}."
    return (
        f"{message}, whose columns are separated by {_NAMES[theirs]}. Separate them by "
        f"{_NAMES[ours]}."
    )


def shown(text):
    """A text as an error shows it: its beginning, if it is long."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r} and more"
