"""Decisions before and after an export, against plain loops over the pairs."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_embedder

from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate import read_pairs
from keras_facemargin.export import (
    compare_decisions,
    decisions,
    export_tflite,
    with_decisions,
    write_verdicts,
)
from keras_facemargin.images import synthesize_faces


@pytest.fixture(scope="module")
def rows():
    """Embeddings of 30 people with 3 images each, before and after a noisy export."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(30), 3)
    before = rng.normal(size=(30, 8))[labels] + 0.5 * rng.normal(size=(90, 8))
    return before, before + 0.2 * rng.normal(size=(90, 8)), labels


def cosine(a, b):
    return float(a @ b / np.sqrt(a @ a * (b @ b)))


def test_flips_and_rates_equal_a_loop_over_the_pairs(rows, monkeypatch):
    monkeypatch.setattr(decisions, "_BLOCK", 7)  # blocks that do not divide the rows
    before, after, labels = rows
    found = compare_decisions(before, after, labels, fars=[0.05, 0.01, 1e-6])
    assert [one.far for one in found.rates] == [0.05, 0.01]  # the pairs do not support 1e-6
    pairs = list(itertools.combinations(range(90), 2))
    assert found.genuine_pairs + found.impostor_pairs == len(pairs)
    assert (found.images, found.people) == (90, 30)
    for one in found.rates:
        for flips, least in ((one.kept_flips, one.threshold), (one.new_flips, one.new_threshold)):
            counted = dict.fromkeys(dataclasses.asdict(flips), 0)
            accepted = {"genuine": 0, "impostor": 0}
            for i, j in pairs:
                was = cosine(before[i], before[j]) >= one.threshold + 1e-12
                now = cosine(after[i], after[j]) >= least + 1e-12
                kind = "genuine" if labels[i] == labels[j] else "impostor"
                accepted[kind] += now
                if was != now:
                    counted[f"{kind}_{'accepted' if now else 'rejected'}"] += 1
            assert counted == dataclasses.asdict(flips)
            tar = accepted["genuine"] / found.genuine_pairs
            far = accepted["impostor"] / found.impostor_pairs
            if flips is one.kept_flips:
                assert (one.kept_tar, one.kept_far) == (tar, far)
            else:
                assert one.new_tar == tar and far <= one.far
        assert sum(counted.values()) > 0


def test_nothing_flips_if_the_embeddings_stay(rows):
    before, _, labels = rows
    (one,) = compare_decisions(before, 3 * before, labels, fars=[0.01]).rates
    assert not any(dataclasses.astuple(one.kept_flips) + dataclasses.astuple(one.new_flips))
    assert one.tar == one.kept_tar == one.new_tar


def test_other_shapes_are_refused(rows):
    before, after, labels = rows
    with pytest.raises(ValueError, match=r"same images.*\(90, 8\) and \(89, 8\)"):
        compare_decisions(before, after[1:], labels)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """The verdict of an int8 file with decisions, and the folder of its faces."""
    folder = tmp_path_factory.mktemp("decisions")
    faces, people = synthesize_faces(40, 3)
    for number, (face, person) in enumerate(zip(faces, people, strict=True)):
        place = folder / f"faces/p{person}/p{person}_{number % 3 + 1:04d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face).save(place)
    # Two folds of six pairs of each kind, as LFW lists them.
    lines = ["2\t6"]
    for fold in range(2):
        people = range(12 * fold, 12 * fold + 12)
        lines += [f"p{each}\t1\t2" for each in list(people)[:6]]
        lines += [f"p{each}\t1\tp{each + 1}\t2" for each in list(people)[6:]]
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    crops, _ = synthesize_faces(40, 2, seed=3)
    embedder = tiny_embedder()
    verdict = export_tflite(embedder, folder / "face.tflite", precision="int8", images=crops)
    pairs = read_pairs(folder / "pairs.txt", folder / "faces")
    people = FaceFolder(folder / "faces")
    return with_decisions(verdict, embedder, people, pairs=pairs), folder


def test_a_file_is_judged_by_its_decisions(judged):
    verdict, _ = judged
    found = verdict.decisions
    assert (found.images, found.people, found.genuine_pairs) == (120, 40, 120)
    (one,) = found.rates  # 7,020 impostor pairs support 1e-3
    assert 0 < one.tar <= 1 and 0 < one.new_tar <= 1
    assert one.threshold != one.new_threshold
    assert all(0.5 <= each <= 1 for each in found.accuracy)
    facts = json.loads(json.dumps(verdict.to_dict()))
    assert facts["decisions"]["rates"][0]["kept_flips"]["impostor_accepted"] >= 0
    assert "TAR @ FAR 0.001" in str(verdict) and "accuracy over folds" in str(verdict)


def test_the_page_shows_the_decisions(judged, tmp_path):
    verdict, _ = judged
    page = Path(write_verdicts(tmp_path / "verdict.html", "tiny", [verdict])).read_text()
    assert "face.tflite: tflite int8, passed" in page
    assert f"{verdict.decisions.rates[0].new_threshold:.4f}" in page
    assert "http" not in page


def test_a_list_needs_folds_and_its_images(judged):
    _, folder = judged
    pairs = read_pairs(folder / "pairs.txt", folder / "faces")
    rows = np.eye(3)
    with pytest.raises(ValueError, match="must have folds"):
        decisions.fold_accuracies(dataclasses.replace(pairs, folds=None), [], rows, rows)
    with pytest.raises(ValueError, match="faces without 47 of them"):
        decisions.fold_accuracies(pairs, [], rows, rows)
