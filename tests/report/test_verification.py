"""The report of a list of pairs has the measures of `evaluate`, and nothing else."""

import dataclasses
import json
import re

import numpy as np
import pytest

from keras_facemargin.evaluate import Pairs, bootstrap, interval, rates_by_group, verify
from keras_facemargin.evaluate.verification import threshold_at_far
from keras_facemargin.report import draws as module
from keras_facemargin.report import report_verification
from keras_facemargin.report.measures import measures_table

# The plots of a page are alike in most tests; those with `real_plots` draw each kind.
pytestmark = pytest.mark.usefixtures("empty_plots")


@pytest.fixture(scope="module")
def sample(pictures):
    """Pairs with folds, people, pictures and two embedders' scores, the second a little worse."""
    rng = np.random.default_rng(0)
    count = 1_200
    same = np.arange(count) % 2 == 0
    first = rng.integers(0, 150, count)
    second = np.where(same, first, (first + rng.integers(1, 150, count)) % 150)
    pairs = Pairs(
        first=tuple(pictures[number % 6] for number in first),
        second=tuple(pictures[number % 6] for number in second),
        same=same,
        folds=np.arange(count) // 120,
        people=(first, second),
    )
    good = np.tanh((rng.normal(size=count) + 4 * same - 2) / 4)
    return pairs, {"ours": good, "<theirs>": good - 0.2 * same * rng.random(count)}


def test_the_record_has_the_measures(written, sample):
    pairs, scores = sample
    _, _, record = written(report_verification, "Faces", pairs, scores, about=["how"], seed=3)
    assert record["title"] == "Faces"
    assert record["about"] == ["how"]
    assert record["intervals"] == {
        "level": 0.95,
        "resampled": "identities",
        "units": 150,
        "replicates": 20,
        "seed": 3,
    }
    for name, values in scores.items():
        found = record["models"][name]
        expected = json.loads(json.dumps(verify(values, pairs.same, pairs.folds).to_dict()))
        assert {key: found[key] for key in expected} == expected
        draws = bootstrap(
            values,
            pairs.same,
            folds=pairs.folds,
            people=pairs.people,
            replicates=20,
            seed=3,
            progress=False,
        )
        low, high = found["intervals"]["accuracy"]
        assert (low, high) == (interval(draws.accuracy).low, interval(draws.accuracy).high)
        assert found["intervals"]["tar_at_far"][1] == [
            interval(draws.tar[:, 1]).low,
            interval(draws.tar[:, 1]).high,
        ]
        assert found["intervals"]["tar_at_far"][3] is None  # 1e-4 of 600 pairs
        assert found["conventions"]["conservative"] == found["tar_at_far"]
        assert found["groups"] == {}
        verdicts = {name: bar["verdict"] for name, bar in found["bars"].items()}
        assert set(verdicts.values()) == {"not supported by 600 impostor pairs"}
        assert list(verdicts) == ["NIST SP 800-63B-4", "Windows Hello"]


def test_the_page_shows_the_measures(real_plots, written, sample):
    pairs, scores = sample
    models, page, _ = written(
        report_verification, "Faces", pairs, scores, about=["how it was done"]
    )
    assert "://" not in page
    assert "<theirs>" not in page
    assert "how it was done" in page
    assert "600 genuine and 600 impostor pairs" in page
    assert "the middle 95% of 20 draws of 150 identities with replacement" in page
    assert page.count('src="data:image/png') == 2 + 2 * 2  # curves; scores and pairs of each
    result, draws = models["ours"].result, models["ours"].draws
    ends = interval(draws.eer)
    assert f"<td>{result.eer:.2%} ({ends.low:.2%} to {ends.high:.2%})</td>" in page
    accuracy = f"{result.accuracy.mean:.2%} ± {result.accuracy.standard_error:.2%}"
    assert accuracy in page
    assert page.count("not supported by 600 impostor pairs") == 2 * (4 + 4 + 2)
    entry = result.tar_at_far[1]
    assert f"<td>1e-2</td><td>{entry.threshold:.4f}</td><td>6</td><td>0.01</td>" in page
    other = models["<theirs>"]
    found = interval(other.draws.eer - draws.eer)
    cell = f"{other.result.eer - result.eer:+.2%} ({found.low:+.2%} to {found.high:+.2%})"
    assert f"<td>{cell}</td><td>{'yes' if found.low > 0 else 'no'}</td>" in page
    assert "nearest ROC point" in page
    assert "VAL: mean over folds" in page


def test_measures_are_side_by_side(written, sample):
    pairs, scores = sample
    models, _, _ = written(report_verification, "Faces", pairs, scores)
    headers, rows = measures_table({name: each.measures for name, each in models.items()})
    assert headers == ["Measure", "ours", "<theirs>"]
    assert [row[0] for row in rows[:3]] == ["Accuracy, 10-fold", "AUC", "EER"]
    assert all(len(row) == 3 for row in rows)


def test_templates_without_pictures_people_or_folds(real_plots, written, sample):
    pairs, scores = sample
    templates = Pairs(None, None, pairs.same)
    _, page, record = written(report_verification, "Templates", templates, {"ours": scores["ours"]})
    assert "drawn as if they were independent" in page
    assert page.count('src="data:image/png') == 3
    assert "Accuracy, " not in page
    assert "VAL: mean" not in page
    assert "accuracy" not in record["models"]["ours"]
    assert record["intervals"]["resampled"] == "pairs"


