"""Time and memory of the evaluation at scale, each case against the plain way of doing it.

    python tools/benchmarks/benchmark_evaluate.py
    python tools/benchmarks/benchmark_evaluate.py --cases "all pairs, 13,232" --rounds 7
    python tools/benchmarks/benchmark_evaluate.py --scale 0.1 --csv evaluate.csv

- all pairs: `verify_all_pairs` (exact EER and TAR at FAR 1e-1 to 1e-8) against the bare float32
  product of the same blocks, whose results are thrown away: nothing that sees every pair is faster;
- ROC points: the same against all scores in one array and scikit-learn's `roc_curve`, on a set that
  this fits; both answers must be equal;
- 1:1: lists of IJB-C's size, `verify_listed_pairs` against the published scripts' way (gather both
  sides in float32, multiply, sum, `roc_curve`): pairs drawn at random among all templates, and of
  3,531 gallery with 19,593 probe templates, as IJB-C's are by their numbers (3,531 subjects, 23,124
  templates); only a third as many cells hold them;
- 1:N: `identify` against a flat search of faiss for the ten best; equal ranks where they are among
  those.

Embeddings are random directions around a centre for each person, of 512 numbers. Both sides take
turns, one run each a round, in one process. Memory is what Python and NumPy allocate beyond the
arguments at most, seen in one more run that is not timed. On a machine that does something else
trust the ratio of CPU time, over all threads, more than that of wall time; BLAS threads that wait
for a busy core spin, which CPU time counts.
"""

import argparse
import dataclasses
import datetime
import os
import platform
import statistics
import time
import tracemalloc
from pathlib import Path

import numpy as np
import sklearn
from rich.console import Console
from rich.table import Table
from side_by_side import append_rows, machine
from sklearn.metrics import roc_curve

from keras_facemargin.evaluate import identify, verify_all_pairs
from keras_facemargin.evaluate.at_scale import verify_listed_pairs

SIZE = 512
BLOCK = 1_024
FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)

console = Console()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of rows")
    parser.add_argument("--csv", type=Path, help="file to append the figures to")
    options = parser.parse_args(arguments)

    console.print(f"{machine()}; {versions()}")
    results = []
    for name in options.cases:
        build, aim = CASES[name]
        try:
            way, base, equal = build(options.scale)
        except ImportError as error:
            console.print(f"{name}: left out ({error})")
            continue
        results.append(race(name, way, base, equal, aim, options.rounds))
        console.print(f"{name}: {results[-1].ratio:.2f} x the plain way's time")
    console.print(table(results))
    if options.csv and results:
        append(options.csv, results, options)


@dataclasses.dataclass
class Comparison:
    """Seconds of both ways in the same rounds."""

    case: str
    aim: float
    equal: bool
    seconds: list
    cpu: list
    base_seconds: list
    base_cpu: list
    megabytes: float
    load: tuple

    @property
    def ratio(self):
        return statistics.median(self.seconds) / statistics.median(self.base_seconds)

    @property
    def cpu_ratio(self):
        return statistics.median(self.cpu) / statistics.median(self.base_cpu)


def race(name, way, base, equal, aim, rounds):
    """One run of each, in turns; `equal` compares what they returned."""
    result = Comparison(name, aim, True, [], [], [], [], 0.0, (os.getloadavg()[0],))
    for _ in range(rounds):
        answers = []
        for run, seconds, cpu in (
            (base, result.base_seconds, result.base_cpu),
            (way, result.seconds, result.cpu),
        ):
            start, cpu_start = time.perf_counter(), time.process_time()
            answers.append(run())
            seconds.append(time.perf_counter() - start)
            cpu.append(time.process_time() - cpu_start)
        result.equal &= bool(equal(*answers))
    del answers
    tracemalloc.start()
    way()
    result.megabytes = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    result.load += (os.getloadavg()[0],)
    return result


