"""Distractors: the page has the rates, thresholds and pictures of the searches."""

import numpy as np

from keras_facemargin.evaluate import interval
from keras_facemargin.evaluate.identification import search_among_distractors
from keras_facemargin.evaluate.uncertainty import bootstrap_distractors
from keras_facemargin.report import report_distractors

FARS = (1e-1, 1e-2, 1e-6)


def test_the_record_and_the_page_have_the_results(written, pictures):
    rng = np.random.default_rng(0)
    people = np.arange(30) % 10
    probes = 1.5 * rng.normal(size=(10, 8))[people] + rng.normal(size=(30, 8))
    distractors = rng.normal(size=(50, 8))
    results = {
        name: search_among_distractors(rows, people, distractors, fars=FARS, progress=False)
        for name, rows in (("ours", probes), ("theirs", probes + rng.normal(size=(30, 8))))
    }
    images = [pictures[row % 6] for row in range(80)]
    models, page, record = written(
        report_distractors,
        *("Strangers", results),
        probes=images[:30],
        distractors=images[30:],
        seed=3,
    )
    for name, result in results.items():
        draws = bootstrap_distractors(result, replicates=20, seed=3, progress=False)
        found = record["models"][name]
        assert found["rank_1"] == result.rank_1
        ends = interval(draws.cmc[:, 0])
        assert found["intervals"]["Rank-1"] == [ends.low, ends.high]
        assert f"<td>{result.rank_1:.2%} ({ends.low:.2%} to {ends.high:.2%})</td>" in page
        entry = result.tar_at_far[1]
        assert f"<td>1e-2</td><td>{entry.threshold:.4f}</td><td>15</td><td>0.01</td>" in page
    assert "30 images of 10 people, 60 searches among 50 distractors" in page
    assert "not supported by 1,500 impostor pairs" in page
    change = results["theirs"].rank_1 - results["ours"].rank_1
    assert f"<td>theirs: Rank-1</td><td>{change:+.2%} (" in page
    assert page.count('src="data:image/png') == 3 + 2 * 2
    assert record["models"]["ours"]["cmc"] == results["ours"].cmc().tolist()
    assert models["ours"].draws.units == 10
