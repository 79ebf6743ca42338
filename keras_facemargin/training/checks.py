"""One sentence for what pydantic finds wrong with a recipe."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

# pydantic's type of an error -> the value that the key must have.
_KINDS = {
    "bool_type": "true or false",
    "dict_type": "a table",
    "finite_number": "a finite number",
    "float_type": "a finite number",
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "int_type": "a whole number",
    "less_than": "below {lt:g}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "margin": "a number, numbers, or {{by_class_size = LARGEST}} with a number above 0",
    "model_type": "a table",
    "number": "a finite number",
    "string_type": "a text",
    "too_long": "a list of {max_length} values",
    "too_short": "a list of {min_length} values",
}


class Table(BaseModel):
    """A table of a recipe: no other keys, no conversion of texts to numbers, no inf and nan."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


AnyTable = TypeVar("AnyTable", bound=Table)


class Refusal(ValueError):
    """A rule that a recipe breaks.

    Args:
        rule: what must be true.
        received: what the recipe has instead.
        advice: what to do, or "".
    """

    def __init__(self, rule: str, received: str, advice: str = "") -> None:
        super().__init__(rule)
        self.rule, self.received, self.advice = rule, received, advice

    def sentence(self, file: Path) -> str:
        return f"{self.rule} Received: {file}: {self.received}.{self.advice}"


def check(model: type[AnyTable], content: Any, *, file: Path, table: str = "") -> AnyTable:
    """Checks a table of a recipe.

    Args:
        model: the keys of the table.
        content: the table, as `tomllib` reads it.
        file: the recipe, for the error.
        table: the table's dotted name; "" is the top of the file.

    Returns:
        An instance of `model`.

    Raises:
        ValueError: a key is unknown, missing or of another type; the error names one of them.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        # An unknown key first: it may be the missing one, misspelt.
        found = error.errors(include_url=False)
        first = min(found, key=lambda each: each["type"] != "extra_forbidden")
        raise ValueError(_sentence(model, first, file, table)) from None


def unknown(name: str, value: Any, known: Iterable[str]) -> Refusal:
    """Refuses a value that is not among the known ones, and suggests the nearest."""
    known = list(known)
    return Refusal(
        f"`{name}` must be one of {', '.join(known)}.",
        f"{_last(name)} = {value!r}",
        _guess(str(value), known),
    )


def _sentence(model: type[Table], error: ErrorDetails, file: Path, table: str) -> str:
    """What is wrong, what was received, what to do."""
    path = [part for part in error["loc"] if isinstance(part, str)]
    name = ".".join([*([table] if table else []), *path])
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    cause = context.get("error")
    if isinstance(cause, Refusal):
        return cause.sentence(file)
    if kind == "missing":
        return f"A recipe needs `{name}`{_meaning(model, path)}. Received: {file} without it."
    received = f"Received: {file}: {_last(name)} = {value!r:.200}."
    if kind == "extra_forbidden":
        known = list(_model_at(model, path[:-1]).model_fields)
        guess = _guess(path[-1], known, name.removesuffix(path[-1]))
        return f"`{name}` is unknown. {received}{guess} Known: {', '.join(known)}."
    guess = ""
    if kind == "literal_error":
        guess = _guess(str(value), context["expected"].replace(" or ", ", ").split(", "))
    rule = _KINDS[kind].format(**context)
    return f"`{name}` must be {rule}{_meaning(model, path)}. {received}{guess}"


def _guess(given: str, known: list[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(given, [each.strip("'") for each in known], 1, cutoff=0.5)
    return f" Did you mean {prefix + near[0]!r}?" if near else ""


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _meaning(model: type[Table], path: list[str]) -> str:
    """The description of a key, as a clause."""
    field = _model_at(model, path[:-1]).model_fields.get(path[-1])
    return f": {field.description}" if field and field.description else ""


def _model_at(model: type[BaseModel], path: list[str]) -> type[BaseModel]:
    """The model of an inner table."""
    for key in path:
        annotation = model.model_fields[key].annotation
        for each in (annotation, *getattr(annotation, "__args__", ())):
            if isinstance(each, type) and issubclass(each, BaseModel):
                model = each
    return model
