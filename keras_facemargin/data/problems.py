"""Bad files of a labelled set: every image is checked once, and one report names the bad ones."""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor

from keras_facemargin.progress import progress_bar

_NAMED = 10  # bad entries that an error or a warning spells out
_MOST_BAD = 100_000  # damaged places that are kept of a file
_BLOCK = 256  # images that a checking thread takes at a time


def check_all(check, count, doing="Checking"):
    """`check(0)` .. `check(count - 1)`, called on all cores, with a bar when it takes time.

    Args:
        check: function of an index; what it raises ends the checking.
        count: number of images.
        doing: what the bar says.

    Returns:
        List of what `check` returned.
    """

    def check_block(start):
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


def check_on_bad(on_bad, *choices):
    """Raises ValueError unless `on_bad` is one of the choices."""
    if on_bad not in choices:
        words = " or ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"`on_bad` must be {words}. Received: on_bad={on_bad!r}")


def check_count(source, bad):
    """Refuses a file with more damaged places than a damaged file has: they would fill the memory.

    Raises:
        ValueError: there are more than 100,000.
    """
    if len(bad) > _MOST_BAD:
        raise ValueError(
            f"{source} has more than {_MOST_BAD:,} damaged places. Received: the last at {bad[-1]} "
            "It is another kind of file, or the whole file is damaged: copy it again."
        )


def report_bad_files(source, bad, on_bad, what="face crop", stacklevel=3):
    """Refuses the bad entries of a container, or warns of them once, in the same words.

    Args:
        source: what the container is called.
        bad: list of `BadImage`.
        on_bad: "refuse" or "skip".
        what: what they are not.
        stacklevel: of the warning, counted from here.

    Raises:
        ValueError: there are bad entries and `on_bad` is "refuse".
    """
    if bad and on_bad == "refuse":
        raise ValueError(
            f"{bad_files_text(source, bad, what)}\nRepair or remove them, or leave them out with "
            f'on_bad="skip". Received: on_bad={on_bad!r}'
        )
    if bad:
        warnings.warn(
            f"{bad_files_text(source, bad, what)}\nThey are left out.", stacklevel=stacklevel
        )


def require_two_identities(count, source, bad=()):
    """Refuses a set of fewer than two identities.

    Args:
        count: the number of identities that have an image.
        source: the name of the container.
        bad: list of `BadImage` to name in the error.

    Raises:
        ValueError: `count` is less than 2.
    """
    if count < 2:
        raise ValueError(
            "A labelled set needs at least two identities with an image each. "
            f"Received: {count} in {source}" + (f"\n{bad_files_text(source, bad)}" if bad else "")
        )


def bad_files_text(source, bad, what="face crop"):
    """Counts the bad entries of a container and names up to ten of them, with their reasons."""
    lines = [f"  {each}" for each in bad[:_NAMED]]
    if len(bad) > _NAMED:
        lines.append(f"  ... and {len(bad) - _NAMED:,} more.")
    noun = "entry that is" if len(bad) == 1 else "entries that are"
    return "\n".join([f"{source} has {len(bad):,} {noun} no {what}:", *lines])