def test_a_threshold_that_was_chosen_on_other_pairs(written, sample):
    pairs, scores = sample
    pairs = dataclasses.replace(pairs, folds=None)
    given = {"ours": 0.1, "<theirs>": -0.2}
    _, page, record = written(report_verification, "View 1", pairs, scores, thresholds=given)
    for name, threshold in given.items():
        found = record["models"][name]
        right = np.mean((scores[name] >= threshold) == pairs.same)
        draws = bootstrap(
            scores[name],
            pairs.same,
            people=pairs.people,
            replicates=20,
            threshold=threshold,
            progress=False,
        )
        ends = interval(draws.accuracy)
        assert (found["accuracy"], found["threshold"]) == (right, threshold)
        assert found["intervals"]["accuracy"] == [ends.low, ends.high]
        assert f"<td>{right:.2%}, threshold {threshold:.4f} ({ends})</td>" in page
    assert "decided correctly at a threshold that was chosen on other pairs" in page
    assert "Dashed: the threshold chosen on other pairs." in page
    assert "<td>&lt;theirs&gt;: Accuracy</td>" in page
    with pytest.raises(
        ValueError, match=r"one for each embedder \(ours, <theirs>\).* thresholds for ours\."
    ):
        written(report_verification, "View 1", pairs, scores, thresholds={"ours": 0.1})


def test_groups_at_one_threshold_that_enough_impostors_decide(written, sample):
    pairs, scores = sample
    sexes = np.array(["f", "m"])[np.arange(150) % 2]
    sides = tuple(sexes[side] for side in pairs.people)
    _, page, record = written(
        report_verification, "Faces", pairs, {"ours": scores["ours"]}, groups={"sex": sides}
    )
    found = record["models"]["ours"]["groups"]["sex"]
    assert found["far"] == 0.1  # of 600 impostor pairs 1e-2 are 6
    threshold = threshold_at_far(scores["ours"][~pairs.same], 0.1)
    assert found["threshold"] == threshold
    rates = rates_by_group(
        scores["ours"], pairs.same, sides, threshold=threshold, people=pairs.people, replicates=20
    )
    assert [group["name"] for group in found["groups"]] == ["all pairs", "f", "m", "two groups"]
    for group, rate in zip(found["groups"], rates, strict=True):
        assert group["fmr"]["errors"] == rate.fmr.errors
        assert group["fnmr"]["rate"] == rate.fnmr.rate
        assert f"<td>{rate.fmr}</td>" in page
    assert "Errors by sex at one threshold for all groups" in page


def test_the_page_has_the_number_of_missing_images(written, sample):
    pairs, scores = sample
    missing = Pairs(pairs.first, pairs.second, pairs.same, missing=frozenset([pairs.first[0]]))
    _, page, record = written(report_verification, "Faces", missing, {"ours": scores["ours"]})
    count = record["models"]["ours"]["failed_to_enrol"]
    assert count == np.count_nonzero(missing.failed_to_enrol) > 0
    assert re.search(f"Pairs with a missing image: {count}", page)


def test_wrong_arguments_are_refused_before_a_file_is_written(written, tmp_path, sample):
    pairs, scores = sample
    with pytest.raises(ValueError, match=r"must be an \.html file. Received: .*r\.pdf"):
        report_verification(tmp_path / "r.pdf", pairs, scores, title="Faces")
    with pytest.raises(ValueError, match=r"at least one entry. Received: an empty one"):
        report_verification(tmp_path / "r.html", pairs, {}, title="Faces")
    with pytest.raises(ValueError, match="scores of shape"):
        written(report_verification, "Faces", pairs, {"ours": np.ones(3)})
    assert not list(tmp_path.iterdir())


def test_a_long_list_is_resampled_by_the_pairs_that_decide(written, sample, monkeypatch):
    pairs, scores = sample
    plain = Pairs(pairs.first, pairs.second, pairs.same, people=pairs.people)
    whole, _, expected = written(report_verification, "Faces", plain, {"ours": scores["ours"]})
    monkeypatch.setattr(module, "DRAWN_WHOLE", 1_000)
    monkeypatch.setattr(module, "TAIL", 200)
    found, page, record = written(report_verification, "Faces", plain, {"ours": scores["ours"]})
    assert found["ours"].draws.auc is None
    np.testing.assert_array_equal(found["ours"].draws.eer, whole["ours"].draws.eer)
    ours, theirs = (each["models"]["ours"] for each in (record, expected))
    assert ours["intervals"].pop("auc") is None
    assert theirs["intervals"].pop("auc") is not None
    assert ours == theirs
    assert f"<td>{found['ours'].result.auc:.5f}</td>" in page


def test_templates_have_pictures_and_failures_to_enrol(written, sample):
    pairs, scores = sample
    lost = np.arange(len(pairs)) % 7 == 0
    templates = Pairs(pairs.first, pairs.second, pairs.same, failed_to_enrol=lost)
    _, page, record = written(report_verification, "Templates", templates, {"ours": scores["ours"]})
    assert record["models"]["ours"]["failed_to_enrol"] == lost.sum()
    assert page.count('src="data:image/png') == 4


def test_the_page_has_the_cost_of_likelihood_ratios_where_folds_fix_a_map(real_plots, tmp_path):
    rng = np.random.default_rng(0)
    same = np.repeat([True, False], [600, 2_400])
    scores = np.tanh(rng.normal(size=3_000) / 3 + same)
    pairs = Pairs(None, None, same, folds=np.arange(3_000) % 2)
    found = report_verification(
        tmp_path / "page.html", pairs, {"ours": scores}, title="t", replicates=20, progress=False
    )
    page, record = (tmp_path / f"page.{end}" for end in ("html", "json"))
    assert "Empirical cross-entropy" in page.read_text()
    ours = json.loads(record.read_text())["models"]["ours"]
    assert ours["cllr"] == found["ours"].result.cllr
    for name in ("cllr", "min_cllr"):
        low, high = ours["intervals"][name]
        assert low < ours[name] < high
