"""A training run in one file: the model, the data and the method.

The format is TOML. `KEYS` declares every key, `TABLES` the tables whose keys are the arguments of a
class; `docs/training.md` lists them. Any other key is refused.
"""

import difflib
import inspect
import json
import math
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import keras

from keras_facemargin import backbones, heads
from keras_facemargin.augmentation import layers
from keras_facemargin.backbones.preprocessing import applications
from keras_facemargin.callbacks import MarginRamp, ScaleRamp
from keras_facemargin.files import read_text

_REQUIRED = object()
# Table -> key -> (type, default, what it is). The table "" is the top of the file.
KEYS = {
    "": {
        "epochs": (int, _REQUIRED, "passes over the images"),
        "batch_size": (int, _REQUIRED, "images per step, over all devices and workers"),
        "seed": (int, 0, "seed of weights, order, augmentation and dropout"),
        "dtype_policy": (
            str,
            "float32",
            "Keras dtype policy of the embedder, such as mixed_bfloat16",
        ),
        "save_every": (int, None, "steps between checkpoints within an epoch"),
    },
    "data": {
        "path": (str, _REQUIRED, "folder, .rec or .tfrecord; relative to the recipe"),
        "on_bad": (str, "refuse", "a file that is not a face crop: `refuse` or `skip`"),
    },
    "embedder": {
        "backbone": (str, None, "a name that `build_embedder` takes"),
        "arguments": (dict, None, "arguments of the backbone's function, such as `widths`"),
        "embedding_dim": (int, 512, "D"),
        "image_size": (int, 112, "side of the crops in pixels"),
        "model": (str, None, "instead of these: a zoo name, or a .keras file to continue from"),
    },
    "schedule": {
        "name": (
            str,
            _REQUIRED,
            "cosine: to zero along half a cosine; steps: multiplied by `factor`",
        ),
        "warmup_epochs": (float, 0.0, "cosine: epochs of linear warm-up from zero"),
        "milestones": (list, None, "steps: epochs at which the learning rate falls"),
        "factor": (float, 0.1, "steps: factor of the learning rate"),
    },
    "validation": {
        "lfw": (str, None, "folder of LFW's lists: View 1, the development pairs"),
        "pairs": (str, None, "a list of your own pairs, as `facemargin evaluate pairs` reads it"),
        "images": (str, None, "folder of the images of `lfw` or `pairs`"),
        "on_missing": (str, "refuse", "a listed image that does not exist: `refuse` or `reject`"),
        "held_out": (float, None, "share of the identities that only validate, above 0, below 1"),
    },
}
# Table -> old name -> new name of a key.
_RENAMED = {"": {"policy": "dtype_policy"}, "schedule": {"at": "milestones"}}
# Table -> the classes that `name` chooses from; the other keys are arguments.
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
_OPTIONAL = ("augmentation", "margin_ramp", "scale_ramp", "schedule", "validation")
# The smallest value of a number.
_LEAST = {
    **dict.fromkeys(("epochs", "batch_size", "save_every"), 1),
    **dict.fromkeys(("embedder.embedding_dim", "embedder.image_size"), 1),
    **dict.fromkeys(("seed", "head.seed", "augmentation.seed"), 0),
    **dict.fromkeys(("schedule.warmup_epochs", "schedule.factor", "optimizer.learning_rate"), 0),
}
_OF_EVERY_HEAD = {"detach_margin": False, "blockwise": False, "sample_rate": 1.0}  # `MarginHead`
# Arguments that are not numbers although their default is None.
_NOT_NUMBERS = {"exclude_layers": ["name"], "prototypes_initializer": "name"}
_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16", "bfloat16", "float16", "float64")
_FOREIGN = ("self", "num_classes", "kwargs", "args", "name")  # never in a recipe
# Arguments of a backbone's function that `build_embedder` sets.
_OF_BUILD_EMBEDDER = (
    *("name", "input_shape", "input_tensor", "include_top", "include_preprocessing"),
    *("pooling", "classes", "classifier_activation"),
)
_KINDS = {int: "a whole number", float: "a number", str: "a text", list: "a list", dict: "a table"}


