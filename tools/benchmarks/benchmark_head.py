"""The cost of a head: time and memory of a step over many classes, against its peers.

    python tools/benchmarks/benchmark_head.py
    python tools/benchmarks/benchmark_head.py --cases dense blockwise --csv docs/benchmark_head.csv
    python tools/benchmarks/benchmark_head.py --cases peers --peer-python OTHER/bin/python

| case | ours | against |
| --- | --- | --- |
| dense | `CosFace(blockwise=False)`, 10,000 and 100,000 classes | Keras' Dense + cross-entropy |
| blockwise | `CosFace(blockwise=True)`, 100,000 classes | the same |
| million | a step of `fit` with SGD momentum, 1,000,000 classes | its four matrix products alone |
| sampled | the same step with `sample_rate=0.1` | the step over all |
| peers | `CosFace`, `ArcFace`, 10,000 and 100,000 classes | pytorch-metric-learning's on torch |

A step is the loss of 128 embeddings of 512 numbers and its gradients by embeddings and weights,
float32, on TensorFlow's graph, on TensorFlow with XLA, and on jax. The two ways of a row take
turns, each in its own process; the time is the median of the rounds, the ratio the median of the
rounds' ratios. Memory is the highest resident size during the steps (including the first one, which
compiles) minus that before them and minus the gradient of the prototypes. Nothing is subtracted for
a step of `fit`: its figure includes momentum and gradient. Processor time, over all threads, is
printed as a second ratio: other programs on the machine disturb it less.

pytorch-metric-learning is not a dependency: make an environment with it and with torch,
`python -m venv OTHER && OTHER/bin/pip install torch pytorch-metric-learning`, and name its Python.
"""

import argparse
import contextlib
import datetime
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

BATCH = 128  # samples a step
BACKENDS = ("tensorflow graph", "tensorflow xla", "jax")
MIB = 2**20


def rows(options):
    """(case, classes, dim, our way, its backend, the other way, its backend, aims) of the table."""
    if "dense" in options.cases:
        for classes in (10_000, 100_000):
            for on in BACKENDS:
                yield "dense", classes, 512, "CosFace kept", on, "Dense", on, (1.05, None)
    if "blockwise" in options.cases:
        for on, aim in zip(BACKENDS, (1.1, 0.95, 0.95), strict=True):
            yield "blockwise", 100_000, 512, "CosFace blockwise", on, "Dense", on, (aim, 64)
    if "million" in options.cases:
        for dim in (256, 512):
            on = "tensorflow graph"
            yield "million", 1_000_000, dim, "fit", on, "products", on, (1.5, None)
    if "sampled" in options.cases:
        on = "tensorflow graph"
        yield "sampled", 1_000_000, 256, "fit sampled", on, "fit", on, (0.25, None)
    if "peers" in options.cases:
        for head in ("CosFace", "ArcFace"):
            for classes in (10_000, 100_000):
                for on in BACKENDS:
                    aims = (1.0, None)
                    yield "peers", classes, 512, head, on, f"pml {head}", "torch", aims


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    cases = ("dense", "blockwise", "million", "sampled", "peers")
    parser.add_argument("--cases", nargs="+", choices=cases, default=cases[:4])
    parser.add_argument("--classes", type=int, help="instead of a row's own number")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peer-python", default=sys.executable, help="has pytorch-metric-learning")
    parser.add_argument("--csv", type=Path, help="file to append the figures to")
    parser.add_argument("--worker", nargs=5, metavar=("WAY", "ON", "B", "C", "D"), help="internal")
    options = parser.parse_args(arguments)
    if options.worker:
        way, on, *sizes = options.worker
        return serve(way, on, *map(int, sizes))
    return compare(options)


