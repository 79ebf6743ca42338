"""Search in a gallery against faiss' flat index, and the time to write and to load the gallery.

    python tools/benchmarks/benchmark_gallery.py
    python tools/benchmarks/benchmark_gallery.py --people 100000 --rounds 9 --csv gallery.csv

Embeddings are random directions, one for each person. `Gallery.search` and `IndexFlatIP.search`
find the same people; both take turns, one run each a round, in one process, and both hold what they
search in memory. A ratio above 1 / 1.3 = 0.769 reaches the aim. On a machine that does something
else trust the ratio of CPU time, over all threads, more than that of wall time.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
from rich.console import Console
from side_by_side import LOAD_NOTE, Comparison, append_ratios, machine, race, ratios_table

from keras_facemargin.gallery import Gallery

AIM = 0.769
TIMED = 10_000
CASES = ((1, 1), (1, 10), (4, 1), (64, 1), (64, 10), (1024, 10))  # probes, people for each

console = Console()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--csv", type=Path, help="file to append the figures to")
    options = parser.parse_args(arguments)

    load_before = os.getloadavg()[0]
    console.print(f"{machine()}; load {load_before:.1f}. {LOAD_NOTE}")
    rng = np.random.default_rng(0)
    rows = directions(rng, options.people, options.dim)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "people.gallery"
        write(path, rows)
        console.print(f"{path.stat().st_size / 1e6:,.0f} MB")
        gallery = Gallery.open(path)
        print_time("open, load and search once", gallery.search, rows[:1])
    index = faiss.IndexFlatIP(options.dim)
    index.add(rows)

    results = []
    for probes, count in CASES:
        drawn = directions(rng, probes, options.dim)
        check_equal(gallery, index, drawn, count)
        runs = {
            "gallery": lambda drawn=drawn, count=count: len(gallery.search(drawn, count=count)[1]),
            "faiss": lambda drawn=drawn, count=count: len(index.search(drawn, count)[0]),
        }
        ways = race(runs, options.rounds, 1, f"{probes} probes", console)
        case = f"{options.people:,} people, {probes:,} probes, {count} best"
        results.append(Comparison(case, ways["gallery"], ways["faiss"], AIM))
        console.print(f"{case}: {probes_per_second(results[-1])}", highlight=False)
    console.print(ratios_table(results))
    if options.csv:
        load = load_before, os.getloadavg()[0]
        append_ratios(options.csv, results, load, dim=options.dim, faiss=faiss.__version__)


def directions(rng, count, dim):
    rows = rng.standard_normal((count, dim), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def write(path, rows):
    """A gallery of one image per person; `enrol` is timed by the first of them."""
    few = rows[:TIMED]
    gallery = Gallery(path, embedding_id="0" * 64, embedding_dim=rows.shape[1])
    with gallery, gallery.together():
        print_time(f"enrol {len(few):,} people", enrol, gallery, few)
        run = gallery._store.connection.executemany
        rest = range(len(few), len(rows))
        run("INSERT INTO people VALUES (?, ?)", ((n + 1, f"person {n}") for n in rest))
        run(
            "INSERT INTO images (person, embedding) VALUES (?, ?)",
            ((n + 1, rows[n].tobytes()) for n in rest),
        )


def enrol(gallery, rows):
    for number, row in enumerate(rows):
        gallery.enrol(f"person {number}", row[None])


def check_equal(gallery, index, probes, count):
    names, scores = gallery.search(probes, count=count)
    expected, numbers = index.search(probes, count)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    ours = [[int(name.split()[1]) for name in row] for row in names]
    differing = np.count_nonzero(np.sort(ours) != np.sort(numbers))
    assert differing <= len(probes) // 100, "the two find different people"  # ties of float32


def print_time(what, call, *arguments):
    start, cpu = time.perf_counter(), time.process_time()
    call(*arguments)
    wall, used = time.perf_counter() - start, time.process_time() - cpu
    console.print(f"{what}: {wall:.1f} s, {used:.1f} s of CPU", highlight=False)


def probes_per_second(result):
    ours, theirs = sorted(result.way.rates), sorted(result.base.rates)
    return f"{ours[len(ours) // 2]:,.0f} probes/s, faiss {theirs[len(theirs) // 2]:,.0f}"


if __name__ == "__main__":
    main()
