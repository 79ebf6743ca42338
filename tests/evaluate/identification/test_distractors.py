"""People among distractors, against loops over every gallery."""

import importlib

import numpy as np
import pytest

from keras_facemargin.evaluate import cosine_scores, tar_at_far
from keras_facemargin.evaluate.identification import search_among_distractors

distractors_module = importlib.import_module("keras_facemargin.evaluate.identification.distractors")
gallery_module = importlib.import_module("keras_facemargin.evaluate.identification.gallery")


def by_loops(probes, subjects, distractors):
    hits = searches = 0
    genuine, impostor = [], []
    for p, probe in enumerate(probes):
        others = cosine_scores(np.broadcast_to(probe, distractors.shape), distractors)
        impostor += others.tolist()
        for g, mate in enumerate(probes):
            if g != p and subjects[g] == subjects[p]:
                score = cosine_scores(probe[None], mate[None])[0]
                searches += 1
                hits += score > others.max()
                genuine.append(score)
    return hits / searches, genuine, impostor


@pytest.mark.parametrize("block", [13, 1024])
def test_it_equals_the_loops(block, monkeypatch):
    monkeypatch.setattr(gallery_module, "BLOCK", block)
    monkeypatch.setattr(gallery_module, "PENDING", 50)
    monkeypatch.setattr(distractors_module, "FEWEST_HELD", 7)
    rng = np.random.default_rng(0)
    subjects = np.array(["a", "b", "a", "c", "b", "a", "c", "alone"])
    centers = {name: 2 * rng.normal(size=6) for name in ("a", "b", "c", "alone")}
    probes = np.array([centers[name] for name in subjects]) + rng.normal(size=(8, 6))
    distractors = rng.normal(size=(70, 6))
    fars = [0.2, 0.05, 1 / 560, 0.001]
    found = search_among_distractors(probes, subjects, distractors, fars=fars, progress=False)
    rank_1, genuine, impostor = by_loops(probes, subjects, distractors)
    assert found.rank_1 == pytest.approx(rank_1)
    assert 0 < rank_1 < 1
    assert (found.probes, found.people, found.searches, found.distractors) == (8, 4, 10, 70)
    same = np.repeat([True, False], [len(genuine), len(impostor)])
    for far, entry in zip(fars, found.tar_at_far, strict=True):
        expected = tar_at_far(genuine + impostor, same, far)
        assert (entry.tar, entry.far, entry.threshold) == (
            expected.tar,
            expected.far,
            expected.threshold,
        )
    mates = cosine_scores(probes[found.first], probes[found.second])
    np.testing.assert_array_equal(found.genuine, mates)
    ours = np.array(impostor).reshape(8, 70)
    np.testing.assert_array_equal(found.best, np.sort(ours)[:, ::-1][:, :50])
    np.testing.assert_array_equal(np.take_along_axis(ours, found.nearest, 1), found.best)
    ranks = [
        1 + (ours[p] >= cosine_scores(probes[g][None], probes[p][None])).sum()
        for sides in ((found.first, found.second), (found.second, found.first))
        for p, g in zip(*sides, strict=True)
    ]
    np.testing.assert_array_equal(found.ranks, np.minimum(ranks, 51))
    assert found.cmc()[[0, 9]].tolist() == [found.rank_1, np.mean(np.array(ranks) <= 10)]
    np.testing.assert_array_equal(found.largest, np.sort(impostor)[::-1][: len(found.largest)])
    assert len(found.largest) == 2 * 112 + 1  # 0.2 of 560, twice
    assert all(
        (ours[p] == s).any() for p, s in zip(found.largest_probes, found.largest, strict=True)
    )
    curve = found.curve
    assert (curve.impostors, curve.genuines) == (560, 5)
    assert curve.largest_tar(0.05) == found.tar_at_far[1].tar
    assert str(found.tar_at_far[3]) == "not supported by 560 impostor pairs"
    assert found.to_dict()["tar_at_far"][3]["tar"] is None
    assert dict(found.rows())["Searches among 70 distractors"].startswith("10, 8 images of 4")


def test_a_distractor_that_scores_as_high_counts_against_the_system():
    probes = np.array([[1.0, 0.0], [0.6, 0.8]])
    tie = search_among_distractors(probes, [1, 1], probes[1:], fars=[0.5], progress=False)
    assert tie.rank_1 == 0.0


def test_wrong_shapes_and_lonely_people_are_refused():
    rows = np.eye(3)
    with pytest.raises(ValueError, match="one subject per probe"):
        search_among_distractors(rows, [1, 2], rows, fars=[0.5], progress=False)
    with pytest.raises(ValueError, match=r"people with two images. Received: 3 people"):
        search_among_distractors(rows, [1, 2, 3], rows, fars=[0.5], progress=False)
    with pytest.raises(ValueError, match="`count` must be at least 1"):
        gallery_module.largest_scores_of_others(
            rows, rows, gallery_labels=[1, 2, 3], probe_labels=[1, 2, 3], count=0
        )
