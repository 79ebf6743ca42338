"""Figures: the drawn values equal the counted ones."""

import sys

import numpy as np
import pytest
from PIL import Image

from keras_facemargin.evaluate import (
    Pairs,
    bootstrap,
    identify,
    interval,
    plot_hardest_pairs,
    plot_roc,
    plot_scores,
    rates_by_group,
    roc,
    tar_at_far,
)
from keras_facemargin.evaluate.at_scale import ScoreHistogram
from keras_facemargin.evaluate.plots import (
    plot_cmc,
    plot_det,
    plot_groups,
    plot_open_set,
    plot_score_histogram,
)
from keras_facemargin.evaluate.uncertainty import bootstrap_searches


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    same = np.arange(500) % 2 == 0
    return rng.normal(size=500) + 2 * same, same


def test_roc_is_the_conservative_staircase_down_to_one_impostor(sample):
    (axes,) = plot_roc({"ours": roc(*sample)}).get_axes()
    line = axes.get_lines()[0]
    far, tar = line.get_data()
    assert line.get_drawstyle() == "steps-post"
    assert far[0] == 1 / 250
    assert far[-1] == 1.0
    for position in (0, 3, 40):
        assert tar[position] == tar_at_far(*sample, far[position]).tar
    assert axes.get_xscale() == "log"
    assert any("1 / 250" in text.get_text() for text in axes.texts)


def test_models_of_different_sizes_each_begin_at_their_own_limit(sample):
    scores, same = sample
    (axes,) = plot_roc({"all": roc(*sample), "few": roc(scores[:100], same[:100])}).get_axes()
    starts = [line.get_xdata()[0] for line in axes.get_lines() if len(line.get_xdata()) > 1]
    assert starts == [1 / 250, 1 / 50]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names[0].startswith("all") and names[1].startswith("few")


def test_the_det_is_the_roc_turned_over(sample):
    (roc_axes,) = plot_roc({"ours": roc(*sample)}).get_axes()
    (axes,) = plot_det({"ours": roc(*sample)}).get_axes()
    far, tar = roc_axes.get_lines()[0].get_data()
    again, misses = axes.get_lines()[0].get_data()
    np.testing.assert_array_equal(again, far)
    np.testing.assert_allclose(misses[tar < 1], 1 - tar[tar < 1])
    assert np.isnan(misses[tar == 1]).all()
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_ylim()[0] < 1 / 250
    axes.figure.canvas.draw()
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert {"1%", "10%", "100%"} <= {*labels}
    assert "0%" not in labels


def test_a_det_without_an_error_is_empty():
    (axes,) = plot_det({"ours": roc([0.9, 0.8, 0.1, 0.2], [1, 1, 0, 0])}).get_axes()
    assert np.isnan(axes.get_lines()[0].get_ydata()).all()


@pytest.mark.parametrize("plot", [plot_roc, plot_det])
def test_bands_hold_the_middle_of_the_draws(sample, plot):
    draws = bootstrap(*sample, replicates=40, progress=False)
    (axes,) = plot({"ours": roc(*sample)}, bands={"ours": draws}).get_axes()
    corners = axes.collections[0].get_paths()[0].vertices
    ends = interval(draws.band[:, 0])
    expected = {ends.low, ends.high} if plot is plot_roc else {1 - ends.low, 1 - ends.high}
    at_first = corners[corners[:, 0] == draws.band_fars[0], 1]
    assert {*at_first} == expected


def test_every_group_has_its_rates_and_their_ends(sample):
    scores, same = sample
    names = np.where(np.arange(500) % 3 == 0, "a", "b")
    names[1] = "c"  # an impostor pair only
    rates = rates_by_group(scores, same, (names, names), threshold=1.0, replicates=20)
    left, right = plot_groups(rates).get_axes()
    for axes, kind in ((left, "fmr"), (right, "fnmr")):
        found = [getattr(group, kind) for group in rates]
        known = [rate for rate in found if rate.rate is not None]
        lines = axes.get_lines()
        assert [line.get_xdata().tolist() for line in lines[:-1:2]] == [
            [rate.interval.low, rate.interval.high] for rate in known
        ]
        assert [line.get_xdata()[0] for line in lines[1:-1:2]] == [rate.rate for rate in known]
        assert lines[-1].get_xdata()[0] == found[0].rate
    assert [text.get_text() for text in left.get_yticklabels()] == ["all pairs", "a", "b", "c"]
    assert [text.get_text() for text in right.texts] == [" no pairs"]
    assert left.get_ylim()[0] > left.get_ylim()[1]


def test_of_several_splits_the_mean_is_drawn(sample):
    scores, same = sample
    parts = [roc(scores[:300], same[:300]), roc(scores[300:], same[300:])]
    (axes,) = plot_roc({"both": parts}).get_axes()
    mean, _, *thin = (line.get_ydata() for line in axes.get_lines())
    far = axes.get_lines()[0].get_xdata()
    assert (far[0], far[-1], len(thin)) == (1 / 100, 1.0, 2)
    for position in (0, 7, 50):
        expected = [curve.tar[curve.far <= far[position]].max() for curve in parts]
        assert [each[position] for each in thin] == expected
        assert mean[position] == np.mean(expected)
    area = np.mean([curve.area() for curve in parts])
    assert f"AUC {area:.4f}" in axes.get_legend().get_texts()[0].get_text()


