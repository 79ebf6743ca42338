"""The report of a 1:1 evaluation: what a paper may cite, with its uncertainty, on one page.

Whatever the protocol, it comes down to `Pairs` and, for each embedder, their scores; that is all
that `report_verification` takes.
"""

import dataclasses
from pathlib import Path

import numpy as np

from keras_facemargin.data.whole import write_json
from keras_facemargin.evaluate import (
    Bootstrap,
    Pairs,
    Verification,
    all_pairs,
    bootstrap,
    bootstrap_hardest,
    hardest_pairs,
    interval,
    plot_det,
    plot_groups,
    plot_hardest_pairs,
    plot_roc,
    plot_scores,
    rates_by_group,
    tar_at_far,
    threshold_at_far,
    validation_rate,
    verify,
    verify_all_pairs,
)
from keras_facemargin.evaluate.bootstrap import LEVEL
from keras_facemargin.evaluate.conventions import RULES
from keras_facemargin.evaluate.hardest import TAIL
from keras_facemargin.report.page import Report

# FARs of the table of thresholds.
FARS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)

# Embeddings whose pairs, two million at most, are listed and drawn one by one.
LISTED = 2_000

# Impostor pairs that are drawn of a larger set, at most.
MOST_DRAWN = 5_000_000

# Groups are compared at the lowest FAR that as many impostor pairs decide: with fewer the rates of
# a group are chance.
DECIDING = 30

