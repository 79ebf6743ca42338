"""Trains small embedders for the zoo, one for each loss of the papers, and writes their cards.

    python tools/reproduce/small_models.py --data ../shared/data --work ~/reproduce cosface_small

All begin alike. The first three stages are those of the default embedder and stay: their maps of
each crop and of its mirror image are computed once, into WORK. A last stage of 96 channels, in
place of 160, learns the default's embeddings of the training crops. From there one loss trains the
last stage for each model, by `MarginClassifier.fit` on the maps. Without names all are trained; a
model whose card has its figures is skipped, and what WORK has is not made again.

The crops are the labelled ones of the papers' experiments, without the people of celeb2/train that
`faces.part_of` keeps for cards: those are for quality, and for a note on each card. Thresholds are
of all pairs of LFW. At those of the people of celeb2, whose photos are like the training crops, 5
to 11 times as many strangers of LFW were accepted. Heads and margins are those of the experiments.
View 1 chose the epochs and the rate. The rows of `zoo/results/small_models.csv` have the columns
of `measure.py`. Run `tools/assets/write_zoo_readme.py` afterwards.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import crops
import keras
import numpy as np
import reproduce
from measure import COLUMNS, Tests, measures_of
from rich.progress import track

from keras_facemargin import MarginClassifier, build_embedder, heads, zoo
from keras_facemargin.evaluate import embed
from keras_facemargin.evaluate.cosine import unit_rows
from keras_facemargin.files import exclusive, write_json
from keras_facemargin.images import read_face
from keras_facemargin.saving import save_model
from keras_facemargin.zoo.parity import golden_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "assets"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "default_embedder"))
from faces import CARD, part_of
from rates_on_faces import rates_on
from run_rows import add_rows, has_run
from student import save_half
from targets import unseen
from write_measured import with_results

ORIGIN, FIRST_OF_LAST = "spherenet_distilled", "stage3_unit2_add"
NETWORK = {"widths": (16, 32, 96, 96), "depths": (0, 1, 2, 1)}  # the origin's last width is 160
DIM, BATCH, SEED, WEIGHT_DECAY = 128, 128, 0, 0.05
BEGINNING, BEGINNING_RATE = 6, 2e-3  # epochs of the default's embeddings, and the peak of the rate
EPOCHS, RATE = 3, 5e-4  # of a loss
RESULTS = zoo.DIRECTORY / "results" / "small_models.csv"
FIELDS = ("model", "loss", "accuracy", *COLUMNS, "cpu_seconds")
SETS = "CelebA and PubFig"
LFW_NOTES = (
    "The official 6,000 pairs of View 2, unrestricted with labelled outside data; nothing was "
    "trained on or chosen by them. No training crop shows a person of LFW."
)


class Loss(NamedTuple):
    """A head of `keras_facemargin.heads`, its arguments, and what it is called."""

    head: str
    arguments: dict[str, Any]
    words: str


LOSSES = {
    "softmax_small": Loss("SoftmaxHead", {}, "the plain softmax loss"),
    "l2_softmax_small": Loss(
        "L2Softmax", {"alpha": 16.0}, "L2-constrained softmax (arXiv:1703.09507)"
    ),
    "sphereface_small": Loss("SphereFace", {"margin": 3}, "SphereFace (arXiv:1704.08063)"),
    "cosface_small": Loss("CosFace", {"margin": 0.35, "scale": 30.0}, "CosFace (arXiv:1801.09414)"),
    "crystal_small": Loss("CrystalLoss", {"alpha": 50.0}, "Crystal loss (arXiv:1804.01159)"),
    "sv_am_softmax_small": Loss(
        "SVSoftmax",
        {"variant": "am", "margin": 0.35, "hardness": 1.1, "scale": 30.0},
        "SV-AM-Softmax (arXiv:1812.11317)",
    ),
    "arcface_small": Loss("ArcFace", {"margin": 0.3, "scale": 30.0}, "ArcFace (arXiv:1801.07698)"),
}


def main(arguments=None):
    options = read_options(arguments)
    os.nice(10)
    options.work.mkdir(parents=True, exist_ok=True)
    try:
        with exclusive(options.work):
            make(options)
    except BlockingIOError as error:  # another process trains there
        raise SystemExit(str(error)) from None


def make(options):
    """Trains and publishes the models that the zoo does not have."""
    lfw = options.data / "lfw" / "aligned"
    teacher = options.data / "weights" / "foamliu_mobilefacenet.pt"
    every = crops.cleaned_crops(options.data, teacher, lfw, reproduce.CORRECTIONS)
    trained, held_out = split(every)
    held_out = without_seen(held_out, options.data, teacher, options.work / "held_out.json")
    maps, targets = open_maps(options.work, [path for path, _ in trained])
    labels = np.unique([person for _, person in trained], return_inverse=True)[1].astype("int32")
    start = options.work / "start.keras"
    if not start.exists():
        begin(maps, targets, start)
    tests = Tests.read(options.data / "lfw", lfw, options.data / "celeb" / "train")
    for name in options.names or LOSSES:
        if is_whole(name):
            print(f"{name} is in the zoo already")
            continue
        before = reproduce.cpu_seconds()
        embedder, history = train(name, maps, labels, start)
        seconds = reproduce.cpu_seconds() - before
        row = publish(name, embedder, labels, held_out, tests, options)
        if not has_run(options.results, model=name):
            row |= {"model": name, "cpu_seconds": round(seconds)}
            row |= {key: f"{history[key][-1]:.4f}" for key in ("loss", "accuracy")}
            add_rows(options.results, FIELDS, [row])
        print(row)


def read_options(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help=f"of {', '.join(LOSSES)}; default: all")
    add("--data", type=Path, required=True, help="folder with celeb/, celeb2/, lfw/, weights/")
    add("--work", type=Path, required=True, help="folder of maps and of the common beginning")
    add("--results", type=Path, default=RESULTS, help="CSV with a row for each model")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(LOSSES))
    if unknown:
        parser.error(f"a name must be one of {', '.join(LOSSES)}. Received: {', '.join(unknown)}.")
    return options


def is_whole(name):
    """Whether the zoo has the model with its figures, which are written last."""
    return (zoo.DIRECTORY / name / zoo.CARD).exists() and bool(zoo.load_card(name).measured)


def split(every):
    """The crops to train on, and those of the people of celeb2 that are kept for cards.

    The default embedder has seen celeb, so a person who has a crop there is trained on.
    """
    seen = {person for path, person in every if "celeb" in path.parts}
    kept = [person not in seen and part_of(person) == CARD for _, person in every]
    trained = [crop for crop, card in zip(every, kept, strict=True) if not card]
    return trained, [crop for crop, card in zip(every, kept, strict=True) if card]


def without_seen(held_out, data, teacher, file):
    """The held-out crops without the people who look like an unlabelled crop of celeb.

    The default embedder was trained on some of those. FILE keeps the people's names.
    """
    if not file.exists():
        unlabelled = sorted((data / "celeb" / "unlabelled").glob("*.jpg"))
        paths = [*(path for path, _ in held_out), *unlabelled]
        people = [*(person for _, person in held_out), *[""] * len(unlabelled)]
        units = unit_rows(embed(zoo.load_embedder(teacher), paths, flip=False), "embeddings")
        rows = np.arange(len(paths))
        kept = unseen(rows[: len(held_out)], units, people, rows[len(held_out) :])
        write_json(file, sorted({people[row] for row in kept}))
    names = set(json.loads(file.read_text(encoding="utf-8")))
    return [(path, person) for path, person in held_out if person in names]


def open_maps(work, paths):
    """The third stage's maps of crops and mirror images, and the default's embeddings of both.

    Returns:
        float16 (N, 2, 14, 14, 96), in a file; float32 (N, 2, 128).
    """
    file, targets = work / "maps.npy", work / "targets.npy"
    if not targets.exists():
        origin = zoo.load_embedder(ORIGIN)
        body = origin.get_layer("spherenet")
        image = body.inputs[0]
        both = keras.Model(image, [body.get_layer(FIRST_OF_LAST).output, origin(image)])
        shape = (len(paths), 2, *both.output_shape[0][1:])
        maps = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=shape)
        embeddings = np.empty((len(paths), 2, DIM), np.float32)
        for first in track(range(0, len(paths), BATCH), f"Maps of {ORIGIN}"):
            rows = slice(first, first + BATCH)
            faces = np.stack([read_face(path) for path in paths[rows]]).astype("float32")
            for side, images in enumerate((faces, faces[:, :, ::-1])):
                found = both.predict_on_batch(np.ascontiguousarray(images))
                maps[rows, side], embeddings[rows, side] = found
        maps.flush()
        np.save(targets, embeddings)
    maps = np.load(file, mmap_mode="r")
    if len(maps) != len(paths):
        raise SystemExit(
            f"The maps must be those of these crops, {len(paths):,}. Received: {file} with "
            f"{len(maps):,}. Delete {targets}."
        )
    return maps, np.load(targets)


class Maps(keras.utils.PyDataset):
    """Batches of maps and what each crop should give, in an order that the seed draws.

    Args:
        maps: (N, 2, H, W, C), of crops and of their mirror images.
        truth: (N, ...), for both.
    """

    def __init__(self, maps, truth):
        super().__init__()
        self._maps = maps.reshape(-1, *maps.shape[2:])
        self._truth = np.repeat(truth, 2, axis=0)
        self._rng = np.random.default_rng(SEED)
        self.on_epoch_end()

    def __len__(self):
        return len(self._truth) // BATCH

    def __getitem__(self, number):
        rows = np.sort(self._order[number * BATCH : (number + 1) * BATCH])
        return self._maps[rows].astype("float32"), self._truth[rows]

    def on_epoch_end(self):
        self._order = self._rng.permutation(len(self._truth))


def small_embedder():
    """The network, its first stages those of the default; and the part behind them."""
    keras.utils.set_random_seed(SEED)
    embedder = build_embedder("SphereNet", DIM, backbone_arguments=NETWORK)
    body = embedder.get_layer("spherenet")
    names = [layer.name for layer in body.layers]
    first = names[: names.index(FIRST_OF_LAST)]
    origin = zoo.load_embedder(ORIGIN).get_layer("spherenet")
    for name in first:
        body.get_layer(name).set_weights(origin.get_layer(name).get_weights())
    maps = keras.Input(body.get_layer(FIRST_OF_LAST).output.shape[1:])
    x = keras.Model(body.get_layer(FIRST_OF_LAST).output, body.output)(maps)
    for layer in embedder.layers[embedder.layers.index(body) + 1 :]:
        x = layer(x)
    return embedder, keras.Model(maps, x)


def optimizer(steps, rate):
    schedule = keras.optimizers.schedules.CosineDecay(
        rate / 100, steps, warmup_target=rate, warmup_steps=steps // 10
    )
    return keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY)


def begin(maps, targets, file):
    """Teaches the last stage the default's embeddings, by one minus the cosine."""
    embedder, last = small_embedder()
    units = targets / np.linalg.norm(targets, axis=2, keepdims=True)
    data = Maps(maps, unit_rows(units.sum(axis=1), "targets").astype("float32"))
    last.compile(optimizer(BEGINNING * len(data), BEGINNING_RATE), distance)
    last.fit(data, epochs=BEGINNING)
    save_model(embedder, file)


