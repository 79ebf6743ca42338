"""Refuses a head's arguments with the rule, the argument and what was received."""

import math


def check_radians(name, value):
    """An angle that a margin adds: in [0, pi/2)."""
    if not 0 <= value < math.pi / 2:
        raise ValueError(
            f"`{name}` is an angle in radians in [0, pi/2). "
            f"Received: {name}={value}. For degrees pass `math.radians({name})`."
        )


def check_at_least(name, value, least):
    if not value >= least:
        raise ValueError(f"`{name}` must be at least {least}. Received: {name}={value}")


def check_positive(name, value):
    if not value > 0:
        raise ValueError(f"`{name}` must be positive. Received: {name}={value}")


def check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {tuple(choices)}. Received: {name}={value!r}")
