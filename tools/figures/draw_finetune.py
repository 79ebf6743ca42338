"""Draws zoo/results/finetune.csv and prints its table for docs/finetune.md.

    python tools/figures/draw_finetune.py zoo/results/finetune.csv docs/finetune.png

The rows come from tools/benchmarks/measure_finetune.py. Runs of several seeds are averaged.
"""

import argparse
import collections
import csv
from pathlib import Path

import numpy as np

PANELS = (
    ("Your people, TPIR @ FPIR 0.01", "Your people: TPIR at FPIR 1 %"),
    ("Strangers, TAR @ FAR 0.001", "Strangers: TAR at FAR 0.1 %"),
    ("General set, TAR @ FAR 0.001", "LFW: TAR at FAR 0.1 %"),
)
COSINE = "Cosine to the embeddings before"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    runs = read(arguments.results)
    print(table(runs))
    draw(runs).savefig(arguments.picture)


def read(path):
    """(model, images) -> measure -> list of rows, one for each seed."""
    runs = collections.defaultdict(lambda: collections.defaultdict(list))
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            runs[row["model"], int(row["images"])][row["measure"]].append(row)
    return runs


def mean(rows, column):
    return float(np.mean([float(row[column]) for row in rows]))


def table(runs):
    """Markdown; in brackets the 95 % interval of the difference, of several seeds its range."""
    lines = [
        "| embedder | images | your people, rank-1 | TPIR at FPIR 1 % | strangers, TAR | LFW, TAR "
        "| cosine | share kept |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (model, images), measures in sorted(runs.items()):
        names = ("Your people, rank-1", *(name for name, _ in PANELS))
        cells = [cell(measures[name]) for name in names]
        cosine = f"{mean(measures[COSINE], 'after'):.3f}"
        shares = ", ".join(f"{float(row['share']):g}" for row in measures[COSINE])
        lines.append(f"| `{model}` | {images} | {' | '.join(cells)} | {cosine} | {shares} |")
    return "\n".join(lines)


def cell(rows):
    before, after = (100 * mean(rows, column) for column in ("before", "after"))
    text = f"{before:.1f} → {after:.1f}"
    if len(rows) > 1:
        gains = [100 * (float(row["after"]) - float(row["before"])) for row in rows]
        low, high = min(gains), max(gains)
    elif rows[0]["low"]:
        low, high = (100 * float(rows[0][column]) for column in ("low", "high"))
    else:
        return text
    if low == high == 0:  # the embedder was kept as it was
        return text
    return f"{text} ({low:+.1f} to {high:+.1f})"


def draw(runs):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.2), layout="constrained", dpi=160, facecolor="white")
    axes = figure.subplots(1, len(PANELS))
    models = sorted({model for model, _ in runs})
    for axis, (name, title) in zip(axes, PANELS, strict=True):
        for number, model in enumerate(models):
            images = sorted(count for each, count in runs if each == model)
            rows = [runs[model, count][name] for count in images]
            for column, style in (("before", "--"), ("after", "-")):
                rates = [100 * mean(each, column) for each in rows]
                label = model if column == "after" else None
                axis.plot(images, rates, style, marker="o", color=f"C{number}", label=label)
        axis.set(title=title, xlabel="Training images a person", ylabel="%", xticks=[2, 5, 10])
        axis.grid(alpha=0.3)
    axes[0].plot([], [], "--", color="grey", label="before")
    axes[0].legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    main()
