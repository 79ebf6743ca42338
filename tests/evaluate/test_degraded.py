"""Degraded faces: counts against plain loops, limits, and the shares that they refuse."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from keras_facemargin.evaluate import draw_people, measure_degraded
from keras_facemargin.evaluate.degraded import (
    DAMAGE,
    Damage,
    Degraded,
    JudgedFaces,
    clean_threshold,
    count_pairs,
    judge_faces,
    read_sides,
    sharpness_limit,
    threshold_rise,
)
from keras_facemargin.images import synthesize_faces
from keras_facemargin.quality import Quality, decide
from keras_facemargin.report import report_degraded
from keras_facemargin.zoo import measure_quality


def patches(images):
    """An embedder that blur and shrinking make blind: the detail of 49 patches."""
    grey = np.asarray(images).mean(axis=3)
    parts = grey.reshape(-1, 7, 16, 7, 16).swapaxes(2, 3)
    return (parts.mean(axis=(3, 4)).reshape(len(grey), -1) - 128).astype("float32")


class Rule:
    utility, sharpness, threshold_rise = 0.2, 15.0, 0.02

    def utilities(self, norms, agreements):
        return np.clip(agreements, 0, 1)


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    faces, labels = synthesize_faces(36, 2, seed=1)
    paths = []
    for number, (face, label) in enumerate(zip(faces, labels, strict=True)):
        paths.append(folder / f"{label}-{number}.png")
        Image.fromarray(face).save(paths[-1])
    return draw_people(paths, labels.tolist())


def test_counts_equal_a_plain_loop():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, 9, 4))
    faces = JudgedFaces(
        rows / np.linalg.norm(rows, axis=2, keepdims=True),
        rng.uniform(5, 25, (2, 9)),
        rng.uniform(1, 2, (2, 9)),
        rng.uniform(-0.5, 1, (2, 9)),
    )
    found, rule = count_pairs(faces, faces, "blur2", 0.1, Rule()), Rule()
    utility = faces.utilities(rule)
    counts = dict.fromkeys(("fr", "fa", "ag", "ai", "afr", "afa"), 0)
    for i in range(9):
        for j in range(9):
            cosine = float(faces.units[0, i] @ faces.units[1, j])
            wrong = (cosine >= 0.1) != (i == j)
            qualities = (
                Quality(utility[0, i], faces.sharpness[0, i]),
                Quality(utility[1, j], faces.sharpness[1, j]),
            )
            verdict = decide(cosine, 0.1, qualities=qualities, limits=rule).verdict
            kind = "r" if i == j else "a"
            counts["f" + kind] += wrong
            if verdict != "cannot say":
                counts["a" + ("g" if i == j else "i")] += 1
                counts["af" + kind] += wrong
    assert counts == {
        "fr": found.false_rejects,
        "fa": found.false_accepts,
        "ag": found.answered_genuines,
        "ai": found.answered_impostors,
        "afr": found.answered_false_rejects,
        "afa": found.answered_false_accepts,
    }
    assert (found.genuines, found.impostors) == (9, 72)


def test_the_threshold_is_that_of_clean_crops(sides):
    found = measure_degraded(patches, sides, far=0.01, kinds=["20px", "blur4"], progress=False)
    clean = found.columns[0]
    assert clean.kind == "clean" and clean.fmr <= 0.01
    assert [each.name for each in found.columns] == [
        "clean", "20px", "blur4", "one 20px", "one blur4",
    ]  # fmt: skip
    assert found.refused_crops is None and clean.answered_genuines is None
    assert len(found.table()[0]) == 3
    judged = judge_faces(patches, read_sides(patches, sides), progress=False)
    assert found.threshold == clean_threshold(judged, 0.01)


def test_limits_refuse_blurred_crops(sides):
    found = measure_degraded(patches, sides, rule=Rule(), far=0.01, kinds=["blur4"], progress=False)
    clean, blurred, one = found.columns
    assert blurred.answered_impostors == blurred.answered_genuines == 0
    assert clean.answered_genuines > 0
    # One sharp crop is enough for "same", and for no other answer.
    assert one.answered_impostors == one.answered_false_accepts
    assert one.answered_genuines > one.answered_false_rejects == 0
    assert found.table()[1][1][3:] == ["0.00 x", "0.0%", "0.0%", "0.0%"]
    same = f"{one.answered_genuines / 36:.1%}"
    assert found.table()[1][2][4:] == ["0.0%", same, "0.0%"]
    assert f"{clean.answered_false_rejects / 36:.1%}" == found.table()[1][0][6]
    assert json.loads(json.dumps(found.to_dict()))["columns"][1]["kind"] == "blur4"


def test_the_limit_is_the_lowest_that_holds_the_rate():
    units = np.ones((2, 11, 1))  # every pair is accepted
    sharpness = np.tile(np.arange(10, 21.0), (2, 1))
    faces = JudgedFaces(units, sharpness, None, None)
    # Of 110 pairs, 11 may pass: those of the sharpest four faces are 12, of three 6.
    assert sharpness_limit({"blur2": faces}, 0.5, far=0.1) == 17.5
    assert sharpness_limit({"blur2": faces}, 1.5, far=0.1) == 0


@pytest.mark.parametrize("limit", [12.0, 18.0, 30.0])
def test_the_rise_is_the_smallest_that_holds_the_rate(limit):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, 60, 3))
    faces = JudgedFaces(
        rows / np.linalg.norm(rows, axis=2, keepdims=True), rng.uniform(5, 20, (2, 60)), None, None
    )
    weaker = JudgedFaces(faces.units, np.minimum(faces.sharpness, 8.0), None, None)
    bad = {"blur2": faces, "blur4": weaker}
    rise = threshold_rise(bad, 0.5, limit, far=0.1)

    def accepted(rise):
        rule = Rule()
        rule.utility, rule.sharpness, rule.threshold_rise = 0, limit, rise
        counts = [count_pairs(each, each, "x", 0.5, rule) for each in bad.values()]
        return max(each.answered_false_accepts / each.impostors for each in counts)

    assert 0 < rise == round(rise, 4)
    assert accepted(rise) <= 0.15 < accepted(rise - 1e-4)
    faint = JudgedFaces(faces.units, np.full((2, 60), 7.0), None, None)
    assert threshold_rise({"blur4": faint}, 0.5, limit, far=0.1) == 0  # no answer at all
    sharp = JudgedFaces(faces.units, np.full((2, 60), 22.0), None, None)
    if limit > 22:
        assert threshold_rise({"noise": sharp}, 0.5, limit, far=0.1) is None


def test_a_card_gets_scale_and_limits(sides):
    images = [*sides[0], *sides[1]]
    labels = np.tile(np.arange(36), 2)
    quality = measure_quality(patches, images, labels, data="drawn faces", progress=False)
    assert (quality.people, quality.crops) == (36, 72)
    assert list(quality.raw_utilities) == sorted(quality.raw_utilities)
    assert tuple(quality.far_times) == DAMAGE
    assert all(after <= min(before, 1.5) for before, after in quality.far_times.values())
    assert quality.threshold_rise >= 0
    clean = judge_faces(patches, read_sides(patches, sides), progress=False)
    utilities = clean.utilities(quality)
    assert 0 <= utilities.min() < 0.05 and utilities.max() > 0.95
    assert np.median(utilities) == pytest.approx(0.5, abs=0.02)
    few = measure_quality(patches, images, labels, data="few", people=20, progress=False)
    assert few is None


def test_normalised_embeddings_have_no_norm(sides):
    def unit(images):
        rows = patches(images)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    images, labels = [*sides[0], *sides[1]], np.tile(np.arange(36), 2)
    assert measure_quality(unit, images, labels, data="x", progress=False).norm_weight == 0


def test_people_are_drawn_by_the_seed():
    images = [f"{person}/{number}" for person in range(9) for number in range(1 + person % 3)]
    labels = [name.split("/")[0] for name in images]
    first, second = draw_people(images, labels)
    assert [name.split("/")[0] for name in first] == list("124578")
    assert all(name.endswith("/1") for name in second)
    assert draw_people(images, labels, 3, seed=1) == draw_people(images, labels, 3, seed=1)
    assert len(draw_people(images, labels, 3)[0]) == 3
    with pytest.raises(ValueError, match="two people or more"):
        draw_people(["a/1", "a/2", "b/1"], ["a", "a", "b"])


def test_a_page_shows_every_embedder(sides, tmp_path):
    rules = {"plain": None, "limited": Rule()}
    results = {
        name: measure_degraded(patches, sides, rule=rule, far=0.01, kinds=["blur4"], progress=False)
        for name, rule in rules.items()
    }
    report_degraded(tmp_path / "page.html", results, title="Degraded")
    text = (tmp_path / "page.html").read_text()
    assert "one blur4" in text and text.count("<table") == 2 and text.count("<img") == 2
    record = json.loads((tmp_path / "page.json").read_text())
    assert record["models"]["limited"]["limited"] is True


def test_faces_without_mirror_images_have_no_utility():
    faces = JudgedFaces(np.ones((2, 3, 1)), np.ones((2, 3)), None, None)
    scale = SimpleNamespace(utilities=None)
    assert faces.utilities(scale).tolist() == np.ones((2, 3)).tolist()


def test_the_table_fits_80_columns():
    columns = tuple(
        Damage(kind, both, 9, 10**6, 1, 10**6, 5, 5, 1, 0)
        for kind in ("clean", "28px", "blur4")
        for both in (True, False)
    )
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(Degraded(9, 1e-3, 0.4, True, 0.02, columns))
    words = console.export_text().replace("┃", " ").replace("│", " ").split()
    assert words.count("different") == 2
