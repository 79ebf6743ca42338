"""Checks a head's arguments. An error states the rule, the argument and the received value."""

import math
import numbers

import numpy as np


def check_radians(name, value):
    """An angle that a margin adds: in [0, pi/2)."""
    check_number(
        name,
        value,
        "is an angle in radians in [0, pi/2)",
        lambda angle: 0 <= angle < math.pi / 2,
        f". For degrees pass `math.radians({name})`.",
    )


def check_at_least(name, value, least):
    check_number(name, value, f"must be at least {least}", lambda number: number >= least)


def check_positive(name, value):
    check_number(name, value, "must be positive", lambda number: number > 0)


def check_integer(name, value, least):
    """An integer of any type; 3.0 is accepted."""
    rule = f"must be an integer of at least {least}"
    check_number(name, value, rule, lambda number: number == int(number) and number >= least)


def check_number(name, value, rule, fits, way_out=""):
    """A finite number of Python or NumPy that fits the rule: not a text, bool or array."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not fits(value):
        kind = "" if is_number else ", which is not a number"
        raise ValueError(f"`{name}` {rule}. Received: {name}={shown(value)}{kind}{way_out}")


def check_flag(name, value):
    """True or False. The text "False" is refused: Python treats it as true."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"`{name}` must be True or False. Received: {name}={shown(value)}")


def check_choice(name, value, choices):
    if not isinstance(value, str) or value not in choices:
        raise ValueError(
            f"`{name}` must be one of {tuple(choices)}. Received: {name}={shown(value)}"
        )


def shown(value):
    """A value as an error shows it: an array by its shape."""
    if isinstance(value, list | tuple) and len(value) > 4:
        return f"a {type(value).__name__} of {len(value)}"
    shape = tuple(getattr(value, "shape", ()))
    return f"an array of shape {shape}" if shape else repr(value)
