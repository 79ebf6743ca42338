"""Each draw equals the measures of the list with its pairs repeated; people matter."""

import importlib

import numpy as np
import pytest

from keras_facemargin.evaluate import bootstrap, cosine_scores, interval, roc, verify
from keras_facemargin.evaluate.at_scale import hardest_listed_pairs, hardest_pairs
from keras_facemargin.evaluate.uncertainty import (
    bootstrap_hardest,
    bootstrap_hardest_splits,
    bootstrap_splits,
)
from keras_facemargin.evaluate.uncertainty.resampling import Draws, numbered

MODULE = importlib.import_module("keras_facemargin.evaluate.uncertainty.resampling")
FARS = (0.3, 0.1, 0.01)


def listed(seed, people=12, count=200, levels=25):
    """Pairs of a list with folds: scores with ties, truth, folds, names on both sides."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, people, count)
    second = np.where(rng.random(count) < 0.4, first, rng.integers(0, people, count))
    same = first == second
    scores = np.round((rng.normal(size=count) + 2 * same) * levels / 8) / levels
    names = np.array([f"person {number}" for number in range(people)])
    return scores, same, np.arange(count) % 4, (names[first], names[second])


def all_pairs_of(seed, people=25, images=4):
    """Scores of all pairs, in which each person has a luck of their own."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(people), images)
    luck = rng.normal(size=people)
    i, j = np.triu_indices(len(labels), k=1)
    first, second = labels[i], labels[j]
    same = first == second
    scores = 3.5 * same + luck[first] * np.where(same, 1.5, 0.7) + luck[second] * ~same * 0.7
    return scores + 0.7 * rng.normal(size=len(same)), same, (first, second)


def test_a_threshold_from_elsewhere_is_kept_in_every_draw():
    scores, same, folds, people = listed(0)
    result = bootstrap(
        scores,
        same,
        folds=None,
        people=people,
        fars=FARS,
        replicates=20,
        progress=False,
        threshold=0.6,
    )
    draws = Draws(same, people)
    for accuracy in result.accuracy:
        times = draws.times()
        again, truth = np.repeat(scores, times), np.repeat(same, times)
        assert accuracy == np.mean((again >= 0.6) == truth)
    assert (
        bootstrap(
            scores, same, folds=None, people=people, fars=FARS, replicates=2, progress=False
        ).accuracy
        is None
    )
    with pytest.raises(ValueError, match=r"`folds` or `threshold`: .*Received: both"):
        bootstrap(scores, same, folds=folds, people=people, progress=False, threshold=0.6)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_a_draw_is_the_list_with_its_pairs_repeated(seed, known):
    scores, same, folds, people = listed(seed)
    people = people if known else None
    result = bootstrap(
        scores,
        same,
        folds=folds,
        people=people,
        fars=FARS,
        replicates=20,
        seed=seed,
        progress=False,
    )
    draws = Draws(same, people, folds, seed)
    for b in range(20):
        times = draws.times()
        again = [np.repeat(each, times) for each in (scores, same, folds)]
        curve = roc(*again[:2])
        assert result.auc[b] == curve.area()
        assert result.eer[b] == curve.equal_error_rate()
        far, tar = curve.far, curve.tar
        assert result.tar[b].tolist() == [tar[far <= target].max() for target in FARS]
        expected = [tar[far <= target].max() for target in result.band_fars]
        np.testing.assert_array_equal(result.band[b], expected)
        folds_left = [fold for fold in range(4) if times[folds == fold].any()]
        if len(folds_left) == 4:
            assert result.accuracy[b] == pytest.approx(
                accuracy_by_definition(*again), rel=0, abs=1e-15
            )


def accuracy_by_definition(scores, same, folds):
    accuracies = []
    for fold in np.unique(folds):
        out = folds == fold
        if same[out].all() or not same[out].any():
            threshold = roc(scores[~out], same[~out]).most_accurate_threshold()
        else:
            index = np.unique(folds).tolist().index(fold)
            threshold = verify(scores, same, folds).accuracy.thresholds[index]
        accuracies.append(np.mean((scores[out] >= threshold) == same[out]))
    return np.mean(accuracies)


@pytest.mark.parametrize("seed", range(3))
def test_a_pair_counts_as_often_as_its_people_were_drawn(seed):
    _, same, _, (first, second) = listed(seed)
    times = Draws(same, (first, second), None, seed).times()
    names, codes = np.unique([first, second], return_inverse=True)
    codes = codes.reshape(2, -1)
    size = len(names)
    drawn = np.random.default_rng(seed).integers(0, size, size)
    counts = [np.count_nonzero(drawn == number) for number in range(size)]
    for i in range(len(same)):
        c, d = counts[codes[0, i]], counts[codes[1, i]]
        assert times[i] == (c if same[i] else c * d)


