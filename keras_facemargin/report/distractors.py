"""The report of searches among distractors: MegaFace."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_facemargin.evaluate.identification import RANKS, AmongDistractors
from keras_facemargin.evaluate.plots import plot_cmc, plot_scores
from keras_facemargin.evaluate.uncertainty import DistractorDraws, bootstrap_distractors
from keras_facemargin.evaluate.verification import Pairs
from keras_facemargin.report.draws import Resampling
from keras_facemargin.report.measures import Measure, intervals_record, tar_measures
from keras_facemargin.report.page import Report
from keras_facemargin.report.sections.curves import add_curves
from keras_facemargin.report.sections.hardest import Shown, add_hardest
from keras_facemargin.report.sections.thresholds import add_thresholds
from keras_facemargin.report.task import Measured, ReportTask


def report_distractors(
    output: str | os.PathLike[str],
    results: Mapping[str, AmongDistractors],
    *,
    probes: Sequence[Any],
    distractors: Sequence[Any],
    title: str,
    about: Iterable[str] = (),
    replicates: int = 1_000,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Measured[AmongDistractors, DistractorDraws]]:
    """Writes the results of searches among distractors as an HTML page and its JSON.

    The page shows rank-1 and TAR at FAR with intervals over resampled people, the differences
    between embedders, ROC and DET curves down to the lowest FAR that the stored false accepts
    support, the scores, the thresholds, and pictures of the least similar mates and the most
    similar distractors.

    Args:
        output, title, about, replicates, seed, progress: as `report_verification`.
        results: dict of embedder's name -> the result of `search_among_distractors`.
        probes, distractors: the images, as `read_face` takes them, in the order of the rows.

    Returns:
        A dict of embedder's name -> `Measured`; its `result` is an `AmongDistractors`.

    Raises:
        ValueError, ImportError, OSError: as `report_verification`.

    Example:
        >>> from keras_facemargin.images import write_synthetic_faces
        >>> from keras_facemargin.evaluate.identification import search_among_distractors
        ...
        >>> files = write_synthetic_faces("among", num_identities=3, images_per_identity=2)
        >>> rows = np.array([[1.0, 0.1], [0.9, 0.3], [0.1, 1.0], [0.3, 0.9], [-1.0, 0.2], [-1, 0]])
        >>> found = search_among_distractors(
        ...     rows[:4], list("aabb"), rows[4:], fars=[0.2], progress=False
        ... )
        >>> report = report_distractors("among.html", {"ours": found}, probes=files[:4],
        ...                             distractors=files[4:], title="Two people",
        ...                             replicates=20, progress=False)
        >>> print(*report["ours"].measures, sep="; ")
        100.00% (100.00% to 100.00%); 100.00% (100.00% to 100.00%)
    """
    task = _AmongDistractors(Resampling(replicates, seed, progress), probes, distractors)
    return task.write(output, results, title=title, about=about)


Found = Measured[AmongDistractors, DistractorDraws]


class _AmongDistractors(ReportTask[AmongDistractors, AmongDistractors, DistractorDraws]):
    def __init__(self, resampling: Resampling, probes: Sequence[Any], distractors: Sequence[Any]):
        super().__init__(resampling)
        self.probes, self.distractors = probes, distractors

    def measure(self, name: str, given: AmongDistractors) -> Found:
        draws = bootstrap_distractors(given, **self.resampling.options)
        return Measured(given, draws, tuple(_measures(given, draws)))

    def opening(self, first: Found) -> Iterator[str]:
        result = first.result
        yield (
            f"{result.probes:,} images of {result.people:,} people, {result.searches:,} searches "
            f"among {result.distractors:,} distractors. Intervals in brackets: {first.draws}; each "
            "draw chooses its own thresholds and has all distractors."
        )
        if result.left_out:
            yield f"Missing images, left out of the protocol: {result.left_out:,}."

    def caption(self, first: Found) -> str:
        return (
            "Rank-1: the share of searches in which the mate scores higher than every distractor; "
            "each ordered pair of images of one person is a search. TAR at FAR: pairs of mates are "
            "the genuine pairs; all images with all distractors are the impostor pairs."
        )

    def add_curves(self, page: Report, models: Mapping[str, Found]) -> None:
        bands = {name: each.draws for name, each in models.items()}
        add_curves(page, {name: each.result.curve for name, each in models.items()}, bands)
        page.figure(
            plot_cmc({name: each.result.cmc() for name, each in models.items()}, bands=bands),
            "Cumulative match characteristic: the share of searches in which fewer distractors "
            "than the rank score at least as high as the mate. Shaded: as above.",
        )

    def add_details(self, page: Report, name: str, measured: Found) -> None:
        found = measured.result
        page.figure(
            plot_scores(
                np.append(found.genuine, found.best[:, 0]),
                np.arange(len(found.genuine) + len(found.best)) < len(found.genuine),
                kinds=("pairs of mates", "images: their best distractor"),
            ),
            "Scores, as shares of each kind.",
        )
        add_thresholds(page, found.tar_at_far, measured.draws.tar)
        add_hardest(page, *self._as_pairs(found))

    def _as_pairs(self, found: AmongDistractors) -> Shown:
        """Mates, and each probe with its most similar distractor, as `Pairs` and their scores."""
        first = [self.probes[row] for row in (*found.first, *range(found.probes))]
        second = [self.probes[row] for row in found.second] + [
            self.distractors[row] for row in found.nearest[:, 0]
        ]
        same = np.arange(len(first)) < len(found.genuine)
        return Pairs(first, second, same), np.append(found.genuine, found.best[:, 0])

    def record(self, name: str, measured: Found) -> dict[str, Any]:
        return {
            **measured.result.to_dict(),
            "intervals": intervals_record(measured.measures),
            "cmc": measured.result.cmc().tolist(),
        }


def _measures(result: AmongDistractors, draws: DistractorDraws) -> Iterator[Measure]:
    yield Measure("Rank-1", result.rank_1, draws.cmc[:, 0])
    for rank in RANKS[1:]:
        if rank <= result.best.shape[1]:
            value, replicates = float(result.cmc()[rank - 1]), draws.cmc[:, rank - 1]
            yield Measure(f"Rank-{rank}", value, replicates)
    yield from tar_measures(result.tar_at_far, draws.tar)
