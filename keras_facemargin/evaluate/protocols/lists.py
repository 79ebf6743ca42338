"""Official lists, read strictly: what is wrong is named with its file and line."""

import csv
from pathlib import Path

import numpy as np

SUFFIXES = (".jpg", ".png")


def read_lines(file, what) -> list[str]:
    """The lines of a text file, without those that end it empty.

    Args:
        file: path.
        what: the list, for the error: "LFW's list of pairs".

    Raises:
        ValueError: if it is no text.
        OSError: if it cannot be opened.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("two.txt").write_text("a\\nb\\n\\n")
        >>> read_lines("two.txt", "a list")
        ['a', 'b']
    """
    try:
        return Path(file).read_text(encoding="utf-8").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file}: must be {what}, a text file. Received: a file that is no text."
        ) from error


def bad_line(file, number, rule, line) -> ValueError:
    """The error for a line that breaks the format, counted from 1."""
    return ValueError(f"{file}, line {number}: {rule} Received: {line!r}.")


def is_count(field) -> bool:
    """Whether a field is a whole number from 1 on, in plain digits."""
    return field.isascii() and field.isdigit() and int(field) > 0


def read_table(file, columns) -> dict[str, list[str]]:
    """Columns of a .csv file by the names in its first line.

    Args:
        file: path.
        columns: names that it must have; a tuple of names is one column under any of them, given
            back under the first.

    Returns:
        Every column of the file, as text.

    Raises:
        ValueError: if a column is missing or a line has too few or too many fields.
        OSError: if it cannot be opened.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("t.csv").write_text("TEMPLATE_ID,FILENAME\\n7,img/1.jpg\\n")
        >>> read_table("t.csv", ["TEMPLATE_ID", ("FILE", "FILENAME")])
        {'TEMPLATE_ID': ['7'], 'FILE': ['img/1.jpg']}
    """
    lines = read_lines(file, "a table of comma-separated values")
    header, *rows = csv.reader(lines) if lines else [[]]
    header = [name.strip() for name in header]
    for names in columns:
        known = (names,) if isinstance(names, str) else names
        name = next((name for name in known if name in header), None)
        if name is None:
            raise bad_line(file, 1, f"must name the column {' or '.join(known)}.", ",".join(header))
        header[header.index(name)] = known[0]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise bad_line(file, number, f"must have {len(header)} fields.", ",".join(row))
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}


def read_integers(file, width, delimiter, rule) -> np.ndarray:
    """A list of millions of lines of whole numbers, as ``(N, width)`` int64.

    Args:
        file: path.
        width: numbers in a line.
        delimiter: between them; None is any white space.
        rule: what a line must be, for the error.

    Raises:
        ValueError: if a line is not so, or there is none.
        OSError: if it cannot be opened.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("p.csv").write_text("1,2\\n1,3\\n")
        >>> read_integers("p.csv", 2, ",", "a line is 'template,template'.").tolist()
        [[1, 2], [1, 3]]
    """
    if not Path(file).stat().st_size:
        raise ValueError(f"{file}: {rule} Received: an empty file.")
    try:
        numbers = np.loadtxt(file, np.int64, delimiter=delimiter, ndmin=2, comments=None)
        if numbers.shape[1] == width:
            return numbers
    except (ValueError, OverflowError):
        pass
    for number, line in enumerate(read_lines(file, "a list of numbers"), start=1):
        fields = line.split(delimiter)
        if len(fields) != width or not all(f.strip().lstrip("-").isdecimal() for f in fields):
            raise bad_line(file, number, rule, line)
    raise ValueError(f"{file}: {rule} Received: a file that cannot be read so.")


def find_images(names, images_dir, file, on_missing="refuse") -> tuple[dict, frozenset]:
    """Where the images of a list lie.

    A crop may be of another format than the photo that the list names: ``x.jpg`` is found as
    ``x.png`` too, and a name without an ending as either.

    Args:
        names: names as the list has them, relative to `images_dir`; repeated ones are looked up
            once.
        images_dir: folder.
        file: the list, for the error.
        on_missing: "refuse" raises an error if an image is missing; "reject" lets its pair or
            search count as an error of the system where it is one: a face that cannot be enrolled
            is accepted as nobody's.

    Returns:
        name -> path, and those of the paths that are not there.

    Raises:
        FileNotFoundError: if an image is missing where that is refused, or all of them.
        ValueError: if `on_missing` is neither, or a name leads out of `images_dir`.
    """
    if on_missing not in ("refuse", "reject"):
        raise ValueError(f"`on_missing` must be 'refuse' or 'reject'. Received: {on_missing!r}.")
    images_dir = Path(images_dir)
    images, missing = {}, []
    for name in dict.fromkeys(names):
        path = images_dir / name
        if ".." in path.parts[len(images_dir.parts) :] or Path(name).is_absolute():
            raise ValueError(f"{file}: an image lies below {images_dir}. Received: {name!r}.")
        if path.suffix.lower() in (*SUFFIXES, ".jpeg"):
            candidates = [path, *(path.with_suffix(suffix) for suffix in SUFFIXES)]
        else:  # a dot in a name is no ending
            candidates = [path.with_name(path.name + suffix) for suffix in SUFFIXES]
        images[name] = next((each for each in candidates if each.is_file()), candidates[0])
        if not images[name].is_file():
            missing.append(images[name])
    if missing and (on_missing == "refuse" or len(missing) == len(images)):
        raise FileNotFoundError(_missing_message(file, missing, len(images)))
    return images, frozenset(missing)


def _missing_message(file, missing, count):
    listed = "\n".join(f"  {path}" for path in missing[:10])
    more = f"\n  and {len(missing) - 10:,} more" if len(missing) > 10 else ""
    return (
        f"Every image named by {file} must be present as {' or '.join(SUFFIXES)}. Received: "
        f"{len(missing):,} of {count:,} images missing:\n{listed}{more}\n"
        "If no face could be found in a few of them, on_missing='reject' (--on-missing reject) "
        "counts their pairs as rejected."
    )
