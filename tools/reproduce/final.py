"""Measures the chosen settings of `reproduce.py` on LFW's View 2 and on all of its pairs, once.

    python tools/reproduce/final.py heads --data ../shared/data --work ~/reproduce

Of each recipe the setting with the best mean accuracy on View 1 is chosen, or each one with
`--every`, where the paper's axis is the subject. Adds rows to `zoo/results/reproduce_final.csv`.
"""

import argparse
import csv
from pathlib import Path

import keras
import numpy as np
import reproduce
from rich.console import Console
from studies import STUDIES

from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate import embed, score_pairs, verify, verify_all_pairs
from keras_facemargin.evaluate.protocols import read_pairs
from keras_facemargin.zoo import load_embedder

RESULTS = reproduce.RESULTS.with_name("reproduce_final.csv")
FARS = (1e-2, 1e-3, 1e-4, 1e-5)
FIELDS = ("paper", "recipe", "changes", "seed", "view2", *(f"tar_{far:.0e}" for far in FARS))


def main(arguments=None):
    options = read_options(arguments)
    lfw = options.work / "lfw"
    pairs = read_pairs(options.data / "lfw" / "pairs.txt", lfw, on_missing="reject")
    folder = FaceFolder(lfw)
    with open(options.results, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["paper"] == options.paper]
    for row in rows if options.every else chosen(rows):
        key = {name: row[name] for name in ("paper", "recipe", "changes", "seed")}
        if reproduce.has_run(options.final, **key):
            continue
        embedder = load_embedder(options.work / "runs" / reproduce.run_name(key) / "embedder.keras")
        scores = score_pairs(embedder, pairs, progress=False)
        view_2 = verify(scores, pairs.same, pairs.folds)
        embeddings = embed(embedder, folder.paths, progress=False)
        rates = verify_all_pairs(embeddings, folder.labels, fars=FARS, progress=False)
        row = key | {"view2": f"{view_2.accuracy.mean:.4f}"}
        for name, rate in zip(FIELDS[-len(FARS) :], rates.tar_at_far, strict=True):
            row[name] = f"{rate.tar:.4f}"
        reproduce.add_rows(options.final, FIELDS, [row])
        Console().print(row)
        keras.backend.clear_session()


def read_options(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("paper", choices=STUDIES)
    add("--data", type=Path, required=True, help="folder with lfw/")
    add("--work", type=Path, required=True, help="folder of reproduce.py")
    add("--every", action="store_true", help="every setting, not the best of each recipe")
    add("--results", type=Path, default=reproduce.RESULTS, help="CSV of reproduce.py")
    add("--final", type=Path, default=RESULTS, help="CSV to write")
    return parser.parse_args(arguments)


def chosen(rows):
    """The rows of each recipe's setting with the best mean of View 1 over the seeds."""
    accuracies = {}
    for row in rows:
        own = accuracies.setdefault(row["recipe"], {}).setdefault(row["changes"], [])
        own.append(float(row["view1"]))
    best = {
        recipe: max(settings, key=lambda changes: np.mean(settings[changes]))
        for recipe, settings in accuracies.items()
    }
    return [row for row in rows if best[row["recipe"]] == row["changes"]]


if __name__ == "__main__":
    main()
