"""Examples in docstrings, README and docs/ run, and every relative link works."""

import doctest
import functools
import importlib.util
import pkgutil
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny import tiny_embedder

import keras_facemargin
from keras_facemargin import CosFace, MarginClassifier
from keras_facemargin.data import FaceFolder
from keras_facemargin.images import write_synthetic_faces

CHECKOUT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.usefixtures("empty_plots", "short_finetuning")
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(keras_facemargin.__path__, "keras_facemargin.")
    if module.name != "keras_facemargin.__main__"  # importing it runs the command
)
WITH_EXAMPLES = [
    name for name in MODULES if ">>> " in importlib.util.find_spec(name).loader.get_source(name)
]
NUMBER = re.compile(r"-?\d+\.\d*(?:e[+-]?\d+)?")
FINDER = doctest.DocTestFinder(exclude_empty=True)


class Rounded(doctest.OutputChecker):
    """Accepts a number that rounds to the one in the docstring: last digits of float32 vary."""

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
def test_only_the_digits_beyond_those_in_the_docstring_may_differ(want, got, accepted):
    assert Rounded().check_output(want, got, 0) == accepted


@functools.cache
def examples(name):
    module = importlib.import_module(name)
    return [test for test in FINDER.find(module, extraglobs={"np": np}) if test.examples]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_docstring_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(Rounded(), optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in examples(name):
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_there_are_docstring_examples():
    assert sum(len(test.examples) for name in WITH_EXAMPLES for test in examples(name)) > 60


# A block that cannot run in a test says why: ```python {data-norun="reason"}
BLOCK = re.compile(r'^```python( \{data-norun="[^"\n]+"\})?\n(.*?)^```', re.M | re.S)


def blocks(page):
    """Line numbers and texts of the python blocks of a page that run, in order."""
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    found = list(BLOCK.finditer(text))
    assert len(found) == len(re.findall("^```py", text, re.M)), f"{page}: a fence of another form"
    return [(text.count("\n", 0, match.start(2)), match[2]) for match in found if not match[1]]


def run_blocks(page, found, names):
    for line, block in found:
        # Empty lines before it, so that an error names the line of the page.
        exec(compile("\n" * line + block, page, "exec"), names)


def test_readme_examples_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_blocks("README.md", blocks("README.md"), {})


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start") / "faces"
    write_synthetic_faces(folder, num_identities=12, images_per_identity=6)
    return FaceFolder(folder)


PAGES = sorted(path.relative_to(CHECKOUT).as_posix() for path in CHECKOUT.glob("docs/*.md"))
START = "docs/get_started.md"  # other pages use the names of its first block


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_the_examples_of_a_page_run_in_order(page, faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classifier = MarginClassifier(tiny_embedder(), CosFace(faces.num_classes, scale=30))
    classifier.compile(keras.optimizers.Adam(1e-4))
    names = {
        "keras": keras,
        "faces": faces,
        "embedder": classifier.embedder,
        "classifier": classifier,
    }
    found = blocks(page)
    run_blocks(page, found[1:] if page == START else found, names)


def test_get_started_starts_with_the_code_of_the_readme():
    (_, first), *_ = blocks(START)
    readme = "".join(block for _, block in blocks("README.md"))
    for line in first.splitlines():
        assert line in readme.splitlines()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *PAGES])
def test_every_relative_link_has_a_file_and_a_heading(page):
    text = BLOCK.sub("", (CHECKOUT / page).read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        file = (CHECKOUT / page).parent / target if target else CHECKOUT / page
        assert file.is_file(), link
        if anchor:
            assert anchor in anchors(file), link


def anchors(file):
    """The anchors of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
