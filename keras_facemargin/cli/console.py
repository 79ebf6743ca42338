"""Output of the commands: results on standard output, warnings and errors on standard error."""

import sys
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.protocol import rich_cast
from rich.table import Table

from keras_facemargin.cli.files import way_to

console = Console()


class Answer(SystemExit):
    """Ends a command that answers by its exit code: 0, 1 or 2."""


def show_every_name() -> None:
    r"""Prints bytes that the terminal cannot encode as `\xeb`: file names may have any."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a test may have put another stream there
            stream.reconfigure(errors="backslashreplace")


def say(text: str, style: str | None = None) -> None:
    """Prints text without markup or line breaks: a path may look like markup, and users copy it."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def show_table(found: object) -> None:
    """Prints a table, or a result that prints as one, as wide as the terminal.

    A word that is wider than its column, such as the name of a file, is continued on the next line:
    Rich would cut it, and users copy it.
    """
    found = rich_cast(found)
    if isinstance(found, Table):
        for column in found.columns:
            column.overflow = "ellipsis" if column.no_wrap else "fold"
    console.print(found)


def complain(label: str, text: str) -> None:
    """Prints a warning or an error on standard error."""
    Console(stderr=True).print(f"{label} {escape(text)}", highlight=False, soft_wrap=True)


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Prints a warning as one sentence; the arguments are those of `warnings.showwarning`."""
    complain("[yellow]Warning:[/]", str(message))


def sentence(error: BaseException) -> str:
    """The message of an error in one sentence; for a missing file with the way out."""
    if isinstance(error, FileNotFoundError) and isinstance(error.filename, str | Path):
        return f"{error.filename}: {error.strerror}.{way_to(Path(error.filename))}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    return str(error)
