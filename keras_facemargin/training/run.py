"""Trains by a recipe: on one device, on all devices of a machine, or on several workers.

`train` is the function in Python. `run` is the command `facemargin train`: it makes the strategy,
starts the workers and shows the result.
"""

import contextlib
import csv
import hashlib
import importlib.util
import inspect
import io
import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from keras_facemargin.callbacks import ExactResume, RestoreBestByPairs, StepBar
from keras_facemargin.classifier import MarginClassifier
from keras_facemargin.data import open_faces
from keras_facemargin.data.faces import Faces
from keras_facemargin.embedder import build_embedder
from keras_facemargin.files import atomic_write, exclusive, full_disk_names, read_text
from keras_facemargin.fitting import worker_of
from keras_facemargin.heads import margins_by_class_size
from keras_facemargin.images import Crop
from keras_facemargin.saving import save_model
from keras_facemargin.training.arguments import BY_CLASS_SIZE, class_of
from keras_facemargin.training.document import read_document
from keras_facemargin.training.recipe import Recipe, read_recipe
from keras_facemargin.training.validation import fingerprint, split_for_validation
from keras_facemargin.zoo import load_embedder

_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
_PARENT = "KERAS_FACEMARGIN_PARENT"  # the process that started this worker
History = dict[str, list[float]]


def run(
    file: Path,
    output: Path,
    *,
    devices: str = "1",
    workers: int = 1,
    changes: Sequence[str] = (),
    tensorboard: bool = False,
) -> int:
    """The command: trains by the recipe in a file and shows the epochs.

    Args:
        file: the recipe.
        output: folder for the results.
        devices: number of GPUs, or of logical CPU devices without a GPU; "all": every GPU.
        workers: processes on this machine. The environment variable TF_CONFIG of TensorFlow makes
            this process a worker among several machines.
        changes: as `read_recipe`.
        tensorboard: as `train`.

    Returns:
        int, the exit code: 0, or the code of the first worker that failed.

    Raises:
        ValueError, OSError: as `read_recipe` and `train`.
        ImportError: as `train`.
    """
    recipe = read_recipe(file, changes)
    if tensorboard:
        _require_tensorboard()
    again = [str(file), "--output", str(output), "--devices", devices]
    again += ["--tensorboard"] * tensorboard
    again += [word for change in changes for word in ("--set", change)]
    again = [sys.executable, "-m", "keras_facemargin", "train", *again]
    if workers > 1:
        return _start_workers(again, workers)
    if (devices != "1" or "TF_CONFIG" in os.environ) and _ONEDNN not in os.environ:
        # On CPUs oneDNN's convolutions fail on a replica without images. TensorFlow reads the
        # variable at its import, so the command must start again.
        return _start_again(again, {**os.environ, _ONEDNN: "0"})
    _end_with_parent()
    strategy = _strategy(devices)
    history = train(recipe, output, strategy, tensorboard=tensorboard)
    if strategy is None or worker_of(strategy)[0] == 0:
        _show(history, Path(output))
    return 0


