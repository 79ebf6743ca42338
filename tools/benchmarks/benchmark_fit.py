"""Images per second of `MarginClassifier.fit`: against a bare TensorFlow loop, and from files.

    python tools/benchmarks/benchmark_fit.py
    python tools/benchmarks/benchmark_fit.py --network mobilefacenet --steps 4
    python tools/benchmarks/benchmark_fit.py --faces FOLDER --csv fit.csv

Three ways to train one network with CosFace and Adam, from the same initial weights:

- bare: a `tf.function` with a `GradientTape` over a `tf.data` set of batches in memory,
  the loss written straight from the formula;
- memory: `fit` on the same set of batches;
- files: `fit(FaceFolder(...).dataset(batch_size, training=True))`, as many images read from JPEG
  files (which the system has cached), augmented and shuffled.

They take turns, one round of `--steps` steps each, in one process; the first rounds warm up and do
not count. A round of `fit` is a whole call, with the work of Keras around the steps. (Arrays are
not handed to `fit`: it copies them once a call, which here would be once a round.) The loss of
the first round is printed to show that bare and memory did the same work, up to rounding that
Adam's first steps amplify.

The figures mean little on a busy machine; the load is printed beside them. Other programs disturb
the ratio of CPU time, over all threads, less, but it does not count waiting.

Keras adds about 70 ms to each call of `fit` (building the `tf.data` graph, twice an iterator) and,
for arrays, a copy of each batch: few or small steps a round measure that instead of training.
"""

import argparse
import os
import platform
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from side_by_side import (
    LOAD_NOTE,
    Comparison,
    append_ratios,
    machine,
    race,
    rates_table,
    ratios_table,
)

from keras_facemargin.backbones import MobileFaceNet, SphereNet
from keras_facemargin.classifier import MarginClassifier
from keras_facemargin.data.folder import FaceFolder
from keras_facemargin.embedder import build_embedder
from keras_facemargin.heads import CosFace
from keras_facemargin.images.synthetic import write_synthetic_faces

NETWORKS = {
    # The default embedder's, see its card in zoo/.
    "spherenet": lambda: SphereNet(widths=(16, 32, 96, 160), depths=(0, 1, 2, 1)),
    "mobilefacenet": MobileFaceNet,
}
EMBEDDING_DIM, MARGIN, SCALE, LEARNING_RATE = 128, 0.35, 64.0, 1e-3
WARM_UP = 2  # rounds: the first traces the graphs, the second fills the allocator
IMAGES_PER_PERSON = 16  # of the synthetic faces

console = Console()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--network", choices=sorted(NETWORKS), default="spherenet")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7, help=f"counted, after {WARM_UP} more")
    parser.add_argument("--steps", type=int, default=20, help="batches a round")
    parser.add_argument("--identities", type=int, default=1000, help="classes of the head")
    parser.add_argument("--faces", type=Path, help="folder of identities; else synthetic faces")
    parser.add_argument("--csv", type=Path, help="file to append the figures to")
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)

    console.print(f"{machine()}; {versions()}")
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as work:
        faces = FaceFolder(options.faces or write_faces(Path(work, "faces"), options))
        if len(faces) < options.batch_size * options.steps:
            parser.error(
                "a round must not see an image twice, so there must be at least --batch-size times "
                f"--steps images: {options.batch_size * options.steps}. Received: {faces}"
            )
        if options.identities < faces.num_classes:
            parser.error(
                f"--identities must be at least {faces.num_classes}, the number of people in "
                f"{faces.source}. Received: --identities {options.identities}"
            )
        trainers, first_losses = make_trainers(faces, options)
        ways = race(trainers, options.rounds, WARM_UP, "Training", console)
    load.append(os.getloadavg()[0])

    results = [
        Comparison("fit / bare loop", ways["memory"], ways["bare"], aim=0.95),
        Comparison("files / memory", ways["files"], ways["memory"], aim=0.9),
    ]
    title = f"{options.network}, batches of {options.batch_size}, {options.identities:,} classes"
    caption = f"{options.rounds} rounds of {options.steps} steps"
    console.print(rates_table(ways, title, caption), ratios_table(results))
    bare, memory = first_losses["bare"], first_losses["memory"]
    console.print(f"Mean loss of the first round: bare {bare:.4f}, memory {memory:.4f}.")
    console.print(
        f"Load of the machine before and after: {load[0]:.1f} and {load[1]:.1f}. {LOAD_NOTE}"
    )
    if options.csv:
        append_ratios(
            options.csv,
            results,
            load,
            versions=versions(),
            network=options.network,
            batch_size=options.batch_size,
            classes=options.identities,
            steps=options.steps,
            rounds=options.rounds,
        )


class BareLoop:
    """What one writes in TensorFlow without this package: CosFace by its formula."""

    def __init__(self, network, prototypes, optimizer):
        self.network, self.optimizer = network, optimizer
        self.prototypes = keras.Variable(prototypes)
        self.variables = [*network.trainable_variables, self.prototypes]
        optimizer.build(self.variables)

    @tf.function
    def step(self, images, labels):
        with tf.GradientTape() as tape:
            embeddings = tf.math.l2_normalize(self.network(images, training=True), axis=1)
            prototypes = tf.math.l2_normalize(self.prototypes.value, axis=1)
            cosines = tf.matmul(embeddings, prototypes, transpose_b=True)
            logits = SCALE * (cosines - MARGIN * tf.one_hot(labels, cosines.shape[1]))
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            )
        gradients = tape.gradient(loss, self.variables)
        self.optimizer.apply_gradients(zip(gradients, self.variables, strict=True))
        return loss


def competitors(make_embedder, num_classes):
    """A compiled `MarginClassifier` and a `BareLoop` with the same weights."""
    classifier = MarginClassifier(make_embedder(), CosFace(num_classes, MARGIN, SCALE))
    classifier.compile(keras.optimizers.Adam(LEARNING_RATE))
    network = make_embedder()
    network.set_weights(classifier.embedder.get_weights())
    prototypes = keras.ops.convert_to_numpy(classifier.head.prototypes)
    return classifier, BareLoop(network, prototypes, keras.optimizers.Adam(LEARNING_RATE))


def make_trainers(faces, options):
    """By name, a function that trains a round; and, filled by it, the first round's loss."""
    files = faces.dataset(options.batch_size, training=True).take(options.steps)
    parts = (np.stack(part) for part in zip(*files, strict=True))
    memory = tf.data.Dataset.from_tensor_slices(tuple(parts))
    classifier, bare = competitors(
        lambda: build_embedder(NETWORKS[options.network](), EMBEDDING_DIM), options.identities
    )

    def fit(dataset):
        return classifier.fit(dataset, shuffle=False, verbose=0).history["loss"][0]

    losses = {
        "bare": lambda: np.mean([bare.step(*batch) for batch in memory]),
        "memory": lambda: fit(memory),
        "files": lambda: fit(files),
    }
    first_losses = {}

    def trainer(name):
        def train():
            loss = losses[name]()
            first_losses.setdefault(name, loss)
            return options.steps * options.batch_size

        return train

    return {name: trainer(name) for name in losses}, first_losses


def write_faces(directory, options):
    people = max(2, -(-options.batch_size * options.steps // IMAGES_PER_PERSON))
    with console.status(f"Writing {people * IMAGES_PER_PERSON:,} synthetic faces"):
        write_synthetic_faces(directory, people, IMAGES_PER_PERSON)
    return directory


def versions():
    python = platform.python_version()
    return f"Python {python}, Keras {keras.__version__}, TensorFlow {tf.__version__}"


if __name__ == "__main__":
    main()
