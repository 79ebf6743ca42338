"""Labeled Faces in the Wild: the official pair lists and their two views.

*View 1* is for development: 2,200 pairs to choose a threshold (or a model), 1,000 to test it.
*View 2* is only for the published figure: 6,000 pairs in ten folds. The training data of a system
decide the category of its figure (`CATEGORIES`), not the computation. *Image-restricted* categories
allow training on the listed pairs and their kind only; in *unrestricted* ones the names are known,
and training may form any pairs.

Huang, Ramesh, Berg, Learned-Miller, "Labeled Faces in the Wild", 2007; Huang, Learned-Miller,
"Labeled Faces in the Wild: Updates and New Reporting Procedures", 2014.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_facemargin.evaluate.embedding import Embedder
from keras_facemargin.evaluate.measures import Measures
from keras_facemargin.evaluate.protocols.lists import (
    bad_line,
    find_images,
    is_count,
    read_lines,
    refuse_repeats,
)
from keras_facemargin.evaluate.verification.curve import roc
from keras_facemargin.evaluate.verification.pairs import Pairs, evaluate_pairs, score_pairs
from keras_facemargin.evaluate.verification.verification import Verification, verify

# The official names. An embedder trained on labelled faces of other people belongs to the last.
CATEGORIES = (
    "Unsupervised",
    "Image-Restricted, No Outside Data",
    "Unrestricted, No Outside Data",
    "Image-Restricted, Label-Free Outside Data",
    "Unrestricted, Label-Free Outside Data",
    "Unrestricted, Labeled Outside Data",
)


def read_pairs(
    file: str | os.PathLike[str], images_dir: str | os.PathLike[str], *, on_missing: str = "refuse"
) -> Pairs:
    """Reads one of LFW's official pair files.

    View 2, for the published figure (`pairs.txt`): the first line has the number of folds and of
    pairs of each kind per fold; then follow, fold by fold, the genuine pairs ``name i j`` and the
    impostor pairs ``name1 i name2 j``. View 1, for development (`pairsDevTrain.txt`,
    `pairsDevTest.txt`): the first line holds one number, and it has no folds.

    Image i of a person is ``name/name_%04d.jpg`` (or ``.png``) in `images_dir`.

    Args:
        file: the pair file.
        images_dir: folder of one folder per person.
        on_missing: "refuse" raises an error if an image is missing; "reject" keeps the pair and
            counts it as rejected, which is an error if it is genuine.

    Returns:
        `Pairs` in the order of the file; `folds` counts from 1, or is ``None`` for View 1.

    Raises:
        ValueError: if the file breaks the format or names a pair twice (naming the line).
        FileNotFoundError: if the file is missing, if an image is missing and `on_missing` is
            "refuse", or if all images are missing.
    """
    (first, header), *lines = read_lines(file, "LFW's list of pairs") or [(1, "")]
    fold_count, per_kind, has_folds = _parse_header(file, first, header)
    expected = 2 * fold_count * per_kind
    if len(lines) != expected:
        raise ValueError(
            f"{file}: must have {expected:,} pairs, as line {first} states. Received: "
            f"{len(lines):,} lines below it."
        )
    # Each fold is `per_kind` genuine pairs, then as many impostor pairs.
    same = np.tile(np.repeat([True, False], per_kind), fold_count)
    sides = [
        _parse_pair(file, number, line, genuine)
        for (number, line), genuine in zip(lines, same, strict=True)
    ]
    numbers = [number for number, _ in lines]
    refuse_repeats(file, [frozenset(pair) for pair in sides], numbers=numbers, what="a pair")
    names = [[f"{name}/{name}_{index:04d}" for name, index in pair] for pair in sides]
    listed = [name for pair in names for name in pair]
    images, missing = find_images(listed, images_dir, file, on_missing=on_missing)
    return Pairs(
        first=tuple(images[name] for name, _ in names),
        second=tuple(images[name] for _, name in names),
        same=same,
        folds=np.repeat(np.arange(1, fold_count + 1), 2 * per_kind) if has_folds else None,
        missing=missing,
        people=(
            np.array([first for (first, _), _ in sides]),
            np.array([second for _, (second, _) in sides]),
        ),
    )


def evaluate_lfw(
    embedder: Embedder,
    images_dir: str | os.PathLike[str],
    pairs_file: str | os.PathLike[str],
    *,
    flip: bool = True,
    on_missing: str = "refuse",
    batch_size: int = 64,
    progress: bool = True,
) -> Verification:
    """Runs LFW's protocol: cosine of embeddings, each fold at the other folds' best threshold.

    Args:
        embedder, flip, batch_size, progress: as `keras_facemargin.evaluate.embed`.
        images_dir: folder of aligned crops, one folder per person.
        pairs_file: `pairs.txt` for View 2; the result of a View 1 file has no accuracy.
        on_missing: as `read_pairs`.

    Returns:
        A `Verification`. Its scores are in the order of the file. An embedder trained on other
        people's labelled faces belongs to the category "Unrestricted, Labeled Outside Data".

    Raises:
        ValueError, OSError: as `read_pairs` and `embed`.
    """
    pairs = read_pairs(pairs_file, images_dir, on_missing=on_missing)
    return evaluate_pairs(embedder, pairs, flip=flip, batch_size=batch_size, progress=progress)


@dataclasses.dataclass(frozen=True, eq=False)
class View1:
    """Development pairs: some to choose a threshold, others to test it.

    Attributes:
        train: `Pairs` without folds; LFW's 2,200.
        test: `Pairs` without folds; LFW's 1,000.

    Raises:
        ValueError: the pairs have folds, as a test set.
    """

    train: Pairs
    test: Pairs

    def __post_init__(self) -> None:
        for name in ("train", "test"):
            folds = getattr(self, name).folds
            if folds is not None:
                raise ValueError(
                    f"Development pairs must not have folds. Received: `{name}` with "
                    f"{len(np.unique(folds))} folds, as in View 2, which is only for the published "
                    "figure: choose nothing on it."
                )


def read_view_1(
    lists: str | os.PathLike[str], images_dir: str | os.PathLike[str], *, on_missing: str = "refuse"
) -> View1:
    """LFW's development pairs: `pairsDevTrain.txt` and `pairsDevTest.txt` in the folder `lists`.

    Args:
        lists: the folder with the two files.
        images_dir, on_missing: as `read_pairs`.

    Raises:
        ValueError, FileNotFoundError: as `read_pairs`; or if a file has folds, as in View 2.

    Example:
        >>> from PIL import Image
        >>> for name in ("Ada/Ada_0001", "Ada/Ada_0002", "Bob/Bob_0001"):
        ...     Path(name).parent.mkdir(exist_ok=True)
        ...     Image.new("RGB", (112, 112)).save(f"{name}.jpg")
        >>> for file in ("pairsDevTrain.txt", "pairsDevTest.txt"):
        ...     _ = Path(file).write_text("1\\nAda\\t1\\t2\\nAda\\t1\\tBob\\t1\\n")
        >>> len(read_view_1(".", ".").test)
        2
    """
    files = [Path(lists) / name for name in ("pairsDevTrain.txt", "pairsDevTest.txt")]
    return View1(*(read_pairs(file, images_dir, on_missing=on_missing) for file in files))


@dataclasses.dataclass(frozen=True)
class View1Result(Measures):
    """The accuracy on the test pairs at a threshold chosen on the training pairs.

    Attributes:
        threshold: the most accurate one on the training pairs.
        accuracy: share of correct decisions on the test pairs, in [0, 1].
        test: the `Verification` of the test pairs, without an accuracy.
    """

    threshold: float
    accuracy: float
    test: Verification

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for a JSON file."""
        return {
            "accuracy": self.accuracy,
            "threshold": self.threshold,
            **self.test.to_dict(),
        }

    def rows(self) -> list[tuple[str, str]]:
        """(measure, value) as text, for a table."""
        accuracy = f"{self.accuracy:.2%} (threshold {self.threshold:.4f}, of the training pairs)"
        return [("Accuracy, View 1", accuracy), *self.test.rows()]


