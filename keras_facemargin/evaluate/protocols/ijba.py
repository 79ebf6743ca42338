"""IJB-A: ten splits of 500 people's stills and video frames, 1:1 and 1:N, by templates.

1:1 reports TAR at FAR 1e-1 to 1e-3, 1:N rank-1, 5, 10 and TPIR at FPIR 1e-1 and 1e-2, each as mean
and standard deviation over the splits: `verify_by_fold` and `evaluate_searches`. In 1:N the gallery
of a split lacks 55 of its people; their probes are the non-mated ones.

Klare, Klein, Taborsky, Blanton, Cheney, Allen, Grother, Mah, Jain, "Pushing the Frontiers of
Unconstrained Face Detection and Recognition: IARPA Janus Benchmark A", CVPR 2015.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from keras_facemargin.evaluate.protocols.janus import Collector
from keras_facemargin.evaluate.protocols.lists import read_integers
from keras_facemargin.evaluate.templates import TemplatePairs, TemplateSearches

SPLITS = tuple(range(1, 11))


def read_ijba(
    lists: str | os.PathLike[str],
    images_dir: str | os.PathLike[str],
    *,
    splits: Iterable[int] = SPLITS,
    on_missing: str = "refuse",
) -> TemplatePairs:
    """Reads the 1:1 lists in `IJB-A_11_sets`.

    ``split1/verify_metadata_1.csv`` holds a line for each image of each template,
    ``split1/verify_comparisons_1.csv`` the pairs of templates, ``template,template``. Template
    numbers are of their split.

    Args:
        lists: the folder with `IJB-A_11_sets`.
        images_dir: folder of the crops. An image may show several people, so the name of a crop
            has the image and its sighting: line ``img/10281.jpg`` with SIGHTING_ID 28739 is
            ``img/10281_28739.jpg`` (or ``.png``).
        splits: numbers of the splits to read, from 1 to 10.
        on_missing: as `read_pairs`; a template leaves its missing images out, and fails to enrol if
            it has no image.

    Returns:
        `TemplatePairs` of all splits; `folds` are their numbers. Covariates are GENDER and
        SKIN_TONE.

    Raises:
        ValueError: if `splits` are not such numbers, or a list breaks its format or names an image
            of a template or a pair twice (naming the line).
        FileNotFoundError: if a list or an image is missing, the latter as `read_pairs`.
    """
    folder, collector = Path(lists) / "IJB-A_11_sets", Collector(("GENDER", "SKIN_TONE"), False)
    pairs, folds = [], []
    for split in _checked(splits):
        where = folder / f"split{split}"
        collector.read(where / f"verify_metadata_{split}.csv", split)
        file = where / f"verify_comparisons_{split}.csv"
        listed = read_integers(file, 2, ",", "a line is 'template,template'.")
        pairs.append(collector.rows(split, listed, file))
        collector.check_pairs(pairs[-1], file)
        folds.append(np.full(len(listed), split))
    first, second = np.concatenate(pairs).T
    templates = collector.templates(images_dir, folder, on_missing)
    return TemplatePairs(
        templates=templates,
        first=first,
        second=second,
        same=templates.subjects[first] == templates.subjects[second],
        folds=np.concatenate(folds),
    )


def read_ijba_search(
    lists: str | os.PathLike[str],
    images_dir: str | os.PathLike[str],
    *,
    splits: Iterable[int] = SPLITS,
    on_missing: str = "refuse",
) -> TemplateSearches:
    """Reads the 1:N lists in `IJB-A_1N_sets`: ``split1/search_gallery_1.csv``, ``search_probe_1``.

    Args and errors are those of `read_ijba`; the lists have the layout of its metadata.

    Returns:
        `TemplateSearches`, one for each split.
    """
    folder, collector = Path(lists) / "IJB-A_1N_sets", Collector()
    searches = {}
    for split in _checked(splits):
        where = folder / f"split{split}"
        gallery, probes = (
            collector.read(where / f"search_{part}_{split}.csv", (split, part))
            for part in ("gallery", "probe")
        )
        searches[str(split)] = gallery, probes
    return TemplateSearches(collector.templates(images_dir, folder, on_missing), searches)


def _checked(splits: Iterable[int]) -> tuple[int, ...]:
    splits = tuple(splits)
    if not splits or not set(splits) <= set(SPLITS) or len(set(splits)) < len(splits):
        raise ValueError(
            f"`splits` must be different numbers from 1 to 10. Received: splits={splits}."
        )
    return splits
