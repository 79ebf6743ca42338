"""The report of 1:N searches, closed and open set."""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from keras_facemargin.evaluate.identification import FPIRS, LAST_RANK
from keras_facemargin.evaluate.splits import SplitResults
from keras_facemargin.evaluate.templates import Templates
from keras_facemargin.evaluate.uncertainty import SearchDraws, bootstrap_searches
from keras_facemargin.report.draws import Resampling
from keras_facemargin.report.measures import intervals_record, search_measures
from keras_facemargin.report.page import Report
from keras_facemargin.report.sections.searches import add_search_curves, add_searches
from keras_facemargin.report.task import Measured, ReportTask


def report_searches(
    output: str | os.PathLike[str],
    templates: Templates,
    results: Mapping[str, SplitResults],
    *,
    title: str,
    about: Iterable[str] = (),
    replicates: int = 1_000,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Measured[SplitResults, SearchDraws]]:
    """Writes the results of the searches of a 1:N protocol as an HTML page and its JSON.

    The page shows rank-k and TPIR at FPIR as means over the searches ± their standard deviation,
    with intervals over resampled people of the probes, the differences between embedders, CMC and
    TPIR-over-FPIR curves with bands, the scores, the thresholds of each search, and pictures of
    the least similar mates and the most similar strangers.

    Args:
        output, title, about, replicates, seed, progress: as `report_verification`.
        templates: the `Templates` of the searches.
        results: dict of embedder's name -> the result of `evaluate_searches`.

    Returns:
        A dict of embedder's name -> `Measured`; its `result` is a `SplitResults`.

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
        >>> report = report_searches("1_n.html", task.templates, found, title="Two",
        ...                          progress=False)
        >>> report["shape"].draws.units
        2
    """
    task = _Searches(Resampling(replicates, seed, progress), templates)
    return task.write(output, results, title=title, about=about)


Found = Measured[SplitResults, SearchDraws]


class _Searches(ReportTask[SplitResults, SplitResults, SearchDraws]):
    def __init__(self, resampling: Resampling, templates: Templates):
        super().__init__(resampling)
        self.templates = templates

    def measure(self, name: str, given: SplitResults) -> Found:
        draws = bootstrap_searches(
            given.results, self.templates.subjects, fpirs=FPIRS, **self.resampling.options
        )
        return Measured(given, draws, tuple(search_measures(given, draws)))

    def opening(self, first: Found) -> Iterator[str]:
        yield (
            f"Intervals in brackets: {first.draws}. The people drawn are those of the probes. Each "
            "draw chooses its own thresholds and has the whole galleries."
        )
        if first.result.failed_to_enrol:
            yield (
                "Templates without an image, in all searches: "
                f"{first.result.failed_to_enrol:,}. A search whose probe or mate is one of "
                "them counts as missed."
            )

    def add_counts(self, page: Report, first: Found) -> None:
        page.table(
            ("Search", "Templates in the gallery", "Mated probes", "Non-mated probes"),
            [
                [str(name), *(f"{count:,}" for count in counts)]
                for name, each in first.result.results.items()
                for counts in [(each.gallery, len(each.ranks), len(each.best_scores))]
            ],
        )

    def caption(self, first: Found) -> str:
        return (
            "Mean over the searches ± their standard deviation. Rank-k: the share of mated probes "
            "whose mate is among the k best scores. TPIR at FPIR: the share of mated probes whose "
            "mate has the best score and reaches the threshold; at most the share FPIR of the "
            "non-mated probes reaches it."
        )

    def add_curves(self, page: Report, models: Mapping[str, Found]) -> None:
        page.heading("Curves")
        add_search_curves(
            page,
            {name: each.result for name, each in models.items()},
            {name: each.draws for name, each in models.items()},
        )

    def add_details(self, page: Report, name: str, measured: Found) -> None:
        add_searches(page, measured.result, self.templates.shown)

    def record(self, name: str, measured: Found) -> dict[str, Any]:
        searches = measured.result.results.items()
        return {
            **measured.result.to_dict(),
            "intervals": intervals_record(measured.measures),
            "cmc": {search: found.cmc(LAST_RANK).tolist() for search, found in searches},
        }
