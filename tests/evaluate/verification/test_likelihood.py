"""Likelihood ratios and their cost against scikit-learn, the theory of two bells, plain loops."""

import math

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from keras_facemargin.evaluate import roc, verify
from keras_facemargin.evaluate.verification import (
    cllr,
    empirical_cross_entropy,
    fit_logistic,
    isotonic_ratios,
    min_cllr,
    ratios_by_fold,
)


def bells(seed, count=4_000, distance=2.0, decimals=12, share=0.3):
    rng = np.random.default_rng(seed)
    same = rng.random(count) < share
    return np.round(rng.normal(size=count) + distance * same, decimals), same


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_the_logistic_map_equals_scikit_learn(scale):
    scores, same = bells(0)
    weights = np.where(same, 0.5 / same.sum(), 0.5 / (~same).sum()) * len(same)
    oracle = LogisticRegression(C=1e12, tol=1e-12, max_iter=10_000, solver="newton-cholesky")
    oracle.fit(scores[:, None], same, sample_weight=weights)
    found = fit_logistic(scale * scores + 0.1, same)
    slope = oracle.coef_.item() / scale
    assert found.slope == pytest.approx(slope, rel=1e-6)
    assert found.intercept == pytest.approx(oracle.intercept_.item() - 0.1 * slope, rel=1e-6)


def test_the_number_of_pairs_of_each_kind_does_not_change_the_map():
    scores, same = bells(1)
    twice = np.append(np.flatnonzero(same), np.arange(len(same)))
    once, more = fit_logistic(scores, same), fit_logistic(scores[twice], same[twice])
    assert more.slope == pytest.approx(once.slope, rel=1e-9)
    assert more.intercept == pytest.approx(once.intercept, rel=1e-9)


@pytest.mark.parametrize(("seed", "decimals"), [(0, 12), (1, 12), (2, 1), (3, 0)])
def test_isotonic_ratios_equal_scikit_learn_and_their_cost_is_min_cllr(seed, decimals):
    scores, same = bells(seed, count=700, distance=1.0, decimals=decimals)
    shares = IsotonicRegression().fit_transform(scores, same.astype(float))
    ratios = isotonic_ratios(scores, same)
    prior = same.mean()
    with np.errstate(divide="ignore"):
        oracle = np.log(shares) - np.log1p(-shares) - math.log(prior / (1 - prior))
    finite = np.isfinite(ratios)
    np.testing.assert_allclose(ratios[finite], oracle[finite], atol=1e-9)
    assert np.all((shares[~finite] < 1e-12) | (shares[~finite] > 1 - 1e-12))
    assert min_cllr(roc(scores, same)) == pytest.approx(cllr(ratios, same), abs=1e-12)


def test_no_map_of_the_scores_costs_less_than_min_cllr():
    scores, same = bells(3)
    least = min_cllr(roc(scores, same))
    fitted = cllr(fit_logistic(scores, same)(scores), same)
    assert least < fitted < least + 0.015  # the logistic map is the truth for two equal bells
    for slope, intercept in ((1.9, -2.0), (2.0, -1.8), (5.0, -5.0), (0.5, 0.0)):
        assert fitted < cllr(slope * scores + intercept, same)


def test_cost_against_a_plain_loop():
    scores, same = bells(4, count=200)
    entropy = empirical_cross_entropy(scores, same, [-1.0, 0.0, 2.0])
    for log_odds, found in zip((-1.0, 0.0, 2.0), entropy, strict=True):
        odds = 10**log_odds
        genuine = [math.log2(1 + 1 / (math.exp(s) * odds)) for s in scores[same]]
        impostor = [math.log2(1 + math.exp(s) * odds) for s in scores[~same]]
        prior = odds / (1 + odds)
        plain = prior * np.mean(genuine) + (1 - prior) * np.mean(impostor)
        assert found == pytest.approx(plain, rel=1e-12)
    assert entropy[1] == pytest.approx(cllr(scores, same), rel=1e-12)


def test_perfect_scores_cost_nothing_and_reversed_ones_as_much_as_none():
    assert min_cllr(roc([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])) == 0
    assert min_cllr(roc([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0])) == 1


def test_each_fold_has_the_map_of_the_other_folds():
    scores, same = bells(5)
    folds = np.arange(len(same)) % 4
    ratios = ratios_by_fold(scores, same, folds)
    part = folds == 2
    np.testing.assert_array_equal(
        ratios[part], fit_logistic(scores[~part], same[~part])(scores[part])
    )


@pytest.mark.parametrize(
    ("scores", "same", "words"),
    [
        (*bells(0, count=500), "at least 1,000 impostor pairs. Received: 3"),
        ([2.0] * 3 + [1.0, 0.0] * 600, [1] * 3 + [0] * 1200, "scores overlap"),
        (-bells(0)[0], bells(0)[1], "larger for one person than for two"),
    ],
)
def test_pairs_that_fix_no_map_are_refused(scores, same, words):
    with pytest.raises(ValueError, match=words):
        fit_logistic(scores, same)


def test_verify_has_the_cost_of_each_fold_by_the_map_of_the_others():
    scores, same = bells(6)
    folds = np.arange(len(same)) % 2
    found = verify(scores, same, folds=folds)
    assert found.cllr == cllr(ratios_by_fold(scores, same, folds), same)
    assert found.to_dict()["min_cllr"] == min_cllr(found.curve) < found.cllr
    assert ("minCllr (best map), bits", f"{found.min_cllr:.4f}") in found.rows()
    assert verify(scores, same).cllr is None
    assert verify(scores[:400], same[:400], folds=folds[:400]).cllr is None  # too few impostors
