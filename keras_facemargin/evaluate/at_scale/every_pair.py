"""All pairs of a set of embeddings: in memory for small sets, streamed and exact for large ones.

N embeddings have N (N - 1) / 2 pairs, and a false accept rate of 1e-8 needs at least a hundred
million impostor pairs. `verify_all_pairs` counts the pairs without keeping them. Its answer is not
an approximation: `verification` gives the same on the full list of `cosine_scores`.

float32 products select pairs and float64 decides, see `refine`. The windows are estimated from a
sample of the rows before the first sweep over the blocks, so that the sweep can collect the pairs
inside them. If an estimate is wrong, a second sweep uses the windows of the full histogram. Wrong
estimates cost time, never exactness.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.at_scale.histogram import ScoreHistogram, float32_units
from keras_facemargin.evaluate.at_scale.refine import (
    FARS,
    PairRates,
    exact_curve,
    merged,
    windows_of,
)
from keras_facemargin.evaluate.at_scale.sweep import (
    State,
    Sweep,
    Work,
    checked_faces,
    digest_of,
    guessed_windows,
)
from keras_facemargin.evaluate.cosine import cosine_scores_of_pairs, unit_rows
from keras_facemargin.evaluate.verification.curve import Roc, allowed_false_accepts

# All pairs of 5,000 embeddings are 12.5 million scores and about 400 MB while they are formed.
ALL_PAIRS_LIMIT = 5_000


def all_pairs(
    embeddings: npt.ArrayLike, labels: npt.ArrayLike
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Cosine scores of every pair of different embeddings, for sets that fit in memory.

    Args:
        embeddings: ``(N, D)``, N at most `ALL_PAIRS_LIMIT`.
        labels: ``(N,)``, the person of each row.

    Returns:
        ``scores`` float64 and ``same`` bool, ``(N * (N - 1) / 2,)`` each, in the order (0, 1),
        (0, 2), ..., (1, 2), ...

    Raises:
        ValueError: if there are more rows than the limit or fewer than two, lengths differ, or a
            row is zero or not finite.

    Example:
        >>> scores, same = all_pairs([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]], labels=[7, 7, 8])
        >>> scores.tolist(), same.tolist()
        ([1.0, 0.0, 0.0], [True, False, False])
    """
    embeddings, labels = checked_faces(embeddings, labels)
    if not 2 <= len(embeddings) <= ALL_PAIRS_LIMIT:
        raise ValueError(
            f"`all_pairs` holds every pair in memory and takes 2 to {ALL_PAIRS_LIMIT:,} "
            f"embeddings. Received: {len(embeddings):,}. `verify_all_pairs` takes any number."
        )
    units = unit_rows(embeddings, "embeddings")
    upper = np.triu(np.ones((len(units), len(units)), dtype=bool), k=1)
    scores = np.clip((units @ units.T)[upper], -1.0, 1.0)
    return scores, (labels[:, None] == labels)[upper]


def verify_all_pairs(
    embeddings: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    fars: Sequence[float] = FARS,
    state: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> PairRates:
    """EER and TAR at FAR over every pair of different embeddings, exact, in bounded memory.

    The score of a pair is the float64 cosine that `cosine_scores` gives for it, so the result
    equals `tar_at_far` and `equal_error_rate` on the list of all pairs, to the last bit, whatever
    BLAS, threads or blocks were used; equal scores enter together. The rule is the conservative one
    (the largest TAR whose FAR does not exceed the target), and a target below ``1 / impostors`` has
    no number.

    Time is 1.5 to 2 times that of the float32 product of all pairs. Memory beyond the embeddings is
    a float32 copy of them, 20 MB for a block, and 12 bytes for every pair near a threshold (at most
    96 MB); these pairs are scored again in float64.

    Args:
        embeddings: ``(N, D)`` float, of any length but zero. They are not changed.
        labels: ``(N,)`` integers or strings, the person of each row.
        fars: target false accept rates, each in (0, 1).
        state: a file that saves the progress about every ten seconds, or ``None``. If it exists,
            the work resumes from it; it is removed at the end.
        progress: whether to draw a progress bar on standard error.

    Returns:
        A `PairRates`.

    Raises:
        ValueError: if shapes do not fit, a row is zero or not finite, a rate is not in (0, 1),
            there are not both genuine and impostor pairs, `state` belongs to other data or is not a
            state file, or too many pairs are near a threshold (at FAR 1e-1, with more than about
            250,000 embeddings).
        OSError: if `state` cannot be read or written.

    Example:
        >>> embeddings = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]
        >>> result = verify_all_pairs(embeddings, ["a", "a", "b", "b"], fars=[0.3], progress=False)
        >>> result.eer, str(result.tar_at_far[0])
        (0.0, '100.00% (threshold 0.1104)')
    """
    embeddings, labels = checked_faces(embeddings, labels)
    _, labels, people = np.unique(labels, return_inverse=True, return_counts=True)
    genuines = sum(n * (n - 1) // 2 for n in people.tolist())
    impostors = len(labels) * (len(labels) - 1) // 2 - genuines
    if not genuines or not impostors:
        raise ValueError(
            "Verification needs genuine and impostor pairs. "
            f"Received: {len(labels):,} embeddings of {len(people):,} people, which have "
            f"{genuines:,} genuine and {impostors:,} impostor pairs."
        )
    allowed = [allowed_false_accepts(far, impostors) for far in fars]
    # Sorted by person: genuine pairs are near the diagonal, and most blocks have none.
    order = np.argsort(labels, kind="stable")
    work = Work(
        embeddings=embeddings,
        order=order,
        units=float32_units(embeddings, order),
        labels=labels[order],
        ranks=sorted({count + 1 for count in allowed if count}),
        impostors=impostors,
    )
    digest = None if state is None else digest_of(embeddings, labels, work.ranks)
    curve, histogram = _curve_near_thresholds(work, State(state, digest), progress)
    return PairRates(
        embeddings=len(labels),
        genuines=genuines,
        impostors=impostors,
        eer=curve.equal_error_rate(),
        tar_at_far=tuple(curve.tar_at_far(far) for far in fars),
        histogram=histogram,
    )


def _curve_near_thresholds(work: Work, state: State, progress: bool) -> tuple[Roc, ScoreHistogram]:
    """The `Roc`, exact near every target threshold, and the histogram of all pairs."""
    if state.found is None:
        sweep = Sweep(work, guessed_windows(work))
        if state.file is not None:
            state.save(**sweep.arrays())  # fails now, not after minutes
    else:
        sweep = Sweep.restored(work, state)
    while True:
        sweep.run(state, progress)
        impostor = sweep.everyone - sweep.genuine
        windows = windows_of(work.bins, work.ranks, impostor, sweep.genuine)
        if all(any(a <= low and high <= b for a, b in sweep.windows) for low, high in windows):
            break
        # Wider by another margin: the next sweep's float32 scores may differ a little.
        wider = [(low - work.bins.margin, high + work.bins.margin) for low, high in windows]
        sweep = Sweep(work, merged(wider, work.bins.count), sweep.number + 1)
    pairs, pair_bins = sweep.candidates()

    def score(
        chosen: npt.NDArray[np.intp],
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        row, column = np.divmod(pairs[chosen], len(work.units))
        scores = cosine_scores_of_pairs(
            work.embeddings, work.embeddings, first=work.order[row], second=work.order[column]
        )
        return scores, work.labels[row] == work.labels[column]

    windows = merged(windows, work.bins.count)
    curve = exact_curve(work.bins, windows, impostor, sweep.genuine, pair_bins, score)
    state.remove()
    return curve, sweep.histogram()
