"""Tables in a narrow terminal."""

import dataclasses

import pytest
from rich.table import Table

from keras_facemargin.cli.console import console, show_table

NAME = "bundle/embedder_of_a_long_name_dynamic_int8.tflite"


@dataclasses.dataclass
class Result:
    def __rich__(self):
        table = Table("file", "precision", "least cosine to Keras")
        table.add_row(NAME, "dynamic_int8", "0.999741")
        return table


@pytest.mark.parametrize("found", [Result(), Result().__rich__()], ids=["result", "table"])
def test_a_name_is_continued_on_the_next_line_and_not_cut(monkeypatch, capsys, found):
    monkeypatch.setattr(console, "width", 40)
    show_table(found)
    out = capsys.readouterr().out
    lines = [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")]
    assert "".join(lines) == NAME
    assert "…" not in out
