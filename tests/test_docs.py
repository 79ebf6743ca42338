"""Every example that stands in a docstring or in the README runs."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import keras_facemargin

CHECKOUT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(keras_facemargin.__path__, "keras_facemargin.")
    if module.name != "keras_facemargin.__main__"  # importing it runs the command
)
FINDER = doctest.DocTestFinder(exclude_empty=True)


def examples(name):
    module = importlib.import_module(name)
    return [test for test in FINDER.find(module, extraglobs={"np": np}) if test.examples]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in examples(name):
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_there_are_docstring_examples():
    assert sum(len(test.examples) for name in MODULES for test in examples(name)) > 60


def test_readme_examples_run_in_order(tmp_path, monkeypatch):
    blocks = re.findall(r"^```python\n(.*?)^```", (CHECKOUT / "README.md").read_text(), re.M | re.S)
    if not blocks:
        pytest.skip("README.md has no python block")
    monkeypatch.chdir(tmp_path)
    names = {}
    for number, block in enumerate(blocks, start=1):
        exec(compile(block, f"README.md, python block {number}", "exec"), names)
