"""The report of all pairs and searches in the trials of a set: BLUFR."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate.at_scale import HardestPairs, hardest_pairs
from keras_facemargin.evaluate.identification import FPIRS, LAST_RANK
from keras_facemargin.evaluate.plots import plot_score_histogram
from keras_facemargin.evaluate.protocols import Blufr, BlufrResult, measure_blufr
from keras_facemargin.evaluate.uncertainty import (
    Bootstrap,
    SearchDraws,
    bootstrap_hardest_splits,
    bootstrap_searches,
)
from keras_facemargin.evaluate.verification import Pairs
from keras_facemargin.report.draws import Resampling, draws_record
from keras_facemargin.report.measures import (
    Measure,
    intervals_record,
    search_measures,
    split_measures,
)
from keras_facemargin.report.page import Report
from keras_facemargin.report.sections.curves import OF_BINS, add_curves
from keras_facemargin.report.sections.hardest import Shown, add_hardest, hardest_shown
from keras_facemargin.report.sections.searches import add_search_curves, add_searches
from keras_facemargin.report.sections.thresholds import add_split_thresholds
from keras_facemargin.report.task import Measured, ReportTask

# Impostor pairs of a trial that are drawn one by one: BLUFR's FAR of 0.1% accepts 47,000.
HELD = 150_000

Embeddings = npt.NDArray[Any]


class TrialDraws(NamedTuple):
    """The draws of one embedder on the trials.

    Attributes:
        verification: draws of the means over the trials, of all pairs.
        identification: draws of the means over the trials, of the searches.
    """

    verification: Bootstrap
    identification: SearchDraws


def report_trials(
    output: str | os.PathLike[str],
    blufr: Blufr,
    embeddings: Mapping[str, Embeddings],
    *,
    title: str,
    about: Iterable[str] = (),
    replicates: int = 1_000,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Measured[BlufrResult, TrialDraws]]:
    """Measures embedders on the trials of a `Blufr` and writes an HTML page and its JSON.

    The page shows TAR at FAR and TPIR at FPIR as the mean minus the standard deviation over the
    trials, as the protocol reports them, and every measure as mean ± deviation. All have intervals
    over resampled people, the same ones for all trials. The page also shows the differences
    between embedders; ROC, DET and TPIR-over-FPIR curves of each trial and their mean; CMC;
    scores, thresholds, and pictures of the hardest pairs and searches.

    Args:
        output, title, about, replicates, seed, progress: as `report_verification`.
        blufr: a `Blufr`.
        embeddings: dict of embedder's name -> ``(N, D)``, of ``blufr.there.images``.

    Returns:
        A dict of embedder's name -> `Measured`; its `result` is a `BlufrResult`, its `draws` are a
        `TrialDraws`.

    Raises:
        ValueError, ImportError, OSError: as `report_verification` and `measure_blufr`.

    Example:
        >>> from keras_facemargin.images import write_synthetic_faces
        >>> from keras_facemargin.evaluate.protocols import Blufr
        >>> images = write_synthetic_faces("set", num_identities=6, images_per_identity=2)
        >>> test, gallery = np.arange(12), np.array([0, 2, 4])
        >>> trial = test, gallery, np.setdiff1d(test, gallery)
        >>> people = np.repeat(np.arange(6), 2)
        >>> rows = np.eye(6)[people] + np.random.default_rng(0).normal(0, 0.1, (12, 6))
        >>> found = report_trials("trials.html", Blufr(images, people, (trial,)), {"ours": rows},
        ...                       title="One", replicates=20, progress=False)
        >>> found["ours"].result.identification.mean("Rank-1")
        1.0
    """
    task = _Trials(Resampling(replicates, seed, progress), blufr)
    return task.write(output, embeddings, title=title, about=about)


Found = Measured[BlufrResult, TrialDraws]


class _Trials(ReportTask[Embeddings, BlufrResult, TrialDraws]):
    argument = "embeddings"

    def __init__(self, resampling: Resampling, blufr: Blufr):
        super().__init__(resampling)
        self.blufr, self.there = blufr, blufr.there
        self.hardest: dict[str, Shown] = {}

    def measure(self, name: str, given: Embeddings) -> Found:
        result = measure_blufr(given, self.blufr, progress=self.resampling.progress)
        _, people = np.unique(self.there.labels, return_inverse=True)
        held = self._hardest_of_trials(np.asarray(given), people, result)
        self.hardest[name] = self._shown(held)
        entries = next(iter(result.verification.results.values())).tar_at_far
        draws = TrialDraws(
            bootstrap_hardest_splits(
                held, [entry.target for entry in entries], **self.resampling.options
            ),
            bootstrap_searches(
                result.identification.results, people, fpirs=FPIRS, **self.resampling.options
            ),
        )
        measures = (
            *_headline(result, draws),
            *split_measures(result.verification, draws.verification),
            *search_measures(result.identification, draws.identification),
        )
        return Measured(result, draws, measures)

    def _hardest_of_trials(
        self, rows: Embeddings, people: npt.NDArray[Any], result: BlufrResult
    ) -> list[HardestPairs]:
        """`HardestPairs` of each trial; all trials number the people alike."""
        rates = result.verification.results.values()
        return [
            hardest_pairs(
                rows[test],
                people[test],
                impostors=HELD,
                progress=self.resampling.progress,
                histogram=each.histogram,
                units=int(people.max()) + 1,
            )
            for (test, *_), each in zip(self.there.trials, rates, strict=True)
        ]

    def _shown(self, trials: Sequence[HardestPairs]) -> Shown:
        """The hardest pairs of all trials as `Pairs` of images, and their scores."""
        few = [
            hardest_shown(pairs, [self.there.images[row] for row in test])
            for pairs, (test, *_) in zip(trials, self.there.trials, strict=True)
        ]
        first, second, same = (
            [one for pairs, _ in few for one in getattr(pairs, name)]
            for name in ("first", "second", "same")
        )
        return Pairs(first, second, np.array(same)), np.concatenate([scores for _, scores in few])

    def opening(self, first: Found) -> Iterator[str]:
        yield (
            f"{len(self.there.trials)} trials of {len(self.there.images):,} images. Intervals "
            f"in brackets: {first.draws.verification}, the same ones for all trials; each draw "
            "chooses its own thresholds in every trial. For searches, the people of the probes are "
            "drawn and the galleries stay whole. The most similar impostor pairs are drawn one by "
            "one, the others are counted by person."
        )
        if first.result.left_out:
            yield f"Missing images, left out of the trials: {first.result.left_out:,}."

    def add_counts(self, page: Report, first: Found) -> None:
        rows = [
            [
                str(trial),
                *(f"{count:,}" for count in (rates.genuines, rates.impostors, found.gallery)),
                *(f"{len(scores):,}" for scores in (found.mate_scores, found.best_scores)),
            ]
            for (trial, rates), found in zip(
                first.result.verification.results.items(),
                first.result.identification.results.values(),
                strict=True,
            )
        ]
        page.table(
            ("Trial", "Genuine pairs", "Impostor pairs", "Gallery", "Mated probes", "Non-mated"),
            rows,
        )

    def caption(self, first: Found) -> str:
        return (
            "The protocol reports mean - deviation: VR at FAR 0.1% is TAR @ FAR 0.001, and DIR at "
            "FAR 1%, rank 1, is TPIR @ FPIR 0.01. The rows below show the mean over the trials ± "
            "their standard deviation. The trials share people, so the deviation does not show how "
            "the measures vary between people; the intervals do. TAR at FAR: the largest TAR whose "
            "FAR does not exceed the target, over all pairs of a trial. TPIR at FPIR: the same for "
            "searches, over mated probes whose mate has the best score."
        )

    def add_curves(self, page: Report, models: Mapping[str, Found]) -> None:
        add_curves(
            page,
            {
                name: [one.histogram.curve() for one in each.result.verification.results.values()]
                for name, each in models.items()
            },
            {name: each.draws.verification for name, each in models.items()},
            OF_BINS,
        )
        add_search_curves(
            page,
            {name: each.result.identification for name, each in models.items()},
            {name: each.draws.identification for name, each in models.items()},
        )

    def add_details(self, page: Report, name: str, measured: Found) -> None:
        result = measured.result
        trial, rates = next(iter(result.verification.results.items()))
        page.figure(
            plot_score_histogram(rates.histogram),
            f"Scores of all pairs of trial {trial}, as shares of each kind of pair.",
        )
        add_split_thresholds(page, result.verification)
        add_hardest(page, *self.hardest[name])
        add_searches(page, result.identification, self.there.images)

    def intervals(self, first: Found) -> dict[str, Any]:
        return {
            part: draws_record(draws, self.resampling.seed)
            for part, draws in first.draws._asdict().items()
        }

    def record(self, name: str, measured: Found) -> dict[str, Any]:
        searches = measured.result.identification.results.items()
        return {
            **measured.result.to_dict(),
            "intervals": intervals_record(measured.measures),
            "cmc": {str(trial): found.cmc(LAST_RANK).tolist() for trial, found in searches},
        }


def _headline(result: BlufrResult, draws: TrialDraws) -> Iterator[Measure]:
    """The protocol's own measures: the mean minus the deviation."""
    tars, tpirs = draws.verification, draws.identification
    tar, tpir = (tars.tar - tars.tar_deviation).T, (tpirs.tpir - tpirs.tpir_deviation).T
    replicates = {f"TAR @ FAR {far:.3g}": of for far, of in zip(tars.fars, tar, strict=True)}
    for fpir, column in zip(tpirs.fpirs, tpir, strict=True):
        replicates[f"TPIR @ FPIR {fpir:.3g}"] = column
    for name, value in result.headline().items():
        yield Measure(f"{name}, mean - deviation", value, replicates[name])
