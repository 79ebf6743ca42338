"""Trains small embedders for the zoo, one for each loss of the papers, and writes their cards.

    python tools/reproduce/small_models.py --data ../shared/data --work ~/reproduce cosface_small

A model is what `facemargin train` makes of its recipe, `zoo/recipes/*/NAME.toml`; without names all
are trained. The crops are those of the papers' experiments, larger, without 5 of 100 people by the
hash of their name: those are for the thresholds and the quality of the card. View 1 chose nothing
here but what the recipes took from the experiments; the rows of `zoo/results/small_models.csv` have
the columns of `measure.py`. A run that was stopped continues; a model that has a card is skipped.
Run `tools/assets/write_zoo_readme.py` afterwards.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import crops
import numpy as np
import reproduce
from measure import COLUMNS, Tests, measure
from studies import RECIPES, Setting

from keras_facemargin import zoo
from keras_facemargin.evaluate import embed
from keras_facemargin.training.recipe import read_recipe
from keras_facemargin.zoo.parity import golden_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "assets"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from lfw_rates import hold_on_lfw
from run_rows import add_rows, has_run
from write_measured import with_results

LOSSES = {
    "l2_softmax/softmax_small": "the plain softmax loss",
    "l2_softmax/l2_softmax_small": "L2-constrained softmax (arXiv:1703.09507)",
    "sphereface/sphereface_small": "SphereFace (arXiv:1704.08063)",
    "cosface/cosface_small": "CosFace (arXiv:1801.09414)",
    "crystal/crystal_small": "Crystal loss (arXiv:1804.01159)",
    "sv_softmax/sv_am_softmax_small": "SV-AM-Softmax (arXiv:1812.11317)",
    "heads/arcface_small": "ArcFace (arXiv:1801.07698)",
}
RECIPE_OF = {recipe.rpartition("/")[2]: recipe for recipe in LOSSES}
RESULTS = zoo.DIRECTORY / "results" / "small_models.csv"
FIELDS = ("model", "loss", "accuracy", *COLUMNS, "cpu_seconds")
SETS = "CelebA and PubFig"
LFW_NOTES = (
    "The official 6,000 pairs of View 2, unrestricted with labelled outside data; nothing was "
    "trained on or chosen by them. No training crop shows a person of LFW."
)


def main(arguments=None):
    options = read_options(arguments)
    os.nice(10)
    lfw = options.data / "lfw" / "aligned"
    teacher = options.data / "weights" / "foamliu_mobilefacenet.pt"
    every = crops.cleaned_crops(options.data, teacher, lfw, reproduce.CORRECTIONS)
    held_out = [each for each in every if is_held_out(each[1])]
    for name in options.names or RECIPE_OF:
        if (zoo.DIRECTORY / name / zoo.CARD).exists():
            print(f"{name} is in the zoo already")
            continue
        recipe = read_recipe(RECIPES / f"{RECIPE_OF[name]}.toml").settings
        size = recipe.embedder.image_size
        faces = options.work / f"faces{size}"
        trained = [each for each in every if not is_held_out(each[1])]
        crops.write_training_crops(trained, faces, size)
        run = options.work / "runs" / name
        before = reproduce.cpu_seconds()
        reproduce.train({"seed": recipe.seed}, Setting(RECIPE_OF[name]), run, faces)
        tests = Tests.read(options.data / "lfw", lfw, faces)
        row = {"model": name} | reproduce.last_epoch(run) | measure(run / "embedder.keras", tests)
        row["cpu_seconds"] = round(reproduce.cpu_seconds() - before)
        publish(name, recipe, run, faces, held_out, options.data)
        if not has_run(options.results, model=name):
            add_rows(options.results, FIELDS, [row])
        print(row)


def read_options(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help=f"of {', '.join(RECIPE_OF)}; default: all")
    add("--data", type=Path, required=True, help="folder with celeb/, celeb2/, lfw/")
    add("--work", type=Path, required=True, help="folder of small crops and runs")
    add("--results", type=Path, default=RESULTS, help="CSV with a row for each model")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(RECIPE_OF))
    if unknown:
        parser.error(
            f"a name must be one of {', '.join(RECIPE_OF)}. Received: {', '.join(unknown)}."
        )
    return options


def is_held_out(person):
    """Whether a person is for thresholds, the same whatever other people there are.

    >>> is_held_out("c53"), is_held_out("c10")
    (True, False)
    """
    return zlib.crc32(person.encode()) % 100 >= 95


def publish(name, recipe, run, faces, held_out, data):
    """Writes zoo/NAME: the embedder and its card."""
    folder = zoo.DIRECTORY / name
    folder.mkdir(exist_ok=True)
    weights = folder / "embedder.keras"
    shutil.copyfile(run / "embedder.keras", weights)
    embedder = zoo.load_embedder(weights)
    card = zoo.describe(
        embedder,
        weights,
        f"A small SphereNet trained from scratch by {LOSSES[RECIPE_OF[name]]}: a baseline to "
        "compare losses with, less accurate than the other embedders.",
    )
    paths, people = zip(*held_out, strict=True)
    about = (
        f"all pairs of {len(paths):,} crops of {len(set(people)):,} people of {SETS}, none among "
        "those of its training or in LFW"
    )
    embeddings = embed(embedder, paths)
    thresholds = zoo.calibrate(embeddings, people, data=about)
    card = card.changed(
        license=ledger_of(name),
        thresholds=thresholds,
        likelihood=zoo.fit_likelihood(embeddings, people, data=about),
        quality=zoo.measure_quality(
            embedder,
            paths,
            np.unique(people, return_inverse=True)[1],
            data=about.removeprefix("all pairs of "),
        ),
        golden=golden_of(weights, card),
        training=describe_training(name, recipe, faces),
        lineage=(f"First weights: random. Loss: {LOSSES[RECIPE_OF[name]]}.",),
        notes=(hold_on_lfw(embedder, data / "lfw" / "aligned", thresholds),),
    )
    file = folder / zoo.CARD
    zoo.write_card(file, card)
    for flip in ("--flip", "--no-flip"):
        card = with_results(card, evaluate_lfw(name, flip, run, data), LFW_NOTES)
    zoo.write_card(file, card)
    zoo.load_card(name)  # what was written can be read


def ledger_of(name):
    entry = zoo.LicenseEntry
    return (
        entry(
            part="weights",
            of=name,
            license="Apache-2.0 for what this project adds; the terms of the data remain",
            stated_by="this project",
            commercial=None,
        ),
        entry(
            part="code",
            of="keras_facemargin",
            license="Apache-2.0",
            stated_by="LICENSE of this project",
            commercial=True,
        ),
        entry(
            part="data",
            of=f"{SETS}, the training crops",
            license="non-commercial research only",
            stated_by="the publishers of the sets",
            commercial=False,
        ),
    )


def describe_training(name, recipe, faces):
    images = sum(1 for _ in faces.glob("*/*.jpg"))
    people = sum(1 for _ in faces.iterdir())
    return zoo.Training(
        data=(
            f"{images:,} labelled crops of {people:,} people of {SETS}, none of LFW, cleaned by "
            "zoo/results/reproduce_labels.csv. Held out: 5 of 100 people by the hash of their name."
        ),
        tool="tools/reproduce/small_models.py",
        command=f"python tools/reproduce/small_models.py --data DATA --work WORK {name}",
        seed=recipe.seed,
        steps=recipe.epochs * math.ceil(images / recipe.batch_size),
    )


def evaluate_lfw(name, flip, run, data):
    """results.json of `facemargin evaluate lfw`: the figures of the card, as a user gets them."""
    output = run / f"lfw{flip}"
    command = [sys.executable, "-m", "keras_facemargin", "evaluate", "lfw", "--model", name, flip]
    command += ["--lists", str(data / "lfw"), "--images", str(data / "lfw" / "aligned")]
    command += ["--on-missing", "reject", "--output", str(output)]
    subprocess.run(command, check=True)
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