def compare(options):
    from rich.console import Console
    from rich.table import Table
    from side_by_side import append_rows, machine

    console = Console()
    console.print(machine())
    columns = "case|classes|on|ms|against|ms |time ratio|CPU ratio|aim|MiB beside|MiB there"
    table = Table(*columns.split("|"))
    for case, classes, dim, way, on, base, base_on, (aim, most) in rows(options):
        classes = options.classes or classes
        load = os.getloadavg()[0]
        with (
            console.status(f"{case}: {way} against {base}, {classes:,} classes, {on}"),
            worker(way, on, classes, dim) as ours,
            worker(base, base_on, classes, dim, options.peer_python) as theirs,
        ):
            turns = [(ours.step(), theirs.step()) for _ in range(options.rounds)]
            peaks = ours.peak(), theirs.peak()
        seconds, base_seconds = (
            statistics.median(turn[i]["seconds"] for turn in turns) for i in (0, 1)
        )
        ratio, cpu_ratio = (
            statistics.median(a[name] / b[name] for a, b in turns) for name in ("seconds", "cpu")
        )
        # A step of `fit` counts whole: its momentum is new, too, and a sampled one has no gradient
        # of all prototypes.
        gradient = 0 if case in ("million", "sampled") else classes * dim * 4
        beside, base_beside = ((peak - gradient) / MIB for peak in peaks)
        aims = f"{aim}" if most is None else f"{aim}, {most} MiB"
        table.add_row(
            *(case, f"{classes:,} x {dim}", on, f"{1e3 * seconds:.0f}", f"{base} on {base_on}"),
            *(f"{1e3 * base_seconds:.0f}", f"{ratio:.2f}", f"{cpu_ratio:.2f}", aims),
            *(f"{beside:.0f}", f"{base_beside:.0f}"),
        )
        if options.csv:
            row = {
                "date": datetime.date.today().isoformat(),
                "cpu": machine(),
                "load_before": f"{load:.2f}",
                "case": case,
                "way": way,
                "on": on,
                "classes": classes,
                "dim": dim,
                "batch": BATCH,
                "rounds": options.rounds,
                "ms": f"{1e3 * seconds:.1f}",
                "against": f"{base} on {base_on}",
                "against_ms": f"{1e3 * base_seconds:.1f}",
                "time_ratio": f"{ratio:.3f}",
                "cpu_ratio": f"{cpu_ratio:.3f}",
                "mib_beside": f"{beside:.0f}",
                "against_mib": f"{base_beside:.0f}",
            }
            append_rows(options.csv, [row])
    console.print(table)


class Worker:
    def __init__(self, process):
        self.process = process
        self._answer()  # ready

    def step(self):
        return self._ask("step")

    def peak(self):
        return self._ask("peak")["peak"]

    def _ask(self, what):
        print(what, file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(
            "A way did not finish, its last words are above: "
            f"{' '.join(map(str, self.process.args))}"
        )


@contextlib.contextmanager
def worker(way, on, classes, dim, python=sys.executable, samples=BATCH):
    command = [python, __file__, "--worker", way, on, *map(str, (samples, classes, dim))]
    environment = {
        **os.environ,
        "KERAS_BACKEND": on.split()[0],
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONWARNINGS": "ignore",
    }
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield Worker(process)
    finally:
        process.kill()
        process.wait()


def serve(way, on, samples, classes, dim):
    """Answers "step" and "peak" on the standard input until it ends."""
    import gc

    make = maker(way, on)
    make(samples, 20 * samples, dim)()  # loads all that is loaded once; a tenth holds all people
    step = make(samples, classes, dim)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the highest resident size starts again
    before = resident("VmRSS")
    step()
    step()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        if line.strip() == "peak":
            print(json.dumps({"peak": resident("VmHWM") - before}), flush=True)
            continue
        start, cpu = time.perf_counter(), time.process_time()
        step()
        seconds = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
        print(json.dumps(seconds), flush=True)


def resident(name):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {name}: this benchmark needs Linux.")


def batch(samples, classes, dim):
    import numpy as np

    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(samples, dim)).astype("float32")
    return embeddings, rng.integers(0, classes, samples).astype("int32")


def drawn(shape, dtype=None):
    """An initializer without a copy, which would be memory free for the step to use."""
    import numpy as np

    values = np.random.default_rng(1).standard_normal(shape, dtype="float32")
    values *= 0.02
    return values


