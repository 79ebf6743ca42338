"""Thresholds and likelihood ratios from every pair of a set of faces."""

import typing
from collections.abc import Sequence

from keras_facemargin.zoo.parts import Likelihood, Threshold, Thresholds

if typing.TYPE_CHECKING:
    import numpy.typing as npt

MOST_IMPOSTORS = 200_000
RATES = (1e-2, 1e-3, 1e-4, 1e-5)
REPLICATES = 1_000


def calibrate(
    embeddings: "npt.ArrayLike",
    labels: "npt.ArrayLike",
    fars: Sequence[float] | None = None,
    *,
    data: str,
    progress: bool = True,
) -> Thresholds:
    """The thresholds for false accept rates, over every pair of a set of faces.

    They are the conservative ones: the smallest at which at most a share `far` of the pairs of two
    people is accepted. Calibrate on people whom the embedder has not been trained on and will not
    be tested on.

    Args:
        embeddings: ``(N, 2 * D)``, the embeddings of the images with those of the mirror images
            appended, as `keras_facemargin.evaluate.embed` makes them. Their first half is the
            embeddings of the images alone.
        labels: ``(N,)``, the person in each image.
        fars: false accept rates, each in ``[1 / impostor pairs, 1)``; None for 1e-2, 1e-3, 1e-4
            and 1e-5, as far as there are enough pairs.
        data: description of the faces, for the card.
        progress: whether to draw a progress bar on standard error.

    Returns:
        `Thresholds`, from the highest rate to the lowest.

    Raises:
        ValueError: as `verify_all_pairs`; the embeddings are not of that shape; there are too few
            impostor pairs for a rate.

    Example:

    >>> mirrored = [[1.0, 0.0, 1.0, 0.1], [0.9, 0.1, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0],
    ...             [0.1, 0.9, 0.2, 0.8]]
    >>> found = calibrate(mirrored, [1, 1, 2, 2], [0.3], data="four faces", progress=False)
    >>> found.single[0].impostor_pairs, found.single[0].tar
    (4, 1.0)
    """
    import numpy as np

    rows = np.asarray(embeddings)
    if rows.ndim != 2 or rows.shape[1] % 2:
        raise ValueError(
            "`embeddings` must be of shape (N, 2 * D), as embed(..., flip=True) makes them. "
            f"Received: shape {rows.shape}"
        )
    single = find_thresholds(rows[:, : rows.shape[1] // 2], labels, fars, data, progress)
    return Thresholds(single=single, mirrored=find_thresholds(rows, labels, fars, data, progress))


def fit_likelihood(
    embeddings: "npt.ArrayLike", labels: "npt.ArrayLike", *, data: str
) -> Likelihood:
    """The map from cosine to likelihood ratio, over the pairs of a set of faces.

    Every genuine pair counts and up to 200,000 impostor pairs, drawn from all with one seed.

    Args:
        embeddings: ``(N, 2 * D)``, as for `calibrate`.
        labels: ``(N,)``, the person in each image.
        data: description of the faces, for the card.

    Returns:
        A `Likelihood`.

    Raises:
        ValueError: as `fit_logistic`: there are fewer than 1,000 impostor pairs, or the scores of
            genuine and impostor pairs do not overlap.
    """
    import numpy as np

    from keras_facemargin.evaluate import cosine_scores
    from keras_facemargin.evaluate.verification import fit_logistic

    rows = np.asarray(embeddings)
    people, *genuine = _genuine_pairs(labels)
    every = len(rows) * (len(rows) - 1) // 2
    if every <= 4 * MOST_IMPOSTORS:
        drawn = np.stack(np.triu_indices(len(rows), k=1))
    else:
        drawn = np.random.default_rng(0).integers(0, len(rows), (2, 2 * MOST_IMPOSTORS))
    impostor = drawn[:, people[drawn[0]] != people[drawn[1]]]
    impostor = np.random.default_rng(0).permutation(impostor, axis=1)[:, :MOST_IMPOSTORS]
    first, second = np.concatenate([np.stack(genuine), impostor], axis=1)
    same = people[first] == people[second]
    found = fit_logistic(cosine_scores(rows[first], rows[second]), same)
    return Likelihood(
        slope=found.slope,
        intercept=found.intercept,
        data=data,
        people=int(people.max()) + 1,
        genuine_pairs=int(np.count_nonzero(same)),
        impostor_pairs=int(np.count_nonzero(~same)),
    )


def find_thresholds(
    embeddings: "npt.ArrayLike",
    labels: "npt.ArrayLike",
    fars: Sequence[float] | None,
    data: str,
    progress: bool,
) -> tuple[Threshold, ...]:
    """As `calibrate`, for one kind of embedding, ``(N, D)``."""
    import numpy as np

    from keras_facemargin.evaluate import cosine_scores, verify_all_pairs

    rates = RATES if fars is None else sorted(fars, reverse=True)
    found = verify_all_pairs(embeddings, labels, fars=rates, progress=progress)
    entries = list(found.tar_at_far)
    if fars is None and any(entry.supported for entry in entries):
        entries = [entry for entry in entries if entry.supported]
    for entry in entries:
        if not entry.supported:
            raise ValueError(
                "A threshold needs at least 1 / far impostor pairs: a rate that no pair could show "
                f"is a guess. Received: far={entry.target:g}, which is {entry}. Calibrate on more "
                f"people, or for a rate of at least {1 / entry.impostors:.2g}."
            )
    rows = np.asarray(embeddings)
    people, first, second = _genuine_pairs(labels)
    scores = cosine_scores(rows[first], rows[second])
    thresholds = []
    for entry in entries:
        cosine = typing.cast(float, entry.threshold)  # None only if it is not supported
        thresholds.append(
            Threshold(
                cosine=cosine,
                far=entry.target,
                data=data,
                genuine_pairs=found.genuines,
                impostor_pairs=found.impostors,
                tar=typing.cast(float, entry.tar),
                tar_interval=_share_interval(scores >= cosine, people[first]),
            )
        )
    return tuple(thresholds)


def _genuine_pairs(
    labels: "npt.ArrayLike",
) -> "tuple[npt.NDArray[typing.Any], npt.NDArray[typing.Any], npt.NDArray[typing.Any]]":
    """The number of each row's person, and the two rows of every genuine pair."""
    import numpy as np

    people = np.unique(np.asarray(labels), return_inverse=True)[1]
    members = np.split(np.argsort(people, kind="stable"), np.cumsum(np.bincount(people))[:-1])
    pairs = [each[np.stack(np.triu_indices(len(each), k=1))] for each in members]
    first, second = np.concatenate(pairs, axis=1)
    return people, first, second


def _share_interval(
    accepted: "npt.NDArray[typing.Any]", people: "npt.NDArray[typing.Any]"
) -> tuple[float, float]:
    """95 % interval of the share of accepted genuine pairs, over people.

    If all are accepted, resampling rejects none either; the lower end is then the exact binomial
    one, as in `rates_by_group`.
    """
    import numpy as np

    from keras_facemargin.evaluate import interval
    from keras_facemargin.evaluate.uncertainty import LEVEL

    if accepted.all():
        return ((1 - LEVEL) / 2) ** (1 / len(accepted)), 1.0
    units = np.unique(people, return_inverse=True)[1]
    pairs, right = np.bincount(units), np.bincount(units, accepted)
    rng = np.random.default_rng(0)
    chance = np.full(len(pairs), 1 / len(pairs))
    drawn = (rng.multinomial(len(pairs), chance) for _ in range(REPLICATES))
    ends = interval([times @ right / (times @ pairs) for times in drawn])
    return ends.low, ends.high
