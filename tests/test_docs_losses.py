"""docs/losses.md names every head, and its figures are the measured ones."""

import importlib.util
from pathlib import Path

import pytest
from cases import HEADS

DOCS = Path(__file__).resolve().parents[1] / "docs"


def _tool():
    path = DOCS.parent / "tools" / "figures" / "draw_losses.py"
    spec = importlib.util.spec_from_file_location("draw_losses", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOOL = _tool()


@pytest.mark.parametrize("name", HEADS)
def test_the_page_has_a_line_for_every_head(name):
    page = (DOCS / "losses.md").read_text(encoding="utf-8")
    assert f"\n| `{name}`" in page.partition("## All of them")[2]
    assert name in TOOL.PLANE


def test_the_figures_are_those_measured():
    table = TOOL.figures(DOCS / "losses_digits.csv")
    assert table in (DOCS / "losses.md").read_text(encoding="utf-8")
    assert table.count("\n") == len(HEADS)


def test_curves_are_those_of_the_heads():
    by_label = {curve.label: curve for *_, curves in TOOL.PANELS for curve in curves}
    degrees, at_right_angles = TOOL.DEGREES, list(TOOL.DEGREES).index(90.0)
    assert degrees[at_right_angles] == 90.0
    _, cosface = TOOL.logits_of(by_label["CosFace 0.35; MVSoftmax, SVSoftmax am"])
    assert cosface[at_right_angles] == pytest.approx(-0.35)
    _, wrong = TOOL.logits_of(by_label["SVSoftmax, t = 1.2"])
    assert wrong[0] == pytest.approx(1.4, abs=1e-5)  # 1.2 cos(0) + 0.2
    assert wrong[at_right_angles] == pytest.approx(0.0, abs=1e-9)
