"""Puts the embedder that train_default.py made into the zoo, measured, with its card.

    python tools/default_embedder/write_default_card.py --data ../shared/data --work WORK

The only place where LFW's View 2 is looked at: nothing is chosen by it. The thresholds are
calibrated on the people that `faces.part_of` keeps for the card: no crop that is labelled as one of
them, or looks like one to the teacher, was trained on. The rates that they have on all pairs of LFW
are a note of the card. Golden embedding, quality and groups are written by the tools of
tools/assets afterwards, as the last lines say.
"""

import argparse
import csv
import shutil
from pathlib import Path

import faces
import numpy as np
import train_default
from rich.console import Console
from student import State

from keras_facemargin import zoo
from keras_facemargin.data import open_faces
from keras_facemargin.evaluate import embed, evaluate_lfw

NAME, ORIGIN = "spherenet_robust", "spherenet_distilled"
DESCRIPTION = (
    "A small SphereNet for CPUs and phones that fails safe: it learned to give a published "
    "MobileFaceNet's embeddings of clean crops, whatever the blur, size or JPEG of what it sees."
)
DATA = "CelebA, PubFig, UTKFace, British politicians and RMFD"
CAUTION = (
    "A biometric tool whose errors are not equal between groups of people: it learned from "
    "celebrities mostly, and at one threshold it accepts several times as many strangers in some "
    "groups by race and sex as in others. No rate by age has been measured. Do not decide about a "
    "person by it alone; obtain consent and check the law (in the EU: GDPR article 9, AI Act)."
)

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
    thresholds = calibrate(embedder, options)
    parent = zoo.load_card(ORIGIN)
    card = parent.changed(
        name=NAME,
        description=DESCRIPTION,
        parameters=embedder.count_params(),
        embedding_dim=embedder.output_shape[-1],
        weights=zoo.Weights(
            file=weights.name, bytes=weights.stat().st_size, sha256=zoo.digest_of(weights)
        ),
        license=tuple(map(ledger_of, parent.license)),
        training=describe_training(state, about),
        lineage=(
            parent.lineage[0],
            f"First weights: those of {ORIGIN} (sha256 {state.origin[:12]}), its last stage wider.",
            "Student: regression on the teacher's unit embeddings of clean crops (one minus the "
            "cosine), a term that pushes strangers apart, and CosFace against fixed prototypes "
            "while the rate falls.",
        ),
        notes=(hold_on_lfw(embedder, lfw / "aligned", thresholds),),
        caution=CAUTION,
        measured=(describe_lfw(verification, about["seed"]),),
        thresholds=thresholds,
        golden=None,
        quality=None,
        likelihood=None,
        groups=None,
    )
    zoo.write_card(folder / "card.json", card)
    zoo.load_card(NAME)  # what was written can be read
    console = Console()
    console.print(verification, card.thresholds, *card.notes, sep="\n")
    console.print("Now: write_golden.py, write_quality.py, write_groups.py, write_zoo_readme.py")


def ledger_of(part):
    """A part of the first generation's ledger, as it stands for the second."""
    if part.part == "weights":
        return part.model_copy(update={"of": NAME})
    if part.part == "data":
        return part.model_copy(update={"of": f"{DATA}, the training crops"})
    return part


def hold_on_lfw(embedder, folder, thresholds):
    """The rates of the thresholds on all pairs of LFW, in words."""
    lfw = open_faces(folder, image_size=embedder.input_shape[1:3])
    straight = embed(embedder, lfw.paths, flip=False)
    both = embed(embedder, lfw.paths)
    return (
        f"On all pairs of {len(lfw.paths):,} images of {lfw.num_classes:,} people of LFW the "
        f"thresholds have FARs of {far_of(both, lfw.labels, thresholds.mirrored)} with the mirror "
        f"image, and {far_of(straight, lfw.labels, thresholds.single)} alone."
    )


def far_of(embeddings, labels, thresholds):
    units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    counts, pairs = np.zeros(len(thresholds), int), 0
    for row in range(0, len(units), 1000):
        scores = units[row : row + 1000] @ units.T
        later = np.arange(len(units)) > np.arange(row, row + len(scores))[:, None]
        impostor = scores[later & (labels[row : row + 1000, None] != labels)]
        pairs += len(impostor)
        counts += [np.count_nonzero(impostor >= each.cosine) for each in thresholds]
    return ", ".join(f"{count / pairs:.1e}".replace("e-0", "e-") for count in counts)


def describe_training(state, about):
    return zoo.Training(
        data=(
            f"Aligned crops of {DATA}, none of a person of LFW, and mixes of two of them. Held "
            "out: 18 of 100 people of celeb2/train by the hash of their name, without those who "
            f"look like an unlabelled crop that {ORIGIN} was trained on, and the other unlabelled "
            "crops that look like one of them, both to the teacher."
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


def calibrate(embedder, options):
    """On the crops for the card, with the rates of the least pairs that can show them."""
    arguments = ["--data", str(options.data), "--work", str(options.work)]
    lesson = train_default.read_lesson(train_default.read_options(arguments))
    crops = [lesson.crops[row] for row in lesson.held_out[faces.CARD]]
    people = [crop.person for crop in crops]
    about = (
        f"all pairs of {len(crops):,} crops of {len(set(people)):,} people of CelebA, none among "
        "those of its training, of its first weights' training or in LFW"
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
