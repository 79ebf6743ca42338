"""Every measure against scikit-learn, plain loops and hand-made cases."""

import io
import itertools
import json

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import roc_auc_score, roc_curve

from keras_facemargin.evaluate import equal_error_rate, roc, tar_at_far, verify
from keras_facemargin.evaluate.verification import area_under_curve, fold_accuracy, threshold_at_far

# The numeric example of the field's notes on TAR@FAR conventions.
GENUINE = [0.9, 0.8, 0.6, 0.35]
IMPOSTOR = [0.7, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05, 0.02, 0.01]
EXAMPLE = (GENUINE + IMPOSTOR, [True] * 4 + [False] * 10)


def tied_scores(seed, count=200, levels=17):
    """Scores with many ties, genuine ones higher on the whole."""
    rng = np.random.default_rng(seed)
    same = rng.random(count) < 0.4
    return np.round((rng.normal(size=count) + same) * levels / 6) / levels, same


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [3, 17, 10**6])
def test_roc_and_area_equal_scikit_learn(seed, levels):
    scores, same = tied_scores(seed, levels=levels)
    far, tar, thresholds = roc_curve(same, scores, drop_intermediate=False)
    curve = roc(scores, same)
    np.testing.assert_array_equal(curve.thresholds, thresholds)
    np.testing.assert_allclose(curve.far, far, rtol=0, atol=1e-15)
    np.testing.assert_allclose(curve.tar, tar, rtol=0, atol=1e-15)
    assert area_under_curve(scores, same) == pytest.approx(roc_auc_score(same, scores), abs=1e-14)


def test_area_is_the_share_of_rightly_ordered_pairs():
    scores, same = tied_scores(1)
    genuine, impostor = scores[same], scores[~same]
    wins = sum((g > i) + 0.5 * (g == i) for g in genuine for i in impostor)
    assert area_under_curve(scores, same) == wins / (len(genuine) * len(impostor))


@pytest.mark.parametrize("seed", range(5))
def test_equal_error_rate_lies_on_the_curve_and_on_the_diagonal(seed):
    scores, same = tied_scores(seed)
    rate = equal_error_rate(scores, same)
    curve = roc(scores, same)
    # Where x falls inside one slanted segment the interpolated miss rate equals x; where the curve
    # is vertical, x is between the miss rates of its two ends.
    at_rate = curve.far == rate
    if at_rate.any():
        misses = 1 - curve.tar[at_rate]
        assert misses.min() - 1e-12 <= rate <= misses.max() + 1e-12
    else:
        assert 1 - np.interp(rate, curve.far, curve.tar) == pytest.approx(rate, abs=1e-12)


def test_equal_error_rate_by_hand():
    # The curve goes (FAR, FNMR) = ... (0, 1/2), (1/3, 1/2), (1/3, 0) ...: crosses at FAR = 1/3.
    assert equal_error_rate([4, 3, 2, 1, 0], [1, 0, 1, 0, 0]) == pytest.approx(1 / 3)
    # One tie takes it from (0, 1) to (1, 0): half way.
    assert equal_error_rate([1, 1, 1, 1], [1, 0, 1, 0]) == 0.5
    assert equal_error_rate([2, 1], [True, False]) == 0.0
    assert equal_error_rate([1, 2], [True, False]) == 1.0


@pytest.mark.parametrize(("far", "tar"), [(0.1, 0.75), (0.3, 1.0), (0.299, 0.75)])
def test_tar_at_far_takes_the_conservative_rule(far, tar):
    assert tar_at_far(*EXAMPLE, far).tar == tar


def test_a_rate_between_two_counts_does_not_borrow_from_the_larger():
    scores = GENUINE + IMPOSTOR * 2
    # The example with each impostor twice: at 0.05 one of twenty may pass, but 0.7 is there twice.
    assert tar_at_far(scores, [True] * 4 + [False] * 20, 0.05).tar == 0.5


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("far", [0.01, 0.05, 0.1, 0.29, 0.5, 0.999])
def test_tar_at_far_and_threshold_against_brute_force(seed, far):
    scores, same = tied_scores(seed)
    genuine, impostor = scores[same], scores[~same]
    allowed = [t for t in [*scores, np.inf] if np.mean(impostor >= t) <= far]
    answer = tar_at_far(scores, same, far)
    assert answer.supported
    assert answer.tar == max(np.mean(genuine >= t) for t in allowed)
    assert answer.far == np.mean(impostor >= answer.threshold) <= far
    assert answer.tar == np.mean(genuine >= answer.threshold)
    assert answer.threshold == threshold_at_far(impostor, far)
    one_lower = np.nextafter(answer.threshold, -np.inf)
    assert np.mean(impostor >= one_lower) > far


def test_whole_counts_survive_rounding():
    # 0.29 * 100 is 28.999999999999996 in float64, and 29 of 100 is still allowed.
    impostor = np.arange(100) / 100
    threshold = threshold_at_far(impostor, 0.29)
    assert np.count_nonzero(impostor >= threshold) == 29


def test_rates_below_one_impostor_pair_have_no_number():
    answer = tar_at_far(*EXAMPLE, 0.09)
    assert not answer.supported
    assert answer.tar is answer.far is answer.threshold is None
    assert str(answer) == "not supported by 10 impostor pairs"
    with pytest.raises(ValueError, match=r"10 pairs support rates down to 0\.1.*far=0\.09"):
        threshold_at_far(IMPOSTOR, 0.09)


@pytest.mark.parametrize("far", [0, 1, -0.1, float("nan")])
def test_far_is_a_rate(far):
    with pytest.raises(ValueError, match=r"`far` must be a rate in \(0, 1\)"):
        tar_at_far(*EXAMPLE, far)


