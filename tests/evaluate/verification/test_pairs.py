"""Scoring pairs of files."""

import numpy as np
import pytest
from PIL import Image

from keras_facemargin.evaluate import Pairs, cosine_scores, score_pairs
from keras_facemargin.evaluate.discard import qualities_of_pairs
from keras_facemargin.evaluate.verification import embed_pairs
from keras_facemargin.quality import effective_resolution


def flatten(batch):
    return batch.reshape(len(batch), -1)


@pytest.fixture
def files(tmp_path):
    faces = np.random.default_rng(0).integers(0, 256, (4, 112, 112, 3), dtype=np.uint8)
    paths = [tmp_path / f"{index}.png" for index in range(4)]
    for path, face in zip(paths, faces, strict=True):
        Image.fromarray(face).save(path)
    return paths, flatten(faces).astype("float32")


def test_each_image_is_embedded_once_and_scored_in_order(files):
    paths, rows = files
    seen = []

    def spy(batch):
        seen.append(len(batch))
        return flatten(batch)

    first, second = [0, 2, 1, 0], [1, 1, 3, 2]
    pairs = Pairs(
        tuple(paths[i] for i in first), tuple(paths[i] for i in second), np.array([1, 0, 1, 0]) > 0
    )
    scores = score_pairs(spy, pairs, flip=False, progress=False)
    assert seen == [4]
    np.testing.assert_allclose(scores, cosine_scores(rows[first], rows[second]))
    assert len(pairs) == 4


def test_sharpness_is_measured_on_the_pixels_that_are_embedded(files):
    """The files are not opened again: here they are gone."""
    paths, rows = files
    pairs = Pairs(tuple(paths[:2]), tuple(paths[2:]), np.array([True, False]))
    found = embed_pairs(flatten, pairs, batch_size=3, progress=False, sharpness=True)
    for path in paths:
        path.unlink()
    qualities = qualities_of_pairs(found, mirrored=False)
    expected = effective_resolution(rows.reshape(4, 112, 112, 3).astype("uint8"))
    np.testing.assert_array_equal(np.concatenate(qualities["sharpness"]), expected)


def test_a_pair_with_a_missing_image_has_the_lowest_score(files, tmp_path):
    paths, _ = files
    lost = tmp_path / "lost.png"
    pairs = Pairs(
        (paths[0], paths[1]), (lost, paths[2]), np.array([True, False]), missing=frozenset({lost})
    )
    np.testing.assert_array_equal(pairs.failed_to_enrol, [True, False])
    scores = score_pairs(flatten, pairs, flip=False, progress=False)
    assert scores[0] == -1.0
    assert scores[1] > 0


def test_images_may_be_an_array_of_names():
    names = np.array(["a", "b", "c"])
    pairs = Pairs(names[:2], names[1:], np.array([True, False]), missing=frozenset(["c"]))
    np.testing.assert_array_equal(pairs.failed_to_enrol, [False, True])
    assert [list(side) for side in pairs.images] == [["a", "b"], ["b", "c"]]
    assert Pairs(None, None, np.array([True, False])).images == ((), ())
