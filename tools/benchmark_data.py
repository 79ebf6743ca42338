"""Images per second out of a container: against decoding the same images and nothing else.

    python tools/benchmark_data.py
    python tools/benchmark_data.py --records train.rec --csv data.csv

Ways to come to the same decoded images, in batches, labels beside them:

- bare: the encoded images lie in memory, in order, in one tensor; `tf.data` decodes each with
  TensorFlow's JPEG decoder and batches them;
- records: `FaceRecords(...).dataset(batch_size)`, from the `.rec` file (which the system has
  cached), by the index;
- shuffled: the same in random order, as training asks for it;
- tfrecord: `FaceTFRecords(...).dataset(batch_size)`, the same images in one `.tfrecord`;
- folder: `FaceFolder(...).dataset(batch_size)`, from a file for each image (cached as well);
- augmented: `FaceTFRecords(...).dataset(batch_size, training=True)`, shuffled and with the light
  augmentation that training has unless told else;
- layers: the same augmentation made of three layers; adaface: crop, low resolution and photometric
  layers, each on a fifth of the images, as AdaFace trains. These two are shown without an aim.

All use the same decoder, the same number of parallel calls (`tf.data.AUTOTUNE`), the same
batches. They take turns, one pass over all images each, in one process; the first rounds warm up
and do not count. Without --records, synthetic faces are written as JPEG files and as records.

Also printed: records read at random by one thread, without decoding.

The figures mean little on a machine that does something else; the load is printed beside them.
The ratio of CPU time, taken over all threads, bears neighbours better but is blind to waiting.
"""

import argparse
import datetime
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import track
from rich.table import Table
from side_by_side import Comparison, Way, append_rows, machine, ratios_table

from keras_facemargin.data.faces import Faces
from keras_facemargin.data.folder import FaceFolder
from keras_facemargin.data.layers import (
    RandomCropAndPad,
    RandomLowResolution,
    RandomMirror,
    RandomPhotometric,
    RandomShift,
)
from keras_facemargin.data.recordio import FaceRecords, RecordReader, write_face_records
from keras_facemargin.data.synthetic import write_synthetic_faces
from keras_facemargin.data.tfrecord import FaceTFRecords, write_face_tfrecords

WARM_UP = 2  # rounds: the first traces the graphs, the second fills the caches
AIMS = {"records": 0.9, "shuffled": 0.9, "tfrecord": 0.85, "folder": 0.85, "augmented": 0.6}

console = Console()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--records", type=Path, help=".rec file; else synthetic faces")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--passes", type=int, default=10, help="over all images, a round")
    parser.add_argument("--rounds", type=int, default=9, help=f"counted, after {WARM_UP} more")
    parser.add_argument(
        "--people", type=int, default=40, help="of the synthetic faces, 12 images each"
    )
    parser.add_argument("--csv", type=Path, help="file to append the figures to")
    options = parser.parse_args(arguments)

    console.print(f"{machine()}; {versions()}")
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as work:
        records = FaceRecords(options.records or write_faces(Path(work), options))
        folder = FaceFolder(write_files(Path(work, "files"), records))
        write_face_tfrecords(Path(work, "faces.tfrecord"), records.paths, records.labels)
        examples = FaceTFRecords(Path(work, "faces.tfrecord"))
        ways = race(records, folder, examples, options)
        reads = random_reads(records.file)
    load.append(os.getloadavg()[0])

    results = [
        Comparison(f"{name} / bare", ways[name], ways["bare"], AIMS.get(name))
        for name in list(ways)[1:]
    ]
    size = np.mean([len(image.read_bytes()) for image in records.paths])
    console.print(rates_table(ways, records, size, options), ratios_table(results))
    console.print(f"Records read at random, not decoded, one thread: {reads:,.0f} per second.")
    console.print(
        f"Load of the machine before and after: {load[0]:.1f} and {load[1]:.1f}. An idle machine "
        "starts near 0: distrust the figures otherwise."
    )
    if options.csv:
        append(options.csv, results, reads, load, records, options)


