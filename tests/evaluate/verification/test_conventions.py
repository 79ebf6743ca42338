"""Published rules on the field's numeric example, and against the libraries their codes call."""

import numpy as np
import pytest
from scipy.interpolate import interp1d
from sklearn.metrics import roc_curve

from keras_facemargin.evaluate import roc, tar_at_far
from keras_facemargin.evaluate.verification import RULES, validation_rate

GENUINE = [0.9, 0.8, 0.6, 0.35]
IMPOSTOR = [0.7, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05, 0.02, 0.01]


def example(times=1):
    """The example of the notes; repeated, so that 0.05 is a rate of its pairs."""
    same = np.repeat([True] * 4 + [False] * 10, times)
    return np.repeat(GENUINE + IMPOSTOR, times), same


def sample(seed, count=400, levels=19):
    """Scores with ties, genuine ones higher on the whole."""
    rng = np.random.default_rng(seed)
    same = rng.random(count) < 0.3
    return np.round((rng.normal(size=count) + 1.5 * same) * levels / 6) / levels, same


@pytest.mark.parametrize(
    ("far", "rates"),
    [
        (0.05, {"kth_impostor": 0.5, "nearest": 0.75, "conservative": 0.5, "interpolated": 0.5}),
        (0.1, {"kth_impostor": 0.5, "nearest": 0.75, "conservative": 0.75, "interpolated": 0.75}),
        (0.3, {"kth_impostor": 0.75, "nearest": 1.0, "conservative": 1.0, "interpolated": 1.0}),
    ],
)
def test_the_example_of_the_notes(far, rates):
    for rule, rate in rates.items():
        assert tar_at_far(*example(2), far, rule=rule).tar == rate
        if far > 0.05:
            assert tar_at_far(*example(), far, rule=rule).tar == rate


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_answers_below_one_pair(rule):
    answer = tar_at_far(*example(), 0.05, rule=rule)
    assert str(answer) == "not supported by 10 impostor pairs"
    assert answer.fnmr is None
    with pytest.raises(ValueError, match=r"rate in \(0, 1\)"):
        tar_at_far(*example(), 1.0, rule=rule)


def test_an_unknown_rule_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"conservative, nearest, .*Received: 'best'"):
        tar_at_far(*example(), 0.1, rule="best")


def test_collapsed_embeddings_have_no_threshold_by_the_nearest_point():
    """All scores tie: a report of it is JSON, which has no infinity."""
    answer = tar_at_far(np.ones(60), np.arange(60) < 20, 0.1, rule="nearest")
    assert (answer.tar, answer.far, answer.threshold) == (0, 0, None)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("levels", [4, 19, 10**6])
def test_nearest_is_the_published_loop_over_scikit_learn(seed, levels):
    scores, same = sample(seed, levels=levels)
    fpr, tpr, thresholds = (np.flipud(each) for each in roc_curve(same, scores))
    for far in (0.004, 0.01, 0.0312, 0.1, 0.25, 0.5, 0.9):
        _, index = min(zip(abs(fpr - far), range(len(fpr)), strict=True))
        answer = tar_at_far(scores, same, far, rule="nearest")
        assert (answer.tar, answer.far) == (tpr[index], fpr[index])
        wanted = thresholds[index]  # infinite where nothing is accepted
        assert answer.threshold == (wanted if np.isfinite(wanted) else None)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("levels", [4, 19, 10**6])
def test_interpolated_is_scipys(seed, levels):
    scores, same = sample(seed, levels=levels)
    fpr, tpr, _ = roc_curve(same, scores)
    for far in (0.004, 0.01, 0.0312, 0.1, 0.25, 0.5, 0.9, *fpr[(fpr > 0.01) & (fpr < 1)][:5]):
        answer = tar_at_far(scores, same, float(far), rule="interpolated")
        assert answer.tar == pytest.approx(float(interp1d(fpr, tpr)(far)), abs=1e-14)
        assert answer.threshold is None
        assert str(answer) == f"{answer.tar:.2%}"


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("levels", [4, 19, 10**6])
def test_kth_impostor_is_a_sort(seed, levels):
    scores, same = sample(seed, levels=levels)
    impostors = np.sort(scores[~same])[::-1]
    for far in (0.004, 0.01, 0.0312, 0.1, 0.25, 0.5, 0.9):
        threshold = impostors[round(far * len(impostors)) - 1]
        answer = tar_at_far(scores, same, far, rule="kth_impostor")
        assert answer.threshold == threshold
        assert answer.tar == np.mean(scores[same] >= threshold)
        assert answer.far == np.mean(impostors >= threshold)


def test_conservative_is_never_above_the_target_and_the_others_may_be():
    scores, same = sample(0)
    for far in (0.01, 0.1, 0.3):
        answers = {rule: tar_at_far(scores, same, far, rule=rule) for rule in RULES}
        assert answers["conservative"].far <= far
        assert answers["conservative"].fnmr == 1 - answers["conservative"].tar
        assert answers["interpolated"].tar >= answers["conservative"].tar
    assert tar_at_far(*example(2), 0.05, rule="nearest").far == 0.1


def test_the_det_curve_mirrors_the_roc():
    curve = roc(*example())
    np.testing.assert_array_equal(curve.fnmr, [1, 0.75, 0.5, 0.5, 0.25, 0.25, 0.25, *[0] * 8])


def val_by_loops(scores, same, folds, far):
    """The published loops: thresholds on a grid of distances, one fold at a time."""
    distances, tars, fars = 2 - 2 * scores, [], []
    grid = np.arange(0, 4, 0.001)
    for fold in sorted(set(folds)):
        train, test = folds != fold, folds == fold
        rates = [np.mean(distances[train & ~same] < threshold) for threshold in grid]
        after = sum(rate <= far for rate in rates)  # the first point beyond the target
        if after == len(grid):
            threshold = 0.0
        else:
            share = (far - rates[after - 1]) / (rates[after] - rates[after - 1])
            threshold = grid[after - 1] + share * (grid[after] - grid[after - 1])
        tars.append(np.mean(distances[test & same] < threshold))
        fars.append(np.mean(distances[test & ~same] < threshold))
    return np.mean(tars), np.mean(fars)


@pytest.mark.parametrize("seed", range(3))
def test_validation_rate_against_plain_loops(seed):
    scores, same = sample(seed, levels=10**6)
    scores = np.tanh(scores / 2)
    folds = np.arange(len(scores)) % 4
    for far in (0.01, 0.0312, 0.1):
        answer = validation_rate(scores, same, folds, far=far)
        expected = val_by_loops(scores, same, folds, far)
        np.testing.assert_allclose((answer.tar, answer.far), expected, rtol=0, atol=1e-12)
        assert answer.threshold is None


def test_validation_rate_by_hand():
    # Far apart: any threshold between separates; the other fold's impostors set it.
    scores = np.repeat([0.9, 0.1], 40)
    folds = np.tile([1, 2], 40)
    answer = validation_rate(scores, scores > 0.5, folds, far=0.1)
    assert (answer.tar, answer.impostors) == (1.0, 20)
    assert str(validation_rate(scores, scores > 0.5, folds, far=0.04)).startswith(
        "not supported by 20"
    )
