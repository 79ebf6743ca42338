"""IJB-B and IJB-C: one fixed list each, 1:1, 1:N in two galleries, and IJB-C's covariates.

1:1 reports TAR at FAR down to 1e-6 over all pairs (`evaluate_template_pairs`), 1:N rank-1, 5, 10
and TPIR at FPIR 1e-1 and 1e-2 as the mean over the galleries (`evaluate_searches`): each person is
in one gallery and a non-mated probe of the other. The covariate protocol compares single images;
its measure is a ROC for each value of a covariate (`verify_by_value`).

| | IJB-B | IJB-C |
| --- | --- | --- |
| people, in the galleries | 1,845 | 3,531, 1,772 + 1,759 |
| templates, probes of them | 12,115, 10,270 | 23,124, 19,593 |
| genuine, impostor pairs | 10,270, 8,000,000 | 19,557, 15,638,932 |

Whitelam et al., "IARPA Janus Benchmark-B Face Dataset", CVPR workshops 2017; Maze et al., "IARPA
Janus Benchmark - C: Face Dataset and Protocol", ICB 2018.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.protocols.janus import Collector
from keras_facemargin.evaluate.protocols.lists import (
    bad_line,
    is_number,
    line_of,
    note_repeats,
    read_integers,
    read_lines,
)
from keras_facemargin.evaluate.templates import TemplatePairs, Templates, TemplateSearches

GALLERIES = {"ijbb": ("S1", "S2"), "ijbc": ("G1", "G2")}
COVARIATES = ("GENDER", "SKINTONE", "AGE", "INDOOR_OUTDOOR", "FACIAL_HAIR")

# IJB-B and IJB-C number their templates once for all lists of 1:1 and 1:N.
_SPACE = None


def read_ijb(
    name: str,
    lists: str | os.PathLike[str],
    images_dir: str | os.PathLike[str],
    *,
    on_missing: str = "refuse",
) -> TemplatePairs:
    """Reads the 1:1 lists of IJB-B or IJB-C, in NIST's form or in InsightFace's.

    NIST's (for IJB-C): `ijbc_1N_gallery_G1.csv`, `ijbc_1N_gallery_G2.csv` and
    `ijbc_1N_probe_mixed.csv` hold a line for each image of each template,
    `ijbc_11_G1_G2_matches.csv` the pairs, ``template,template``. Crops are named as in `read_ijba`,
    by image and sighting.

    InsightFace's folder `meta` has the same three tables, and `ijbc_face_tid_mid.txt`, ``IMAGE
    template medium``, `ijbc_template_pair_label.txt`, ``template template label``, and
    `ijbc_name_5pts_score.txt`, ``IMAGE x1 y1 ... x5 y5 score``. Images are then named as in these,
    ``1.jpg``, and the scores are qualities. This form is used if `ijbc_face_tid_mid.txt` exists.

    Args:
        name: "ijbb" or "ijbc". IJB-B's galleries are called S1 and S2 in its files.
        lists: the folder with the lists.
        images_dir: folder of the crops.
        on_missing: as `read_pairs`; a template leaves its missing images out, and fails to enrol if
            it has no image.

    Returns:
        `TemplatePairs` in the order of the list, without folds.

    Raises:
        ValueError: if `name` is neither, or a list breaks its format (naming the line).
        FileNotFoundError: if a list or an image is missing, the latter as `read_pairs`.
    """
    lists, collector = Path(lists), Collector()
    _read_tables(name, lists, collector)
    one, two = GALLERIES[name]
    labels = None
    file = lists / f"{name}_11_{one}_{two}_matches.csv"
    if (lists / f"{name}_face_tid_mid.txt").is_file():
        file = lists / f"{name}_template_pair_label.txt"
        numbers = read_integers(file, 3, None, "a line is 'template template label'.")
        listed, labels = numbers[:, :2], numbers[:, 2]
    else:
        listed = read_integers(file, 2, ",", "a line is 'template,template'.")
    rows = collector.rows(_SPACE, listed, file)
    collector.check_pairs(rows, file)
    templates = _templates(name, lists, collector, images_dir, on_missing)
    _, people = np.unique(templates.subjects, return_inverse=True)
    same = people[rows[:, 0]] == people[rows[:, 1]]
    if labels is not None and not np.array_equal(same, labels):
        row = int(np.flatnonzero(same != labels)[0])
        rule = "the label must be 1 if both templates are of one person in the tables, else 0."
        raise bad_line(file, line_of(file, row), rule, " ".join(map(str, numbers[row])))
    return TemplatePairs(templates, rows[:, 0], rows[:, 1], same)


def read_ijb_search(
    name: str,
    lists: str | os.PathLike[str],
    images_dir: str | os.PathLike[str],
    *,
    on_missing: str = "refuse",
) -> TemplateSearches:
    """Reads the 1:N lists of IJB-B or IJB-C: all mixed probes in each of the two galleries.

    Args and errors are those of `read_ijb`.

    Returns:
        `TemplateSearches`, one for each gallery.
    """
    lists, collector = Path(lists), Collector()
    galleries, probes = _read_tables(name, lists, collector)
    templates = _templates(name, lists, collector, images_dir, on_missing)
    return TemplateSearches(templates, {of: (rows, probes) for of, rows in galleries.items()})


def read_ijbc_covariates(
    lists: str | os.PathLike[str], images_dir: str | os.PathLike[str], *, on_missing: str = "refuse"
) -> TemplatePairs:
    """Reads IJB-C's 1:1 covariate protocol: single images, 47,404,001 pairs of 140,739.

    `ijbc_11_covariate_probe_reference.csv` holds the images, a template each, with GENDER,
    SKINTONE, AGE, INDOOR_OUTDOOR and FACIAL_HAIR in NIST's codes; `ijbc_11_covariate_matches.csv`
    the pairs. Crops are named as in `read_ijba`.

    Args and errors are those of `read_ijb`; so are the returns, with these covariates.
    """
    lists, collector = Path(lists), Collector(COVARIATES)
    collector.read(lists / "ijbc_11_covariate_probe_reference.csv", _SPACE)
    file = lists / "ijbc_11_covariate_matches.csv"
    listed = read_integers(file, 2, ",", "a line is 'template,template'.")
    rows = collector.rows(_SPACE, listed, file)
    collector.check_pairs(rows, file)
    templates = collector.templates(images_dir, lists, on_missing)
    _, people = np.unique(templates.subjects, return_inverse=True)
    first, second = rows.T
    return TemplatePairs(templates, first, second, people[first] == people[second])


def _read_tables(
    name: str, lists: Path, collector: Collector
) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[Any]]:
    """Reads the galleries and the probes: gallery -> rows, and the probes' rows."""
    if name not in GALLERIES:
        raise ValueError(f"`name` must be one of {tuple(GALLERIES)}. Received: name={name!r}.")
    galleries = {
        gallery: collector.read(lists / f"{name}_1N_gallery_{gallery}.csv", _SPACE)
        for gallery in GALLERIES[name]
    }
    return galleries, collector.read(lists / f"{name}_1N_probe_mixed.csv", _SPACE)


