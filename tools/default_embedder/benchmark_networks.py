"""Measures the candidate networks for the default embedder, a row each.

    python tools/default_embedder/benchmark_networks.py training docs/default_networks.csv
    python tools/default_embedder/benchmark_networks.py latency docs/default_networks.csv \
        --published ../shared/data/weights

`training`: steps of AdamW on batches of 64 crops, in float32 and mixed bfloat16, with Keras on
TensorFlow. The rate is images for each two CPU seconds, which is images a second on two free cores.

`latency`: one crop in LiteRT as float32, float16, dynamic int8 and full int8, on one and two
threads, and in ONNX Runtime as float32 on one thread. Networks take turns, a call each; the figure
is the tenth percentile of the calls, because other work on the machine only adds time. Weights are
random: they change the embeddings, not the time. `delegate` counts the parts of the int8 file that
XNNPACK takes, and all its ops; fewer parts are better. The published files are
visassist's (LiteRT) and foamliu's (ONNX Runtime); the columns "of" are ratios to them in the same
run, which other work on the machine changes less than the times.
"""

import argparse
import csv
import time
from pathlib import Path

import keras
import networks
import numpy as np
from rich.console import Console
from rich.progress import track

from keras_facemargin.export import onnx, tflite
from keras_facemargin.export.graph import float32_embedder
from keras_facemargin.files import draft_of
from keras_facemargin.runtime.tflite import count_parts

BATCH = 64
PRECISIONS = ("float32", "float16", "dynamic_int8", "int8")
PUBLISHED = {
    "published: visassist": "visassist_mobilefacenet.tflite",
    "published: foamliu": "foamliu_MobileFaceNet.onnx",
}
console = Console()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("part", choices=["training", "latency"])
    parser.add_argument("table", type=Path, help="CSV; its other columns are kept")
    parser.add_argument("--networks", nargs="+", default=list(networks.CANDIDATES))
    parser.add_argument("--rounds", type=int, help="10 for training, 100 for latency")
    parser.add_argument("--published", type=Path, help="folder of the published files")
    options = parser.parse_args()
    if options.part == "training":
        for name in track(options.networks, "Training steps", console=console):
            write(options.table, {name: measure_training(name, options.rounds or 10)})
    else:
        rounds = options.rounds or 100
        write(options.table, measure_latency(options.networks, rounds, options.published))


def measure_training(name, rounds):
    """Columns of a network: its size and its training rate."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, 112, 112, 3)).astype("float32")
    targets = rng.normal(size=(BATCH, networks.EMBEDDING_DIM)).astype("float32")
    saved = networks.plain(networks.CANDIDATES[name]())
    found = {
        "parameters": saved.count_params(),
        "million_multiply_adds": f"{networks.multiply_adds(saved) / 1e6:.1f}",
    }
    for policy in ("float32", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        network = networks.CANDIDATES[name]()
        keras.config.set_dtype_policy("float32")
        network.compile(keras.optimizers.AdamW(1e-3), loss=keras.losses.CosineSimilarity())
        for _ in range(3):
            network.train_on_batch(images, targets)
        costs = []
        for _ in range(rounds):
            start = time.process_time()
            network.train_on_batch(images, targets)
            costs.append((time.process_time() - start) / BATCH)
        found[f"train_{policy}"] = round(2 / float(np.median(costs)))
        keras.backend.clear_session()
    return found


def measure_latency(names, rounds, published):
    """Columns of each network: milliseconds of one crop by file and threads."""
    calls, found = {}, {}
    crop = np.random.default_rng(0).integers(0, 256, (1, 112, 112, 3))
    for name in track(names, "Conversion", console=console):
        network = float32_embedder(networks.plain(networks.CANDIDATES[name]()))
        found[name] = {}
        for precision in PRECISIONS:
            ranges = representative() if precision == "int8" else None
            content = tflite.convert(network, precision, ranges)
            for threads in (1, 2):
                calls[name, f"{precision}_{threads}"] = litert(content, crop, threads)
            if precision == "int8":
                parts, _ = count_parts(content)
                found[name]["delegate"] = f"{parts} of {len(tflite.list_ops(content))}"
        calls[name, "onnx_1"] = onnx_runtime(onnx.convert(network), crop)
    if published is not None:
        for name, file in PUBLISHED.items():
            found[name] = {}
            if file.endswith(".onnx"):
                calls[name, "onnx_1"] = onnx_runtime((published / file).read_bytes(), crop)
                continue
            for threads in (1, 2):
                content = (published / file).read_bytes()
                calls[name, f"float32_{threads}"] = litert(content, crop, threads)
    times = {key: [] for key in calls}
    for number in track(range(rounds + 5), "Calls", console=console):
        for key, call in calls.items():
            call()  # the caches of the processor hold another network
            start = time.perf_counter()
            call()
            if number >= 5:
                times[key].append(1e3 * (time.perf_counter() - start))
    quick = {key: np.quantile(values, 0.1) for key, values in times.items()}
    for (name, column), value in quick.items():
        found[name][f"ms_{column}"] = f"{value:.3f}"
        for other, file in PUBLISHED.items():
            own = "onnx_1" if file.endswith(".onnx") else "float32_1"
            if column == own and published is not None and name != other:
                found[name][f"of_{Path(file).stem}"] = f"{value / quick[other, own]:.2f}"
        if column == "int8_1":
            found[name]["int8_of_float32"] = f"{value / quick[name, 'float32_1']:.2f}"
    return found


def representative():
    """Crops that set the ranges of the activations, black and white among them."""
    images = np.random.default_rng(1).integers(0, 256, (64, 112, 112, 3)).astype("float32")
    images[0], images[1] = 0, 255
    return images


def litert(content, crop, threads):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()[0]
    interpreter.set_tensor(details["index"], crop.astype(details["dtype"]))
    interpreter.invoke()
    return interpreter.invoke


def onnx_runtime(content, crop):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    values = crop.astype("float32")
    values = values.transpose(0, 3, 1, 2).copy() if image.shape[1] == 3 else values
    return lambda: session.run(None, {image.name: values})


def write(path, found):
    """Puts the columns of each network into the table."""
    rows = {}
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows = {row["network"]: row for row in csv.DictReader(file)}
    for name, columns in found.items():
        rows.setdefault(name, {"network": name}).update(columns)
    fields = list(dict.fromkeys(field for row in rows.values() for field in row))
    with draft_of(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, fields, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows.values())


if __name__ == "__main__":
    main()
