"""The shape of a page: how every kind of list is measured, shown and recorded."""

import abc
import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from keras_facemargin.evaluate.plots import require_matplotlib
from keras_facemargin.files import check_writable, write_json
from keras_facemargin.report.draws import Resampling, draws_record
from keras_facemargin.report.measures import Measure, add_measures
from keras_facemargin.report.page import Report
from keras_facemargin.report.sections.groups import GroupRates

Given = TypeVar("Given")
Result = TypeVar("Result")
Draws = TypeVar("Draws")


@dataclasses.dataclass(frozen=True, eq=False)
class Measured(Generic[Result, Draws]):
    """The measures of one embedder.

    Attributes:
        result: the result that `keras_facemargin.evaluate` gives for this kind of list.
        draws: the same measures on resampled people.
        measures: a `Measure` for each number of the result, with its interval.
        groups: the errors by group, a `GroupRates` for each way to form groups.
    """

    result: Result
    draws: Draws
    measures: tuple[Measure, ...]
    groups: tuple[GroupRates, ...] = ()


class ReportTask(abc.ABC, Generic[Given, Result, Draws]):
    """One kind of list: how an embedder is measured on it and what its page shows.

    `write` fixes the order of the page. A subclass fills it in.

    Args:
        resampling: a `Resampling`.
    """

    argument = "scores"  # the report function's argument with one entry per embedder

    def __init__(self, resampling: Resampling):
        self.resampling = resampling

    @abc.abstractmethod
    def measure(self, name: str, given: Given) -> Measured[Result, Draws]:
        """Measures one embedder, from its scores, embeddings or results."""

    @abc.abstractmethod
    def opening(self, first: Measured[Result, Draws]) -> Iterator[str]:
        """The first paragraphs: numbers of pairs or searches, and the resampling."""

    @abc.abstractmethod
    def caption(self, first: Measured[Result, Draws]) -> str:
        """The text below the table of measures."""

    @abc.abstractmethod
    def add_details(self, page: Report, name: str, measured: Measured[Result, Draws]) -> None:
        """Adds one embedder's scores, thresholds, groups and hardest pairs."""

    @abc.abstractmethod
    def record(self, name: str, measured: Measured[Result, Draws]) -> dict[str, Any]:
        """Plain numbers of one embedder, for the JSON file."""

    def add_counts(self, page: Report, first: Measured[Result, Draws]) -> None:
        """Adds a table of numbers of pairs or searches, if the opening does not give them."""

    def add_measures(self, page: Report, models: Mapping[str, Measured[Result, Draws]]) -> None:
        """Adds the table of measures, and the differences between several embedders."""
        measures = {name: each.measures for name, each in models.items()}
        add_measures(page, measures, self.caption(_first(models)))

    def add_curves(self, page: Report, models: Mapping[str, Measured[Result, Draws]]) -> None:
        """Adds the curves of all embedders."""

    def heading(self, name: str, several: bool) -> str:
        """The heading of one embedder's part."""
        return name if several else "Scores and thresholds"

    def facts(self) -> dict[str, Any]:
        """Further facts about the list, for the JSON file."""
        return {}

    def intervals(self, first: Measured[Result, Draws]) -> dict[str, Any]:
        """How the intervals were drawn, for the JSON file."""
        return draws_record(first.draws, self.resampling.seed)

    def write(
        self,
        output: str | os.PathLike[str],
        given: Mapping[str, Given],
        *,
        title: str,
        about: Iterable[str],
    ) -> dict[str, Measured[Result, Draws]]:
        """Measures every embedder and writes the page and its JSON.

        Args:
            output: the page.
            given: dict of embedder's name -> what `measure` takes.
            title: title of the page.
            about: paragraphs on the data and the method.

        Returns:
            A dict of embedder's name -> `Measured`.
        """
        output, about = page_file(output), list(about)
        require_embedders(given, self.argument)
        models = {name: self.measure(name, each) for name, each in given.items()}
        first = _first(models)
        page = Report(title)
        for text in (*self.opening(first), *about):
            page.paragraph(text)
        self.add_counts(page, first)
        self.add_measures(page, models)
        self.add_curves(page, models)
        for name, each in models.items():
            page.heading(self.heading(name, len(models) > 1))
            self.add_details(page, name, each)
        page.write(output)
        record = {
            "title": title,
            "about": about,
            **self.facts(),
            "intervals": self.intervals(first),
            "models": {name: self.record(name, each) for name, each in models.items()},
        }
        write_json(output.with_suffix(".json"), record)
        return models


def _first(models: Mapping[str, Measured[Result, Draws]]) -> Measured[Result, Draws]:
    return next(iter(models.values()))


def page_file(output: str | os.PathLike[str]) -> Path:
    """Checks that a page, its JSON and its figures can be made, and returns the page's path.

    Raises:
        ValueError: if `output` is not ``*.html``.
        ImportError: if matplotlib is missing.
        OSError: if one of the two files cannot be written.
    """
    output = Path(output)
    if output.suffix != ".html":
        raise ValueError(f"`output` must be an .html file. Received: {output}")
    require_matplotlib()
    for file in (output, output.with_suffix(".json")):
        check_writable(file)
    return output


def require_embedders(given: Mapping[str, object], argument: str) -> None:
    """Raises `ValueError` without an embedder."""
    if not given:
        raise ValueError(
            f"`{argument}` must be a dict of embedder's name -> {argument} with at least one "
            "entry. Received: an empty one."
        )
