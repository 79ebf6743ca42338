"""People among distractors: what MegaFace and Trillion Pairs measure.

The images of a person are *mates*; distractors show other people. For each ordered pair of mates
(g, p), g joins the distractors as gallery and p is searched:

    rank-1 = share of the ordered pairs with s(g, p) > s(d, p) for every distractor d

The other mates of p are not in that gallery; in `identify` all are, and the best one counts. For
verification the pairs of mates are genuine and all (p, d) are impostors. FaceX-Zoo counts a tie
with a distractor as found; here a tie counts as missed.

Kemelmacher-Shlizerman, Seitz, Miller, Brossard, "The MegaFace Benchmark: 1 Million Faces for
Recognition at Scale", CVPR 2016.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import embedding_rows, identifiers
from keras_facemargin.evaluate.cosine import cosine_scores_of_pairs, require_one_width
from keras_facemargin.evaluate.identification.gallery import (
    best_of_gallery,
    largest_scores_of_others,
)
from keras_facemargin.evaluate.identification.identification import LAST_RANK
from keras_facemargin.evaluate.measures import Measures
from keras_facemargin.evaluate.verification.curve import (
    Roc,
    TarAtFar,
    allowed_false_accepts,
    count_descending,
)

# Scores of false accepts in memory: a multiple of the number that the largest rate allows, for
# draws of people, and a minimum, for a curve.
HELD, FEWEST_HELD = 2, 1_000


@dataclasses.dataclass(frozen=True, eq=False)
class AmongDistractors(Measures):
    """The result of `search_among_distractors`.

    Attributes:
        rank_1: rate of identification, in [0, 1].
        tar_at_far: a `TarAtFar` for each target rate, some perhaps not `supported`.
        probes: number of images of the people searched.
        people: number of people.
        searches: number of ordered pairs of mates.
        distractors: number of distractors.
        genuine: float64 ``(searches / 2,)``, the score of each pair of mates, once.
        first, second: int ``(searches / 2,)``, the two probes of each such pair.
        best, nearest: float64 and int ``(probes, R)``, the best scores of each probe with
            distractors, descending, and the rows of these distractors; R is 50, or the number of
            distractors if that is less.
        largest, largest_probes: float64 and int ``(K,)``, the largest scores of probes with
            distractors, descending, and the probe of each.
        numbers: int ``(probes,)``, the person of each, counted from 0.
        left_out: number of missing images, which are not part of the protocol then.

    The arrays are not part of `to_dict`.
    """

    rank_1: float
    tar_at_far: tuple[TarAtFar, ...]
    probes: int
    people: int
    searches: int
    distractors: int
    genuine: npt.NDArray[Any] = dataclasses.field(repr=False)
    first: npt.NDArray[Any] = dataclasses.field(repr=False)
    second: npt.NDArray[Any] = dataclasses.field(repr=False)
    best: npt.NDArray[Any] = dataclasses.field(repr=False)
    nearest: npt.NDArray[Any] = dataclasses.field(repr=False)
    largest: npt.NDArray[Any] = dataclasses.field(repr=False)
    largest_probes: npt.NDArray[Any] = dataclasses.field(repr=False)
    numbers: npt.NDArray[Any] = dataclasses.field(repr=False)
    left_out: int = 0

    @property
    def ranks(self) -> npt.NDArray[np.intp]:
        """int ``(searches,)``, the rank of the mate, R + 1 if it is beyond R.

        The first half are searches of each pair's first image, the second half of its second.
        """
        beaten = [
            np.count_nonzero(self.best[side] >= self.genuine[:, None], axis=1)
            for side in (self.first, self.second)
        ]
        return 1 + np.concatenate(beaten)

    def cmc(self) -> npt.NDArray[np.float64]:
        """The share of searches whose mate is among the 1, 2, ..., R best, ``(R,)``."""
        last = self.best.shape[1]
        return np.bincount(self.ranks, minlength=last + 2)[1 : last + 1].cumsum() / self.searches

    @property
    def curve(self) -> Roc:
        """TAR over FAR of the largest scores; all other scores enter at once, at -inf."""
        scores = np.append(self.genuine, self.largest)
        order = np.argsort(scores)[::-1]
        curve = count_descending(scores[order], order < len(self.genuine))
        return curve.with_all(self.probes * self.distractors)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for a JSON file; rates that are not supported are ``None``."""
        found = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "tar_at_far" and field.repr
        }
        return found | {"tar_at_far": [dataclasses.asdict(entry) for entry in self.tar_at_far]}

    def rows(self) -> list[tuple[str, str]]:
        """(measure, value) as text, for a table."""
        rows = [("Rank-1", f"{self.rank_1:.2%}")]
        rows += [(f"TAR @ FAR {entry.target:.3g}", str(entry)) for entry in self.tar_at_far]
        searches = f"{self.searches:,}, {self.probes:,} images of {self.people:,} people"
        rows.append((f"Searches among {self.distractors:,} distractors", searches))
        if self.left_out:
            rows.append(("Missing images, left out", f"{self.left_out:,}"))
        return rows


