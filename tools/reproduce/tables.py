"""Writes the tables and figures of docs/papers from the rows of `reproduce.py`.

    python tools/reproduce/tables.py

A figure and the table between two marks of `docs/papers/PAPER.md`, for each page there is. A
value is the mean over the seeds. Its interval is of Student's t, with the standard deviation over
seeds pooled over the paper's settings: three seeds alone decide nothing about their own spread. A
setting on the edge of failure differs more from seed to seed than the others: it has an interval of
its own seeds.
"""

import argparse
import csv
import functools
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.stats
from matplotlib.figure import Figure
from studies import RECIPES, RESULTS, ROOT, STUDIES, Setting, chosen

from keras_facemargin.evaluate.plots import CURVES, GREY, INK
from keras_facemargin.files import atomic_write
from keras_facemargin.training.document import apply_change, read_document

DOCS = ROOT / "docs" / "papers"
BEGIN, END = "<!-- table: written by tools/reproduce/tables.py -->\n", "<!-- end of table -->"
MEASURES = {
    "view1": "View 1",
    "view2": "View 2",
    "tar_1e-02": "TAR at 1e-2",
    "tar_1e-03": "at 1e-3",
    "tar_1e-04": "at 1e-4",
    "tar_1e-05": "at 1e-5",
    "tpir": "TPIR at 1 %",
}
MORE = {
    "sphereface": {"fisher": "AFS, trained", "fisher_lfw": "AFS, LFW"},
    "l2_softmax": {"loss": "training loss", "norm_blurred": "norm under blur"},
    "cosface": {"loss": "training loss"},
}
SHARES = ("fisher", "fisher_lfw", "loss", "norm_blurred")  # numbers, not percentages
# Shares of the training crops that a setting names right at the end.
LEARNED = 0.02  # below it has learned nothing
TRAINED = 0.5  # below it is on the edge of failure
DRAWN = {"view2": "LFW, View 2 (%)", "tar_1e-03": "LFW, TAR at FAR 1e-3 (%)"}


