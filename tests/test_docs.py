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
NUMBER = re.compile(r"-?\d+\.\d*(?:e[+-]?\d+)?")
FINDER = doctest.DocTestFinder(exclude_empty=True)


class Rounded(doctest.OutputChecker):
    """Takes a number that rounds to the one written: float32 and BLAS differ in the last digits."""

    def check_output(self, want, got, optionflags):
        written = iter(NUMBER.findall(want))

        def rounded(match):
            decimals = len(next(written, "").partition(".")[2])
            return f"{float(match[0]):.{decimals}f}" if decimals else match[0]

        got = NUMBER.sub(rounded, got)
        return super().check_output(want, got, optionflags)


@pytest.mark.parametrize(
    ("want", "got", "accepted"),
    [
        ("0.8\n", "0.800000011920929\n", True),
        ("[[41.6, 64.0]]\n", "[[41.599998474121094, 64.0]]\n", True),
        ("0.8\n", "0.86\n", False),
        ("0.8\n", "[0.8]\n", False),
        ("[0.8]\n", "[0.8, 0.8]\n", False),
        ("8\n", "9\n", False),
    ],
)
def test_only_the_digits_beyond_those_written_are_free(want, got, accepted):
    assert Rounded().check_output(want, got, 0) == accepted


def examples(name):
    module = importlib.import_module(name)
    return [test for test in FINDER.find(module, extraglobs={"np": np}) if test.examples]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(Rounded(), optionflags=doctest.NORMALIZE_WHITESPACE)
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


def test_the_readme_tells_what_each_card_says():
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    for name in keras_facemargin.list_embedders():
        card = keras_facemargin.load_card(name)
        lfw = card.protocols["lfw"]
        figures = f"{lfw.accuracy:.2%} ± {lfw.standard_error:.2%} | {lfw.tar_at_far['1e-3']:.1%}"
        assert f"| {card.parameters:,} | {card.embedding_dim} |" in readme
        assert figures in readme