@dataclass(frozen=True)
class Recipe:
    """A recipe after all checks.

    Attributes:
        file: the file; paths in the recipe are relative to its folder.
        text: the recipe as a run keeps it: the file's text or, with changes, the changed recipe.
        document: the same as a dict, without defaults.
        top, data, embedder, schedule, validation: dicts by the keys of `KEYS`, with defaults;
            `schedule` and `validation` are None if the recipe has none.
        head, optimizer, margin_ramp, scale_ramp: dicts of arguments; the first two include `name`.
            The ramps are None if the recipe has none.
        augmentation: list of such dicts, or None for the light augmentation.
    """

    file: Path
    text: str = field(repr=False)
    document: dict = field(repr=False)
    top: dict
    data: dict
    embedder: dict
    schedule: dict | None
    validation: dict | None
    head: dict
    optimizer: dict
    augmentation: list | None
    margin_ramp: dict | None
    scale_ramp: dict | None


def read_recipe(file, changes=()) -> Recipe:
    """Reads a recipe and checks every key of it, before any data is opened.

    Args:
        file: path of a TOML file.
        changes: texts `KEY=VALUE` that replace or add keys before the checks, such as
            "head.margin=0.4". The key is dotted; the value is TOML, and a text needs no quotes.

    Returns:
        A `Recipe`.

    Raises:
        ValueError: the file is not TOML; a key or name is unknown (the error names the nearest), a
            key is missing or has another type.
        OSError: the file cannot be read.

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
    >>> read_recipe("recipe.toml", ["head.margin=0.4"]).head
    {'name': 'CosFace', 'margin': 0.4, 'scale': 64.0}
    """
    file = Path(file)
    text, document = read_document(file)
    for change in changes:
        _apply(change, document)
    parts = _checked_parts(file, document)
    if changes:
        text = _toml(document, f"{file.name} with --set {' --set '.join(changes)}")
    return Recipe(file=file, text=text, document=document, **parts)


def read_document(file):
    """The text of a TOML file and its content, a dict; nothing is checked."""
    text = read_text(file, "a recipe")
    try:
        return text, tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"A recipe must be a TOML file. Received: {file}: {error}") from None


def _apply(change, document):
    """Changes one key of the document."""
    key, equals, value = change.partition("=")
    names = [name.strip() for name in key.split(".")]
    if not (equals and value.strip() and all(names)):
        raise ValueError(
            "--set must be KEY=VALUE with a dotted key, such as head.margin=0.4. "
            f"Received: {change!r}"
        )
    *path, last = names
    for depth, name in enumerate(path, 1):
        document = document.setdefault(name, {})
        if not isinstance(document, dict):
            raise ValueError(
                f"--set changes keys of tables, and `{'.'.join(names[:depth])}` is not a table. "
                f"Received: {change!r}. Set the whole value."
            )
    document[last] = _value(value.strip())