class Result(NamedTuple):
    """A measure of a setting: its mean over seeds and half the width of its 95 % interval."""

    mean: float
    half: float


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="CSV of reproduce.py")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the pages")
    options = parser.parse_args(arguments)
    if not options.results.is_file():
        raise SystemExit(
            f"--results must be the CSV of reproduce.py. Received: {options.results}, which does "
            "not exist. Run reproduce.py first."
        )
    with open(options.results, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for paper, study in STUDIES.items():
        page = options.docs / f"{paper}.md"
        if not page.is_file():
            print(f"{paper}: no page {page}")
            continue
        measures = MEASURES | MORE.get(paper, {})
        settings = study.all_settings
        if study.chooses:
            settings = chosen(rows, settings)
        found = results_of(rows, settings, measures)
        if not any(setting in found for setting in study.settings):
            continue
        if study.chooses:
            found = dict(sorted(found.items(), key=lambda each: -each[1]["view2"].mean))
        table = table_of(found, measures)
        write_between_marks(page, table)
        figure = draw_bars(found) if study.chooses else draw_sweeps(found, study)
        figure.savefig(options.docs / f"{paper}.png", dpi=110)
        print(paper)
        print(table)


def results_of(rows, settings, measures):
    """Setting -> measure -> `Result`, for those of the settings that have rows.

    A setting with an empty value of a measure has no result for it. One that learned nothing has no
    interval.
    """
    rows_of = {setting: [] for setting in settings}
    for row in rows:
        setting = Setting(row["recipe"], tuple(row["changes"].split()))
        if setting in rows_of:
            rows_of[setting].append(row)
    rows_of = {setting: own for setting, own in rows_of.items() if own}
    named = {
        setting: np.mean([float(row["accuracy"]) for row in own])
        for setting, own in rows_of.items()
    }
    found = {setting: {} for setting in rows_of}
    for measure in (*measures, "accuracy"):
        values = {
            setting: [float(row[measure]) for row in own]
            for setting, own in rows_of.items()
            if all(row[measure] for row in own)
        }
        pooled = [each for setting, each in values.items() if named[setting] >= TRAINED]
        for setting, each in values.items():
            half = float("nan")
            if named[setting] > LEARNED:
                half = half_width(pooled if named[setting] >= TRAINED else [each], len(each))
            found[setting][measure] = Result(float(np.mean(each)), half)
    return found


def half_width(groups, count):
    """Half the 95 % interval of a mean of `count` values whose spread is that within the groups."""
    freedom = sum(len(each) - 1 for each in groups)
    if not freedom:
        return float("nan")
    square = sum(np.var(each) * len(each) for each in groups)
    return float(scipy.stats.t.ppf(0.975, freedom) * np.sqrt(square / freedom / count))


def table_of(found, measures):
    """Markdown: a row for each setting."""
    lines = [
        "| " + " | ".join(["recipe", "changes", *measures.values()]) + " |",
        "| --- | --- |" + " --- |" * len(measures),
    ]
    for setting, results in found.items():
        cells = [_cell(results.get(each), 1 if each in SHARES else 100) for each in measures]
        lines.append("| " + " | ".join([recipe_of(setting), changes_of(setting), *cells]) + " |")
    return "\n".join(lines) + "\n"


def _cell(result, scale):
    if result is None:
        return "-"
    digits = 1 if scale == 100 else 3
    mean, half = (f"{value * scale:.{digits}f}" for value in result)
    return mean if np.isnan(result.half) else f"{mean} ± {half}"  # NaN: see `results_of`


def recipe_of(setting):
    return setting.recipe.rpartition("/")[2]


def changes_of(setting):
    return ", ".join(map(short, setting.changes))


def name_of(setting):
    return f"{recipe_of(setting)} {changes_of(setting)}".strip()


def short(change):
    return change.removeprefix("head.").removeprefix("embedder.arguments.")


class Sweep(NamedTuple):
    """A key with a number for each setting, where all else is the same."""

    recipe: str
    key: str
    others: tuple[str, ...]

    def __str__(self):
        return ", ".join([recipe_of(self), *map(short, self.others)])


def sweeps_of(found, study):
    """`Sweep` -> x -> setting, and the settings that are lines."""
    sweeps, lines = {}, [setting for setting in study.baselines if setting in found]
    for setting in study.settings:
        if setting not in found:
            continue
        first, *others = setting.changes or ("",)
        key, _, value = first.partition("=")
        x = position(value)
        if x is None:
            lines.append(setting)
        else:
            sweep = Sweep(setting.recipe, key, tuple(others))
            sweeps.setdefault(sweep, {})[x] = setting
    arguments = {setting: arguments_of(setting) for setting in found}
    for sweep, points in sweeps.items():
        # The recipe's own value is a point, too. Another sweep may have trained it.
        own = arguments_of(Setting(sweep.recipe, sweep.others))
        for setting in found:
            if setting not in points.values() and arguments[setting] == own:
                value = functools.reduce(dict.get, sweep.key.split("."), own)
                points[position(json.dumps(value))] = setting
    return sweeps, lines


def arguments_of(setting):
    """The recipe with its changes, as a document."""
    _, document = read_document(RECIPES / f"{setting.recipe}.toml")
    for change in setting.changes:
        apply_change(document, change)
    return document


def position(value):
    """A number, or for the depths of stages the number of convolutions."""
    if value.startswith("["):
        return sum(1 + 2 * depth for depth in json.loads(value))
    try:
        return float(value)
    except ValueError:
        return None


def draw_sweeps(found, study):
    """A row of axes for each key that is swept: its values against the measures of `DRAWN`."""
    found = {each: own for each, own in found.items() if own["accuracy"].mean > LEARNED}
    sweeps, lines = sweeps_of(found, study)
    keys = list(dict.fromkeys(sweep.key for sweep in sweeps))
    figure = Figure(figsize=(9, 3.1 * len(keys)), layout="constrained")
    grid = figure.subplots(len(keys), len(DRAWN), squeeze=False)
    for axes_of_key, key in zip(grid, keys, strict=True):
        for axes, (measure, label) in zip(axes_of_key, DRAWN.items(), strict=True):
            own = {str(sweep): points for sweep, points in sweeps.items() if sweep.key == key}
            for number, (name, points) in enumerate(own.items()):
                xs = sorted(points)
                results = [found[points[x]][measure] for x in xs]
                axes.errorbar(
                    xs,
                    [100 * each.mean for each in results],
                    [100 * each.half for each in results],
                    *(None, "o-"),
                    color=CURVES[number % len(CURVES)],
                    capsize=3,
                    label=name,
                )
            for number, setting in enumerate(lines):
                axes.axhline(
                    100 * found[setting][measure].mean,
                    linestyle=("--", ":", "-.")[number % 3],
                    color=GREY,
                    label=name_of(setting),
                )
            axes.set(xlabel=short(key), ylabel=label)
            axes.locator_params(axis="x", nbins=6)  # labels that do not touch
            axes.grid(alpha=0.25)
        axes_of_key[0].legend(fontsize=8)
    return figure


def draw_bars(found):
    """The settings of the table, the best at the top."""
    figure = Figure(figsize=(9, 0.32 * len(found) + 1), layout="constrained")
    names = list(map(name_of, found))
    places = np.arange(len(found))[::-1]
    for number, (axes, (measure, label)) in enumerate(
        zip(figure.subplots(1, len(DRAWN), sharey=True), DRAWN.items(), strict=True)
    ):
        results = [each[measure] for each in found.values()]
        axes.errorbar(
            [100 * each.mean for each in results],
            places,
            xerr=[100 * each.half for each in results],
            fmt="o",
            color=CURVES[number],
            ecolor=INK,
            capsize=3,
        )
        axes.set(xlabel=label)
        axes.set_yticks(places, names)
        axes.grid(alpha=0.25)
    return figure


def write_between_marks(page, table):
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(
            f"{page} must have the marks {BEGIN.strip()!r} and {END!r}. Received: none, or only "
            "one. Add both, each on a line of its own."
        )
    with atomic_write(page) as file:
        file.write(f"{before}{BEGIN}{table}{END}{after}")


if __name__ == "__main__":
    main()
