"""Searches against plain loops, hand-made cases and another library's; every tie is defined."""

import importlib
import io
import json
import tracemalloc

import numpy as np
import pytest
from rich.console import Console

from keras_facemargin.evaluate import cosine_scores

gallery_module = importlib.import_module("keras_facemargin.evaluate.identification.gallery")
identification = importlib.import_module("keras_facemargin.evaluate.identification.identification")
Identification, identify = identification.Identification, identification.identify
closed_gallery_rate = identification.closed_gallery_rate
mean_over_galleries = identification.mean_over_galleries


def sets(seed, people=60, probes=150, size=16, noise=1.0, templates=1):
    """A gallery of two thirds of the people, and probes of all."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(people, size))
    known = np.repeat(rng.permutation(people)[: 2 * people // 3], templates)
    probe_labels = rng.integers(0, people, size=probes)

    def drawn(labels):
        rows = centers[labels] + noise * rng.normal(size=(len(labels), size))
        return (rows * rng.uniform(0.1, 9, size=(len(rows), 1))).astype("float32")

    return drawn(known), known, drawn(probe_labels), probe_labels


def by_loops(gallery, gallery_labels, probes, probe_labels):
    ranks, mates, best = [], [], []
    for probe, label in zip(probes, probe_labels, strict=True):
        scores = cosine_scores(np.broadcast_to(probe, gallery.shape), gallery)
        mate = gallery_labels == label
        if mate.any():
            mates.append(scores[mate].max())
            ranks.append(1 + sum(score >= mates[-1] for score in scores[~mate]))
        else:
            best.append(scores.max())
    return ranks, mates, best


def found_in(gallery, known, probes, labels, progress=False):
    return identify(gallery, probes, gallery_labels=known, probe_labels=labels, progress=progress)


def check_equals_the_loops(*data):
    found = found_in(*data)
    ranks, mates, best = by_loops(*data)
    np.testing.assert_array_equal(found.ranks, ranks)
    np.testing.assert_array_equal(found.mate_scores, mates)
    np.testing.assert_array_equal(found.best_scores, best)
    assert found.gallery == len(data[0])
    gallery, _, probes, _ = data
    for rows, columns, scores in (
        (found.mated, found.mates, found.mate_scores),
        (found.non_mated, found.nearest, found.best_scores),
    ):
        np.testing.assert_array_equal(cosine_scores(probes[rows], gallery[columns]), scores)
    assert sorted([*found.mated, *found.non_mated]) == list(range(len(probes)))
    return found


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(gallery_module, "BLOCK", 17)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("noise", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("templates", [1, 3])
def test_equals_the_loops(seed, noise, templates, small_blocks):
    check_equals_the_loops(*sets(seed, noise=noise, templates=templates))


def test_ties_stand_against_the_system(small_blocks):
    rng = np.random.default_rng(0)
    corners = [rng.integers(-1, 2, size=(count, 3)).astype(float) for count in (40, 90)]
    for corner in corners:
        corner[~corner.any(axis=1)] = 1.0
    found = check_equals_the_loops(
        corners[0], rng.integers(0, 25, 40), corners[1], rng.integers(0, 35, 90)
    )
    assert found.rank_rate(1) < found.rank_rate(10)


def test_the_mate_ranks_behind_its_own_copy_under_another_name():
    gallery = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = identify(
        gallery,
        [[1.0, 0.1], [0.0, 1.0]],
        gallery_labels=["a", "b", "c"],
        probe_labels=["a", "c"],
        progress=False,
    )
    assert found.ranks.tolist() == [2, 1]


def test_scores_closer_than_float32_can_tell_are_told_apart(small_blocks):
    # The mate is a few 1e-9 in cosine before or behind the others.
    angles = 0.3 + np.arange(40) * 1e-8
    gallery = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    probes = np.tile([[1.0, 0.0]], (40, 1))
    found = check_equals_the_loops(gallery, np.arange(40), probes, np.arange(40))
    assert found.ranks.tolist() == list(range(1, 41))


@pytest.mark.parametrize("pending", [0, 10**9])
def test_settling_early_or_late_is_the_same(pending, monkeypatch, small_blocks):
    monkeypatch.setattr(gallery_module, "PENDING", pending)
    check_equals_the_loops(*sets(5, noise=2.0))


def test_neither_blocks_nor_order_nor_length_matter(monkeypatch):
    gallery, known, probes, labels = sets(6)
    expected = identify(gallery, probes, gallery_labels=known, probe_labels=labels, progress=False)
    mixed = np.random.default_rng(0).permutation(len(known))
    for block in (1, 1000):
        monkeypatch.setattr(gallery_module, "BLOCK", block)
        found = identify(
            4 * gallery[mixed],
            probes,
            gallery_labels=known[mixed],
            probe_labels=labels,
            progress=False,
        )
        np.testing.assert_array_equal(found.ranks, expected.ranks)
        np.testing.assert_array_equal(found.best_scores, expected.best_scores)


@pytest.mark.parametrize("count", [1, 7, 300])
@pytest.mark.parametrize("pending", [0, 500, 10**9])
def test_the_best_of_the_gallery_are_those_of_all_scores(count, pending, monkeypatch, small_blocks):
    monkeypatch.setattr(gallery_module, "PENDING", pending)
    gallery, _, probes, _ = sets(7, templates=2)
    gallery[5] = gallery[40]
    scores, rows = gallery_module.best_of_gallery(gallery, probes, count, progress=False)
    every = np.array([cosine_scores(np.tile(p, (len(gallery), 1)), gallery) for p in probes])
    np.testing.assert_array_equal(scores, np.sort(every)[:, ::-1][:, :count])
    np.testing.assert_array_equal(np.take_along_axis(every, rows, 1), scores)
    assert all(len({*each}) == len(each) for each in rows)
    with pytest.raises(ValueError, match="`count` must be at least 1"):
        gallery_module.best_of_gallery(gallery, probes, 0)


# Ten non-mated probes, four mated ones.
HAND = Identification(
    ranks=np.array([1, 1, 2, 7]),
    mate_scores=np.array([0.9, 0.5, 0.8, 0.3]),
    best_scores=np.array([0.7, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05, 0.02, 0.01]),
    gallery=20,
    mated=np.arange(4),
    non_mated=np.arange(4, 14),
    mates=np.arange(4),
    nearest=np.arange(10),
)


def test_closed_set_by_hand():
    assert [HAND.rank_rate(k) for k in (1, 2, 6, 7, 100)] == [0.5, 0.75, 0.75, 1.0, 1.0]
    np.testing.assert_array_equal(HAND.cmc(8), [0.5, *[0.75] * 5, 1.0, 1.0])


@pytest.mark.parametrize(
    ("fpir", "rank", "tpir", "real"),
    [
        (0.1, 1, 0.25, 0.1),  # 0.5 is the first score too many, and a mate at 0.5 does not pass
        (0.1, 2, 0.5, 0.1),
        (0.2, 1, 0.5, 0.2),
        (0.29, 1, 0.5, 0.2),
        (0.35, 10, 0.75, 0.3),  # 0.3 is one too many: the mate at 0.3 stays out
        (0.4, 10, 1.0, 0.4),
        (0.99, 10, 1.0, 0.9),
    ],
)
def test_open_set_by_hand(fpir, rank, tpir, real):
    entry = HAND.tpir_at_fpir(fpir, rank=rank)
    assert (entry.tpir, entry.fpir) == (tpir, real)
    assert HAND.open_set(rank).largest_tar(fpir) == tpir
    assert np.mean(HAND.best_scores >= entry.threshold) == real
    hits = (HAND.ranks <= rank) & (HAND.mate_scores >= entry.threshold)
    assert np.mean(hits) == tpir


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fpir", [0.05, 0.1, 0.29, 0.5, 0.9])
@pytest.mark.parametrize("rank", [1, 5])
def test_open_set_against_brute_force(seed, fpir, rank):
    found = found_in(*sets(seed, noise=1.5))
    entry = found.tpir_at_fpir(fpir, rank=rank)
    allowed = [
        threshold
        for threshold in [*found.best_scores, *found.mate_scores, np.inf]
        if np.mean(found.best_scores >= threshold) <= fpir
    ]
    near = found.ranks <= rank
    assert entry.tpir == max(np.mean(near & (found.mate_scores >= t)) for t in allowed)
    assert entry.fpir <= fpir


@pytest.mark.parametrize(
    ("fpir", "tpir"),
    # k = int(10 fpir) of the descending list, at least the first; the mate must score more.
    [(0.1, 0.25), (0.19, 0.25), (0.2, 0.25), (0.4, 0.5), (0.01, 0.25)],
)
def test_the_rule_of_ijb_evals_by_hand(fpir, tpir):
    entry = HAND.tpir_at_fpir(fpir, rule="ijb_evals")
    descending = sorted(HAND.best_scores, reverse=True)
    limit = descending[max(int(len(descending) * fpir) - 1, 0)]
    assert np.nextafter(limit, 1) == entry.threshold
    assert entry.tpir == tpir
    assert entry.fpir < fpir


def test_rates_below_one_probe_have_no_number():
    entry = HAND.tpir_at_fpir(0.09)
    assert not entry.supported
    assert entry.tpir is entry.fpir is entry.threshold is None
    assert str(entry) == "not supported by 10 non-mated probes"


def test_the_mean_over_two_galleries():
    gallery, known, probes, labels = sets(7, people=40, noise=1.2)
    first = known < 20
    found = [
        identify(
            gallery[part], probes, gallery_labels=known[part], probe_labels=labels, progress=False
        )
        for part in (first, ~first)
    ]
    assert mean_over_galleries(found) == (found[0].rank_rate(1) + found[1].rank_rate(1)) / 2
    rates = [one.tpir_at_fpir(0.1, rank=5).tpir for one in found]
    assert mean_over_galleries(found, fpir=0.1, rank=5) == np.mean(rates)
    with pytest.raises(ValueError, match=r"fpir=1e-05, not supported by .* of gallery 0"):
        mean_over_galleries(found, fpir=1e-5)
    with pytest.raises(ValueError, match="at least one result"):
        mean_over_galleries([])


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("pending", [10, 10**9])
def test_the_closed_gallery_against_loops(rate, pending, monkeypatch, small_blocks):
    monkeypatch.setattr(gallery_module, "PENDING", pending)
    gallery, known, probes, labels = sets(8, noise=2.0)
    mated = np.isin(labels, known)
    probes, labels = probes[mated], labels[mated]
    others, mates = [], []
    for probe, label in zip(probes, labels, strict=True):
        scores = cosine_scores(np.broadcast_to(probe, gallery.shape), gallery)
        others += scores[known != label].tolist()
        mates.append(scores[known == label].max())
    limit = sorted(others, reverse=True)[int(np.ceil(rate * len(probes))) - 1]
    got = closed_gallery_rate(
        gallery, probes, gallery_labels=known, probe_labels=labels, rate=rate, progress=False
    )
    assert got == np.mean(np.array(mates) > limit)


def test_ranks_equal_those_of_faiss():
    faiss = pytest.importorskip("faiss")
    gallery, known, probes, labels = sets(9, people=300, probes=400, size=64, noise=1.5)
    found = identify(gallery, probes, gallery_labels=known, probe_labels=labels, progress=False)
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (gallery, probes)]
    index = faiss.IndexFlatIP(64)
    index.add(units[0])
    scores, places = index.search(units[1], len(gallery))
    mated = np.isin(labels, known)
    np.testing.assert_array_equal(
        found.ranks, 1 + (known[places[mated]] == labels[mated, None]).argmax(axis=1)
    )
    np.testing.assert_allclose(found.best_scores, scores[~mated, 0], atol=1e-6)


def test_memory_does_not_grow_with_the_scores():
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(20_000, 8)).astype("float32")
    probes = rng.normal(size=(3_000, 8)).astype("float32")
    labels = np.arange(20_000), np.arange(17_500, 20_500)
    identify(
        gallery[:50],
        probes[:50],
        gallery_labels=labels[0][:50],
        probe_labels=labels[1][:50],
        progress=False,
    )
    tracemalloc.start()
    identify(gallery, probes, gallery_labels=labels[0], probe_labels=labels[1], progress=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6  # 60 million scores in float64 alone would be 480 MB


def test_a_result_as_numbers_and_as_a_table(capsys):
    found = found_in(*sets(0), progress=True)
    assert "6,000/6,000 scores" in capsys.readouterr().err
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert record["rank_rates"]["1"] == found.rank_rate(1)
    assert record["mated_probes"] + record["non_mated_probes"] == 150
    assert record["tpir_at_fpir"][2]["tpir"] is None
    console = Console(width=100, file=io.StringIO())
    console.print(found)
    assert "TPIR @ FPIR 0.001" in console.file.getvalue()
    assert "not supported by" in console.file.getvalue()


def test_without_non_mated_probes_only_the_closed_set_is_measured():
    found = identify(
        [[1.0, 0.0]], [[1.0, 0.1]], gallery_labels=["a"], probe_labels=["a"], progress=False
    )
    assert found.to_dict()["tpir_at_fpir"] == []
    with pytest.raises(ValueError, match="mated probes only"):
        found.tpir_at_fpir(0.1)
    alone = identify(
        [[1.0, 0.0]], [[1.0, 0.1]], gallery_labels=["a"], probe_labels=["b"], progress=False
    )
    with pytest.raises(ValueError, match="non-mated probes only"):
        alone.rank_rate(1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: HAND.rank_rate(0), "Received: 0"),
        (lambda: HAND.cmc(1.5), "Received: 1.5"),
        (lambda: HAND.tpir_at_fpir(1.0), r"rate in \(0, 1\)"),
        (lambda: HAND.tpir_at_fpir(0.1, rule="best"), "Received: 'best'"),
        (
            lambda: identify([[1, 0]], [[1, 0, 0]], gallery_labels=[0], probe_labels=[0]),
            "widths 2 and 3",
        ),
        (
            lambda: identify([[1, 0]], [[1, 0]], gallery_labels=[0, 1], probe_labels=[0]),
            r"`gallery` .*\(1, 2\) and \(2,\)",
        ),
        (
            lambda: identify([[1, 0]], [[1, 0]], gallery_labels=[0], probe_labels=[]),
            r"`probes` .*\(1, 2\) and \(0,\)",
        ),
        (
            lambda: identify([[1, 0]], [[0, 0]], gallery_labels=[0], probe_labels=[0]),
            "`probes` with length 0.0 in row 0",
        ),
        (
            lambda: identify([[1, 0], [0, 0]], [[1, 0]], gallery_labels=[0, 1], probe_labels=[0]),
            "length 0.0 in row 1",
        ),
        (
            lambda: closed_gallery_rate(
                [[1]], [[1]], gallery_labels=[0], probe_labels=[1], rate=0.1
            ),
            "1 of 1 without",
        ),
        (
            lambda: closed_gallery_rate(
                [[1]], [[1]], gallery_labels=[0], probe_labels=[0], rate=0.1
            ),
            "at least 1 scores of.*Received: 0",
        ),
        (
            lambda: closed_gallery_rate([[1]], [[1]], gallery_labels=[0], probe_labels=[0], rate=0),
            "Received: rate=0",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
