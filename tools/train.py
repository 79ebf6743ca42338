"""Train by a recipe file on one device, on all of this machine, or on several workers.

    python tools/train.py recipe.toml --output run
    python tools/train.py recipe.toml --output run --devices all
    python tools/train.py recipe.toml --output run --workers 2

The same command goes on where the last one was stopped, by whatever means, and on other numbers of
devices and workers as well. `docs/training.md` declares the recipe, `docs/distributed.md` says what
holds on several devices.

Several machines: start the first form on each of them with TF_CONFIG set as TensorFlow documents
it, and with --output on a file system that all of them see. `--workers N` does so with N processes
on this machine, to try it out; if one of them fails, the others are ended.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path, help="TOML file, see docs/training.md")
    parser.add_argument("--output", type=Path, required=True, help="folder for all that is made")
    parser.add_argument(
        "--devices",
        default="1",
        help="N: GPUs, or where there is none logical CPU devices; all: every GPU (default: 1)",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes on this machine")
    options = parser.parse_args()
    if not (options.devices == "all" or (options.devices.isdecimal() and int(options.devices))):
        parser.error(f"--devices must be a positive number or all. Received: {options.devices}")
    if options.workers < 1:
        parser.error(f"--workers must be at least 1. Received: {options.workers}")
    if options.workers > 1:
        sys.exit(start_workers(options.workers))
    # On CPUs oneDNN's convolutions fail on a replica without images; on one device it is faster.
    if options.devices != "1" or "TF_CONFIG" in os.environ:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        run(options)
    except (ValueError, OSError) as error:
        from keras_facemargin.cli import sentence

        sys.exit(f"Error: {sentence(error)}")


def run(options):
    from keras_facemargin.recipe import read_recipe, train

    recipe = read_recipe(options.recipe)
    strategy = make_strategy(options.devices)
    history = train(recipe, options.output, strategy)
    if strategy is not None:
        from keras_facemargin.fitting import worker_of

        if worker_of(strategy)[0]:
            return
    show(history, options.output)


def make_strategy(devices):
    """None for one device; of several workers this process is one if TF_CONFIG says so."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    count = max(1, len(gpus)) if devices == "all" else int(devices)
    if not gpus and count > 1:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * count,
        )
    if "TF_CONFIG" in os.environ:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if count == 1:
        return None
    if gpus and count > len(gpus):
        raise ValueError(f"--devices is more than this machine has. Received: {count} of {gpus}")
    kind = "GPU" if gpus else "CPU"
    return tf.distribute.MirroredStrategy([f"{kind}:{index}" for index in range(count)])


def start_workers(count):
    """Runs this command in so many processes; the exit code of the first that fails, or 0."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    place = sys.argv.index(next(a for a in sys.argv if a.startswith("--workers")))
    rest = sys.argv[1:place] + sys.argv[place + (1 if "=" in sys.argv[place] else 2) :]
    processes = []
    try:
        for index in range(count):
            task = {"type": "worker", "index": index}
            config = json.dumps({"cluster": {"worker": addresses}, "task": task})
            processes.append(
                subprocess.Popen(
                    [sys.executable, sys.argv[0], *rest], env={**os.environ, "TF_CONFIG": config}
                )
            )
        while True:
            codes = [process.poll() for process in processes]
            failed = [code for code in codes if code]
            if failed or None not in codes:
                return failed[0] if failed else 0
            time.sleep(0.2)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def show(history, output):
    """Prints the epochs and draws them."""
    import matplotlib.figure
    from rich.console import Console
    from rich.table import Table

    from keras_facemargin.files import full_disk_names

    epochs = range(1, len(history["loss"]) + 1)
    table = Table("Epoch", "Loss", "Accuracy without margin")
    for epoch, loss, accuracy in zip(epochs, history["loss"], history["accuracy"], strict=True):
        table.add_row(str(epoch), f"{loss:.4f}", f"{accuracy:.2%}")
    console = Console()
    console.print(table)
    figure = matplotlib.figure.Figure(figsize=(8, 3), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(epochs, history[name], marker=".")
        axes.set(xlabel="epoch", ylabel=f"{name}, training images")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    with full_disk_names(output / "history.png"):
        figure.savefig(output / "history.png", dpi=120)
    console.print(f"{output}/embedder.keras, classifier.keras, history.csv, history.png, steps.csv")


if __name__ == "__main__":
    main()
