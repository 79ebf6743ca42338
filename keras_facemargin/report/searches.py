"""The report of 1:N searches: who is it, and is the person in the gallery?"""

import dataclasses

import numpy as np

from keras_facemargin.evaluate import Pairs, plot_scores
from keras_facemargin.evaluate.identification import FPIRS, LAST_RANK, RANKS
from keras_facemargin.evaluate.plots import plot_cmc, plot_open_set
from keras_facemargin.evaluate.splits import SplitResults
from keras_facemargin.evaluate.uncertainty import LEVEL, SearchDraws, bootstrap_searches
from keras_facemargin.report.hardest import add_hardest
from keras_facemargin.report.measures import (
    add_measures,
    draws_record,
    intervals_record,
    page_file,
    power,
    require_embedders,
    write_record,
)
from keras_facemargin.report.page import Report
from keras_facemargin.report.splits import mean_measure


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredSearches:
    """One embedder on the searches.

    Attributes:
        result: a `SplitResults` of an `Identification` for each.
        draws: a `SearchDraws` of the means.
    """

    result: SplitResults
    draws: SearchDraws

    def measures(self):
        """A `Measure` for each mean of the result."""
        drawn = {f"Rank-{rank}": self.draws.cmc[:, rank - 1] for rank in RANKS}
        tpirs = zip(self.draws.fpirs, self.draws.tpir.T, strict=True)
        drawn |= {f"TPIR @ FPIR {fpir:.3g}": values for fpir, values in tpirs}
        for name, values in self.result.measures().items():
            yield mean_measure(self.result, name, values, drawn[name])


def report_searches(
    output,
    title,
    templates,
    results,
    about=(),
    replicates=1_000,
    seed=0,
    progress=True,
) -> dict[str, MeasuredSearches]:
    """Writes what embedders found in the searches of a 1:N protocol as an HTML page and its JSON.

    The page holds rank-k and TPIR at FPIR as means over the searches ± their standard deviation,
    with intervals over resampled people of the probes, the differences between embedders draw by
    draw, CMC and TPIR-over-FPIR curves with bands, the scores, each search's thresholds, and as
    pictures the mates that look least alike and the strangers that look most like somebody.

    Args:
        output, title, about, replicates, seed, progress: as `report_verification`.
        templates: the `Templates` of the searches.
        results: dict of embedder's name -> what `evaluate_searches` found.

    Returns:
        A dict of embedder's name -> `MeasuredSearches`.

    Raises:
        ValueError, ImportError, OSError: as `report_verification` and `bootstrap_searches`.

    Example:
        >>> from keras_facemargin.images import write_synthetic_faces
        >>> from keras_facemargin.evaluate import evaluate_searches, searches_of_folders
        >>> a, b, c, d = write_synthetic_faces("few", num_identities=2, images_per_identity=2)
        >>> def shape(images):
        ...     return images.mean(axis=(1, 3)) - images.mean(axis=(1, 2, 3))[:, None]
        >>> task = searches_of_folders([a, c], [b, d])
        >>> found = {"shape": evaluate_searches(shape, task, progress=False)}
        >>> report = report_searches("1_n.html", "Two", task.templates, found, progress=False)
        >>> report["shape"].draws.units
        2
    """
    output = page_file(output)
    require_embedders(results)
    models = {
        name: MeasuredSearches(
            result,
            bootstrap_searches(
                result.results, templates.subjects, FPIRS, replicates, seed, progress
            ),
        )
        for name, result in results.items()
    }
    _write_page(output, title, about, templates.shown, models)
    first = next(iter(models.values()))
    record = {
        name: {
            **each.result.to_dict(),
            "intervals": intervals_record(each),
            "cmc": {of: found.cmc(LAST_RANK).tolist() for of, found in each.result.results.items()},
        }
        for name, each in models.items()
    }
    write_record(output, title, about, draws_record(first.draws, seed), record)
    return models


