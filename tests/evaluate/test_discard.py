"""Error-versus-discard curves against plain loops."""

import numpy as np
import pytest

from keras_facemargin.evaluate import error_versus_discard
from keras_facemargin.evaluate.plots import plot_error_versus_discard
from keras_facemargin.evaluate.verification import threshold_at_far


def pairs(count=400, levels=None):
    rng = np.random.default_rng(3)
    same = rng.random(count) < 0.5
    qualities = rng.random((2, count))
    if levels:
        qualities = np.round(qualities * levels) / levels
    loss = 0.6 * (1 - qualities.min(axis=0)) * rng.random(count)
    scores = np.where(same, 0.7 - loss, 0.6 * rng.random(count))
    return scores, same, qualities


def plain(scores, same, qualities, threshold, share, kind):
    """The mean over random orders of ties, of the rate after the worst are discarded."""
    rows = [i for i in range(len(same)) if same[i] == kind]
    gone, rest = share * len(rows), 0.0
    left = len(rows) - gone
    for quality in sorted({min(qualities[0][i], qualities[1][i]) for i in rows}):
        here = [i for i in rows if min(qualities[0][i], qualities[1][i]) == quality]
        kept = 1 - min(1.0, max(0.0, gone / len(here)))
        gone = max(0.0, gone - len(here))
        rest += kept * sum((scores[i] >= threshold) != kind for i in here)
    return rest / left


@pytest.mark.parametrize("levels", [None, 4])
def test_rates_equal_a_plain_loop(levels):
    scores, same, qualities = pairs(levels=levels)
    shares = [0, 0.013, 0.1, 0.25, 0.9]
    found = error_versus_discard(scores, same, tuple(qualities), threshold=0.4, fractions=shares)
    for name, kind in (("fnmr", True), ("fmr", False)):
        expected = [plain(scores, same, qualities, 0.4, share, kind) for share in shares]
        np.testing.assert_allclose(getattr(found, name), expected, atol=1e-12)


def test_the_area_is_the_mean_of_the_curve():
    scores, same, qualities = pairs()
    grid = np.linspace(0, 0.2, 201)
    found = error_versus_discard(scores, same, tuple(qualities), threshold=0.4, fractions=grid)
    assert found.area == pytest.approx(np.mean(found.fnmr))


def test_noise_keeps_the_rate_and_quality_lowers_it():
    scores, same, qualities = pairs(20_000)
    noise = np.random.default_rng(5).random((2, len(same)))
    good, random = (
        error_versus_discard(scores, same, tuple(each), far=0.2, fractions=[0, 0.2])
        for each in (qualities, noise)
    )
    assert good.threshold == random.threshold == threshold_at_far(scores[~same], 0.2)
    assert good.fnmr[0] == random.fnmr[0]
    assert good.fnmr[1] < good.fnmr[0] - 0.02
    assert abs(random.fnmr[1] - random.fnmr[0]) < 0.005


def test_intervals_over_people_hold_the_curve():
    scores, same, qualities = pairs()
    first = np.arange(len(same)) % 60
    second = np.where(same, first, (first + 1 + np.arange(len(same)) % 50) % 61)
    people = (first, np.where(~same & (second == first), 61, second))
    found = error_versus_discard(
        scores, same, tuple(qualities), threshold=0.4, people=people, replicates=60
    )
    assert len(found.fnmr_intervals) == len(found.fractions)
    for rate, ends in zip(found.fnmr, found.fnmr_intervals, strict=True):
        assert ends.low <= rate <= ends.high and ends.low < ends.high
    assert found.area_interval.low < found.area < found.area_interval.high
    assert found.to_dict()["area"] == found.area and len(found.rows()) == 8
    axes = plot_error_versus_discard({"ours": found}).axes[0]
    assert axes.get_lines()[0].get_ydata().tolist() == list(found.fnmr)
    axes.figure.canvas.draw()
    legend = axes.get_legend().get_window_extent()
    assert legend.y0 >= axes.get_window_extent().y1  # it hides no curve
    assert legend.y1 <= axes.figure.bbox.y1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"far": 0.1, "threshold": 0.4}, "one of them"),
        ({"threshold": None}, "one of them"),
        ({"fractions": [0.5, 1.0]}, r"in \[0, 1\)"),
        ({"qualities": ([1.0], [1.0])}, "one number for each image"),
        ({"qualities": (np.full(400, np.nan), np.ones(400))}, "must be finite"),
    ],
)
def test_wrong_arguments_are_named(change, words):
    scores, same, qualities = pairs()
    options = {"qualities": tuple(qualities), "threshold": 0.4} | change
    with pytest.raises(ValueError, match=words):
        error_versus_discard(scores, same, **options)
