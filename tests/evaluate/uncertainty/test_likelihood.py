"""Intervals of Cllr and minCllr: draws of people against pairs repeated by hand."""

import numpy as np
import pytest

from keras_facemargin.evaluate import roc
from keras_facemargin.evaluate.uncertainty import bootstrap_cllr
from keras_facemargin.evaluate.uncertainty.resampling import Draws
from keras_facemargin.evaluate.verification import cllr, min_cllr


def test_each_draw_equals_the_costs_of_the_drawn_pairs():
    rng = np.random.default_rng(0)
    people = np.array([np.arange(60) % 12, np.append(np.arange(24) % 12, rng.integers(0, 12, 36))])
    same = people[0] == people[1]
    scores = np.round(rng.normal(size=60) + 2 * same, 1)
    ratios = 2 * scores - 2
    found = bootstrap_cllr(scores, same, ratios=ratios, people=people, replicates=5, seed=3)
    draws = Draws(same, people, seed=3)
    for of_ratios, least in zip(found.cllr, found.min_cllr, strict=True):
        drawn = np.repeat(np.arange(60), draws.times())
        assert of_ratios == pytest.approx(cllr(ratios[drawn], same[drawn]), rel=1e-12)
        assert least == pytest.approx(min_cllr(roc(scores[drawn], same[drawn])), rel=1e-12)
    assert bootstrap_cllr(scores, same, people=people, replicates=2).cllr is None
