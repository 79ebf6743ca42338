"""Draws every head: digits embedded in the plane, and the logit over the angle.

    python tools/figures/draw_losses.py docs/                # five minutes on two cores
    python tools/figures/draw_losses.py docs/ --only curves  # seconds
    python tools/figures/draw_losses.py docs/ --seeds 3      # and the table of docs/losses.md

Writes `losses_digits.png` and `losses_curves.png`; of more than one seed also every run's figures,
`losses_digits.csv`.

The digits are scikit-learn's own (1,797 images of 8x8): two thirds to train on; one third, drawn
and counted here, held out. Each head trains the same small network with two outputs from the same
initial weights, by `MarginClassifier.fit`: 40 epochs of SGD (momentum 0.9, 0.05 falling to 0 along
a cosine, batches of 64). The first 10 epochs have no margin and a quarter of the scale;
both grow to their full size until epoch 20. Heads that anneal or choose these themselves do so.

Ten classes in the plane are 36 degrees apart, so the papers' margins, made for hundreds of
dimensions, cannot be satisfied (CosFace's may be 1 - cos(36 degrees) = 0.19 at most): `PLANE` has
the arguments of each head instead.
"""

import argparse
import csv
import io
import math
import warnings
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_facemargin import heads, margins
from keras_facemargin.callbacks import MarginRamp, ScaleRamp
from keras_facemargin.classifier import MarginClassifier
from keras_facemargin.evaluate import angular_fisher_score

CLASSES, EPOCHS, BATCH, LEARNING_RATE = 10, 40, 64, 0.05
PLAIN, FULL = 10, 20  # epochs: from none of the margin to all of it
LEAST_SCALE = 0.25  # of the full one, at the start

PLANE = {
    "SoftmaxHead": {},
    "L2Softmax": {"alpha": 16},
    "NormFace": {"scale": 16},
    "AdaCos": {},
    "CircleLoss": {"margin": 0.7, "scale": 16},
    "LargeMarginSoftmax": {"margin": 4},
    "SphereFace": {"margin": 4},
    "SphereFaceR": {"margin": 1.4, "scale": 16, "loss_weight": 16},
    "CosFace": {"margin": 0.1, "scale": 16},
    "ArcFace": {"margin": 0.3, "scale": 16},
    "CombinedMargin": {"m1": 1.0, "m2": 0.2, "m3": 0.05, "scale": 16},
    "SubCenterArcFace": {"margin": 0.3, "num_centers": 3, "scale": 16},
    "ElasticFace": {"margin": 0.3, "deviation": 0.05, "scale": 16, "seed": 0},
    "AdaFace": {"margin": 0.1, "scale": 16},
    "MagFace": {"margin": (0.15, 0.45), "norm_range": (1, 20), "regularization": 5, "scale": 16},
    "SVSoftmax": {"hardness": 1.2, "scale": 16},
    "MVSoftmax": {"margin": 0.1, "hardness": 0.2, "scale": 16},
    "CurricularFace": {"margin": 0.3, "scale": 16},
    "SphereFace2": {"margin": 0.1, "scale": 16, "loss_weight": 16},
    "UniFace": {"margin": 0.1, "scale": 16},
}
CAPTIONS = {
    "SoftmaxHead": "no margin, no scale",
    "AdaCos": "scale chooses itself",
    "LargeMarginSoftmax": "m = 4, annealed",
    "SphereFace": "m = 4, annealed",
    "SphereFaceR": "v2, m = 1.4, s = 16",
    "CombinedMargin": "m = (1, 0.2, 0.05), s = 16",
    "SubCenterArcFace": "K = 3, m = 0.3, s = 16",
    "ElasticFace": "arc, m ~ N(0.3, 0.05), s = 16",
    "MagFace": "m = 0.15 .. 0.45, s = 16",
    "SVSoftmax": "plain, t = 1.2, s = 16",
    "MVSoftmax": "am, m = 0.1, t = 0.2, s = 16",
    "SphereFace2": "C, m = 0.1, r = 16",
    "CircleLoss": "m = 0.7, gamma = 16",
    "L2Softmax": "alpha = 16",
}
# Norm and direction both count in these losses: drawn as they come, the others on the unit circle.
FREE_NORM = ("SoftmaxHead", "LargeMarginSoftmax", "SphereFace", "MagFace")

