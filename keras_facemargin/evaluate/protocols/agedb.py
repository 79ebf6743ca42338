"""AgeDB-30: ten folds of 300 genuine and 300 impostor pairs, about 30 years between their images.

Moschoglou, Papaioannou, Sagonas, Deng, Kotsia, Zafeiriou, "AgeDB: the first manually collected,
in-the-wild age database", CVPR workshops 2017.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.data.formats.matlab import read_mat
from keras_facemargin.evaluate.protocols.lists import find_images, note_repeats
from keras_facemargin.evaluate.verification.pairs import Pairs


def read_agedb(
    lists: str | os.PathLike[str], images_dir: str | os.PathLike[str], *, on_missing: str = "refuse"
) -> Pairs:
    """Reads `04_FINAL_protocol_30_years.mat` in the folder `lists`.

    The file holds `splits`, a cell for each fold. A fold is a structure: first the pairs, 2 x 600
    cells, each a structure whose first field is an image's name without its suffix; then 600
    labels, 1 for genuine pairs and -1 (or 0) for impostors. The order of the fields counts.

    Args:
        lists: the folder with the file, `AgeDB_FINAL_protocol`.
        images_dir: folder of all images, `03_Protocol_Images`, or their crops: ``NAME.jpg`` or
            ``NAME.png``.
        on_missing: as `read_pairs`.

    Returns:
        `Pairs`, fold by fold; `folds` counts from 1. The person of an image is the part of its name
        before the first ``_``; if that contradicts a label, `people` is ``None``.

    Raises:
        ValueError: if the file has another layout (naming the fold and the pair).
        FileNotFoundError: if the file or an image is missing, the latter as `read_pairs`.
    """
    file = Path(lists) / "04_FINAL_protocol_30_years.mat"
    folds = read_mat(file, ["splits"]).get("splits")
    folds = folds.ravel(order="F") if isinstance(folds, np.ndarray) else []
    if not len(folds):
        raise ValueError(f"{file}: must hold `splits`, a cell for each fold. Received: none.")
    names, same, numbers = [], [], []
    for number, fold in enumerate(folds, start=1):
        pairs, labels = _read_fold(file, number, fold)
        names += pairs
        same += labels
        numbers += [number] * len(labels)
    note_repeats(file, [frozenset(pair) for pair in names], "pairs")
    images, missing = find_images(
        [name for pair in names for name in pair], images_dir, file, on_missing=on_missing
    )
    return Pairs(
        first=tuple(images[name] for name, _ in names),
        second=tuple(images[name] for _, name in names),
        same=np.array(same),
        folds=np.array(numbers),
        missing=missing,
        people=_people(names, same),
    )


def _read_fold(
    file: str | os.PathLike[str], number: int, fold: Any
) -> tuple[list[tuple[str, str]], list[bool]]:
    rule = "must be a structure of 2 x N cells, the pairs, and N labels, 1 or -1."
    fields = list(fold.values())[:2] if isinstance(fold, dict) else []
    sides, marks = map(np.asarray, fields if len(fields) == 2 else ([], []))
    kind, labels = marks.dtype.kind, marks.ravel().tolist()
    if (
        kind not in "biuf"
        or not labels
        or sides.shape != (2, len(labels))
        or not set(labels) <= {-1, 0, 1}
    ):
        raise ValueError(
            f"{file}, fold {number}: {rule} Received: cells of shape {sides.shape} and "
            f"{len(labels)} labels."
        )
    pairs = []
    for index, pair in enumerate(sides.T, start=1):
        names = [_first_field(side) for side in pair]
        if not all(isinstance(name, str) and name for name in names):
            raise ValueError(
                f"{file}, fold {number}, pair {index}: must be two names. Received: {names!s:.200}."
            )
        pairs.append((names[0], names[1]))
    return pairs, [label == 1 for label in labels]


def _first_field(cell: Any) -> Any:
    return next(iter(cell.values()), None) if isinstance(cell, dict) else cell


def _people(
    names: Sequence[tuple[str, str]], same: Sequence[bool]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    first, second = (np.array([pair[side].split("_")[0] for pair in names]) for side in (0, 1))
    return (first, second) if np.array_equal(first == second, same) else None
