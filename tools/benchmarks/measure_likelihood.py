"""Measures the likelihood ratios of cards on LFW's official pairs, a row for each embedder.

    python tools/benchmarks/measure_likelihood.py zoo/results/likelihood.csv --lfw LFW --work W \\
        spherenet_distilled weights/foamliu_MobileFaceNet.onnx

The map is the card's, fitted on people who are not in LFW. LFW: folder with aligned/ and pairs.txt
(View 2). The interval of each number is over the people of LFW. W keeps the embeddings. A row
that the file has is not measured again.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from keras_facemargin import zoo
from keras_facemargin.bench.embedding import embed_faces
from keras_facemargin.bench.faces import BenchFaces
from keras_facemargin.evaluate import interval, verify
from keras_facemargin.evaluate.uncertainty import bootstrap_cllr
from keras_facemargin.evaluate.verification import cllr, empirical_cross_entropy, min_cllr

LOG_ODDS = (-4, -2, 0)  # of one person against two, before the comparison
FIELDS = (
    *("embedder", "genuine_pairs", "impostor_pairs", "cllr", "cllr_low", "cllr_high"),
    *("min_cllr", "min_cllr_low", "min_cllr_high", "difference", "difference_low"),
    *("difference_high", "cllr_of_fold_maps", *(f"ece_at_1e{odds}" for odds in LOG_ODDS)),
    *(f"ece_without_score_at_1e{odds}" for odds in LOG_ODDS),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("models", nargs="+", help="names or files of embedders of the zoo")
    parser.add_argument("--lfw", type=Path, required=True, help="folder with aligned/, pairs.txt")
    parser.add_argument("--work", type=Path, required=True, help="folder of the embeddings")
    options = parser.parse_args()
    rows = []
    if options.output.exists():
        with options.output.open(newline="", encoding="utf-8") as file:
            rows = [*csv.DictReader(file)]
    faces = BenchFaces.read(options.lfw / "aligned", options.lfw / "pairs.txt")
    for model in options.models:
        embedder = zoo.open_embedder(model)
        if embedder.name in {row["embedder"] for row in rows}:
            continue
        embeddings = embed_faces({"it": embedder}, faces, options.work, flip=True, progress=True)
        row = measure(faces, embeddings["it"], embedder.card.likelihood)
        rows.append({"embedder": embedder.name} | row)
        with options.output.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, FIELDS, lineterminator="\n")
            table.writeheader()
            table.writerows(rows)


def measure(faces, embeddings, likelihood):
    """The row of an embedder, without its name. A pair that failed to enrol is left out."""
    pairs, scores = faces.pairs, faces.score(embeddings)
    there = ~pairs.failed_to_enrol
    scores, same = scores[there], pairs.same[there]
    people = tuple(np.asarray(side)[there] for side in pairs.people)
    ratios = likelihood.slope * scores + likelihood.intercept
    draws = bootstrap_cllr(scores, same, ratios=ratios, people=people)
    by_fold = verify(scores, same, pairs.folds[there])
    least = min_cllr(by_fold.curve)
    cost = cllr(ratios, same)
    found = {
        "cllr": (cost, draws.cllr),
        "min_cllr": (least, draws.min_cllr),
        "difference": (cost - least, draws.cllr - draws.min_cllr),
    }
    row = {"genuine_pairs": by_fold.genuines, "impostor_pairs": by_fold.impostors}
    for name, (value, drawn) in found.items():
        ends = interval(drawn)
        row |= {name: value, f"{name}_low": ends.low, f"{name}_high": ends.high}
    row["cllr_of_fold_maps"] = by_fold.cllr
    # bits that remain: with the ratios, and with ratios of 1
    for words, given in (("ece", ratios), ("ece_without_score", np.zeros_like(ratios))):
        costs = empirical_cross_entropy(given, same, LOG_ODDS)
        row |= {f"{words}_at_1e{odds}": each for odds, each in zip(LOG_ODDS, costs, strict=True)}
    return {key: value if isinstance(value, int) else f"{value:.6f}" for key, value in row.items()}


if __name__ == "__main__":
    main()
