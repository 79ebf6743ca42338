"""Exact resume of a run that was killed at any step.

**Files.** `DIRECTORY/EPOCH-STEP-DIGEST.checkpoint`, the newest two. Each is a `.npz` file (numbers
only, opened without pickle). The name holds a digest of its bytes, which detects later damage. A
checkpoint is written under a draft's name, flushed to the disk and renamed: it is complete, and a
full disk or a kill during the write costs only the draft.
"""

import ast
import contextlib
import errno
import hashlib
import inspect
import json
import operator
import os
import shutil
import warnings
import zipfile
from pathlib import Path

import keras
import numpy as np

from keras_facemargin.backend.random_state import random_state, set_random_state
from keras_facemargin.backend.trainer import sync_weights
from keras_facemargin.callbacks.workers import gather_from_workers
from keras_facemargin.files import FULL, exclusive
from keras_facemargin.fitting import worker_of

_KEPT = 2  # the newest and the previous one, which replaces a damaged newest
_ENDING = ".checkpoint"
_DIGITS = 16  # of the SHA-256, in the name
_CHUNK = 2**24
_SAMPLED = 64  # images of an array in its fingerprint
_STATE = {"place", "steps", "history", "memories", "model", "optimizer", "metric"}


class ExactResume(keras.callbacks.Callback):
    """Saves the complete training state, and resumes the next run of the same program from it.

    ```
    resume = ExactResume("run", every=500)
    data = faces.dataset(128, training=True, start=resume.start)
    classifier.fit(data, epochs=20, shuffle=False, callbacks=[..., resume])
    ```

    If a run is killed at any step, the same program continues it, and its losses equal those of an
    uninterrupted run. A checkpoint holds weights, optimizer, learning rate, the heads' state
    (annealing counters, averages), the state of every `SeedGenerator` (dropout) and of torch's own
    generators, the metrics of the current epoch, the epoch and the step. Ramps and the order of the
    data follow from epoch and step. `history` continues too. On one device the losses are equal to
    the last bit where the backend's operations are; on another number of replicas, up to the
    rounding of sums. The program repeats the arguments of constructors, such as the seed of an
    `ElasticFace`.

    A checkpoint does not depend on devices: a checkpoint of k replicas or workers continues on n.
    All workers must see the same directory; the first one writes.

    Other callbacks with a memory (`EarlyStopping`, `ReduceLROnPlateau`, `ModelCheckpoint`) continue
    if they are in `remember`: their numbers, texts and lists of arrays are saved. Put this callback
    last, because it saves the results of the callbacks before it.

    A run resumes with its own data. Each checkpoint keeps a fingerprint of the data, and other data
    is refused. The fingerprint of `faces.dataset` and `faces.py_dataset` is `Faces.fingerprint`
    with the batch size, the seed, the sampler and the augmentation; of arrays it is their shapes,
    all labels and some images; of another `tf.data.Dataset` its element spec and number of batches;
    of another stream its number of batches. Your own stream can add to it with a method
    `data_fingerprint`, which returns a dict of texts and numbers. The program describes its initial
    weights in `depends_on`. A checkpoint of an earlier version, which has no fingerprint, continues
    with any data.

    Keras' `BackupAndRestore` keeps weights, optimizer and epoch, but not the state of random
    numbers, the metrics or the callbacks' memory. It repeats the steps of an unfinished epoch with
    weights that those steps have already changed.

    Args:
        directory: folder for the checkpoints, created if missing.
        every: steps between two checkpoints within an epoch; None saves at the end of each epoch
            only.
        remember: callbacks whose memory is saved.
        depends_on: dict of texts and numbers that must be equal when the run resumes, such as the
            digest of a pretrained model.

    Attributes:
        start: `(epoch, step)` where the data must begin, (0, 0) for a fresh run.

    Raises:
        ValueError: `every` is not a positive integer; the checkpoint belongs to another model or to
            other data; the data starts elsewhere, or has no start (arrays) and `every` is given;
            the model is not a `MarginClassifier`; every checkpoint is damaged; workers find
            different checkpoints; the folder has changed since this object was made.
        BlockingIOError: another process trains with this folder.
        OSError: the disk is full; the earlier checkpoints are complete.

    Example:

    >>> ExactResume("run", every=100).start
    (0, 0)
    """

    def __init__(self, directory, *, every=None, remember=(), depends_on=None):
        super().__init__()
        if every is not None and (not isinstance(every, int) or every < 1):
            raise ValueError(
                "`every` must be a positive integer, the steps between two checkpoints, or None. "
                f"Received: every={every!r}"
            )
        self.directory = Path(directory)
        self.every = every
        self.remember = list(remember)
        self.depends_on = dict(depends_on or {})
        self._listed = _listed(self.directory)
        self._found = _newest(self.directory)
        self._history = self._found.state["history"] if self._found else {}
        self.start = self._found.place if self._found else (0, 0)

    def on_train_begin(self, logs=None):
        if not hasattr(self.model, "start_at"):
            raise ValueError(
                "ExactResume resumes a MarginClassifier. "
                f"Received: a model of type {type(self.model).__name__}."
            )
        self._hold()
        self._check_data()
        self._check_workers()
        self._check_fingerprints()
        self._steps = self._found.state["steps"] if self._found else self.params.get("steps")
        if self._found:
            self._assign("model", self.model.variables)
            self._assign("optimizer", self.model.optimizer.variables)
            self.model.history.history.update(
                {name: list(values) for name, values in self._history.items()}
            )
        if self.start[1]:
            self.params["steps"] = self._steps  # for all callbacks: a short pass has another length
        self.model.start_at(*self.start, self._steps)
        if self._found and self.start[0] >= self.params["epochs"]:
            self._recall()  # a finished run: no epoch begins

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        if self._found:  # here, because `fit` has reset the metrics
            if self.start[1]:
                self._assign("metric", self.model.metrics_variables)
            self._recall()
            if not self.start[1]:
                self._end_resuming()

    def on_train_batch_begin(self, batch, logs=None):
        if self._found:
            self._end_resuming()

    def on_train_batch_end(self, batch, logs=None):
        done = batch + 1
        if self.every and done % self.every == 0 and done != self._steps:
            sync_weights(self.model)
            self._save((self._epoch, done), self.model.metrics_variables)

    def on_epoch_end(self, epoch, logs=None):
        for name, value in (logs or {}).items():
            self._history.setdefault(name, []).append(float(value))
        self._steps = self.params.get("steps") or self._steps
        self._save((epoch + 1, 0), [])

    def on_train_end(self, logs=None):
        self.model.start_at(0, 0, None)

    def _recall(self):
        for number, callback in enumerate(self.remember):
            self._found.recall(number, callback)

    def _end_resuming(self):
        """Comes as late as the first step: torch's data loader draws random numbers before it."""
        set_random_state(self._found.list_of("random"))
        self._found = None

    def _hold(self):
        """Locks the folder until `fit` ends, and checks that it has not changed."""
        if self._writes():
            self.model.open_contexts.enter_context(exclusive(self.directory))
        if _listed(self.directory) != self._listed:
            raise ValueError(
                "An ExactResume resumes once, from the checkpoints that existed when it was made. "
                f"Received: {self.directory}, which has changed. Make a new ExactResume, and the "
                "data with its `start`."
            )

    def _writes(self):
        """Whether this process is the worker that writes."""
        strategy = getattr(self.model, "distribute_strategy", None)
        return strategy is None or worker_of(strategy)[0] == 0

    def _check_fingerprints(self):
        self._fingerprints = {"data": _fingerprint(self.model.data), "depends_on": self.depends_on}
        if not self._found:
            return
        for kind, ours in json.loads(json.dumps(self._fingerprints)).items():
            theirs = self._found.state.get(kind, {})  # an earlier version has none
            other = [name for name in ours if name in theirs and not _same(ours, theirs, name)]
            if other:
                raise ValueError(
                    "A run must resume with the data and the models of its start. Received: "
                    f"other {', '.join(other)} than those of {self._found.file}. Restore them, or "
                    "choose another folder."
                )

    def _check_data(self):
        given = getattr(self.model.data, "start", None)
        if given is None and self.start[1] == 0 and self.every is None:
            return  # the user's own pipeline, which may know its epochs
        if given is None or tuple(given) != self.start:
            raise ValueError(
                "The data must start where the checkpoint stopped. Received: data that starts at "
                f"(epoch, step) {'unknown' if given is None else tuple(given)} for a run at "
                f"{self.start} with every={self.every}. Make it with `faces.dataset(..., "
                "start=resume.start)`, or set the attribute `start` of your own dataset."
            )

    def _check_workers(self):
        """All workers must find the same checkpoint, or they would train different weights."""
        strategy = getattr(self.model, "distribute_strategy", None)
        places = gather_from_workers(strategy, self.start).astype(int).tolist()
        if any(place != places[0] for place in places):
            raise ValueError(
                "All workers must see the same folder of checkpoints. Received: checkpoints at "
                f"(epoch, step) {places} in {self.directory}. Put it on a file system that they "
                "share."
            )

    def _assign(self, kind, variables):
        ours, theirs = [_describe(variable) for variable in variables], self._found.state[kind]
        if ours != theirs:
            pairs = zip([*theirs, "none"], [*ours, "none"], strict=False)
            other = next(pair for pair in pairs if pair[0] != pair[1])
            raise ValueError(
                "A checkpoint needs the model, the optimizer and the metrics that it was saved "
                f"with. Received: {self._found.file} with {len(theirs)} variables of the {kind} "
                f"for {len(ours)}; the first that differ are {other[0]} and {other[1]}. Build the "
                "same, or choose another folder."
            )
        for number, variable in enumerate(variables):
            value = keras.ops.convert_to_numpy(variable)
            variable.assign(self._found.array(f"{kind}.{number}", like=value))

    def _save(self, place, metrics):
        variables = {
            "model": self.model.variables,
            "optimizer": self.model.optimizer.variables,
            "metric": metrics,
        }
        memories = [_memory(callback) for callback in self.remember]
        state = {
            "place": place,
            "steps": self._steps,
            "history": self._history,
            "memories": [plain for plain, _ in memories],
            **self._fingerprints,
            **{kind: [_describe(v) for v in them] for kind, them in variables.items()},
        }

        def arrays():
            yield "state", np.frombuffer(json.dumps(state).encode(), "uint8")
            for kind, them in variables.items():
                for number, variable in enumerate(them):
                    yield f"{kind}.{number}", keras.ops.convert_to_numpy(variable)
            for number, array in enumerate(random_state()):
                yield f"random.{number}", array
            for number, (_, lists) in enumerate(memories):
                for name, values in lists.items():
                    for index, value in enumerate(values):
                        yield f"memory.{number}.{name}.{index}", value

        if not self._writes():
            for _ in arrays():  # all workers must read what is summed over workers
                pass
            return
        _write(self.directory, place, arrays())
        for old in _listed(self.directory)[_KEPT:]:
            old.unlink()


