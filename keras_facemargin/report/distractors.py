"""The report of people among distractors: MegaFace."""

import dataclasses

import numpy as np

from keras_facemargin.evaluate import Pairs, plot_scores
from keras_facemargin.evaluate.identification import RANKS, AmongDistractors
from keras_facemargin.evaluate.plots import plot_cmc
from keras_facemargin.evaluate.uncertainty import DistractorDraws, bootstrap_distractors
from keras_facemargin.report.hardest import add_hardest
from keras_facemargin.report.measures import (
    Measure,
    add_measures,
    draws_record,
    intervals_record,
    page_file,
    power,
    require_embedders,
    write_record,
)
from keras_facemargin.report.page import Report
from keras_facemargin.report.thresholds import add_thresholds
from keras_facemargin.report.verification import add_curves


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredAmongDistractors:
    """One embedder among the distractors.

    Attributes:
        result: an `AmongDistractors`.
        draws: a `DistractorDraws`.
    """

    result: AmongDistractors
    draws: DistractorDraws

    def measures(self):
        """A `Measure` for each number of the result."""
        yield Measure("Rank-1", self.result.rank_1, self.draws.cmc[:, 0])
        for rank in RANKS[1:]:
            if rank <= self.result.best.shape[1]:
                value, drawn = self.result.cmc()[rank - 1], self.draws.cmc[:, rank - 1]
                yield Measure(f"Rank-{rank}", float(value), drawn)
        for entry, drawn in zip(self.result.tar_at_far, self.draws.tar.T, strict=True):
            said = "" if entry.supported else str(entry)
            yield Measure(f"TAR @ FAR {power(entry.target)}", entry.tar, drawn, said)


def report_distractors(
    output,
    title,
    probes,
    distractors,
    results,
    about=(),
    replicates=1_000,
    seed=0,
    progress=True,
) -> dict[str, MeasuredAmongDistractors]:
    """Writes what embedders found among distractors as an HTML page and its JSON.

    The page holds rank-1 and TAR at FAR with intervals over resampled people, the differences
    between embedders draw by draw, ROC and DET as far down as the false accepts that are held, the
    scores, the thresholds, and as pictures the mates that look least alike and the distractors that
    look most like somebody.

    Args:
        output, title, about, replicates, seed, progress: as `report_verification`.
        probes, distractors: the images, as `read_face` takes them, in the order of the rows.
        results: dict of embedder's name -> what `search_among_distractors` found.

    Returns:
        A dict of embedder's name -> `MeasuredAmongDistractors`.

    Raises:
        ValueError, ImportError, OSError: as `report_verification`.

    Example:
        >>> from keras_facemargin.images import write_synthetic_faces
        >>> from keras_facemargin.evaluate.identification import search_among_distractors
        >>> files = write_synthetic_faces("among", num_identities=3, images_per_identity=2)
        >>> rows = np.array([[1.0, 0.1], [0.9, 0.3], [0.1, 1.0], [0.3, 0.9], [-1.0, 0.2], [-1, 0]])
        >>> found = search_among_distractors(
        ...     rows[:4], list("aabb"), rows[4:], [0.2], progress=False
        ... )
        >>> report = report_distractors("among.html", "Two people", files[:4], files[4:],
        ...                             {"ours": found}, replicates=20, progress=False)
        >>> print(*report["ours"].measures(), sep="; ")
        100.00% (100.00% to 100.00%); 100.00% (100.00% to 100.00%)
    """
    output = page_file(output)
    require_embedders(results)
    models = {
        name: MeasuredAmongDistractors(
            result, bootstrap_distractors(result, replicates, seed, progress)
        )
        for name, result in results.items()
    }
    _write_page(output, title, about, probes, distractors, models)
    first = next(iter(models.values()))
    record = {
        name: {
            **each.result.to_dict(),
            "intervals": intervals_record(each),
            "cmc": each.result.cmc().tolist(),
        }
        for name, each in models.items()
    }
    write_record(output, title, about, draws_record(first.draws, seed), record)
    return models


def _write_page(output, title, about, probes, distractors, models):
    page = Report(title)
    first = next(iter(models.values()))
    result = first.result
    page.paragraph(
        f"{result.probes:,} images of {result.people:,} people, {result.searches:,} searches among "
        f"{result.distractors:,} distractors. In brackets: {first.draws}; thresholds are chosen "
        "anew in each draw. The distractors are as they are."
    )
    if result.left_out:
        page.paragraph(f"Missing images, which left the protocol: {result.left_out:,}.")
    for text in about:
        page.paragraph(text)
    add_measures(
        page,
        models,
        "Rank-1: the share of the ordered pairs of one person in which the mate scores more than "
        "every distractor. TAR at FAR: pairs of mates as genuine, all images with all distractors "
        "as impostor pairs.",
    )
    bands = {name: each.draws for name, each in models.items()}
    add_curves(
        page,
        {name: each.result.curve for name, each in models.items()},
        bands,
    )
    page.figure(
        plot_cmc({name: each.result.cmc() for name, each in models.items()}, bands),
        "Cumulative match characteristic: the share of searches in which fewer distractors than "
        "the rank score as high as the mate. Shaded as above.",
    )
    for name, each in models.items():
        found = each.result
        page.heading(name if len(models) > 1 else "Scores and thresholds")
        page.figure(
            plot_scores(
                np.append(found.genuine, found.best[:, 0]),
                np.arange(len(found.genuine) + len(found.best)) < len(found.genuine),
                kinds=("pairs of mates", "images: the best of the distractors"),
            ),
            "Scores, each kind as shares of its own.",
        )
        add_thresholds(page, found.tar_at_far, each.draws.tar)
        add_hardest(page, *_as_pairs(found, probes, distractors))
    page.write(output)


def _as_pairs(found, probes, distractors):
    """Mates, and each probe with the distractor most like it, as `Pairs` and their scores."""
    first = [probes[row] for row in (*found.first, *range(found.probes))]
    second = [probes[row] for row in found.second] + [
        distractors[row] for row in found.nearest[:, 0]
    ]
    same = np.arange(len(first)) < len(found.genuine)
    return Pairs(first, second, same), np.append(found.genuine, found.best[:, 0])
