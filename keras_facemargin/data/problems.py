"""Bad files of a labelled set: every image is checked once, and one report names the bad ones."""

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from keras_facemargin.images.image import BadImage
from keras_facemargin.progress import progress_bar

Result = TypeVar("Result")

_NAMED = 10  # bad entries that an error or a warning names
_MOST_BAD = 100_000  # damaged places in a file; more would fill the memory
_BLOCK = 256  # images that a checking thread takes at a time


def check_all(
    check: Callable[[int], Result], count: int, *, doing: str = "Checking"
) -> list[Result]:
    """Calls `check(0)` to `check(count - 1)` on all cores, with a progress bar for many images.

    Args:
        check: function of an index. An exception from it ends the check.
        count: number of images.
        doing: text of the progress bar.

    Returns:
        List of the results of `check`.
    """

    def check_block(start: int) -> list[Result]:
        return [check(index) for index in range(start, min(start + _BLOCK, count))]

    starts = range(0, count, _BLOCK)
    takes_time = len(starts) >= 8  # more than a second
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        progress_bar("images", takes_time, transient=True) as bar,
    ):
        task = bar.add_task(doing, total=count)
        found = []
        for start, block in zip(starts, pool.map(check_block, starts), strict=True):
            found += block
            bar.update(task, completed=min(start + _BLOCK, count))
        return found


def check_on_bad(on_bad: str, *choices: str) -> None:
    """Raises ValueError unless `on_bad` is one of the choices."""
    if on_bad not in choices:
        words = " or ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"`on_bad` must be {words}. Received: on_bad={on_bad!r}")


def check_count(source: str, bad: Sequence[BadImage]) -> None:
    """Refuses a file with more than 100,000 damaged places, whose list would fill the memory.

    Raises:
        ValueError: there are more.
    """
    if len(bad) > _MOST_BAD:
        raise ValueError(
            f"{source} has more than {_MOST_BAD:,} damaged places. Received: the last at {bad[-1]} "
            "The file has another format, or all of it is damaged: copy it again."
        )


def report_bad_files(
    source: str,
    bad: Sequence[BadImage],
    on_bad: str,
    *,
    what: str = "face crop",
    stacklevel: int = 3,
) -> None:
    """Refuses the bad entries of a container, or warns once, with the same report.

    Args:
        source: name of the container.
        bad: the bad entries.
        on_bad: "refuse" or "skip".
        what: what an entry should be.
        stacklevel: of the warning, counted from here.

    Raises:
        ValueError: there are bad entries and `on_bad` is "refuse".
    """
    if not bad:
        return
    text = bad_files_text(source, bad, what=what)
    if on_bad == "refuse":
        raise ValueError(
            f'{text}\nRepair or remove them, or skip them with on_bad="skip". '
            f"Received: on_bad={on_bad!r}"
        )
    warnings.warn(f"{text}\nThey are skipped.", stacklevel=stacklevel)


def require_two_identities(count: int, source: str, bad: Sequence[BadImage] = ()) -> None:
    """Refuses a set of fewer than two identities.

    Args:
        count: number of identities that have an image.
        source: name of the container.
        bad: the bad entries, which the error lists.

    Raises:
        ValueError: `count` is less than 2.
    """
    if count < 2:
        raise ValueError(
            "A labelled set needs at least two identities with an image each. "
            f"Received: {count} in {source}" + (f"\n{bad_files_text(source, bad)}" if bad else "")
        )


def bad_files_text(source: str, bad: Sequence[BadImage], *, what: str = "face crop") -> str:
    """The number of bad entries of a container, and the first ten with their reasons."""
    lines = [f"  {each}" for each in bad[:_NAMED]]
    if len(bad) > _NAMED:
        lines.append(f"  ... and {len(bad) - _NAMED:,} more.")
    noun = f"entry that is not a {what}" if len(bad) == 1 else f"entries that are not {what}s"
    return "\n".join([f"{source} has {len(bad):,} {noun}:", *lines])