# Ten of Paul Tol's colours, which colour-blind readers can distinguish.
COLORS = (
    "#332288",
    "#88ccee",
    "#44aa99",
    "#117733",
    "#999933",
    "#ddaa33",
    "#cc6677",
    "#882255",
    "#aa4499",
    "#777777",
)
CURVES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07a00", "#444444")
INK, GREY = "#222222", "#8a8a8a"


class Plane(NamedTuple):
    """Held-out digits as a trained head sees them."""

    embeddings: np.ndarray  # (N, 2)
    labels: np.ndarray  # (N,)
    prototypes: np.ndarray  # (C, K, 2)
    accuracy: float
    fisher: float


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("output", type=Path, help="folder to write to, such as docs/")
    parser.add_argument("--seeds", type=int, default=1, help="trainings a head; the first is drawn")
    parser.add_argument("--only", choices=("digits", "curves"))
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        parser.error(f"--seeds must be at least 1. Received: {arguments.seeds}")
    missing = set(heads.list()) ^ set(PLANE)
    if missing:
        parser.error(f"PLANE in {__file__} must name every exported head. Differs: {missing}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.only != "curves":
        planes = train_all(range(arguments.seeds))
        drawn = {name: runs[0] for name, runs in planes.items()}
        if arguments.seeds > 1:  # one run is a picture, not a figure to print
            write_runs(arguments.output / "losses_digits.csv", planes)
            print(figures(arguments.output / "losses_digits.csv"), end="")
        write_picture(arguments.output / "losses_digits.png", draw_digits(drawn))
    if arguments.only != "digits":
        write_picture(arguments.output / "losses_curves.png", draw_curves())


# Training.


def train_all(seeds):
    """Name -> the trained planes, one a seed."""
    planes = {name: [] for name in PLANE}
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(PLANE) * len(seeds))
        for seed in seeds:
            for name in PLANE:
                progress.update(task, description=f"{name}, seed {seed}")
                plane = train(name, seed)
                planes[name].append(plane)
                progress.console.print(
                    f"{name:18} seed {seed}  accuracy {plane.accuracy:6.1%}  AFS {plane.fisher:.4f}"
                )
                progress.advance(task)
    return planes


def train(name, seed):
    """Trains a head on the digits; the held-out ones as it embeds them."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype("float32")
    images, held_out, labels, held_out_labels = train_test_split(
        images, labels, test_size=1 / 3, stratify=labels, random_state=0
    )
    keras.utils.set_random_seed(seed)
    network = embedder(seed)
    head = make(name, **PLANE[name])
    classifier = MarginClassifier(network, head)
    if name == "SphereFace2":
        # The authors' start, +9.3 here, is the balance for classes at right angles, of which the
        # plane holds four; from it ten classes end as two. UniFace's does not depend on it.
        head.shared_bias.assign(-math.log(10.0 * CLASSES))
    steps = EPOCHS * math.ceil(len(images) / BATCH)
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    classifier.compile(keras.optimizers.SGD(rate, momentum=0.9, clipnorm=5.0))
    callbacks = ramps(head)
    classifier.fit(images, labels, epochs=EPOCHS, batch_size=BATCH, verbose=0, callbacks=callbacks)
    embeddings = network.predict(held_out, batch_size=len(held_out), verbose=0)
    prototypes = np.asarray(head.prototypes).reshape(CLASSES, -1, 2)
    return Plane(
        embeddings,
        held_out_labels,
        prototypes,
        accuracy(embeddings, held_out_labels, prototypes),
        angular_fisher_score(embeddings, held_out_labels),
    )


def make(name, num_classes=CLASSES, **arguments):
    """A head. That a default is low for few classes or for the plane is beside the point."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return getattr(heads, name)(num_classes, **arguments)


