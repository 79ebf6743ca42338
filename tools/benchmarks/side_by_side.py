"""What the benchmarks share: ways timed in the same rounds, and where the figures go."""

import csv
import dataclasses
import datetime
import os
import statistics
import time

from rich.progress import track
from rich.table import Table

from keras_facemargin.processor import processor

LOAD_NOTE = "An idle machine starts near 0: distrust the figures otherwise."


@dataclasses.dataclass
class Way:
    """What one way did, round by round."""

    rates: list = dataclasses.field(default_factory=list)  # images per second
    costs: list = dataclasses.field(default_factory=list)  # CPU time per image, microseconds


def race(runs, rounds, warm_up, doing, console):
    """Runs the ways in turns, each once a round; returns a `Way` by name.

    Args:
        runs: dict of functions that return how many images they saw. One that works in another
            process has a method `cpu_time()`, the seconds that process has computed so far.
        rounds: number of rounds that count.
        warm_up: number of rounds before them.
        doing: what the progress bar says.
        console: where it is shown.
    """
    ways = {name: Way() for name in runs}
    for number in track(range(warm_up + rounds), doing, console=console, transient=True):
        for name, run in runs.items():
            cpu_time = getattr(run, "cpu_time", time.process_time)
            start, cpu_start = time.perf_counter(), cpu_time()
            images = run()
            seconds, cpu_seconds = time.perf_counter() - start, cpu_time() - cpu_start
            if number >= warm_up:
                ways[name].rates.append(images / seconds)
                ways[name].costs.append(1e6 * cpu_seconds / images)
    return ways


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two ways in the same rounds; ratios above 1 are in favour of `way`."""

    case: str
    way: Way
    base: Way
    aim: float | None = None

    @property
    def ratio(self):
        return statistics.median(self.way.rates) / statistics.median(self.base.rates)

    @property
    def round_ratios(self):
        return [a / b for a, b in zip(self.way.rates, self.base.rates, strict=True)]

    @property
    def cpu_ratio(self):
        return statistics.median(self.base.costs) / statistics.median(self.way.costs)

    @property
    def verdict(self):
        if self.aim is None:
            return "-"
        return f"{self.aim} {'reached' if self.ratio >= self.aim else 'missed'}"


def rates_table(ways, title, caption):
    table = Table(title=title, caption=caption)
    for column in ("images/s", "median", "slowest", "fastest", "CPU µs per image"):
        table.add_column(column, justify="left" if column == "images/s" else "right")
    for name, way in ways.items():
        figures = (statistics.median(way.rates), min(way.rates), max(way.rates))
        cost = f"{statistics.median(way.costs):,.0f}"
        table.add_row(name, *(f"{figure:,.1f}" for figure in figures), cost)
    return table


def ratios_table(results):
    table = Table("ratio", "of medians", "median of rounds", "CPU time", "aim")
    for result in results:
        rounds = result.round_ratios
        table.add_row(
            result.case,
            f"{result.ratio:.3f}",
            f"{statistics.median(rounds):.3f} ({min(rounds):.3f}..{max(rounds):.3f})",
            f"{result.cpu_ratio:.3f}",
            result.verdict,
        )
    return table


def machine():
    return f"{processor()}, {os.cpu_count()} cores"


def append_ratios(path, results, load, **described):
    """Adds a row for each `Comparison` to a CSV file, behind what describes all of them."""
    described = {
        "date": datetime.date.today().isoformat(),
        "cpu": machine(),
        "load_before": f"{load[0]:.2f}",
        "load_after": f"{load[1]:.2f}",
        **described,
    }
    rows = [
        {
            **described,
            "case": result.case,
            "images_per_second": f"{statistics.median(result.way.rates):.1f}",
            "ratio": f"{result.ratio:.4f}",
            "median_of_round_ratios": f"{statistics.median(result.round_ratios):.4f}",
            "cpu_ratio": f"{result.cpu_ratio:.4f}",
        }
        for result in results
    ]
    append_rows(path, rows)


def append_rows(path, rows):
    """Adds rows, dicts of one set of fields, to a CSV file, with a header if it is new."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        if new:
            writer.writeheader()
        writer.writerows(rows)