def evaluate_view_1(
    embedder: Embedder,
    view: View1,
    *,
    flip: bool = True,
    batch_size: int = 64,
    progress: bool = True,
) -> View1Result:
    """Accuracy for development: the threshold of `view.train`, tested on `view.test`.

    Args:
        embedder, flip, batch_size, progress: as `keras_facemargin.evaluate.embed`.
        view: a `View1`.

    Returns:
        A `View1Result`.

    Raises:
        ValueError, OSError: as `score_pairs` and `verify`.
    """
    train, test = (
        score_pairs(embedder, part, flip=flip, batch_size=batch_size, progress=progress)
        for part in (view.train, view.test)
    )
    threshold = roc(train, view.train.same).most_accurate_threshold()
    return View1Result(
        threshold=threshold,
        accuracy=float(np.mean((test >= threshold) == view.test.same)),
        test=dataclasses.replace(
            verify(test, view.test.same),
            failed_to_enrol=int(np.count_nonzero(view.test.failed_to_enrol)),
        ),
    )


def _parse_header(file: str | os.PathLike[str], number: int, line: str) -> tuple[int, int, bool]:
    fields = line.split()
    if len(fields) not in (1, 2) or not all(is_count(field) for field in fields):
        rule = (
            "must hold the number of folds and of pairs of each kind per fold (View 2), or the "
            "number of pairs of each kind (View 1)."
        )
        raise bad_line(file, number, rule, line)
    if len(fields) == 1:
        return 1, int(fields[0]), False
    return int(fields[0]), int(fields[1]), True


def _parse_pair(
    file: str | os.PathLike[str], number: int, line: str, genuine: bool
) -> tuple[tuple[str, int], tuple[str, int]]:
    """The two (name, index) of a line."""
    fields = line.split()
    if genuine:
        rule = "a genuine pair is 'name i j' with two different images of one person"
        valid = len(fields) == 3
        fields = [*fields[:2], *fields[:1], *fields[2:]]
    else:
        rule = "an impostor pair is 'name1 i name2 j' with two different names"
        valid = len(fields) == 4 and fields[0] != fields[2]
    if valid and is_count(fields[1]) and is_count(fields[3]):
        first, second = (fields[0], int(fields[1])), (fields[2], int(fields[3]))
        if first != second:  # as numbers: 1 and 01 are one image
            return first, second
    raise bad_line(file, number, f"{rule}, images counted from 1.", line)
