"""A training run in one file: what to train, on what, and how; run again, it goes on.

The format is TOML. `KEYS` declares every key, `TABLES` the tables whose keys are the arguments of a
class; `docs/training.md` shows them. What is not declared is refused.
"""

import contextlib
import csv
import difflib
import hashlib
import inspect
import io
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path

import keras

from keras_facemargin import heads
from keras_facemargin.callbacks import ExactResume, MarginRamp, ScaleRamp, StepBar
from keras_facemargin.classifier import MarginClassifier
from keras_facemargin.data import layers, open_faces
from keras_facemargin.embedder import build_embedder
from keras_facemargin.files import atomic_write, exclusive, full_disk_names, read_text
from keras_facemargin.fitting import worker_of
from keras_facemargin.zoo import load_embedder

_REQUIRED = object()
# Table -> key -> (type, default, what it is). The table "" is the top of the file.
KEYS = {
    "": {
        "epochs": (int, _REQUIRED, "passes over the images"),
        "batch_size": (int, _REQUIRED, "images per step, of all devices and workers together"),
        "seed": (int, 0, "of weights, order, augmentation and dropout"),
        "policy": (str, "float32", "Keras' dtype policy of the embedder, such as mixed_bfloat16"),
        "save_every": (int, None, "steps between checkpoints within an epoch"),
    },
    "data": {
        "path": (str, _REQUIRED, "folder, .rec or .tfrecord; relative to the recipe"),
        "on_bad": (str, "refuse", "a file that is no face crop: refuse, or skip"),
    },
    "embedder": {
        "backbone": (str, None, "a name that `build_embedder` takes"),
        "embedding_dim": (int, 512, "D"),
        "image_size": (int, 112, "side of the crops in pixels"),
        "model": (str, None, "in place of the three: a name in the zoo or a .keras file to go on"),
    },
    "schedule": {
        "name": (str, _REQUIRED, "cosine: to zero along half a cosine; steps: times `factor`"),
        "warmup_epochs": (float, 0.0, "cosine: epochs of a linear rise from zero before it"),
        "at": (list, None, "steps: the epochs at which the rate falls"),
        "factor": (float, 0.1, "steps: what the rate is multiplied by"),
    },
}
# Table -> the classes of which `name` is one and the other keys are arguments.
TABLES = {
    "head": {
        name: getattr(heads, name)
        for name in heads.__all__
        if name[0].isupper() and name != "MarginHead"
    },
    "optimizer": {
        name: getattr(keras.optimizers, name)
        for name in ("SGD", "Adam", "AdamW", "Lion", "Lamb", "Muon", "RMSprop", "Adagrad")
    },
    "augmentation": {
        name: value
        for name, value in vars(layers).items()
        if name.startswith("Random") and isinstance(value, type)
    },
    "margin_ramp": MarginRamp,
    "scale_ramp": ScaleRamp,
}
_OPTIONAL = ("augmentation", "margin_ramp", "scale_ramp", "schedule")
# The least that a number may be.
_LEAST = {
    **dict.fromkeys(("epochs", "batch_size", "save_every"), 1),
    **dict.fromkeys(("embedder.embedding_dim", "embedder.image_size"), 1),
    **dict.fromkeys(("seed", "head.seed", "augmentation.seed"), 0),
    **dict.fromkeys(("schedule.warmup_epochs", "schedule.factor", "optimizer.learning_rate"), 0),
}
_OF_EVERY_HEAD = {"detach_margin": False, "blockwise": False, "sample_rate": 1.0}  # `MarginHead`
# Arguments whose default is None and that are no number.
_NOT_NUMBERS = {"exclude_layers": ["name"], "initializer": "name"}
_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16", "bfloat16", "float16", "float64")
_FOREIGN = ("self", "num_classes", "kwargs", "args", "name")  # arguments that no recipe gives


@dataclass(frozen=True)
class Recipe:
    """A recipe that was read and checked.

    Attributes:
        file: where it was read from.
        top, data, embedder, schedule: dicts by the keys of `KEYS`, defaults filled in; `schedule`
            None if there is none.
        head, optimizer, margin_ramp, scale_ramp: dicts of arguments, `name` among them for the
            first two; the ramps None if there are none.
        augmentation: list of such dicts, or None for the light augmentation.
    """

    file: Path
    top: dict
    data: dict
    embedder: dict
    schedule: dict | None
    head: dict
    optimizer: dict
    augmentation: list | None
    margin_ramp: dict | None
    scale_ramp: dict | None


