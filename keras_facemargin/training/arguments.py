"""The arguments that a recipe may give to heads, optimizers, layers, ramps and backbones.

Each function's signature becomes a pydantic model: a key for each argument, of the type that its
default has.
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Annotated, Any

import keras
from pydantic import Field, PlainValidator, create_model
from pydantic_core import PydanticCustomError

from keras_facemargin import backbones, heads
from keras_facemargin.augmentation import layers
from keras_facemargin.backbones.preprocessing import applications
from keras_facemargin.callbacks import MarginRamp, ScaleRamp
from keras_facemargin.embedder import SET_BY_BUILD_EMBEDDER
from keras_facemargin.training.checks import Table

# `margin = {by_class_size = 0.5}`: `margins_by_class_size` of the images, 0.5 the largest.
BY_CLASS_SIZE = "by_class_size"

# Table -> the classes that `name` chooses from; the other keys are arguments.
TABLES: dict[str, Any] = {
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


def _finite(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise PydanticCustomError("number", "must be a finite number")
    return value


def _finite_or_list(value: Any) -> Any:
    return [_finite(each) for each in value] if isinstance(value, list) else _finite(value)


def _margin(value: Any) -> Any:
    if not isinstance(value, dict):
        return _finite_or_list(value)
    largest = value.get(BY_CLASS_SIZE) if len(value) == 1 else None
    if (
        isinstance(largest, bool)
        or not isinstance(largest, int | float)
        or not _finite(largest) > 0
    ):
        raise PydanticCustomError("margin", "must be a margin by class size")
    return value


Number = Annotated[Any, PlainValidator(_finite)]  # stays an int or a float
Margin = Annotated[Any, PlainValidator(_margin)]

# Arguments whose default does not show their type.
_TYPES = {
    "blockwise": bool,
    "exclude_layers": list[str],
    "margin": Margin,  # of a head: one number, one for each class, or the ends of a range
    "learning_rate": Annotated[float, Field(ge=0)],
    "prototypes_constraint": str,
    "prototypes_initializer": str,
    "prototypes_regularizer": str,
    "seed": Annotated[int, Field(ge=0)],
    "weights": str,
}
_FOREIGN = ("self", "num_classes", "kwargs", "args", "name")  # never in a recipe
_OF_EVERY_HEAD = (
    *("prototypes_initializer", "prototypes_regularizer", "prototypes_constraint"),
    *("detach_margin", "blockwise", "sample_rate"),
)


def class_of(table: str, name: str | None = None) -> Any:
    """The class of a table, such as "head", with its name, such as "CosFace"."""
    made = TABLES[table]
    return made[name] if isinstance(made, dict) else made


@functools.cache
def argument_table(make: Callable[..., Any], with_name: bool) -> type[Table]:
    """The keys of the table that chooses a class and has its arguments.

    Args:
        make: a head, an optimizer, a layer or a ramp.
        with_name: whether the key `name` chooses the class.

    Returns:
        A pydantic model.

    Example:

    >>> list(argument_table(MarginRamp, with_name=False).model_fields)
    ['epochs', 'start', 'after']
    """
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(make).parameters.items()
        if name not in _FOREIGN
    }
    if isinstance(make, type) and issubclass(make, heads.MarginHead):
        defaults = {**_common_arguments(), **defaults}
    fields = {name: _field(name, default) for name, default in defaults.items()}
    if with_name:
        fields["name"] = (str, ...)
    return create_model(make.__name__, __base__=Table, **fields)


def _common_arguments() -> dict[str, Any]:
    """The arguments that every head takes, with their defaults."""
    parameters = {
        name: parameter
        for each in heads.MarginHead.__mro__
        if each.__module__.startswith("keras_facemargin.")
        for name, parameter in inspect.signature(each.__init__).parameters.items()
    }
    return {name: parameters[name].default for name in _OF_EVERY_HEAD}


@functools.cache
def backbone_table(name: str) -> type[Table]:
    """The arguments of a backbone's function, apart from those that `build_embedder` sets.

    Args:
        name: a key of `backbone_functions()`.

    Returns:
        A pydantic model.

    Example:

    >>> list(backbone_table("SphereNet").model_fields)
    ['widths', 'depths', 'activation']
    """
    parameters = dict(inspect.signature(backbone_functions()[name]).parameters)
    if "kwargs" in parameters and name in backbones.__all__:
        # IResNet50 and its siblings give them to IResNet, with `depths` set.
        parameters |= inspect.signature(backbones.IResNet).parameters
        del parameters["depths"]
    fields = {
        each: _field(each, parameter.default, whole=True)
        for each, parameter in parameters.items()
        if each not in (*SET_BY_BUILD_EMBEDDER, "kwargs")
    }
    return create_model(name, __base__=Table, **fields)


@functools.cache
def backbone_functions() -> dict[str, Callable[..., Any]]:
    """The backbones that a recipe can name: this package's, then those of `keras.applications`."""
    own = {name: getattr(backbones, name) for name in backbones.__all__}
    return {**own, **applications()}


def _field(name: str, default: Any, whole: bool = False) -> Any:
    """A key's type and default. With `whole`, an int default means whole numbers and a tuple's
    length is free: a backbone may have a stage more or less.
    """
    kind = _TYPES.get(name) or _type_of(default, whole)
    if default is inspect.Parameter.empty:
        default = ...
    return kind, default


def _type_of(default: Any, whole: bool) -> Any:
    if isinstance(default, tuple):
        each = _type_of(default[0], whole)
        if whole:
            return list[each]  # type: ignore[valid-type]
        size = len(default)
        return Annotated[list[each], Field(min_length=size, max_length=size)]  # type: ignore[valid-type]
    if isinstance(default, bool | str | float):
        return type(default)
    return int if whole and isinstance(default, int) else Number
