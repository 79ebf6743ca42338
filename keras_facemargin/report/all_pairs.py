"""The report of every pair of a set of faces: listed where they are few, counted where not."""

import numpy as np

from keras_facemargin.data.whole import write_json
from keras_facemargin.evaluate import (
    Bootstrap,
    Pairs,
    all_pairs,
    bootstrap_hardest,
    hardest_pairs,
    verify_all_pairs,
)
from keras_facemargin.report.hardest import add_hardest
from keras_facemargin.report.measures import Measure, draws_record, page_file, pair_of, power
from keras_facemargin.report.page import Report
from keras_facemargin.report.verification import deciding, report_verification

# Embeddings whose pairs, two million at most, are listed and drawn one by one.
LISTED = 2_000


def report_all_pairs(
    output,
    title,
    name,
    embeddings,
    labels,
    images=None,
    about=(),
    replicates=1_000,
    seed=0,
    progress=True,
) -> Bootstrap:
    """Measures an embedder on every pair of a set of faces and writes an HTML page and its JSON.

    Up to `LISTED` embeddings it is the page of `report_verification`. Of more, the pairs are
    counted and not kept (`verify_all_pairs`), intervals are drawn over the pairs that decide
    (`hardest_pairs`), and the page has no curves: rates, thresholds, intervals and pictures.

    Args:
        output, title, about, replicates, seed, progress: as `report_verification`.
        name: of the embedder.
        embeddings: ``(N, D)``, of any length but zero.
        labels: ``(N,)``, whose face each row is.
        images: the images ``(N,)``, as `read_face` takes them, or ``None`` for no pictures.

    Returns:
        A `Bootstrap`.

    Raises:
        ValueError, ImportError, OSError: as `report_verification` and `verify_all_pairs`.
    """
    output = page_file(output)
    if len(embeddings) <= LISTED:
        scores, same = all_pairs(embeddings, labels)
        sides = np.triu_indices(len(embeddings), k=1)
        people = np.unique(np.asarray(labels), return_inverse=True)[1]
        pairs = Pairs(
            *((None, None) if images is None else (_chosen(images, side) for side in sides)),
            same=same,
            people=tuple(people[side] for side in sides),
        )
        found = report_verification(
            *(output, title, pairs, {name: scores}, about, None, replicates, seed, progress)
        )
        return found[name].draws
    rates = verify_all_pairs(embeddings, labels, progress=progress)
    wanted = deciding(rates.eer, rates.impostors)
    pairs = hardest_pairs(embeddings, labels, wanted, progress)
    fars = [entry.target for entry in rates.tar_at_far]
    draws = bootstrap_hardest(pairs, fars, replicates, seed, progress)
    page = Report(title)
    page.paragraph(
        f"All pairs of {rates.embeddings:,} embeddings by {name}: {rates.genuines:,} genuine and "
        f"{rates.impostors:,} impostor pairs. Intervals: {draws}, over the genuine pairs and the "
        f"{np.count_nonzero(~pairs.same):,} impostor pairs most alike; the others only count."
    )
    for text in about:
        page.paragraph(text)
    equal = Measure("EER", rates.eer, draws.eer).ends
    tars = [
        Measure("TAR", entry.tar, drawn).ends
        for entry, drawn in zip(rates.tar_at_far, draws.tar.T, strict=True)
    ]
    rows = [["EER", "-", f"{rates.eer:.3%}", equal or "-", "-"]]
    for entry, ends in zip(rates.tar_at_far, tars, strict=True):
        cells = ["-", str(entry), "-", "-"]
        if entry.supported:
            cells = [f"{entry.threshold:.4f}", f"{entry.tar:.2%}", ends or "-", f"{entry.fnmr:.2%}"]
        rows.append([f"TAR @ FAR {power(entry.target)}", *cells])
    page.heading("Measures")
    page.table(
        ("Measure", "Threshold", "Rate", "Interval", "FNMR"),
        rows,
        "The largest TAR whose FAR does not exceed the target, exact over every pair. Without an "
        "interval: more impostor pairs decide the rate than were drawn.",
    )
    if images is not None:
        page.heading("Hardest pairs")
        add_hardest(page, *_as_pairs(pairs, images))
    page.write(output)
    record = {"title": title, "about": list(about), "model": name, **rates.to_dict()}
    record["intervals"] = {
        **draws_record(draws, seed),
        "eer": pair_of(equal),
        "tar_at_far": [pair_of(ends) for ends in tars],
    }
    write_json(output.with_suffix(".json"), record)
    return draws


def _as_pairs(pairs, images, count=6):
    """The few of `HardestPairs` that are shown, as `Pairs` of images, and their scores."""
    ascending = np.argsort(pairs.scores, kind="stable")
    same = pairs.same[ascending]
    rows = np.concatenate([ascending[same][:count], ascending[~same][-count:]])
    first, second = (_chosen(images, side[rows]) for side in (pairs.first, pairs.second))
    return Pairs(first, second, pairs.same[rows]), pairs.scores[rows]


def _chosen(images, rows):
    return tuple(images[row] for row in rows.tolist())
