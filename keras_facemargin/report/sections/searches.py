"""CMC and open-set curves of searches, thresholds, and the hardest searches."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_facemargin.evaluate.identification import FPIRS, LAST_RANK
from keras_facemargin.evaluate.plots import plot_cmc, plot_open_set, plot_scores
from keras_facemargin.evaluate.splits import SplitResults
from keras_facemargin.evaluate.uncertainty import LEVEL, SearchDraws
from keras_facemargin.evaluate.verification import Pairs
from keras_facemargin.report.measures import power
from keras_facemargin.report.page import Report
from keras_facemargin.report.sections.hardest import Shown, add_hardest


def add_search_curves(
    page: Report, results: Mapping[str, SplitResults], draws: Mapping[str, SearchDraws]
) -> None:
    """Adds the CMC and open-set curves of every embedder, with bands."""
    searches = {name: list(each.results.values()) for name, each in results.items()}
    middle = f"Shaded: the middle {LEVEL:.0%} of the draws."
    cmc = {n: np.mean([one.cmc(LAST_RANK) for one in each], axis=0) for n, each in searches.items()}
    page.figure(
        plot_cmc(cmc, bands=draws), f"Cumulative match characteristic, closed set. {middle}"
    )
    if next(iter(draws.values())).fpirs:
        curves = {name: [one.open_set() for one in each] for name, each in searches.items()}
        several = len(next(iter(searches.values()))) > 1
        lines = (
            "Thick line: the mean over the searches. Thin lines: each search. " if several else ""
        )
        page.figure(
            plot_open_set(curves, bands=draws),
            f"Open set: TPIR over FPIR, exact at every score. {lines}{middle}",
        )


def add_searches(page: Report, result: SplitResults, images: Sequence[Any]) -> None:
    """Adds scores, thresholds and hardest searches; images: one to show for each template."""
    searches = list(result.results.items())
    mates, strangers = (
        np.concatenate([getattr(found, kind) for _, found in searches])
        for kind in ("mate_scores", "best_scores")
    )
    if len(strangers):
        page.figure(
            plot_scores(
                np.append(mates, strangers),
                np.arange(len(mates) + len(strangers)) < len(mates),
                kinds=("mated probes: the mate", "non-mated probes: the best of the gallery"),
            ),
            "Scores of all searches, as shares of each kind of probe.",
        )
        page.table(
            ("Search", "FPIR target", "Threshold", "False alarms", "FPIR", "TPIR"),
            [
                [str(name), power(fpir), *_threshold_cells(found.tpir_at_fpir(fpir))]
                for name, found in searches
                for fpir in FPIRS
            ],
            "A search is answered if its best score is at least the threshold. A threshold that "
            "few false alarms decide depends on chance.",
        )
    add_hardest(page, *_as_pairs([found for _, found in searches], images))


def _threshold_cells(entry: Any) -> list[str]:
    if not entry.supported:
        return [str(entry), "-", "-", "-"]
    alarms = round(entry.fpir * entry.non_mated)
    return [f"{entry.threshold:.4f}", f"{alarms:,}", f"{entry.fpir:.3g}", f"{entry.tpir:.2%}"]


def _as_pairs(searches: Sequence[Any], images: Sequence[Any]) -> Shown:
    """Mates and strangers of all searches as `Pairs` of images, and their scores."""
    probes, found, scores, same = (
        np.concatenate(parts)
        for parts in zip(
            *(
                (
                    np.append(each.mated, each.non_mated),
                    np.append(each.mates, each.nearest),
                    np.append(each.mate_scores, each.best_scores),
                    np.arange(len(each.mated) + len(each.non_mated)) < len(each.mated),
                )
                for each in searches
            ),
            strict=True,
        )
    )
    there = found >= 0
    if same[there].all():  # without strangers, no pictures
        return Pairs(None, None, same), scores
    return (
        Pairs(
            first=[images[row] for row in probes[there]],
            second=[images[row] for row in found[there]],
            same=same[there],
        ),
        scores[there],
    )
