"""The benchmark runs and both ways answer the same; no test looks at a time."""

import csv
import importlib.util
import re
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmarks" / "benchmark_evaluate.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("benchmark_evaluate", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", range(6))
def test_both_ways_answer_the_same(tool, case):
    try:
        way, base, equal = list(tool.CASES.values())[case][0](0.004)
    except ImportError as error:
        pytest.skip(str(error))
    assert equal(base(), way())


def test_prints_and_appends_what_it_saw(tool, tmp_path, capsys):
    file = tmp_path / "figures.csv"
    command = ["--scale", "0.01", "--rounds", "2", "--csv", str(file), "--cases"]
    for _ in range(2):
        tool.main([*command, "all pairs, 13,232", "ROC points, 5,000"])
    assert len(re.findall("reached|missed", capsys.readouterr().out)) == 4
    with file.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["case"] for row in rows] == ["all pairs, 13,232", "ROC points, 5,000"] * 2
    assert all(row["equal"] == "True" for row in rows)
    assert all(float(row["seconds"]) > 0 and float(row["cpu_ratio"]) > 0 for row in rows)


def test_a_missing_package_leaves_its_case_out(tool, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "faiss", None)
    tool.main(["--scale", "0.01", "--rounds", "1", "--cases", "1:N, 20,000 x 100,000"])
    assert "left out" in capsys.readouterr().out
