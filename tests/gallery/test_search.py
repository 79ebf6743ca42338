"""Exact search against a sort of all cosines."""

import numpy as np
import pytest

from keras_facemargin.gallery import search


def units(count, seed):
    rows = np.random.default_rng(seed).standard_normal((count, 16))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 7, 500])
@pytest.mark.parametrize("products", [64, 1_048_576])
@pytest.mark.parametrize("probes", [1, 3, 13])
def test_equals_a_sort(count, products, probes, monkeypatch):
    monkeypatch.setattr(search, "_PRODUCTS", products)
    monkeypatch.setattr(search, "_PROBES", 9)  # the last 4 of 13 are a part of their own
    monkeypatch.setattr(search, "_FIRST", 1)
    rows, probes = units(400, 0), units(probes, 1)
    scores, found = search.nearest(rows, probes, count)
    cosines = probes.astype(float) @ rows.T.astype(float)
    expected = np.argsort(-cosines, axis=1)[:, :count]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(cosines, expected, 1), atol=1e-12)


def test_equal_rows_are_in_order():
    row = units(1, 0)
    scores, found = search.nearest(np.repeat(row, 5, axis=0), row, 5)
    assert found.tolist() == [[0, 1, 2, 3, 4]]
    np.testing.assert_allclose(scores, 1)
