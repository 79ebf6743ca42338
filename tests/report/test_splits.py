"""Splits: the page has the means, deviations and draws of the results of the splits."""

import numpy as np
import pytest

from keras_facemargin.evaluate import Pairs, interval
from keras_facemargin.evaluate.splits import verify_by_fold
from keras_facemargin.evaluate.uncertainty import bootstrap_splits
from keras_facemargin.report import report_splits

# The plots of a page are alike in most tests; those with `real_plots` draw each kind.
pytestmark = pytest.mark.usefixtures("empty_plots")


@pytest.fixture(scope="module")
def sample(pictures):
    """Three splits of pairs of 60 people, and two embedders' scores."""
    rng = np.random.default_rng(0)
    same = np.arange(900) % 3 == 0
    first = rng.integers(0, 60, 900)
    second = np.where(same, first, (first + rng.integers(1, 60, 900)) % 60)
    shown = tuple(tuple(pictures[row % 6] for row in side) for side in (first, second))
    pairs = Pairs(*shown, same, np.arange(900) // 300, people=(first, second))
    good = np.tanh((rng.normal(size=900) + 4 * same - 2) / 4)
    return pairs, {"ours": good, "theirs": good - 0.2 * same * rng.random(900)}


def test_the_record_has_the_results_of_the_splits(real_plots, written, sample):
    pairs, scores = sample
    models, page, record = written(report_splits, "In splits", pairs, scores, seed=3)
    for name, values in scores.items():
        result = verify_by_fold(values, pairs.same, pairs.folds)
        draws = bootstrap_splits(
            values,
            pairs.same,
            pairs.folds,
            people=pairs.people,
            replicates=20,
            seed=3,
            progress=False,
        )
        found = record["models"][name]
        assert found["mean"] == result.to_dict()["mean"]
        ends = interval(draws.tar[:, 1])
        assert found["intervals"]["TAR @ FAR 0.01"] == [ends.low, ends.high]
        assert found["intervals"]["TAR @ FAR 0.001"] is None
        measure = "TAR @ FAR 0.01"
        expected = f"{result.mean(measure):.2%} ± {result.standard_deviation(measure):.2%}"
        assert f"{expected} ({ends.low:.2%} to {ends.high:.2%})" in page
        thresholds = [each.tar_at_far[1].threshold for each in result.results.values()]
        assert f"<td>{min(thresholds):.4f} to {max(thresholds):.4f}</td>" in page
    assert "3 splits with 300 genuine and 600 impostor pairs in total" in page
    assert "not supported by 200 impostor pairs" in page
    change = models["theirs"].result.mean("EER") - models["ours"].result.mean("EER")
    assert f"<td>theirs: EER</td><td>{change:+.2%} (" in page
    assert page.count('src="data:image/png') == 2 + 2 * 2


def test_groups_are_at_one_threshold_over_all_splits(written, sample):
    pairs, scores = sample
    sides = tuple(np.array(["f", "m"])[side % 2] for side in pairs.people)
    _, page, record = written(
        report_splits, "In splits", pairs, {"ours": scores["ours"]}, groups={"sex": sides}
    )
    found = record["models"]["ours"]["groups"]["sex"]
    assert [group["name"] for group in found["groups"]] == ["all pairs", "f", "m", "two groups"]
    assert sum(group["fmr"]["pairs"] for group in found["groups"][1:]) == 600
    assert "Errors by sex at one threshold for all groups" in page


def test_one_split_has_no_deviation(real_plots, written, sample):
    pairs, scores = sample
    part = pairs.folds == 0
    one = Pairs(None, None, pairs.same[part], pairs.folds[part])
    _, page, record = written(report_splits, "One", one, {"ours": scores["ours"][part]})
    assert " ± 0" not in page
    assert record["models"]["ours"]["standard_deviation"] is None
    assert page.count('src="data:image/png') == 3
