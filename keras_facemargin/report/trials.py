"""The report of all pairs of a set and searches in it, trial by trial: BLUFR."""

import dataclasses

import numpy as np

from keras_facemargin.evaluate import Pairs
from keras_facemargin.evaluate.at_scale import hardest_pairs
from keras_facemargin.evaluate.identification import FPIRS, LAST_RANK
from keras_facemargin.evaluate.plots import plot_score_histogram
from keras_facemargin.evaluate.protocols import BlufrResult, measure_blufr
from keras_facemargin.evaluate.uncertainty import bootstrap_hardest_splits, bootstrap_searches
from keras_facemargin.report.all_pairs import OF_BINS
from keras_facemargin.report.hardest import add_hardest, hardest_shown
from keras_facemargin.report.measures import (
    Measure,
    add_measures,
    draws_record,
    intervals_record,
    page_file,
    require_embedders,
    write_record,
)
from keras_facemargin.report.page import Report
from keras_facemargin.report.searches import MeasuredSearches, add_search_curves, add_searches
from keras_facemargin.report.splits import MeasuredSplits, add_split_thresholds
from keras_facemargin.report.verification import add_curves

# Impostor pairs of a trial that are drawn one by one: FAR 0.1% accepts 47,000 of BLUFR's.
HELD = 150_000


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredTrials:
    """One embedder on the trials.

    Attributes:
        result: a `BlufrResult`.
        verification: `MeasuredSplits` of all pairs of each trial.
        identification: `MeasuredSearches` of each trial.
    """

    result: BlufrResult
    verification: MeasuredSplits
    identification: MeasuredSearches

    def measures(self):
        """A `Measure` for each number of the result, the protocol's own first."""
        tars, searches = self.verification.draws, self.identification.draws
        lower = (tars.tar - tars.tar_deviation).T, (searches.tpir - searches.tpir_deviation).T
        drawn = {f"TAR @ FAR {far:.3g}": of for far, of in zip(tars.fars, lower[0], strict=True)}
        for fpir, of in zip(searches.fpirs, lower[1], strict=True):
            drawn[f"TPIR @ FPIR {fpir:.3g}"] = of
        for name, value in self.result.headline().items():
            yield Measure(f"{name}, mean - deviation", value, drawn[name])
        yield from self.verification.measures()
        yield from self.identification.measures()


def report_trials(
    output,
    title,
    blufr,
    embeddings,
    about=(),
    replicates=1_000,
    seed=0,
    progress=True,
) -> dict[str, MeasuredTrials]:
    """Measures embedders on the trials of a `Blufr` and writes an HTML page and its JSON.

    The page holds the mean minus the standard deviation over the trials of TAR at FAR and TPIR at
    FPIR, as the protocol reports them, and every measure as mean ± deviation, all with intervals
    over resampled people, who are drawn for all trials at once; the differences between embedders;
    ROC, DET and TPIR-over-FPIR curves of each trial and their mean, CMC; scores, thresholds, and
    the hardest pairs and searches as pictures.

    Args:
        output, title, about, replicates, seed, progress: as `report_verification`.
        blufr: a `Blufr`.
        embeddings: dict of embedder's name -> ``(N, D)``, of ``blufr.there.images``.

    Returns:
        A dict of embedder's name -> `MeasuredTrials`.

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
        >>> found = report_trials("trials.html", "One", Blufr(images, people, (trial,)),
        ...                       {"ours": rows}, replicates=20, progress=False)
        >>> found["ours"].result.identification.mean("Rank-1")
        1.0
    """
    output = page_file(output)
    require_embedders(embeddings, "embeddings")
    there = blufr.there
    _, people = np.unique(there.labels, return_inverse=True)
    models, hardest = {}, {}
    for name, rows in embeddings.items():
        result = measure_blufr(rows, blufr, progress=progress)
        pairs = _hardest_of_trials(np.asarray(rows), people, there, result, progress)
        hardest[name] = _shown(pairs, there)
        entries = next(iter(result.verification.results.values())).tar_at_far
        fars = [entry.target for entry in entries]
        options = {"replicates": replicates, "seed": seed, "progress": progress}
        draws = bootstrap_hardest_splits(pairs, fars, **options)
        searches = bootstrap_searches(result.identification.results, people, FPIRS, **options)
        models[name] = MeasuredTrials(
            result,
            MeasuredSplits(result.verification, draws),
            MeasuredSearches(result.identification, searches),
        )
    _write_page(output, title, about, there, models, hardest)
    first = next(iter(models.values()))
    intervals = {
        part: draws_record(getattr(first, part).draws, seed)
        for part in ("verification", "identification")
    }
    record = {
        name: {
            **each.result.to_dict(),
            "intervals": intervals_record(each),
            "cmc": {
                str(trial): found.cmc(LAST_RANK).tolist()
                for trial, found in each.result.identification.results.items()
            },
        }
        for name, each in models.items()
    }
    write_record(output, title, about, intervals, record)
    return models


