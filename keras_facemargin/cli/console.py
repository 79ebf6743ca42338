"""Output of the commands: results on standard output, warnings and errors on standard error."""

import sys

from rich.console import Console
from rich.markup import escape

console = Console()


def show_every_name():
    r"""Prints what the terminal's encoding lacks as `\xeb`: file names may hold any bytes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a test may have put another stream there
            stream.reconfigure(errors="backslashreplace")


def say(text, style=None):
    """Prints text as it is: paths may hold what rich takes for markup, and are copied whole."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def complain(label, text):
    Console(stderr=True).print(f"{label} {escape(text)}", highlight=False, soft_wrap=True)


def show_warning(message, category, filename, lineno, file=None, line=None):
    complain("[yellow]Warning:[/]", str(message))


def sentence(error):
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    return str(error)