def embedder(seed):
    """(B, 8, 8, 1) grey 0..16 -> (B, 2)."""
    layers = keras.layers
    generator = keras.random.SeedGenerator(seed)
    initializer = keras.initializers.HeNormal(seed=generator)
    image = keras.Input((8, 8, 1))
    x = layers.Rescaling(1 / 8, offset=-1.0)(image)
    for filters, strides in ((24, 1), (48, 2)):
        x = layers.Conv2D(
            filters, 3, strides, "same", use_bias=False, kernel_initializer=initializer
        )(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Flatten()(x)
    x = layers.Dense(128, use_bias=False, kernel_initializer=initializer)(x)
    x = layers.PReLU()(layers.BatchNormalization()(x))
    last = keras.initializers.GlorotUniform(seed=generator)
    return keras.Model(image, layers.Dense(2, kernel_initializer=last)(x))


def ramps(head):
    """Margin from 0, scale from a quarter, to their full size between two epochs."""
    callbacks = [MarginRamp(epochs=FULL - PLAIN, after=PLAIN)]
    if head.scale_is_fixed:
        start = LEAST_SCALE * head.scale
        callbacks.append(ScaleRamp(epochs=FULL - PLAIN, start=start, after=PLAIN))
    return callbacks


def directions(vectors):
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def accuracy(embeddings, labels, prototypes):
    """Share of embeddings whose nearest prototype by cosine is of their own class."""
    cosines = np.einsum("bd,ckd->bck", directions(embeddings), directions(prototypes))
    return float((cosines.max(axis=-1).argmax(axis=-1) == labels).mean())


def write_runs(path, planes):
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("head", "arguments", "seed", "held_out_accuracy", "angular_fisher_score"))
        for name, runs in planes.items():
            arguments = ", ".join(f"{key}={value}" for key, value in PLANE[name].items())
            for seed, plane in enumerate(runs):
                rows.writerow(
                    (name, arguments, seed, f"{plane.accuracy:.4f}", f"{plane.fisher:.4f}")
                )


def figures(path):
    """The table of docs/losses.md, from the runs in a CSV file."""
    runs = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            runs.setdefault((row["head"], row["arguments"]), []).append(row)
    lines = []
    for (name, arguments), rows in runs.items():
        shares = [float(row["held_out_accuracy"]) for row in rows]
        scores = [float(row["angular_fisher_score"]) for row in rows]
        share = f"{np.mean(shares):.1%} ({min(shares):.1%} to {max(shares):.1%})"
        score = f"{np.mean(scores):.3f} ({min(scores):.3f} to {max(scores):.3f})"
        lines.append(f"| `{name}` | {arguments} | {share} | {score} |\n")
    return "".join(lines)


# The gallery.

BIN = math.radians(1.5)  # one heap of dots
DOT = 0.024  # height of a dot in a heap
EDGE = 1.66  # of a panel


def draw_digits(planes):
    """Five panels a row, one a head."""
    figure = Figure(figsize=(12, 12.4), dpi=150, facecolor="white")
    grid = figure.subplots(4, 5)
    figure.subplots_adjust(0.006, 0.006, 0.994, 0.878, wspace=0.03, hspace=0.27)
    count = len(next(iter(planes.values())).labels)
    figure.text(
        0.012, 0.974, "Twenty losses, ten digits, two dimensions", fontsize=17, weight="bold"
    )
    figure.text(
        0.012,
        0.9335,
        f"{count} held-out digits: a dot each, at its angle, heaped outwards where many share it; "
        "in framed panels the norm counts too.\nRays: prototypes. Share: nearest prototype right. "
        "AFS: Angular Fisher Score, spread within over spread between classes, lower is tighter.",
        linespacing=1.45,
        fontsize=10,
        color="#555555",
    )
    for axes, (name, plane) in zip(grid.flat, planes.items(), strict=True):
        draw_plane(axes, name, plane)
    return figure


