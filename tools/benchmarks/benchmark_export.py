"""Races exported files against published files of face embedders, in the runtimes of apps.

    python tools/benchmarks/benchmark_export.py zoo/results/export.csv --crops lfw/aligned \\
        --published visassist_mobilefacenet.tflite foamliu_MobileFaceNet.onnx --threads 1

Every way embeds the same crops, one at a time, and the ways take turns: the exported files of the
embedder; each published file as it is, and as this project converts and exports it, of which
float32 is the comparison at equal accuracy; Keras' `predict` and an eager call. The pixels are
prepared before the clock starts. A published file with a fixed batch of two embeds two crops in a
call.

Then programs start in turns: the Python code of a bundle up to its first embedding, TensorFlow up
to the end of its import, and Keras with the same embedder up to its first embedding.

A ratio above 1 is in favour of the first; 1 / 0.56 is the aim against published files. Call the
command once for each number of threads; the rows are added to the file.
"""

import argparse
import contextlib
import functools
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from measured_crops import crops_of_people
from rich.console import Console
from side_by_side import LOAD_NOTE, Comparison, append_ratios, race, rates_table, ratios_table

from keras_facemargin.export import ExportError, export_bundle, export_embedder
from keras_facemargin.export.write import open_session
from keras_facemargin.images import Crop
from keras_facemargin.runtime import Pixels
from keras_facemargin.zoo import load_embedder, open_embedder

CROPS = 8  # in a turn
CALIBRATION = 64  # other crops, for the ranges of int8 and the test of each file
AIM = 1.79  # 1 / 0.56
OWN = (
    ("LiteRT", "float32"),
    ("LiteRT", "weight_int8"),
    ("LiteRT", "dynamic_int8"),
    ("LiteRT", "int8"),
    ("ONNX Runtime", "float32"),
    ("ONNX Runtime", "int8"),
)
SUFFIXES = {"LiteRT": ".tflite", "ONNX Runtime": ".onnx"}
RUNTIMES = {suffix: runtime for runtime, suffix in SUFFIXES.items()}
KERAS = """
import sys
import numpy as np
from PIL import Image
from keras_facemargin.zoo import load_embedder
crop = np.asarray(Image.open(sys.argv[2]), "float32")
print(load_embedder(sys.argv[1]).predict(crop[None], verbose=0)[0, 0])
"""
console = Console()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("output", type=Path, help="CSV; rows are added")
    parser.add_argument("--crops", type=Path, required=True, help="folder of people")
    parser.add_argument("--model", default="spherenet_distilled")
    parser.add_argument("--published", type=Path, nargs="*", default=[], help="files with a card")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--starts", type=int, default=7, help="of each program")
    options = parser.parse_args()
    load = os.getloadavg()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="facemargin-") as folder:
        runs, pairs = ways(Path(folder), options)
        raced = race(runs, options.rounds, 5, "Embedding", console)
        starts = programs(Path(folder), options.model)
        started = race(starts, options.starts, 1, "Starting programs", console)
    bundle, *others = starts
    title = f"{options.threads} thread{'s' * (options.threads > 1)}"
    results = [
        *(Comparison(f"{way} / {base}", raced[way], raced[base], aim) for way, base, aim in pairs),
        *(Comparison(f"{bundle} / {each}", started[bundle], started[each]) for each in others),
    ]
    load = (load[0], os.getloadavg()[0])
    caption = f"Load average {load[0]:.1f} before, {load[1]:.1f} after. {LOAD_NOTE}"
    console.print(rates_table(raced | started, title, caption))
    console.print(ratios_table(results))
    append_ratios(options.output, results, load, threads=options.threads, rounds=options.rounds)


def ways(folder, options):
    """The functions to race by name, and (way, base, aim) of each comparison."""
    embedder = load_embedder(options.model)
    runs, pairs = {}, []
    taken = crops_of_people(options.crops, Crop.of_embedder(embedder), CROPS + CALIBRATION)
    own = functools.partial(exported, folder, threads=options.threads)
    for runtime, precision in OWN:
        name = f"{runtime} {precision}"
        with missing_noted(name):
            runs[name] = own(embedder, taken, f"own-{precision}{SUFFIXES[runtime]}", precision)
            if precision != "float32":
                pairs.append((name, f"{runtime} float32", None))
    for file in options.published:
        runtime = RUNTIMES[file.suffix]
        opened = open_embedder(file)
        name = f"{runtime} {opened.name}"
        images = crops_of_people(options.crops, opened.crop, CROPS + CALIBRATION)
        session = open_session(file, options.threads)
        runs[name] = calls(session, opened.pixels, images[:CROPS])
        for each in (f"{runtime} float32", f"{runtime} int8"):
            if each in runs:
                pairs.append((each, name, AIM if each.endswith("float32") else None))
        again = load_embedder(opened.name, weights=file)
        for precision in ("float32", "int8"):
            converted = f"{name}, exported as {precision}"
            with missing_noted(converted):
                path = f"{opened.name}-{precision}{file.suffix}"
                runs[converted] = own(again, images, path, precision)
                pairs.append((converted, name, None))
    images = taken[:CROPS].astype("float32")
    runs["Keras predict"] = lambda: embed_each(
        images[:, None], lambda image: embedder.predict(image, verbose=0)
    )
    runs["Keras eager call"] = lambda: embed_each(
        images[:, None], lambda image: np.asarray(embedder(image, training=False))
    )
    for base in ("Keras predict", "Keras eager call"):
        pairs += [(each, base, None) for each in ("LiteRT float32", "ONNX Runtime float32")]
    return runs, pairs


@contextlib.contextmanager
def missing_noted(name):
    """Leaves a file out that misses its tolerance, and says so."""
    try:
        yield
    except ExportError as error:
        console.print(f"{name} is left out: {error}", style="yellow")


def exported(folder, embedder, images, name, precision, *, threads):
    """A function that embeds the first crops with an exported file."""
    path = folder / name
    export_embedder(embedder, path, precision=precision, images=images[CROPS:])
    return calls(open_session(path, threads), Pixels(), images[:CROPS])


def calls(session, pixels, images):
    """A function that embeds crops, as many in a call as the file takes, and returns their number.

    Args:
        session: the file, opened.
        pixels: that the file takes.
        images: uint8 (N, H, W, 3).
    """
    values = images if session.dtype == np.uint8 else pixels.apply(images)
    if session.shape[3] != 3:
        values = values.transpose(0, 3, 1, 2)
    batch = session.shape[0] or 1
    batches = np.ascontiguousarray(values, session.dtype).reshape(-1, batch, *values.shape[1:])
    return lambda: batch * embed_each(batches, session.run)


def embed_each(batches, embed):
    """Embeds batches; returns their number."""
    for batch in batches:
        embed(batch)
    return len(batches)


class Start:
    """A program that starts, embeds or imports, and ends."""

    def __init__(self, *command):
        self.command = [sys.executable, *map(str, command)]

    def __call__(self):
        subprocess.run(self.command, check=True, capture_output=True)
        return 1

    def cpu_time(self):
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime


def programs(folder, model):
    """The programs to start by name, the bundle's first."""
    bundle = folder / "bundle"
    export_bundle(load_embedder(model), bundle, files={"embedder.tflite": "float32"})
    crop = bundle / "selftest" / "crop_1.png"
    return {
        "start of the bundle's code": Start(bundle / "face_embedder.py", crop),
        "import of TensorFlow": Start("-c", "import tensorflow"),
        "start of Keras": Start("-c", KERAS, model, crop),
    }


if __name__ == "__main__":
    main()
