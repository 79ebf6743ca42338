"""Rates by group against plain counting, and every way that a file of groups can be wrong."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from keras_facemargin.evaluate import Pairs, all_pairs, rates_by_group, read_groups
from keras_facemargin.evaluate.at_scale import hardest_pairs
from keras_facemargin.evaluate.uncertainty import (
    Group,
    GroupRate,
    fmr_spread,
    rates_by_two_groups,
    read_groups_of_images,
    threshold_for_every_group,
    threshold_for_every_group_of_set,
)
from keras_facemargin.evaluate.uncertainty.resampling import Draws

MODULE = importlib.import_module("keras_facemargin.evaluate.uncertainty.groups")


def sample(seed, people=20, count=600):
    """Scores, truth, people and the groups that they are in; one group errs more than the other."""
    rng = np.random.default_rng(seed)
    group_of = np.array(["x", "y"])[rng.integers(0, 2, people)]
    first = rng.integers(0, people, count)
    second = np.where(rng.random(count) < 0.5, first, rng.integers(0, people, count))
    same = first == second
    scores = rng.normal(size=count) + 3 * same * np.where(group_of[first] == "x", 1, 0.4)
    return scores, same, (first, second), (group_of[first], group_of[second])


@pytest.mark.parametrize("seed", range(4))
def test_every_group_is_counted_and_drawn_as_defined(seed):
    scores, same, people, (first, second) = sample(seed)
    rates = rates_by_group(
        scores, same, (first, second), threshold=1.2, people=people, replicates=50, seed=seed
    )
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
    everybody, _ = rates_by_group(scores, same, [["a"] * 60] * 2, threshold=0.5, replicates=10)
    # Of 30 independent pairs, each wrong with this probability, none is with 2.5 %.
    assert (1 - everybody.fmr.interval.high) ** 30 == pytest.approx(0.025)
    assert everybody.fmr.interval.low == 0.0
    assert everybody.fmr.ratio is None


def test_groups_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"two groups per pair.*\(1,\) and \(2,\) for 2 pairs"):
        rates_by_group([0.9, 0.1], [True, False], (["a"], ["a", "b"]), threshold=0.5)


@pytest.fixture(scope="module")
def faces():
    """Embeddings of 24 people and groups of their images: a, b, or for four people both."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(24), rng.integers(1, 6, 24)))
    rows = rng.normal(size=(24, 6))[labels] + 0.6 * rng.normal(size=(len(labels), 6))
    groups = np.where(labels < 4, np.array(["a", "b"])[rng.integers(0, 2, len(labels))], "a")
    return rows, labels, np.where(labels > 14, "b", groups)


def test_a_set_is_counted_and_drawn_as_its_list_of_pairs(faces):
    rows, labels, groups = faces
    first, second = np.triu_indices(len(labels), k=1)
    scores, same = all_pairs(rows, labels)
    threshold = np.sort(scores[~same])[-40]
    expected = rates_by_group(
        scores,
        same,
        (groups[first], groups[second]),
        threshold=threshold,
        people=(labels[first], labels[second]),
        replicates=60,
        seed=3,
    )
    found = rates_by_two_groups(
        hardest_pairs(rows, labels, impostors=60, progress=False),
        groups,
        threshold=threshold,
        replicates=60,
        seed=3,
    )
    assert [group.name for group in found] == ["all pairs", "a", "b", "a / b"]
    assert sum(group.fnmr.errors > 0 for group in expected) == 4  # also of people in both groups
    for ours, theirs in zip(found, expected, strict=True):
        for one, other in ((ours.fmr, theirs.fmr), (ours.fnmr, theirs.fnmr)):
            assert (one.errors, one.pairs, one.rate) == (other.errors, other.pairs, other.rate)
            assert one.interval == other.interval
            assert one.ratio_interval == other.ratio_interval


