"""The page of a list of pairs shows what quality scores are worth."""

import json

import numpy as np

from keras_facemargin.evaluate import Pairs, error_versus_discard
from keras_facemargin.report import report_verification


def test_the_page_has_error_versus_discard(tmp_path):
    rng = np.random.default_rng(0)
    first = np.repeat(np.arange(150), 8)
    same = np.arange(len(first)) % 2 == 0
    second = np.where(same, first, (first + 1 + np.arange(len(first)) % 100) % 150)
    quality = rng.random((2, len(first)))
    loss = 0.6 * (1 - quality.min(axis=0)) * rng.random(len(first))
    scores = np.where(same, 0.7 - loss, 0.6 * rng.random(len(first)))
    pairs = Pairs(None, None, same, people=(first, second))
    qualities = {"ours": {"utility": tuple(quality)}, "theirs": {}}
    report_verification(
        tmp_path / "page.html",
        pairs,
        {"ours": scores, "theirs": scores},
        title="Pairs",
        qualities=qualities,
        replicates=20,
        progress=False,
    )
    record = json.loads((tmp_path / "page.json").read_text())["models"]
    expected = error_versus_discard(
        scores, same, tuple(quality), far=1e-2, people=(first, second), replicates=20
    )
    assert record["ours"]["error_versus_discard"]["utility"]["fnmr"] == list(expected.fnmr)
    assert expected.fnmr[-1] < expected.fnmr[0]
    assert record["theirs"]["error_versus_discard"] == {}
    text = (tmp_path / "page.html").read_text()
    assert text.count("mean, 0 to 20%") == 1
    assert f"{expected.area:.2%} ({expected.area_interval})" in text
