"""The page of all pairs of a set equals that of the list of all pairs."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from keras_facemargin.evaluate import (
    all_pairs,
    bootstrap,
    interval,
    rates_by_group,
    roc,
    verify_all_pairs,
)
from keras_facemargin.evaluate.verification import threshold_at_far
from keras_facemargin.report import report_all_pairs

# The plots of a page are alike in most tests; those with `real_plots` draw each kind.
pytestmark = pytest.mark.usefixtures("empty_plots")

LABELS = np.arange(60) // 3


@pytest.fixture(scope="module")
def embeddings():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20, 8))[LABELS] + 0.7 * rng.normal(size=(60, 8))
    return {"ours": rows, "<theirs>": rows + 0.5 * rng.normal(size=(60, 8))}


def test_the_record_equals_that_of_the_list_of_all_pairs(written, embeddings):
    _, _, record = written(report_all_pairs, "A set", embeddings, LABELS, about=["how"], seed=3)
    assert (record["title"], record["about"]) == ("A set", ["how"])
    assert record["intervals"] == {
        "level": 0.95,
        "resampled": "identities",
        "units": 20,
        "replicates": 20,
        "seed": 3,
    }
    first, second = np.triu_indices(60, k=1)
    for name, rows in embeddings.items():
        scores, same = all_pairs(rows, LABELS)
        curve = roc(scores, same)
        found = record["models"][name]
        assert (found["genuine_pairs"], found["impostor_pairs"]) == (60, 1_710)
        assert found["eer"] == curve.equal_error_rate()
        assert found["auc"] == pytest.approx(curve.area(), abs=1e-4)
        exact = json.loads(json.dumps(verify_all_pairs(rows, LABELS, progress=False).to_dict()))
        assert found["tar_at_far"] == exact["tar_at_far"] == found["conventions"]["conservative"]
        draws = bootstrap(
            scores,
            same,
            people=(LABELS[first], LABELS[second]),
            fars=[0.1, 0.01],
            replicates=20,
            seed=3,
            progress=False,
        )
        for column in (0, 1):
            ends = interval(draws.tar[:, column])
            assert found["intervals"]["tar_at_far"][column] == [ends.low, ends.high]
        assert found["intervals"]["tar_at_far"][5] is None  # 1e-6 of 1,710
        assert found["intervals"]["eer"] == [*vars(interval(draws.eer)).values()]
        drawn = found["curve"]
        assert drawn["far"] == draws.band_fars.tolist()
        expected = [curve.largest_tar(far) for far in drawn["far"][:-1]]
        assert drawn["tar"] == pytest.approx([*expected, 1.0], abs=0.02)  # one genuine pair
        assert drawn["low"][40] == interval(draws.band[:, 40]).low
        hardest = found["hardest_pairs"]
        assert [pair["same"] for pair in hardest] == [True] * 6 + [False] * 6
        assert [pair["score"] for pair in hardest[:6]] == pytest.approx(np.sort(scores[same])[:6])
        strangers = np.sort(scores[~same])[::-1][:6]
        assert [pair["score"] for pair in hardest[6:]] == pytest.approx(strangers)


def test_the_page_without_images(written, embeddings):
    models, page, record = written(
        report_all_pairs, "A set", embeddings, LABELS, about=["how it was done"]
    )
    assert "://" not in page
    assert "<theirs>" not in page
    assert "how it was done" in page
    assert "60 images of 20 people: 60 genuine and 1,710 impostor pairs" in page
    assert "one by one" not in page  # all are
    assert page.count('src="data:image/png') == 2 + 2  # curves; scores of each
    ours, theirs = models.values()
    ends = interval(ours.draws.eer)
    assert f"<td>{ours.result.eer:.2%} ({ends.low:.2%} to {ends.high:.2%})</td>" in page
    entry = ours.result.tar_at_far[0]
    assert f"<td>1e-1</td><td>{entry.threshold:.4f}</td><td>171</td><td>0.1</td>" in page
    assert "not supported by 1,710 impostor pairs" in page
    change = interval(theirs.draws.eer - ours.draws.eer)
    assert f"({change.low:+.2%} to {change.high:+.2%})" in page
    assert "k-th largest impostor (PFE, BLUFR)" in page
    assert "in score bins of 1/65,536" in page
    assert f"<td>{record['models']['ours']['hardest_pairs'][6]['first']}</td>" in page
    assert "not available" in page


def test_existing_images_are_shown_and_others_named(
    real_plots, written, embeddings, pictures, tmp_path_factory
):
    ours = {"ours": embeddings["ours"]}
    folder = tmp_path_factory.mktemp("set")
    images = [shutil.copy(pictures[number % 6], folder / f"{number}.png") for number in range(60)]
    _, page, record = written(report_all_pairs, "A set", ours, LABELS, images=images)
    assert page.count('src="data:image/png') == 4
    assert "not available" not in page
    Path(record["models"]["ours"]["hardest_pairs"][0]["first"]).unlink()
    _, page, again = written(report_all_pairs, "A set", ours, LABELS, images=images)
    assert page.count('src="data:image/png') == 3
    assert f"<td>{record['models']['ours']['hardest_pairs'][0]['first']}</td>" in page
    assert again == record


def test_groups_at_one_threshold_that_enough_impostors_decide(written, embeddings):
    sexes = np.array(["f", "m", "m"])[LABELS % 3]
    ours = {"ours": embeddings["ours"]}
    _, page, record = written(report_all_pairs, "A set", ours, LABELS, groups={"sex": sexes})
    found = record["models"]["ours"]["groups"]["sex"]
    scores, same = all_pairs(ours["ours"], LABELS)
    assert found["far"] == 0.1  # 1e-2 of 1,710 impostor pairs are 17
    assert found["threshold"] == threshold_at_far(scores[~same], 0.1)
    first, second = np.triu_indices(60, k=1)
    rates = rates_by_group(
        scores,
        same,
        (sexes[first], sexes[second]),
        threshold=found["threshold"],
        people=(LABELS[first], LABELS[second]),
        replicates=20,
    )
    assert [group["name"] for group in found["groups"]] == ["all pairs", "f", "m", "f / m"]
    for group, rate in zip(found["groups"], rates, strict=True):
        assert (group["fmr"]["errors"], group["fmr"]["pairs"]) == (rate.fmr.errors, rate.fmr.pairs)
        assert group["fnmr"]["rate"] == rate.fnmr.rate
        assert f"<td>{rate.fmr}</td>" in page
    assert "Errors by sex at one threshold for all groups" in page
    few = {"ours": ours["ours"][:12]}  # 54 impostor pairs decide no rate of the table
    _, _, record = written(report_all_pairs, "A set", few, LABELS[:12], groups={"sex": sexes[:12]})
    assert record["models"]["ours"]["groups"]["sex"]["far"] == 0.5


def test_the_page_names_the_pairs_that_are_only_counted(written, embeddings, monkeypatch):
    monkeypatch.setattr("keras_facemargin.report.all_pairs.TAIL", 100)
    rows = embeddings["ours"]
    _, page, record = written(report_all_pairs, "A set", {"ours": rows}, LABELS, replicates=60)
    (held,) = re.findall("the (\\d+) most similar impostor pairs are drawn one by one", page)
    assert 100 <= int(held) < 150
    scores, same = all_pairs(rows, LABELS)
    first, second = (LABELS[side] for side in np.triu_indices(60, k=1))
    draws = bootstrap(
        scores,
        same,
        folds=None,
        people=(first, second),
        fars=[0.1, 0.01],
        replicates=60,
        progress=False,
    )
    intervals = record["models"]["ours"]["intervals"]
    ends = [[*vars(interval(drawn)).values()] for drawn in draws.tar.T]
    assert intervals["tar_at_far"][1] == ends[1]
    assert intervals["tar_at_far"][0] == pytest.approx(ends[0], abs=0.03)  # two genuine pairs
    assert intervals["auc"] == pytest.approx([*vars(interval(draws.auc)).values()], abs=0.01)


def test_wrong_arguments_are_refused_before_a_file_is_written(written, tmp_path, embeddings):
    with pytest.raises(ValueError, match=r"must be an \.html file. Received: .*r\.pdf"):
        report_all_pairs(tmp_path / "r.pdf", embeddings, LABELS, title="A set")
    with pytest.raises(ValueError, match=r"at least one entry. Received: an empty one"):
        report_all_pairs(tmp_path / "r.html", {}, LABELS, title="A set")
    with pytest.raises(ValueError, match=r"shapes \(60, 8\) and \(59,\)"):
        written(report_all_pairs, "A set", embeddings, LABELS[1:])
    assert not list(tmp_path.iterdir())


def test_the_page_of_collapsed_embeddings_is_written(real_plots, tmp_path):
    rows = np.ones((12, 4), "float32")
    people = np.repeat(np.arange(6), 2)
    report_all_pairs(
        tmp_path / "page.html", {"flat": rows}, people, title="t", replicates=5, progress=False
    )
    record = json.loads((tmp_path / "page.json").read_text())["models"]["flat"]
    assert record["eer"] == 0.5