class _Checkpoint:
    """A complete checkpoint.

    Raises:
        ValueError: the content is not what `ExactResume` writes.
    """

    def __init__(self, file):
        self.file = file
        with self._reading():
            if not zipfile.is_zipfile(file):  # numpy would leave the file open
                raise ValueError("it is not a zip archive")
            self.arrays = np.load(file, allow_pickle=False)
            self.state = json.loads(self.arrays["state"].tobytes())
            epoch, step = map(operator.index, self.state["place"])
            missing = _STATE - set(self.state)
            if missing:
                raise KeyError(*missing)
        self.place = epoch, step

    @contextlib.contextmanager
    def _reading(self):
        """Damage raises almost anything: KeyError, BadZipFile, TokenError, MemoryError."""
        try:
            yield
        except Exception as error:
            raise ValueError(
                f"{self.file}: must be a checkpoint that ExactResume wrote. Received: "
                f"{type(error).__name__}: {error}. Remove it to resume from the checkpoint "
                "before it."
            ) from None

    def array(self, name, like=None):
        """One array, in the type and the shape of another."""
        with self._reading():
            array = self.arrays[name]
            return array if like is None else array.view(like.dtype).reshape(like.shape)

    def list_of(self, name):
        """The arrays NAME.0, NAME.1, ..."""
        count = sum(each.rpartition(".")[0] == name for each in self.arrays.files)
        return [self.array(f"{name}.{number}") for number in range(count)]

    def recall(self, number, callback):
        """Restores the memory of a callback."""
        count = len(self.state["memories"])
        if number >= count:
            raise ValueError(
                f"`remember` must name the callbacks that it named before. Received: {number + 1} "
                f"or more for the {count} of {self.file}."
            )
        for name, value in self.state["memories"][number].items():
            if isinstance(value, dict):
                value = self.list_of(f"memory.{number}.{name}")
            setattr(callback, name, value)


