"""Values of a covariate: each at its own thresholds, and all at one threshold."""

import numpy as np
import pytest

from keras_facemargin.evaluate import Pairs, bootstrap, interval, verify
from keras_facemargin.evaluate.uncertainty import rates_by_value
from keras_facemargin.evaluate.verification import threshold_at_far
from keras_facemargin.report import report_covariates

TEXTS = ["f", "f / m", "m"]


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    same = np.arange(900) % 3 == 0
    first = rng.integers(0, 60, 900)
    second = np.where(same, first, (first + rng.integers(1, 60, 900)) % 60)
    numbers = first % 2 + second % 2  # f, one of each, m
    scores = np.tanh((rng.normal(size=900) + 4 * same - 2 - numbers * same) / 4)
    return Pairs(None, None, same, people=(first, second)), numbers, scores


def test_each_value_alone_and_all_at_one_threshold(written, sample):
    pairs, numbers, scores = sample
    both = {"ours": scores, "theirs": scores - 0.1 * pairs.same}
    models, page, record = written(
        report_covariates,
        *("By sex", pairs, both),
        covariate=(TEXTS, numbers),
        by="SEX",
        about=["how"],
    )
    found = record["models"]["ours"]
    assert (record["by"], list(found["values"])) == ("SEX", ["f", "m"])
    for value in ("f", "m"):
        part = numbers == TEXTS.index(value)
        result = verify(scores[part], pairs.same[part])
        assert found["values"][value]["eer"] == result.eer
        people = tuple(side[part] for side in pairs.people)
        draws = bootstrap(scores[part], pairs.same[part], folds=None, people=people, replicates=20)
        ends = interval(draws.eer)
        assert found["intervals"][f"EER: {value}"] == [ends.low, ends.high]
        assert f"<td>{result.eer:.2%} ({ends.low:.2%} to {ends.high:.2%})</td>" in page
    threshold = threshold_at_far(scores[~pairs.same], 0.1)
    rates = rates_by_value(
        scores,
        pairs.same,
        (TEXTS, numbers),
        threshold=threshold,
        people=pairs.people,
        replicates=20,
    )
    groups = found["groups"]["SEX"]
    assert (groups["threshold"], groups["far"]) == (threshold, 0.1)
    for group, rate in zip(groups["groups"], rates, strict=True):
        assert (group["name"], group["fmr"]["rate"]) == (rate.name, rate.fmr.rate)
        assert f"<td>{rate.fmr}</td>" in page
    assert "theirs: EER: m" in page
    assert page.count('src="data:image/png') == 2 * 3
    assert list(models["ours"].draws) == ["f", "m"]
