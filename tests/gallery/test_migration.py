"""Maps between embedders: fit, price, file."""

import dataclasses

import numpy as np
import pytest

from keras_facemargin.gallery import Migration, fit_migration, price

DIM = 12


def two_spaces(people, noise, seed=0):
    """Old and new embeddings of two faces of each person: one turned into the other."""
    rng = np.random.default_rng(seed)
    old = np.repeat(rng.normal(size=(people, DIM)), 2, axis=0)
    old += noise * rng.normal(size=old.shape)
    turn = np.linalg.qr(np.random.default_rng(9).normal(size=(DIM, DIM)))[0]
    new = 3 * old @ turn + noise * rng.normal(size=old.shape)
    return old, new, np.repeat(np.arange(people), 2)


@pytest.fixture(scope="module")
def fitted():
    old, new, _ = two_spaces(200, 0.2)
    return fit_migration(old, new, old_id="a" * 64, new_id="b" * 64)


def test_fit_equals_the_normal_equations(fitted):
    old, new, _ = two_spaces(200, 0.2)
    x = old / np.linalg.norm(old, axis=1, keepdims=True)
    y = new / np.linalg.norm(new, axis=1, keepdims=True)
    share = 0.01 * len(x) / DIM  # the trace of X'X is the number of rows
    rows = np.vstack([x, np.sqrt(share) * np.eye(DIM)])
    matrix = np.linalg.lstsq(rows, np.vstack([y, np.zeros((DIM, DIM))]), rcond=None)[0]
    expected = matrix * np.linalg.norm(new, axis=1).mean()
    np.testing.assert_allclose(fitted.matrix, expected, atol=1e-5)
    mapped = fitted.apply(7 * old)  # the length of an old embedding has no effect
    np.testing.assert_allclose(mapped, x @ expected, atol=1e-4)


def test_price_equals_plain_loops(fitted):
    old, new, people = two_spaces(40, 0.3, seed=1)
    found = price(fitted, old, new, people=people, far=0.01).price

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    mapped = fitted.apply(old)
    pairs = [(i, j) for i in range(len(old)) for j in range(i + 1, len(old))]
    same = np.array([people[i] == people[j] for i, j in pairs])
    of_new = np.array([cosine(new[i], new[j]) for i, j in pairs])
    allowed = int(0.01 * np.count_nonzero(~same))
    level = np.sort(of_new[~same])[::-1][allowed]
    assert found.new_tar == pytest.approx(np.mean(of_new[same] > level))
    mixed = np.array([[cosine(mapped[i], new[j]), cosine(new[i], mapped[j])] for i, j in pairs])
    assert found.mapped_tar == pytest.approx(np.mean(mixed[same] > level))
    assert found.mapped_far == pytest.approx(np.mean(mixed[~same] > level))
    assert (found.people, found.genuine_pairs, found.impostor_pairs) == (40, 40, 3120)
    assert found.works


def test_a_map_between_unrelated_spaces_does_not_work(fitted):
    old, new, people = two_spaces(40, 0.1, seed=2)
    strange = new[:, ::-1]
    found = price(fitted, old, strange, people=people, far=0.01).price
    assert not found.works
    good = dataclasses.replace(found, mapped_tar=0.9, old_tar=0.91, new_tar=0.99, mapped_far=0.02)
    assert good.works
    assert not dataclasses.replace(good, mapped_far=0.031).works
    assert not dataclasses.replace(good, old_tar=0.93).works
    assert dataclasses.replace(good, old_tar=0.93, new_tar=0.91).works


def test_a_saved_map_is_the_same(fitted, tmp_path):
    old, new, people = two_spaces(40, 0.3, seed=1)
    priced = price(fitted, old, new, people=people, far=0.01)
    for each in (fitted, priced):
        each.save(tmp_path / "map.npz")
        loaded = Migration.load(tmp_path / "map.npz")
        np.testing.assert_array_equal(loaded.matrix, each.matrix)
        assert (loaded.old_id, loaded.new_id) == ("a" * 64, "b" * 64)
        assert loaded.price == each.price
    np.savez(tmp_path / "other.npz", matrix=np.eye(2))
    with pytest.raises(ValueError, match=r"must be a migration.*a file with matrix"):
        Migration.load(tmp_path / "other.npz")


def test_bad_input_is_refused(fitted):
    old, new, people = two_spaces(40, 0.3)
    with pytest.raises(ValueError, match=r"at least 48\. Received: 40 and 40"):
        fit_migration(old[:40], new[:40], old_id="a", new_id="b")
    with pytest.raises(ValueError, match="Received: 80 and 79"):
        fit_migration(old, new[1:], old_id="a", new_id="b")
    with pytest.raises(ValueError, match=r"\(N, 12\).*\(1, 3\)"):
        fitted.apply(np.ones((1, 3)))
    with pytest.raises(ValueError, match=r"length 0\.0 in row 1"):
        fitted.apply(np.eye(2, DIM) * [[1], [0]])
    with pytest.raises(ValueError, match="people with two faces"):
        price(fitted, old, new, people=np.arange(80))
    with pytest.raises(ValueError, match="the same faces"):
        price(fitted, old, new, people=people[1:])