def read_recipe(file) -> Recipe:
    """Reads a recipe and checks every key of it, before anything is opened or built.

    Args:
        file: path of a TOML file.

    Returns:
        A `Recipe`.

    Raises:
        ValueError: it is no TOML; a key or name is unknown (the nearest is named), missing or of
            another type.
        OSError: it cannot be read.

    Example:

    >>> text = '''
    ... epochs = 2
    ... batch_size = 8
    ... data.path = "people"
    ... embedder = {backbone = "MobileFaceNet", embedding_dim = 128}
    ... head = {name = "CosFace", margin = 0.35, scale = 64.0}
    ... optimizer = {name = "SGD", learning_rate = 0.1, momentum = 0.9}
    ... '''
    >>> _ = Path("recipe.toml").write_text(text)
    >>> read_recipe("recipe.toml").head
    {'name': 'CosFace', 'margin': 0.35, 'scale': 64.0}
    """
    file = Path(file)
    try:
        told = tomllib.loads(read_text(file, "a recipe"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"A recipe must be a TOML file. Received: {file}: {error}") from None
    tables = [name for name in (*KEYS, *TABLES) if name]
    for key in told:
        if key not in KEYS[""] and key not in tables:
            raise _unknown(file, "key", key, [*KEYS[""], *tables])
    parts = {"top": _checked_keys(file, "", {k: v for k, v in told.items() if k not in tables})}
    for name in tables:
        table = told.get(name)
        if table is None:
            if name not in _OPTIONAL:
                raise ValueError(f"A recipe needs [{name}]. Received: {file} without it.")
            parts[name] = None
        elif name == "augmentation":
            parts[name] = [_checked_arguments(file, name, each) for each in _tables(file, table)]
        elif not isinstance(table, dict):
            raise ValueError(f"[{name}] must be a table. Received: {file}: {name} = {table!r}")
        elif name in KEYS:
            parts[name] = _checked_keys(file, name, table)
        else:
            parts[name] = _checked_arguments(file, name, table)
    _check_choices(file, parts)
    return Recipe(file=file, **parts)


def train(recipe, directory, strategy=None, progress=True):
    """Runs a recipe, from the beginning or from where an earlier call was stopped.

    In `directory`: `checkpoints/`, which `ExactResume` writes; `steps.csv`, the loss and accuracy
    that the epoch has after each step; at the end `history.csv` by epoch, `embedder.keras` to use
    and `classifier.keras` to train on.

    Args:
        recipe: a `Recipe`.
        directory: folder, made if missing. It belongs to one recipe.
        strategy: of `tf.distribute`, `MirroredStrategy` or `MultiWorkerMirroredStrategy`; None
            trains on one device. Of several workers each calls this, on one shared `directory`,
            into which the first writes.
        progress: whether to draw progress on standard error.

    Returns:
        dict, lists by epoch: "loss", "accuracy".

    Raises:
        ValueError: the directory is that of another recipe, or its run began with other faces or
            another model; as `ExactResume`, `open_faces`, `build_embedder` and the classes named in
            the recipe say.
        BlockingIOError: another process trains into the directory.
        OSError: a file cannot be read or written; of a full disk the error names the file.

    Example:

    >>> train(read_recipe("recipe.toml"), "run")["loss"]  # doctest: +SKIP
    """
    directory = Path(directory)
    first = strategy is None or worker_of(strategy)[0] == 0
    directory.mkdir(parents=True, exist_ok=True)
    with exclusive(directory) if first else contextlib.nullcontext():
        _claim(recipe, directory, first)
        classifier, history = _fit(recipe, directory, strategy, first, progress)
        if first:
            _write_history(directory / "history.csv", history)
            for name, model in (("embedder", classifier.embedder), ("classifier", classifier)):
                draft, file = directory / f"{name}.draft.keras", directory / f"{name}.keras"
                try:
                    with full_disk_names(file):
                        model.save(draft)
                        draft.replace(file)
                finally:
                    draft.unlink(missing_ok=True)
    return history


def _fit(recipe, directory, strategy, first, progress):
    """The trained classifier and the history of all epochs."""
    top, place = recipe.top, recipe.file.parent
    keras.utils.set_random_seed(top["seed"])
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(top["policy"])
    try:
        with _scope(strategy):
            embedder = _build(recipe.embedder, place)
            resume = ExactResume(
                directory / "checkpoints",
                every=top["save_every"],
                depends_on=_beginning(recipe, embedder),
            )
            faces = open_faces(
                place / recipe.data["path"],
                image_size=embedder.input_shape[1],
                on_bad=recipe.data["on_bad"],
            )
            steps = math.ceil(len(faces) / top["batch_size"])
            head = _make(recipe, "head", recipe.head, num_classes=faces.num_classes)
            classifier = MarginClassifier(embedder, head)
            classifier.compile(_optimizer(recipe, steps))
    finally:
        keras.config.set_dtype_policy(policy)
    augmentation = recipe.augmentation
    data = faces.dataset(
        top["batch_size"],
        training=True,
        seed=top["seed"],
        augmentation=augmentation
        and [_make(recipe, "augmentation", each) for each in augmentation],
        start=resume.start,
    )
    callbacks = [
        _make(recipe, name, table)
        for name in ("margin_ramp", "scale_ramp")
        if (table := getattr(recipe, name)) is not None
    ]
    with contextlib.ExitStack() as stack:
        callbacks.append(stack.enter_context(StepBar(top["epochs"] * steps, progress and first)))
        if first:
            log = _StepLog(directory / "steps.csv", resume.start)
            callbacks.append(stack.enter_context(log))
        # The last: a step that a checkpoint holds has its line.
        history = classifier.fit(
            data,
            epochs=top["epochs"],
            shuffle=False,
            verbose=0,
            callbacks=[*callbacks, resume],
        ).history
    return classifier, history


def _beginning(recipe, embedder):
    """What the run depends on beside the recipe and the faces: the weights of a model to go on."""
    if recipe.embedder["model"] is None:
        return {}
    digest = hashlib.sha256()
    for weight in embedder.get_weights():
        digest.update(f"{weight.shape} {weight.dtype}".encode() + weight.tobytes())
    return {"embedder.model": digest.hexdigest()}


def _write_history(file, history):
    epochs = range(1, len(history["loss"]) + 1)
    with atomic_write(file) as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["epoch", "loss", "accuracy"])
        table.writerows(zip(epochs, history["loss"], history["accuracy"], strict=True))


