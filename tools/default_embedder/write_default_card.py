"""Puts the embedder that train_default.py made into the zoo, with its card.

    python tools/default_embedder/write_default_card.py --data ../shared/data --work WORK

The thresholds are calibrated on the people that `faces.part_of` keeps for the card: no crop that is
labelled as one of them, or looks like one to the teacher, was trained on. The rates that they have
on all pairs of LFW are a note of the card. Figures, golden embedding, quality (on the same people,
linked in WORK/card_faces) and groups are written by the tools of tools/assets afterwards, as the
last line says. Nothing is chosen by them.
"""

import argparse
import shutil
import sys
from pathlib import Path

import faces
import train_default
from rich.console import Console
from student import State

from keras_facemargin import zoo
from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate import embed

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "assets"))
from rates_on_faces import rates_on

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

    thresholds, likelihood = calibrate(embedder, options)
    lfw = FaceFolder(options.data / "lfw" / "aligned")
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
        notes=(
            rates_on(
                f"{len(lfw.paths):,} images of {lfw.num_classes:,} people of LFW",
                embed(embedder, lfw.paths),
                lfw.labels,
                thresholds,
            ),
        ),
        caution=CAUTION,
        measured=(),
        thresholds=thresholds,
        golden=None,
        quality=None,
        likelihood=likelihood,
        groups=None,
    )
    zoo.write_card(folder / "card.json", card)
    zoo.load_card(NAME)  # what was written can be read
    console = Console()
    console.print(card.thresholds, *card.notes, sep="\n")
    console.print("Now write_measured.py, write_golden.py, write_quality.py and write_groups.py")


def ledger_of(part):
    """A part of the first generation's ledger, as it stands for the second."""
    if part.part == "weights":
        return part.model_copy(update={"of": NAME})
    if part.part == "data":
        return part.model_copy(update={"of": f"{DATA}, the training crops"})
    return part


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
            f" --seed {about['seed']}, once with --begin-with zoo/{ORIGIN}/embedder.keras"
            f" --until {about['start'] * about['batch']} and once with"
            f" --cool {(about['end'] - about['start']) * about['batch']}"
        ),
        seed=about["seed"],
        steps=state.images // about["batch"],
    )


def calibrate(embedder, options):
    """Thresholds and likelihood ratio of the crops that are kept for the card."""
    arguments = ["--data", str(options.data), "--work", str(options.work)]
    lesson = train_default.read_lesson(train_default.read_options(arguments))
    crops = [lesson.crops[row] for row in lesson.held_out[faces.CARD]]
    people = [crop.person for crop in crops]
    link_faces(crops, options.work / "card_faces")
    about = (
        f"all pairs of {len(crops):,} crops of {len(set(people)):,} people of CelebA, none among "
        "those of its training, of its first weights' training or in LFW"
    )
    embeddings = embed(embedder, [crop.path for crop in crops])
    return (
        zoo.calibrate(embeddings, people, data=about),
        zoo.fit_likelihood(embeddings, people, data=about),
    )


def link_faces(crops, folder):
    """The crops as a folder of people, for tools that take one."""
    shutil.rmtree(folder, ignore_errors=True)
    for crop in crops:
        link = folder / crop.person / crop.path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(crop.path.resolve())


if __name__ == "__main__":
    main()
