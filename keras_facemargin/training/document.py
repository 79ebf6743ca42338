"""A recipe as a TOML document: read, changed by `--set`, written."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from keras_facemargin.files import read_text

Document = dict[str, Any]


def read_document(file: Path) -> tuple[str, Document]:
    """The text of a TOML file and its content; the keys are not checked.

    Raises:
        ValueError: the file is not TOML.
        OSError: the file cannot be read.
    """
    text = read_text(file, "a recipe")
    try:
        return text, tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"A recipe must be a TOML file. Received: {file}: {error}") from None


def apply_change(document: Document, change: str) -> None:
    """Changes one key of a document, in place.

    Args:
        document: the document.
        change: "KEY=VALUE". The key is dotted; the value is TOML, and a text needs no quotes.

    Raises:
        ValueError: the change has no key or no value, or a part of the key is not a table.

    Example:

    >>> document = {"head": {"name": "CosFace"}}
    >>> apply_change(document, "head.margin=0.4")
    >>> document
    {'head': {'name': 'CosFace', 'margin': 0.4}}
    """
    key, equals, value = change.partition("=")
    names = [name.strip() for name in key.split(".")]
    if not (equals and value.strip() and all(names)):
        raise ValueError(
            "--set must be KEY=VALUE with a dotted key, such as head.margin=0.4. "
            f"Received: {change!r}."
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


def _value(text: str) -> Any:
    """A TOML value; any other text is a string."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text


def to_toml(document: Document, comment: str) -> str:
    """The document as TOML: a comment, the keys of the top, the tables.

    Example:

    >>> print(to_toml({"head": {"margin": 0.4}, "epochs": 2}, "changed"), end="")
    # changed
    epochs = 2
    <BLANKLINE>
    [head]
    margin = 0.4
    """
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    top = {key: value for key, value in document.items() if key not in tables}
    lines = [f"# {_one_line(comment)}", *_pairs(top)]
    for name, table in tables.items():
        lines += ["", f"[{_key(name)}]", *_pairs(table)]
    return "\n".join(lines) + "\n"


def _pairs(table: Document) -> list[str]:
    return [f"{_key(key)} = {_toml_value(value)}" for key, value in table.items()]


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml_value(key)


def _one_line(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(_pairs(value))}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, str):  # TOML's strings are JSON's, apart from DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