def _checked_keys(file, table, told):
    declared = KEYS[table]
    for key in told:
        if key not in declared:
            raise _unknown(file, f"key of [{table}]" if table else "key", key, declared)
    values = {}
    for key, (kind, default, what) in declared.items():
        value = told.get(key, default)
        name = f"{table}.{key}" if table else key
        if value is _REQUIRED:
            raise ValueError(f"A recipe needs `{name}`: {what}. Received: {file} without it.")
        if kind is float and type(value) is int:
            value = float(value)
        if value is not None and type(value) is not kind:
            raise ValueError(
                f"`{name}` must be {'an' if kind is int else 'a'} {kind.__name__}: {what}. "
                f"Received: {file}: {key} = {value!r}"
            )
        if kind in (int, float) and value is not None:
            _check_number(file, name, key, value)
        values[key] = value
    return values


def _check_number(file, name, key, value):
    """A number that is none of inf and nan, and not below the least that it may be."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"`{name}` must be a finite number. Received: {file}: {key} = {value!r}")
    if value < _LEAST.get(name, -math.inf):
        raise ValueError(
            f"`{name}` must be at least {_LEAST[name]}. Received: {file}: {key} = {value!r}"
        )


def _check_kind(file, name, key, value, default):
    """The value, if it is of the kind of an argument's default; None stands for a number."""
    if isinstance(default, bool | str):
        if type(value) is not type(default):
            what = "true or false" if isinstance(default, bool) else "a text"
            raise ValueError(f"`{name}` must be {what}. Received: {file}: {key} = {value!r}")
    elif isinstance(default, tuple | list):
        if not isinstance(value, list) or (
            isinstance(default, tuple) and len(value) != len(default)
        ):
            count = f"{len(default)} numbers" if isinstance(default, tuple) else "texts"
            raise ValueError(
                f"`{name}` must be a list of {count}. Received: {file}: {key} = {value!r}"
            )
        for each in value:
            _check_kind(file, name, key, each, default[0])
    else:
        _check_number(file, name, key, value)
        if isinstance(default, float):
            return float(value)  # Keras refuses an int where it means a float
    return value


def _check_choices(file, parts):
    """What `KEYS` declares by its type alone, and what two keys say together."""
    top, schedule, embedder = parts["top"], parts["schedule"], parts["embedder"]
    try:
        keras.dtype_policies.get(top["policy"])
    except ValueError:
        raise _unknown(file, "policy", top["policy"], _POLICIES) from None
    if parts["data"]["on_bad"] not in ("refuse", "skip"):
        raise _unknown(file, "value of data.on_bad", parts["data"]["on_bad"], ["refuse", "skip"])
    if (embedder["backbone"] is None) == (embedder["model"] is None):
        raise ValueError(
            "[embedder] needs a `backbone` to build one or a `model` to go on with. Received: "
            f"{file}: backbone={embedder['backbone']!r}, model={embedder['model']!r}"
        )
    if schedule is None:
        return
    if schedule["name"] not in ("cosine", "steps"):
        raise _unknown(file, "schedule", schedule["name"], ["cosine", "steps"])
    if (schedule["name"] == "steps") != bool(schedule["at"]):
        raise ValueError(
            "[schedule] of steps needs `at`, the epochs at which the rate falls, and cosine has "
            f"none. Received: {file}: name={schedule['name']!r}, at={schedule['at']!r}"
        )
    at = schedule["at"] or []
    for epoch in at:
        _check_number(file, "schedule.at", "at", epoch)
    if at != sorted(set(at)) or (at and at[0] <= 0):
        raise ValueError(
            "`schedule.at` must be epochs above 0 in ascending order. Received: "
            f"{file}: at = {at!r}"
        )
    if not schedule["warmup_epochs"] < top["epochs"]:
        raise ValueError(
            "`schedule.warmup_epochs` must be less than `epochs`. Received: "
            f"{file}: warmup_epochs = {schedule['warmup_epochs']!r} of {top['epochs']}"
        )