def _write_page(output, title, about, shown, models):
    page = Report(title)
    first = next(iter(models.values()))
    rows = [
        [str(name), f"{each.gallery:,}", f"{len(each.ranks):,}", f"{len(each.best_scores):,}"]
        for name, each in first.result.results.items()
    ]
    page.paragraph(
        f"In brackets: {first.draws}, of those that the probes show; thresholds are chosen anew in "
        "each draw. The galleries are as they are."
    )
    if first.result.failed_to_enrol:
        page.paragraph(
            "Templates without an image, in all searches: "
            f"{first.result.failed_to_enrol:,}. Who is searched for with one, or in vain because "
            "of one, counts as missed."
        )
    for text in about:
        page.paragraph(text)
    page.table(("Search", "Templates in the gallery", "Mated probes", "Non-mated probes"), rows)
    add_measures(
        page,
        models,
        "Mean over the searches ± their standard deviation. Rank-k: the share of mated probes "
        "whose mate is among the k best. TPIR at FPIR: of mated probes the share whose mate is the "
        "best and reaches the threshold, when at most that share of the non-mated probes finds "
        "anybody.",
    )
    page.heading("Curves")
    add_search_curves(page, models)
    for name, each in models.items():
        page.heading(name if len(models) > 1 else "Scores and thresholds")
        add_searches(page, each.result, shown)
    page.write(output)


def add_search_curves(page, models):
    """CMC and open-set curves; models: name -> `MeasuredSearches`."""
    searches = {name: list(each.result.results.values()) for name, each in models.items()}
    bands = {name: each.draws for name, each in models.items()}
    middle = f"Shaded: the middle {LEVEL:.0%} of the draws."
    cmc = {n: np.mean([one.cmc(LAST_RANK) for one in each], axis=0) for n, each in searches.items()}
    page.figure(plot_cmc(cmc, bands), f"Cumulative match characteristic, closed set. {middle}")
    if next(iter(bands.values())).fpirs:
        curves = {name: [one.open_set() for one in each] for name, each in searches.items()}
        several = len(next(iter(searches.values()))) > 1
        lines = "Thick: the mean over the searches; thin: each of them. " if several else ""
        page.figure(
            plot_open_set(curves, bands),
            f"Open set: TPIR over FPIR, exact at every score. {lines}{middle}",
        )


def add_searches(page, result, shown):
    """Scores, thresholds and hardest ones of a `SplitResults`; shown: an image of each row."""
    results = list(result.results.items())
    mates, strangers = (
        np.concatenate([getattr(found, kind) for _, found in results])
        for kind in ("mate_scores", "best_scores")
    )
    if len(strangers):
        page.figure(
            plot_scores(
                np.append(mates, strangers),
                np.arange(len(mates) + len(strangers)) < len(mates),
                kinds=("mated probes: the mate", "non-mated probes: the best of the gallery"),
            ),
            "Scores of all searches, each kind as shares of its own.",
        )
        rows = []
        for name, found in results:
            for fpir in FPIRS:
                entry = found.tpir_at_fpir(fpir)
                cells = [str(entry), "-", "-", "-"]
                if entry.supported:
                    alarms = round(entry.fpir * entry.non_mated)
                    cells = [
                        f"{entry.threshold:.4f}",
                        f"{alarms:,}",
                        f"{entry.fpir:.3g}",
                        f"{entry.tpir:.2%}",
                    ]
                rows.append([str(name), power(fpir), *cells])
        page.table(
            ("Search", "FPIR target", "Threshold", "False alarms", "FPIR", "TPIR"),
            rows,
            "A search is answered from the threshold on. Few alarms make a threshold of chance.",
        )
    add_hardest(page, *_as_pairs(results, shown))


def _as_pairs(results, shown):
    """Mates and strangers of all searches as `Pairs` of what shows their templates, and scores."""
    probes, found, scores, same = [], [], [], []
    for _, each in results:
        probes += [each.mated, each.non_mated]
        found += [each.mates, each.nearest]
        scores += [each.mate_scores, each.best_scores]
        same += [np.ones(len(each.mated), bool), np.zeros(len(each.non_mated), bool)]
    probes, found, scores, same = map(np.concatenate, (probes, found, scores, same))
    there = found >= 0
    if same[there].all():  # nobody is a stranger: the pictures are of mates only
        return Pairs(None, None, same), scores
    return (
        Pairs(
            first=[shown[row] for row in probes[there]],
            second=[shown[row] for row in found[there]],
            same=same[there],
        ),
        scores[there],
    )
