"""Exports networks in every format and writes what came of it, a row for each.

    python tools/benchmarks/measure_formats.py zoo/results/formats.csv --crops lfw/aligned

The networks of `keras.applications` have random weights and take crops of 64x64, because only
their ops are asked for; the statistics of their BatchNormalization are those of the crops.
Embedders of the zoo are opened as `load_embedder` opens them; `--weights NAME=FILE` names your
copy of a file. The 64 crops are of 64 people, the first of each: one half sets the ranges of int8
and int16x8, and the other half tests; the other formats are tested on all. Rows that are in the
file are left out, so a stopped measurement continues.
"""

import argparse
import tempfile
from pathlib import Path

import keras
import numpy as np
from run_rows import add_rows, has_run

from keras_facemargin.export import FORMATS, ExportError, export_embedder
from keras_facemargin.export.formats import find_format
from keras_facemargin.images import Crop, read_face
from keras_facemargin.zoo import load_embedder

APPLICATIONS = (
    "MobileNetV2",
    "MobileNetV3Small",
    "EfficientNetV2B0",
    "ResNet50V2",
    "ConvNeXtTiny",
)
SIDE, CROPS = 64, 64
FIELDS = ("network", "format", "outcome", "cosine_min", "cosine_mean", "megabytes", "islands")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--crops", type=Path, required=True, help="folder of people")
    parser.add_argument("--networks", nargs="+", default=[*APPLICATIONS, "spherenet_distilled"])
    parser.add_argument("--weights", nargs="*", default=[], metavar="NAME=FILE")
    parser.add_argument("--formats", nargs="+", default=[each.name for each in FORMATS])
    arguments = parser.parse_args()
    weights = dict(text.split("=", 1) for text in arguments.weights)
    for name in arguments.networks:
        missing = [
            each
            for each in map(find_format, arguments.formats)
            if not has_run(arguments.output, network=name, format=each.name)
        ]
        if missing:
            if name in APPLICATIONS:
                images = crops(arguments.crops, Crop.of(SIDE))
                embedder = application(name, images)
            else:
                embedder = load_embedder(name, weights=weights.get(name))
                images = crops(arguments.crops, Crop.of_embedder(embedder))
            for format in missing:
                add_rows(arguments.output, FIELDS, [measure(name, embedder, format, images)])


def crops(folder, crop):
    """The first crop of each of 64 people, spread over the folder."""
    people = sorted(each for each in folder.iterdir() if each.is_dir())
    chosen = people[:: len(people) // CROPS][:CROPS]
    return np.stack([read_face(min(each.iterdir()), crop) for each in chosen])


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


def measure(name, embedder, format, images):
    """A row."""
    row = {"network": name, "format": format.name}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"embedder{format.container.suffix}")
        try:
            verdict = export_embedder(embedder, path, precision=format.precision, images=images)
            outcome = "passed"
        except ExportError as error:
            verdict = error.verdict
            outcome = "missed" if verdict else str(error)
    print(name, format.name, outcome, flush=True)
    if verdict is None:
        return row | {"outcome": outcome}
    return row | {
        "outcome": outcome,
        "cosine_min": f"{verdict.cosine_min:.6f}",
        "cosine_mean": f"{verdict.cosine_mean:.6f}",
        "megabytes": f"{verdict.size_bytes / 1e6:.2f}",
        "islands": " ".join(sorted(set(verdict.float_islands))),
    }


if __name__ == "__main__":
    main()