def draw_plane(axes, name, plane):
    axes.set(aspect="equal", xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE), xticks=[], yticks=[])
    free = name in FREE_NORM
    for spine in axes.spines.values():
        spine.set(visible=free, color="#d0d0d0")
    points = as_trained(plane) if free else heaped(plane)
    if not free:
        circle = np.exp(1j * np.linspace(0, 2 * np.pi, 361))
        axes.plot(circle.real, circle.imag, color="#c8c8c8", linewidth=0.8, zorder=1)
    reach = 1.3 if free else 0.98
    ring = 1.5 if free else 0.66
    for label in range(CLASSES):
        for ray in directions(plane.prototypes[label]) * reach:
            axes.plot(
                (0, ray[0]),
                (0, ray[1]),
                color=COLORS[label],
                linewidth=0.9 if free else 1.6,
                solid_capstyle="round",
                zorder=2,
            )
        members = points[plane.labels == label]
        axes.scatter(
            *members.T, s=5.5 if free else 4.5, color=COLORS[label], linewidths=0, zorder=3
        )
    for label, angle in enumerate(named_at(plane, math.radians(11 if free else 21))):
        axes.text(
            ring * math.cos(angle),
            ring * math.sin(angle),
            str(label),
            color="white",
            fontsize=7.5,
            weight="bold",
            ha="center",
            va="center_baseline",
            bbox={"boxstyle": "circle,pad=0.22", "facecolor": COLORS[label], "edgecolor": "none"},
            zorder=4,
        )
    settings = {"margin": 0, **PLANE[name]}
    caption = CAPTIONS.get(name) or "m = {margin}, s = {scale}".format(**settings)
    for height, text, size, weight, color in (
        (1.155, name, 10.5, "bold", INK),
        (1.085, caption, 8.3, "normal", "#555555"),
        (1.015, f"{plane.accuracy:.1%}    AFS {plane.fisher:.3f}", 8.8, "normal", INK),
    ):
        axes.text(
            0.5,
            height,
            text,
            transform=axes.transAxes,
            ha="center",
            va="bottom",
            fontsize=size,
            weight=weight,
            color=color,
        )


def as_trained(plane):
    """Embeddings with their norms, the longest of them at the edge of the panel."""
    longest = np.quantile(np.linalg.norm(plane.embeddings, axis=-1), 0.99)
    return np.clip(plane.embeddings / longest * 1.3, -EDGE, EDGE)


def heaped(plane):
    """Embeddings on the unit circle, those of one class and angle heaped outwards."""
    angles = np.arctan2(plane.embeddings[:, 1], plane.embeddings[:, 0])
    bins = np.round(angles / BIN).astype(int)
    heights = np.zeros(len(bins))
    for cell in np.unique(bins):
        here = np.flatnonzero(bins == cell)
        here = here[np.argsort(plane.labels[here], kind="stable")]
        heights[here] = np.arange(len(here))
    radii = 1.0 + DOT * (heights + 0.5)
    return np.stack([radii * np.cos(bins * BIN), radii * np.sin(bins * BIN)], axis=-1)


def named_at(plane, least):
    """Angles for the names of the classes: their mean directions, pushed apart where they meet."""
    vectors = directions(plane.embeddings)
    means = np.array([vectors[plane.labels == label].mean(axis=0) for label in range(CLASSES)])
    angles = np.arctan2(means[:, 1], means[:, 0])
    order = np.argsort(angles)
    for _ in range(200):
        for one, other in zip(order, np.roll(order, -1), strict=True):
            gap = (angles[other] - angles[one]) % (2 * math.pi)
            if gap < least:
                angles[one] -= (least - gap) / 2
                angles[other] += (least - gap) / 2
    return angles


# The curves.

DEGREES = np.concatenate([[0.05], np.linspace(0.25, 179.75, 719), [179.95]])


class Curve(NamedTuple):
    """A line of a panel: the logit of a head over the angle to one class."""

    label: str  # "" for the wrong class of the curve before
    head: str
    arguments: dict
    norm: float = 1.0
    state: tuple = ()  # of the head: (attribute, value)
    true: float | None = None  # degrees to the true class, where the curve is a wrong class's
    wide: bool = False  # because another runs along it


