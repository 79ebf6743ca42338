"""Trials: the page has the protocol's measures, their means and the hardest pairs."""

import numpy as np
import pytest

from keras_facemargin.evaluate import cosine_scores, interval
from keras_facemargin.evaluate.protocols import Blufr, measure_blufr
from keras_facemargin.evaluate.uncertainty import bootstrap_searches, bootstrap_splits
from keras_facemargin.report import report_trials, sections, trials

PEOPLE = np.repeat(np.arange(24), 4)


@pytest.fixture
def blufr(pictures):
    """Three trials of 18 people each, nine in the gallery with their first image; one is gone."""
    found = []
    for first in (0, 3, 6):
        test = np.flatnonzero((first <= PEOPLE) & (first + 18 > PEOPLE))
        gallery = test[:36:4]
        found.append((test, gallery, np.setdiff1d(test, gallery)))
    images = [pictures[row % 6] for row in range(len(PEOPLE))]
    images[41] = pictures[0].with_name("gone.png")
    return Blufr(tuple(images), PEOPLE + 7, tuple(found), frozenset({images[41]}))


def test_the_record_and_the_page_have_the_results(written, blufr, monkeypatch):
    hardest = []

    def add_hardest(page, *pairs):
        hardest.append(pairs)
        sections.hardest.add_hardest(page, *pairs)

    monkeypatch.setattr(trials, "add_hardest", add_hardest)
    rng = np.random.default_rng(0)
    people = np.delete(PEOPLE, 41)
    good = 2.5 * rng.normal(size=(24, 8))[people] + rng.normal(size=(95, 8))
    embeddings = {"ours": good, "theirs": good + rng.normal(size=(95, 8))}
    models, page, record = written(report_trials, "Trials", blufr, embeddings, seed=3)
    assert record["intervals"]["verification"]["units"] == 24
    assert record["intervals"]["identification"]["units"] == 24
    for number, (name, rows) in enumerate(embeddings.items()):
        result, found = measure_blufr(rows, blufr, progress=False), record["models"][name]
        assert found["mean_minus_standard_deviation"] == result.headline()
        pairs = [test[np.stack(np.triu_indices(len(test), k=1))] for test, *_ in blufr.there.trials]
        splits = np.repeat(np.arange(3), [each.shape[1] for each in pairs])
        first, second = np.concatenate(pairs, axis=1)
        same, scores = people[first] == people[second], cosine_scores(rows[first], rows[second])
        options = {"replicates": 20, "seed": 3, "progress": False}
        draws = bootstrap_splits(
            scores, same, splits, people=(people[first], people[second]), fars=[1e-3], **options
        )
        searches = bootstrap_searches(result.identification.results, people, **options)
        for part, measure, drawn in (
            ("verification", "EER", draws.eer),
            ("verification", "TAR @ FAR 0.001", draws.tar[:, 0]),
            ("identification", "Rank-1", searches.cmc[:, 0]),
        ):
            ends, of_part = interval(drawn), getattr(result, part)
            assert found["intervals"][measure] == [ends.low, ends.high]
            spread = f"{of_part.mean(measure):.2%} ± {of_part.standard_deviation(measure):.2%}"
            assert f"<td>{spread} ({ends})</td>" in page
        for measure, drawn in (
            ("TAR @ FAR 0.001", draws.tar[:, 0] - draws.tar_deviation[:, 0]),
            ("TPIR @ FPIR 0.1", searches.tpir[:, 0] - searches.tpir_deviation[:, 0]),
        ):
            ends, measured = interval(drawn), f"{measure}, mean - deviation"
            assert found["intervals"][measured] == [ends.low, ends.high]
            assert f"<td>{measured}</td>" in page
            assert f"<td>{result.headline()[measure]:.2%} ({ends})</td>" in page
        worst = np.argmin(np.where(same, scores, 2))
        shown, of_shown = hardest[number]
        assert scores[worst] == of_shown[shown.same].min()
        assert scores[~same].max() == of_shown[~shown.same].max()
        at = np.argmin(of_shown)
        expected = {blufr.there.images[first[worst]], blufr.there.images[second[worst]]}
        assert shown.same[at]
        assert {shown.first[at], shown.second[at]} == expected
    assert "3 trials of 95 images" in page
    assert "Missing images, left out of the trials: 1." in page
    # ROC, DET, CMC, open set; scores of pairs and of searches, and the hardest of both, of each
    assert page.count('src="data:image/png') == 4 + 2 * 4
    rank = {name: each.result.identification.mean("Rank-1") for name, each in models.items()}
    change = rank["theirs"] - rank["ours"]
    assert f"<td>theirs: Rank-1</td><td>{change:+.2%} (" in page
