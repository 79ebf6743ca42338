"""Cross-Age and Cross-Pose LFW: LFW's people, 3,000 genuine and 3,000 impostor pairs each.

Zheng, Deng, Hu, "Cross-Age LFW", arXiv:1708.08197, 2017; Zheng, Deng, "Cross-Pose LFW", 2018.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.protocols.lists import (
    bad_line,
    find_images,
    note_repeats,
    read_lines,
)
from keras_facemargin.evaluate.verification.pairs import Pairs

FOLDS = 10


def read_calfw(
    lists: str | os.PathLike[str], images_dir: str | os.PathLike[str], *, on_missing: str = "refuse"
) -> Pairs:
    """Reads `pairs_CALFW.txt` in the folder `lists`.

    A pair is two lines, ``Ada_0001.jpg 1`` and ``Ada_0003.jpg 1``; the number is 0 for an impostor
    pair and another number for a genuine pair. All genuine pairs come first, then all impostors.
    The file has no folds: fold k is the k-th tenth of the genuine and the k-th tenth of the
    impostor pairs, as in FaceX-Zoo.

    Args:
        lists: the folder with the list.
        images_dir: folder of all images, without subfolders, as published.
        on_missing: as `read_pairs`.

    Returns:
        `Pairs`, in the order of the file; `folds` counts from 1. The person of an image is the part
        of its name before the last ``_``; if that contradicts a label, `people` is ``None``.

    Raises:
        ValueError: if the list breaks the format (naming the line).
        FileNotFoundError: if the list or an image is missing, the latter as `read_pairs`.
    """
    return _read(Path(lists) / "pairs_CALFW.txt", images_dir, on_missing)


def read_cplfw(
    lists: str | os.PathLike[str], images_dir: str | os.PathLike[str], *, on_missing: str = "refuse"
) -> Pairs:
    """Reads `pairs_CPLFW.txt` in the folder `lists`, of the same format: ``Ada_1.jpg 1``.

    Args, returns and errors are those of `read_calfw`.
    """
    return _read(Path(lists) / "pairs_CPLFW.txt", images_dir, on_missing)


def _read(
    file: str | os.PathLike[str], images_dir: str | os.PathLike[str], on_missing: str
) -> Pairs:
    lines = read_lines(file, "a list of pairs")
    names, marks = [], []
    for number, line in lines:
        fields = line.split()
        plain = len(fields) == 2 and fields[1].isascii() and fields[1].isdigit()
        if not plain or "_" not in fields[0]:
            raise bad_line(file, number, "must be an image and 0 or another number.", line)
        names.append(fields[0])
        marks.append(fields[1].lstrip("0"))
    if not names or len(names) % 2:
        raise ValueError(f"{file}: a pair is two lines. Received: {len(names):,} lines.")
    for pair in range(len(names) // 2):
        one, two = 2 * pair, 2 * pair + 1
        if marks[one] != marks[two]:
            rule = f"must have the number of line {lines[one][0]:,}, the other image of the pair."
            raise bad_line(file, lines[two][0], rule, lines[two][1])
    same = np.array(marks[::2]) != ""
    pairs = zip(names[::2], names[1::2], strict=True)
    note_repeats(file, [frozenset(pair) for pair in pairs], "pairs")
    people = np.array([name.rpartition("_")[0] for name in names])
    first, second = people[::2], people[1::2]
    images, missing = find_images(names, images_dir, file, on_missing=on_missing)
    paths = [images[name] for name in names]
    return Pairs(
        first=tuple(paths[::2]),
        second=tuple(paths[1::2]),
        same=same,
        folds=_tenths(file, same),
        missing=missing,
        people=(first, second) if np.array_equal(first == second, same) else None,
    )


def _tenths(file: str | os.PathLike[str], same: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    folds = np.empty(len(same), int)
    for kind in (True, False):
        count = np.count_nonzero(same == kind)
        if not count or count % FOLDS:
            raise ValueError(
                f"{file}: genuine and impostor pairs make {FOLDS} folds of equal size. Received: "
                f"{count:,} {'genuine' if kind else 'impostor'} pairs."
            )
        folds[same == kind] = np.repeat(np.arange(1, FOLDS + 1), count // FOLDS)
    return folds