def _value(text):
    """A TOML value; any other text is a string."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _toml(document, comment):
    """The document as TOML, tables after the keys of the top."""
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    top = {key: value for key, value in document.items() if key not in tables}
    lines = [f"# {_one_line(comment)}", *_toml_pairs(top)]
    for name, table in tables.items():
        lines += ["", f"[{_toml_key(name)}]", *_toml_pairs(table)]
    return "\n".join(lines) + "\n"


def _toml_pairs(table):
    return [f"{_toml_key(key)} = {_toml_value(value)}" for key, value in table.items()]


def _toml_key(key):
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml_value(key)


def _one_line(text):
    return "".join(each if each.isprintable() else " " for each in text)


def _toml_value(value):
    if isinstance(value, dict):
        return f"{{{', '.join(_toml_pairs(value))}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, str):  # TOML's strings are JSON's, apart from DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _checked_parts(file, document):
    """The parts of a `Recipe`, all keys checked."""
    tables = [name for name in (*KEYS, *TABLES) if name]
    _refuse_old_names(file, "", document)
    for key in document:
        if key not in KEYS[""] and key not in tables:
            raise _unknown(file, "key", key, [*KEYS[""], *tables])
    parts = {"top": _checked_keys(file, "", {k: v for k, v in document.items() if k not in tables})}
    for name in tables:
        table = document.get(name)
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
    _check_top_and_data(file, parts)
    _check_embedder(file, parts["embedder"])
    if parts["schedule"] is not None:
        _check_schedule(file, parts["schedule"], parts["top"]["epochs"])
    if parts["validation"] is not None:
        _check_validation(file, parts["validation"])
    return parts


def _refuse_old_names(file, table, document):
    for old, new in _RENAMED.get(table, {}).items():
        if old in document:
            name = f"{table}.{new}" if table else new
            raise ValueError(
                f"The key `{old}` has a new name, `{name}`. Received: {file}: {old} = "
                f"{document[old]!r}. Rename it."
            )


def _checked_keys(file, table, document):
    declared = KEYS[table]
    _refuse_old_names(file, table, document)
    for key in document:
        if key not in declared:
            raise _unknown(file, f"key of [{table}]" if table else "key", key, declared)
    values = {}
    for key, (kind, default, what) in declared.items():
        value = document.get(key, default)
        name = f"{table}.{key}" if table else key
        if value is _REQUIRED:
            raise ValueError(f"A recipe needs `{name}`: {what}. Received: {file} without it.")
        if kind is float and type(value) is int:
            value = float(value)
        if value is not None and type(value) is not kind:
            raise ValueError(
                f"`{name}` must be {_KINDS[kind]}: {what}. Received: {file}: {key} = {value!r}"
            )
        if kind in (int, float) and value is not None:
            _check_number(file, name, key, value)
        values[key] = value
    return values


def _check_number(file, name, key, value):
    """Refuses inf, nan and a number below its smallest value."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"`{name}` must be a finite number. Received: {file}: {key} = {value!r}")
    if value < _LEAST.get(name, -math.inf):
        raise ValueError(
            f"`{name}` must be at least {_LEAST[name]}. Received: {file}: {key} = {value!r}"
        )


def _check_kind(file, name, key, value, default):
    """The value, if its type is that of the argument's default; None means a number."""
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


def _check_top_and_data(file, parts):
    policy, on_bad = parts["top"]["dtype_policy"], parts["data"]["on_bad"]
    try:
        keras.dtype_policies.get(policy)
    except ValueError:
        raise _unknown(file, "dtype_policy", policy, _POLICIES) from None
    if on_bad not in ("refuse", "skip"):
        raise _unknown(file, "value of data.on_bad", on_bad, ["refuse", "skip"])


def _check_embedder(file, embedder):
    backbone, arguments = embedder["backbone"], embedder["arguments"]
    if (backbone is None) == (embedder["model"] is None):
        raise ValueError(
            "[embedder] needs a `backbone` to build or a `model` to continue from. Received: "
            f"{file}: backbone={backbone!r}, model={embedder['model']!r}"
        )
    if backbone is None:
        if arguments is not None:
            raise ValueError(
                "[embedder.arguments] needs a `backbone`; a `model` is complete. Received: "
                f"{file}: {', '.join(arguments)} for model={embedder['model']!r}"
            )
        return
    functions = {**{name: getattr(backbones, name) for name in backbones.__all__}, **applications()}
    if backbone not in functions:
        raise _unknown(file, "backbone", backbone, functions)
    embedder["arguments"] = _backbone_arguments(file, functions[backbone], arguments or {})


