"""The names that `keras_facemargin.evaluate` exports."""

import re
from pathlib import Path

from keras_facemargin import evaluate

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api" / "evaluate.md"


def test_the_site_lists_them():
    assert sorted(re.findall(r"\[`(\w+)`\]", PAGE.read_text())) == sorted(evaluate.__all__)