def test_pairs_are_drawn_kind_by_kind_where_the_people_are_unknown():
    _, same, _, _ = listed(0)
    draws = Draws(same, None, None, 3)
    for _ in range(5):
        times = draws.times()
        assert times[same].sum() == same.sum()
        assert times[~same].sum() == (~same).sum()


def test_one_seed_draws_the_same_for_two_embedders():
    scores, same, folds, people = listed(1)
    a = bootstrap(
        scores, same, folds=folds, people=people, fars=FARS, replicates=30, progress=False
    )
    b = bootstrap(
        2 * scores + 1, same, folds=folds, people=people, fars=FARS, replicates=30, progress=False
    )
    np.testing.assert_array_equal(a.eer, b.eer)
    np.testing.assert_array_equal(a.tar, b.tar)
    assert str(interval(a.eer - b.eer)) == "0.00% to 0.00%"
    other = bootstrap(
        scores, same, folds=folds, people=people, fars=FARS, replicates=30, seed=1, progress=False
    )
    assert (a.eer != other.eer).any()


def test_identities_tell_the_spread_between_data_sets_and_pairs_do_not():
    # The truth: how much the EER varies when other people are photographed.
    rates = [
        roc(scores, same).equal_error_rate() for scores, same, _ in map(all_pairs_of, range(80))
    ]
    truth = np.std(rates, ddof=1)
    spreads = {True: [], False: []}
    for seed in range(12):
        scores, same, people = all_pairs_of(seed)
        for known in (True, False):
            draws = bootstrap(
                scores,
                same,
                folds=None,
                people=people if known else None,
                fars=FARS,
                replicates=60,
                progress=False,
            )
            spreads[known].append(np.std(draws.eer, ddof=1))
    assert 0.75 < np.mean(spreads[True]) / truth < 1.35
    assert np.mean(spreads[False]) / truth < 0.6


def test_the_interval_holds_the_middle():
    values = np.random.default_rng(0).normal(size=4_001)
    found = interval(values)
    assert np.mean(values < found.low) == pytest.approx(0.025, abs=1e-3)
    assert np.mean(values > found.high) == pytest.approx(0.025, abs=1e-3)


def test_wrong_people_are_refused():
    scores, same, _, (first, second) = listed(0)
    with pytest.raises(ValueError, match=r"two identities per pair.*shapes \(199,\)"):
        bootstrap(scores, same, people=(first[1:], second), progress=False)
    swapped = second.copy()
    swapped[np.flatnonzero(same)[2]] = "stranger"
    message = r"pair \d+ of .*'stranger', genuine by .same. \(1 such pairs\)"
    with pytest.raises(ValueError, match=message):
        bootstrap(scores, same, people=(first, swapped), progress=False)


def test_too_few_people_are_refused():
    # The one genuine pair's person and the one impostor pair's two are never all drawn in place.
    with pytest.raises(ValueError, match=r"Received: 2 pairs, of which 100 draws"):
        Draws(np.array([True, False]), None, [1, 1]).times()
    times = Draws(np.array([True, False]), ([0, 0], [0, 1]), None, 0).times()
    assert times.all()