def _hardest_of_trials(rows, people, there, result, progress):
    """`HardestPairs` of each trial, whose people are numbered alike."""
    found = []
    for (test, *_), rates in zip(there.trials, result.verification.results.values(), strict=True):
        of_trial = rows[test], people[test], HELD, progress, rates.histogram
        found.append(hardest_pairs(*of_trial, units=int(people.max()) + 1))
    return found


def _shown(trials, there):
    """The hardest pairs of all trials as `Pairs` of images, and their scores."""
    few = [
        hardest_shown(pairs, [there.images[row] for row in test])
        for pairs, (test, *_) in zip(trials, there.trials, strict=True)
    ]
    first, second, same = (
        [one for pairs, _ in few for one in getattr(pairs, name)]
        for name in ("first", "second", "same")
    )
    return Pairs(first, second, np.array(same)), np.concatenate([scores for _, scores in few])


def _write_page(output, title, about, there, models, hardest):
    page = Report(title)
    first = next(iter(models.values()))
    page.paragraph(
        f"{len(there.trials)} trials of {len(there.images):,} images. In brackets: "
        f"{first.verification.draws}, for all trials at once; thresholds are chosen anew in each "
        "draw and trial. Searches draw the people of the probes; the galleries are as they are. "
        "Of impostor pairs those most alike are drawn one by one, those below are counted by "
        "person."
    )
    if first.result.left_out:
        page.paragraph(f"Missing images, which left the trials: {first.result.left_out:,}.")
    for text in about:
        page.paragraph(text)
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
        ("Trial", "Genuine pairs", "Impostor pairs", "Gallery", "Mated probes", "Non-mated"), rows
    )
    add_measures(
        page,
        models,
        "Mean - deviation is what the protocol reports: VR at FAR 0.1% is TAR @ FAR 0.001, and DIR "
        "at FAR 1%, rank 1, is TPIR @ FPIR 0.01. Below: the mean over the trials ± their standard "
        "deviation. The trials share their people, so that the deviation says little of other "
        "people: the intervals do. TAR at FAR: the largest TAR whose FAR does not "
        "exceed the target, over every pair of a trial; TPIR at FPIR likewise, of mated probes "
        "whose mate is the best.",
    )
    add_curves(
        page,
        {
            name: [r.histogram.curve() for r in each.result.verification.results.values()]
            for name, each in models.items()
        },
        {name: each.verification.draws for name, each in models.items()},
        OF_BINS,
    )
    add_search_curves(page, {name: each.identification for name, each in models.items()})
    for name, each in models.items():
        page.heading(name if len(models) > 1 else "Scores and thresholds")
        trial, rates = next(iter(each.result.verification.results.items()))
        page.figure(
            plot_score_histogram(rates.histogram),
            f"Scores of all pairs of trial {trial}, each kind as shares of its own.",
        )
        add_split_thresholds(page, each.result.verification)
        add_hardest(page, *hardest[name])
        add_searches(page, each.result.identification, there.images)
    page.write(output)
