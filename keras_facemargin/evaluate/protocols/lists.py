"""Strict readers of official lists: errors name the file and the line."""

import csv
import os
import warnings
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.files import read_text

SUFFIXES = (".jpg", ".png")


def read_lines(file: str | os.PathLike[str], what: str) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, each with its number from 1.

    Args:
        file: path.
        what: the list, for the error: "LFW's list of pairs".

    Raises:
        ValueError: if it is not text in UTF-8.
        OSError: if it cannot be opened.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("two.txt").write_text("a\\n\\nb\\n\\n")
        >>> read_lines("two.txt", "a list")
        [(1, 'a'), (3, 'b')]
    """
    text = read_text(file, what).replace("\r\n", "\n").replace("\r", "\n")
    # Not `splitlines`, which also breaks lines at characters that editors show as text.
    return [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]


def bad_line(file: str | os.PathLike[str], number: int, rule: str, line: str) -> ValueError:
    """The error for a line that breaks the format, counted from 1."""
    hint = ", whose fields are separated by semicolons" if ";" in line else ""
    return ValueError(f"{file}, line {number:,}: {rule} Received: {_short(line)!r}{hint}.")


def is_count(field: str) -> bool:
    """Whether a field is a whole number of at least 1, in at most 18 plain digits."""
    return field.isascii() and field.isdigit() and len(field) <= 18 and int(field) > 0


def is_number(field: str) -> bool:
    """Whether a field is a whole number of at least 0, in at most 18 plain digits: 1, not 01."""
    return field.isascii() and field.isdigit() and len(field) <= 18 and field == str(int(field))


def read_rows(file: str | os.PathLike[str], what: str) -> list[tuple[int, list[str]]]:
    """The rows of a .csv file, each with the number of its line, without blank lines.

    A row is one line. A quote that is not closed on its line is an error; the `csv` module would
    read the following lines as part of the cell.

    Args:
        file: path.
        what: the table, for the error.

    Raises:
        ValueError: if it is not text in UTF-8 or a quote is left open (naming the line).
        OSError: if it cannot be opened.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("r.csv").write_text('name,city\\n\\n"Ada, L.", London\\n')
        >>> read_rows("r.csv", "a table")
        [(1, ['name', 'city']), (3, ['Ada, L.', 'London'])]
    """
    lines = read_lines(file, what)
    reader = csv.reader((line for _, line in lines), strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for row in reader:
            if reader.line_num != len(rows) + 1:
                raise csv.Error("a row of several lines")
            rows.append((lines[len(rows)][0], list(map(str.strip, row))))
    except csv.Error:
        number, line = lines[len(rows)]
        rule = "must be cells separated by commas, each quote closed on its line."
        raise bad_line(file, number, rule, line) from None
    return rows


def read_table(
    file: str | os.PathLike[str], columns: Sequence[str | tuple[str, ...]]
) -> tuple[list[int], dict[str, list[str]]]:
    """Columns of a .csv file by the names in its first line.

    Args:
        file: path.
        columns: names that it must have; a tuple of names is one column with any of these names,
            returned with the first.

    Returns:
        The number of the line of each row, and every column of the file, as text without the
        spaces around it.

    Raises:
        ValueError: if a column is missing or named twice, or a line has too few or too many fields.
        OSError: if it cannot be opened.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("t.csv").write_text("TEMPLATE_ID,FILENAME\\n7,img/1.jpg\\n")
        >>> read_table("t.csv", ["TEMPLATE_ID", ("FILE", "FILENAME")])
        ([2], {'TEMPLATE_ID': ['7'], 'FILE': ['img/1.jpg']})
    """
    (first, header), *rows = read_rows(file, "a table of comma-separated values") or [(1, [])]
    for names in columns:
        known = (names,) if isinstance(names, str) else names
        name = next((name for name in known if name in header), None)
        if name is None:
            rule = f"must name the column {' or '.join(known)}."
            raise bad_line(file, first, rule, ",".join(header))
        header[header.index(name)] = known[0]
    if len({*header}) < len(header):
        raise bad_line(file, first, "must name each column once.", ",".join(header))
    for number, row in rows:
        if len(row) != len(header):
            raise bad_line(file, number, f"must have {len(header)} fields.", ",".join(row))
    cells = zip(*(row for _, row in rows), strict=True) if rows else ([] for _ in header)
    return [number for number, _ in rows], dict(zip(header, map(list, cells), strict=True))


def read_integers(
    file: str | os.PathLike[str], width: int, delimiter: str | None, rule: str
) -> npt.NDArray[Any]:
    """A list of millions of lines of whole numbers, as ``(N, width)`` int64.

    Args:
        file: path.
        width: numbers in a line.
        delimiter: between them; ``None`` is any white space.
        rule: the form of a line, for the error.

    Raises:
        ValueError: if a line has another form, or the file has no line.
        OSError: if it cannot be opened.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("p.csv").write_text("1,2\\n1,3\\n")
        >>> read_integers("p.csv", 2, ",", "a line is 'template,template'.").tolist()
        [[1, 2], [1, 3]]
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a file without a line
            numbers = np.loadtxt(
                file, np.int64, delimiter=delimiter, ndmin=2, comments=None, encoding="utf-8-sig"
            )
        if len(numbers) and numbers.shape[1] == width:
            return numbers
    except (ValueError, OverflowError):
        pass
    lines = read_lines(file, "a list of numbers")
    if not lines:
        raise ValueError(f"{file}: {rule} Received: an empty file.")
    rows = []  # a line breaks the rule, or has only spaces
    for number, line in lines:
        fields = line.split(delimiter)
        if len(fields) != width or not all(map(_is_integer, fields)):
            raise bad_line(file, number, rule, line)
        rows.append([int(field) for field in fields])
    return np.array(rows, np.int64)