def distance(truth, embeddings):
    cosines = keras.ops.sum(truth * keras.ops.normalize(embeddings, axis=1), axis=1)
    return 1.0 - cosines


def train(name, maps, labels, start):
    """The embedder of a loss, and the history of its training."""
    embedder, last = small_embedder()
    embedder.load_weights(start)
    data, loss = Maps(maps, labels), LOSSES[name]
    head = heads.get(loss.head, num_classes=labels.max() + 1, **loss.arguments)
    classifier = MarginClassifier(last, head)
    classifier.compile(optimizer(EPOCHS * len(data), RATE))
    return embedder, classifier.fit(data, epochs=EPOCHS).history


def publish(name, embedder, labels, held_out, tests, options):
    """Writes zoo/NAME: the embedder and its card. Returns the columns of `measure.py`."""
    folder = zoo.DIRECTORY / name
    folder.mkdir(exist_ok=True)
    weights = folder / "embedder.keras"
    save_half(embedder, weights)
    embedder = zoo.load_embedder(weights)
    lfw = embed(embedder, tests.lfw.paths)
    card = zoo.describe(
        embedder,
        weights,
        f"A small SphereNet whose last stage is trained by {LOSSES[name].words}: for comparing "
        "losses, half as large as the default embedder and less accurate.",
    )
    paths, people = zip(*held_out, strict=True)
    labels_of_held_out = np.unique(people, return_inverse=True)[1]
    faces = f"{len(paths):,} crops of {len(set(people)):,} people of CelebA"
    unseen_by_all = f"none among those of its training, of {ORIGIN}'s training or in LFW"
    about = (
        f"all pairs of {len(lfw):,} crops of {tests.lfw.num_classes:,} people of LFW, none among "
        "those of its training"
    )
    thresholds = zoo.calibrate(lfw, tests.lfw.labels, data=about)
    rates = rates_on(faces, embed(embedder, paths), labels_of_held_out, thresholds)
    origin = zoo.load_card(ORIGIN)
    card = card.changed(
        license=tuple(
            part.model_copy(update={"of": name}) if part.part == "weights" else part
            for part in origin.license
        ),
        thresholds=thresholds,
        likelihood=zoo.fit_likelihood(lfw, tests.lfw.labels, data=about),
        quality=zoo.measure_quality(
            embedder, paths, labels_of_held_out, data=f"{faces}, {unseen_by_all}"
        ),
        golden=golden_of(weights, card),
        training=describe_training(name, labels),
        lineage=(
            *origin.lineage,
            f"First three stages: those of {ORIGIN} (sha256 {origin.weights.sha256[:12]}), which "
            "the two lines above are about, unchanged.",
            f"Last stage: {BEGINNING} epochs of {ORIGIN}'s embeddings of the training crops (one "
            f"minus the cosine), then {EPOCHS} of {LOSSES[name].words}.",
        ),
        notes=(
            f"{rates} They are calibrated on LFW, which is stricter; LFW's accuracy does not use "
            "them.",
        ),
        caution=origin.caution,
    )
    file = folder / zoo.CARD
    zoo.write_card(file, card)
    for flip in ("--flip", "--no-flip"):
        card = with_results(card, evaluate_lfw(name, flip, options), LFW_NOTES)
    zoo.write_card(file, card)
    zoo.load_card(name)  # what was written can be read
    return measures_of(embedder, lfw, tests)


def describe_training(name, labels):
    return zoo.Training(
        data=(
            f"{len(labels):,} labelled crops of {labels.max() + 1:,} people of {SETS} and their "
            "mirror images, none of LFW, cleaned by zoo/results/reproduce_labels.csv. Held out: 14 "
            "of 100 people of celeb2/train by the hash of their name, without those who look like "
            f"an unlabelled crop that {ORIGIN} may have seen."
        ),
        tool="tools/reproduce/small_models.py",
        command=f"python tools/reproduce/small_models.py --data DATA --work WORK {name}",
        seed=SEED,
        steps=EPOCHS * (2 * len(labels) // BATCH),
    )


def evaluate_lfw(name, flip, options):
    """results.json of `facemargin evaluate lfw`: the figures of the card, as a user gets them."""
    output = options.work / f"{name}{flip}"
    command = [sys.executable, "-m", "keras_facemargin", "evaluate", "lfw", "--model", name, flip]
    command += ["--lists", str(options.data / "lfw")]
    command += ["--images", str(options.data / "lfw" / "aligned")]
    command += ["--on-missing", "reject", "--output", str(output)]
    subprocess.run(command, check=True)
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
