"""All pairs of a set, listed or counted: one answer."""

import json

import numpy as np
import pytest

from keras_facemargin.evaluate import interval, verify_all_pairs
from keras_facemargin.report import all_pairs as module
from keras_facemargin.report import report_all_pairs


@pytest.mark.parametrize("listed", [10**6, 10])
def test_all_pairs_listed_or_counted_tell_the_same(tmp_path, pictures, listed, monkeypatch):
    monkeypatch.setattr(module, "LISTED", listed)
    rng = np.random.default_rng(0)
    labels = np.arange(60) // 3
    rows = rng.normal(size=(20, 8))[labels] + 0.7 * rng.normal(size=(60, 8))
    images = [pictures[number % 6] for number in range(60)]
    draws = report_all_pairs(
        *(tmp_path / "r.html", "A set", "ours", rows, labels, images),
        replicates=20,
        progress=False,
    )
    page = (tmp_path / "r.html").read_text()
    record = json.loads((tmp_path / "r.json").read_text())
    found = record["models"]["ours"] if listed > 60 else record
    rates = verify_all_pairs(rows, labels, progress=False)
    assert found["eer"] == pytest.approx(rates.eer)
    assert (found["genuine_pairs"], found["impostor_pairs"]) == (60, 1_710)
    assert found["tar_at_far"][1]["tar"] == pytest.approx(rates.tar_at_far[1].tar)
    intervals = found["intervals"]
    ends = interval(draws.tar[:, 1])
    assert intervals["tar_at_far"][1] == pytest.approx([ends.low, ends.high])
    assert intervals["tar_at_far"][5] is None
    assert (draws.unit, draws.units) == ("identities", 20)
    assert "not supported by 1,710 impostor pairs" in page
    assert page.count('src="data:image/png') == (4 if listed > 60 else 1)