QUALITY = (("norm_mean", 20.0), ("norm_deviation", 5.0))
PANELS = (
    (
        "The angle is multiplied",
        "norms of embedding and prototype 1",
        (-7.4, 1.4),
        (
            Curve("SphereFace, m = 4, bare", "SphereFace", {"base": 0, "minimum": 0}, wide=True),
            Curve("LargeMarginSoftmax, the same", "LargeMarginSoftmax", {"base": 0, "minimum": 0}),
            Curve("both, annealed to lambda = 5", "SphereFace", {"base": 0, "minimum": 5}),
            Curve("SphereFaceR v0, m = 1.7", "SphereFaceR", {"version": "v0", "margin": 1.7}),
            Curve("SphereFaceR v1, m = 1.5", "SphereFaceR", {"version": "v1", "margin": 1.5}),
        ),
    ),
    (
        "A margin is added",
        "to the angle, to the cosine, to both, or none",
        (-1.5, 1.95),
        (
            Curve("ArcFace 0.5; SubCenterArcFace, CurricularFace", "ArcFace", {}),
            Curve("CosFace 0.35; MVSoftmax, SVSoftmax am", "CosFace", {}),
            Curve("CombinedMargin (1, 0.3, 0.2)", "CombinedMargin", {}),
            Curve("none: softmax, L2-, SV-, NormFace, AdaCos", "NormFace", {}),
        ),
    ),
    (
        "ArcFace past pi - m",
        "m = 0.5; five continuations, each as some code has it",
        (-1.3, 1.0),
        tuple(Curve(name, "ArcFace", {"continuation": name}) for name in margins.CONTINUATIONS),
    ),
    (
        "The margin follows the sample",
        "its norm (AdaFace, MagFace), or chance (ElasticFace)",
        (-1.85, 2.3),
        (
            Curve("AdaFace, poor image (q = -1)", "AdaFace", {}, 0.001, QUALITY),
            Curve("AdaFace, middling (q = 0)", "AdaFace", {}, 20.0, QUALITY),
            Curve("AdaFace, good (q = 1)", "AdaFace", {}, 50.0, QUALITY),
            Curve("MagFace, norm 10 (m = 0.45)", "MagFace", {}, 10.0),
            Curve("MagFace, norm 110 (m = 0.8)", "MagFace", {}, 110.0),
            Curve("ElasticFace, m = 0.5, band 2 sigma", "ElasticFace", {"seed": 0}),
        ),
    ),
    (
        "What becomes of a wrong class",
        "over its own angle; the true class stays at 60 degrees",
        (-1.1, 2.45),
        (
            Curve("SVSoftmax, t = 1.2", "SVSoftmax", {}, true=60, wide=True),
            Curve("MVSoftmax am, adaptive, t = 0.2", "MVSoftmax", {}, true=60),
            Curve("MVSoftmax am, fixed, t = 0.2", "MVSoftmax", {"mode": "fixed"}, true=60),
            Curve("CurricularFace, t = 0.3", "CurricularFace", {}, 1.0, (("t", 0.3),), 60),
            Curve("SphereFaceR v2, m = 1.4", "SphereFaceR", {}, true=60),
        ),
    ),
    (
        "Yes or no, and Circle",
        "solid: true class; dashed: a wrong one; without bias",
        (-4.2, 3.0),
        (
            Curve("SphereFace2 C, m = 0.4", "SphereFace2", {}),
            Curve("", "SphereFace2", {}, true=60),
            Curve("UniFace, m = 0.4", "UniFace", {}),
            Curve("", "UniFace", {}, true=60),
            Curve("CircleLoss, m = 0.25", "CircleLoss", {}),
            Curve("", "CircleLoss", {}, true=60),
        ),
    ),
)


def draw_curves():
    """Six panels, a family each: logits at scale 1 over the angle, from calling the heads."""
    figure = Figure(figsize=(12, 9.6), dpi=150, facecolor="white")
    grid = figure.subplots(2, 3)
    figure.subplots_adjust(0.042, 0.058, 0.986, 0.845, wspace=0.15, hspace=0.36)
    figure.text(0.012, 0.962, "What a loss makes of an angle", fontsize=17, weight="bold")
    figure.text(
        0.012,
        0.931,
        "Logit at scale 1 over the angle to a class, with the papers' defaults. Thin grey: the "
        "plain cosine. Ring: the bend at pi - m, past which the bare formula turns upward.",
        fontsize=10,
        color="#555555",
    )
    for axes, (title, subtitle, limits, curves) in zip(grid.flat, PANELS, strict=True):
        frame(axes, title, subtitle)
        axes.set(ylim=limits)
        (draw_continuations if "past" in title else draw_family)(axes, curves)
    return figure


def frame(axes, title, subtitle):
    axes.plot(DEGREES, np.cos(np.radians(DEGREES)), color="#b5b5b5", linewidth=1.0, zorder=1)
    axes.set(xlim=(0, 180), xticks=range(0, 181, 30))
    axes.set_xlabel("angle to the class, degrees", fontsize=9, color="#444444")
    axes.set_title(title, fontsize=12, weight="bold", color=INK, loc="left", pad=20)
    axes.text(0, 1.022, subtitle, transform=axes.transAxes, fontsize=8.8, color="#555555")
    axes.tick_params(labelsize=8.5, color=GREY, labelcolor="#444444")
    axes.grid(color="#ededed", linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color="#bbbbbb")


