"""Searches: the page has the rates, curves and pictures of the identifications."""

import numpy as np
import pytest

from keras_facemargin.evaluate import identify, interval
from keras_facemargin.evaluate.splits import SplitResults
from keras_facemargin.evaluate.templates import Templates
from keras_facemargin.evaluate.uncertainty import bootstrap_searches
from keras_facemargin.report import report_searches


@pytest.fixture(scope="module")
def sample(pictures):
    """30 people in two galleries, their probes, and two embedders' results."""
    rng = np.random.default_rng(0)
    people = np.append(np.arange(30), rng.integers(0, 30, 60))
    centers = rng.normal(size=(30, 8))
    templates = Templates(
        subjects=np.array([f"person {number}" for number in people]),
        images=tuple(pictures[row % 6] for row in range(90)),
        template=np.arange(90),
    )
    results = {}
    for name, noise in (("ours", 0.6), ("theirs", 1.0)):
        rows = centers[people] + noise * rng.normal(size=(90, 8))
        found = {}
        for gallery, there in (("G1", np.arange(15)), ("G2", np.arange(15, 30))):
            found[gallery] = _search(rows, people, there)
        results[name] = SplitResults(found)
    return templates, results


def _search(rows, people, gallery):
    import dataclasses

    found = identify(
        rows[gallery], rows[30:], gallery_labels=gallery, probe_labels=people[30:], progress=False
    )
    return dataclasses.replace(
        found,
        mated=found.mated + 30,
        non_mated=found.non_mated + 30,
        mates=gallery[found.mates],
        nearest=gallery[found.nearest],
    )


def test_the_record_and_the_page_have_the_results(written, sample):
    templates, results = sample
    models, page, record = written(report_searches, "1:N", templates, results, seed=3)
    for name, result in results.items():
        draws = bootstrap_searches(
            result.results, templates.subjects, replicates=20, seed=3, progress=False
        )
        found = record["models"][name]
        assert found["mean"] == result.to_dict()["mean"]
        assert found["cmc"]["G1"][:2] == result.results["G1"].cmc(2).tolist()
        for measure, drawn in (
            ("Rank-5", draws.cmc[:, 4]),
            ("TPIR @ FPIR 0.1", draws.tpir[:, 0]),
        ):
            ends = interval(drawn)
            assert found["intervals"][measure] == [ends.low, ends.high]
            spread = f"{result.mean(measure):.2%} ± {result.standard_deviation(measure):.2%}"
            assert f"<td>{spread} ({ends.low:.2%} to {ends.high:.2%})</td>" in page
        entry = result.results["G2"].tpir_at_fpir(0.1)
        assert f"<td>G2</td><td>1e-1</td><td>{entry.threshold:.4f}</td>" in page
    assert found["intervals"]["TPIR @ FPIR 0.001"] is None
    assert "not supported by" in page
    change = models["theirs"].result.mean("Rank-1") - models["ours"].result.mean("Rank-1")
    assert f"<td>theirs: Rank-1</td><td>{change:+.2%} (" in page
    assert page.count('src="data:image/png') == 2 + 2 * 2


def test_a_closed_set_has_ranks_only(written, sample):
    templates, _ = sample
    rng = np.random.default_rng(1)
    rows, people = rng.normal(size=(60, 8)), np.arange(60) % 30
    found = identify(
        rows[:30], rows[30:], gallery_labels=people[:30], probe_labels=people[30:], progress=False
    )
    closed = {"ours": SplitResults({"all": found})}
    _, page, record = written(report_searches, "1:N", templates, closed)
    assert list(record["models"]["ours"]["intervals"]) == ["Rank-1", "Rank-5", "Rank-10"]
    assert page.count('src="data:image/png') == 1
    assert "False alarms" not in page