def search_among_distractors(
    probes: npt.ArrayLike,
    subjects: npt.ArrayLike,
    distractors: npt.ArrayLike,
    *,
    fars: Sequence[float],
    progress: bool = True,
) -> AmongDistractors:
    """Rank-1 and TAR at FAR of people among distractors, exactly, in bounded memory.

    The scores are the float64 cosines of `cosine_scores`. All probes are multiplied with all
    distractors twice. Memory beyond the arguments is that of `identify` and about 50 bytes for each
    allowed false accept.

    Args:
        probes: ``(P, D)`` float embeddings, of any length but zero.
        subjects: ``(P,)`` integers or strings, the people. A person with one image is not searched,
            but the pairs with distractors are impostors.
        distractors: ``(M, D)`` float, of other people.
        fars: target false accept rates, each in (0, 1).
        progress: whether to draw progress bars on standard error.

    Returns:
        An `AmongDistractors`.

    Raises:
        ValueError: no person has two images, shapes do not fit, a row is zero or not finite, or a
            rate is not in (0, 1).

    Example:
        >>> probes = [[1.0, 0.0], [0.9, 0.1], [0.2, 0.8]]
        >>> found = search_among_distractors(
        ...     probes, ["ann", "ann", "ann"], [[0.0, 1.0], [0.5, 0.5]], fars=[0.4], progress=False
        ... )
        >>> found.searches, round(found.rank_1, 2), found.tar_at_far[0].tar
        (6, 0.33, 0.3333333333333333)
    """
    probes, (subjects,) = embedding_rows(probes, "probes"), identifiers(subjects=subjects)
    distractors = embedding_rows(distractors, "distractors")
    require_one_width(probes=probes, distractors=distractors)
    if subjects.shape != probes.shape[:1]:
        raise ValueError(
            "`subjects` must hold one subject per probe. "
            f"Received: shapes {subjects.shape} and {probes.shape}."
        )
    people, numbers = np.unique(subjects, return_inverse=True)
    first, second = _pairs_of_mates(numbers)
    if not len(first):
        raise ValueError(
            "A search among distractors needs people with two images. "
            f"Received: {len(people):,} people with one image each."
        )
    impostors = len(probes) * len(distractors)
    allowed = [allowed_false_accepts(far, impostors) for far in fars]
    genuine = cosine_scores_of_pairs(probes, probes, first=first, second=second)
    none = np.full(len(distractors), -1)
    best, nearest = best_of_gallery(distractors, probes, LAST_RANK, progress=progress)
    hits = sum(int(np.count_nonzero(genuine > best[side, 0])) for side in (first, second))
    largest, rows = largest_scores_of_others(
        distractors,
        probes,
        gallery_labels=none,
        probe_labels=numbers,
        count=max(HELD * max(allowed), FEWEST_HELD) + 1,
        progress=progress,
    )
    return AmongDistractors(
        rank_1=hits / (2 * len(first)),
        tar_at_far=tuple(
            _tar_at_far(far, count, impostors, genuine, largest)
            for far, count in zip(fars, allowed, strict=True)
        ),
        probes=len(probes),
        people=len(people),
        searches=2 * len(first),
        distractors=len(distractors),
        genuine=genuine,
        first=first,
        second=second,
        best=best,
        nearest=nearest,
        largest=largest,
        largest_probes=rows,
        numbers=numbers,
    )


def _tar_at_far(
    far: float,
    allowed: int,
    impostors: int,
    genuine: npt.NDArray[np.float64],
    largest: npt.NDArray[np.float64],
) -> TarAtFar:
    """`Roc.tar_at_far` from the largest impostor scores only."""
    if not allowed:
        return TarAtFar(far, impostors)
    limit = largest[allowed]  # one accept too many: the threshold is just above it
    return TarAtFar(
        far,
        impostors,
        tar=float(np.mean(genuine > limit)),
        far=float(np.count_nonzero(largest > limit) / impostors),
        threshold=float(np.nextafter(limit, np.inf)),
    )


def _pairs_of_mates(
    numbers: npt.NDArray[np.intp],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows (first, second) of each pair of one person, once."""
    order = np.argsort(numbers, kind="stable")
    firsts, seconds = [], []
    for rows in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
        one, two = np.triu_indices(len(rows), k=1)
        firsts.append(rows[one])
        seconds.append(rows[two])
    return np.concatenate(firsts), np.concatenate(seconds)
