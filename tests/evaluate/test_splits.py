"""Means over splits, against the lists that they are made of."""

import io

import numpy as np
import pytest
from rich.console import Console

from keras_facemargin.evaluate import equal_error_rate, identify, tar_at_far, verify_all_pairs
from keras_facemargin.evaluate.splits import SplitResults, verify_by_fold, verify_by_value

RNG = np.random.default_rng(0)
SAME = np.tile(RNG.permutation(40) < 12, 3)
SCORES = RNG.normal(size=120) / 5 + 0.3 * SAME
FOLDS = np.repeat([1, 2, 5], 40)


def test_each_fold_has_its_own_roc():
    found = verify_by_fold(SCORES, SAME, FOLDS)
    parts = [fold == FOLDS for fold in (1, 2, 5)]
    eers = [equal_error_rate(SCORES[part], SAME[part]) for part in parts]
    tars = [tar_at_far(SCORES[part], SAME[part], 0.1).tar for part in parts]
    assert list(found.results) == [1, 2, 5]
    assert found.measures()["EER"] == tuple(eers)
    assert found.mean("EER") == pytest.approx(sum(eers) / 3)
    deviation = np.sqrt(sum((eer - sum(eers) / 3) ** 2 for eer in eers) / 2)
    assert found.standard_deviation("EER") == pytest.approx(deviation)
    assert found.mean("TAR @ FAR 0.1") == pytest.approx(np.mean(tars))
    assert found.measures()["TAR @ FAR 0.001"] == "not supported by 28 impostor pairs"
    record = found.to_dict()
    assert record["mean"]["TAR @ FAR 0.001"] is None
    assert record["mean"]["EER"] == found.mean("EER")
    assert record["splits"]["5"]["eer"] == eers[2]
    rows = dict(found.rows())
    assert rows["EER"] == f"{np.mean(eers):.2%} ± {deviation:.2%}"
    assert rows["Splits (mean ± standard deviation)"] == "1, 2, 5"


def test_what_a_split_does_not_support_has_no_mean():
    with pytest.raises(ValueError, match=r"must be one of .*not supported by 28 impostor"):
        verify_by_fold(SCORES, SAME, FOLDS).mean("TAR @ FAR 0.001")
    with pytest.raises(ValueError, match="must be one of"):
        verify_by_fold(SCORES, SAME, FOLDS).mean("accuracy")


def test_one_split_has_no_spread():
    found = verify_by_fold(SCORES[:40], SAME[:40], FOLDS[:40])
    assert np.isnan(found.standard_deviation("EER"))
    assert found.to_dict()["standard_deviation"] is None
    assert "±" not in dict(found.rows())["EER"]


def test_each_value_of_a_covariate_has_its_own_roc():
    mixed = np.arange(120) % 3 == 0
    found = verify_by_value(SCORES, SAME, (["1", "1 / 2", "2"], mixed.astype("int16")))
    assert list(found.results) == ["1", "1 / 2"]
    assert found.results["1 / 2"].eer == equal_error_rate(SCORES[mixed], SAME[mixed])
    assert found.to_dict()["values"]["1"]["eer"] == found.results["1"].eer
    console = Console(width=120, file=io.StringIO())
    console.print(found)
    table = console.file.getvalue()
    genuine = np.count_nonzero(SAME & mixed)
    assert f"{genuine} + {40 - genuine}" in table
    assert f"{found.results['1 / 2'].eer:.2%}" in table


def test_a_value_without_both_kinds_is_left_out():
    found = verify_by_value(SCORES, SAME, (["a", "b"], np.where(SAME & (FOLDS == 1), 0, 1)))
    assert list(found.results) == ["b"]
    with pytest.raises(ValueError, match="genuine and impostor pairs"):
        verify_by_value(SCORES, SAME, (["a", "b"], SAME.astype(int)))


def test_searches_and_all_pairs_have_measures_too():
    rng = np.random.default_rng(1)
    rows, labels = rng.normal(size=(30, 8)), np.arange(30) % 10
    found = identify(
        rows[:8], rows[10:], gallery_labels=labels[:8], probe_labels=labels[10:], progress=False
    )
    measures = SplitResults({"G1": found, "G2": found}).measures()
    assert measures["Rank-5"] == (found.rank_rate(5),) * 2
    assert measures["TPIR @ FPIR 0.01"] == "not supported by 4 non-mated probes"
    pairs = verify_all_pairs(rows, labels, fars=[0.1], progress=False)
    split = SplitResults({1: pairs})
    assert split.mean("TAR @ FAR 0.1") == pairs.tar_at_far[0].tar
    assert "AUC" not in split.measures()
