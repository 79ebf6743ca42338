"""Thresholds from every pair of a set of faces."""

import numpy as np
import pytest

from keras_facemargin import zoo
from keras_facemargin.evaluate import all_pairs, embed
from keras_facemargin.evaluate.verification import fit_logistic

any_backend = pytest.mark.any_backend


@any_backend
def test_thresholds_are_calibrated_over_every_pair_alone_and_with_the_mirror_image():
    rng = np.random.default_rng(0)
    labels = np.arange(60) // 3
    rows = rng.normal(size=(20, 8))[labels] + rng.normal(size=(60, 8))
    found = zoo.calibrate(rows, labels, [0.02], data="noise", progress=False)
    for (chosen,), part in ((found.mirrored, rows), (found.single, rows[:, :4])):
        scores, same = all_pairs(part, labels)
        assert (chosen.genuine_pairs, chosen.impostor_pairs) == (same.sum(), (~same).sum())
        assert np.mean(scores[~same] >= chosen.cosine) <= 0.02
        assert np.mean(scores[~same] >= chosen.cosine - 1e-9) > 0.02
        assert chosen.tar == np.mean(scores[same] >= chosen.cosine)
        assert (chosen.far, chosen.data) == (0.02, "noise")
        low, high = chosen.tar_interval
        by_person = (scores[same] >= chosen.cosine).reshape(20, 3).mean(1)
        error = by_person.std(ddof=1) / np.sqrt(20)
        assert low < chosen.tar < high
        assert high - low == pytest.approx(2 * 1.96 * error, rel=0.2)
    assert found.single[0].cosine > found.mirrored[0].cosine + 0.05
    with pytest.raises(ValueError, match=r"far=0\.0005, which is not supported by 1,710 impostor"):
        zoo.calibrate(rows, labels, [5e-4], data="noise", progress=False)
    found = zoo.calibrate(rows, labels, data="noise", progress=False)
    assert [one.far for one in found.single] == [1e-2, 1e-3]  # 1,710 pairs show no rarer error


def test_the_tar_of_faces_without_an_error_has_an_exact_bound():
    rows = np.tile(np.repeat(np.eye(20), 2, axis=0), 2)
    found = zoo.calibrate(rows, np.arange(40) // 2, [0.01], data="easy", progress=False)
    assert found.mirrored[0].tar == 1
    assert found.mirrored[0].tar_interval == (pytest.approx(0.025 ** (1 / 20)), 1)


def test_each_threshold_of_the_zoo_keeps_its_rate(shared_data):
    """On crops of 93 of the 2,210 people that it was calibrated on."""
    from calibration_crops import calibration_crops

    paths = calibration_crops(shared_data, one_of=48)
    people = [path.parent.name for path in paths]
    card = zoo.load_card("spherenet_distilled")
    embedder = zoo.load_embedder("spherenet_distilled")
    mirrored = embed(embedder, paths, progress=False)
    single = embed(embedder, paths, flip=False, progress=False)
    for mirror, rows in ((True, mirrored), (False, single)):
        scores, same = all_pairs(rows, people)
        for far in (1e-2, 1e-3):
            chosen = card.thresholds.find(far=far, mirrored=mirror)
            assert np.mean(scores[~same] >= chosen.cosine) == pytest.approx(far, rel=0.3)


@any_backend
def test_the_likelihood_map_is_fitted_and_keeps_within_its_pairs():
    rng = np.random.default_rng(0)
    labels = np.arange(90) // 3
    rows = rng.normal(size=(30, 8))[labels] + rng.normal(size=(90, 8))
    found = zoo.fit_likelihood(rows, labels, data="noise")
    scores, same = all_pairs(rows, labels)
    oracle = fit_logistic(scores, same)
    assert (found.slope, found.intercept) == pytest.approx((oracle.slope, oracle.intercept))
    assert (found.people, found.genuine_pairs, found.impostor_pairs) == (30, 90, 3_915)
    assert found.log10_ratio(0.5) == pytest.approx(oracle(0.5) / np.log(10))
    assert found.log10_ratio(10) == pytest.approx(np.log10(3_915))
    assert found.log10_ratio(-10) == pytest.approx(-np.log10(90))
    with pytest.raises(ValueError, match="at least 1,000 impostor pairs"):
        zoo.fit_likelihood(rows[:30], labels[:30], data="noise")
