"""BLUFR, MegaFace and Trillion Pairs, on small sets laid out as the published ones."""

import importlib

import numpy as np
import pytest
from published_sets import write_blufr, write_megaface, write_trillion
from scipy.io import savemat
from shades import mean_colour

from keras_facemargin.evaluate import embed, identify, verify_all_pairs
from keras_facemargin.evaluate.identification import search_among_distractors
from keras_facemargin.evaluate.protocols import (
    evaluate_blufr,
    evaluate_megaface,
    measure_blufr,
    read_blufr,
    read_megaface,
    read_trillion_pairs,
    write_trillion_pairs,
)

trillion_pairs = importlib.import_module("keras_facemargin.evaluate.protocols.trillion_pairs")


def test_blufr_verifies_all_pairs_and_searches(tmp_path):
    images = write_blufr(tmp_path)
    blufr = read_blufr(tmp_path, tmp_path)
    assert blufr.images == tuple(images)
    assert blufr.trials[0][1].tolist() == [0, 3, 6, 9]
    found = evaluate_blufr(mean_colour, blufr, fars=[0.1], progress=False)
    rows = embed(mean_colour, images, progress=False)
    labels = np.repeat(np.arange(8), 3)
    tars, rates = [], []
    for test, gallery, probes in blufr.trials:
        pairs = verify_all_pairs(rows[test], labels[test], fars=[0.1], progress=False)
        tars.append(pairs.tar_at_far[0].tar)
        search = identify(
            rows[gallery],
            rows[probes],
            gallery_labels=labels[gallery],
            probe_labels=labels[probes],
            progress=False,
        )
        rates.append(search.rank_rate(1))
    assert found.verification.measures()["TAR @ FAR 0.1"] == tuple(tars)
    assert found.identification.measures()["Rank-1"] == tuple(rates)
    headline = found.headline()["TAR @ FAR 0.1"]
    assert headline == pytest.approx(np.mean(tars) - np.std(tars, ddof=1))
    assert found.to_dict()["mean_minus_standard_deviation"]["TAR @ FAR 0.1"] == headline
    assert dict(found.rows())["TAR @ FAR 0.1, mean - deviation"] == f"{headline:.2%}"


def test_a_missing_image_leaves_blufr(tmp_path):
    write_blufr(tmp_path)[4].unlink()
    with pytest.raises(FileNotFoundError, match="1 of 24 images missing"):
        read_blufr(tmp_path, tmp_path)
    blufr = read_blufr(tmp_path, tmp_path, on_missing="reject")
    found = evaluate_blufr(mean_colour, blufr, fars=[0.1], progress=False)
    assert found.verification.results[1].embeddings == 17
    assert found.verification.results[2].embeddings == 18
    assert ("Missing images, left out", "1") in found.rows()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"labels": np.arange(3)},
            r"one label for each image. Received: `imageList`",
        ),
        ({"galIndex": np.array([[1], [2]])}, r"trial 1: `testIndex` must be `galIndex` and"),
        ({"galIndex": np.array([[0], [2]])}, r"trial 1: `galIndex` must hold numbers .* 1 to 24"),
        ({"galIndex": np.array([[25], [2]])}, "trial 1: `galIndex` must hold numbers"),
        (
            {"galIndex": np.array([[1]])},
            "one number of trials for each. Received: 2 of `testIndex`, 1 of",
        ),
        ({"labels": np.r_[0.5, 1.5, np.arange(3, 25)]}, r"`labels` must be all whole .*: 0.5"),
        (
            {"labels": np.r_[np.nan, np.nan, np.arange(3, 25)]},
            r"`labels` must be all whole .*: nan",
        ),
        ({"labels": np.arange(24) + 1j}, r"`labels` must be all whole .*complex"),
        ({"labels": np.full(24, "x", object)}, r"`labels` must be whole numbers. Received"),
        (
            {"imageList": np.full(24, "Ada_0_0001.jpg", object)},
            "image 2: an image must be listed once",
        ),
        ({"imageList": np.arange(24)}, r"`imageList` must hold names. Received: \[0, 1, 2\]"),
        ({"galIndex": np.array([[1], [2.5]])}, "trial 2: `galIndex` must hold numbers"),
    ],
)
def test_another_layout_is_refused(tmp_path, changed, message):
    write_blufr(tmp_path, **changed)
    with pytest.raises(ValueError, match=message):
        read_blufr(tmp_path, tmp_path)


