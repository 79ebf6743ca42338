"""Figures: what is drawn equals what was counted."""

import sys

import numpy as np
import pytest
from PIL import Image

from keras_facemargin.evaluate import (
    Pairs,
    plot_hardest_pairs,
    plot_roc,
    plot_scores,
    tar_at_far,
)


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    same = np.arange(500) % 2 == 0
    return rng.normal(size=500) + 2 * same, same


def test_roc_is_the_conservative_staircase_down_to_one_impostor(sample):
    (axes,) = plot_roc({"ours": sample}).get_axes()
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
    (axes,) = plot_roc({"all": sample, "few": (scores[:100], same[:100])}).get_axes()
    starts = [line.get_xdata()[0] for line in axes.get_lines() if len(line.get_xdata()) > 1]
    assert starts == [1 / 250, 1 / 50]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names[0].startswith("all") and names[1].startswith("few")


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="at least one name"):
        plot_roc({})


def test_histograms_hold_every_score_and_name_the_errors(sample):
    scores, same = sample
    (axes,) = plot_scores(scores, same, threshold=1.0).get_axes()
    shares = [patch.get_data().values.sum() for patch in axes.patches]
    np.testing.assert_allclose(shares, 1.0)
    assert f"FAR {np.mean(scores[~same] >= 1.0):.2%}" in axes.get_title()
    assert f"FNMR {np.mean(scores[same] < 1.0):.2%}" in axes.get_title()


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


def test_without_matplotlib_the_extra_is_named(sample, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'keras_facemargin\[plots\]'"):
        plot_scores(*sample)