def set_of_faces(seed, people=30, size=8):
    """Embeddings of one to six images a person, in no order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(people), rng.integers(1, 7, people)))
    rows = rng.normal(size=(people, size))[labels] + 0.7 * rng.normal(size=(len(labels), size))
    return rows, np.array([f"person {label:02}" for label in labels])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("impostors", [400, 10**9])
def test_the_hardest_pairs_draw_as_all_pairs_do(seed, impostors):
    rows, labels = set_of_faces(seed)
    first, second = np.triu_indices(len(labels), k=1)
    same = labels[first] == labels[second]
    scores = cosine_scores(rows[first], rows[second])
    fars = (0.2, 0.1, 0.01, 1e-6)
    people = labels[first], labels[second]
    expected = bootstrap(
        scores, same, folds=None, people=people, fars=fars, replicates=40, seed=seed, progress=False
    )
    pairs = hardest_pairs(rows, labels, impostors=impostors, progress=False)
    found = bootstrap_hardest(pairs, fars, replicates=40, seed=seed, progress=False)
    assert (found.unit, found.units) == (expected.unit, expected.units) == ("identities", 30)
    np.testing.assert_array_equal(found.band_fars, expected.band_fars)
    held = np.ones(4, bool) if impostors > 400 else np.array([False, False, True, True])
    np.testing.assert_array_equal(found.tar[:, held], expected.tar[:, held])
    if held.all():
        for name in ("auc", "eer", "band"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        return
    for ours, whole in (
        (found.auc, expected.auc),
        (found.eer, expected.eer),
        (found.tar[:, 0], expected.tar[:, 0]),
        (found.tar[:, 1], expected.tar[:, 1]),
    ):
        assert 0 < np.std(ours - whole) < 0.4 * np.std(whole)  # of 30 people; it falls with them
        assert np.std(ours) == pytest.approx(np.std(whole), rel=0.2)


@pytest.mark.parametrize("impostors", [300, 10**9])
def test_the_hardest_pairs_of_splits_draw_as_all_pairs_do(impostors):
    rows, labels = set_of_faces(6)
    codes = np.unique(labels, return_inverse=True)[1]
    parts = [np.flatnonzero(part) for part in (codes < 20, codes >= 8, codes % 7 > 0)]
    pairs = [part[np.stack(np.triu_indices(len(part), k=1))] for part in parts]
    splits = np.repeat(np.arange(3), [each.shape[1] for each in pairs])
    first, second = np.concatenate(pairs, axis=1)
    people = codes[first], codes[second]
    scores = cosine_scores(rows[first], rows[second])
    fars = (0.1, 0.01)
    expected = bootstrap_splits(
        scores,
        people[0] == people[1],
        splits,
        people=people,
        fars=fars,
        replicates=30,
        seed=2,
        progress=False,
    )
    held = [
        hardest_pairs(rows[part], codes[part], impostors=impostors, progress=False, units=30)
        for part in parts
    ]
    found = bootstrap_hardest_splits(held, fars, replicates=30, seed=2, progress=False)
    assert (found.unit, found.units) == (expected.unit, expected.units) == ("identities", 30)
    np.testing.assert_array_equal(found.band_fars, expected.band_fars)
    np.testing.assert_array_equal(found.tar[:, 1], expected.tar[:, 1])
    if impostors > 300:
        for name in ("auc", "eer", "tar", "band", "tar_deviation"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert 0 < np.std(found.eer - expected.eer) < 0.4 * np.std(expected.eer) or impostors > 300
    for wrong in (codes + 1, codes - 1, labels):
        with pytest.raises(ValueError, match="`labels` must be integers from 0 to 29, one less"):
            hardest_pairs(rows, wrong, impostors=300, progress=False, units=30)
    held[1] = hardest_pairs(rows[parts[1]], labels[parts[1]], impostors=300, progress=False)
    with pytest.raises(ValueError, match=r"number .*Received: splits of 30, 22, 30 people"):
        bootstrap_hardest_splits(held, fars, replicates=30, progress=False)


@pytest.mark.parametrize("impostors", [1, 50, 10**9])
def test_the_hardest_pairs_are_all_there(impostors):
    rows, labels = set_of_faces(4)
    pairs = hardest_pairs(rows, labels, impostors=impostors, progress=False)
    first, second = np.triu_indices(len(labels), k=1)
    same = labels[first] == labels[second]
    scores = cosine_scores(rows[first], rows[second])
    expected = {
        (i, j): score
        for i, j, score, one in zip(first, second, scores, same, strict=True)
        if one or score >= pairs.floor
    }
    ordered = np.sort(np.stack([pairs.first, pairs.second]), axis=0)
    found = dict(zip(zip(*ordered, strict=True), pairs.scores, strict=True))
    assert found == expected
    assert len(pairs.scores) == len(expected)
    np.testing.assert_array_equal(pairs.same, labels[pairs.first] == labels[pairs.second])
    assert np.count_nonzero(~pairs.same) >= min(impostors, np.count_nonzero(~same))
    counts = np.random.default_rng(0).integers(0, 3, 30)
    codes = np.unique(labels, return_inverse=True)[1]
    times = counts[codes[first]] * counts[codes[second]]
    assert pairs.impostors(counts) == times[~same].sum()


@pytest.mark.parametrize("impostors", [50, 400])
def test_the_pairs_that_are_not_held_are_counted_by_person(impostors):
    rows, labels = set_of_faces(5)
    pairs = hardest_pairs(rows, labels, impostors=impostors, progress=False)
    first, second = np.triu_indices(len(labels), k=1)
    scores = cosine_scores(rows[first], rows[second])
    people = pairs.people[first], pairs.people[second]
    others = (people[0] != people[1]) & (scores < pairs.floor)
    expected = np.stack(
        [
            np.histogram(scores[others & ((people[0] == one) | (people[1] == one))], pairs.edges)[0]
            for one in range(30)
        ]
    )
    np.testing.assert_array_equal(pairs.below, expected)
    rng = np.random.default_rng(0)
    once = np.eye(30, dtype=int)
    for counts in (1 + 0 * once[0], 1 + once[1], 1 + once[2], 1 - once[3]):
        times = (counts[people[0]] * counts[people[1]])[others]
        edge = rng.choice(pairs.edges[:-1])
        share = times[scores[others] >= edge].sum() / times.sum()
        assert pairs.unheld(counts, [edge]) == pytest.approx([share], abs=1e-12)
    assert pairs.unheld(counts, [-np.inf, pairs.floor, np.inf]).tolist() == [1, 0, 0]


def test_genuine_pairs_may_be_many(monkeypatch):
    monkeypatch.setattr("keras_facemargin.evaluate.at_scale.sweep.CANDIDATES", 60)
    rows, labels = set_of_faces(4)
    genuines = sum(n * (n - 1) // 2 for n in np.unique(labels, return_counts=True)[1])
    pairs = hardest_pairs(rows, labels, impostors=20, progress=False)
    assert np.count_nonzero(pairs.same) == genuines > 60
    assert 20 <= np.count_nonzero(~pairs.same) <= 60


def test_a_person_with_half_of_all_images_can_be_drawn():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [10, 5, 5])
    rows = rng.normal(size=(3, 8))[labels] + rng.normal(size=(20, 8))
    pairs = hardest_pairs(rows, labels, impostors=20, progress=False)
    draws = bootstrap_hardest(pairs, [0.5], replicates=50, progress=False)
    assert np.isfinite(draws.eer).all()
    assert ((draws.tar >= 0) & (draws.tar <= 1)).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("impostors", [30, 10**9])
def test_the_hardest_of_a_list_draw_as_all_of_it_do(seed, impostors):
    scores, same, _, people = listed(seed, count=900, levels=400)
    fars = (0.5, 0.01)
    expected = bootstrap(
        scores, same, folds=None, people=people, fars=fars, replicates=30, seed=seed, progress=False
    )
    pairs = hardest_listed_pairs(scores, same, people, impostors=impostors)
    found = bootstrap_hardest(pairs, fars, replicates=30, seed=seed, progress=False)
    assert (found.unit, found.units) == (expected.unit, expected.units)
    for ours, whole in ((found.eer, expected.eer), (found.tar, expected.tar)):
        known = ~np.isnan(ours)
        np.testing.assert_array_equal(ours[known], whole[known])
        assert known.all() == (impostors == 10**9)
    assert not np.isnan(found.tar[:, 1]).any()
    held = pairs.rows
    np.testing.assert_array_equal(pairs.scores, scores[held])
    left = np.delete(np.arange(len(same)), held)
    assert not same[left].any()
    assert scores[left].max(initial=-np.inf) < scores[held][~same[held]].min()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [6, 200])  # of few pairs a draw may leave none of a split
def test_a_draw_of_splits_is_the_mean_of_theirs(known, size):
    scores, same, splits, people = listed(1, count=size)
    if size == 6:
        same, splits = np.arange(6) < 3, np.arange(6) // 2 % 2
        people = [0, 1, 2, 0, 1, 2], [0, 1, 2, 1, 2, 3]
    people = people if known else None
    result = bootstrap_splits(
        scores, same, splits, people=people, fars=FARS, replicates=20, seed=3, progress=False
    )
    draws, left_out = Draws(same, people, seed=3), 0
    for b in range(20):
        curves = []
        while not curves:
            times = draws.times()
            for split in np.unique(splits):
                part = splits == split
                again = [np.repeat(each[part], times[part]) for each in (scores, same)]
                if again[1].any() and not again[1].all():
                    curves.append(roc(*again))
        left_out += len(curves) < len(np.unique(splits))
        assert result.eer[b] == np.mean([curve.equal_error_rate() for curve in curves])
        for column, far in enumerate(FARS):
            tars = [curve.tar[curve.far <= far].max() for curve in curves]
            assert result.tar[b, column] == np.mean(tars)
            if len(tars) > 1:
                spread = np.std(tars, ddof=1)
                assert result.tar_deviation[b, column] == pytest.approx(spread, abs=1e-15)
            else:
                assert np.isnan(result.tar_deviation[b, column])
    assert result.accuracy is None
    if size == 6:
        assert left_out
        return
    fewest = min(np.count_nonzero(~same[splits == split]) for split in range(4))
    assert result.band_fars[0] == 1 / fewest
    with pytest.raises(ValueError, match="split 0 with 24 genuine and 0 imp"):
        bootstrap_splits(scores, same, np.where(same, splits, 9), people=people, progress=False)


def test_whole_numbers_are_numbered_as_texts_are():
    labels = np.random.default_rng(0).integers(0, 90, 60)
    _, expected = np.unique(labels, return_inverse=True)
    for kind in (labels, labels.astype("int16"), labels - 5, labels * 10**9):
        np.testing.assert_array_equal(numbered(kind), expected)