_WORDS = {
    "conservative": "conservative (this report): largest TAR with FAR at most the target",
    "nearest": "nearest ROC point (InsightFace, IJB)",
    "interpolated": "linear between ROC points (OpenSphere)",
    "kth_impostor": "k-th largest impostor (PFE, BLUFR)",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """One embedder on the list.

    Attributes:
        result: a `Verification`.
        draws: a `Bootstrap`.
    """

    result: Verification
    draws: Bootstrap

    def measures(self):
        """(name, value or ``None``, what to say with it or instead, replicates) of each measure."""
        accuracy = self.result.accuracy
        if accuracy is not None:
            name = f"Accuracy, {len(accuracy.folds)}-fold"
            yield name, accuracy.mean, f" ± {accuracy.standard_error:.2%}", self.draws.accuracy
        yield "AUC", self.result.auc, "", self.draws.auc
        yield "EER", self.result.eer, "", self.draws.eer
        for entry, drawn in zip(self.result.tar_at_far, self.draws.tar.T, strict=True):
            said = "" if entry.supported else str(entry)
            yield f"TAR @ FAR {_power(entry.target)}", entry.tar, said, drawn


def report_verification(
    output,
    title,
    pairs,
    scores,
    about=(),
    groups=None,
    replicates=1_000,
    seed=0,
    progress=True,
) -> dict[str, Measured]:
    """Measures the embedders on a list of pairs and writes an HTML page, and its JSON beside it.

    The page holds every measure with its interval, the differences between embedders draw by draw,
    ROC and DET curves with bands, the scores, the thresholds, what other published rules would say,
    the errors by group, and the hardest pairs as pictures.

    Args:
        output: the page, ``*.html``; ``*.json`` beside it is replaced too. Each is written whole or
            not at all.
        title: of the page.
        pairs: `Pairs`, of whatever protocol. With `people`, identities are resampled, else pairs.
        scores: dict of embedder's name -> its scores of the pairs, ``(N,)``.
        about: texts on what was measured and how, a paragraph each.
        groups: dict of name -> groups of the two sides, ``(N,)`` each, as `read_groups` gives them.
        replicates, seed: as `bootstrap`.
        progress: whether to draw progress bars on standard error.

    Returns:
        A dict of embedder's name -> `Measured`.

    Raises:
        ValueError: if `output` is no ``*.html`` or there is no embedder, or as `verify`,
            `bootstrap` and `rates_by_group`.
        ImportError: if matplotlib is missing.
        OSError: if a file cannot be written, or an image of the hardest pairs cannot be read.

    Example:
        >>> from keras_facemargin.evaluate import Pairs
        >>> same = np.repeat([True, False], 50)
        >>> people = np.arange(100), np.append(np.arange(50), np.arange(51, 101))
        >>> scores = np.append(np.linspace(0.3, 0.9, 50), np.linspace(-0.2, 0.4, 50))
        >>> pairs = Pairs(None, None, same, people=people)
        >>> found = report_verification("report.html", "Templates", pairs, {"ours": scores},
        ...                             replicates=20, progress=False)
        >>> found["ours"].result.eer, found["ours"].draws.units
        (0.1, 101)
    """
    output = _page_file(output)
    if not scores:
        raise ValueError(
            "`scores` must hold at least one embedder's name -> scores. Received: none."
        )
    unseen = int(np.count_nonzero(pairs.unseen))
    models = {}
    for name, values in scores.items():
        result = dataclasses.replace(verify(values, pairs.same, pairs.folds), unseen=unseen)
        draws = bootstrap(
            *(values, pairs.same, pairs.folds, pairs.people),
            replicates=replicates,
            seed=seed,
            progress=progress,
        )
        models[name] = Measured(result, draws)
    rates = {
        (name, column): _by_group(models[name].result, pairs, sides, replicates, seed)
        for name in models
        for column, sides in (groups or {}).items()
    }
    _write_page(output, title, about, pairs, models, rates)
    write_json(output.with_suffix(".json"), _record(title, about, seed, models, rates))
    return models


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
    output = _page_file(output)
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
    # As many impostors as decide the EER in every draw, if they can be held.
    wanted = min(max(TAIL, 3 * round(rates.eer * rates.impostors)), MOST_DRAWN)
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
    ends = {"eer": _pair(draws.eer)} if np.isfinite(draws.eer).all() else {}
    drawn = {
        entry.target: _pair(values)
        for entry, values in zip(rates.tar_at_far, draws.tar.T, strict=True)
        if entry.supported and np.isfinite(values).all()
    }
    rows = [["EER", "-", f"{rates.eer:.3%}", _span(ends.get("eer")), "-"]]
    for entry in rates.tar_at_far:
        cells = ["-", str(entry), "-", "-"]
        if entry.supported:
            span = _span(drawn.get(entry.target))
            cells = [f"{entry.threshold:.4f}", f"{entry.tar:.2%}", span, f"{entry.fnmr:.2%}"]
        rows.append([f"TAR @ FAR {_power(entry.target)}", *cells])
    page.heading("Measures")
    page.table(
        ("Measure", "Threshold", "Rate", "Interval", "FNMR"),
        rows,
        "The largest TAR whose FAR does not exceed the target, exact over every pair. Without an "
        "interval: more impostor pairs decide the rate than were drawn.",
    )
    if images is not None:
        page.heading("Hardest pairs")
        shown, scores = _hardest(pairs, images)
        page.figure(
            plot_hardest_pairs(shown, scores),
            "A genuine pair of two different people, or an impostor pair of one, is an error of "
            "the labels: look before you blame.",
        )
    page.write(output)
    record = {"title": title, "about": list(about), "model": name, **rates.to_dict()}
    record["intervals"] = {
        **_settings(draws, seed),
        **ends,
        "tar_at_far": [drawn.get(far) for far in fars],
    }
    write_json(output.with_suffix(".json"), record)
    return draws


def measures_table(models):
    """(headers, rows) of every measure of every embedder as text, with its interval."""
    columns = [list(measured.measures()) for measured in models.values()]
    rows = []
    for entries in zip(*columns, strict=True):
        cells = [
            said if value is None else f"{_rate(value, name)}{said} ({_ends(drawn, name)})"
            for name, value, said, drawn in entries
        ]
        rows.append([entries[0][0], *cells])
    return ["Measure", *models], rows


def _by_group(result, pairs, sides, replicates, seed):
    """(FAR target, threshold, what `rates_by_group` finds there)."""
    impostors = result.scores[~result.same]
    targets = [far for far in (1e-1, *FARS) if far * len(impostors) >= DECIDING]
    far = min(targets, default=0.5)
    threshold = threshold_at_far(impostors, far)
    found = rates_by_group(
        *(result.scores, result.same, sides, threshold, pairs.people, replicates, seed)
    )
    return far, threshold, found


def _write_page(output, title, about, pairs, models, rates):
    page = Report(title)
    first = next(iter(models.values()))
    page.paragraph(
        f"{first.result.genuines:,} genuine and {first.result.impostors:,} impostor pairs. In "
        f"brackets: {first.draws}; thresholds are chosen anew in each draw."
    )
    if first.draws.unit == "pairs":
        page.paragraph(
            "The list does not tell whose faces it holds, so pairs were drawn as if they were "
            "independent. Where people stand in several pairs the true intervals are wider."
        )
    if first.result.unseen:
        page.paragraph(
            f"Pairs with a missing image, which count as rejected: {first.result.unseen:,}. A face "
            "that cannot be enrolled is accepted as nobody's."
        )
    for text in about:
        page.paragraph(text)

    page.heading("Measures")
    headers, rows = measures_table(models)
    page.table(
        headers,
        rows,
        "Accuracy ± standard error over the folds, each at the threshold that is most accurate on "
        "the others. TAR at FAR: the "
        "largest TAR whose FAR does not exceed the target. An interval without width says that no "
        "pair showed the error, not that it cannot happen.",
    )
    if len(models) > 1:
        _add_differences(page, models)

    page.heading("Curves")
    curves = {name: each.result.curve for name, each in models.items()}
    bands = {name: each.draws for name, each in models.items()}
    middle = f"Shaded: the middle {LEVEL:.0%} of the draws at each FAR."
    page.figure(plot_roc(curves, bands), f"ROC, exact at every score. {middle}")
    page.figure(plot_det(curves, bands), f"DET: the same errors, both logarithmic. {middle}")

    for name, each in models.items():
        page.heading(name if len(models) > 1 else "Scores and thresholds")
        _add_model(page, each, pairs)
        for (model, column), found in rates.items():
            if model == name:
                _add_groups(page, column, *found)
        if pairs.first is not None:
            page.figure(
                plot_hardest_pairs(pairs, each.result.scores),
                "Where the embedder errs most. A genuine pair of two different people, or an "
                "impostor pair of one, is an error of the list: look before you blame.",
            )
    page.write(output)


def _add_differences(page, models):
    base, *others = models
    rows = []
    for name in others:
        for one, other in zip(models[base].measures(), models[name].measures(), strict=True):
            if one[1] is None:
                continue
            found = interval(other[3] - one[3])
            decided = "no" if found.low <= 0 <= found.high else "yes"
            cell = f"{other[1] - one[1]:+.2%} ({found.low:+.2%} to {found.high:+.2%})"
            rows.append([f"{name}: {one[0]}", cell, decided])
    page.heading(f"Differences from {base}")
    page.table(
        ("Measure", "Difference", "Interval excludes 0"),
        rows,
        "The same people were drawn for every embedder, so luck that they share cancels. Of twenty "
        "differences that are none, one interval may exclude 0.",
    )


def _add_model(page, measured, pairs):
    result = measured.result
    threshold = None
    if result.accuracy is not None:
        threshold = float(np.mean(result.accuracy.thresholds))
    page.figure(
        plot_scores(result.scores, result.same, threshold),
        "Scores, each kind as shares of its own."
        + ("" if threshold is None else " Dashed: the mean threshold of the folds."),
    )
    rows = []
    for entry, drawn in zip(result.tar_at_far, measured.draws.tar.T, strict=True):
        if entry.target not in FARS:
            continue
        if not entry.supported:
            rows.append([_power(entry.target), str(entry), *["-"] * 5])
            continue
        accepted = round(entry.far * result.impostors)
        rows.append(
            [
                _power(entry.target),
                f"{entry.threshold:.4f}",
                f"{accepted:,}",
                f"{entry.far:.3g}",
                f"{entry.tar:.2%}",
                str(interval(drawn)),
                f"{entry.fnmr:.2%}",
            ]
        )
    page.table(
        ("FAR target", "Threshold", "Impostors accepted", "FAR", "TAR", "Interval", "FNMR"),
        rows,
        "Pairs are accepted from the threshold on. Few accepted impostors make a threshold of "
        "chance: some thirty are needed before it can be relied on.",
    )
    supported = [entry.target for entry in result.tar_at_far if entry.supported]
    rows = [
        [_WORDS[rule], *(_read(result, far, rule) for far in supported)]
        for rule in RULES
        if supported
    ]
    if result.accuracy is not None and supported:
        rows.append(
            [
                "VAL: mean over folds, threshold linear on the others (FaceNet, InsightFace)",
                *(
                    str(validation_rate(result.scores, result.same, pairs.folds, far))
                    for far in supported
                ),
            ]
        )
    if rows:
        page.table(
            ("TAR by the rule of", *(f"FAR {_power(far)}" for far in supported)),
            rows,
            "The same scores as other published codes would report them: compare a number only "
            "with numbers of its own rule.",
        )


def _read(result, far, rule):
    entry = tar_at_far(result.scores, result.same, far, rule)
    return f"{entry.tar:.2%}" + (f", FAR {entry.far:.4g}" if entry.far > far else "")


def _add_groups(page, column, far, threshold, rates):
    rows = [
        [
            group.name,
            *(cell for rate in (group.fmr, group.fnmr) for cell in (str(rate), _ratio(rate))),
        ]
        for group in rates
    ]
    page.table(
        (column, "FMR", "of all", "FNMR", "of all"),
        rows,
        f"Errors by {column} at one threshold for everybody, {threshold:.4f}, which is at FAR "
        f"{far:g} over all pairs: impostor pairs accepted and genuine pairs rejected. A group's "
        "pairs have both images in it.",
    )
    page.figure(plot_groups(rates), f"Errors by {column}. Bars: intervals. Dashed: all pairs.")


def _ratio(rate):
    ends = rate.ratio_interval
    if ends is None or ends.low == ends.high == 1:  # all pairs, to themselves
        return "-"
    return f"{rate.ratio:.2f} x ({ends.low:.2f} to {ends.high:.2f})"


def _record(title, about, seed, models, rates):
    first = next(iter(models.values())).draws
    record = {
        "title": title,
        "about": list(about),
        "intervals": _settings(first, seed),
        "models": {},
    }
    for name, each in models.items():
        result = each.result
        found = {"auc": _pair(each.draws.auc), "eer": _pair(each.draws.eer)}
        if result.accuracy is not None:
            found["accuracy"] = _pair(each.draws.accuracy)
        found["tar_at_far"] = [
            _pair(drawn) if entry.supported else None
            for entry, drawn in zip(result.tar_at_far, each.draws.tar.T, strict=True)
        ]
        record["models"][name] = {
            **result.to_dict(),
            "intervals": found,
            "conventions": {
                rule: [
                    dataclasses.asdict(tar_at_far(result.scores, result.same, e.target, rule))
                    for e in result.tar_at_far
                ]
                for rule in RULES
            },
            "groups": {
                column: {
                    "far": far,
                    "threshold": threshold,
                    "groups": [dataclasses.asdict(group) for group in groups],
                }
                for (model, column), (far, threshold, groups) in rates.items()
                if model == name
            },
        }
    return record


def _settings(draws, seed):
    return {
        "level": LEVEL,
        "resampled": draws.unit,
        "units": draws.units,
        "replicates": draws.replicates,
        "seed": seed,
    }


def _page_file(output):
    output = Path(output)
    if output.suffix != ".html":
        raise ValueError(f"`output` must be a file *.html. Received: {output}")
    return output


def _hardest(pairs, images, count=6):
    """The few of `HardestPairs` that are shown, as `Pairs` of images, and their scores."""
    ascending = np.argsort(pairs.scores, kind="stable")
    same = pairs.same[ascending]
    rows = np.concatenate([ascending[same][:count], ascending[~same][-count:]])
    first, second = (_chosen(images, side[rows]) for side in (pairs.first, pairs.second))
    return Pairs(first, second, pairs.same[rows]), pairs.scores[rows]


def _chosen(images, rows):
    return tuple(images[row] for row in rows.tolist())


def _span(ends):
    return "-" if ends is None else f"{ends[0]:.2%} to {ends[1]:.2%}"


def _pair(values):
    return list(dataclasses.astuple(interval(values)))


def _ends(values, name):
    ends = interval(values)
    return f"{_rate(ends.low, name)} to {_rate(ends.high, name)}"


def _rate(value, name):
    return f"{value:.5f}" if name == "AUC" else f"{value:.2%}"


def _power(far):
    """1e-3, as the field writes it."""
    return f"{far:.0e}".replace("e-0", "e-")