def bare_dataset(faces, batch_size):
    """What one writes for images in memory: decode, cast, batch."""
    encoded = tf.constant([image.read_bytes() for image in faces.paths])
    size = faces.image_size

    def decode(image, label):
        pixels = tf.io.decode_jpeg(image, channels=3, dct_method="INTEGER_ACCURATE")
        return tf.ensure_shape(pixels, (size, size, 3)), label

    def to_float(images, labels):
        return tf.cast(images, tf.float32), labels

    images = tf.data.Dataset.from_tensor_slices((encoded, tf.constant(faces.labels)))
    images = images.map(decode, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size)
    return images.map(to_float, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def shuffled(faces, seed=0):
    """The same faces in a random order: what an epoch of training asks of the container."""
    return Faces._take(faces, np.random.default_rng(seed).permutation(len(faces)))


def race(records, folder, examples, options):
    """Passes over the images in turns; returns a `Way` by name."""
    light = [RandomShift(), RandomMirror(), RandomPhotometric()]
    adaface = [
        RandomMirror(),
        RandomCropAndPad(),
        RandomLowResolution(),
        RandomPhotometric(rate=0.2),
    ]
    size = options.batch_size
    datasets = {
        "bare": bare_dataset(records, size),
        "records": records.dataset(size),
        "shuffled": shuffled(records).dataset(size),
        "tfrecord": examples.dataset(size),
        "folder": folder.dataset(size),
        "augmented": examples.dataset(size, training=True),
        "layers": examples.dataset(size, training=True, augmentation=light),
        "adaface": examples.dataset(size, training=True, augmentation=adaface),
    }
    datasets = {name: each.repeat(options.passes) for name, each in datasets.items()}
    images = options.passes * len(records)
    ways = {name: Way() for name in datasets}
    rounds = range(WARM_UP + options.rounds)
    for number in track(rounds, "Decoding", console=console, transient=True):
        for name, dataset in datasets.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            seen = sum(len(labels) for _, labels in dataset)
            seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
            assert seen == images
            if number >= WARM_UP:
                ways[name].rates.append(images / seconds)
                ways[name].costs.append(1e6 * cpu_seconds / images)
    return ways


def random_reads(file, count=20000):
    """Records per second, read by one thread in random order."""
    reader = RecordReader(file)
    rows = np.random.default_rng(0).integers(0, len(reader), count).tolist()
    start = time.perf_counter()
    for row in rows:
        reader.read_row(row)
    return count / (time.perf_counter() - start)


def write_faces(directory, options):
    with console.status(f"Writing {options.people * 12:,} synthetic faces"):
        files = write_synthetic_faces(directory / "people", options.people, 12)
        labels = np.repeat(np.arange(options.people), 12)
        write_face_records(directory / "faces.rec", files, labels)
    return directory / "faces.rec"


def write_files(directory, records):
    """The images of the records as files, byte for byte."""
    for number, (image, label) in enumerate(zip(records.paths, records.labels, strict=True)):
        file = directory / f"{label:06d}" / f"{number:08d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image.read_bytes())
    return directory


def versions():
    return f"Python {platform.python_version()}, TensorFlow {tf.__version__}"


def rates_table(ways, records, size, options):
    table = Table(
        title=f"{len(records):,} images of {size:,.0f} bytes, batches of {options.batch_size}",
        caption=f"{options.rounds} rounds of {options.passes} passes",
    )
    for column in ("images/s", "median", "slowest", "fastest", "CPU µs per image"):
        table.add_column(column, justify="left" if column == "images/s" else "right")
    for name, way in ways.items():
        figures = (statistics.median(way.rates), min(way.rates), max(way.rates))
        cost = f"{statistics.median(way.costs):.0f}"
        table.add_row(name, *(f"{figure:,.0f}" for figure in figures), cost)
    return table


def append(path, results, reads, load, records, options):
    rows = [
        {
            "date": datetime.date.today().isoformat(),
            "cpu": machine(),
            "load_before": f"{load[0]:.2f}",
            "load_after": f"{load[1]:.2f}",
            "versions": versions(),
            "images": len(records),
            "batch_size": options.batch_size,
            "passes": options.passes,
            "rounds": options.rounds,
            "case": result.case,
            "images_per_second": f"{statistics.median(result.way.rates):.0f}",
            "ratio": f"{result.ratio:.4f}",
            "median_of_round_ratios": f"{statistics.median(result.round_ratios):.4f}",
            "cpu_ratio": f"{result.cpu_ratio:.4f}",
            "random_reads_per_second": f"{reads:.0f}",
        }
        for result in results
    ]
    append_rows(path, rows)


if __name__ == "__main__":
    main()
