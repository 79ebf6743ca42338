"""InsightFace's verification files (`lfw.bin`, `cfp_fp.bin`, `agedb_30.bin`, ...) and their folds.

Deng, Guo, Xue, Zafeiriou, "ArcFace", 2019, and the authors' repository.
"""

import os

import numpy as np

from keras_facemargin.data.formats.pairs_bin import PairsBin
from keras_facemargin.evaluate.embedding import Embedder
from keras_facemargin.evaluate.verification.pairs import Pairs, evaluate_pairs
from keras_facemargin.evaluate.verification.verification import Verification


def read_bin_pairs(file: str | os.PathLike[str], *, folds: int | None = 10) -> Pairs:
    """Reads an InsightFace verification file, which is a pickle, without executing it.

    The file has no folds. InsightFace cuts its pairs, in their order, into ten folds of equal size
    (the first ones get one pair more if they do not divide). For files made from LFW's official
    list these are the list's folds.

    Args:
        file: the `.bin` file.
        folds: number of folds, at least 2; ``None`` for none, and a result without an accuracy.

    Returns:
        `Pairs` in the order of the file; `folds` counts from 1. Images stay in the file until they
        are read.

    Raises:
        ValueError: as `keras_facemargin.data.PairsBin`, or if a fold would not have pairs of both
            kinds, as in files that list all genuine pairs first.
        OSError: if the file cannot be opened.

    Example:
        >>> from keras_facemargin.data import write_pairs_bin
        >>> from keras_facemargin.images import write_synthetic_faces
        >>> a, b, c, d = write_synthetic_faces("people", num_identities=2, images_per_identity=2)
        >>> write_pairs_bin("four.bin", [a, b, a, c, c, d, b, d], [True, False, True, False])
        >>> pairs = read_bin_pairs("four.bin", folds=2)
        >>> pairs.same, pairs.folds
        (array([ True, False,  True, False]), array([1, 1, 2, 2]))
    """
    if folds is not None and folds < 2:
        raise ValueError(f"`folds` must be at least 2, or None. Received: folds={folds!r}")
    pairs = PairsBin(file)
    numbers = None
    if folds is not None:
        sizes = [len(each) for each in np.array_split(np.arange(len(pairs)), folds)]
        numbers = np.repeat(np.arange(1, folds + 1), sizes)
        for number in range(1, folds + 1):
            kinds = pairs.same[numbers == number]
            if kinds.all() or not kinds.any():
                raise ValueError(
                    f"Each fold needs pairs of both kinds; the {len(pairs):,} pairs of "
                    f"{pairs.file} are cut into {folds} folds in their order. Received: fold "
                    f"{number} with {np.count_nonzero(kinds)} genuine pairs of {len(kinds)}. Pass "
                    "fewer folds, or folds=None."
                )
    return Pairs(
        first=tuple(pairs.images[0::2]),
        second=tuple(pairs.images[1::2]),
        same=pairs.same,
        folds=numbers,
    )


def evaluate_bin(
    embedder: Embedder,
    file: str | os.PathLike[str],
    *,
    folds: int | None = 10,
    flip: bool = True,
    batch_size: int = 64,
    progress: bool = True,
) -> Verification:
    """Verifies the pairs of an InsightFace verification file.

    Implementations differ: InsightFace adds the embeddings of an image and of its mirror image,
    normalises the sum, and searches each fold's threshold on a grid of 400 distances. Here the two
    are concatenated (see `embed`) and the search is exact (see `fold_accuracy`).

    Args:
        embedder, flip, batch_size, progress: as `keras_facemargin.evaluate.embed`.
        file, folds: as `read_bin_pairs`.

    Returns:
        A `Verification`. Its scores are in the order of the file.

    Raises:
        ValueError, OSError: as `read_bin_pairs` and `embed`.

    Example:
        >>> from keras_facemargin.data import write_pairs_bin
        >>> from keras_facemargin.images import write_synthetic_faces
        >>> a, _, c, _ = write_synthetic_faces("faces", num_identities=2, images_per_identity=2)
        >>> write_pairs_bin("four.bin", [a, a, a, c, c, c, c, a], [True, False, True, False])
        >>> def brightness(images):
        ...     return images.mean(axis=1).reshape(len(images), -1)
        >>> evaluate_bin(brightness, "four.bin", folds=2, progress=False).accuracy.mean
        1.0
    """
    return evaluate_pairs(
        embedder,
        read_bin_pairs(file, folds=folds),
        flip=flip,
        batch_size=batch_size,
        progress=progress,
    )
