"""Fine-tunes embedders on a few people and writes what was gained, a row for each measure.

    python tools/benchmarks/measure_finetune.py zoo/results/finetune.csv \
        --model mobilefacenet_192 --faces celeb/train --lfw lfw/aligned \
        --pairs lfw/pairsDevTest.txt --images 2 5 10 --seeds 0 1 2 \
        --embeddings /tmp/finetune

From the folder of people it draws 40 with at least 14 images, and 350 strangers. `finetune` gets so
many training images of each of the 40, up to 3 others to test on, and 200 strangers with up to 3
images. The rows are measured on what `finetune` does not see: up to 10 further images of each of
the 40, 150 other strangers with up to 4 images, and the images of the genuine pairs in a list of
LFW's format. `--leave-out` names people with two labels. Each image is embedded once and kept in
`--embeddings`; runs whose rows are in the file are left out. So a stopped measurement continues.
"""

import argparse
import dataclasses
import os
import tempfile
from pathlib import Path
from unittest import mock

import keras
import numpy as np
from PIL import Image
from run_rows import add_rows, has_run

from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate import embed
from keras_facemargin.images import Crop
from keras_facemargin.training.finetune import finetune
from keras_facemargin.training.finetune.judge import Judge, mapped
from keras_facemargin.training.finetune.parts import divide
from keras_facemargin.zoo import load_embedder

PEOPLE, LEAST, TRAINED, SEEN, TESTED = 40, 14, 10, 3, 10
STRANGERS, STRANGERS_IMAGES = 150, 4
SEEN_STRANGERS, SEEN_STRANGERS_IMAGES = 200, 3
AT_ONCE = 400  # images, until their embeddings are kept
COPY = 0.97  # correlation of two copies of one picture
FIELDS = "model", "images", "seed", "measure", "before", "after", "low", "high", "share", "score"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", required=True, help="as load_embedder takes it")
    parser.add_argument("--weights", help="your copy of the weights")
    parser.add_argument("--faces", type=Path, required=True, help="folder of people")
    parser.add_argument("--lfw", type=Path, required=True, help="LFW's crops")
    parser.add_argument("--pairs", type=Path, required=True, help="a list of pairs of LFW")
    parser.add_argument("--embeddings", type=Path, required=True, help="folder to keep them in")
    parser.add_argument("--images", type=int, nargs="+", default=[2, 5, 10])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--leave-out", nargs="*", default=[], help="people with two labels")
    arguments = parser.parse_args()
    name = Path(arguments.model).name
    embedder = load_embedder(arguments.model, weights=arguments.weights)
    cache = Cache(arguments.embeddings / f"{name}.npz")
    for seed in arguments.seeds:
        for images in arguments.images:
            if not has_run(arguments.output, model=name, images=images, seed=seed):
                rows = run(arguments, embedder, cache, name, images, seed)
                add_rows(arguments.output, FIELDS, rows)


class Cache:
    """`embed` that embeds each file once: fine-tuning judges the embeddings before."""

    def __init__(self, file):
        self.file, self.rows = file, {}
        if file.is_file():
            with np.load(file) as found:
                self.rows = dict(zip(found["files"].tolist(), found["rows"], strict=True))

    def __call__(self, embedder, paths, *, progress):
        files = [os.path.realpath(path) for path in paths]
        new = list(dict.fromkeys(file for file in files if file not in self.rows))
        for start in range(0, len(new), AT_ONCE):
            some = new[start : start + AT_ONCE]
            self.rows |= zip(some, embed(embedder, some, progress=progress), strict=True)
            self.file.parent.mkdir(parents=True, exist_ok=True)
            np.savez(self.file, files=list(self.rows), rows=list(self.rows.values()))
        return np.stack([self.rows[file] for file in files])


def run(arguments, embedder, cache, name, images, seed):
    """Fine-tunes once; gives rows."""
    crop = Crop.of_embedder(embedder)
    with (
        tempfile.TemporaryDirectory() as place,
        mock.patch("keras_facemargin.training.finetune.judge.embed", cache),
    ):
        sets = {
            part: FaceFolder(link(Path(place) / part, files), image_size=crop)
            for part, files in choose(arguments, images, seed).items()
        }
        tuned = finetune(
            embedder,
            sets["faces"],
            test=sets["seen test"],
            strangers=sets["seen strangers"],
            seed=seed,
            progress=False,
        )
        print(name, images, seed, tuned.verdict, flush=True)
        final = {part: sets[part] for part in ("test", "strangers", "general")}
        parts = divide(embedder, sets["faces"], **final)
        parts = dataclasses.replace(parts, strangers=sets["strangers"], others=None)
        judge = Judge(parts, seed=seed, progress=False)
        before = judge.embed(embedder)
        first = judge.measure(before, before)
        last = judge.measure(after(tuned, judge, before), before)
    comparison = judge.compare(first, last, intervals=True)
    shared = {
        "model": name,
        "images": images,
        "seed": seed,
        "share": tuned.share,
        "score": f"{tuned.comparison.score:.6f}",
    }
    for measure in comparison.measures:
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
        "after": f"{last.similarity:.6f}",
    }


def after(tuned, judge, before):
    """The embeddings of the result: the linear map of those before, tested on some images."""
    if not tuned.share:
        return before
    matrix = keras.ops.convert_to_numpy(tuned.classifier.embedder.layers[-1].kernel)
    rows = mapped(before, matrix)
    some = judge.sets["test"].paths[:8]
    found = embed(tuned.classifier.embedder, some, progress=False)
    np.testing.assert_allclose(found, rows["test"][:8], rtol=1e-3, atol=1e-3)
    return rows


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
    drawn = rng.choice(sorted(people.keys() - mine), STRANGERS + SEEN_STRANGERS, replace=False)
    found = {part: [] for part in ("faces", "seen test", "test", "seen strangers", "strangers")}
    for person in sorted(mine):
        files = rng.permutation(people[person]).tolist()
        found["faces"] += files[:images]
        further = new_pictures(files[:TRAINED], files[TRAINED:][: 2 * (SEEN + TESTED)])
        found["seen test"] += further[:SEEN]
        found["test"] += further[SEEN:][:TESTED]
    for person in drawn[:STRANGERS]:
        found["strangers"] += people[person][:STRANGERS_IMAGES]
    for person in drawn[STRANGERS:]:
        found["seen strangers"] += people[person][:SEEN_STRANGERS_IMAGES]
    return found | {"general": listed(arguments.pairs, arguments.lfw)}


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


if __name__ == "__main__":
    main()
