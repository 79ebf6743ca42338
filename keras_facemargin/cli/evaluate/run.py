"""Reads a protocol's list, measures embedders on it, prints and writes what was found."""

import dataclasses
from collections.abc import Callable

from rich.table import Table

from keras_facemargin.cli.console import console, say
from keras_facemargin.cli.evaluate.tasks import Task
from keras_facemargin.cli.files import prepare_folder, prepare_page, printable


@dataclasses.dataclass(frozen=True)
class EvaluationRun:
    """What a command was told.

    Attributes:
        title: of a page.
        about: what is compared, for a page.
        record: what results.json says of it.
        read: gives its list.
        task: what is done with such a list.
    """

    title: str
    about: str
    record: dict
    read: Callable
    task: Task


def to_folder(run, model, output, flip):
    """One embedder's table, results.json and plots."""
    from keras_facemargin.evaluate.plots import require_matplotlib
    from keras_facemargin.files import atomic_write, write_json
    from keras_facemargin.zoo import load_embedder

    embedder = load_embedder(model)
    listed = run.read()
    prepare_folder(output, "results.json", *run.task.figures)  # before the embedding
    if run.task.figures:
        require_matplotlib()
    found = run.task.measure(embedder, listed, flip=flip)
    result = run.task.conclude(listed, found)
    console.print(result)
    record = {**run.record, "model": model, "flip": flip, **result.to_dict()}
    write_json(output / "results.json", record)
    made = ["results.json"]
    name = printable(model)
    figures = run.task.plots(name, listed, result) if run.task.figures else ()
    for name, figure in zip(run.task.figures, figures, strict=True):
        with atomic_write(output / name, "wb") as file:
            figure.savefig(file, format="png")
        made.append(name)
    say(f"{output}/{', '.join(made)}")


def to_page(run, models, report, flip):
    """Embedders side by side on one page, and its JSON."""
    from keras_facemargin.zoo import load_embedder

    embedders = {model: load_embedder(model) for model in models}
    listed = run.read()
    prepare_page(report)
    found = {
        printable(name): run.task.measure(embedder, listed, flip=flip)
        for name, embedder in embedders.items()
    }
    about = [run.about, mirrored(flip)]
    show(run.task.page(report, run.title, listed, found, about), report)


def mirrored(flip):
    """What a page says of mirror images."""
    return "The embedding of the mirror image is appended." if flip else "No mirror images."


def show(models, report):
    """Prints the measures of a page that was written."""
    from keras_facemargin.report import measures_table

    headers, rows = measures_table({name: each.measures for name, each in models.items()})
    table = Table(*headers)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    say(f"{report}, {report.with_suffix('.json').name}")


def to_page_or_folder(run, models, output, flip, report, groups=None):
    """A page where one is named, else a folder."""
    check_compared("--model", "models", models, report, groups)
    if report is not None:
        to_page(run, models, report, flip)
        return
    (model,) = models
    to_folder(run, model, output, flip)


def check_compared(one, several, names, report, groups):
    """Several embedders and groups have their place on a page only."""
    if len({*names}) < len(names):
        raise ValueError(f"Each {one} must be named once. Received: {', '.join(names)}")
    if report is None and (len(names) > 1 or groups is not None):
        what = "--groups" if len(names) == 1 else f"{len(names)} {several}"
        raise ValueError(
            f"Comparisons are written as one page. Received: {what} without --report. Name the "
            "page: --report FILE.html"
        )
