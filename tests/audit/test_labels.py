"""The checks of labels: against plain loops, across blocks, and on planted errors."""

import numpy as np
import pytest

from keras_facemargin.audit import labels as audit
from keras_facemargin.audit.labels import (
    label_noise,
    near_duplicates,
    shared_identities,
    shared_images,
)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(audit, "_BLOCK", 7)  # so that forty rows are several blocks


@pytest.fixture
def rows():
    """Forty embeddings about five directions, of any length, and their labels."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(5), 8))
    middles = rng.normal(size=(5, 16))
    embeddings = middles[labels] + 0.3 * rng.normal(size=(40, 16))
    return embeddings * rng.uniform(0.1, 9, (40, 1)), labels


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_label_noise_equals_a_plain_loop(rows):
    embeddings, labels = rows
    noise = label_noise(embeddings, labels)
    x = unit(embeddings)
    for i, label in enumerate(labels):
        mine = (labels == label) & (np.arange(40) != i)
        np.testing.assert_allclose(noise.own[i], x[i] @ unit(x[mine].sum(axis=0)), atol=1e-5)
        others = [(x[i] @ unit(x[labels == c].sum(axis=0)), c) for c in range(5) if c != label]
        np.testing.assert_allclose((noise.other[i], noise.nearest[i]), max(others), atol=1e-5)


def test_swapped_labels_are_the_suspects(rows):
    embeddings, labels = rows
    assert len(label_noise(embeddings, labels).suspects) == 0
    swapped = labels.copy()
    for row in (3, 20):
        swapped[row] = (labels[row] + 1) % 5
    noise = label_noise(embeddings, swapped)
    assert set(noise.suspects.tolist()) == {3, 20}
    assert noise.nearest[noise.suspects].tolist() == labels[noise.suspects].tolist()
    lead = (noise.other - noise.own)[noise.suspects]
    assert lead[0] >= lead[1] > 0


def test_the_only_image_of_an_identity_is_not_a_suspect():
    noise = label_noise(np.array([[1, 0], [1, 0], [1, 0.1]]), [0, 0, 1])
    assert np.isnan(noise.own[2])
    assert len(noise.suspects) == 0


def test_unused_labels_are_never_the_nearest(rows):
    embeddings, labels = rows
    noise = label_noise(embeddings, 3 * labels + 2)
    assert set((noise.nearest % 3).tolist()) == {2}
    np.testing.assert_array_equal(noise.own, label_noise(embeddings, labels).own)


@pytest.mark.parametrize("threshold", [0.0, 0.6, 0.9, 1.0])
def test_pairs_equal_a_plain_loop(rows, threshold):
    embeddings, labels = rows
    embeddings[33] = 2 * embeddings[5]
    found = near_duplicates(embeddings, labels, threshold - 1e-6)
    x = unit(embeddings)
    pairs = {(i, j) for i in range(40) for j in range(i + 1, 40) if x[i] @ x[j] >= threshold - 1e-6}
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == pairs
    assert len(found) == len(pairs) > 0
    assert (np.diff(found.cosine) <= 0).all()
    np.testing.assert_array_equal(found.same, labels[found.first] == labels[found.second])
    np.testing.assert_allclose(found.cosine, (x[found.first] * x[found.second]).sum(1), atol=1e-5)


def test_sets_that_share_people_and_images(rows):
    embeddings, labels = rows
    theirs = labels >= 3
    other_labels = labels[theirs] - 3
    shared = shared_identities(embeddings, labels, 0.99, against=(embeddings[theirs], other_labels))
    assert set(zip(shared.first.tolist(), shared.second.tolist(), strict=True)) == {(3, 0), (4, 1)}
    leaked = shared_images(embeddings, embeddings[theirs], 0.9999)
    expected = list(zip(np.flatnonzero(theirs).tolist(), range(theirs.sum()), strict=True))
    assert sorted(zip(leaked.first.tolist(), leaked.second.tolist(), strict=True)) == expected
    assert len(shared_identities(embeddings, labels, 0.9, against=(-embeddings, labels))) == 0


def test_one_person_with_two_labels(rows):
    embeddings, labels = rows
    split = labels.copy()
    split[np.flatnonzero(labels == 2)[:4]] = 5
    found = shared_identities(embeddings, split, 0.8)
    assert (found.first.tolist(), found.second.tolist()) == ([2], [5])


def test_memory_is_bounded_by_the_block(monkeypatch):
    import tracemalloc

    monkeypatch.setattr(audit, "_BLOCK", 256)
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(6000, 32)).astype("float32")
    labels = np.arange(6000) // 2
    tracemalloc.start()
    label_noise(embeddings, labels)
    near_duplicates(embeddings, labels, 0.95)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24e6  # all cosines at once are 144 MB, those to the means 72 MB


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: label_noise(np.eye(3), [0, 1]), r"Received: shape \(2,\), dtype int64 for 3"),
        (lambda: label_noise(np.eye(3), [0, 1, -1]), "an integer of at least 0"),
        (lambda: label_noise(np.eye(3), [0.0, 1, 2]), "dtype float64"),
        (lambda: label_noise(np.eye(3), [1, 1, 1]), "two identities. Received: label 1 only"),
        (lambda: label_noise(np.zeros((2, 2)), [0, 1]), r"embeddings\[0\] of norm 0"),
        (lambda: label_noise(np.full((2, 2), np.nan), [0, 1]), r"embeddings\[0\] of norm nan"),
        (lambda: label_noise(np.zeros(2), [0, 1]), r"Received: shape \(2,\)"),
        (lambda: near_duplicates(np.eye(2), [0, 1], 1.5), "Received: threshold=1.5"),
        (lambda: shared_images(np.eye(2), np.eye(3), 0.9), "embeddings of dimension 2 and 3"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_too_many_pairs_are_refused(monkeypatch, rows):
    monkeypatch.setattr(audit, "_MOST", 100)
    with pytest.raises(ValueError, match=r"At most 100 pairs .* Raise `threshold`"):
        near_duplicates(*rows, -0.9)
