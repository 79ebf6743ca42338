"""YouTube Faces: 3,425 videos of 1,595 people, ten folds of 250 genuine and 250 impostor pairs.

A video is a template, the mean of its frames, as in most papers. Implementations differ:
NormFace averages the scores of all pairs of frames after subtracting the training mean. The paper
reports accuracy, and EER and AUC as means over the folds.

Wolf, Hassner, Maoz, "Face Recognition in Unconstrained Videos with Matched Background Similarity",
CVPR 2011.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.protocols.lists import (
    SUFFIXES,
    bad_line,
    is_count,
    read_lines,
    refuse_repeats,
)
from keras_facemargin.evaluate.templates import TemplatePairs, Templates


def read_ytf(
    lists: str | os.PathLike[str], images_dir: str | os.PathLike[str], *, on_missing: str = "refuse"
) -> TemplatePairs:
    """Reads `splits.txt` in the folder `lists`, or the authors' `splits_corrected.txt` if it
    exists.

    A line is ``fold, pair, NAME/VIDEO, NAME/VIDEO, 1`` (0 for an impostor pair). A first line of
    five column names and blank lines are ignored.

    Args:
        lists: the folder with the list.
        images_dir: folder with the frames of a video in ``NAME/VIDEO``; every .jpg and .png counts.
        on_missing: "refuse" raises an error if a video has no frame; "reject" counts its pairs as
            rejected.

    Returns:
        `TemplatePairs` in the order of the list; `folds` are those of the list.

    Raises:
        ValueError: if the list breaks the format or names a pair twice (naming the line).
        FileNotFoundError: if the list is missing; if a video has no frame and `on_missing` is
            "refuse"; or if no video has a frame.

    Example:
        >>> from PIL import Image
        >>> for video in ("Ada/0", "Ada/1", "Bob/0"):
        ...     Path(video).mkdir(parents=True)
        ...     Image.new("RGB", (112, 112)).save(f"{video}/frame_1.jpg")
        >>> _ = Path("splits.txt").write_text("1, 1, Ada/0, Ada/1, 1\\n1, 2, Ada/0, Bob/0, 0\\n")
        >>> pairs = read_ytf(".", ".")
        >>> pairs.same.tolist(), pairs.templates.subjects.tolist()
        ([True, False], ['Ada', 'Ada', 'Bob'])
    """
    if on_missing not in ("refuse", "reject"):
        raise ValueError(f"`on_missing` must be 'refuse' or 'reject'. Received: {on_missing!r}.")
    file = Path(lists) / "splits_corrected.txt"
    if not file.is_file():
        file = Path(lists) / "splits.txt"
    lines = read_lines(file, "YTF's list of pairs")
    if lines and _is_header(lines[0][1]):
        del lines[0]
    pairs, same, folds = [], [], []
    for number, line in lines:
        fold, pair, genuine = _parse(file, number, line)
        pairs.append(pair)
        same.append(genuine)
        folds.append(fold)
    if not pairs:
        raise ValueError(f"{file}: must list pairs of videos. Received: none.")
    numbers = [number for number, _ in lines]
    refuse_repeats(file, [frozenset(pair) for pair in pairs], numbers=numbers, what="a pair")
    videos = {video: row for row, video in enumerate(dict.fromkeys(v for p in pairs for v in p))}
    images, template = _frames(file, videos, Path(images_dir), on_missing)
    rows = np.array([[videos[video] for video in pair] for pair in pairs])
    return TemplatePairs(
        templates=Templates(
            subjects=np.array([video.split("/")[0] for video in videos]),
            images=images,
            template=template,
        ),
        first=rows[:, 0],
        second=rows[:, 1],
        same=np.array(same),
        folds=np.array(folds),
    )


def _is_header(line: str) -> bool:
    """Whether a line is five column names: words, unlike the numbers and videos of a pair."""
    fields = [field.strip() for field in line.split(",")]
    return len(fields) == 5 and all(field.replace(" ", "").isalpha() for field in fields)


def _parse(
    file: str | os.PathLike[str], number: int, line: str
) -> tuple[int, tuple[str, str], bool]:
    rule = "must be 'fold, pair, NAME/VIDEO, NAME/VIDEO, 1 for one person or 0'."
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != 5 or not is_count(fields[0]) or fields[4] not in ("0", "1"):
        raise bad_line(file, number, rule, line)
    pair, genuine = (fields[2], fields[3]), fields[4] == "1"
    names = [video.split("/") for video in pair]
    if any(len(parts) != 2 or not all(parts) or ".." in parts for parts in names):
        raise bad_line(file, number, rule, line)
    if (names[0][0] == names[1][0]) != genuine or pair[0] == pair[1]:
        raise bad_line(file, number, rule, line)
    return int(fields[0]), pair, genuine


def _frames(
    file: str | os.PathLike[str], videos: dict[str, int], images_dir: Path, on_missing: str
) -> tuple[tuple[Path, ...], npt.NDArray[Any]]:
    images, template, missing = [], [], []
    for video, row in videos.items():
        folder = images_dir / video
        found = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)
        images += found
        template += [row] * len(found)
        if not found:
            missing.append(folder)
    if missing and (on_missing == "refuse" or len(missing) == len(videos)):
        listed = "\n".join(f"  {folder}" for folder in missing[:10])
        raise FileNotFoundError(
            f"Every video named by {file} must be a folder of frames, {' or '.join(SUFFIXES)}. "
            f"Received: {len(missing):,} of {len(videos):,} without a frame, for example:\n"
            f"{listed}\nIf the detector found no face in a few videos, on_missing='reject' "
            "(--on-missing reject) counts their pairs as rejected."
        )
    return tuple(images), np.array(template, int)
