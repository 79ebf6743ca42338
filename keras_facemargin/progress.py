"""The progress bar of long work."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Item = TypeVar("Item")


def progress_bar(unit: str, shown: bool = True, *, transient: bool = False) -> Progress:
    """Makes a `rich` progress bar on standard error.

    Args:
        unit: what the bar counts: "images", "pairs", "draws", "steps". "bytes" also shows the
            speed, and its tasks need no total.
        shown: whether to show the bar.
        transient: whether the bar disappears at its end.

    Returns:
        `rich.progress.Progress`, a context manager.

    Example:

    >>> with progress_bar("images", shown=False) as bar:
    ...     task = bar.add_task("Embedding", total=3)
    ...     bar.advance(task, 3)
    """
    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn()]
    if unit == "bytes":
        columns += [DownloadColumn(), TransferSpeedColumn()]
    else:
        columns += [TextColumn("{task.completed:,.0f}/{task.total:,.0f} " + unit)]
    return Progress(
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=transient,
        disable=not shown,
    )


def track(
    items: Sequence[Item], description: str, unit: str, *, shown: bool = True
) -> Iterator[Item]:
    """Iterates over `items` under a bar that disappears at the end.

    Args:
        items: the sequence.
        description: what the bar says, such as "Aligning".
        unit: what the items are, such as "photos".
        shown: whether to show the bar.

    Yields:
        Each item.

    Example:

    >>> list(track([1, 2], "Adding", "numbers", shown=False))
    [1, 2]
    """
    with progress_bar(unit, shown, transient=True) as bar:
        yield from bar.track(items, description=description)
