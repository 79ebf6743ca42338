"""Resident memory while a large .rec is read: it must not grow with the number of records.

    python tools/benchmarks/measure_memory.py
    python tools/benchmarks/measure_memory.py --records 100000 --csv docs/benchmark_data_memory.csv

Writes records (1,000,000), each a JPEG of noise of 16x16 pixels, opens the file and reads
every image once in each of four ways, one after the other in this process:

- tf.data in order, and tf.data for training: shuffled and augmented;
- PyDataset in order, and shuffled.

Resident memory (Linux: `VmRSS`) is recorded ten times for each way. The figure before the first
record of the first way is the cost of the packages, of writing (keys and lines of the index, which
Python keeps for later use) and of the open file: labels, offsets and keys. The file is removed at
the end.
"""

import argparse
import datetime
import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table
from side_by_side import append_rows, machine

from keras_facemargin.data.formats.recordio import Record, RecordWriter, pack_record
from keras_facemargin.data.records import FaceRecords

SIZE, IMAGES, PER_PERSON, NOTES = 16, 256, 100, 10

console = Console()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--directory", type=Path, help="where the file is written; else /tmp")
    parser.add_argument("--csv", type=Path, help="file to append the figures to")
    options = parser.parse_args(arguments)
    if not Path("/proc/self/status").exists():
        parser.error("resident memory is read from /proc/self/status, which only Linux has.")

    console.print(machine())
    notes = [("packages", 0, resident())]
    with tempfile.TemporaryDirectory(dir=options.directory) as work:
        file = write_records(Path(work, "faces.rec"), options.records)
        size = file.stat().st_size
        notes.append(("file written", 0, resident()))
        faces = FaceRecords(file, image_size=SIZE)
        notes.append(("open file", 0, resident()))
        for name, batches in ways(faces, options.batch_size).items():
            notes += read(name, batches, len(faces))
    console.print(table(notes, options.records, size))
    growth = largest_growth(notes)
    console.print(f"From a tenth of a way to its end memory grew by at most {growth:.1f} MiB.")
    if options.csv:
        described = {
            "date": datetime.date.today().isoformat(),
            "cpu": machine(),
            "records": options.records,
            "file_bytes": size,
            "batch_size": options.batch_size,
        }
        rows = [
            {**described, "way": way, "read": read, "resident_mib": f"{mib:.1f}"}
            for way, read, mib in notes
        ]
        append_rows(options.csv, rows)


def write_records(file, count):
    """So many records of a few different images, a hundred of each person."""
    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(IMAGES):
        stream = io.BytesIO()
        pixels = rng.integers(0, 256, (SIZE, SIZE, 3)).astype("uint8")
        Image.fromarray(pixels).save(stream, "JPEG")
        encoded.append(stream.getvalue())
    with RecordWriter(file) as writer:
        for key in track(range(count), "Writing", console=console, transient=True):
            record = Record(float(key // PER_PERSON), encoded[key % IMAGES], key)
            writer.write(key, pack_record(record))
    return file


def ways(faces, batch_size):
    """By name, a function that gives all batches of the faces."""

    def by_step(sequence):
        return (sequence[step] for step in range(len(sequence)))

    return {
        "tf.data, in order": lambda: faces.dataset(batch_size),
        "tf.data, training": lambda: faces.dataset(batch_size, training=True),
        "PyDataset, in order": lambda: by_step(faces.py_dataset(batch_size)),
        "PyDataset, training": lambda: by_step(faces.py_dataset(batch_size, training=True)),
    }


def read(name, batches, count):
    """Passes over all images once; `(name, images read, MiB)` ten times."""
    notes, seen = [], 0
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(name, total=count)
        for _, labels in batches():
            seen += len(labels)
            bar.update(task, completed=seen)
            if seen >= count * (len(notes) + 1) / NOTES:
                notes.append((name, seen, resident()))
    assert seen == count
    return notes


def resident():
    """MiB of this process in memory."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return int(kib) / 1024


def largest_growth(notes):
    """Largest difference between the first and the last note of a way, in MiB."""
    by_way = {}
    for name, seen, mib in notes:
        if seen:
            by_way.setdefault(name, []).append(mib)
    return max(each[-1] - each[0] for each in by_way.values())


def table(notes, records, size):
    shown = Table("way", "records read", "MiB", title=f"{records:,} records, {size:,} bytes")
    for name, seen, mib in notes:
        shown.add_row(name, f"{seen:,}", f"{mib:,.1f}")
    return shown


if __name__ == "__main__":
    main()
