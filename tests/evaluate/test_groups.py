"""Rates by group against plain counting, and every way that a file of groups can be wrong."""

import doctest
import importlib
from pathlib import Path

import numpy as np
import pytest

from keras_facemargin.evaluate import Pairs, rates_by_group, read_groups
from keras_facemargin.evaluate.bootstrap import Draws

MODULE = importlib.import_module("keras_facemargin.evaluate.groups")


def sample(seed, people=20, count=600):
    """Scores, truth, people and the groups that they are in; one group errs more than the other."""
    rng = np.random.default_rng(seed)
    group_of = np.array(["x", "y"])[rng.integers(0, 2, people)]
    first = rng.integers(0, people, count)
    second = np.where(rng.random(count) < 0.5, first, rng.integers(0, people, count))
    same = first == second
    scores = rng.normal(size=count) + 3 * same * np.where(group_of[first] == "x", 1, 0.4)
    return scores, same, (first, second), (group_of[first], group_of[second])


def test_docstring_examples():
    result = doctest.testmod(MODULE)
    assert result.attempted > 2
    assert not result.failed


@pytest.mark.parametrize("seed", range(4))
def test_every_group_is_counted_and_drawn_as_defined(seed):
    scores, same, people, (first, second) = sample(seed)
    rates = rates_by_group(scores, same, (first, second), 1.2, people, 50, seed)
    assert [group.name for group in rates] == ["all pairs", "x", "y", "two groups"]
    members = {
        "all pairs": np.ones(len(same), bool),
        "x": (first == "x") & (second == "x"),
        "y": (first == "y") & (second == "y"),
        "two groups": first != second,
    }
    draws = Draws(same, people, seed=seed)
    times = np.array([draws.times() for _ in range(50)])
    assert sum(bool(rate.errors) for group in rates for rate in (group.fmr, group.fnmr)) >= 5
    for group in rates:
        for rate, kind, wrong in (
            (group.fmr, ~same, scores >= 1.2),
            (group.fnmr, same, scores < 1.2),
        ):
            there = members[group.name] & kind
            assert (rate.errors, rate.pairs) == ((there & wrong).sum(), there.sum())
            if not rate.pairs:
                assert group.name == "two groups"
                assert (rate.rate, rate.interval, str(rate)) == (None, None, "no pairs")
                continue
            assert rate.rate == rate.errors / rate.pairs
            if not rate.errors:
                continue
            left = times[times[:, there].any(axis=1)]
            share = left[:, there & wrong].sum(axis=1) / left[:, there].sum(axis=1)
            every = left[:, kind & wrong].sum(axis=1) / left[:, kind].sum(axis=1)
            expected = np.quantile(share, [0.025, 0.975])
            assert (rate.interval.low, rate.interval.high) == pytest.approx(tuple(expected))
            assert rate.ratio == pytest.approx(rate.rate / np.mean(wrong[kind]))
            expected = np.quantile(share / every, [0.025, 0.975])
            found = rate.ratio_interval
            assert (found.low, found.high) == pytest.approx(tuple(expected))


def test_no_error_seen_is_not_certainty():
    scores, same = np.repeat([0.9, 0.1], 30), np.repeat([True, False], 30)
    everybody, _ = rates_by_group(scores, same, [["a"] * 60] * 2, 0.5, replicates=10)
    # Of 30 independent pairs, each wrong with this probability, none is with 2.5 %.
    assert (1 - everybody.fmr.interval.high) ** 30 == pytest.approx(0.025)
    assert everybody.fmr.interval.low == 0.0
    assert everybody.fmr.ratio is None


def test_groups_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"two groups per pair.*\(1,\) and \(2,\) for 2 pairs"):
        rates_by_group([0.9, 0.1], [True, False], (["a"], ["a", "b"]), 0.5)


@pytest.fixture
def pairs():
    return Pairs(
        first=(Path("lfw/Ada/Ada_0001.jpg"), Path("lfw/Ada/Ada_0001.jpg")),
        second=(Path("lfw/Ada/Ada_0002.jpg"), Path("lfw/Bob/Bob_0001.jpg")),
        same=np.array([True, False]),
        people=(np.array(["Ada", "Ada"]), np.array(["Ada", "Bob"])),
    )


def test_groups_by_image_and_by_person(tmp_path, pairs):
    file = tmp_path / "groups.csv"
    file.write_text(
        "image,pose,light\nAda/Ada_0001.jpg,left,\nlfw/Ada/Ada_0002.jpg,front,day\n"
        "Bob_0001.jpg,front,day\nOther.jpg,left,day\n\n"
    )
    groups = read_groups(file, pairs)
    assert {name: [side.tolist() for side in sides] for name, sides in groups.items()} == {
        "pose": [["left", "left"], ["front", "front"]],
        "light": [["unknown", "unknown"], ["day", "day"]],
    }
    file.write_text('person,sex\nAda,f\n"Bob",m\n')
    (sides,) = read_groups(file, pairs).values()
    assert [side.tolist() for side in sides] == [["f", "f"], ["f", "m"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"must be a CSV whose first line is `image` or `person`.*Received: \[\]"),
        ("name,sex\nAda,f\n", r"Received: \['name', 'sex'\]"),
        ("image\n", r"Received: \['image'\]"),
        ("person,sex,sex\nAda,f,f\n", "all different"),
        ("person,sex\nAda,f,x\n", r"groups.csv, line 2: .*Received: 3 cells"),
        ("person,sex\nAda,f\nAda,m\n", r"line 3: .*Received: a second row for one"),
        ("person,sex\nAda,f\n", r"every person of the list. Received: none for Bob \(1 of 2"),
        ("image,sex\nAda_0001.jpg,f\n", r"every image of the list.*none for lfw/Ada/Ada_0002"),
        ("person,sex\nAda,\xff\n", "must be a CSV"),
    ],
)
def test_bad_files_are_refused(tmp_path, pairs, text, message):
    file = tmp_path / "groups.csv"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        read_groups(file, pairs)


@pytest.mark.parametrize(
    ("kind", "lacks", "message"),
    [("person", "people", "names the people"), ("image", "first", "need a list of images")],
)
def test_a_list_that_lacks_what_the_file_tells(tmp_path, kind, lacks, message):
    sides = {"first": ("a",), "second": ("b",), "people": (("a",), ("b",))} | {lacks: None}
    file = tmp_path / "groups.csv"
    file.write_text(f"{kind},sex\na,f\nb,f\n")
    with pytest.raises(ValueError, match=message):
        read_groups(file, Pairs(same=np.array([False]), **sides))