def train(
    recipe: Recipe,
    directory: str | os.PathLike[str],
    strategy: Any = None,
    *,
    progress: bool = True,
    tensorboard: bool = False,
) -> History:
    """Starts the run of a recipe, or continues a stopped run.

    In `directory`: `recipe.toml`, the recipe of the run; `checkpoints/` of `ExactResume`;
    `steps.csv`, the loss and accuracy of the epoch after each step; at the end `history.csv` by
    epoch, `embedder.keras` to use and `classifier.keras` to continue training. With `[validation]`
    both hold the best weights, as `RestoreBestByPairs` chooses them.

    Args:
        recipe: a `Recipe`.
        directory: folder, created if missing. It belongs to one recipe.
        strategy: `MirroredStrategy` or `MultiWorkerMirroredStrategy` of `tf.distribute`; None
            trains on one device. Each worker calls this with one shared `directory`; the first
            worker writes.
        progress: whether to show progress on standard error.
        tensorboard: whether to write event files into `directory/tensorboard`.

    Returns:
        dict, lists by epoch: "loss", "accuracy" and the figures of the validation.

    Raises:
        ValueError: the directory belongs to another recipe, other faces or another model, or is
            inside the folder of faces; as `ExactResume`, `open_faces`, `build_embedder`,
            `split_for_validation` and the classes in the recipe.
        BlockingIOError: another process trains into the directory.
        ImportError: `tensorboard` is not installed.
        OSError: a file cannot be read or written; if the disk is full, the error names the file.

    Example:

    >>> train(read_recipe("recipe.toml"), "run")["loss"]  # doctest: +SKIP
    """
    directory = Path(directory)
    if tensorboard:
        _require_tensorboard()
    _refuse_output_in_data(recipe, directory)
    first = strategy is None or worker_of(strategy)[0] == 0
    directory.mkdir(parents=True, exist_ok=True)
    with exclusive(directory) if first else contextlib.nullcontext():
        _claim(recipe, directory, first)
        classifier, history = _fit(recipe, directory, strategy, first, progress, tensorboard)
        if first:
            _write_history(directory / "history.csv", history)
            save_model(classifier.embedder, directory / "embedder.keras")
            save_model(classifier, directory / "classifier.keras")
    return history


def _refuse_output_in_data(recipe: Recipe, directory: Path) -> None:
    """The next start would read a run in the folder of faces as an identity."""
    data = (recipe.file.parent / recipe.settings.data.path).resolve()
    if data.is_dir() and directory.resolve().is_relative_to(data):
        raise ValueError(
            "The output folder must not be inside the folder of faces, whose folders are "
            f"identities. Received: {directory} in {data}. Choose another folder."
        )


def _claim(recipe: Recipe, directory: Path, first: bool) -> None:
    """Writes the recipe into a new directory; compares it with the recipe of an existing run."""
    copy = directory / "recipe.toml"
    if copy.exists():
        theirs = read_document(copy)[1]
        if theirs != recipe.document:
            raise ValueError(
                "A run continues with the recipe that it started with. Received: "
                f"{recipe.file}, which differs from {copy}: "
                f"{_differences(recipe.document, theirs)}. Choose another folder, or restore the "
                "recipe and every --set."
            )
    elif first:
        with atomic_write(copy) as stream:
            stream.write(recipe.text)


