"""Each draw of people equals the measures of the searches with their probes repeated."""

import importlib

import numpy as np
import pytest

from keras_facemargin.evaluate import cosine_scores, identify, tar_at_far
from keras_facemargin.evaluate.identification import search_among_distractors
from keras_facemargin.evaluate.uncertainty import bootstrap_distractors, bootstrap_searches

MODULE = importlib.import_module("keras_facemargin.evaluate.uncertainty.search_draws")
FPIRS = (0.4, 0.1, 0.02)


def found_in(gallery, known, probes, labels):
    return identify(gallery, probes, gallery_labels=known, probe_labels=labels, progress=False)


def two_galleries(seed, people=12, probes=60):
    """Each person is in one of two galleries and the non-mated probe of the other."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(people, 5))
    labels = rng.integers(0, people, probes)
    rows = centers[labels] + rng.normal(size=(probes, 5))
    galleries = {"one": np.arange(people // 2), "two": np.arange(people // 2, people)}
    names = np.array([f"person {number}" for number in range(people)])
    searched = {
        name: (centers[known], names[known], rows, names[labels])
        for name, known in galleries.items()
    }
    results = {name: found_in(*data) for name, data in searched.items()}
    return searched, results, names[labels]


@pytest.mark.parametrize("seed", range(3))
def test_a_draw_is_the_searches_with_their_probes_repeated(seed):
    searched, results, subjects = two_galleries(seed)
    draws = bootstrap_searches(
        results, subjects, fpirs=FPIRS, replicates=20, seed=seed, progress=False
    )
    people, codes = np.unique(subjects, return_inverse=True)
    assert (draws.units, draws.replicates, draws.fpirs) == (len(people), 20, FPIRS)
    rng = np.random.default_rng(seed)
    for b in range(20):
        drawn = rng.integers(0, len(people), len(people))
        times = np.bincount(drawn, minlength=len(people))[codes]
        again = []
        for gallery, known, probes, labels in searched.values():
            repeated = np.repeat(probes, times, axis=0), np.repeat(labels, times)
            again.append(found_in(gallery, known, *repeated))
        assert all(len(each.ranks) and len(each.best_scores) for each in again)
        cmc = np.mean([[each.rank_rate(rank) for rank in range(1, 51)] for each in again], axis=0)
        np.testing.assert_allclose(draws.cmc[b], cmc, atol=1e-15)
        for column, fpir in enumerate(FPIRS):
            tpirs = [each.open_set().largest_tar(fpir) for each in again]
            assert draws.tpir[b, column] == pytest.approx(np.mean(tpirs), abs=1e-15)
            spread = np.std(tpirs, ddof=1)
            assert draws.tpir_deviation[b, column] == pytest.approx(spread, abs=1e-15)


def test_a_search_of_one_kind_of_probes_has_no_open_set():
    rows, labels = np.eye(4), np.arange(4)
    found = {
        "mates": identify(
            rows, rows[:2], gallery_labels=labels, probe_labels=labels[:2], progress=False
        ),
        "strangers": identify(
            rows, rows[:2], gallery_labels=labels, probe_labels=labels[:2] + 9, progress=False
        ),
    }
    draws = bootstrap_searches(found, labels, replicates=5, progress=False)
    assert draws.tpir.shape == (5, 0)


def test_a_closed_set_has_no_alarms():
    rows, labels = np.eye(4), np.arange(4)
    found = {
        "all": identify(rows, rows, gallery_labels=labels, probe_labels=labels, progress=False)
    }
    draws = bootstrap_searches(found, labels, replicates=5, progress=False)
    assert (draws.tpir.shape, draws.fpirs) == ((5, 0), ())
    assert (draws.cmc == 1).all() and np.isnan(draws.band).all()
    strangers = {
        "all": identify(rows, rows, gallery_labels=labels, probe_labels=labels + 9, progress=False)
    }
    with pytest.raises(ValueError, match=r"probes of people in the gallery\. Received: none"):
        bootstrap_searches(strangers, labels, progress=False)


@pytest.mark.parametrize("seed", range(3))
def test_a_draw_among_distractors_is_that_of_the_people_repeated(seed):
    rng = np.random.default_rng(seed)
    subjects = rng.integers(0, 6, 25)
    probes = 1.5 * rng.normal(size=(6, 5))[subjects] + rng.normal(size=(25, 5))
    distractors = rng.normal(size=(40, 5))
    fars = (0.1, 0.01)
    found = search_among_distractors(probes, subjects, distractors, fars=fars, progress=False)
    draws = bootstrap_distractors(found, replicates=15, seed=seed, progress=False)
    people, codes = np.unique(subjects, return_inverse=True)
    assert draws.units == len(people)
    one, two = np.triu_indices(25, k=1)
    one, two = (side[subjects[one] == subjects[two]] for side in (one, two))
    genuine = cosine_scores(probes[one], probes[two])
    impostor = np.array([cosine_scores(np.tile(p, (40, 1)), distractors) for p in probes])
    rng = np.random.default_rng(seed)
    for b in range(15):
        drawn = rng.integers(0, len(people), len(people))
        times = np.bincount(drawn, minlength=len(people))[codes]
        weights = times[one]
        for rank in (1, 5, 40):
            found_by = [(impostor[side] >= genuine[:, None]).sum(1) < rank for side in (one, two)]
            rate = (sum(hit * 1 for hit in found_by) * weights).sum() / (2 * weights.sum())
            assert draws.cmc[b, rank - 1] == pytest.approx(rate)
        scores = np.concatenate(
            [np.repeat(genuine, weights), np.repeat(impostor, times, 0).ravel()]
        )
        same = np.arange(len(scores)) < weights.sum()
        for column, far in enumerate(fars):
            if not np.isnan(draws.tar[b, column]):
                assert draws.tar[b, column] == tar_at_far(scores, same, far).tar
    assert not np.isnan(draws.tar[:, 1]).any()
