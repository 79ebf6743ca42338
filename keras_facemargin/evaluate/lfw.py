"""Labeled Faces in the Wild: the official pair lists and their protocol.

Huang, Ramesh, Berg, Learned-Miller, "Labeled Faces in the Wild", 2007.
"""

from pathlib import Path

import numpy as np

from keras_facemargin.evaluate.pairs import Pairs, evaluate_pairs
from keras_facemargin.evaluate.verification import Verification

SUFFIXES = (".jpg", ".png")


def read_pairs(file, images_dir, on_missing="refuse") -> Pairs:
    """Reads one of LFW's official pair files.

    View 2, for the figure to publish (`pairs.txt`): the first line holds the number of folds and of
    pairs of each kind per fold; then follow, fold by fold, the genuine pairs ``name i j`` and the
    impostor pairs ``name1 i name2 j``. View 1, for development (`pairsDevTrain.txt`,
    `pairsDevTest.txt`): the first line holds one number, and there are no folds.

    Image i of a person is ``name/name_%04d.jpg`` (or ``.png``) in `images_dir`.

    Args:
        file: the pair file.
        images_dir: folder of one folder per person.
        on_missing: "refuse" raises an error if an image is missing; "reject" keeps the pair and
            lets it count as rejected, an error where it is genuine.

    Returns:
        `Pairs` in the order of the file; `folds` counts from 1, or is ``None`` for View 1.

    Raises:
        ValueError: if the file breaks the format (naming the line).
        FileNotFoundError: if the file is missing, or any of its images where that is refused, or
            all of them.
    """
    if on_missing not in ("refuse", "reject"):
        raise ValueError(f"`on_missing` must be 'refuse' or 'reject'. Received: {on_missing!r}.")
    file, images_dir = Path(file), Path(images_dir)
    try:
        header, *lines = file.read_text(encoding="utf-8").rstrip().split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file}: must be LFW's list of pairs, a text file. Received: a file that is no text."
        ) from error
    fold_count, per_kind, has_folds = _parse_header(file, header)
    expected = 2 * fold_count * per_kind
    if len(lines) != expected:
        raise ValueError(
            f"{file}: line 1 announces {expected:,} pairs. Received: {len(lines):,} lines below it."
        )
    # Each fold is `per_kind` genuine pairs, then as many impostor pairs.
    same = np.tile(np.repeat([True, False], per_kind), fold_count)
    first, second, people = [], [], ([], [])
    for number, (line, genuine) in enumerate(zip(lines, same, strict=True), start=2):
        (name1, index1), (name2, index2) = _parse_pair(file, number, line, genuine)
        first.append(images_dir / name1 / f"{name1}_{index1:04d}")
        second.append(images_dir / name2 / f"{name2}_{index2:04d}")
        people[0].append(name1)
        people[1].append(name2)
    images, missing = _find_images(first + second)
    if missing and (on_missing == "refuse" or len(missing) == len(images)):
        raise FileNotFoundError(_missing_message(file, missing, len(images)))
    return Pairs(
        first=tuple(images[stem] for stem in first),
        second=tuple(images[stem] for stem in second),
        same=same,
        folds=np.repeat(np.arange(1, fold_count + 1), 2 * per_kind) if has_folds else None,
        missing=frozenset(missing),
        people=tuple(np.array(side) for side in people),
    )


def evaluate_lfw(
    embedder,
    images_dir,
    pairs_file,
    flip=True,
    on_missing="refuse",
    batch_size=64,
    progress=True,
) -> Verification:
    """Runs LFW's protocol: cosine of embeddings, each fold at the other folds' best threshold.

    Args:
        embedder, flip, batch_size, progress: as `keras_facemargin.evaluate.embed`.
        images_dir: folder of aligned crops, one folder per person.
        pairs_file: `pairs.txt` for View 2; on a View 1 file the result holds no accuracy.
        on_missing: as `read_pairs`.

    Returns:
        A `Verification`. Its scores are in the order of the file. An embedder trained on other
        people's labelled faces belongs to the category "unrestricted with labeled outside data".

    Raises:
        ValueError, OSError: as `read_pairs` and `embed`.
    """
    pairs = read_pairs(pairs_file, images_dir, on_missing)
    return evaluate_pairs(embedder, pairs, flip, batch_size, progress)


def _parse_header(file, line):
    fields = line.split()
    if len(fields) not in (1, 2) or not all(_is_count(field) for field in fields):
        raise ValueError(
            f"{file}, line 1: must hold the number of folds and of pairs of each kind per fold "
            f"(View 2), or the number of pairs of each kind (View 1). Received: {line!r}."
        )
    if len(fields) == 1:
        return 1, int(fields[0]), False
    return int(fields[0]), int(fields[1]), True


def _parse_pair(file, number, line, genuine):
    """The two (name, index) of a line."""
    fields = line.split()
    if genuine:
        rule = "a genuine pair is 'name i j' with two different images of one person"
        valid = len(fields) == 3 and fields[1] != fields[2]
        fields = [*fields[:2], *fields[:1], *fields[2:]]
    else:
        rule = "an impostor pair is 'name1 i name2 j' with two different names"
        valid = len(fields) == 4 and fields[0] != fields[2]
    if not (valid and _is_count(fields[1]) and _is_count(fields[3])):
        raise ValueError(
            f"{file}, line {number}: {rule}, images counted from 1. Received: {line!r}."
        )
    return (fields[0], int(fields[1])), (fields[2], int(fields[3]))


def _is_count(field):
    return field.isascii() and field.isdigit() and int(field) > 0


def _find_images(stems):
    """Stem -> image file, and the list of those files that do not exist."""
    images, missing = {}, []
    for stem in dict.fromkeys(stems):
        candidates = [stem.with_name(stem.name + suffix) for suffix in SUFFIXES]
        images[stem] = next((path for path in candidates if path.is_file()), candidates[0])
        if not images[stem].is_file():
            missing.append(images[stem])
    return images, missing


def _missing_message(file, missing, count):
    listed = "\n".join(f"  {path}" for path in missing[:10])
    more = f"\n  and {len(missing) - 10:,} more" if len(missing) > 10 else ""
    return (
        f"Every image named by {file} must be present as {' or '.join(SUFFIXES)}. Received: "
        f"{len(missing):,} of {count:,} images missing:\n{listed}{more}\n"
        "If no face could be found in a few of them, on_missing='reject' counts their pairs as "
        "rejected."
    )
