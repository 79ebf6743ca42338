import math

import keras
import numpy as np
import pytest

from keras_facemargin import ArcFace, MarginClassifier, SubCenterArcFace
from keras_facemargin.callbacks import CollapseDetector, measure_spread

pytestmark = pytest.mark.any_backend


def classifier(head):
    embedder = keras.Sequential([keras.Input((1, 1, 2)), keras.layers.Flatten()])
    model = MarginClassifier(embedder, head)
    model.compile(keras.optimizers.SGD(1e-6))
    return model


def at(*degrees, norm=2.0):
    angles = np.radians(degrees)
    return norm * np.stack([np.cos(angles), np.sin(angles)], 1).reshape(-1, 1, 1, 2)


def test_the_spread_of_faces_at_known_angles():
    model = classifier(ArcFace(2, margin=0.5))
    model.head.prototypes.assign([[3.0, 0.0], [0.0, 0.5]])
    got = measure_spread(model, at(10, 170, 90), [0, 0, 1])
    assert got.norm == pytest.approx(2)
    assert got.target_angle == pytest.approx((10 + 170 + 0) / 3, abs=1e-4)
    assert got.past_turning_angle == pytest.approx(1 / 3)  # 170 degrees > 180 - 28.6
    expected = (math.cos(math.radians(80)) + math.cos(math.radians(80))) / 2
    assert got.impostor_similarity == pytest.approx(expected, abs=1e-6)


def test_the_nearest_sub_centre_counts():
    model = classifier(SubCenterArcFace(2, num_centers=2))
    model.head.prototypes.assign([[[1, 0], [-1, 0]], [[0, 1], [0, -1]]])
    assert measure_spread(model, at(180, 90), [0, 1]).target_angle == pytest.approx(0, abs=1e-4)


def fit(model, detector, images, epochs=5):
    labels = np.array([0, 1] * (len(images) // 2))
    return model.fit(images, labels, epochs=epochs, verbose=0, callbacks=[detector])


def test_collapsed_embeddings_stop_the_run_with_a_remedy(capsys):
    images = at(*np.linspace(0, 10, 8))
    detector = CollapseDetector(images, [0, 1] * 4, patience=2)
    history = fit(classifier(ArcFace(2)), detector, images).history
    assert len(history["loss"]) == 2
    assert len(history["impostor_similarity"]) == 2 and history["impostor_similarity"][-1] > 0.9
    assert "MarginRamp" in detector.verdict and detector.verdict in capsys.readouterr().out


def test_separate_embeddings_do_not_stop_the_run():
    images = at(*[0, 90] * 4)
    detector = CollapseDetector(images, [0, 1] * 4)
    assert len(fit(classifier(ArcFace(2)), detector, images).history["loss"]) == 5
    assert detector.verdict is None and len(detector.history) == 5


def test_checks_may_be_counted_in_batches():
    images = at(*np.linspace(0, 10, 8))
    detector = CollapseDetector(images, [0, 1] * 4, patience=3, every=1)
    model = classifier(ArcFace(2))
    model.fit(images, np.array([0, 1] * 4), batch_size=1, epochs=5, verbose=0, callbacks=[detector])
    assert len(detector.history) == 3


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [({"limit": 1.0}, "`limit`"), ({"patience": 0}, "`patience`"), ({"every": 0}, "`every`")],
)
def test_bad_arguments_are_refused_with_the_rule(arguments, rule):
    with pytest.raises(ValueError, match=rule) as error:
        CollapseDetector([], [], **arguments)
    assert "Received" in str(error.value)


def test_labels_of_one_person_are_refused():
    with pytest.raises(ValueError, match=r"two people.*Received"):
        measure_spread(classifier(ArcFace(2)), at(0, 1), [1, 1])