def most_accurate_by_loop(scores, same):
    """Threshold by trying the middle of every gap and both ends, in the order of preference."""
    levels = sorted(set(scores))
    candidates = [(0.0, levels[0]), (0.0, np.nextafter(levels[-1], np.inf))]
    candidates += [(b - a, a + (b - a) / 2) for a, b in itertools.pairwise(levels)]
    return max(
        (np.mean((scores >= threshold) == same), width, threshold)
        for width, threshold in candidates
    )


@pytest.mark.parametrize("seed", range(5))
def test_fold_accuracy_against_plain_loops(seed):
    scores, same = tied_scores(seed)
    folds = np.arange(len(scores)) % 4
    result = fold_accuracy(scores, same, folds)
    for index, fold in enumerate(result.folds):
        held_out = folds == fold
        _, _, threshold = most_accurate_by_loop(scores[~held_out], same[~held_out])
        assert result.thresholds[index] == threshold
        right = (scores[held_out] >= threshold) == same[held_out]
        assert result.accuracies[index] == right.mean()
    assert result.mean == pytest.approx(np.mean(result.accuracies))
    assert result.standard_error == pytest.approx(np.std(result.accuracies, ddof=1) / 2)


def best(scores, same):
    return roc(scores, same).most_accurate_threshold()


def test_ties_between_thresholds_go_to_the_widest_gap_then_the_highest():
    assert best([0.0, 1.0], [0, 1]) == 0.5
    # Correct everywhere in (0.2, 0.8]; no grid point decides.
    assert best([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]) == 0.5
    # Below 3 or above 2 alike: three right either way; the gap (2, 4) is wider than (0, 1).
    assert best([0.0, 1.0, 2.0, 4.0], [0, 1, 0, 1]) == 3.0
    # Gaps (0, 1) and (2, 3) are equally wide.
    assert best([0.0, 1.0, 2.0, 3.0], [0, 1, 0, 1]) == 2.5


def test_the_ends_accept_everything_or_nothing_that_was_seen():
    assert best([1.0, 2.0, 3.0, 4.0], [1, 1, 1, 0]) == 1.0
    assert best([1.0, 2.0, 3.0, 4.0], [1, 0, 0, 0]) == np.nextafter(4.0, 5.0)


def test_neighbouring_floats_still_separate():
    low, high = 1.0, np.nextafter(1.0, 2.0)
    threshold = best([low, high], [0, 1])
    assert low < threshold <= high


def test_the_held_out_fold_does_not_choose_its_own_threshold():
    # Fold b is perfectly separable, but not where fold a says.
    scores, same, folds = [0.1, 0.2, 0.6, 0.7], [0, 1, 0, 1], ["a", "a", "b", "b"]
    result = fold_accuracy(scores, same, folds)
    assert result.folds == ("a", "b")
    np.testing.assert_allclose(result.thresholds, [0.65, 0.15])
    assert result.accuracies == (0.5, 0.5)


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([1, 1, 1, 1], "`folds` must hold at least two folds.* Received: 1 fold"),
        ([1, 1, 2], "one fold label per score"),
        ([1, 2, 2, 2], "fold 1 with 1 genuine and 0 impostor pairs"),
    ],
)
def test_bad_folds_are_refused(folds, message):
    with pytest.raises(ValueError, match=message):
        fold_accuracy([0.9, 0.8, 0.1, 0.2], [1, 1, 0, 0], folds)


@pytest.mark.parametrize(
    ("scores", "same", "message"),
    [
        ([0.1, np.nan, np.inf], [1, 0, 0], r"nan at index 1 \(2 of 3 are not finite\)"),
        ([0.1, 0.2], [1, 0, 0], r"same of shape \(3,\), scores of shape \(2,\)"),
        ([0.1, 0.2], [1, 1], "2 genuine and 0 impostor pairs"),
        ([0.1, 0.2], [0, 0], "0 genuine and 2 impostor pairs"),
        ([0.1, 0.2], [1, 2], "False or 0 for impostors.*Received: .*2"),
        ([], [], r"N > 0. Received: shape \(0,\)"),
        ([[0.1], [0.2]], [[1], [0]], r"Received: shape \(2, 1\)"),
    ],
)
def test_bad_scores_are_refused(scores, same, message):
    with pytest.raises(ValueError, match=message):
        verify(scores, same)


def test_verification_holds_every_measure_and_survives_json():
    scores, same = tied_scores(0)
    folds = np.arange(len(scores)) % 5
    result = verify(scores, same, folds)
    assert result.auc == area_under_curve(scores, same)
    assert result.eer == equal_error_rate(scores, same)
    assert result.accuracy == fold_accuracy(scores, same, folds)
    assert [entry.target for entry in result.tar_at_far] == [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6]
    assert [entry.supported for entry in result.tar_at_far] == [True, True] + [False] * 4
    restored = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert restored["accuracy"] == result.accuracy.mean
    assert restored["genuine_pairs"] + restored["impostor_pairs"] == 200
    assert restored["tar_at_far"][2] == {
        "target": 1e-3,
        "impostors": result.impostors,
        "tar": None,
        "far": None,
        "threshold": None,
    }


def test_without_folds_there_is_no_accuracy():
    result = verify(*EXAMPLE)
    assert result.accuracy is None
    assert "accuracy" not in result.to_dict()


def test_the_table_says_what_the_sample_cannot():
    console = Console(width=100, file=io.StringIO())
    console.print(verify(*EXAMPLE))
    text = console.file.getvalue()
    assert "TAR @ FAR 1e-1" in text
    assert "75.00%" in text
    assert "not supported by 10 impostor pairs" in text
