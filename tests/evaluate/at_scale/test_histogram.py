"""Pairs in narrow bins against the list of all of them."""

import importlib

import numpy as np
import pytest

from keras_facemargin.evaluate import all_pairs, roc, verify_all_pairs
from keras_facemargin.evaluate.at_scale import ScoreHistogram, verify_listed_pairs
from keras_facemargin.evaluate.at_scale.histogram import WIDTH, Bins

MODULE = importlib.import_module("keras_facemargin.evaluate.at_scale.histogram")


@pytest.fixture(scope="module")
def faces():
    rng = np.random.default_rng(0)
    labels = np.arange(120) // 4
    return rng.normal(size=(30, 16))[labels] + 0.8 * rng.normal(size=(120, 16)), labels


@pytest.fixture(scope="module", params=["all pairs", "a list"])
def histogram(request, faces):
    rows, labels = faces
    if request.param == "all pairs":
        return verify_all_pairs(rows, labels, progress=False).histogram
    first, second = np.triu_indices(120, k=1)
    same = labels[first] == labels[second]
    return verify_listed_pairs(rows, first, second, same=same, progress=False).histogram


def test_every_pair_is_in_its_bin_or_beside_it(faces, histogram):
    scores, same = all_pairs(*faces)
    for kind, counts in ((same, histogram.genuine), (~same, histogram.impostor)):
        assert counts.sum() == kind.sum()
        begins = histogram.lowest + np.repeat(np.arange(len(counts)), counts) * WIDTH
        off = np.sort(scores[kind]) - begins
        slack = Bins(16).margin * WIDTH
        assert -slack <= off.min() <= off.max() <= WIDTH + slack


def test_the_curve_is_the_one_of_the_scores_but_for_a_bin(faces, histogram):
    scores, same = all_pairs(*faces)
    expected, found = roc(scores, same), histogram.curve()
    assert (found.genuines, found.impostors) == (expected.genuines, expected.impostors)
    assert found.area() == pytest.approx(expected.area(), abs=1e-4)
    assert found.equal_error_rate() == pytest.approx(expected.equal_error_rate(), abs=1e-3)
    slack = Bins(16).margin * WIDTH
    for threshold, accepted in zip(found.thresholds[1:], found.false_accepts[1:], strict=True):
        impostors = scores[~same]
        assert (impostors >= threshold + slack).sum() <= accepted
        assert accepted <= (impostors >= threshold - slack).sum()


def test_wider_bins_hold_the_same_pairs(histogram):
    edges, genuine, impostor = histogram.rebinned(7)
    assert len(edges) == 8
    assert (genuine.sum(), impostor.sum()) == (histogram.genuine.sum(), histogram.impostor.sum())
    held = np.flatnonzero(histogram.genuine + histogram.impostor)
    assert edges[[0, -1]] == pytest.approx(histogram.lowest + WIDTH * (held[[0, -1]] + [0, 1]))
    middle = round((edges[3] - histogram.lowest) / WIDTH)
    assert genuine[:3].sum() == histogram.genuine[:middle].sum()


def test_areas_beyond_64_bits_are_whole():
    many = np.array([2**33, 2**33])
    curve = ScoreHistogram(many, many, 0.0).curve()
    assert curve.area() == 0.5
    assert curve.equal_error_rate() == 0.5