def line_of(file: str | os.PathLike[str], row: int) -> int:
    """The number of the line that holds a row of `read_integers`, counted from 0."""
    return read_lines(file, "a list of numbers")[row][0]


def refuse_repeats(
    file: str | os.PathLike[str],
    keys: Sequence[Hashable],
    *,
    numbers: Sequence[int],
    what: str,
    place: str = "line",
) -> None:
    """Refuses repeats in a list.

    For lists whose official file has no repeats; for other lists see `note_repeats`.

    Args:
        file: the list.
        keys: the entry of each line, hashable.
        numbers: the numbers of the lines.
        what: an entry, for the error: "a pair".
        place: the unit of the numbers.
    """
    if len({*keys}) == len(keys):
        return
    seen: dict[Hashable, int] = {}
    for key, number in zip(keys, numbers, strict=True):
        if seen.setdefault(key, number) != number:
            raise ValueError(
                f"{file}, {place} {number:,}: {what} must be listed once. Received: the one of "
                f"{place} {seen[key]:,} again. Remove one of the two."
            )


def note_repeats(file: str | os.PathLike[str], keys: Sequence[Hashable], what: str) -> None:
    """Warns of repeats in a list whose official file may have some.

    Args:
        file: the list.
        keys: its entries, in order, hashable.
        what: the entries, for the warning: "pairs".
    """
    if len({*keys}) == len(keys):
        return
    seen: dict[Hashable, int] = {}
    repeated = []
    for place, key in enumerate(keys, start=1):
        if seen.setdefault(key, place) != place:
            repeated.append(place)
    warnings.warn(
        f"{file}: {len(repeated):,} of {len(keys):,} {what} repeat earlier ones, for example "
        f"number {repeated[0]:,}. Each counts as often as it is listed.",
        stacklevel=3,
    )


def find_images(
    names: Iterable[str],
    images_dir: str | os.PathLike[str],
    file: str | os.PathLike[str],
    *,
    on_missing: str = "refuse",
) -> tuple[dict[str, Path], frozenset[Path]]:
    """Finds the images of a list.

    A crop may have another format than the photo in the list: ``x.jpg`` is also found as ``x.png``,
    and a name without a suffix as either.

    Args:
        names: names in the list, relative to `images_dir`; repeats are looked up once.
        images_dir: folder.
        file: the list, for the error.
        on_missing: "refuse" raises an error if an image is missing; "reject" counts it as a failure
            to enrol: its pairs are rejected, its searches find no person.

    Returns:
        name -> path, and the paths that do not exist.

    Raises:
        FileNotFoundError: if an image is missing and `on_missing` is "refuse", or if all are.
        ValueError: if `on_missing` has another value, or a name leads out of `images_dir`.
    """
    if on_missing not in ("refuse", "reject"):
        raise ValueError(f"`on_missing` must be 'refuse' or 'reject'. Received: {on_missing!r}.")
    images_dir = Path(images_dir)
    images, missing = {}, []
    for name in dict.fromkeys(names):
        path = images_dir / name
        below = path.parts[len(images_dir.parts) :]
        if not below or ".." in below or "\0" in name or Path(name).is_absolute():
            raise ValueError(f"{file}: an image must be below {images_dir}. Received: {name!r}.")
        if path.suffix.lower() in (*SUFFIXES, ".jpeg"):
            candidates = [path, *(path.with_suffix(suffix) for suffix in SUFFIXES)]
        else:  # a dot in a name does not start a suffix
            candidates = [path.with_name(path.name + suffix) for suffix in SUFFIXES]
        images[name] = next((each for each in candidates if each.is_file()), candidates[0])
        if not images[name].is_file():
            missing.append(images[name])
    if missing and (on_missing == "refuse" or len(missing) == len(images)):
        raise FileNotFoundError(_missing_message(file, missing, len(images)))
    return images, frozenset(missing)


def _missing_message(file: str | os.PathLike[str], missing: Sequence[Path], count: int) -> str:
    listed = "\n".join(f"  {path}" for path in missing[:10])
    more = f"\n  and {len(missing) - 10:,} more" if len(missing) > 10 else ""
    return (
        f"Every image named by {file} must be present as {' or '.join(SUFFIXES)}. Received: "
        f"{len(missing):,} of {count:,} images missing:\n{listed}{more}\n"
        "If the detector found no face in a few images, on_missing='reject' (--on-missing reject) "
        "counts their pairs as rejected."
        + (
            " The list separates folders by backslashes: replace them by slashes."
            if any("\\" in path.as_posix() for path in missing)
            else ""
        )
    )


def _is_integer(field: str) -> bool:
    digits = field.strip().removeprefix("-").removeprefix("+")
    return digits.isascii() and digits.isdigit() and len(digits) <= 18


def _short(line: str) -> str:
    """A line for a message, cut: a line of a binary file may have megabytes."""
    return line if len(line) <= 200 else f"{line[:200]}..."
