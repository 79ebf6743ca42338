"""Docstrings become readable pages of the site."""

import importlib

import pytest


@pytest.mark.parametrize(
    ("docstring", "page"),
    [
        (
            "Adds.\n\nExample:\n    >>> 1 + 1\n    2",
            "Adds.\n\n**Example**\n\n```pycon\n>>> 1 + 1\n2\n```",
        ),
        ("Example:\n\n>>> 1\n1\n\nThen.", "**Example**\n\n\n```pycon\n>>> 1\n1\n```\n\nThen."),
        (
            "Returns:\n    A number.\n\nRaises:\n    E: no.",
            "**Returns**\n\nA number.\n\nRaises:\n    E: no.",
        ),
        ("Args:\n    a, b: sides.", "Args:\n    a,\N{NO-BREAK SPACE}b: sides."),
    ],
)
def test_a_docstring_becomes_readable(docstring, page):
    pytest.importorskip("griffe", reason="needs the extra docs")
    assert importlib.import_module("docstring_examples").readable(docstring) == page