def _differences(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """The keys that differ, with both values."""
    flat = [dict(_flat(document)) for document in (ours, theirs)]
    texts = [
        f"{key} = {flat[0].get(key, 'missing')!r} (there {flat[1].get(key, 'missing')!r})"
        for key in {**flat[0], **flat[1]}
        if key not in flat[0] or key not in flat[1] or flat[0][key] != flat[1][key]
    ]
    return ", ".join(texts)


def _flat(document: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _fit(
    recipe: Recipe, directory: Path, strategy: Any, first: bool, progress: bool, tensorboard: bool
) -> tuple[MarginClassifier, History]:
    """The trained classifier and the history of all epochs."""
    settings, place = recipe.settings, recipe.file.parent
    keras.utils.set_random_seed(settings.seed)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(settings.dtype_policy)
    try:
        with _scope(strategy):
            embedder = _build(recipe, place)
            depends_on = _model_digest(recipe, embedder)
            faces = open_faces(
                place / settings.data.path,
                image_size=Crop.of_embedder(embedder),
                on_bad=settings.data.on_bad,
            )
            pairs = None
            if settings.validation is not None:
                faces, pairs = split_for_validation(
                    faces, settings.validation, place=place, seed=settings.seed
                )
            steps = math.ceil(len(faces) / settings.batch_size)
            head = _head(recipe, faces)
            classifier = MarginClassifier(embedder, head)
            classifier.compile(_optimizer(recipe, steps))
    finally:
        keras.config.set_dtype_policy(policy)
    best = [] if pairs is None else [RestoreBestByPairs(pairs)]
    if pairs is not None and not isinstance(pairs, tuple):
        depends_on["validation"] = fingerprint(pairs)
    resume = ExactResume(
        directory / "checkpoints", every=settings.save_every, remember=best, depends_on=depends_on
    )
    augmentation = settings.augmentation
    data = faces.dataset(
        settings.batch_size,
        training=True,
        seed=settings.seed,
        augmentation=augmentation
        and [_make(recipe, "augmentation", each) for each in augmentation],
        start=resume.start,
    )
    callbacks = [
        _make(recipe, name, table)
        for name in ("margin_ramp", "scale_ramp")
        if (table := getattr(settings, name)) is not None
    ]
    callbacks += best  # before those that show its figures
    with contextlib.ExitStack() as stack:
        callbacks.append(stack.enter_context(StepBar(settings.epochs * steps, progress and first)))
        if first:
            log = _StepLog(directory / "steps.csv", resume.start)
            callbacks.append(stack.enter_context(log))
        if first and tensorboard:
            callbacks.append(
                keras.callbacks.TensorBoard(directory / "tensorboard", write_graph=False)
            )
        # The last: a step that a checkpoint holds has its line.
        history = classifier.fit(
            data,
            epochs=settings.epochs,
            shuffle=False,
            verbose=0,
            callbacks=[*callbacks, resume],
        ).history
    return classifier, {name: history[name] for name in dict.fromkeys(["loss", *history])}


def _head(recipe: Recipe, faces: Faces) -> Any:
    """The head of the recipe, for the people of `faces`."""
    arguments = recipe.settings.head
    margin = arguments.get("margin")
    if isinstance(margin, dict):
        counts = np.bincount(faces.labels, minlength=faces.num_classes)
        arguments = {**arguments, "margin": margins_by_class_size(counts, margin[BY_CLASS_SIZE])}
    return _make(recipe, "head", arguments, num_classes=faces.num_classes)


def _model_digest(recipe: Recipe, embedder: keras.Model) -> dict[str, str]:
    """The digest of a given model's weights, on which the run depends."""
    if recipe.settings.embedder.model is None:
        return {}
    digest = hashlib.sha256()
    for weight in embedder.get_weights():
        digest.update(f"{weight.shape} {weight.dtype}".encode() + weight.tobytes())
    return {"embedder.model": digest.hexdigest()}


def _write_history(file: Path, history: History) -> None:
    names = list(history)
    rows = zip(*history.values(), strict=True)
    with atomic_write(file) as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["epoch", *names])
        table.writerows([epoch, *row] for epoch, row in enumerate(rows, 1))


def _make(recipe: Recipe, table: str, arguments: dict[str, Any], **more: Any) -> Any:
    """An object of the class that a table names."""
    made = class_of(table, arguments.get("name"))
    given = {key: value for key, value in arguments.items() if key != "name"}
    try:
        return made(**given, **more)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{recipe.file}: [{table}]: {error}") from None


def _scope(strategy: Any) -> contextlib.AbstractContextManager[Any]:
    scope: contextlib.AbstractContextManager[Any] = (
        contextlib.nullcontext() if strategy is None else strategy.scope()
    )
    return scope


def _build(recipe: Recipe, place: Path) -> keras.Model:
    """The embedder of the recipe."""
    table = recipe.settings.embedder
    if table.model is not None:
        return load_embedder(place / table.model if table.model.endswith(".keras") else table.model)
    try:
        return build_embedder(
            table.backbone,
            table.embedding_dim,
            backbone_arguments=table.arguments,
            input_shape=(*table.crop.shape, 3),
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{recipe.file}: [embedder]: {error}") from None


def _optimizer(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer with its schedule; `steps` is the number of steps of an epoch."""
    arguments, schedule = dict(recipe.settings.optimizer), recipe.settings.schedule
    if schedule is not None:
        signature = inspect.signature(class_of("optimizer", arguments["name"]))
        rate = arguments.get("learning_rate", signature.parameters["learning_rate"].default)
        if schedule.name == "cosine":
            warmup = round(schedule.warmup_epochs * steps)
            arguments["learning_rate"] = keras.optimizers.schedules.CosineDecay(
                0.0 if warmup else rate,
                recipe.settings.epochs * steps - warmup,
                warmup_target=rate if warmup else None,
                warmup_steps=warmup,
            )
        else:
            milestones = schedule.milestones or []
            arguments["learning_rate"] = keras.optimizers.schedules.PiecewiseConstantDecay(
                [round(epoch * steps) for epoch in milestones],
                [rate * schedule.factor**n for n in range(len(milestones) + 1)],
            )
    return _make(recipe, "optimizer", arguments)


class _StepLog(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """A line for each step. A resumed run removes the lines after its checkpoint."""

    def __init__(self, file: Path, start: tuple[int, int]) -> None:
        super().__init__()
        self._file, self._start = file, start

    def __enter__(self) -> "_StepLog":
        lines = []
        if self._file.exists():
            text = read_text(self._file, "the steps of a training run")
            lines = [
                line
                for line in list(csv.reader(io.StringIO(text)))[1:]
                if len(line) == 4
                and (line[0] + line[1]).isdecimal()
                and (int(line[0]), int(line[1])) < self._start
            ]
        with atomic_write(self._file) as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerows([["epoch", "step", "loss", "accuracy"], *lines])
        self._stream = self._file.open("a", buffering=1)
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        with full_disk_names(self._file):
            self._stream.close()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        with full_disk_names(self._file):
            self._stream.write(f"{self._epoch},{batch},{logs['loss']:.9g},{logs['accuracy']:.9g}\n")


def _require_tensorboard() -> None:
    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError(
            "TensorBoard is not installed. Received: --tensorboard. Install it with `pip install "
            "tensorboard`, or read history.csv and steps.csv."
        )


def _strategy(devices: str) -> Any:
    """None for one device; with TF_CONFIG the strategy of this worker."""
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
        raise ValueError(
            f"--devices must be at most the GPUs of this machine, {len(gpus)}. Received: {count}"
        )
    kind = "GPU" if gpus else "CPU"
    return tf.distribute.MirroredStrategy([f"{kind}:{index}" for index in range(count)])


def _start_again(command: list[str], environment: dict[str, str]) -> int:
    """Replaces this process, so that a signal to it reaches the training."""
    if os.name == "nt":  # where exec returns to the shell at once
        return subprocess.run(command, env=environment, check=False).returncode
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, environment)


def _start_workers(command: list[str], count: int) -> int:
    """Runs the command in several processes; the exit code of the first that fails, or 0."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for index in range(count):
            task = {"type": "worker", "index": index}
            config = json.dumps({"cluster": {"worker": addresses}, "task": task})
            environment = {**os.environ, "TF_CONFIG": config, _PARENT: str(os.getpid())}
            environment.setdefault(_ONEDNN, "0")
            processes.append(subprocess.Popen(command, env=environment))
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


def _end_with_parent() -> None:
    """Ends this worker if its parent process is killed; it would keep the folder locked."""
    if _PARENT not in os.environ or os.name == "nt":
        return
    parent = int(os.environ[_PARENT])

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _show(history: History, output: Path) -> None:
    """Prints the epochs and draws them."""
    columns = {"loss": "Loss", "accuracy": "Accuracy without margin"}
    table = Table("Epoch", *(columns.get(name, name) for name in history))
    for epoch, values in enumerate(zip(*history.values(), strict=True), 1):
        table.add_row(
            str(epoch),
            *(
                f"{value:.4f}" if name == "loss" else f"{value:.2%}"
                for name, value in zip(history, values, strict=True)
            ),
        )
    console = Console()
    console.print(table)
    files = ["embedder.keras", "classifier.keras", "history.csv", "steps.csv"]
    if importlib.util.find_spec("matplotlib") is not None:  # the extra `plots`
        _draw(history, output / "history.png")
        files.append("history.png")
    console.print(f"{output}/{', '.join(files)}", markup=False, highlight=False, soft_wrap=True)


def _draw(history: History, file: Path) -> None:
    import matplotlib.figure

    epochs = range(1, len(history["loss"]) + 1)
    figure = matplotlib.figure.Figure(figsize=(4 * len(history), 3), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(history)), history, strict=True):
        axes.plot(epochs, history[name], marker=".")
        images = ", training images" if name in ("loss", "accuracy") else ""
        axes.set(xlabel="epoch", ylabel=f"{name}{images}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    with full_disk_names(file):
        figure.savefig(file, dpi=120)
