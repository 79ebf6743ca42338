"""A table with rows for each run of a measurement, so that a stopped measurement continues."""

import csv


def has_run(output, **run):
    """Whether the file has rows with these values in the columns of these names."""
    wanted = {column: str(value) for column, value in run.items()}
    return any(wanted.items() <= row.items() for row in read_rows(output))


def read_rows(output):
    """The rows of all runs. A file that does not exist has none."""
    if not output.is_file():
        return []
    with open(output, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def add_rows(output, fields, rows):
    """Appends the rows of a run, all or none."""
    rows = list(rows)
    new = not output.is_file()
    output.parent.mkdir(parents=True, exist_ok=True)
    with open(output, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields)
        if new:
            writer.writeheader()
        writer.writerows(rows)