def maker(way, on):
    """`make(samples, classes, dim)` gives a function that does one step of this way."""
    if way.startswith("pml "):
        return torch_peer(way.removeprefix("pml "))
    if way == "fit":
        return fit
    if way == "fit sampled":
        return functools.partial(fit, sample_rate=0.1)
    if way == "products":
        return products

    def make(samples, classes, dim):
        return gradients(*layer_and_loss(way, classes, dim), on, batch(samples, classes, dim))

    return make


def layer_and_loss(way, classes, dim):
    import keras

    from keras_facemargin import heads

    if way == "Dense":
        layer = keras.layers.Dense(classes, kernel_initializer=drawn)

        def loss(x, y):
            logits = layer(x)
            losses = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
            return keras.ops.mean(losses)
    else:
        name, _, mode = way.partition(" ")
        blockwise = {"": None, "kept": False, "blockwise": True}[mode]
        layer = getattr(heads, name)(classes, prototypes_initializer=drawn, blockwise=blockwise)

        def loss(x, y):
            return keras.ops.mean(layer.compute_losses(x, y, training=True)[0])

    layer.build((None, dim))
    return layer, loss


def gradients(layer, loss, on, embeddings_and_labels):
    import keras

    x, y = (keras.ops.convert_to_tensor(array) for array in embeddings_and_labels)
    variables = layer.trainable_variables
    if on == "jax":
        import jax

        def pure(x, values):
            with keras.StatelessScope(state_mapping=zip(variables, values, strict=True)):
                return loss(x, y)

        run = jax.jit(jax.value_and_grad(pure, argnums=(0, 1)))
        return lambda: jax.block_until_ready(run(x, [v.value for v in variables])) and None
    import tensorflow as tf

    @tf.function(jit_compile=on == "tensorflow xla")
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(x, y)
        found = tape.gradient(value, [x, *(v.value for v in variables)])
        return value, [tf.convert_to_tensor(gradient) for gradient in found]

    return lambda: float(run(x)[0]) and None


def fit(samples, classes, dim, **arguments):
    """One step of `fit`, whole: the embedder is the embeddings themselves."""
    import keras

    from keras_facemargin import CosFace, MarginClassifier

    images = keras.Input((1, 1, dim))
    embedder = keras.Model(images, keras.layers.Flatten()(images))
    classifier = MarginClassifier(
        embedder, CosFace(classes, prototypes_initializer=drawn, **arguments)
    )
    classifier.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    x, y = batch(samples, classes, dim)
    x = x[:, None, None]
    return lambda: classifier.fit(x, y, batch_size=samples, verbose=0) and None


def products(samples, classes, dim):
    """The matrix products of a step that keeps none: two by all, and one for each gradient."""
    import tensorflow as tf

    x = tf.constant(batch(samples, classes, dim)[0])
    prototypes = tf.Variable(drawn((classes, dim)))
    width = min(classes, 2048)
    count = classes // width

    @tf.function
    def run():
        def turn(i, by_x, by_prototypes):
            rows = tf.slice(prototypes, [i * width, 0], [width, dim])
            first = tf.matmul(x, rows, transpose_b=True)
            with tf.control_dependencies([first]):
                again = tf.matmul(tf.identity(x), rows, transpose_b=True)
            by_rows = tf.matmul(again, x, transpose_a=True)
            return i + 1, by_x + tf.matmul(first, rows), by_prototypes + by_rows[0, 0]

        start = (0, tf.zeros_like(x), 0.0)
        return tf.while_loop(lambda i, *_: i < count, turn, start, parallel_iterations=1)[1:]

    return lambda: float(run()[1]) and None


def torch_peer(name):
    try:
        import torch
        from pytorch_metric_learning import losses
    except ImportError as error:
        raise SystemExit(
            f"The case `peers` needs pytorch-metric-learning and torch: {error}. Make an "
            "environment with both and pass --peer-python OTHER/bin/python."
        ) from None

    def make(samples, classes, dim):
        loss = getattr(losses, f"{name}Loss")(classes, dim)
        x, y = (torch.tensor(array) for array in batch(samples, classes, dim))
        x.requires_grad_()
        y = y.long()

        def step():
            loss.zero_grad()
            loss(x, y).backward()

        return step

    return make


if __name__ == "__main__":
    main()
