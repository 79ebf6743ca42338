"""Synthetic faces: shape of the set, independence of its parts, people that differ."""

from importlib import resources

import numpy as np
import pytest

from keras_facemargin.data.folder import FaceFolder
from keras_facemargin.files import exclusive
from keras_facemargin.images import synthetic
from keras_facemargin.images.image import read_face
from keras_facemargin.images.synthetic import synthesize_faces, write_synthetic_faces


@pytest.fixture(scope="module", autouse=True)
def drawn_again():
    """Not the faces that `conftest.py` keeps for the other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "_people", synthetic._people.__wrapped__)
        yield


@pytest.fixture(scope="module")
def faces(drawn_again):
    return synthesize_faces(num_identities=12, images_per_identity=6, seed=3)


def test_images_are_rgb_crops_labelled_by_person(faces):
    images, labels = faces
    assert images.shape == (72, 112, 112, 3)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, np.repeat(np.arange(12), 6))


def test_images_use_the_range_without_drowning_in_its_ends(faces):
    images, _ = faces
    assert 70 < images.mean() < 170
    assert images.min() < 20
    assert images.max() > 235
    assert np.mean((images == 0) | (images == 255)) < 0.05


def test_a_seed_names_its_images(faces):
    images, _ = faces
    again, _ = synthesize_faces(num_identities=12, images_per_identity=6, seed=3)
    np.testing.assert_array_equal(images, again)
    other, _ = synthesize_faces(num_identities=1, images_per_identity=1, seed=4)
    assert np.abs(images[0].astype(int) - other[0]).mean() > 5


def test_more_people_or_images_leave_the_others_as_they_were(faces):
    images = faces[0].reshape(12, 6, 112, 112, 3)
    for people, each in ((3, 2), (11, 1)):  # the people of a product with the components differ
        fewer, _ = synthesize_faces(people, each, seed=3)
        np.testing.assert_array_equal(images[:people, :each].reshape(fewer.shape), fewer)


def test_no_image_occurs_twice(faces):
    flat = faces[0].reshape(len(faces[0]), -1)
    assert len(np.unique(flat, axis=0)) == len(flat)


def test_images_of_one_person_are_closer_than_images_of_two(faces):
    images, labels = faces
    # Standardised inner faces at a quarter of the size: light and background say little there.
    small = images[:, 24:104, 16:96].astype(float).mean(-1).reshape(-1, 20, 4, 20, 4).mean((2, 4))
    small = small.reshape(len(small), -1)
    small = (small - small.mean(1, keepdims=True)) / small.std(1, keepdims=True)
    distance = np.sqrt(((small[:, None] - small[None]) ** 2).mean(-1))
    same = labels[:, None] == labels[None]
    np.fill_diagonal(distance, np.nan)
    assert np.nanmean(distance[same]) < 0.9 * np.nanmean(distance[~same])


def test_faces_have_eyes_and_a_mouth_where_alignment_puts_them(faces):
    mean = faces[0].astype(float).mean((0, 3))

    def brightness(x, y):
        return mean[y - 2 : y + 3, x - 2 : x + 3].mean()

    cheeks = (brightness(36, 70) + brightness(76, 70)) / 2
    # The ArcFace template's eyes and the middle of its mouth.
    for x, y in [(38, 52), (74, 52), (56, 92)]:
        assert brightness(x, y) < cheeks - 10


def test_the_mean_face_is_the_same_in_the_mirror():
    path = resources.files("keras_facemargin.images") / "face_model.npz"
    with np.load(path, allow_pickle=False) as model:
        luma, shape = model["luma_mean"], model["shape_mean"]
    np.testing.assert_allclose(luma, luma[:, ::-1], atol=0.2)
    np.testing.assert_allclose(shape, shape[:, ::-1] * [-1, 1], atol=0.01)


def test_the_model_stays_small():
    path = resources.files("keras_facemargin.images") / "face_model.npz"
    assert path.stat().st_size <= 4 * 1000 * 1000


def test_the_folder_has_a_subfolder_per_person(tmp_path):
    paths = write_synthetic_faces(tmp_path / "faces", 3, 2, seed=5)
    assert [path.removeprefix(str(tmp_path)).replace("\\", "/") for path in paths] == [
        f"/faces/person_{person:03d}/{number:03d}.jpg" for person in range(3) for number in range(2)
    ]
    images, _ = synthesize_faces(3, 2, seed=5)
    for path, image in zip(paths, images, strict=True):
        error = read_face(path).astype(float) - image
        assert np.sqrt((error**2).mean()) < 4  # JPEG at quality 95


def test_the_folder_is_read_as_a_set_of_identities(tmp_path):
    write_synthetic_faces(tmp_path, 3, 2)
    folder = FaceFolder(tmp_path)
    assert folder.num_classes == 3
    assert len(folder.paths) == 6


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="must be empty or missing"):
        write_synthetic_faces(tmp_path, 1, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((0, 1), "num_identities"),
        ((2.0, 1), "num_identities"),
        ((True, 1), "num_identities"),
        ((1, 0), "images_per_identity"),
        ((1, "3"), "images_per_identity"),
        ((1, 1, -1), "seed"),
        ((1, 1, None), "seed"),
    ],
)
def test_bad_numbers_are_refused_by_name(arguments, named, tmp_path):
    with pytest.raises(ValueError, match=rf"`{named}` must be an integer.*Received"):
        synthesize_faces(*arguments)
    with pytest.raises(ValueError, match=named):
        write_synthetic_faces(tmp_path / "never", *arguments)
    assert not (tmp_path / "never").exists()


def test_one_process_at_a_time_fills_a_folder(tmp_path):
    with (
        exclusive(tmp_path / "faces"),
        pytest.raises(BlockingIOError, match="Another process"),
    ):
        write_synthetic_faces(tmp_path / "faces", 1, 1)
    assert len(write_synthetic_faces(tmp_path / "faces", 1, 1)) == 1