def test_blufr_takes_labels_as_matlab_stores_them(tmp_path):
    write_blufr(tmp_path, labels=np.repeat(np.arange(1.0, 9), 3)[:, None])
    blufr = read_blufr(tmp_path, tmp_path)
    assert blufr.labels.tolist() == np.repeat(np.arange(1, 9), 3).tolist()


def test_an_image_is_in_a_trial_once(tmp_path):
    cells = {"testIndex": [1, 2, 2], "galIndex": [1], "probIndex": [2, 2]}
    one = {name: np.empty((1, 1), object) for name in cells}
    for name, numbers in cells.items():
        one[name][0, 0] = np.array(numbers, float)
    write_blufr(tmp_path, **one)
    with pytest.raises(ValueError, match="trial 1: `testIndex` must hold each image once"):
        read_blufr(tmp_path, tmp_path)


def test_blufr_is_measured_on_its_own_embeddings(tmp_path):
    write_blufr(tmp_path)
    with pytest.raises(ValueError, match="25 rows for 24 images"):
        measure_blufr(np.ones((25, 3)), read_blufr(tmp_path, tmp_path), progress=False)


def test_blufr_without_a_variable_is_refused(tmp_path):
    savemat(tmp_path / "blufr_lfw_config.mat", {"labels": [1]})
    with pytest.raises(ValueError, match="Received: no imageList, testIndex, galIndex, probIndex"):
        read_blufr(tmp_path, tmp_path)


def test_megaface_searches_among_distractors(tmp_path):
    images = write_megaface(tmp_path)
    megaface = read_megaface(tmp_path, tmp_path, size=10)
    assert megaface.probes == tuple(images[:9])
    assert megaface.distractors == tuple(images[9:])
    assert not megaface.noisy.any()
    found = evaluate_megaface(mean_colour, megaface, fars=[0.1], progress=False)
    probes = embed(mean_colour, images[:9], progress=False)
    distractors = embed(mean_colour, images[9:], progress=False)
    expected = search_among_distractors(
        probes, megaface.subjects, distractors, fars=[0.1], progress=False
    )
    assert (found.rank_1, found.searches) == (expected.rank_1, 18)


def test_the_refined_list_mends_probes_and_drops_distractors(tmp_path):
    images = write_megaface(tmp_path)
    megaface = read_megaface(tmp_path, tmp_path, size=10, refined=True)
    assert np.flatnonzero(megaface.noisy).tolist() == [4]
    assert set(images[9:]) - set(megaface.distractors) == {images[13]}
    found = evaluate_megaface(mean_colour, megaface, fars=[0.1], progress=False)
    raw = evaluate_megaface(mean_colour, read_megaface(tmp_path, tmp_path, size=10), progress=False)
    assert raw.rank_1 < found.rank_1
    assert found.distractors == 9
    probes = embed(mean_colour, images[:9], progress=False)
    units = probes / np.linalg.norm(probes, axis=1, keepdims=True)
    units[4] = (units[3] + units[5]) / 2
    distractors = embed(mean_colour, megaface.distractors, progress=False)
    expected = search_among_distractors(
        units, megaface.subjects, distractors, fars=[0.1], progress=False
    )
    ours, theirs = found.tar_at_far[0], expected.tar_at_far[0]
    assert (found.rank_1, ours.tar) == (expected.rank_1, theirs.tar)
    assert ours.threshold == pytest.approx(theirs.threshold, abs=1e-6)


def test_a_person_of_wrong_images_only_is_refused(tmp_path):
    write_megaface(tmp_path)
    (tmp_path / "facescrub_noises.txt").write_text("Bob_1.jpg\nBob_2.jpg\nBob_3.jpg\n")
    megaface = read_megaface(tmp_path, tmp_path, size=10, refined=True)
    with pytest.raises(ValueError, match="Bob, with wrong images only"):
        evaluate_megaface(mean_colour, megaface, progress=False)


