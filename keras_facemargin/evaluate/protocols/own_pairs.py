"""Your own list of pairs: two paths and a truth on each line, the form of most repositories.

The list names no people, so intervals resample pairs. There is an accuracy only if there are folds:
without folds a threshold would be chosen on the pairs that it is tested on.
"""

import os

import numpy as np

from keras_facemargin.evaluate.protocols.lists import (
    bad_line,
    find_images,
    note_repeats,
    read_lines,
    read_rows,
)
from keras_facemargin.evaluate.verification.pairs import Pairs

TRUTHS = {"1": True, "true": True, "0": False, "false": False}

# Names of the third column of a header, in lower case: any other first line is a pair.
HEADERS = ("same", "is_same", "issame", "label", "truth", "match", "target", "genuine")

_RULE = (
    "must be 'PATH PATH TRUTH' or 'PATH PATH TRUTH FOLD', separated by tabs, commas or spaces, "
    "TRUTH 1 for one person and 0 for two. Paths with spaces need tabs or commas."
)


def read_own_pairs(
    file: str | os.PathLike[str], images_dir: str | os.PathLike[str], *, on_missing: str = "refuse"
) -> Pairs:
    """Reads a list of pairs of images: ``PATH PATH TRUTH`` or ``PATH PATH TRUTH FOLD``.

    Tabs, commas or spaces separate the fields, the same on all lines. TRUTH is 1 or true for two
    images of one person, 0 or false for two people. Blank lines and a header, a first line whose
    third column is one of `HEADERS`, are ignored.

    Args:
        file: the list.
        images_dir: folder where the paths start.
        on_missing: as `read_pairs`.

    Returns:
        `Pairs` in the order of the list; `folds` are those of the list, or ``None``.

    Raises:
        ValueError: if a line has another form, pairs an image with itself, or contradicts
            another (naming the line).
        FileNotFoundError: if the list or an image is missing, the latter as `read_pairs`.

    Warns:
        UserWarning: if a pair is listed twice.

    Example:
        >>> from PIL import Image
        >>> for name in ("a1", "a2", "b1"):
        ...     Image.new("RGB", (112, 112)).save(f"{name}.jpg")
        >>> from pathlib import Path
        >>> _ = Path("pairs.csv").write_text("x,y,same\\na1.jpg,a2.jpg,1\\na1.jpg,b1.jpg,0")
        >>> pairs = read_own_pairs("pairs.csv", ".")
        >>> pairs.same.tolist(), pairs.second[0].name
        ([True, False], 'a2.jpg')
    """
    rows = _rows(file)
    width = len(rows[0][1]) if rows else 0
    truths: dict[frozenset[str], tuple[bool, int]] = {}
    names, folds = [], []
    for number, fields in rows:
        line = " ".join(fields)
        if width not in (3, 4) or len(fields) != width or not all(fields):
            raise bad_line(file, number, _RULE, line)
        if fields[2].lower() not in TRUTHS:
            raise bad_line(file, number, _RULE, line)
        first, second, truth, *fold = fields
        if first == second:
            raise bad_line(file, number, "must pair two different images.", line)
        same = TRUTHS[truth.lower()]
        before = truths.setdefault(frozenset((first, second)), (same, number))
        if before[0] != same:
            rule = f"must not contradict line {before[1]:,}, which pairs the same images."
            raise bad_line(file, number, rule, line)
        names.append((first, second, same))
        folds += fold
    if not names:
        raise ValueError(f"{file}: must list pairs of images. Received: none.")
    note_repeats(file, [frozenset(pair[:2]) for pair in names], "pairs")
    listed = [name for pair in names for name in pair[:2]]
    images, missing = find_images(listed, images_dir, file, on_missing=on_missing)
    return Pairs(
        first=tuple(images[first] for first, _, _ in names),
        second=tuple(images[second] for _, second, _ in names),
        same=np.array([same for _, _, same in names]),
        folds=np.array(folds) if folds else None,
        missing=missing,
    )


def _rows(file: str | os.PathLike[str]) -> list[tuple[int, list[str]]]:
    """(number of the line, its fields), without the header."""
    lines = read_lines(file, "a list of pairs")
    if not lines:
        return []
    number, first = lines[0]
    for separator in ("\t", ",", None):
        if len(first.split(separator)) in (3, 4):
            break
    else:
        raise bad_line(file, number, _RULE, first)
    if separator == ",":
        rows = read_rows(file, "a list of pairs")
    else:
        rows = [(n, [field.strip() for field in line.split(separator)]) for n, line in lines]
    has_header = any(name.lower() in HEADERS for name in rows[0][1][2:3])
    return rows[has_header:]
