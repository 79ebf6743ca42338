"""Named bars: met, missed, not decided, or without enough pairs."""

import re

import pytest

from keras_facemargin import load_card
from keras_facemargin.bars import BARS, Bar

pytestmark = pytest.mark.any_backend
BAR = Bar("a rule", 1e-3, 0.05, "its text")


@pytest.mark.parametrize(
    ("fnmr", "interval", "pairs", "verdict"),
    [
        (0.02, (0.01, 0.03), 30_000, "met: FNMR 2.00% (1.00% to 3.00%)"),
        (0.02, (0.01, 0.05), 30_000, "not decided: FNMR 2.00% (1.00% to 5.00%)"),
        (0.06, (0.05, 0.07), 30_000, "missed: FNMR 6.00% (5.00% to 7.00%)"),
        (0.02, None, 30_000, "not decided: FNMR 2.00%, without an interval"),
        (0.02, (0.01, 0.03), 29_999, "not supported by 29,999 impostor pairs"),
        (None, None, 30_000, "not measured at this FMR"),
    ],
)
def test_the_whole_interval_is_compared_with_the_bar(fnmr, interval, pairs, verdict):
    assert BAR.judge(fnmr, interval, pairs) == verdict


def test_the_bars_have_a_source_and_a_title():
    assert [(bar.fmr, bar.fnmr) for bar in BARS] == [(1e-4, 0.05), (1e-5, 0.05)]
    assert all(len(bar.source) > 40 for bar in BARS)
    assert BARS[0].title == "NIST SP 800-63B-4: FNMR < 5% at FMR 1e-4"
    assert BARS[1].fewest_impostors == 3_000_000


def test_a_card_is_judged_at_its_thresholds():
    card = load_card("spherenet_distilled")
    at = {one.far: one for one in card.thresholds.mirrored}
    sure = [one.model_copy(update={"tar_interval": (0.3, 0.6)}) for one in at.values()]
    found = card.changed(thresholds=card.thresholds.model_copy(update={"mirrored": tuple(sure)}))
    for bar, words in zip(BARS, found.bars, strict=True):
        fnmr = 1 - at[bar.fmr].tar
        assert words == f"{bar.title}; missed: FNMR {fnmr:.2%} (40.00% to 70.00%)"
    only = card.thresholds.model_copy(update={"mirrored": (at[1e-2],)})
    assert all("not measured at this FMR" in words for words in card.changed(thresholds=only).bars)
    few = at[1e-4].model_copy(update={"impostor_pairs": 20_000})
    only = card.thresholds.model_copy(update={"mirrored": (few,)})
    assert all(
        re.search("not supported by 20,000 impostor pairs", words)
        for words in card.changed(thresholds=only).bars
    )
    assert card.changed(thresholds=None).bars == ()
