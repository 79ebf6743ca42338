"""The benchmark of galleries runs, and both ways find the same; no test looks at a time."""

import csv

import pytest

pytest.importorskip("faiss")


def test_prints_and_appends_what_it_saw(tmp_path, capsys):
    import benchmark_gallery as tool

    file = tmp_path / "figures.csv"
    tool.main(["--people", "300", "--dim", "16", "--rounds", "1", "--csv", str(file)])
    out = capsys.readouterr().out
    assert "open, load and search once" in out
    with file.open(encoding="utf-8") as lines:
        cases = [row["case"] for row in csv.DictReader(lines)]
    assert len(cases) == len(tool.CASES)
    assert cases[0] == "300 people, 1 probes, 1 best"
