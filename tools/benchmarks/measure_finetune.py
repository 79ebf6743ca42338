"""Fine-tunes embedders on a few people and writes what was gained, a row for each measure.

    python tools/benchmarks/measure_finetune.py zoo/results/finetune.csv \
        --model mobilefacenet_192 --faces celeb/train --lfw lfw/aligned \
        --pairs lfw/pairsDevTest.txt --images 2 5 10 --seeds 0

From the folder of people it draws 40 with at least 14 images, so many training images of each (the
test images are up to 10 other pictures, the same for all numbers), and 150 strangers with up to 4
images. The general set is the images of the genuine pairs in a list of LFW's format. `--leave-out`
names people with two labels. Each run starts at the published weights. Runs whose rows are in the
file are left out, so a stopped measurement continues.
"""

import argparse
import csv
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from keras_facemargin.data import FaceFolder
from keras_facemargin.images import Crop
from keras_facemargin.training.finetune import finetune
from keras_facemargin.zoo import load_embedder

PEOPLE, LEAST, TRAINED, TESTED = 40, 14, 10, 10
STRANGERS, STRANGERS_IMAGES = 150, 4
COPY = 0.97  # correlation of two copies of one picture
FIELDS = (
    *("model", "images", "seed", "measure", "before", "after", "low", "high", "kept"),
    *("score", "seconds"),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", required=True, help="as load_embedder takes it")
    parser.add_argument("--weights", help="your copy of the weights")
    parser.add_argument("--faces", type=Path, required=True, help="folder of people")
    parser.add_argument("--lfw", type=Path, required=True, help="LFW's crops")
    parser.add_argument("--pairs", type=Path, required=True, help="a list of pairs of LFW")
    parser.add_argument("--images", type=int, nargs="+", default=[2, 5, 10])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--leave-out", nargs="*", default=[], help="people with two labels")
    arguments = parser.parse_args()
    name = Path(arguments.model).name
    for seed in arguments.seeds:
        for images in arguments.images:
            if not has_run(arguments.output, name, images, seed):
                add_rows(arguments.output, run(arguments, name, images, seed))


def run(arguments, name, images, seed):
    """Fine-tunes once; gives rows."""
    start = time.monotonic()
    embedder = load_embedder(arguments.model, weights=arguments.weights)
    crop = Crop.of_embedder(embedder)
    with tempfile.TemporaryDirectory() as place:
        sets = {
            part: FaceFolder(link(Path(place) / part, files), image_size=crop)
            for part, files in choose(arguments, images, seed).items()
        }
        tuned = finetune(embedder, sets.pop("faces"), **sets, seed=seed)
    print(name, images, seed, tuned.verdict)
    seconds = round(time.monotonic() - start)
    shared = {
        "model": name,
        "images": images,
        "seed": seed,
        "kept": tuned.kept,
        "score": f"{tuned.comparison.score:.6f}",
        "seconds": seconds,
    }
    for measure in tuned.comparison.measures:
        difference = measure.difference
        yield shared | {
            "measure": measure.name,
            "before": f"{measure.before:.6f}",
            "after": f"{measure.after:.6f}",
            "low": "" if difference is None else f"{difference.low:.6f}",
            "high": "" if difference is None else f"{difference.high:.6f}",
        }
    yield shared | {
        "measure": "Cosine to the embeddings before",
        "before": "1.000000",
        "after": f"{tuned.after.similarity:.6f}",
    }


def choose(arguments, images, seed):
    """The files of each part, by their path in its folder."""
    people = {
        each.name: sorted(each.iterdir())
        for each in sorted(arguments.faces.iterdir())
        if each.name not in arguments.leave_out
    }
    rng = np.random.default_rng(seed)
    many = [person for person, files in people.items() if len(files) >= LEAST]
    mine = set(rng.choice(many, PEOPLE, replace=False).tolist())
    others = rng.choice(sorted(people.keys() - mine), STRANGERS, replace=False).tolist()
    found = {"faces": [], "test": [], "strangers": [], "general": []}
    for person in sorted(mine):
        files = rng.permutation(people[person]).tolist()
        found["faces"] += files[:images]
        found["test"] += new_pictures(files[:TRAINED], files[TRAINED:])[:TESTED]
    for person in others:
        found["strangers"] += people[person][:STRANGERS_IMAGES]
    found["general"] = listed(arguments.pairs, arguments.lfw)
    return found


def new_pictures(known, files):
    """The files that do not show a picture of the known ones again."""
    seen = [thumbnail(file) for file in known]
    return [
        file
        for file in files
        if max(np.corrcoef(thumbnail(file), each)[0, 1] for each in seen) < COPY
    ]


def thumbnail(file):
    with Image.open(file) as image:
        return np.asarray(image.convert("L").resize((16, 16)), float).ravel()


def listed(pairs, folder):
    """The images of the genuine pairs of a list in LFW's format that the folder has."""
    names = set()
    for line in pairs.read_text().splitlines():
        words = line.split()
        if len(words) == 3:
            names |= {(words[0], words[1]), (words[0], words[2])}
    stems = [folder / name / f"{name}_{int(number):04d}" for name, number in sorted(names)]
    files = [stem.with_suffix(ending) for stem in stems for ending in (".jpg", ".png")]
    return [file for file in files if file.is_file()]


def link(folder, files):
    """A folder of people of these files."""
    for file in map(Path, files):
        (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
        os.symlink(file.resolve(), folder / file.parent.name / file.name)
    return folder


def has_run(output, name, images, seed):
    if not output.is_file():
        return False
    with open(output, newline="", encoding="utf-8") as file:
        return any(
            (row["model"], row["images"], row["seed"]) == (name, str(images), str(seed))
            for row in csv.DictReader(file)
        )


def add_rows(output, rows):
    """Appends the rows of a run, all or none."""
    rows = list(rows)
    new = not output.is_file()
    output.parent.mkdir(parents=True, exist_ok=True)
    with open(output, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        if new:
            writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