def _checked_arguments(file, table, told):
    """The table as it is, once its name is known and its keys are arguments of that class."""
    made = TABLES[table]
    if isinstance(made, dict):
        name = told.get("name")
        if name not in made:
            raise _unknown(file, f"name of [{table}]", name, made)
        made = made[name]
    arguments = {
        name: _NOT_NUMBERS.get(name, parameter.default)
        for name, parameter in inspect.signature(made).parameters.items()
        if name not in _FOREIGN
    }
    if table == "head":
        arguments = {**_OF_EVERY_HEAD, **arguments}
    checked = {}
    for key, value in told.items():
        if key == "name" and isinstance(TABLES[table], dict):
            checked[key] = value
            continue
        if key not in arguments:
            raise _unknown(file, f"argument of {made.__name__}", key, arguments)
        default = arguments[key]
        if (table, key) == ("head", "margin") and isinstance(value, list):
            default = (0.0,) * len(value)  # one for each class, or the ends of a range
        checked[key] = _check_kind(file, f"{table}.{key}", key, value, default)
    return checked


def _tables(file, told):
    if not isinstance(told, list) or not all(isinstance(each, dict) for each in told):
        raise ValueError(
            "`augmentation` must be a list of tables, [[augmentation]]; `augmentation = []` leaves "
            f"images as they are. Received: {file}: augmentation = {told!r}"
        )
    return told


def _unknown(file, what, name, known):
    near = difflib.get_close_matches(str(name), list(known), 1, cutoff=0.5)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(
        f"An unknown {what}. Received: {file}: {name!r}.{guess} Known: {', '.join(known)}."
    )


def _make(recipe, table, told, **more):
    """What a table names, made with its arguments."""
    made = TABLES[table]
    if isinstance(made, dict):
        made = made[told["name"]]
        told = {key: value for key, value in told.items() if key != "name"}
    try:
        return made(**told, **more)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{recipe.file}: [{table}]: {error}") from None


def _scope(strategy):
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def _build(told, place):
    if told["model"] is not None:
        model = told["model"]
        return load_embedder(place / model if model.endswith(".keras") else model)
    side = told["image_size"]
    return build_embedder(told["backbone"], told["embedding_dim"], input_shape=(side, side, 3))


def _optimizer(recipe, steps):
    told, schedule = dict(recipe.optimizer), recipe.schedule
    if schedule is not None:
        made = TABLES["optimizer"][told["name"]]
        default = inspect.signature(made).parameters["learning_rate"].default
        rate = told.get("learning_rate", default)
        if schedule["name"] == "cosine":
            warmup = round(schedule["warmup_epochs"] * steps)
            told["learning_rate"] = keras.optimizers.schedules.CosineDecay(
                0.0 if warmup else rate,
                recipe.top["epochs"] * steps - warmup,
                warmup_target=rate if warmup else None,
                warmup_steps=warmup,
            )
        else:
            told["learning_rate"] = keras.optimizers.schedules.PiecewiseConstantDecay(
                [round(epoch * steps) for epoch in schedule["at"]],
                [rate * schedule["factor"] ** n for n in range(len(schedule["at"]) + 1)],
            )
    return _make(recipe, "optimizer", told)


def _claim(recipe, directory, first):
    """The directory keeps the recipe that it belongs to."""
    copy = directory / "recipe.toml"
    if copy.exists() and copy.read_bytes() != recipe.file.read_bytes():
        raise ValueError(
            "A run goes on with the recipe that it began with. Received: "
            f"{recipe.file}, which is not {copy}. Name another directory, or give back what was "
            "changed."
        )
    if first and not copy.exists():
        with atomic_write(copy, "wb") as stream:
            stream.write(recipe.file.read_bytes())


class _StepLog(keras.callbacks.Callback):
    """A line for each step; those after the checkpoint that a run goes on from are taken back."""

    def __init__(self, file, start):
        super().__init__()
        self._file, self._start = file, start

    def __enter__(self):
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

    def __exit__(self, *error):
        with full_disk_names(self._file):
            self._stream.close()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        with full_disk_names(self._file):
            self._stream.write(f"{self._epoch},{batch},{logs['loss']:.9g},{logs['accuracy']:.9g}\n")
