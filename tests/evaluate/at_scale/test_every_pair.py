"""Streaming equals the list of all pairs to the last bit, in bounded memory, however it is cut."""

import importlib
import io
import json
import tracemalloc

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import roc_curve

from keras_facemargin.evaluate import cosine_scores, roc
from keras_facemargin.evaluate.at_scale import histogram, refine, sweep

streaming = importlib.import_module("keras_facemargin.evaluate.at_scale.every_pair")
all_pairs, verify_all_pairs = streaming.all_pairs, streaming.verify_all_pairs
RATES = (0.5, 0.29, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def people(seed, count=300, size=32, each=5, noise=1.5):
    """Embeddings of several images a person, of any length, in no order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) // each)
    centers = rng.normal(size=(count, size))
    rows = centers[labels] + noise * rng.normal(size=(count, size))
    return (rows * rng.uniform(0.1, 20, size=(count, 1))).astype("float32"), labels


def listed(embeddings, labels):
    first, second = np.triu_indices(len(labels), k=1)
    scores = cosine_scores(embeddings[first], embeddings[second])
    return scores, np.asarray(labels)[first] == np.asarray(labels)[second]


def check_equals_the_list(embeddings, labels, rates=RATES):
    result = verify_all_pairs(embeddings, labels, fars=rates, progress=False)
    scores, same = listed(embeddings, labels)
    curve = roc(scores, same)
    assert (result.genuines, result.impostors) == (curve.genuines, curve.impostors)
    assert result.eer == curve.equal_error_rate()
    assert result.tar_at_far == tuple(curve.tar_at_far(rate) for rate in rates)
    return result


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(sweep, "BLOCK", 37)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("noise", [0.3, 1.5, 6.0])
def test_equals_the_list_of_all_pairs(seed, noise, small_blocks):
    check_equals_the_list(*people(seed, noise=noise))


@pytest.mark.parametrize("size", [1, 2, 3, 127, 512])
def test_any_embedding_length(size, small_blocks):
    check_equals_the_list(*people(0, count=120, size=size))


def test_scikit_learn_agrees():
    embeddings, labels = people(0)
    scores, same = listed(embeddings, labels)
    far, tar, _ = roc_curve(same, scores, drop_intermediate=False)
    for entry in verify_all_pairs(embeddings, labels, fars=RATES, progress=False).tar_at_far:
        if entry.supported:
            assert entry.tar == pytest.approx(tar[far <= entry.target].max(), abs=1e-15)


def test_ties_enter_together(small_blocks):
    # Few directions, so that most scores are equal to many others, across kinds and blocks.
    rng = np.random.default_rng(0)
    corners = rng.integers(-1, 2, size=(200, 3)).astype(float)
    corners[~corners.any(axis=1)] = 1.0
    result = check_equals_the_list(corners, rng.integers(0, 30, size=200))
    assert any(e.supported and e.far < e.target / 2 for e in result.tar_at_far)


def test_copies_of_one_image_tie_wherever_they_stand(small_blocks):
    embeddings, _ = people(0, count=12)
    copies = np.random.default_rng(0).permutation(np.repeat(np.arange(12), 12))
    result = check_equals_the_list(embeddings[copies], copies % 7)
    assert result.genuines > 100


def test_neighbours_closer_than_float32_can_tell_are_told_apart(small_blocks):
    # Angles a few 1e-9 apart: float32 sees equal scores, float64 does not.
    angles = np.arange(60) * 3e-9 + 0.7
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    embeddings[::2, 1] *= -1
    check_equals_the_list(embeddings, np.arange(60) % 4)


@pytest.mark.parametrize("block", [1, 2, 16, 59, 60, 61])
def test_the_block_does_not_matter(block, monkeypatch):
    embeddings, labels = people(1, count=60)
    expected = verify_all_pairs(embeddings, labels, fars=RATES, progress=False)
    monkeypatch.setattr(sweep, "BLOCK", block)
    assert verify_all_pairs(embeddings, labels, fars=RATES, progress=False) == expected


def test_neither_order_nor_length_nor_names_matter():
    embeddings, labels = people(2)
    expected = verify_all_pairs(embeddings, labels, fars=RATES, progress=False)
    mixed = np.random.default_rng(0).permutation(len(labels))
    names = np.array([f"person {label}" for label in labels])
    assert verify_all_pairs(embeddings[mixed], names[mixed], fars=RATES, progress=False) == expected
    assert verify_all_pairs(4 * embeddings, labels, fars=RATES, progress=False) == expected


@pytest.mark.parametrize("guess", ["none", "wrong", "everything"])
def test_guesses_cost_time_never_exactness(guess, monkeypatch, small_blocks):
    windows = {"none": [], "wrong": [(0, 9)], "everything": [(0, 10**9)]}[guess]
    monkeypatch.setattr(
        streaming, "guessed_windows", lambda work: streaming.merged(windows, work.bins.count)
    )
    sweeps = count_calls(monkeypatch, sweep.Sweep, "run")
    check_equals_the_list(*people(3))
    assert len(sweeps) == (1 if guess == "everything" else 2)


def test_a_sample_names_the_windows(monkeypatch):
    monkeypatch.setattr(sweep, "SAMPLE", 150)
    sweeps = count_calls(monkeypatch, sweep.Sweep, "run")
    check_equals_the_list(*people(4))
    assert 2 <= len(sweeps) <= 3


def test_windows_that_hold_too_much_are_given_up_and_then_narrow(monkeypatch, small_blocks):
    embeddings, labels = people(5)
    monkeypatch.setattr(sweep, "CANDIDATES", 2_000)
    sweeps = count_calls(monkeypatch, sweep.Sweep, "run")
    check_equals_the_list(embeddings, labels, [1e-3])
    assert len(sweeps) == 3  # the sample, the one that gave up, the narrow one


def test_too_many_pairs_at_a_threshold_are_refused(monkeypatch, small_blocks):
    monkeypatch.setattr(sweep, "CANDIDATES", 500)
    embeddings = np.ones((60, 4))
    with pytest.raises(ValueError, match=r"At most 500 pairs.*Received: more, among 60.*duplica"):
        verify_all_pairs(embeddings, np.arange(60) % 3, fars=[0.1], progress=False)


def test_counts_beyond_64_bits_stay_whole(monkeypatch):
    embeddings, labels = people(6)
    expected = verify_all_pairs(embeddings, labels, fars=RATES, progress=False)
    whole = refine.whole
    monkeypatch.setattr(refine, "whole", lambda counts, largest: whole(counts, 2**80))
    assert verify_all_pairs(embeddings, labels, fars=RATES, progress=False) == expected


def test_rates_out_of_reach_have_no_number():
    result = verify_all_pairs(*people(0, count=20), fars=[0.1, 1e-2, 1e-8], progress=False)
    assert [entry.supported for entry in result.tar_at_far] == [True, True, False]
    assert str(result.tar_at_far[2]) == "not supported by 150 impostor pairs"
    assert result.tar_at_far[2].tar is None


def test_only_unreachable_rates_still_give_the_equal_error_rate(small_blocks):
    check_equals_the_list(*people(0, count=40), rates=[1e-7])
    check_equals_the_list(*people(0, count=40), rates=[])


def test_float32_never_strays_further_than_the_margin_says():
    embeddings, labels = people(7, count=200, size=512)
    order = np.arange(200)
    units = histogram.float32_units(embeddings, order)
    work = sweep.Work(embeddings, order, units, labels, [], 1)
    first, second = np.triu_indices(200, k=1)
    in_bins = (units @ units.T)[first, second].astype(float)
    off = np.abs(
        in_bins - histogram.BINS_PER_UNIT * cosine_scores(embeddings[first], embeddings[second])
    )
    assert 0 < 2 * off.max() < work.bins.margin - 1


class Killed(BaseException):
    pass


def kill_after(monkeypatch, blocks):
    """The sweep over all rows dies after so many blocks; the sample of its rows does not count."""
    count, seen = sweep.Sweep.count, []

    def dying(self, *args):
        if self.windows:
            seen.append(1)
            if len(seen) > blocks:
                raise Killed
        count(self, *args)

    monkeypatch.setattr(sweep.Sweep, "count", dying)
    return seen


@pytest.mark.parametrize("blocks", [0, 1, 20, 44])
def test_goes_on_where_it_was_killed(blocks, monkeypatch, tmp_path, small_blocks):
    monkeypatch.setattr(sweep, "SAVE_SECONDS", 0.0)
    embeddings, labels = people(8)
    expected = verify_all_pairs(embeddings, labels, fars=RATES, progress=False)
    state = tmp_path / "state.npz"
    with monkeypatch.context() as patch:
        kill_after(patch, blocks)
        with pytest.raises(Killed):
            verify_all_pairs(embeddings, labels, fars=RATES, state=state, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]
    with monkeypatch.context() as patch:
        seen = kill_after(patch, 10**9)
        assert (
            verify_all_pairs(embeddings, labels, fars=RATES, state=state, progress=False)
            == expected
        )
    assert len(seen) == 45 - blocks  # 9 blocks of rows
    assert not list(tmp_path.iterdir())


def test_a_death_while_saving_leaves_the_last_state(monkeypatch, tmp_path, small_blocks):
    monkeypatch.setattr(sweep, "SAVE_SECONDS", 0.0)
    embeddings, labels = people(8)
    expected = verify_all_pairs(embeddings, labels, fars=RATES, progress=False)
    state, saves, savez = tmp_path / "state.npz", [], np.savez

    def dying(file, **arrays):
        saves.append(1)
        if len(saves) == 5:
            file.write(b"half")
            raise Killed
        savez(file, **arrays)

    with monkeypatch.context() as patch:
        patch.setattr(sweep.np, "savez", dying)
        with pytest.raises(Killed):
            verify_all_pairs(embeddings, labels, fars=RATES, state=state, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]
    assert verify_all_pairs(embeddings, labels, fars=RATES, state=state, progress=False) == expected


def test_a_damaged_state_is_refused(monkeypatch, tmp_path, small_blocks):
    """Every array of it: missing, of another size, of numbers that are nowhere."""
    embeddings, labels = people(8, count=60)
    state = tmp_path / "state.npz"
    with monkeypatch.context() as patch:
        patch.setattr(sweep.State, "remove", lambda self: None)
        expected = verify_all_pairs(embeddings, labels, fars=RATES, state=state, progress=False)
    whole = dict(np.load(state))
    assert len(whole) == 8 and all(array.size for array in whole.values())
    for name, array in whole.items():
        damaged = [{**whole, "more": array}, {k: v for k, v in whole.items() if k != name}]
        if name != "digest":
            damaged += [{**whole, name: array.astype(float)}, {**whole, name: array - 10**9}]
            damaged += [{**whole, name: array[..., None]}]
        if name in ("pairs", "pair_bins", "windows", "done"):
            damaged += [{**whole, name: array + 10**9}]
        for arrays in damaged:
            np.savez(state, **arrays)
            with pytest.raises(ValueError, match=r"`state` must be .*state.npz, another file"):
                verify_all_pairs(embeddings, labels, fars=RATES, state=state, progress=False)
    np.savez(state, **whole)
    assert verify_all_pairs(embeddings, labels, fars=RATES, state=state, progress=False) == expected


def test_a_state_of_something_else_is_refused(monkeypatch, tmp_path):
    embeddings, labels = people(9)
    state = tmp_path / "state.npz"
    with monkeypatch.context() as patch:
        kill_after(patch, 0)
        with pytest.raises(Killed):
            verify_all_pairs(embeddings, labels, fars=RATES, state=state, progress=False)
    others = [
        (embeddings + 1e-3, labels, RATES),
        (embeddings, np.roll(labels, 1), RATES),
        (embeddings, labels, RATES[:3]),
    ]
    for *other, fars in others:
        with pytest.raises(ValueError, match=r"same embeddings, labels and rates.*state\.npz"):
            verify_all_pairs(*other, fars=fars, state=state, progress=False)
    for content in (b"", b"no state", b"PK\x03\x04 broken"):
        state.write_bytes(content)
        with pytest.raises(ValueError, match=r"must be a file that `verify_all_pairs` wrote"):
            verify_all_pairs(embeddings, labels, fars=RATES, state=state, progress=False)
    np.savez(state, something=1)
    with pytest.raises(ValueError, match=r"must be a file that `verify_all_pairs` wrote"):
        verify_all_pairs(embeddings, labels, fars=RATES, state=state, progress=False)
    with pytest.raises(FileNotFoundError):
        verify_all_pairs(
            embeddings, labels, fars=RATES, state=tmp_path / "no" / "state", progress=False
        )


def test_memory_does_not_grow_with_the_pairs():
    embeddings, labels = people(0, count=6_000, size=8)
    verify_all_pairs(embeddings[:100], labels[:100], fars=[1e-3], progress=False)
    tracemalloc.start()
    verify_all_pairs(embeddings, labels, fars=[1e-3], progress=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6  # 18 million scores in float64 alone would be 144 MB


def test_embeddings_are_not_changed_and_the_bar_is_drawn(capsys):
    embeddings, labels = people(0, count=40)
    before = embeddings.copy()
    verify_all_pairs(embeddings, labels, fars=[0.1])
    np.testing.assert_array_equal(embeddings, before)
    assert "780/780 pairs" in capsys.readouterr().err


def test_the_result_is_plain_numbers_and_a_table():
    result = verify_all_pairs(*people(0, count=40), fars=[0.1, 1e-8], progress=False)
    record = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert record["genuine_pairs"] + record["impostor_pairs"] == 780
    assert record["tar_at_far"][1]["tar"] is None
    console = Console(width=100, file=io.StringIO())
    console.print(result)
    text = console.file.getvalue()
    assert "TAR @ FAR 1e-08" in text
    assert "not supported by 700 impostor pairs" in text


@pytest.mark.parametrize(
    ("embeddings", "labels", "fars", "message"),
    [
        (np.ones((3, 2)), [0, 1], [0.1], r"shapes \(3, 2\) and \(2,\)"),
        (np.ones(3), [0, 1, 2], [0.1], r"Received: shape \(3,\)"),
        (np.ones((3, 2)), [0, 0, 0], [0.1], "3 embeddings of 1 people.*3 genuine and 0 impostor"),
        (np.ones((3, 2)), [0, 1, 2], [0.1], "of 3 people.*0 genuine and 3 impostor"),
        (np.ones((0, 2)), [], [0.1], "0 embeddings of 0 people"),
        (np.ones((3, 2)), [0, 0, 1], [1.0], r"`far` must be a rate in \(0, 1\). Received: far=1.0"),
        (np.array([[1.0], [0.0], [1.0]]), [0, 0, 1], [0.1], "length 0.0 in row 1"),
        (np.array([[1.0], [1.0], [np.nan]]), [0, 0, 1], [0.1], "length nan in row 2"),
    ],
)
def test_bad_input_is_refused(embeddings, labels, fars, message):
    with pytest.raises(ValueError, match=message):
        verify_all_pairs(embeddings, labels, fars=fars, progress=False)


def test_all_pairs_against_loops():
    rng = np.random.default_rng(0)
    embeddings, labels = rng.normal(size=(12, 5)), rng.integers(0, 3, size=12)
    scores, same = all_pairs(embeddings, labels)
    pairs = [(i, j) for i in range(12) for j in range(i + 1, 12)]
    first, second = np.array(pairs).T
    np.testing.assert_allclose(scores, cosine_scores(embeddings[first], embeddings[second]))
    np.testing.assert_array_equal(same, labels[first] == labels[second])


def test_all_pairs_refuses_what_does_not_fit():
    limit = streaming.ALL_PAIRS_LIMIT
    with pytest.raises(ValueError, match=r"takes 2 to 5,000 embeddings. Received: 5,001"):
        all_pairs(np.ones((limit + 1, 1)), np.zeros(limit + 1))
    with pytest.raises(ValueError, match=r"shapes \(3, 2\) and \(2,\)"):
        all_pairs(np.ones((3, 2)), [0, 1])


def count_calls(monkeypatch, owner, name):
    calls, original = [], getattr(owner, name)

    def counted(*args, **kwargs):
        calls.append(args)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)
    return calls
