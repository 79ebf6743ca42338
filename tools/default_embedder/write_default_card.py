"""Puts the embedder that train_default.py made into the zoo, measured, with its card.

    python tools/default_embedder/write_default_card.py --data ../shared/data --work WORK

The only place where LFW's View 2 is looked at: nothing is chosen by it. The thresholds are
calibrated on the people that `faces.part_of` keeps for the card: no crop that is labelled as one of
them, or looks like one to the teacher, was trained on. What else the card held of older weights is
removed; `write_golden.py`, `write_quality.py` and `write_measured.py` write it again.
"""

import argparse
import csv
import shutil
from pathlib import Path

import faces
import numpy as np
from rich.console import Console
from student import State

from keras_facemargin import zoo
from keras_facemargin.evaluate import embed, evaluate_lfw

NAME = "spherenet_distilled"

LFW_FARS = (1e-1, 1e-2, 1e-3)  # what 3,000 impostor pairs support


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with celeb2/ and lfw/")
    parser.add_argument("--work", type=Path, required=True, help="folder of train_default.py")
    options = parser.parse_args()
    state, about = State.load(options.work / "cooled.npz")

    folder = zoo.DIRECTORY / NAME
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "embedder.keras"
    shutil.copyfile(options.work / "embedder.keras", weights)
    embedder = zoo.load_embedder(weights)

    lfw = options.data / "lfw"
    verification = evaluate_lfw(embedder, lfw / "aligned", lfw / "pairs.txt", on_missing="reject")
    write_folds(zoo.DIRECTORY / "results" / "lfw.csv", verification.accuracy)
    card = zoo.load_card(NAME).changed(
        parameters=embedder.count_params(),
        embedding_dim=embedder.output_shape[-1],
        weights=zoo.Weights(
            file=weights.name, bytes=weights.stat().st_size, sha256=zoo.digest_of(weights)
        ),
        training=describe_training(state, about),
        measured=(describe_lfw(verification, about["seed"]),),
        thresholds=calibrate(embedder, options.data),
        golden=None,
        quality=None,
        likelihood=None,
    )
    zoo.write_card(folder / "card.json", card)
    zoo.load_card(NAME)  # what was written can be read
    console = Console()
    console.print("Now: python tools/assets/write_zoo_readme.py")
    console.print(verification)
    console.print(card.thresholds)


def describe_training(state, about):
    return zoo.Training(
        data=(
            "Aligned crops of CelebA, PubFig, UTKFace, British politicians and RMFD, none of a "
            "person of LFW, and mixes of two of them. Held out by the name: 18 of 100 labelled "
            "people, and unknown crops that look like one of them to the teacher."
        ),
        tool="tools/default_embedder/train_default.py",
        command=(
            "python tools/default_embedder/train_default.py --data DATA --work WORK"
            f" --network {about['network']} --small {about['small']} --mixes {about['mixes']}"
            f" --batch {about['batch']} --learning-rate {about['learning_rate']}"
            f" --seed {about['seed']}, once with --until {about['start'] * about['batch']} and"
            f" once with --cool {(about['end'] - about['start']) * about['batch']}"
        ),
        seed=about["seed"],
        steps=state.images // about["batch"],
    )


def describe_lfw(verification, seed):
    entries = {entry.target: entry.tar for entry in verification.tar_at_far}
    return zoo.Measured(
        protocol="lfw",
        accuracy=verification.accuracy.mean,
        standard_error=verification.accuracy.standard_error,
        tar_at_far={f"1e-{round(-np.log10(far))}": entries[far] for far in LFW_FARS},
        eer=verification.eer,
        auc=verification.auc,
        pairs=len(verification.same),
        failed_to_enrol=verification.failed_to_enrol,
        mirrored=True,
        interval=None,
        versions={},
        command=(
            "facemargin evaluate lfw --images DATA/lfw/aligned --pairs DATA/lfw/pairs.txt "
            f"--on-missing reject --model {NAME}"
        ),
        seeds=(seed,),
        notes=(
            "The official 6,000 pairs of View 2, unrestricted with labelled outside data; nothing "
            "was trained on or chosen by them. No training crop shows a person of LFW, but the "
            "teacher's MS-Celeb-1M may, so through the teacher the figure is not person-disjoint."
        ),
    )


def calibrate(embedder, data):
    crops = [crop for crop in faces.list_crops(data) if crop.part == faces.CARD]
    people = [crop.person for crop in crops]
    about = (
        f"all pairs of {len(crops):,} crops of {len(set(people)):,} people of CelebA and PubFig, "
        "none among those of its training or in LFW"
    )
    return zoo.calibrate(embed(embedder, [crop.path for crop in crops]), people, data=about)


def write_folds(path, accuracy):
    """`embedder, fold, accuracy, threshold`; rows of other embedders stay."""
    path.parent.mkdir(exist_ok=True)
    header = ["embedder", "fold", "accuracy", "threshold"]
    others = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            others = [row for row in list(csv.reader(file))[1:] if row[0] != NAME]
    folds = zip(accuracy.folds, accuracy.accuracies, accuracy.thresholds, strict=True)
    rows = [[NAME, number, f"{share:.6f}", f"{cosine:.6f}"] for number, share, cosine in folds]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *others, *rows])


if __name__ == "__main__":
    main()
