"""Shows a run that collapses, and the same run with the warm-start kit: docs/collapse.png, .csv.

ArcFace with m = 0.5, s = 64 from scratch, on identity folders of aligned 112x112 crops (halved to
56x56, so that a CPU does it in minutes): as published, with this library's continuation past the
bend, and with `MarginRamp` and `ScaleRamp`. Network, data, order, seed, optimizer and learning rate
are the same. Judged after each epoch on people held out of training.

    python tools/figures/show_collapse.py celeb/train docs
"""

import argparse
import csv
import time
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from rich.progress import track

from keras_facemargin import ArcFace, MarginClassifier
from keras_facemargin.backbones import SphereNet
from keras_facemargin.callbacks import CollapseDetector, MarginRamp, ScaleRamp, measure_spread
from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate import all_pairs, equal_error_rate
from keras_facemargin.images import read_face

SIDE, DIM, BATCH, HELD_OUT, PROBES = 56, 128, 128, 150, 500
RUNS = {
    "from scratch, as published": ({"continuation": "none"}, []),
    "from scratch, reflected past the bend": ({}, []),
    "with MarginRamp and ScaleRamp": (
        {},
        [MarginRamp(epochs=4, after=2), ScaleRamp(epochs=6, start=16.0)],
    ),
}
COLOURS = ("#b3372f", "#d9904a", "#2b6ca3")
FIELDS = (
    "run",
    "epoch",
    "loss",
    "accuracy",
    "eer",
    "norm",
    "target_angle",
    "past_turning_angle",
    "impostor_similarity",
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--rate", type=float, default=0.1)
    arguments = parser.parse_args()

    training, held_out = FaceFolder(arguments.faces).split(HELD_OUT, seed=0)
    people = [(*load(folder), folder.num_classes) for folder in (training, held_out)]
    rows = []
    for name in RUNS:
        rows += run(name, *people, arguments.epochs, arguments.rate)
    arguments.output.mkdir(parents=True, exist_ok=True)
    with open(arguments.output / "collapse.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows).savefig(arguments.output / "collapse.png", dpi=100)
    print(f"{arguments.output / 'collapse.csv'}, {arguments.output / 'collapse.png'}")


def load(folder):
    faces = [read_face(path) for path in track(folder.paths, "reading")]
    halved = [face.reshape(SIDE, 2, SIDE, 2, 3).mean((1, 3)).astype("uint8") for face in faces]
    return np.stack(halved), np.asarray(folder.labels)


def run(name, training, held_out, epochs, rate):
    options, ramps = RUNS[name]
    keras.utils.set_random_seed(0)
    images, labels, classes = training
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], labels[order]
    backbone = SphereNet((SIDE, SIDE, 3), widths=(32, 64, 128, 256), depths=(0, 1, 1, 0))
    embedding = keras.layers.Dense(DIM)(keras.layers.Flatten()(backbone.output))
    embedder = keras.Model(backbone.input, embedding)
    classifier = MarginClassifier(embedder, ArcFace(classes, margin=0.5, scale=64.0, **options))
    classifier.compile(keras.optimizers.SGD(rate, momentum=0.9))
    judge = Judge(name, images[:PROBES], labels[:PROBES], *held_out[:2])
    detector = CollapseDetector(images[:PROBES], labels[:PROBES], patience=epochs + 1)
    callbacks = [judge, detector, *ramps]
    classifier.fit(images, labels, BATCH, epochs, verbose=0, callbacks=callbacks)
    flagged = [
        k
        for k, spread in enumerate(detector.history)
        if spread.impostor_similarity > detector.limit
    ]
    print(f"{name}: above the detector's limit after epochs {flagged}")
    return judge.rows


class Judge(keras.callbacks.Callback):
    def __init__(self, name, images, labels, strangers, identities):
        super().__init__()
        self.name, self.images, self.labels = name, images, labels
        self.strangers, self.identities = strangers, identities
        self.rows, self.start = [], time.time()

    def on_epoch_end(self, epoch, logs=None):
        embeddings = self.model.predict(self.strangers, batch_size=256, verbose=0)
        spread = measure_spread(self.model, self.images, self.labels)
        row = {
            "run": self.name,
            "epoch": epoch + 1,
            "loss": logs["loss"],
            "accuracy": logs["accuracy"],
            "eer": equal_error_rate(*all_pairs(embeddings, self.identities)),
            **spread._asdict(),
        }
        self.rows.append({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})
        print(
            f"{self.name}, epoch {epoch + 1}: accuracy {logs['accuracy']:.3f}, held-out EER "
            f"{row['eer']:.3f}, {spread} ({time.time() - self.start:.0f} s)",
            flush=True,
        )


PANELS = (
    ("accuracy", "accuracy on training people, without the margin", "linear"),
    ("eer", "equal error rate on held-out people", "linear"),
    ("impostor_similarity", "mean cosine between different people", "linear"),
    ("norm", "mean norm of an embedding", "log"),
)


def draw(rows):
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.9), layout="constrained")
    for axis, (field, title, scale) in zip(axes, PANELS, strict=True):
        for name, colour in zip(RUNS, COLOURS, strict=True):
            mine = [row for row in rows if row["run"] == name]
            x, y = ([float(row[key]) for row in mine] for key in ("epoch", field))
            axis.plot(x, y, color=colour, linewidth=2, marker="o", markersize=3, label=name)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel("epoch")
        axis.set_yscale(scale)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes[1].set_ylim(0, 0.5)
    axes[0].set_ylim(0, 1)
    axes[2].axhline(0.9, color="#888888", linewidth=1, linestyle=":")
    axes[2].annotate(
        "CollapseDetector's limit",
        (1, 0.9),
        (0, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        fontsize=8,
    )
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


if __name__ == "__main__":
    main()