def _memory(callback):
    """The memory of a callback: numbers and texts, and lists of arrays by their length."""
    arguments = inspect.signature(type(callback).__init__).parameters  # the program repeats them
    plain, lists = {}, {}
    for name, value in vars(callback).items():
        if name in arguments:
            continue
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str):
            plain[name] = value
        elif isinstance(value, list) and all(
            isinstance(each, np.ndarray | np.generic) for each in value
        ):
            plain[name], lists[name] = {"arrays": len(value)}, list(map(np.asarray, value))
    return plain, lists


def _describe(variable):
    return f"{keras.backend.standardize_dtype(variable.dtype)} {list(variable.shape)}"


def _newest(directory):
    """The newest complete checkpoint, or None if there is none."""
    damaged = []
    for file in _listed(directory):
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        if file.stem.rpartition("-")[2] != digest.hexdigest()[:_DIGITS]:
            damaged.append(str(file))
            continue
        try:
            found = _Checkpoint(file)
        except ValueError:
            damaged.append(str(file))
            continue
        if damaged:
            warnings.warn(
                "A checkpoint is damaged: its content is not what ExactResume wrote. Received: "
                f"{', '.join(damaged)}. The run resumes from the one before: {file}.",
                stacklevel=3,
            )
        return found
    if damaged:
        raise ValueError(
            "A run resumes from a complete checkpoint. Received: only damaged ones, "
            f"{', '.join(damaged)}. Remove them to start again."
        )
    return None


