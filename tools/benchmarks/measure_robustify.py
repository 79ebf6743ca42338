"""Robustifies embedders and writes error rates before and after, a row for each measure.

    python tools/benchmarks/measure_robustify.py zoo/results/robust.csv robustify-cache \
        --model mobilefacenet_192 --crops celeb2/unlabelled/celeba --people celeb2/train \
        --lfw lfw/aligned --pairs lfw/pairs.txt --seeds 0

The folders have 112x112 ArcFace crops; those of an embedder with another template are cut out of
them. From `--people` it draws 300 people to measure on, always the same, none of the 300 on whom
the settings of `robustify` were chosen. The second argument is a folder that keeps embeddings and
cut crops. Rows that are in the file are left out, so a stopped measurement continues; those of LFW
come after the others.
"""

import argparse
import os
import random
from pathlib import Path

import numpy as np
from PIL import Image
from run_rows import add_rows, has_run

from keras_facemargin.bench.embedding import embed_faces
from keras_facemargin.bench.faces import BenchFaces
from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate.cosine import unit_rows
from keras_facemargin.evaluate.verification import fold_accuracy
from keras_facemargin.images import Crop, read_face
from keras_facemargin.images.align import align_face
from keras_facemargin.training.robustify import robustify
from keras_facemargin.zoo import load_embedder, open_embedder

ARCFACE = Crop(112, 112)
CHOSEN_ON, MEASURED_ON = 300, 300  # people
DRAWN = 4000  # crops
FIELDS = ("model", "seed", "measure", "before", "after")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--model", required=True, help="as load_embedder takes it")
    parser.add_argument("--weights", help="your copy of the weights")
    parser.add_argument("--crops", type=Path, nargs="+", required=True, help="to train on")
    parser.add_argument("--people", type=Path, required=True, help="folder of people to measure on")
    parser.add_argument("--lfw", type=Path, required=True, help="LFW's crops")
    parser.add_argument("--pairs", type=Path, required=True, help="LFW's list of pairs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for measure, first in ((rates, "people"), (lfw_accuracy, "LFW accuracy")):
            key = {"model": arguments.model, "seed": seed}
            if not has_run(arguments.output, **key, measure=first):
                found = measure(arguments, seed).items()
                rows = (
                    key | {"measure": name, "before": number(before), "after": number(after)}
                    for name, (before, after) in found
                )
                add_rows(arguments.output, FIELDS, rows)


def rates(arguments, seed):
    """Robustifies once; gives the measures before and after, by name."""
    embedder = load_embedder(arguments.model, weights=arguments.weights)
    crop = Crop.of_embedder(embedder)
    place = arguments.cache / (crop.template or "other")
    images = cut(draw_crops(arguments.crops), place / "crops", crop)
    cut(draw_people(arguments.people), place / "people", crop)
    checkpoint = arguments.cache / f"{arguments.model}-{seed}.checkpoint"
    result = robustify(
        embedder,
        images,
        test=FaceFolder(place / "people", image_size=crop),
        seed=seed,
        checkpoint=checkpoint,
    )
    checkpoint.unlink(missing_ok=True)
    result.save(result_folder(arguments, seed), arguments.model)
    print(result.kept)
    measures = {
        "images to train on": (result.images, result.images),
        "people": (result.before.people, result.after.people),
        "clean cosine, mean": (1, result.kept.mean),
        "clean cosine, 1st percentile": (1, result.kept.percentile_1),
        "clean cosine, least": (1, result.kept.lowest),
    }
    for images, before, after in (
        ("both", result.before.both, result.after.both),
        ("one", result.before.one, result.after.one),
    ):
        for kind in before:
            for rate in ("fmr", "fnmr"):
                values = (getattr(before[kind], rate), getattr(after[kind], rate))
                measures[f"{rate}, {images} {kind}"] = values
    return measures


def result_folder(arguments, seed):
    return arguments.cache / f"{arguments.model}-{seed}"


def lfw_accuracy(arguments, seed):
    """Accuracy on LFW's official pairs with mirror images, and its standard error."""
    robust = load_embedder(result_folder(arguments, seed))
    folders = [arguments.lfw]
    old = open_embedder(arguments.weights or arguments.model)
    if old.crop.template != ARCFACE.template:
        files = {file.relative_to(arguments.lfw): file for file in arguments.lfw.rglob("*.jpg")}
        place = arguments.cache / old.crop.template / "lfw"
        cut(files, place, old.crop)
        folders.append(place)
    faces = BenchFaces.read(folders, pairs=arguments.pairs)
    rows = embed_faces(
        {"old": old}, faces, arguments.cache / "embeddings", flip=True, progress=True
    )["old"]
    correct = robust.get_layer("correction").predict
    straight, mirrored = (correct(half, verbose=0) for half in np.split(rows, 2, axis=1))
    found = []
    for each in (rows, np.concatenate([straight, mirrored], axis=1)):
        scores = faces.score(unit_rows(each, "embeddings"))
        found.append(fold_accuracy(scores, faces.pairs.same, faces.pairs.folds))
    return {
        "LFW accuracy": tuple(each.mean for each in found),
        "LFW standard error": tuple(each.standard_error for each in found),
    }


def draw_crops(folders):
    """Name -> file of crops of all folders."""
    files = sorted(file for folder in folders for file in folder.rglob("*.jpg"))
    random.Random(11).shuffle(files)
    return {Path(f"{number:05d}.jpg"): file for number, file in enumerate(files[:DRAWN])}


def draw_people(folder):
    """Name -> file of the first two images of people."""
    people = sorted(each.name for each in folder.iterdir())
    random.Random(7).shuffle(people)
    return {
        file.relative_to(folder): file
        for person in people[CHOSEN_ON : CHOSEN_ON + MEASURED_ON]
        for file in sorted((folder / person).iterdir())[:2]
    }


def cut(files, folder, crop):
    """The files in a folder, links to them or crops cut out of them; gives their paths."""
    for name, file in files.items():
        path = folder / name
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if crop.template == ARCFACE.template:
            os.symlink(file.resolve(), path)
        else:
            image = align_face(read_face(file, ARCFACE), ARCFACE.points, crop)
            draft = path.with_suffix(".draft")
            Image.fromarray(image).save(draft, "PNG")
            os.replace(draft, path)
    return [folder / name for name in files]


def number(value):
    return str(value) if isinstance(value, int) else f"{value:.6f}"


if __name__ == "__main__":
    main()
