"""How every result of an evaluation is printed."""


class Measures:
    """A result whose `rows()`, (measure, value) as text, are its table on a console of rich."""

    def __rich__(self):
        from rich.table import Table

        table = Table("Measure", "Value")
        for measure, value in self.rows():
            table.add_row(measure, value)
        return table