def test_a_curve_of_the_hardest_pairs_ends_where_it_is_not_known(sample):
    curve = roc(*sample).with_all(10_000)
    (axes,) = plot_roc({"ours": curve}).get_axes()
    far, tar = axes.get_lines()[0].get_data()
    assert (far[0], far[-1]) == (1 / 10_000, 249 / 10_000)
    assert tar[0] == curve.largest_tar(1 / 10_000)
    assert axes.get_legend().get_texts()[0].get_text() == "ours"


@pytest.fixture
def searches():
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 40
    centers = rng.normal(size=(40, 6))
    probes = centers[labels] + rng.normal(size=(120, 6))
    return identify(
        centers[:25], probes, gallery_labels=np.arange(25), probe_labels=labels, progress=False
    ), labels


def test_ranks_and_alarms_are_drawn_as_counted(searches):
    found, labels = searches
    draws = bootstrap_searches({"all": found}, labels, replicates=20, progress=False)
    (axes,) = plot_cmc({"ours": found.cmc(50)}, bands={"ours": draws}).get_axes()
    ranks, rates = axes.get_lines()[0].get_data()
    np.testing.assert_array_equal(rates, [found.rank_rate(int(rank)) for rank in ranks])
    corners = axes.collections[0].get_paths()[0].vertices
    ends = interval(draws.cmc[:, 0])
    assert {*corners[corners[:, 0] == 1, 1]} == {ends.low, ends.high}
    (axes,) = plot_open_set({"ours": found.open_set()}, bands={"ours": draws}).get_axes()
    fpir, tpir = axes.get_lines()[0].get_data()
    assert (fpir[0], fpir[-1]) == (1 / 45, 44 / 45)
    assert tpir[4] == found.tpir_at_fpir(fpir[4]).tpir
    assert any("1 / 45: no non-mated probe" in text.get_text() for text in axes.texts)


@pytest.mark.parametrize("plot", [plot_roc, plot_det, plot_cmc, plot_open_set])
def test_nothing_to_draw_is_refused(plot):
    with pytest.raises(ValueError, match="at least one name"):
        plot({})


def test_histograms_hold_every_score_and_name_the_errors(sample):
    scores, same = sample
    (axes,) = plot_scores(scores, same, threshold=1.0).get_axes()
    shares = [patch.get_data().values.sum() for patch in axes.patches]
    np.testing.assert_allclose(shares, 1.0)
    assert f"FAR {np.mean(scores[~same] >= 1.0):.2%}" in axes.get_title()
    assert f"FNMR {np.mean(scores[same] < 1.0):.2%}" in axes.get_title()


def test_counted_scores_are_drawn_as_shares_of_their_kind():
    histogram = ScoreHistogram(np.arange(200), np.arange(200)[::-1] * 1_000, -0.5)
    (axes,) = plot_score_histogram(histogram).get_axes()
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["19,900,000 impostor pairs", "19,900 genuine pairs"]
    outlines = axes.patches[1::2]
    edges, genuine, _ = histogram.rebinned(80)
    np.testing.assert_array_equal(outlines[1].get_data().edges, edges)
    np.testing.assert_allclose(outlines[1].get_data().values, genuine / 19_900)


def test_hardest_pairs_leave_out_missing_images(tmp_path):
    paths = tuple(tmp_path / f"{index}.png" for index in range(5))
    for path in paths[:4]:
        Image.new("RGB", (112, 112)).save(path)
    pairs = Pairs(
        first=(paths[0], paths[1], paths[0], paths[1]),
        second=(paths[1], paths[4], paths[2], paths[3]),
        same=np.array([True, True, False, False]),
        missing=frozenset({paths[4]}),
    )
    figure = plot_hardest_pairs(pairs, np.array([0.5, -1.0, 0.1, 0.4]), count=2)
    shown = [axes.get_xlabel() for axes in figure.get_axes()]
    assert shown == ["0.500", "", "0.400", "0.100"]
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_a_pair_of_several_splits_is_shown_once(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(4)]
    for path in paths:
        Image.new("RGB", (112, 112)).save(path)
    first, second = (paths[0], paths[1], paths[0], paths[2]) * 2, (*paths, *paths)
    pairs = Pairs(first[:3] * 2, second[1:4] * 2, np.array([True, True, False] * 2))
    figure = plot_hardest_pairs(pairs, np.array([0.5, 0.6, 0.1] * 2), count=3)
    assert [axes.get_xlabel() for axes in figure.get_axes()] == [
        "0.500",
        "0.600",
        "",
        "0.100",
        "",
        "",
    ]


def test_without_matplotlib_the_extra_is_named(sample, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'keras_facemargin\[plots\]'"):
        plot_scores(*sample)
