"""1:N identification: closed-set ranks and open-set rates.

A *gallery* holds templates of known people; a *probe* is searched in it. A probe is *mated* if its
person is in the gallery. Scores are the float64 cosines of `cosine_scores`, and ranks do not depend
on the BLAS (see `gallery`). If a person has several templates, the best one counts.

Ties count against the system: an impostor that scores as high as the mate ranks before it, and a
score equal to the threshold raises an alarm.

Grother, Ngan, "Face Recognition Vendor Test", NIST IR 8009, and Maze et al., "IARPA Janus Benchmark
C", 2018, define the measures.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.identification.gallery import (
    Search,
    checked_templates,
    largest_of_others,
)
from keras_facemargin.evaluate.measures import Measures
from keras_facemargin.evaluate.verification.curve import (
    Roc,
    allowed_false_accepts,
    count_descending,
)

FPIRS = (1e-1, 1e-2, 1e-3)
RANKS = (1, 5, 10)
RULES = ("nist", "ijb_evals")

# Ranks that a CMC is drawn to.
LAST_RANK = 50


@dataclasses.dataclass(frozen=True)
class TpirAtFpir:
    """The true positive identification rate at a false positive one, if probes support it.

    Attributes:
        target: the target false positive identification rate, in (0, 1).
        rank: the mate must be among this many best.
        non_mated: number of probes without a mate; they resolve rates down to ``1 / non_mated``.
        tpir: share of mated probes found; ``None`` if `target` is below ``1 / non_mated``.
        fpir: observed share of non-mated probes that raise an alarm; ``None`` likewise.
        threshold: of the score; ``None`` likewise.
    """

    target: float
    rank: int
    non_mated: int
    tpir: float | None = None
    fpir: float | None = None
    threshold: float | None = None

    @property
    def supported(self) -> bool:
        """Whether there are enough non-mated probes for this target."""
        return self.tpir is not None

    def __str__(self) -> str:
        if self.tpir is None:
            return f"not supported by {self.non_mated:,} non-mated probes"
        return f"{self.tpir:.2%} (threshold {self.threshold:.4f})"


@dataclasses.dataclass(frozen=True, eq=False)
class Identification(Measures):
    """The result of a search of all probes in one gallery.

    Attributes:
        ranks: int64 ``(mated,)``, rank of the mate of each mated probe, from 1: one more than the
            number of gallery templates of other people that score at least as high.
        mate_scores: float64 ``(mated,)``, cosine with the best template of the mate.
        best_scores: float64 ``(non_mated,)``, the best cosine of each non-mated probe in the
            gallery.
        gallery: number of templates in the gallery.
        mated, non_mated: int ``(mated,)`` and ``(non_mated,)``, the rows of these probes.
        mates: int ``(mated,)``, the gallery rows of `mate_scores`; -1 for none.
        nearest: int ``(non_mated,)``, the gallery rows of `best_scores`; -1 for none.
    """

    ranks: npt.NDArray[np.int64]
    mate_scores: npt.NDArray[np.float64]
    best_scores: npt.NDArray[np.float64]
    gallery: int
    mated: npt.NDArray[np.intp]
    non_mated: npt.NDArray[np.intp]
    mates: npt.NDArray[np.intp]
    nearest: npt.NDArray[np.intp]

    def in_rows(
        self, gallery: npt.NDArray[np.intp], probes: npt.NDArray[np.intp]
    ) -> "Identification":
        """The same result with rows of the arrays that gallery and probes were selected from.

        Args:
            gallery, probes: int, the row of each template and of each probe there.
        """
        return dataclasses.replace(
            self,
            mated=probes[self.mated],
            non_mated=probes[self.non_mated],
            mates=gallery[self.mates],
            nearest=gallery[self.nearest],
        )

    def rank_rate(self, rank: int) -> float:
        """Share of mated probes whose mate is among the `rank` best: closed-set rank-k accuracy.

        Raises:
            ValueError: `rank` is less than 1, or no probe is mated.
        """
        self._check_rank(rank)
        return float(np.mean(self.ranks <= rank))

    def cmc(self, last: int) -> npt.NDArray[np.float64]:
        """The cumulative match characteristic: `rank_rate` of 1, 2, ..., `last`, ``(last,)``.

        Raises:
            ValueError: as `rank_rate`.
        """
        self._check_rank(last)
        counts = np.bincount(np.minimum(self.ranks, last + 1), minlength=last + 2)
        return counts[1 : last + 1].cumsum() / len(self.ranks)

    def scored(self, rank: int = 1) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Scores and truths whose `Roc` is TPIR over FPIR: a mate beyond `rank` scores -inf."""
        mates = np.where(self.ranks <= rank, self.mate_scores, -np.inf)
        same = np.arange(len(mates) + len(self.best_scores)) < len(mates)
        return np.append(mates, self.best_scores), same

    def open_set(self, rank: int = 1) -> Roc:
        """TPIR (`Roc.tar`) over FPIR (`Roc.far`) at every threshold.

        Raises:
            ValueError: as `tpir_at_fpir`.
        """
        self._check_rank(rank)
        self._check_non_mated()
        scores, same = self.scored(rank)
        order = np.argsort(scores)[::-1]
        return count_descending(scores[order], same[order])

    def tpir_at_fpir(self, fpir: float, *, rank: int = 1, rule: str = "nist") -> TpirAtFpir:
        """Open set: the share of mated probes found when at most a share `fpir` raise an alarm.

            FPIR(t) = share of non-mated probes whose best score in the gallery is >= t
            TPIR(t) = share of mated probes whose mate is at rank <= N and scores >= t

        - `"nist"` (default): the largest TPIR whose FPIR does not exceed the target; the threshold
          is the smallest float64 that gives it. Below ``1 / non_mated`` it has no number.
        - `"ijb_evals"`: InsightFace's ijb_evals.py: t is the k-th largest best score of non-mated
          probes, k = max(int(fpir * non_mated), 1), and a mate must score *more* than t. At least
          as strict as the target, except that below ``1 / non_mated`` it takes k = 1.

        A third rule in use has neither FPIR nor ranks: `closed_gallery_rate`.

        Args:
            fpir: target, in (0, 1).
            rank: N, 1 in most papers.
            rule: `"nist"` or `"ijb_evals"`.

        Raises:
            ValueError: `fpir` is not in (0, 1), `rank` is less than 1, `rule` is unknown, or
                there are not both mated and non-mated probes.
        """
        self._check_rank(rank)
        if rule not in RULES:
            raise ValueError(f"`rule` must be one of {', '.join(RULES)}. Received: {rule!r}.")
        self._check_non_mated()
        count = len(self.best_scores)
        allowed = allowed_false_accepts(fpir, count)
        descending = np.sort(self.best_scores)[::-1]
        if rule == "ijb_evals":
            limit = descending[max(int(fpir * count) - 1, 0)]
        elif allowed == 0:
            return TpirAtFpir(fpir, rank, count)
        else:
            limit = descending[allowed]
        # `> limit` is `>= threshold` for the next float64.
        return TpirAtFpir(
            fpir,
            rank,
            count,
            tpir=float(np.mean((self.ranks <= rank) & (self.mate_scores > limit))),
            fpir=float(np.mean(self.best_scores > limit)),
            threshold=float(np.nextafter(limit, np.inf)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for a card or a JSON file; rates that are not supported are ``None``."""
        return {
            "gallery_templates": self.gallery,
            "mated_probes": len(self.ranks),
            "non_mated_probes": len(self.best_scores),
            "rank_rates": {str(rank): self.rank_rate(rank) for rank in RANKS},
            "tpir_at_fpir": [dataclasses.asdict(entry) for entry in self._open_set()],
        }

    def rows(self) -> list[tuple[str, str]]:
        """(measure, value) as text, for a table."""
        rows = [(f"Rank-{rank}", f"{self.rank_rate(rank):.2%}") for rank in RANKS]
        rows += [(f"TPIR @ FPIR {entry.target:.3g}", str(entry)) for entry in self._open_set()]
        probes = f"{len(self.ranks):,} mated, {len(self.best_scores):,} non-mated"
        return [*rows, (f"Probes, in a gallery of {self.gallery:,}", probes)]

    def _open_set(self) -> list[TpirAtFpir]:
        return [self.tpir_at_fpir(fpir) for fpir in FPIRS] if len(self.best_scores) else []

    def _check_non_mated(self) -> None:
        if not len(self.best_scores):
            raise ValueError(
                "A false positive identification rate needs probes of people who are not in the "
                "gallery. Received: mated probes only. `rank_rate` needs only these."
            )

    def _check_rank(self, rank: int) -> None:
        if rank != int(rank) or rank < 1:
            raise ValueError(f"`rank` must be an integer of at least 1. Received: {rank}.")
        if not len(self.ranks):
            raise ValueError(
                "Identification needs probes of people in the gallery. "
                "Received: non-mated probes only."
            )


def identify(
    gallery: npt.ArrayLike,
    probes: npt.ArrayLike,
    *,
    gallery_labels: npt.ArrayLike,
    probe_labels: npt.ArrayLike,
    progress: bool = True,
) -> Identification:
    """Searches every probe in a gallery.

    Memory beyond the arguments is a float32 copy of the probes and about 30 MB; the gallery is not
    copied. Time is that of the float32 product of all probes with all templates.

    Args:
        gallery: ``(M, D)`` float templates, of any length but zero.
        probes: ``(P, D)`` float; none of them in the gallery.
        gallery_labels: ``(M,)`` integers or strings, the people; a person may have several
            templates.
        probe_labels: ``(P,)`` of the same kind; these people may be in the gallery or not.
        progress: whether to draw a progress bar on standard error.

    Returns:
        An `Identification`; its arrays follow the order of the mated and the non-mated probes.

    Raises:
        ValueError: shapes do not fit, no template or probe is given, or a row is zero or not
            finite.

    Example:
        >>> gallery, probes = [[1.0, 0.0], [0.0, 1.0]], [[0.9, 0.1], [0.4, 0.6], [0.7, 0.7]]
        >>> found = identify(
        ...     gallery,
        ...     probes,
        ...     gallery_labels=["ann", "bob"],
        ...     probe_labels=["ann", "ann", "eve"],
        ...     progress=False,
        ... )
        >>> found.ranks.tolist(), found.rank_rate(1)
        ([1, 2], 0.5)
        >>> print(found.tpir_at_fpir(0.01))
        not supported by 1 non-mated probes
    """
    gallery, gallery_labels = checked_templates("gallery", gallery, gallery_labels)
    probes, probe_labels = checked_templates("probes", probes, probe_labels)
    search = Search(gallery, gallery_labels, probes, probe_labels)
    search.run(progress)
    return Identification(
        ranks=search.ranks[search.mated],
        mate_scores=search.mate_scores[search.mated],
        best_scores=search.best_scores[~search.mated],
        gallery=len(gallery),
        mated=np.flatnonzero(search.mated),
        non_mated=np.flatnonzero(~search.mated),
        mates=search.columns[search.mated],
        nearest=search.columns[~search.mated],
    )


def mean_over_galleries(
    identifications: Sequence[Identification],
    *,
    fpir: float | None = None,
    rank: int = 1,
    rule: str = "nist",
) -> float:
    """The mean over galleries, as IJB-B and IJB-C report it for G1 and G2.

    Each person of IJB is in one of the two galleries, so the mated probes of one are the non-mated
    probes of the other: `identify` all probes in each. Implementations differ: InsightFace pools
    the mated probes of both for rank-k, which weights a gallery by its probes.

    Args:
        identifications: one `Identification` for each gallery.
        fpir: target in (0, 1) for the open set; ``None`` for the closed set, `rank_rate`.
        rank, rule: as `Identification.tpir_at_fpir`.

    Returns:
        The mean rate; each gallery has its own threshold.

    Raises:
        ValueError: no gallery is given, or one of them does not support `fpir`; else as
            `Identification.rank_rate` and `Identification.tpir_at_fpir`.

    Example:
        >>> gallery, probes = [[1.0, 0.0], [0.0, 1.0]], [[0.9, 0.1], [0.1, 0.9]]
        >>> galleries = [
        ...     identify(
        ...         gallery[:1],
        ...         probes,
        ...         gallery_labels=["ann"],
        ...         probe_labels=["ann", "bob"],
        ...         progress=False,
        ...     ),
        ...     identify(
        ...         gallery[1:],
        ...         probes,
        ...         gallery_labels=["bob"],
        ...         probe_labels=["ann", "bob"],
        ...         progress=False,
        ...     ),
        ... ]
        >>> mean_over_galleries(galleries)
        1.0
    """
    if not identifications:
        raise ValueError("`identifications` must hold at least one result. Received: none.")
    if fpir is None:
        return float(np.mean([found.rank_rate(rank) for found in identifications]))
    rates = []
    for number, found in enumerate(identifications):
        rate = found.tpir_at_fpir(fpir, rank=rank, rule=rule)
        if rate.tpir is None:
            raise ValueError(
                "A mean needs a rate from every gallery. Received: "
                f"fpir={fpir:g}, {rate} of gallery {number}. Pass a larger `fpir`."
            )
        rates.append(rate.tpir)
    return float(np.mean(rates))


def closed_gallery_rate(
    gallery: npt.ArrayLike,
    probes: npt.ArrayLike,
    *,
    gallery_labels: npt.ArrayLike,
    probe_labels: npt.ArrayLike,
    rate: float,
    progress: bool = True,
) -> float:
    """InsightFace's ijb_1n.py and opensphere print this as "TPIR@FPIR"; it is not NIST's measure.

    All probes are searched in one gallery that holds all people (G1 and G2 together):

        t = the ceil(rate * P)-th largest score of all P probes with all templates of others
        result = share of the probes whose mate scores more than t

    It has no non-mated probes, and the mate's rank does not count. Compare published numbers of
    this kind only with each other.

    Args:
        gallery, probes, gallery_labels, probe_labels, progress: as `identify`; each probe's person
            must be in the gallery.
        rate: in (0, 1); those codes call it FPIR.

    Raises:
        ValueError: `rate` is not in (0, 1), a probe has no mate, or there are too few scores of
            others; else as `identify`.

    Example:
        >>> gallery, probes = [[1.0, 0.0], [0.0, 1.0]], [[0.9, 0.1], [0.1, 0.9]]
        >>> labels = ["ann", "bob"]
        >>> closed_gallery_rate(
        ...     gallery,
        ...     probes,
        ...     gallery_labels=labels,
        ...     probe_labels=labels,
        ...     rate=0.5,
        ...     progress=False,
        ... )
        1.0
    """
    gallery, gallery_labels = checked_templates("gallery", gallery, gallery_labels)
    probes, probe_labels = checked_templates("probes", probes, probe_labels)
    if not 0 < rate < 1:
        raise ValueError(f"`rate` must be in (0, 1). Received: rate={rate}.")
    search = Search(gallery, gallery_labels, probes, probe_labels)
    if not search.mated.all():
        raise ValueError(
            "In a closed gallery every probe has a mate. Received: "
            f"{np.count_nonzero(~search.mated):,} of {len(probes):,} without. Use `identify` for "
            "an open set."
        )
    wanted = math.ceil(rate * len(probes))
    others, _ = largest_of_others(search, wanted, progress)
    if len(others) < wanted:
        raise ValueError(
            f"`rate` needs at least {wanted:,} scores of probes with templates of others. "
            f"Received: {len(others):,} such scores."
        )
    limit = np.sort(others)[-wanted]
    return float(np.mean(search.mate_scores > limit))