def test_missing_images_leave_megaface(tmp_path):
    images = write_megaface(tmp_path)
    images[0].unlink()
    images[-1].unlink()
    with pytest.raises(FileNotFoundError, match="1 of 9 images missing"):
        read_megaface(tmp_path, tmp_path, size=10)
    megaface = read_megaface(tmp_path, tmp_path, size=10, on_missing="reject")
    found = evaluate_megaface(mean_colour, megaface, progress=False)
    assert (found.probes, found.distractors, found.searches) == (8, 9, 14)
    assert ("Missing images, left out", "2") in found.rows()


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", '{"path": ["a"]}', '{"path": ["a"], "id": []}', '{"path": [1], "id": [2]}'),
        '{"path": "abc", "id": "abc"}',  # three names of a letter each
        "[" * 100_000,
    ],
)
def test_a_broken_list_of_megaface_is_refused(tmp_path, text):
    write_megaface(tmp_path)
    (tmp_path / "facescrub_features_list.json").write_text(text)
    with pytest.raises(ValueError, match="must be JSON with `path` and `id`"):
        read_megaface(tmp_path, tmp_path, size=10)
    with pytest.raises(ValueError, match="`size` must be one of"):
        read_megaface(tmp_path, tmp_path, size=11)


def test_megaface_has_lists_with_a_byte_order_mark_and_images_once(tmp_path):
    write_megaface(tmp_path)
    for name in ("facescrub_features_list.json", "facescrub_noises.txt"):
        file = tmp_path / name
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert read_megaface(tmp_path, tmp_path, size=10, refined=True).noisy.sum() == 1
    file = tmp_path / "facescrub_features_list.json"
    file.write_text(file.read_text(encoding="utf-8-sig").replace("Ada_2", "Ada_1"))
    with pytest.warns(UserWarning, match="1 of 9 images repeat earlier ones"):
        read_megaface(tmp_path, tmp_path, size=10)


@pytest.mark.parametrize("at_once", [2, 100])
def test_trillion_pairs_is_a_file_to_send(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(trillion_pairs, "IMAGES_AT_ONCE", at_once)
    paths = write_trillion(tmp_path)
    images, missing = read_trillion_pairs(tmp_path, tmp_path)
    assert (images, missing) == (tuple(paths), frozenset())
    file = tmp_path / "features.bin"
    assert write_trillion_pairs(mean_colour, images, file, flip=False, progress=False) == (7, 3)
    content = file.read_bytes()
    assert np.frombuffer(content[:16], "<i4").tolist() == [7, 3, 12, 5]
    rows = np.frombuffer(content[16:], "<f4").reshape(7, 3)
    np.testing.assert_array_equal(rows, embed(mean_colour, paths, flip=False, progress=False))
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "features.bin",
        "testdata_lmk.txt",
    ]


@pytest.mark.parametrize("at_once", [2, 100])
def test_missing_images_have_rows_of_zeros(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(trillion_pairs, "IMAGES_AT_ONCE", at_once)
    paths = write_trillion(tmp_path)
    for place in (0, 1, 5):
        paths[place].unlink()
    images, missing = read_trillion_pairs(tmp_path, tmp_path, on_missing="reject")
    file = tmp_path / "features.bin"
    write_trillion_pairs(mean_colour, images, file, missing=missing, flip=False, progress=False)
    rows = np.frombuffer(file.read_bytes()[16:], "<f4").reshape(7, 3)
    assert np.flatnonzero(~rows.any(axis=1)).tolist() == [0, 1, 5]
    there = [path for path in paths if path.exists()]
    expected = embed(mean_colour, there, flip=False, progress=False)
    np.testing.assert_array_equal(rows[[2, 3, 4, 6]], expected)


def test_nothing_is_left_of_a_file_that_failed(tmp_path):
    images = tuple(write_trillion(tmp_path))
    file = tmp_path / "features.bin"
    file.write_bytes(b"before")
    with pytest.raises(ValueError, match="only missing ones"):
        write_trillion_pairs(mean_colour, images, file, missing=frozenset(images), progress=False)

    def broken(batch):
        raise RuntimeError("no such model")

    with pytest.raises(RuntimeError):
        write_trillion_pairs(broken, images, file, progress=False)
    assert file.read_bytes() == b"before"
    assert not list(tmp_path.glob(".*"))


def test_a_broken_list_of_trillion_pairs_is_refused(tmp_path):
    file = tmp_path / "testdata_lmk.txt"
    for text, message in (
        ("a.jpg 1 2\n", r"testdata_lmk.txt, line 1: must be 'PATH x1 y1"),
        ("a.jpg 1 2 3 4 5 6 7 8 9 x\n", "line 1: must be"),
        ("", "must list images"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_trillion_pairs(tmp_path, tmp_path)
