"""Reads the list of a protocol, measures embedders on it, and prints and writes the results."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from keras_facemargin.cli.console import say, show_table
from keras_facemargin.cli.evaluate.tasks import Task
from keras_facemargin.cli.files import prepare_folder, prepare_page, printable
from keras_facemargin.cli.opening import ModelOptions

if TYPE_CHECKING:
    from keras_facemargin.report import Measured


@dataclasses.dataclass(frozen=True)
class EvaluationRun:
    """One evaluation, as a command describes it.

    Attributes:
        title: title of the page.
        about: a paragraph of the page on the data.
        record: entries of results.json that describe the data.
        read: reads the list.
        task: measures an embedder on such a list.
    """

    title: str
    about: str
    record: dict[str, Any]
    read: Callable[[], Any]
    task: Task


def to_page_or_folder(
    run: EvaluationRun,
    models: ModelOptions,
    *,
    output: Path,
    flip: bool,
    report: Path | None,
    groups: Path | None = None,
) -> None:
    """Writes a page if `report` names one, else a folder."""
    check_compared("--model", "models", models.names, report=report, groups=groups)
    if report is not None:
        _to_page(run, models, report, flip)
    else:
        _to_folder(run, models, output, flip)


def _to_folder(run: EvaluationRun, models: ModelOptions, output: Path, flip: bool) -> None:
    """Prints the table of one embedder and writes results.json and the plots."""
    from keras_facemargin.evaluate.plots import require_matplotlib
    from keras_facemargin.files import atomic_write, write_json

    ((model, embedder),) = models.open().items()
    listed = run.read()
    prepare_folder(output, "results.json", *run.task.figures)  # before the embedding
    if run.task.figures:
        require_matplotlib()
    found = run.task.measure(embedder, listed, flip)
    result = run.task.conclude(listed, found)
    show_table(result)
    id = embedder.id_of(mirrored=flip)
    about = {"model": model, "flip": flip, "embedding_id": id}
    record = {**run.record, **about, **result.to_dict()}
    intervals = run.task.intervals(listed, result) if run.task.intervals else None
    if intervals is not None:
        say(str(intervals))
        record["intervals"] = intervals.to_dict()
    write_json(output / "results.json", record)
    figures = run.task.plots(printable(model), listed, result) if run.task.plots else ()
    for name, figure in zip(run.task.figures, figures, strict=True):
        with atomic_write(output / name, "wb") as file:
            figure.savefig(file, format="png")
    say(f"{output}/{', '.join(['results.json', *run.task.figures])}")


def _to_page(run: EvaluationRun, models: ModelOptions, report: Path, flip: bool) -> None:
    """Writes one page that compares the embedders, and its JSON."""
    embedders = models.open()
    listed = run.read()
    prepare_page(report)
    found = {
        printable(name): run.task.measure(embedder, listed, flip)
        for name, embedder in embedders.items()
    }
    about = [run.about, about_flip(flip)]
    show(run.task.page(report, run.title, listed, found, about), report)


def about_flip(flip: bool) -> str:
    """The paragraph of a page on mirror images."""
    return "The embedding of the mirror image is appended." if flip else "No mirror images."


def show(models: "Mapping[str, Measured[Any, Any]]", report: Path) -> None:
    """Prints the measures of a page and the names of its files."""
    from keras_facemargin.report import measures_table

    headers, rows = measures_table({name: each.measures for name, each in models.items()})
    table = Table(*headers)
    for row in rows:
        table.add_row(*row)
    show_table(table)
    say(f"{report}, {report.with_suffix('.json').name}")


def check_compared(
    one: str, several: str, names: Sequence[str], *, report: Path | None, groups: Path | None
) -> None:
    """Raises `ValueError` for a name twice, and for a comparison or groups without a page."""
    if len({*names}) < len(names):
        raise ValueError(f"Each {one} must be named once. Received: {', '.join(names)}")
    if report is None and (len(names) > 1 or groups is not None):
        what = "--groups" if len(names) == 1 else f"{len(names)} {several}"
        raise ValueError(
            f"Several {several} and --groups need a page. Received: {what} without --report. Name "
            "the page: --report FILE.html"
        )
