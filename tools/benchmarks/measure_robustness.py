"""Measures error rates on degraded LFW for embedders before and after `facemargin robustify`.

Two images each of some people of LFW, drawn by a seed. The threshold is the one of each embedder
for FMR 1e-3 on the clean pairs; every pair of two people counts.

    python tools/benchmarks/measure_robustness.py --images lfw/aligned \\
        --model mobilefacenet_192 --model robust-192=robust --output zoo/results/robust.csv

Rows of other models in the CSV file are kept, and a model that it has is not measured again. If two
models are measured, it prints the cosines of the first one's clean embeddings to the second one's.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from keras_facemargin.files import atomic_write
from keras_facemargin.images import Crop, read_face
from keras_facemargin.progress import progress_bar
from keras_facemargin.training.robustness import Kept, TestFaces, rates_of
from keras_facemargin.zoo import load_embedder

FAR = 1e-3
COLUMNS = (
    *("model", "images", "people", "threshold"),
    *("fmr_both", "fnmr_both", "fmr_one", "fnmr_one"),
)


def draw_people(folder, people, seed):
    """The first two images of some people, in two lists."""
    pairs = [sorted(each.iterdir())[:2] for each in sorted(folder.iterdir()) if each.is_dir()]
    pairs = [pair for pair in pairs if len(pair) == 2]
    chosen = np.random.default_rng(seed).permutation(len(pairs))[:people]
    return tuple([pairs[row][n] for row in chosen] for n in (0, 1))


def measure(model, folder, people, seed):
    """The embeddings of a model on LFW's people, clean and degraded."""
    embedder = load_embedder(model)
    crop = Crop.of_embedder(embedder)
    first, second = (
        np.stack([read_face(path, crop) for path in paths])
        for paths in draw_people(folder, people, seed)
    )
    faces = TestFaces(first, second)
    with progress_bar("batches") as bar:
        task = bar.add_task(str(model), total=faces.batches)
        return faces.embed(embedder, lambda: bar.advance(task))


def rows_of(name, rates):
    """The rows of the CSV file."""
    for kind, both in rates.both.items():
        one = rates.one.get(kind)
        figures = (both.fmr, both.fnmr, *((one.fmr, one.fnmr) if one else ("", "")))
        shown = [each if each == "" else f"{each:.6f}" for each in figures]
        yield [name, kind, rates.people, f"{rates.threshold:.6f}", *shown]


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="aligned LFW, a folder a person")
    parser.add_argument("--model", action="append", required=True, help="NAME=MODEL or MODEL")
    parser.add_argument("--people", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(words)
    rows = []
    if arguments.output.exists():
        rows = list(csv.reader(arguments.output.read_text().splitlines()))[1:]
    measured = []
    for each in arguments.model:
        name, _, model = each.rpartition("=")
        name = name or Path(model).name
        if any(row[0] == name for row in rows):
            continue
        embeddings = measure(model, arguments.images, arguments.people, arguments.seed)
        measured.append(embeddings)
        rows += rows_of(name, rates_of(embeddings, FAR))
        with atomic_write(arguments.output) as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerows([COLUMNS, *rows])
    if len(measured) == 2:
        print(Kept.of(*measured))


if __name__ == "__main__":
    main()
