"""Cards as files: read, written, and refused in one sentence."""

import json
import os
import reprlib
import typing
from collections.abc import Iterator
from typing import Any

import pydantic

from keras_facemargin.files import read_text, write_json
from keras_facemargin.zoo.card import Card, WrongField

SCHEMA = "card.schema.json"
_VERSION = 2


def schema() -> dict[str, Any]:
    """The JSON schema of a card, the content of `card.schema.json`.

    Example:

    >>> schema()["title"]
    'Card'
    """
    return Card.model_json_schema()


def read_card(path: str | os.PathLike[str]) -> Card:
    """Reads and checks the card in a file, which may be outside the zoo.

    Args:
        path: a ``card.json``.

    Raises:
        ValueError: the file is not a card: a field is missing, unknown, of another type or out of
            its range (naming file and field), or the card is of an earlier version.
        OSError: the file cannot be read.

    Example:

    >>> from keras_facemargin.zoo import card_path
    >>> read_card(card_path("spherenet_distilled")).embedding_dim
    128
    """
    text = read_text(path, "a card")
    try:
        record = json.loads(text, parse_constant=refuse_constant)
        _check_version(record)
        return Card.model_validate_json(text)
    except RecursionError:
        raise ValueError(
            f"{path}: a card must be an object of a few levels. Received: JSON that is nested too "
            "deeply to be read."
        ) from None
    except pydantic.ValidationError as error:
        raise ValueError(f"{path}: {first_problem(error, 'a card', _WAY_OUT)}") from None
    except ValueError as error:  # json's own error is one too
        raise ValueError(f"{path}: {error}") from error


def write_card(path: str | os.PathLike[str], card: Card) -> None:
    """Writes a card in one step.

    Args:
        path: a ``card.json``, beside the weights.
        card: a `Card`.

    Raises:
        OSError: the file cannot be written.
    """
    write_json(path, card.to_dict())


def refuse_constant(name: str) -> typing.NoReturn:
    """Refuses NaN and Infinity, which Python's JSON reader accepts.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"the numbers of a record must be finite. Received: {name}.")


def _check_version(record: Any) -> None:
    if not isinstance(record, dict):
        raise ValueError(f"a card must be an object. Received: {_shown(record)}. {_WAY_OUT}")
    version = record.get("schema_version")
    if version != _VERSION and ("schema_version" in record or "licence" in record):
        raise ValueError(
            f"a card must have `schema_version` {_VERSION}. Received: "
            f"{'a card of version 1, which has none' if version is None else _shown(version)}. "
            "Remove the card; `facemargin calibrate FACES --model FILE` writes a new one."
        )


_WAY_OUT = f"{SCHEMA} in the zoo lists the fields and their types."
_WORDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float_type": "a number",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "finite_number": "a finite number",
}


def first_problem(error: pydantic.ValidationError, what: str, way_out: str) -> str:
    """The first problem of a record in one sentence: names before values.

    Args:
        error: as pydantic raises it.
        what: the record, such as "a card".
        way_out: a sentence that says what to do.
    """
    order = {"extra_forbidden": 0, "missing": 1}
    problem = min(error.errors(include_url=False), key=lambda one: order.get(one["type"], 2))
    kind, received = problem["type"], problem["input"]
    context: dict[str, Any] = problem.get("ctx", {})
    field = "".join(_steps(problem["loc"])).lstrip(".")
    if kind == "json_invalid":
        return f"{what} must be JSON. Received: {context['error']}. {way_out}"
    if kind == "extra_forbidden":
        return f"field `{field}` is unknown. Received: {_shown(received)}. {way_out}"
    if kind in ("missing", "union_tag_not_found"):
        field = f"{field}.kind" if kind == "union_tag_not_found" else field
        names = ", ".join(received) if isinstance(received, dict) else _shown(received)
        return f"field `{field}` is missing. Received: {names[:200]}. {way_out}"
    rule = _WORDS.get(kind, "")
    if kind == "value_error":
        cause = context["error"]
        if isinstance(cause, WrongField):
            field, rule, received = cause.args
        else:
            rule = str(cause)
    elif kind == "union_tag_invalid":
        field, rule, received = (
            f"{field}.kind",
            f"one of {context['expected_tags']}",
            context["tag"],
        )
    elif not rule:
        rule = _rule(kind, context)
    return f"field `{field}` must be {rule}. Received: {_shown(received)}. {way_out}"


def _steps(location: tuple[int | str, ...]) -> Iterator[str]:
    """The places of a value, without the kinds that pydantic puts in between."""
    kinds = {"keras", "backbone", "graph", "folder", "https", "hf", "pip", "npm", "own"}
    for place, step in enumerate(location):
        before = location[max(place - 2, 0) : place]
        if step in kinds and (before[-1:] == ("network",) or before[:1] == ("sources",)):
            continue
        yield f"[{step}]" if isinstance(step, int) else f".{step}"


def _rule(kind: str, context: dict[str, Any]) -> str:
    """The rule that a value breaks, in words."""
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"]
        return "64 hex digits" if "64" in pattern else f"text like {pattern}"
    if kind == "literal_error":
        return str(context["expected"])
    for name, words in (
        ("ge", "{} or more"),
        ("le", "{} or less"),
        ("gt", "more than {}"),
        ("lt", "less than {}"),
        ("min_length", "a list of {} or more"),
        ("max_length", "a list of {} or less"),
    ):
        if name in context:
            return words.format(context[name])
    return "of another form"


_reader = reprlib.Repr()
_reader.maxstring = _reader.maxother = 200  # a sentence, whatever the file holds


def _shown(received: Any) -> str:
    return _reader.repr(received)