def _same(ours, theirs, name):
    """Whether two fingerprints agree in an entry."""
    if ours[name] == theirs[name]:
        return True
    if name != "augmentation":
        return False
    try:  # an earlier version wrote the arguments of a layer in any order
        return ast.literal_eval(ours[name]) == ast.literal_eval(theirs[name])
    except (ValueError, SyntaxError):  # "light", or an argument that is an object
        return False


def _fingerprint(data):
    """A description of the data at little cost, a dict of texts and numbers."""
    if hasattr(data, "data_fingerprint"):
        return dict(data.data_fingerprint())
    if isinstance(data, tuple):
        images, labels = data[0], data[1] if len(data) > 1 else None
        return {"images": _digest(images, _SAMPLED), "labels": _digest(labels, None)}
    known = {}
    if hasattr(data, "element_spec"):
        known["element_spec"] = str(data.element_spec)
    if hasattr(data, "cardinality") and not hasattr(data, "start"):  # a resumed pass is shorter
        known["batches"] = int(data.cardinality())
    elif hasattr(data, "__len__"):
        known["batches"] = len(data)
    return known


def _digest(array, rows=None):
    """The digest of the shape, the type and `rows` evenly spread rows, or of all rows."""
    if not hasattr(array, "shape"):
        return "none"
    digest = hashlib.sha256(f"{tuple(array.shape)} {array.dtype}".encode())
    parts = [array]
    if rows is not None:
        chosen = np.unique(np.linspace(0, len(array) - 1, rows).astype("int64"))
        parts = (array[row] for row in chosen.tolist())
    for part in parts:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(part)))
    return digest.hexdigest()


def _listed(directory):
    return sorted(directory.glob(f"*{_ENDING}"), reverse=True)


def _write(directory, place, arrays):
    directory.mkdir(parents=True, exist_ok=True)
    draft = directory / "checkpoint.draft"
    try:
        with draft.open("wb") as stream:
            hashed = _Hashed(stream)
            # Like numpy.savez, one array at a time: the prototypes may fill most of the memory.
            with zipfile.ZipFile(hashed, "w") as archive:
                for name, array in arrays:
                    if not array.dtype.isbuiltin:  # bfloat16: numpy reads its bits only
                        array = array.view(f"uint{8 * array.dtype.itemsize}")
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, array, allow_pickle=False)
            stream.flush()
            os.fsync(stream.fileno())
        name = f"{place[0]:06d}-{place[1]:09d}-{hashed.digest.hexdigest()[:_DIGITS]}{_ENDING}"
        draft.replace(directory / name)
        folder = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(folder)  # so that the name survives too
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno not in FULL:
            raise
        size, free = draft.stat().st_size, shutil.disk_usage(directory).free
        full = OSError(
            f"The disk is full: {directory} took {size / 2**20:,.1f} MiB of a checkpoint and has "
            f"{free / 2**20:,.1f} MiB left. Earlier checkpoints are complete: make room (for three "
            "checkpoints) and run again."
        )
        full.errno = errno.ENOSPC
        raise full from None
    finally:
        draft.unlink(missing_ok=True)


class _Hashed:
    """A write-only stream and the digest of its bytes."""

    def __init__(self, stream):
        self._stream = stream
        self.digest = hashlib.sha256()

    def write(self, data):
        self.digest.update(data)
        return self._stream.write(data)

    def flush(self):
        self._stream.flush()