def _backbone_arguments(file, function, arguments):
    """The arguments, checked against the function's signature."""
    parameters = dict(inspect.signature(function).parameters)
    if "kwargs" in parameters and function.__name__ in backbones.__all__:
        # IResNet50 and its siblings give them to IResNet, with `depths` set.
        parameters |= inspect.signature(backbones.IResNet).parameters
        del parameters["depths"]
    known = {
        name: parameter.default
        for name, parameter in parameters.items()
        if name not in (*_OF_BUILD_EMBEDDER, "kwargs")
    }
    for name, default in known.items():
        if default is inspect.Parameter.empty and name not in arguments:
            raise ValueError(
                f"{function.__name__} needs `embedder.arguments.{name}`. "
                f"Received: {file} without it."
            )
    checked = {}
    for name, value in arguments.items():
        if name not in known:
            raise _unknown(file, f"argument of {function.__name__}", name, known)
        default = known[name]
        if isinstance(value, list) and (
            isinstance(default, tuple) or default is inspect.Parameter.empty
        ):
            first = default[0] if isinstance(default, tuple) else 1
            default = (first,) * len(value)  # a stage more or less is a choice
        checked[name] = _check_kind(file, f"embedder.arguments.{name}", name, value, default)
        for each, like in zip(*map(_as_list, (checked[name], default)), strict=False):
            if type(like) is int and type(each) is not int:
                raise ValueError(
                    f"`embedder.arguments.{name}` must hold whole numbers. Received: {file}: "
                    f"{name} = {value!r}"
                )
    return checked


def _as_list(value):
    return list(value) if isinstance(value, list | tuple) else [value]


def _check_schedule(file, schedule, epochs):
    if schedule["name"] not in ("cosine", "steps"):
        raise _unknown(file, "schedule", schedule["name"], ["cosine", "steps"])
    if (schedule["name"] == "steps") != bool(schedule["milestones"]):
        raise ValueError(
            "[schedule] needs `milestones`, the epochs at which the rate falls, if its name is "
            "steps, and takes none if it is cosine. Received: "
            f"{file}: name={schedule['name']!r}, milestones={schedule['milestones']!r}"
        )
    milestones = schedule["milestones"] or []
    for epoch in milestones:
        _check_number(file, "schedule.milestones", "milestones", epoch)
    if milestones != sorted(set(milestones)) or (milestones and milestones[0] <= 0):
        raise ValueError(
            "`schedule.milestones` must be epochs above 0 in ascending order. Received: "
            f"{file}: milestones = {milestones!r}"
        )
    if not schedule["warmup_epochs"] < epochs:
        raise ValueError(
            "`schedule.warmup_epochs` must be less than `epochs`. Received: "
            f"{file}: warmup_epochs = {schedule['warmup_epochs']!r} of {epochs}"
        )


def _check_validation(file, validation):
    if validation["on_missing"] not in ("refuse", "reject"):
        name = "value of validation.on_missing"
        raise _unknown(file, name, validation["on_missing"], ["refuse", "reject"])
    given = [key for key in ("lfw", "pairs", "held_out") if validation[key] is not None]
    if len(given) != 1:
        raise ValueError(
            "[validation] needs one of `lfw`, `pairs` and `held_out`. Received: "
            f"{file}: {' and '.join(given) or 'none of them'}"
        )
    if (given[0] == "held_out") == (validation["images"] is not None):
        raise ValueError(
            "[validation] needs `images`, a folder, with `lfw` and `pairs`, and takes none with "
            f"`held_out`. Received: {file}: {given[0]} = {validation[given[0]]!r}, images = "
            f"{validation['images']!r}"
        )
    if given[0] == "held_out" and not 0 < validation["held_out"] < 1:
        raise ValueError(
            "`validation.held_out` must be a share above 0 and below 1. Received: "
            f"{file}: held_out = {validation['held_out']!r}"
        )


def _checked_arguments(file, table, given):
    """The table, if its name is known and its keys are arguments of that class."""
    made = TABLES[table]
    if isinstance(made, dict):
        name = given.get("name")
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
    for key, value in given.items():
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


def _tables(file, given):
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise ValueError(
            "`augmentation` must be a list of tables, [[augmentation]]; `augmentation = []` leaves "
            f"images as they are. Received: {file}: augmentation = {given!r}"
        )
    return given


def _unknown(file, what, name, known):
    near = difflib.get_close_matches(str(name), list(known), 1, cutoff=0.5)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(
        f"The {what} is unknown. Received: {file}: {name!r}.{guess} Known: {', '.join(known)}."
    )
