"""Tiles and windows equal every pair scored alone in float64, however the list is made."""

import importlib

import numpy as np
import pytest

from keras_facemargin.evaluate import roc
from keras_facemargin.evaluate.at_scale import verify_listed_pairs
from keras_facemargin.evaluate.cosine import cosine_scores_of_pairs

MODULE = importlib.import_module("keras_facemargin.evaluate.at_scale.listed_pairs")
FARS = (0.29, 0.1, 1e-2, 1e-3, 1e-4, 1e-6)


def listed(seed, rows=300, pairs=9_000, size=24, each=4):
    """Templates of several people, of any length, and a list of their pairs, some twice."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(rows) // each)
    units = rng.normal(size=(rows, size))[labels] + 1.3 * rng.normal(size=(rows, size))
    first, second = rng.integers(0, rows, (2, pairs))
    mates = rng.random(pairs) < 0.1
    second[mates] = [rng.choice(np.flatnonzero(labels == labels[row])) for row in first[mates]]
    templates = (units * rng.uniform(0.1, 20, (rows, 1))).astype("float32")
    return templates, first, second, labels[first] == labels[second]


def check(templates, first, second, same, fars=FARS):
    result = verify_listed_pairs(templates, first, second, same=same, fars=fars, progress=False)
    curve = roc(cosine_scores_of_pairs(templates, templates, first=first, second=second), same)
    assert (result.genuines, result.impostors) == (curve.genuines, curve.impostors)
    assert result.embeddings == len(templates)
    assert result.eer == curve.equal_error_rate()
    assert result.tar_at_far == tuple(curve.tar_at_far(far) for far in fars)
    return result


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tile", [16, 64, 1_024])
@pytest.mark.parametrize("cells", [0, 32, 10**9])  # never, sometimes and always a product
def test_equals_every_pair_scored_alone(seed, tile, cells, monkeypatch):
    monkeypatch.setattr(MODULE, "TILE", tile)
    monkeypatch.setattr(MODULE, "CELLS_PER_PAIR", cells)
    check(*listed(seed))


@pytest.mark.parametrize("size", [1, 3, 512])
def test_any_embedding_length(size):
    check(*listed(1, rows=80, pairs=2_000, size=size))


def test_more_tiles_than_short_keys_can_name(monkeypatch):
    monkeypatch.setattr(MODULE, "TILE", 1)
    check(*listed(2, pairs=1_500))


def test_a_pair_its_reverse_and_its_double_count_each():
    templates, first, second, same = listed(3, pairs=500)
    check(
        templates,
        np.concatenate([first, second, first]),
        np.concatenate([second, first, second]),
        np.tile(same, 3),
    )


def test_equal_scores_enter_together():
    templates = np.eye(4)[[0, 0, 0, 1, 1, 2]]
    first, second = np.triu_indices(6, k=1)
    same = (first < 3) & (second < 3) | (first == 3) & (second == 4)
    check(templates, first, second, same, (0.5, 0.1))


def test_rates_out_of_reach_have_no_number():
    result = check(*listed(0, pairs=300), (0.1, 1e-3))
    assert str(result.tar_at_far[1]).startswith("not supported by 2")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"first": [0, 1]}, ValueError, r"Received: shapes \(3, 2\), \(2,\), \(3,\), \(3,\)"),
        ({"same": [1, 1, 1]}, ValueError, "3 genuine and 0 impostor"),
        ({"first": [0, 0, 3]}, IndexError, r"`first` must hold rows.*0 to 2. Received: 0 to 3"),
        ({"second": [1, -1, 2]}, IndexError, r"`second` must hold.*Received: -1 to 2"),
        ({"fars": [1.0]}, ValueError, r"rate in \(0, 1\)"),
        ({"embeddings": [[1, 0], [0, 0], [0, 1]]}, ValueError, "length 0.0 in row 1"),
    ],
)
def test_bad_lists_are_refused(change, error, message):
    arguments = {
        "embeddings": [[1, 0], [1, 1], [0, 1]],
        "first": [0, 0, 1],
        "second": [1, 2, 2],
        "same": [True, False, False],
    }
    with pytest.raises(error, match=message):
        verify_listed_pairs(**arguments | change, progress=False)