def test_two_groups_that_cannot_be_compared(faces):
    rows, labels, groups = faces
    pairs = hardest_pairs(rows, labels, impostors=60, progress=False)
    with pytest.raises(ValueError, match=r"one group per image.*\(3,\) for \d+ images"):
        rates_by_two_groups(pairs, groups[:3], threshold=0.9)
    with pytest.raises(ValueError, match=r"At most 15 groups .* Received: 3[1-9]|[4-9]\d "):
        rates_by_two_groups(pairs, np.arange(len(labels)), threshold=0.9)
    with pytest.raises(ValueError, match=r"must be at least 0\..*Received: -1\.0"):
        rates_by_two_groups(pairs, groups, threshold=-1.0)


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
    file.write_bytes(b'\xef\xbb\xbfperson,sex\r\nAda,f\r\n"Bob", m\r\n')
    (sides,) = read_groups(file, pairs).values()
    assert [side.tolist() for side in sides] == [["f", "f"], ["f", "m"]]


def test_groups_of_a_set(tmp_path):
    file = tmp_path / "groups.csv"
    file.write_text("image,pose\nAda/1.jpg,left\nBob/1.jpg,\n")
    found = read_groups_of_images(file, ["x/Bob/1.jpg", "x/Ada/1.jpg"], ["Bob", "Ada"])
    assert {name: side.tolist() for name, side in found.items()} == {"pose": ["unknown", "left"]}
    with pytest.raises(ValueError, match="Received: a list without images"):
        read_groups_of_images(file, None, ["Bob", "Ada"])
    file.write_text("person,sex\nAda,f\nBob,m\n")
    assert read_groups_of_images(file, None, ["Bob", "Ada"])["sex"].tolist() == ["m", "f"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"must be a CSV whose first line is `image` or `person`.*Received: ''"),
        ("name,sex\nAda,f\n", r"groups.csv, line 1: .*Received: 'name,sex'"),
        ("image\n", r"Received: 'image'"),
        ("person,sex,sex\nAda,f,f\n", "all different"),
        ("person,sex\nAda,f,x\n", r"groups.csv, line 2: .*Received: 3 cells"),
        ("person,sex\nAda,f\nAda,m\n", r"line 3: .*Received: a second row for one"),
        ("person,sex\nAda,f\n", r"every person of the list. Received: none for Bob \(1 of 2"),
        ("image,sex\nAda_0001.jpg,f\n", r"every image of the list.*none for lfw/Ada/Ada_0002"),
        ("person,sex\nAda,\xff\n", "line 2: must be a CSV of groups in UTF-8. Received: byte 0xff"),
        ('person,sex\nAda,"f\nBob,m\n', r"""line 2: must be cells .*closed.*Received: 'Ada,"f'"""),
        ('person,sex\nAda,"f\nBob,m"\n', "line 2: must be cells separated by commas, each quote"),
        (
            "person;sex\nAda;f\n",
            "line 1: .*Received: 'person;sex', whose fields are separated by se",
        ),
        ("\nperson,sex\n\nAda,f,x\n", r"line 4: .*Received: 3 cells"),
        ("person,sex\nAda,f\n Ada,m\n", r"line 3: .*Received: a second row for one"),
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


def _group(name, errors, pairs):
    return Group(name, GroupRate(errors, pairs, errors / pairs), GroupRate(0, 0))


def test_the_spread_of_the_fmr_against_a_plain_loop_leaves_out_groups_with_few_pairs():
    rates = [
        _group("all pairs", 150, 3_000),
        *(_group(name, errors, 900) for name, errors in (("a", 20), ("b", 40), ("c", 90))),
        _group("few", 0, 300),
        _group("two groups", 500, 900),
    ]
    found = fmr_spread(rates)
    fmr = [20 / 900, 40 / 900, 90 / 900]
    differences = sum(abs(one - two) for one in fmr for two in fmr)
    gini = 3 / 2 * differences / (2 * 3**2 * np.mean(fmr))
    assert (found.lowest, found.highest, found.groups) == ("a", "c", 3)
    assert found.ratio == pytest.approx(4.5)
    assert found.gini == pytest.approx(gini)
    assert fmr_spread(rates[:2]) is None
    zero = fmr_spread([rates[0], _group("a", 0, 900), _group("b", 40, 900)])
    assert (zero.ratio, zero.gini) == (None, pytest.approx(1))


