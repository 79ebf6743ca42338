"""Celebrities in Frontal-Profile: 500 people, ten folds of 350 genuine and 350 impostor pairs.

CFP-FF compares frontal images with frontal ones, CFP-FP frontal with profile ones. The paper
reports accuracy, EER and AUC as means over the folds: `fold_accuracy` and `verify_by_fold`.

Sengupta, Chen, Castillo, Patel, Chellappa, Jacobs, "Frontal to Profile Face Verification in the
Wild", WACV 2016.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_facemargin.evaluate.protocols.lists import (
    bad_line,
    find_images,
    is_count,
    read_lines,
    refuse_repeats,
)
from keras_facemargin.evaluate.verification.pairs import Pairs

KINDS = ("FF", "FP")
FOLDS = 10


def read_cfp(
    lists: str | os.PathLike[str],
    images_dir: str | os.PathLike[str],
    kind: str,
    *,
    on_missing: str = "refuse",
) -> Pairs:
    """Reads the official lists in the folder `Protocol`.

    `Pair_list_F.txt` and `Pair_list_P.txt` number the frontal and the profile images,
    ``1 ../Data/Images/001/frontal/01.jpg``; `Split/FP/01/same.txt` and `diff.txt` hold the pairs of
    a fold as ``number,number``, the first one of a frontal image.

    Args:
        lists: the folder `Protocol`.
        images_dir: the folder ``Images`` of the list, with ``001/frontal/01.jpg`` or its crop as
            ``.png``.
        kind: "FF" or "FP".
        on_missing: as `read_pairs`.

    Returns:
        `Pairs`, fold by fold, genuine before impostor; `folds` counts from 1.

    Raises:
        ValueError: if `kind` is neither, or a list breaks its format (naming the line).
        FileNotFoundError: if a list or an image is missing, the latter as `read_pairs`.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {KINDS}. Received: kind={kind!r}.")
    lists = Path(lists)
    numbered = [_read_images(lists / f"Pair_list_{letter}.txt") for letter in kind]
    pairs, same, folds = [], [], []
    for fold in range(1, FOLDS + 1):
        for name, genuine in (("same.txt", True), ("diff.txt", False)):
            file = lists / "Split" / kind / f"{fold:02d}" / name
            found = _read_fold(file, numbered, genuine)
            pairs += found
            same += [genuine] * len(found)
            folds += [fold] * len(found)
    names = [name for pair in pairs for name in pair]
    images, missing = find_images(names, images_dir, lists / "Split" / kind, on_missing=on_missing)
    return Pairs(
        first=tuple(images[name] for name, _ in pairs),
        second=tuple(images[name] for _, name in pairs),
        same=np.array(same),
        folds=np.array(folds),
        missing=missing,
        people=(
            np.array([first.split("/")[0] for first, _ in pairs]),
            np.array([second.split("/")[0] for _, second in pairs]),
        ),
    )


def _read_images(file: str | os.PathLike[str]) -> list[str]:
    """Images in the order of their numbers, below the folder Images."""
    images: list[str] = []
    numbers = []
    for number, line in read_lines(file, "CFP's list of images"):
        fields = line.split()
        count = str(len(images) + 1)
        if len(fields) != 2 or fields[0] != count or "/Images/" not in fields[1]:
            rule = (
                f"must be the image's number, {count}, and '../Data/Images/PERSON/frontal/01.jpg'."
            )
            raise bad_line(file, number, rule, line)
        images.append(fields[1].partition("/Images/")[2])
        numbers.append(number)
    refuse_repeats(file, images, numbers=numbers, what="an image")
    return images


def _read_fold(
    file: str | os.PathLike[str], numbered: Sequence[list[str]], genuine: bool
) -> list[tuple[str, str]]:
    pairs, lines = [], []
    for number, line in read_lines(file, "CFP's list of pairs"):
        fields = line.split(",")
        rule = f"must be two numbers from 1, to {len(numbered[0]):,} and {len(numbered[1]):,}."
        if len(fields) != 2 or not all(is_count(field) for field in fields):
            raise bad_line(file, number, rule, line)
        if any(int(f) > len(images) for f, images in zip(fields, numbered, strict=True)):
            raise bad_line(file, number, rule, line)
        pair = numbered[0][int(fields[0]) - 1], numbered[1][int(fields[1]) - 1]
        people = {name.split("/")[0] for name in pair}
        if (len(people) == 1) != genuine or pair[0] == pair[1]:
            rule = f"must be two images of {'one person' if genuine else 'two people'}."
            raise bad_line(file, number, rule, f"{line}: {pair[0]}, {pair[1]}")
        pairs.append(pair)
        lines.append(number)
    # The official FF has 130 pairs in both orders, and none twice in one.
    refuse_repeats(file, pairs, numbers=lines, what="a pair")
    return pairs
