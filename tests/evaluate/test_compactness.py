"""Angular Fisher Score against plain loops."""

import numpy as np
import pytest

from keras_facemargin.evaluate import angular_fisher_score


def unit(vector):
    return vector / np.sqrt(sum(value**2 for value in vector))


def by_loops(embeddings, labels):
    vectors = [unit(row) for row in embeddings]
    center = unit(sum(vectors))
    within = between = 0.0
    for label in set(labels):
        members = [row for row, own in zip(vectors, labels, strict=True) if own == label]
        mean = unit(sum(members))
        for row in members:
            within += 1 - sum(row * mean)
        between += len(members) * (1 - sum(mean * center))
    return within / between


def test_it_is_the_papers_ratio():
    rng = np.random.default_rng(0)
    embeddings, labels = rng.normal(size=(30, 5)), rng.integers(0, 4, 30).tolist()
    found = angular_fisher_score(embeddings, labels)
    assert found == pytest.approx(by_loops(embeddings, labels), rel=1e-12)


def test_collapsed_people_have_zero():
    assert angular_fisher_score([[1.0, 0], [2, 0], [0, 3]], [0, 0, 1]) == pytest.approx(0)
    assert angular_fisher_score([[1.0, 0], [1, 1], [0, 3]], [0, 0, 1]) > 0.05


def test_one_direction_for_all_has_no_score():
    assert np.isnan(angular_fisher_score([[1.0, 0], [2, 0]], [0, 1]))


@pytest.mark.parametrize("labels", [[0], [[0], [1]]])
def test_other_numbers_of_labels_are_refused(labels):
    with pytest.raises(ValueError, match=r"one entry for each embedding\. Received: \("):
        angular_fisher_score([[1.0, 0], [2, 0]], labels)
