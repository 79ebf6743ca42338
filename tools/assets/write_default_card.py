"""Puts the embedder that tools/assets/train_default.py made into the zoo, measured, with its card.

    python tools/assets/write_default_card.py --data ../shared/data --work WORK

The only place where LFW's View 2 is looked at: nothing is chosen by it. The thresholds are
calibrated on people of celeb2/train, none of whom is among the labelled people of the training.
What else the card held of older weights is removed; `write_golden.py`, `write_quality.py` and
`write_measured.py` write it again.
"""

import argparse
import csv
import json
import shutil
from pathlib import Path

import numpy as np
from rich.console import Console
from train_default import HELD_OUT_IDENTITIES, NAME
from write_zoo_readme import zoo_readme

from keras_facemargin import zoo
from keras_facemargin.evaluate import embed, evaluate_lfw

LFW_FARS = (1e-1, 1e-2, 1e-3)  # what 3,000 impostor pairs support


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with celeb2/ and lfw/")
    parser.add_argument("--work", type=Path, required=True, help="folder of train_default.py")
    options = parser.parse_args()
    lines = (options.work / "starts.jsonl").read_text(encoding="utf-8").splitlines()
    starts = [json.loads(line) for line in lines]
    seed = starts[-1]["seed"]

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
        training=describe_training(starts),
        measured=(describe_lfw(verification, seed),),
        thresholds=calibrate(embedder, options.data),
        golden=None,
        quality=None,
        likelihood=None,
    )
    zoo.write_card(folder / "card.json", card)
    zoo.load_card(NAME)  # what was written can be read
    (zoo.DIRECTORY / "README.md").write_text(zoo_readme(), encoding="utf-8")
    console = Console()
    console.print(verification)
    console.print(card.thresholds)


def describe_training(starts):
    last = starts[-1]
    commands = "; ".join(
        f"from step {start['from_step']:,}: "
        "python tools/assets/train_default.py --data DATA --work WORK"
        f" --views {start['views']} --steps {start['steps']} --batch {start['batch']}"
        f" --learning-rate {start['learning_rate']} --seed {start['seed']}"
        for start in starts
    )
    return zoo.Training(
        data=(
            "Aligned crops of celebrities (CelebA, PubFig), none of a person of LFW: 9,383 of "
            "1,130 labelled identities (labels unused) and 6,691 unlabelled ones. "
            f"{last['views']:,} views of them, labelled by the teacher: each crop once, the rest "
            "mixtures and augmentations drawn by the seed. Held out: "
            f"{HELD_OUT_IDENTITIES} of the 1,255 labelled identities, drawn by the seed; the "
            "unlabelled crops may show some of them."
        ),
        tool="tools/assets/train_default.py",
        command=commands,
        seed=last["seed"],
        steps=last["steps"],
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
    paths = calibration_crops(data)
    people = [path.parent.name for path in paths]
    about = (
        f"all pairs of {len(paths):,} crops of {len(set(people)):,} people of CelebA, none among "
        "the labelled people of its training or in LFW"
    )
    return zoo.calibrate(embed(embedder, paths), people, data=about)


def calibration_crops(data, one_of=2):
    """Four crops of one of so many people of celeb2/train."""
    people = sorted((data / "celeb2" / "train").iterdir())[::one_of]
    return [path for person in people for path in sorted(person.glob("*.jpg"))[:4]]


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
