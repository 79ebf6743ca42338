"""The cosine of a pair is one number, however and wherever it is computed."""

import numpy as np
import pytest

from keras_facemargin.evaluate import cosine, cosine_scores
from keras_facemargin.evaluate.cosine import cosine_scores_of_pairs


def test_cosine_of_any_length_and_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50, 8)).astype("float32")
    expected = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)]
    monkeypatch.setattr(cosine, "ROWS_AT_ONCE", 7)
    scores = cosine_scores(a, 3 * b)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert cosine_scores(a, a).max() <= 1.0


@pytest.mark.parametrize("size", [1, 7, 256, 513, 9_001])
def test_the_score_of_a_pair_does_not_depend_on_its_place(size):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30, size)).astype("float32")
    expected = cosine_scores(a, b)
    np.testing.assert_array_equal(cosine_scores(b, a), expected)
    np.testing.assert_array_equal(cosine_scores(a[::-1], b[::-1]), expected[::-1])
    np.testing.assert_array_equal(cosine_scores(np.asfortranarray(a), b), expected)
    for row in range(30):
        np.testing.assert_array_equal(
            cosine_scores(a[row : row + 1], b[row : row + 1]), expected[row]
        )
        repeated = np.broadcast_to(a[row], a.shape)
        assert cosine_scores(repeated, b)[row] == expected[row]


@pytest.mark.parametrize("bad", [0.0, np.nan])
def test_a_row_without_direction_is_named(bad, monkeypatch):
    monkeypatch.setattr(cosine, "ROWS_AT_ONCE", 2)
    a = np.ones((5, 3))
    b = a.copy()
    b[4] = bad
    with pytest.raises(ValueError, match=r"`b` with length .* in row 4"):
        cosine_scores(a, b)
    with pytest.raises(ValueError, match="one shape"):
        cosine_scores(a, b[:4])


def test_rows_that_no_pair_needs_may_be_zero():
    rows = np.random.default_rng(0).normal(size=(6, 4))
    rows[2] = 0
    first, second = np.arange(60) % 2, 3 + np.arange(60) % 3
    expected = cosine_scores(rows[first], rows[second])
    np.testing.assert_array_equal(
        cosine_scores_of_pairs(rows, rows, first=first, second=second), expected
    )
    with pytest.raises(ValueError, match=r"length 0\.0 in row 2"):
        cosine_scores_of_pairs(rows, rows, first=np.append(first, 2), second=np.append(second, 3))


@pytest.mark.parametrize("pairs", [0, 5, 3_000])
def test_listed_pairs_score_as_they_do_alone(pairs):
    rng = np.random.default_rng(0)
    a, b = (9 * rng.normal(size=(count, 65)).astype("float32") for count in (40, 30))
    first, second = rng.integers(0, 40, size=pairs), rng.integers(0, 30, size=pairs)
    np.testing.assert_array_equal(
        cosine_scores_of_pairs(a, b, first=first, second=second), cosine_scores(a[first], b[second])
    )
