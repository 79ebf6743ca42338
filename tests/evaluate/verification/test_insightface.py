"""InsightFace's verification files: pairs, folds, the same figures as from image files."""

import os
import pickle

import numpy as np
import pytest

from keras_facemargin.data.formats.pairs_bin import write_pairs_bin
from keras_facemargin.evaluate import Pairs, evaluate_pairs, plot_hardest_pairs, score_pairs
from keras_facemargin.evaluate.verification import evaluate_bin, read_bin_pairs
from keras_facemargin.images.image import read_face
from keras_facemargin.images.synthetic import write_synthetic_faces


def coarse(images):
    """An embedder: the mean colours of a grid of 8x8."""
    return images.reshape(len(images), 8, 14, 8, 14, 3).mean(axis=(2, 4)).reshape(len(images), -1)


@pytest.fixture
def written(tmp_path):
    """A file of 12 pairs, and the same pairs as image files."""
    files = write_synthetic_faces(tmp_path / "people", 6, 2)
    same = np.tile([True, False], 6)
    first = [files[2 * (row // 2)] for row in range(12)]
    second = [files[2 * (row // 2) + 1 if same[row] else (row + 5) % 12] for row in range(12)]
    flat = [file for pair in zip(first, second, strict=True) for file in pair]
    write_pairs_bin(tmp_path / "pairs.bin", flat, same)
    return tmp_path / "pairs.bin", Pairs(tuple(first), tuple(second), same, np.repeat([1, 2, 3], 4))


def test_pairs_are_those_of_the_image_files(written):
    file, expected = written
    pairs = read_bin_pairs(file, folds=3)
    np.testing.assert_array_equal(pairs.same, expected.same)
    np.testing.assert_array_equal(pairs.folds, expected.folds)
    for side in ("first", "second"):
        for ours, theirs in zip(getattr(pairs, side), getattr(expected, side), strict=True):
            np.testing.assert_array_equal(read_face(ours), read_face(theirs))
    assert not pairs.failed_to_enrol.any()


def test_figures_are_those_of_the_image_files(written):
    file, expected = written
    ours = evaluate_bin(coarse, file, folds=3, progress=False)
    theirs = evaluate_pairs(coarse, expected, progress=False)
    np.testing.assert_array_equal(ours.scores, theirs.scores)
    assert ours.to_dict() == theirs.to_dict()
    assert evaluate_bin(coarse, file, folds=None, progress=False).accuracy is None


def test_folds_that_do_not_divide_the_pairs(tmp_path):
    write_pairs_bin(tmp_path / "a.bin", [b"x"] * 22, [True, False] * 5 + [True])
    assert np.bincount(read_bin_pairs(tmp_path / "a.bin", folds=4).folds).tolist() == [
        0,
        3,
        3,
        3,
        2,
    ]


@pytest.mark.parametrize(
    ("folds", "part"), [(2, "fold 1 with 4 genuine pairs of 4"), (9, "fold 1")]
)
def test_a_fold_without_both_kinds(tmp_path, folds, part):
    write_pairs_bin(tmp_path / "a.bin", [b"x"] * 16, [True] * 4 + [False] * 4)
    with pytest.raises(
        ValueError, match=rf"both kinds(.|\n)*{part}(.|\n)*fewer folds, or folds=None"
    ):
        read_bin_pairs(tmp_path / "a.bin", folds=folds)
    assert read_bin_pairs(tmp_path / "a.bin", folds=None).folds is None


@pytest.mark.parametrize("folds", [1, 0, -3])
def test_too_few_folds(tmp_path, folds):
    with pytest.raises(ValueError, match=f"folds={folds}"):
        read_bin_pairs(tmp_path / "a.bin", folds=folds)


def test_a_bad_image_is_named(tmp_path):
    write_pairs_bin(tmp_path / "a.bin", [b"x"] * 4, [True, False])
    with pytest.raises(ValueError, match=r"a\.bin, image 0: not an image"):
        evaluate_bin(coarse, tmp_path / "a.bin", folds=None, progress=False)


def test_an_embedding_that_is_not_finite_names_its_image(written):
    def broken(images):
        rows = coarse(images)
        rows[3] = np.nan
        return rows

    with pytest.raises(ValueError, match=r"for .*pairs\.bin, image 6\."):
        evaluate_bin(broken, written[0], folds=3, progress=False)


def test_a_hostile_file_is_refused(tmp_path):
    class Command:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    (tmp_path / "a.bin").write_bytes(pickle.dumps(([b"", b""], [Command()])))
    with pytest.raises(ValueError, match=r"system'\: that is refused"):
        evaluate_bin(coarse, tmp_path / "a.bin", folds=None, progress=False)
    assert not (tmp_path / "ran").exists()


def test_real_pairs(shared_data):
    pairs = read_bin_pairs(shared_data / "mxnet" / "pairs_py3.bin", folds=None)
    old = read_bin_pairs(shared_data / "mxnet" / "pairs_py2.bin", folds=None)
    assert (len(pairs), pairs.same.sum()) == (150, 75)
    scores = score_pairs(coarse, pairs, progress=False)
    np.testing.assert_array_equal(scores, score_pairs(coarse, old, progress=False))
    assert scores[pairs.same].mean() > scores[~pairs.same].mean()
    pytest.importorskip("matplotlib")
    assert plot_hardest_pairs(pairs, scores)
