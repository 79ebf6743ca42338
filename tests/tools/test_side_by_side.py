"""Ways take turns and are compared round by round; no test looks at a time."""

import csv

import pytest
from rich.console import Console
from side_by_side import Comparison, Way, append_ratios, race


def test_ratios_favour_the_faster_way():
    way = Way(rates=[9, 20, 44], costs=[4.0, 5.0, 9.0])
    base = Way(rates=[10, 40, 40], costs=[1.0, 2.0, 2.5])
    comparison = Comparison("case", way, base)
    assert comparison.ratio == 0.5
    assert comparison.round_ratios == [0.9, 0.5, 1.1]
    assert comparison.cpu_ratio == 0.4
    assert comparison.verdict == "-"
    assert Comparison("case", way, base, aim=0.5).verdict == "0.5 reached"
    assert Comparison("case", way, base, aim=0.51).verdict == "0.51 missed"


def test_ways_take_turns_and_the_first_rounds_do_not_count():
    turns = []

    def run(name, images):
        def once():
            turns.append(name)
            return images

        return once

    class Elsewhere:
        """Each turn computes for 3 seconds in a process of its own."""

        turns_taken = 0

        def __call__(self):
            self.turns_taken += 1
            turns.append("c")
            return 1000

        def cpu_time(self):
            return 7.0 + 3.0 * self.turns_taken

    runs = {"a": run("a", 5), "b": run("b", 10), "c": Elsewhere()}
    ways = race(runs, rounds=2, warm_up=1, doing="Racing", console=Console(quiet=True))
    assert turns == ["a", "b", "c"] * 3
    assert all(len(way.rates) == len(way.costs) == 2 for way in ways.values())
    assert all(rate > 0 for way in ways.values() for rate in way.rates)
    assert ways["c"].costs == [pytest.approx(3000.0)] * 2  # microseconds an image


def test_rows_are_added_under_one_header(tmp_path):
    result = Comparison("a / b", Way([30.0], [1.0]), Way([20.0], [2.0]))
    for rounds in (1, 2):
        append_ratios(tmp_path / "figures.csv", [result], (0.5, 1.0), rounds=rounds)
    with open(tmp_path / "figures.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["rounds"] for row in rows] == ["1", "2"]
    assert {row["ratio"] for row in rows} == {"1.5000"}
    assert {row["cpu_ratio"] for row in rows} == {"2.0000"}
    assert {(row["load_before"], row["load_after"]) for row in rows} == {("0.50", "1.00")}
