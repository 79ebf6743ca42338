"""The table that every result prints."""

from typing import Any


class Measures:
    """A result that prints as a table of its `rows()` on a console of rich."""

    def rows(self) -> list[tuple[str, str]]:
        """(measure, value) as text."""
        raise NotImplementedError

    def __rich__(self) -> Any:
        from rich.table import Table

        table = Table("Measure", "Value")
        for measure, value in self.rows():
            table.add_row(measure, value)
        return table
