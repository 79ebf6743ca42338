"""Images per second from a container, against only decoding the same images.

    python tools/benchmarks/benchmark_data.py
    python tools/benchmarks/benchmark_data.py --records train.rec --csv data.csv
    python tools/benchmarks/benchmark_data.py --mxnet-python mxnet-env/bin/python

Ways to get the same decoded images in batches, with labels:

- bare: the encoded images are in memory, in order, in one tensor; `tf.data` decodes each with
  TensorFlow's JPEG decoder and batches them;
- records: `FaceRecords(...).dataset(batch_size)`, from the `.rec` file (which the system has
  cached), by the index;
- shuffled: the same in random order, as in training;
- tfrecord: `FaceTFRecords(...).dataset(batch_size)`, the same images in one `.tfrecord`;
- folder: `FaceFolder(...).dataset(batch_size)`, from a file for each image (cached as well);
- augmented: `FaceTFRecords(...).dataset(batch_size, training=True)`, shuffled and with the light
  augmentation that training has by default;
- layers: the same augmentation made of three layers; adaface: crop, low resolution and photometric
  layers, each on a fifth of the images, as AdaFace trains. These two are shown without an aim.

With --mxnet-python, MXNet takes its turns too, in its own process (see `mxnet_peer.py`):

- mxnet: its `ImageRecordIter`, in C++, as many threads as cores; mxnet augmented: the same with its
  own random crop, mirroring, brightness, contrast and saturation, shuffled;
- mxnet python: InsightFace's published way, `MXIndexedRecordIO` and `mx.image.imdecode`, in random
  order. `ImageRecordIter` stops at records without an image, which InsightFace's files have, so it
  gets a copy without them, long enough for all passes, because a new start is slow.

All of ours use the same decoder, the same number of parallel calls (`tf.data.AUTOTUNE`), the same
batches. They take turns, one pass over all images each, in one process; the first rounds warm up
and do not count. Without --records, synthetic faces are written as JPEG files and as records.

Also printed: records read at random by one thread, without decoding.

The figures mean little on a machine that does something else; the load is printed beside them.
The ratio of CPU time, taken over all threads, bears neighbours better but is blind to waiting.
"""

import argparse
import contextlib
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

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

from keras_facemargin.augmentation.layers import (
    RandomCropAndPad,
    RandomLowResolution,
    RandomMirror,
    RandomPhotometric,
    RandomShift,
)
from keras_facemargin.data.faces import Faces
from keras_facemargin.data.folder import FaceFolder
from keras_facemargin.data.formats.recordio import Record, RecordReader, RecordWriter, pack_record
from keras_facemargin.data.records import FaceRecords, write_face_records
from keras_facemargin.data.tfrecords import FaceTFRecords, write_face_tfrecords
from keras_facemargin.images.synthetic import write_synthetic_faces

WARM_UP = 2  # rounds: the first traces the graphs, the second fills the caches
AIMS = {"records": 0.85, "shuffled": 0.85, "tfrecord": 0.85, "folder": 0.85, "augmented": 0.6}
AGAINST_MXNET = {"records": "mxnet", "augmented": "mxnet augmented", "shuffled": "mxnet python"}
PEER = Path(__file__).with_name("mxnet_peer.py")

HOW_TO_MXNET = (
    "It needs an environment of its own, Python 3.11 or older on Linux: python3.11 -m venv "
    "mxnet-env && mxnet-env/bin/pip install mxnet==1.9.1 'numpy<1.24', then --mxnet-python "
    "mxnet-env/bin/python."
)

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
    parser.add_argument("--mxnet-python", type=Path, help="python of an environment with MXNet")
    parser.add_argument("--csv", type=Path, help="file to append the figures to")
    options = parser.parse_args(arguments)

    console.print(f"{machine()}; {versions()}")
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as work:
        records = FaceRecords(options.records or write_faces(Path(work), options))
        folder = FaceFolder(write_files(Path(work, "files"), records))
        write_face_tfrecords(Path(work, "faces.tfrecord"), records.paths, records.labels)
        examples = FaceTFRecords(Path(work, "faces.tfrecord"))
        ways = our_ways(records, folder, examples, options)
        with contextlib.ExitStack() as stack:
            if options.mxnet_python:
                write_plain_records(Path(work, "plain.rec"), records, options.passes)
                peer = stack.enter_context(Peer(options.mxnet_python, Path(work, "plain.rec")))
                ways |= peer.ways(options)
            ways = race(ways, options.rounds, WARM_UP, "Decoding", console)
        reads = random_reads(records.file)
    load.append(os.getloadavg()[0])

    pairs = [(name, "bare") for name in ways if name != "bare"]
    pairs += [(ours, theirs) for ours, theirs in AGAINST_MXNET.items() if theirs in ways]
    results = [
        Comparison(f"{a} / {b}", ways[a], ways[b], AIMS.get(a) if b == "bare" else None)
        for a, b in pairs
    ]
    size = np.mean([len(image.read_bytes()) for image in records.paths])
    title = f"{len(records):,} images of {size:,.0f} bytes, batches of {options.batch_size}"
    caption = f"{options.rounds} rounds of {options.passes} passes"
    console.print(rates_table(ways, title, caption), ratios_table(results))
    console.print(f"Records read at random, not decoded, one thread: {reads:,.0f} per second.")
    console.print(
        f"Load of the machine before and after: {load[0]:.1f} and {load[1]:.1f}. {LOAD_NOTE}"
    )
    if not options.mxnet_python:
        console.print(f"MXNet's own iterator is left out. {HOW_TO_MXNET}")
    if options.csv:
        append_ratios(
            options.csv,
            results,
            load,
            versions=versions(),
            images=len(records),
            batch_size=options.batch_size,
            passes=options.passes,
            rounds=options.rounds,
            random_reads_per_second=f"{reads:.0f}",
        )


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


def our_ways(records, folder, examples, options):
    """By name, a function that passes over the images and returns how many it saw."""
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

    def passes(dataset):
        dataset = dataset.repeat(options.passes)
        return lambda: sum(len(labels) for _, labels in dataset)

    return {name: passes(dataset) for name, dataset in datasets.items()}


class Peer:
    """MXNet in its own process, which works on request."""

    def __init__(self, python, records):
        command = [python, PEER, "iterate", records]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.communicate()

    def ask(self, *words):
        """What it answers to a line, a float."""
        print(*words, sep="\t", file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"MXNet's process ended. {HOW_TO_MXNET}")
        return float(answer)

    def ways(self, options):
        """As `our_ways`."""

        def passes(name):
            def run():
                return int(self.ask(name, options.batch_size))

            run.cpu_time = lambda: self.ask("cpu")
            return run

        return {name: passes(name) for name in AGAINST_MXNET.values()}


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


def write_plain_records(file, records, times):
    """The images, so many times over, as `im2rec` writes them: no header, no identity records."""
    with RecordWriter(file) as writer:
        for key in range(times * len(records)):
            row = key % len(records)
            image, label = records.paths[row].read_bytes(), float(records.labels[row])
            writer.write(key, pack_record(Record(label, image, key)))


def versions():
    return f"Python {platform.python_version()}, TensorFlow {tf.__version__}"


if __name__ == "__main__":
    main()
