"""Measures errors by group of people, and writes them into cards of the zoo and a table.

    python tools/assets/write_groups.py --data ../shared/data --work WORK \\
        spherenet_distilled weights/foamliu_MobileFaceNet.onnx MobileFaceNet.tflite

False matches are pairs of two people of UTKFace with one race and one sex, false non-matches pairs
of one person of CelebA. The threshold is the card's for FAR 1e-3. With --intervals the crops of
CelebA that the thresholds were calibrated on also give intervals of their TARs. WORK keeps the
embeddings, so an interrupted run resumes. The rows of zoo/results/groups.csv of other embedders
stay.

Run `tools/assets/write_zoo_readme.py` afterwards.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from calibration_crops import calibration_crops

from keras_facemargin import zoo
from keras_facemargin.bench.embedding import embed_faces
from keras_facemargin.bench.faces import BenchFaces
from keras_facemargin.evaluate import cosine_scores
from keras_facemargin.evaluate.uncertainty import (
    fmr_spread,
    rates_by_group,
    threshold_for_every_group,
)
from keras_facemargin.images import Crop

RESULTS = zoo.DIRECTORY / "results" / "groups.csv"
HELD_FAR = 1e-2  # 4,950 pairs of a group decide no lower one
DATA = (
    "FMR: pairs within a group of 800 people of UTKFace, one image of 64 pixels each, 100 people "
    "in each group, race and sex as that set labels them. FNMR: 300 people of CelebA, four images "
    "each. The sets differ in sharpness, so compare groups of one set only."
)
FIELDS = (
    *("embedder", "cosine", "group", "impostor_pairs", "false_matches", "fmr", "fmr_low"),
    *("fmr_high", "genuine_pairs", "false_non_matches", "fnmr", "fnmr_low", "fnmr_high"),
    "cosine_at_fmr_0.01",
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="names or files of embedders of the zoo")
    parser.add_argument("--data", type=Path, required=True, help="folder with groups/ and celeb2/")
    parser.add_argument("--work", type=Path, required=True, help="folder of the embeddings")
    parser.add_argument("--intervals", action="store_true", help="of the thresholds' TARs")
    options = parser.parse_args()
    faces = BenchFaces.read(
        options.data / "groups/faces", groups=options.data / "groups/groups.csv"
    )
    for model in options.models:
        embedder = zoo.open_embedder(model)
        file = zoo.DIRECTORY / embedder.name / zoo.CARD
        card = zoo.read_card(file)
        rows = embed_once(embedder, faces, options.work)
        card = card.changed(groups=measure(rows, faces, card.thresholds.find(mirrored=True)))
        if options.intervals:
            crops = calibration_crops(options.data)
            people = [path.parent.name for path in crops]
            rows = embed_once(
                embedder, BenchFaces({Crop.of(): crops}, people, 0, None, {}), options.work
            )
            card = card.changed(thresholds=with_intervals(card.thresholds, rows, people))
        zoo.write_card(file, card)
        write_rows(card)
        print(card.name, *card.groups.sentences, card.groups.table, *card.bars, sep="\n")


def embed_once(embedder, faces, work):
    """The embeddings of the faces, with those of the mirror images appended."""
    return embed_faces({"it": embedder}, faces, work, flip=True, progress=True)["it"]


def measure(rows, faces, threshold):
    """The `Groups` of the grouped faces at a threshold of the card."""
    first, second, groups = chosen_pairs(faces)
    people = np.array(faces.people)
    sides = people[first], people[second]
    same = sides[0] == sides[1]
    scores = cosine_scores(rows[first], rows[second])
    rates = rates_by_group(scores, same, (groups,) * 2, threshold=threshold.cosine, people=sides)
    spread = fmr_spread(rates)
    held = threshold_for_every_group(scores, same, (groups,) * 2, far=HELD_FAR)
    return zoo.Groups(
        data=DATA,
        cosine=threshold.cosine,
        far=threshold.far,
        groups=tuple(
            zoo.GroupErrors(
                group=rate.name,
                impostor_pairs=rate.fmr.pairs,
                false_matches=rate.fmr.errors,
                fmr_interval=ends_of(rate.fmr),
                genuine_pairs=rate.fnmr.pairs,
                false_non_matches=rate.fnmr.errors,
                fnmr_interval=ends_of(rate.fnmr),
                own_cosine=held.by_group.get(rate.name),
            )
            for rate in rates[1:]
        ),
        ratio=spread.ratio,
        gini=spread.gini,
        held_far=HELD_FAR,
        single_cosine=held.single,
        held_cosine=held.threshold,
        single_tar=held.single_tar,
        held_tar=held.tar,
    )


def chosen_pairs(faces):
    """(first, second, group): impostor pairs within UTKFace's groups, genuine pairs of CelebA."""
    source, group = faces.groups["source"], faces.groups["race_sex"]
    people = np.array(faces.people)
    first, second = np.triu_indices(len(people), k=1)
    within = (group[first] == group[second]) & (source[first] == source[second])
    same = people[first] == people[second]
    chosen = within & np.where(same, source[first] == "CelebA", source[first] == "UTKFace 64 px")
    return first[chosen], second[chosen], group[first[chosen]]


def with_intervals(thresholds, rows, people):
    """The thresholds of the card with the intervals of their TARs, from the same faces."""
    fars = [one.far for one in thresholds.mirrored]
    data = thresholds.mirrored[0].data
    found = zoo.calibrate(rows, people, fars, data=data, progress=False)
    for old, new in zip(
        (*thresholds.mirrored, *thresholds.single), (*found.mirrored, *found.single), strict=True
    ):
        if abs(old.cosine - new.cosine) > 1e-3 or old.impostor_pairs != new.impostor_pairs:
            raise ValueError(f"The card was calibrated on other faces. Received: {new}, not {old}")
    return found


def ends_of(rate):
    """The ends of the interval of a rate, or None without pairs."""
    return None if rate.interval is None else (rate.interval.low, rate.interval.high)


def write_rows(card):
    """The rows of a card in place of its older ones."""
    others = []
    if RESULTS.exists():
        with RESULTS.open(newline="", encoding="utf-8") as file:
            others = [row for row in csv.DictReader(file) if row["embedder"] != card.name]
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, FIELDS, lineterminator="\n")
        table.writeheader()
        table.writerows(others)
        for one in card.groups.groups:
            cells = (
                *(card.name, f"{card.groups.cosine:.4f}", one.group),
                *(one.impostor_pairs, one.false_matches, digits(one.fmr)),
                *map(digits, one.fmr_interval or (None, None)),
                *(one.genuine_pairs, one.false_non_matches, digits(one.fnmr)),
                *map(digits, one.fnmr_interval or (None, None)),
                digits(one.own_cosine),
            )
            table.writerow(dict(zip(FIELDS, cells, strict=True)))


def digits(value):
    """Five digits after the point; an empty cell for None."""
    return "" if value is None else f"{value:.5f}"


if __name__ == "__main__":
    main()
