"""Exports networks in every format and writes what came of it, a row for each.

    python tools/benchmarks/measure_formats.py zoo/results/formats.csv --crops lfw/aligned

The networks of `keras.applications` have random weights and take crops of 64x64, because only
their ops are asked for; the statistics of their BatchNormalization are those of the crops.
Embedders of the zoo are opened as `load_embedder` opens them; `--weights NAME=FILE` names your
copy of a file. The crops are of 64 people (`--people`), the first of each: one half sets the ranges
of int8 and int16x8, and the other half tests; the other formats are tested on all. Rows that are in
the file are left out, so a stopped measurement continues.

    python tools/benchmarks/measure_formats.py zoo/results/format_decisions.csv \\
        --crops celeb/train --decide lfw/aligned --pairs lfw/pairs.txt \\
        --networks spherenet_distilled --formats tflite-int8 tflite-weight_int8

With `--decide` every image of that folder is embedded by Keras and by the file, the image alone:
the accuracy over the folds of `--pairs`, and TAR and threshold over all pairs, before and after,
each at its own threshold. The file may have missed its tolerance.
"""

import argparse
import tempfile
from pathlib import Path

import keras
from measured_crops import crops_of_people
from run_rows import add_rows, has_run

from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate import embed, read_pairs
from keras_facemargin.export import FORMATS, ExportError, compare_decisions, export_embedder
from keras_facemargin.export.decisions import fold_accuracies
from keras_facemargin.export.formats import find_format
from keras_facemargin.export.write import open_exported
from keras_facemargin.images import Crop
from keras_facemargin.zoo import load_embedder

APPLICATIONS = (
    "MobileNetV2",
    "MobileNetV3Small",
    "EfficientNetV2B0",
    "ResNet50V2",
    "ConvNeXtTiny",
)
SIDE, PEOPLE = 64, 64
FIELDS = ("network", "format", "outcome", "cosine_min", "cosine_mean", "megabytes", "islands")
RATES = {1e-3: "1e-3", 1e-4: "1e-4"}
DECIDED = (
    "people",
    "images",
    "accuracy",
    "accuracy_after",
    *(
        f"{measure}{after}@{rate}"
        for rate in RATES.values()
        for measure in ("tar", "threshold")
        for after in ("", "_after")
    ),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--crops", type=Path, required=True, help="folder of people")
    parser.add_argument("--people", type=int, default=PEOPLE, help="number of crops")
    parser.add_argument("--decide", type=Path, help="folder of people to decide about")
    parser.add_argument("--pairs", type=Path, help="LFW's list of pairs among them")
    parser.add_argument("--networks", nargs="+", default=[*APPLICATIONS, "spherenet_distilled"])
    parser.add_argument("--weights", nargs="*", default=[], metavar="NAME=FILE")
    parser.add_argument("--formats", nargs="+", default=[each.name for each in FORMATS])
    options = parser.parse_args()
    weights = dict(text.split("=", 1) for text in options.weights)
    fields = FIELDS + (DECIDED if options.decide else ())
    run = {"people": options.people} if options.decide else {}
    for name in options.networks:
        missing = [
            each
            for each in map(find_format, options.formats)
            if not has_run(options.output, network=name, format=each.name, **run)
        ]
        if missing:
            if name in APPLICATIONS:
                images = crops_of_people(options.crops, Crop.of(SIDE), options.people)
                embedder = application(name, images)
            else:
                embedder = load_embedder(name, weights=weights.get(name))
                images = crops_of_people(options.crops, Crop.of_embedder(embedder), options.people)
            decide = Decide(embedder, options.decide, options.pairs) if options.decide else None
            for format in missing:
                row = measure(name, embedder, format, images, decide)
                add_rows(options.output, fields, [row | run])


class Decide:
    """A function from an exported file to the columns about its decisions.

    Args:
        embedder: the `keras.Model`, which embeds the faces once.
        folder: of labelled crops.
        pairs: file of LFW's pairs among them.
    """

    def __init__(self, embedder, folder, pairs):
        self.embedder = embedder
        self.faces = FaceFolder(folder, image_size=Crop.of_embedder(embedder))
        self.pairs = read_pairs(pairs, folder, on_missing="reject")
        self.before = embed(embedder, self.faces.paths, flip=False)

    def __call__(self, path):
        paths = self.faces.paths
        after = embed(open_exported(path, self.embedder), paths, flip=False)
        found = compare_decisions(self.before, after, self.faces.labels)
        accuracies = fold_accuracies(self.pairs, paths, self.before, after)
        columns = {"images": found.images}
        columns |= zip(("accuracy", "accuracy_after"), accuracies, strict=True)
        for one in found.rates:
            rate = RATES[one.far]
            columns |= {
                f"tar@{rate}": one.tar,
                f"tar_after@{rate}": one.new_tar,
                f"threshold@{rate}": one.threshold,
                f"threshold_after@{rate}": one.new_threshold,
            }
        return {
            name: value if isinstance(value, int) else f"{value:.6f}"
            for name, value in columns.items()
        }


def application(name, images):
    """A network of `keras.applications` with random weights as an embedder of 64x64 crops."""
    keras.utils.set_random_seed(0)
    image = keras.Input((SIDE, SIDE, 3))
    scales = name.startswith(("MobileNetV3", "EfficientNet", "ConvNeXt"))  # its pixels itself
    x = image if scales else keras.layers.Rescaling(1 / 127.5, -1.0)(image)
    backbone = getattr(keras.applications, name)(
        include_top=False, weights=None, input_shape=(SIDE, SIDE, 3), pooling="avg"
    )
    features = keras.layers.Dense(128, use_bias=False)(backbone(x))
    embedder = keras.Model(image, keras.layers.BatchNormalization()(features), name=name.lower())
    # Random weights without statistics of their activations make these vanish with the depth: below
    # what float16 holds.
    normalised = [
        layer
        for layer in (*embedder.layers, *backbone.layers)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [layer.momentum for layer in normalised]
    for layer in normalised:
        layer.momentum = 0.0
    embedder(images.astype("float32"), training=True)
    for layer, momentum in zip(normalised, momenta, strict=True):
        layer.momentum = momentum
    return embedder


def measure(name, embedder, format, images, decide=None):
    """A row."""
    row = {"network": name, "format": format.name}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"embedder{format.container.suffix}")
        missed = path.with_stem("missed")
        try:
            verdict = export_embedder(
                embedder, path, precision=format.precision, images=images, keep=missed
            )
            outcome = "passed"
        except ExportError as error:
            verdict = error.verdict
            outcome = "missed" if verdict else str(error)
        print(name, format.name, outcome, flush=True)
        if verdict is None:
            return row | {"outcome": outcome}
        row |= {} if decide is None else decide(verdict.path)
    return row | {
        "outcome": outcome,
        "cosine_min": f"{verdict.cosine_min:.6f}",
        "cosine_mean": f"{verdict.cosine_mean:.6f}",
        "megabytes": f"{verdict.size_bytes / 1e6:.2f}",
        "islands": " ".join(sorted(set(verdict.float_islands))),
    }


if __name__ == "__main__":
    main()
