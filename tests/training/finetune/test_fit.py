"""The linear map that fine-tuning learns."""

import keras
import numpy as np
import pytest

from keras_facemargin.heads import CosFace
from keras_facemargin.training.finetune.fit import LearnedMap, fit, with_map


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def people(rng, count, images, noise):
    """Embeddings whose first four numbers tell people apart, and whose others do not."""
    centres = np.repeat(rng.normal(size=(count, 4)), images, axis=0)
    rows = np.concatenate(
        [
            centres + 0.1 * rng.normal(size=centres.shape),
            noise * rng.normal(size=(len(centres), 4)),
        ],
        axis=1,
    )
    return rows.astype("float32"), np.repeat(np.arange(count), images)


@pytest.mark.any_backend
def test_the_map_gives_less_to_what_differs_within_people_and_moves_little():
    rng = np.random.default_rng(0)
    rows, labels = people(rng, 40, 5, noise=0.6)
    means = unit(np.stack([unit(rows)[labels == each].mean(axis=0) for each in range(40)]))
    learned = fit(None, CosFace(40, scale=16.0), means.astype("float32"), rows, labels, seed=0)
    assert learned.history["loss"][-1] < learned.history["loss"][0]
    np.testing.assert_allclose(learned.before, means, atol=1e-6)
    new, who = people(rng, 30, 2, noise=0.6)  # other people
    gain = []
    for matrix in (learned.map_at(0.0), learned.map_at(1.0)):
        cosines = unit(new @ matrix) @ unit(new @ matrix).T
        genuine = cosines[::2, 1::2].diagonal()
        gain.append(np.mean(genuine[:, None] > cosines[::2, who != who[0]]))
    assert gain[1] > gain[0]
    assert np.sum(unit(new) * unit(new @ learned.matrix), axis=1).mean() > 0.95


def test_a_share_of_the_way_is_on_the_line():
    before, after = np.zeros((1, 2)), np.ones((1, 2))
    learned = LearnedMap(before, after, {}, embedder=None, matrix=np.diag([3.0, 1.0]))
    np.testing.assert_array_equal(learned.map_at(0.0), np.eye(2))
    np.testing.assert_array_equal(learned.map_at(0.5), np.diag([2.0, 1.0]))
    np.testing.assert_array_equal(learned.prototypes_at(0.25), [[0.25, 0.25]])
    np.testing.assert_array_equal(learned.carry(after, 0.5), [[2.0, 1.0]])


@pytest.mark.any_backend
def test_a_second_map_is_multiplied_and_not_appended():
    embedder = keras.Sequential([keras.Input((1, 1, 3)), keras.layers.Flatten()])
    images = np.arange(6.0).reshape(2, 1, 1, 3)
    first, second = np.random.default_rng(0).normal(size=(2, 3, 3)).astype("float32")
    once = with_map(embedder, first)
    twice = with_map(once, second)
    assert len(twice.layers) == len(once.layers)
    expected = images[:, 0, 0] @ first @ second
    np.testing.assert_allclose(twice.predict(images, verbose=0), expected, rtol=1e-4)
    np.testing.assert_allclose(once.predict(images, verbose=0), images[:, 0, 0] @ first, rtol=1e-4)