def held_by_a_plain_loop(scores, same, first, second, far):
    """The smallest threshold among the scores and just above them that no group exceeds."""
    parts = [~same] + [
        ~same & (first == name) & (second == name) for name in sorted({*first, *second})
    ]
    parts = [part for part in parts if part.sum() * far >= 30]
    candidates = np.sort([*scores, *np.nextafter(scores, np.inf)])
    return next(t for t in candidates if all(np.mean(scores[part] >= t) <= far for part in parts))


@pytest.mark.parametrize("seed", range(3))
def test_one_threshold_holds_the_rate_in_every_group(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.choice(["x", "y", "z"], (2, 4_000), p=[0.5, 0.46, 0.04])
    same = rng.random(4_000) < 0.1
    scores = rng.normal(size=4_000) + 3 * same + (first == "y") + (seed == 2) * (first != second)
    found = threshold_for_every_group(scores, same, (first, second), far=0.05)
    expected = held_by_a_plain_loop(scores, same, first, second, 0.05)
    assert found.threshold == expected >= found.single
    assert found.left_out == ("z",) and set(found.by_group) == {"x", "y"}
    assert found.tar == np.mean(scores[same] >= expected)
    assert found.cost == found.single_tar - found.tar
    if seed < 2:
        assert found.group == "y" and found.threshold == found.by_group["y"]
    else:  # pairs of two groups are more similar than those of any group
        assert (found.group, found.threshold, found.cost) == ("all pairs", found.single, 0)


def test_a_threshold_for_every_group_of_a_set_equals_that_of_its_list():
    rng = np.random.default_rng(0)
    people = np.arange(240) // 3
    groups = np.array(["x", "y", "y", "a"])[people % 4]
    rows = (
        rng.normal(size=(80, 6))[people]
        + rng.normal(size=(240, 6))
        + 0.7 * (groups == "y")[:, None]
    )
    scores, same = all_pairs(rows, people)
    first, second = np.triu_indices(240, k=1)
    of_list = threshold_for_every_group(scores, same, (groups[first], groups[second]), far=0.05)
    assert of_list.group == "y" and of_list.left_out == ()
    for kept in (1_000_000, 2_000):
        pairs = hardest_pairs(rows, people, impostors=kept, progress=False)
        of_set = threshold_for_every_group_of_set(pairs, groups, far=0.05)
        assert of_set.threshold == pytest.approx(of_list.threshold, abs=1e-12)
        assert (of_set.group, of_set.left_out) == (of_list.group, ())
        assert of_set.tar == of_list.tar and of_set.single_tar == of_list.single_tar
    with pytest.raises(ValueError, match=r"`pairs` must keep more.*Received: .*hardest_pairs"):
        threshold_for_every_group_of_set(pairs, groups, far=0.5)


def test_a_rate_that_the_pairs_do_not_support_has_no_threshold_for_groups():
    groups = [["a", "b", "a", "a"]] * 2
    scores, same = [0.1, 0.2, 0.9, 0.5], [0, 0, 0, 1]
    found = threshold_for_every_group(scores, same, groups, far=0.5)
    assert (found.group, found.threshold) == ("all pairs", found.single)
    assert (found.left_out, found.by_group, found.cost) == (("a", "b"), {}, 0)
    with pytest.raises(ValueError, match=r"`far` must be at least 1 / .*Received: far=0.1"):
        threshold_for_every_group(scores, same, groups, far=0.1)
    with pytest.raises(ValueError, match="two groups per pair"):
        threshold_for_every_group(scores[1:], same[1:], groups, far=0.5)
