"""docs/comparison.md is current, and its claims about this package hold."""

import importlib.util
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


def _tool():
    path = CHECKOUT / "tools" / "figures" / "compare_heads.py"
    spec = importlib.util.spec_from_file_location("compare_heads", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOOL = _tool()
ROWS = {
    f"{title}: {row.code}": (row, angles, other)
    for groups, angles, other in (
        (TOOL.TARGETS, TOOL.ANGLES, False),
        (TOOL.OTHERS, TOOL.OTHER_ANGLES, True),
    )
    for title, rows in groups.items()
    for row in rows
}
REPRODUCED = [name for name, (row, *_) in ROWS.items() if row.ours]


@pytest.mark.parametrize("name", REPRODUCED)
def test_a_claimed_reproduction_holds(name):
    assert TOOL.difference(*ROWS[name]) < TOOL.TOLERANCE


def test_the_comparison_can_tell_two_continuations_apart():
    title = next(iter(TOOL.TARGETS))
    default, linear = TOOL.TARGETS[title][:2]
    assert TOOL.difference(default._replace(ours=linear.ours), TOOL.ANGLES) > 0.1
    detached = default._replace(ours="ArcFace(detach_margin=True)")
    assert TOOL.difference(detached, TOOL.ANGLES) > 0.1


@pytest.mark.parametrize("name", [name for name in ROWS if name not in REPRODUCED])
def test_a_row_that_is_not_reproduced_gives_the_reason(name):
    assert ROWS[name][0].remark


def test_the_page_is_current():
    written = (CHECKOUT / "docs" / "comparison.md").read_text(encoding="utf-8")
    assert written == TOOL.page(), "run: python tools/figures/compare_heads.py docs/comparison.md"


def test_elasticface_plus_gives_the_farthest_the_largest_margin():
    cosines, drawn, theirs, ours = TOOL.handed_out()
    assert ours[cosines.argsort()] == pytest.approx(sorted(drawn, reverse=True))
    assert theirs.tolist() == [0.45, 0.6, 0.5, 0.4]  # arXiv:2109.09416, as its code does it