def _templates(
    name: str,
    lists: Path,
    collector: Collector,
    images_dir: str | os.PathLike[str],
    on_missing: str,
) -> Templates:
    file, quality = lists / f"{name}_face_tid_mid.txt", None
    if not file.is_file():
        return collector.templates(images_dir, lists, on_missing)
    images, numbers = [], []
    for number, line in read_lines(file, "InsightFace's list of images"):
        fields = line.split()
        if len(fields) != 3 or not all(map(is_number, fields[1:])):
            raise bad_line(file, number, "must be 'IMAGE template medium'.", line)
        images.append(fields[0])
        numbers.append(fields[1:])
    note_repeats(file, list(zip(images, (of for of, _ in numbers), strict=True)), "images")
    template, media = np.array(numbers, np.int64).reshape(-1, 2).T
    collector.replace_images(images, template, media, _SPACE, file)
    scores = lists / f"{name}_name_5pts_score.txt"
    if scores.is_file():
        known = _scores(scores)
        absent = next((image for image in images if image not in known), None)
        if absent is not None:
            raise ValueError(f"{scores}: must have a line for each image. Received: no {absent}.")
        quality = np.array([known[image] for image in images])
    return collector.templates(images_dir, file, on_missing, quality)


def _scores(file: str | os.PathLike[str]) -> dict[str, float]:
    known: dict[str, float] = {}
    for number, line in read_lines(file, "InsightFace's list of points"):
        image, *numbers = line.split()
        try:
            score = float(numbers[-1]) if len(numbers) == 11 else -1.0
        except ValueError:
            score = -1.0
        if not 0 <= score <= 1:
            rule = "must be 'IMAGE x1 y1 ... x5 y5 score', the score in [0, 1]."
            raise bad_line(file, number, rule, line)
        if known.setdefault(image, score) != score:
            raise bad_line(file, number, f"must give {image} one score, {known[image]}.", line)
    return known