def draw_family(axes, curves):
    number = -1
    for curve in curves:
        number += bool(curve.label)
        color = CURVES[number]
        head, logits = logits_of(curve)
        axes.plot(
            DEGREES,
            logits,
            color=color,
            linestyle="-" if curve.label else (0, (4, 3)),
            linewidth=4.2 if curve.wide else 1.8,
            alpha=0.45 if curve.wide else 1.0,
            label=curve.label or None,
            zorder=2,
        )
        if curve.head == "ElasticFace":
            spread = (-2 * head.deviation, 2 * head.deviation)
            band = [
                logits_of(curve._replace(arguments={"margin": head.margin + d}))[1] for d in spread
            ]
            axes.fill_between(DEGREES, *band, color=color, alpha=0.25, linewidth=0, zorder=1)
        mark_bend(axes, curve, head, logits, color)
    axes.legend(
        fontsize=8, frameon=False, loc="lower left" if axes.get_ylim()[0] < -7 else "upper right"
    )


def draw_continuations(axes, curves):
    """The common part once, each curve from where it leaves."""
    axes.set(xlim=(60, 180), xticks=range(60, 181, 15))
    names = {
        "reflect": "reflect (default): Keras_insightface",
        "linear": "linear: MXNet 2018, pytorch-metric-learning",
        "easy": "easy: easy_margin=True, MagFace",
        "clip": "clip: opensphere, AdaFace",
        "none": "none: PyTorch insightface today",
    }
    bare = logits_of(curves[-1])[1]
    for color, curve in zip(CURVES, curves, strict=False):
        head, logits = logits_of(curve)
        leaves = math.degrees(head.turning_angle)
        differs = DEGREES[~np.isclose(logits, bare, atol=1e-6)]
        leaves = min([leaves, *differs - 0.5])
        here = leaves <= DEGREES
        axes.plot(DEGREES[here], logits[here], color=color, linewidth=2.2, label=names[curve.label])
    before = math.degrees(head.turning_angle) >= DEGREES
    axes.plot(DEGREES[before], bare[before], color=INK, linewidth=1.8)
    mark_bend(axes, curve, head, bare, INK)
    axes.legend(fontsize=8, frameon=False, loc="upper right")


def mark_bend(axes, curve, head, logits, color):
    bend = head.turning_angle
    if curve.head == "MagFace":
        bend = math.pi - float(head.margin_of(np.array(curve.norm)))
    elif curve.head == "AdaFace":
        bend = math.pi + head.margin * float(head.quality(np.array(curve.norm)))
    bend = math.degrees(bend)
    if curve.true is None and bend < 179:
        before = bend >= DEGREES
        height = np.interp(bend, DEGREES[before], logits[before])
        axes.plot(bend, height, "o", color=color, markersize=6.5, markerfacecolor="white", zorder=5)


def logits_of(curve):
    """The head, and its logits over `DEGREES` at scale 1, less any bias."""
    count = len(DEGREES) + 1
    head = make(curve.head, count, **curve.arguments, dtype="float64")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        head.build((None, 2))
    for name, value in curve.state:
        getattr(head, name).assign(value)
    around = np.stack([np.cos(np.radians(DEGREES)), np.sin(np.radians(DEGREES))], axis=-1)
    if curve.true is None:  # embeddings go around, their prototype stays
        head.prototypes.assign(np.tile([1.0, 0.0], (count, 1)))
        labels = np.zeros(len(DEGREES), "int32")
        logits = np.asarray(head(curve.norm * around, labels))[:, 0]
    else:  # prototypes go around, the embedding and its own prototype stay
        true = math.radians(curve.true)
        head.prototypes.assign([[math.cos(true), -math.sin(true)], *around])
        logits = np.asarray(head(np.array([[curve.norm, 0.0]]), np.array([0])))[0, 1:]
    if curve.head == "SphereFace2":
        logits = logits - float(head.shared_bias)
    elif curve.head == "UniFace":
        logits = logits + float(head.threshold)
    return head, logits / (curve.norm if head.scale is None else head.scale)


def write_picture(path, figure):
    """As a PNG of 256 colours, which is a third of the size and looks the same."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    picture = Image.open(buffer).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
