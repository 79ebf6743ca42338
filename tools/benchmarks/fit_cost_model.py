"""What a step over C prototypes will cost: a model fitted on measured steps, checked on others.

    python tools/benchmarks/fit_cost_model.py --csv docs/cost_model.csv

A step is one of `MarginClassifier.fit` over embeddings themselves, with SGD and momentum, on
TensorFlow's CPU. Its time is fitted, by least squares of relative errors with no coefficient below
zero, as

    t = a B D C + b D C + c B C + d

for B samples, D numbers an embedding and C classes: the matrix products, what touches prototypes
(gradient, momentum, update), what touches logits, and the rest. The model is then asked for steps
that it was not fitted on. Memory is measured beside: prototypes, momentum and gradient are 12 D C
bytes.
"""

import argparse
import os
import statistics
from pathlib import Path

import numpy as np
from benchmark_head import MIB, worker
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.optimize import nnls
from side_by_side import append_rows, machine

FITTED = (
    (32, 128, 50_000),
    (128, 128, 50_000),
    (32, 512, 50_000),
    (128, 512, 50_000),
    (256, 256, 50_000),
    (64, 256, 200_000),
    (128, 256, 200_000),
)
HELD_OUT = ((128, 512, 200_000), (64, 128, 400_000))


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="steps of a point that count")
    parser.add_argument(
        "--passes", type=int, default=5, help="over all points; their median counts"
    )
    parser.add_argument("--shrink", type=int, default=1, help="divide all classes, to try it out")
    parser.add_argument("--csv", type=Path, help="file to append the figures to")
    options = parser.parse_args(arguments)
    console = Console()
    load = os.getloadavg()[0]
    points = [(b, d, c // options.shrink) for b, d, c in (*FITTED, *HELD_OUT)]
    passes = [pass_through(points, options.rounds, console) for _ in range(options.passes)]
    times = np.median([seconds for seconds, _ in passes], axis=0)
    peaks = np.median([peaks for _, peaks in passes], axis=0)
    coefficients = fit_model(points[: len(FITTED)], times[: len(FITTED)])
    predicted = terms(points) @ coefficients

    console.print(f"{machine()}; load {load:.1f}")
    a, b, c, d = coefficients
    console.print(f"t = {a:.3e} B D C + {b:.3e} D C + {c:.3e} B C + {d:.3e} seconds")
    table = Table("B", "D", "C", "fitted on?", "ms", "model", "off by", "MiB of a step")
    for i, (samples, dim, classes) in enumerate(points):
        off = predicted[i] / times[i] - 1
        used = "yes" if i < len(FITTED) else "no"
        table.add_row(
            *(str(samples), str(dim), f"{classes:,}", used, f"{1e3 * times[i]:.0f}"),
            *(f"{1e3 * predicted[i]:.0f}", f"{off:+.0%}", f"{peaks[i]:.0f}"),
        )
        if options.csv:
            row = {
                "cpu": machine(),
                "load_before": f"{load:.2f}",
                "samples": samples,
                "dim": dim,
                "classes": classes,
                "fitted_on": used,
                "ms": f"{1e3 * times[i]:.1f}",
                "model_ms": f"{1e3 * predicted[i]:.1f}",
                "mib_of_a_step": f"{peaks[i]:.0f}",
            }
            append_rows(options.csv, [row])
    console.print(table)


def pass_through(points, rounds, console):
    """Median seconds and peak MiB of a step at each point, each in a process of its own."""
    seconds, peaks = [], []
    for samples, dim, classes in track(points, "Stepping", console=console, transient=True):
        with worker("fit", "tensorflow graph", classes, dim, samples=samples) as process:
            seconds.append(statistics.median(process.step()["seconds"] for _ in range(rounds)))
            peaks.append(process.peak() / MIB)
    return seconds, peaks


def terms(points):
    """(N, 4): what each coefficient of the model is multiplied with."""
    return np.array([(b * d * c, d * c, b * c, 1.0) for b, d, c in points], dtype=np.float64)


def fit_model(points, seconds):
    """The coefficients, none below zero, of least relative error."""
    rows = terms(points) / np.asarray(seconds)[:, None]
    scale = rows.max(axis=0)
    return nnls(rows / scale, np.ones(len(points)))[0] / scale


if __name__ == "__main__":
    main()