def people(count, each=10, seed=0):
    """Unit float32 embeddings ``(count, SIZE)`` and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) // each
    units = rng.normal(size=(count, SIZE)).astype(np.float32)
    centers = np.random.default_rng(1).normal(size=(labels[-1] + 1, SIZE)).astype(np.float32)
    units += centers[labels]
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    return units, labels


def against_product(rows, scale):
    embeddings, labels = people(int(rows * scale))

    def product():
        buffer = np.empty((BLOCK, BLOCK), np.float32)
        for start in range(0, len(embeddings), BLOCK):
            a = embeddings[start : start + BLOCK]
            for column in range(start, len(embeddings), BLOCK):
                b = embeddings[column : column + BLOCK]
                np.matmul(a, b.T, out=buffer[: len(a), : len(b)])

    return (
        lambda: verify_all_pairs(embeddings, labels, progress=False),
        product,
        lambda _, result: result.embeddings == len(labels),
    )


def against_scikit_learn(scale):
    embeddings, labels = people(int(5_000 * scale))

    def plain():
        first, second = np.triu_indices(len(labels), k=1)
        scores = (embeddings @ embeddings.T)[first, second]
        far, tar, _ = roc_curve(labels[first] == labels[second], scores, drop_intermediate=False)
        return [tar[far <= target].max() for target in FARS]

    def streamed():
        result = verify_all_pairs(embeddings, labels, fars=FARS, progress=False)
        return [entry.tar for entry in result.tar_at_far]

    return streamed, plain, same_rates


def ijbc(scale, gallery=None):
    """15,658,489 pairs of 23,124 templates, 19,557 of them genuine or about as many.

    Pairs at random; or of each of the first `gallery` templates with the later ones.
    """
    templates, labels = people(max(int(23_124 * scale), 100), each=7)
    rng = np.random.default_rng(2)
    pairs = int(15_638_932 * scale)
    if gallery is None:
        first, second = rng.integers(0, len(labels), size=(2, pairs))
        first = np.concatenate([np.arange(len(labels) - 1), first])
        second = np.concatenate([np.arange(1, len(labels)), second])  # of one person, most of them
    else:
        mixed = rng.permutation(len(labels))  # a person's templates on both sides
        templates, labels = templates[mixed], labels[mixed]
        gallery = int(gallery * scale)
        first = rng.integers(0, gallery, size=pairs)
        second = rng.integers(gallery, len(labels), size=pairs)
    same = labels[first] == labels[second]

    def published():
        scores = np.empty(len(first), np.float32)
        for start in range(0, len(first), 100_000):
            part = slice(start, start + 100_000)
            scores[part] = np.sum(templates[first[part]] * templates[second[part]], axis=-1)
        far, tar, _ = roc_curve(same, scores, drop_intermediate=False)
        return [tar[far <= target].max() for target in FARS]

    def exact():
        found = verify_listed_pairs(templates, first, second, same=same, fars=FARS, progress=False)
        return [entry.tar for entry in found.tar_at_far]

    return exact, published, same_rates


def against_faiss(scale):
    import faiss

    gallery, names = people(int(100_000 * scale), each=1)
    probes, labels = people(int(20_000 * scale), each=1, seed=3)
    labels = labels * 6  # every sixth of the gallery; those past its end are non-mated
    centers = np.random.default_rng(1).normal(size=(len(names), SIZE)).astype(np.float32)
    known = labels < len(names)
    probes[known] = 0.35 * probes[known] + 0.02 * centers[labels[known]]
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)

    def flat():
        index = faiss.IndexFlatIP(SIZE)
        index.add(gallery)
        found = index.search(probes, 10)[1][known] == labels[known, None]
        return np.where(found.any(axis=1), 1 + found.argmax(axis=1), 11)

    return (
        lambda: identify(
            gallery, probes, gallery_labels=names, probe_labels=labels, progress=False
        ).ranks.clip(max=11),
        flat,
        lambda base, way: np.mean(base == way) > 0.9999,  # float32 leaves near ties open
    )


def same_rates(base, way):
    """Equal except for pairs that float32 cannot distinguish; ``None`` where there are too few."""
    return all(b is None or abs(a - b) < 1e-4 for a, b in zip(base, way, strict=True))


CASES = {
    "all pairs, 13,232": (lambda scale: against_product(13_232, scale), 1.6),
    "all pairs, 50,000": (lambda scale: against_product(50_000, scale), 1.6),
    "ROC points, 5,000": (against_scikit_learn, 0.1),
    "1:1, IJB-C's size": (ijbc, 0.2),
    "1:1, IJB-C's shape": (lambda scale: ijbc(scale, 3_531), 0.2),
    "1:N, 20,000 x 100,000": (against_faiss, 1.3),
}


def versions():
    return (
        f"Python {platform.python_version()}, NumPy {np.__version__}, "
        f"scikit-learn {sklearn.__version__}"
    )


def table(results):
    columns = ("case", "plain, s", "ours, s", "time", "CPU time", "aim", "memory, MB", "equal")
    shown = Table(*columns)
    for result in results:
        shown.add_row(
            result.case,
            f"{statistics.median(result.base_seconds):.2f}",
            f"{statistics.median(result.seconds):.2f}",
            f"{result.ratio:.2f} x",
            f"{result.cpu_ratio:.2f} x",
            f"{result.aim} {'reached' if result.ratio <= result.aim else 'missed'}",
            f"{result.megabytes:.0f}",
            "yes" if result.equal else "NO",
        )
    return shown


def append(path, results, options):
    rows = [
        {
            "date": datetime.date.today().isoformat(),
            "cpu": machine(),
            "versions": versions(),
            "case": result.case,
            "scale": options.scale,
            "rounds": options.rounds,
            "load_before": f"{result.load[0]:.2f}",
            "load_after": f"{result.load[1]:.2f}",
            "plain_seconds": f"{statistics.median(result.base_seconds):.3f}",
            "seconds": f"{statistics.median(result.seconds):.3f}",
            "ratio": f"{result.ratio:.4f}",
            "plain_cpu_seconds": f"{statistics.median(result.base_cpu):.3f}",
            "cpu_seconds": f"{statistics.median(result.cpu):.3f}",
            "cpu_ratio": f"{result.cpu_ratio:.4f}",
            "aim": result.aim,
            "megabytes": f"{result.megabytes:.0f}",
            "equal": result.equal,
        }
        for result in results
    ]
    append_rows(path, rows)


if __name__ == "__main__":
    main()
