"""What the benchmarks share: two ways timed in the same rounds, and where the figures go."""

import csv
import dataclasses
import os
import platform
import statistics
from pathlib import Path

from rich.table import Table


@dataclasses.dataclass
class Way:
    """What one way did, round by round."""

    rates: list = dataclasses.field(default_factory=list)  # images per second
    costs: list = dataclasses.field(default_factory=list)  # CPU time per image


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
    cpuinfo = Path("/proc/cpuinfo")  # elsewhere than on Linux, Python itself knows the name
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def append_rows(path, rows):
    """Adds rows, dicts of one set of fields, to a CSV file, with a header if it is new."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        if new:
            writer.writeheader()
        writer.writerows(rows)
