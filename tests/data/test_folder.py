"""FaceFolder: the contents of the folder, its faults, and the batches of the pipeline."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_facemargin.augmentation.light import draw_augmentation, move, recolour
from keras_facemargin.data.folder import FaceFolder
from keras_facemargin.images.image import read_face


def save_noise(path, seed=0, shape=(112, 112, 3), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, shape).astype("uint8")
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def directory(tmp_path):
    """Three people with 4, 3 and 2 images, in names that are not plain ASCII words."""
    seed = 0
    for name, count in {"Zoë Müller": 4, "Ada Lovelace": 3, "李 娜": 2}.items():
        for number in range(count):
            save_noise(tmp_path / "faces" / name / f"photo {number}.jpg", seed := seed + 1)
    return tmp_path / "faces"


def collect(dataset):
    """All images and labels of a dataset, ragged last batch included."""
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


# The contents of the folder


def test_identities_are_sorted_and_numbered(directory):
    faces = FaceFolder(directory)
    assert faces.identities == ["Ada Lovelace", "Zoë Müller", "李 娜"]
    assert faces.num_classes == 3
    assert len(faces) == len(faces.paths) == 9
    assert faces.labels.dtype == np.int32
    assert faces.labels.tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert faces.skipped == []
    for path, label in zip(faces.paths, faces.labels, strict=True):
        assert Path(path).parent == directory / faces.identities[label]
    assert "9 images of 3 identities, 2 to 4 each" in repr(faces)


def test_hidden_names_are_ignored(directory):
    (directory / ".DS_Store").write_bytes(b"")
    (directory / "Ada Lovelace" / "._photo 0.jpg").write_bytes(b"")
    (directory / ".cache").mkdir()
    assert len(FaceFolder(directory)) == 9


def test_links_are_followed(directory, tmp_path):
    (tmp_path / "linked").mkdir()
    for name in ("Ada Lovelace", "李 娜"):
        (tmp_path / "linked" / name).symlink_to(directory / name)
    assert len(FaceFolder(tmp_path / "linked")) == 5


def test_one_image_per_identity(tmp_path):
    for seed in range(3):
        save_noise(tmp_path / str(seed) / "only.png", seed)
    faces = FaceFolder(tmp_path)
    assert faces.labels.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="largest identity, 1"):
        faces.split_images(1)


def test_real_faces(shared_data):
    crops = shared_data / "celeb" / "train"
    faces = FaceFolder(crops)
    assert (faces.num_classes, len(faces)) == (1255, 10488)
    assert np.bincount(faces.labels).min() >= 3


# Faults


@pytest.fixture
def spoiled(directory):
    """The folder with one of each bad entry; path -> a word of its reason."""
    ada = directory / "Ada Lovelace"
    whole = (ada / "photo 0.jpg").read_bytes()
    (ada / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (ada / "nothing.jpg").write_bytes(b"")
    (ada / "text.jpg").write_text("not a picture")
    (ada / "older").mkdir()
    (ada / "broken link.jpg").symlink_to(directory / "gone.jpg")
    save_noise(ada / "tall.png", shape=(112, 96, 3))
    (directory / "labels.csv").write_text("Ada Lovelace,0")
    (directory / "Empty").mkdir()
    return {
        ada / "half.jpg": "truncated",
        ada / "nothing.jpg": "0 bytes",
        ada / "text.jpg": "not an image",
        ada / "older": "a folder inside",
        ada / "broken link.jpg": "broken link",
        ada / "tall.png": "112x96",
        directory / "labels.csv": "beside the identity folders",
        directory / "Empty": "has no good image",
    }


def test_refuse_names_every_bad_entry_at_once(directory, spoiled):
    with pytest.raises(ValueError, match="8 entries") as caught:
        FaceFolder(directory)
    lines = str(caught.value).splitlines()
    for path, word in spoiled.items():
        assert [line for line in lines if str(path) in line and word in line], path
    assert 'on_bad="skip"' in lines[-1]


def test_skip_skips_bad_entries_and_warns_once(directory, spoiled):
    with pytest.warns(UserWarning, match="8 entries") as warned:
        faces = FaceFolder(directory, on_bad="skip")
    assert len(warned) == 1
    assert {Path(each.path) for each in faces.skipped} == set(spoiled)
    for each in faces.skipped:
        assert spoiled[Path(each.path)] in each.reason
    assert faces.identities == ["Ada Lovelace", "Zoë Müller", "李 娜"]
    assert len(faces) == 9
    assert "8 skipped" in repr(faces)


def test_labels_have_no_gap_after_a_skipped_identity(directory):
    for path in (directory / "Ada Lovelace").iterdir():
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="has no good image"):
        faces = FaceFolder(directory, on_bad="skip")
    assert faces.identities == ["Zoë Müller", "李 娜"]
    assert faces.labels.tolist() == [0, 0, 0, 0, 1, 1]


def test_ten_of_many_bad_entries_are_named(directory):
    for number in range(25):
        (directory / "Ada Lovelace" / f"{number}.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"25 entries[^$]*and 15 more") as caught:
        FaceFolder(directory)
    assert str(caught.value).count("0 bytes") == 10


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_without_permission_is_named(directory):
    (directory / "Ada Lovelace" / "photo 0.jpg").chmod(0)
    with pytest.raises(ValueError, match=r"photo 0\.jpg: it cannot be read"):
        FaceFolder(directory)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="gone"):
        FaceFolder(tmp_path / "gone")


def test_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="DIRECTORY/IDENTITY/IMAGE"):
        FaceFolder(tmp_path)


def test_images_without_identity_folders(tmp_path):
    save_noise(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="no folder and 1 other entries"):
        FaceFolder(tmp_path, on_bad="skip")


def test_one_identity_only(tmp_path):
    save_noise(tmp_path / "Ada" / "a.jpg")
    with pytest.raises(ValueError, match="at least two identities"):
        FaceFolder(tmp_path)


def test_one_identity_left_names_the_bad_entries(tmp_path):
    save_noise(tmp_path / "Ada" / "a.jpg")
    (tmp_path / "Grace").mkdir()
    with pytest.raises(
        ValueError, match=r"at least two(.|\n)*Grace: the folder of an identity has no"
    ):
        FaceFolder(tmp_path, on_bad="skip")


def test_unknown_choice(directory):
    with pytest.raises(ValueError, match="on_bad='ignore'"):
        FaceFolder(directory, on_bad="ignore")


# What comes out of the pipeline


@pytest.mark.parametrize("odd", [False, True])
def test_stored_images_are_exactly_those_of_read_face(directory, odd):
    save_noise(directory / "Ada Lovelace" / "lossless.png", 50)
    save_noise(directory / "Ada Lovelace" / "grey.jpg", 51, (112, 112))
    if odd:
        turned = Image.Exif()
        turned[0x0112] = 6
        save_noise(directory / "Ada Lovelace" / "turned ü.jpg", 52, exif=turned)
        save_noise(directory / "Ada Lovelace" / "large.jpg", 53, (250, 250, 3))
        save_noise(directory / "Ada Lovelace" / "alpha.png", 54, (112, 112, 4))
        ink = Image.open(directory / "Ada Lovelace" / "photo 0.jpg").convert("CMYK")
        ink.save(directory / "Ada Lovelace" / "ink.jpg")
        deep = np.random.default_rng(56).integers(0, 65536, (112, 112)).astype("uint16")
        Image.fromarray(deep).save(directory / "Ada Lovelace" / "deep.png")
    faces = FaceFolder(directory)
    dataset = faces.dataset(4)
    assert dataset.element_spec[0].shape.as_list() == [None, 112, 112, 3]
    images, labels = collect(dataset)
    assert (images.dtype, labels.dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(images, [read_face(path) for path in faces.paths])
    np.testing.assert_array_equal(labels, faces.labels)


def test_image_size(directory):
    faces = FaceFolder(directory, image_size=80)
    images, _ = collect(faces.dataset(4))
    np.testing.assert_array_equal(images, [read_face(path, 80) for path in faces.paths])


def test_an_epoch_has_every_image_once_under_its_own_label(tmp_path):
    # Flat images that their brightness identifies after augmentation: steps of 100 against jitter.
    for name, level in {"dark": 20, "light": 220}.items():
        for number in range(7):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(np.full((112, 112, 3), level, "uint8")).save(
                tmp_path / name / f"{number}.png"
            )
    dataset = FaceFolder(tmp_path).dataset(4, training=True)
    assert len(dataset) == 4
    images, labels = collect(dataset)
    assert np.bincount(labels).tolist() == [7, 7]
    np.testing.assert_array_equal(images[:, 56, 56, 0] > 120, labels == 1)


def test_order_and_pixels_follow_the_seed_and_the_epoch(directory):
    def epochs(seed):
        dataset = FaceFolder(directory).dataset(4, training=True, seed=seed)
        return [collect(dataset) for _ in range(2)]

    (first, first_labels), (second, _) = epochs(seed=0)
    (again, again_labels), (second_again, _) = epochs(seed=0)
    (other, _), _ = epochs(seed=1)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first_labels, again_labels)
    np.testing.assert_array_equal(second, second_again)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_each_epoch_has_its_own_order(tmp_path):
    for number in range(40):
        (tmp_path / f"{number:02d}").mkdir()
        Image.new("RGB", (112, 112)).save(tmp_path / f"{number:02d}" / "a.png")
    dataset = FaceFolder(tmp_path).dataset(16, training=True)
    orders = [collect(dataset)[1].tolist() for _ in range(3)]
    for order in orders:
        assert sorted(order) == list(range(40))
    assert len({tuple(order) for order in [*orders, range(40)]}) == 4


def test_keras_fits_on_it(directory):
    import keras

    faces = FaceFolder(directory)
    model = keras.Sequential(
        [
            keras.layers.Input((112, 112, 3)),
            keras.layers.AveragePooling2D(56),
            keras.layers.Flatten(),
            keras.layers.Dense(faces.num_classes),
        ]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(faces.dataset(4, training=True), epochs=2, shuffle=False, verbose=0)
    assert len(history.history["loss"]) == 2


# Augmentation


def augment_one(image, parameters):
    moved = move(image, parameters.corner[0], parameters.mirror[0])
    return np.array(recolour(moved[None], parameters.colour, parameters.offset)[0])


@pytest.fixture
def image():
    import tensorflow as tf

    return tf.constant(np.random.default_rng(0).integers(0, 256, (112, 112, 3)), "uint8")


def still(parameters):
    """The same parameters without their effect: a centred crop, no mirroring, no colour change."""
    return parameters._replace(
        corner=np.array([[4, 4, 0]] * len(parameters.corner), "int32"),
        mirror=np.zeros_like(parameters.mirror),
        colour=np.broadcast_to(np.eye(3, dtype="float32"), parameters.colour.shape),
        offset=np.zeros_like(parameters.offset),
    )


def test_parameters_without_effect_keep_the_image(image):
    parameters = still(draw_augmentation(np.random.default_rng(0), 1))
    np.testing.assert_array_equal(augment_one(image, parameters), image)


def test_mirroring_reverses_the_columns(image):
    parameters = still(draw_augmentation(np.random.default_rng(0), 1))
    mirrored = parameters._replace(mirror=np.array([[False, True, False]]))
    np.testing.assert_array_equal(augment_one(image, mirrored), np.array(image)[:, ::-1])


def test_shifting_fills_with_black(image):
    parameters = still(draw_augmentation(np.random.default_rng(0), 1))
    shifted = augment_one(image, parameters._replace(corner=np.array([[0, 7, 0]], "int32")))
    np.testing.assert_array_equal(shifted[4:, :-3], np.array(image)[:-4, 3:])
    assert shifted[:4].max() == shifted[:, -3:].max() == 0


def test_drawn_parameters_stay_in_their_ranges_and_fill_them():
    parameters = draw_augmentation(np.random.default_rng(0), 5000)
    assert set(parameters.corner[:, :2].flat) == set(range(9))
    assert not parameters.corner[:, 2].any()
    assert not parameters.mirror[:, [0, 2]].any()
    assert 0.45 < parameters.mirror[:, 1].mean() < 0.55
    # White stays grey, scaled by the contrast alone: the rows of each channel sum to it.
    contrast = parameters.colour.sum(axis=1)
    np.testing.assert_allclose(contrast, contrast[:, :1].repeat(3, axis=1), atol=1e-6)
    assert 0.8 <= contrast.min() < 0.81 < 1.19 < contrast.max() <= 1.2 + 1e-6
    # A pure red pixel's distance from grey is scaled by contrast times saturation.
    saturation = (parameters.colour[:, 0, 0] - parameters.colour[:, 0, 1]) / contrast[:, 0]
    assert 0.7 - 1e-6 <= saturation.min() < 0.71 < 1.29 < saturation.max() <= 1.3 + 1e-6
    brightness = parameters.offset[:, 0] - 127.5 * (1 - contrast[:, 0])
    assert -24.1 < brightness.min() < -23 < 23 < brightness.max() < 24.1


def test_colours_follow_saturation_then_contrast_then_brightness():
    from PIL import ImageEnhance

    parameters = draw_augmentation(np.random.default_rng(0), 3)
    pixels = np.random.default_rng(1).integers(60, 196, (3, 112, 112, 3)).astype("uint8")
    recoloured = np.array(recolour(pixels, parameters.colour, parameters.offset))
    for row in range(3):
        contrast = parameters.colour[row].sum(axis=0)[0]
        saturation = (parameters.colour[row, 0, 0] - parameters.colour[row, 0, 1]) / contrast
        brightness = parameters.offset[row, 0] - 127.5 * (1 - contrast)
        enhanced = ImageEnhance.Color(Image.fromarray(pixels[row])).enhance(saturation)
        expected = (np.array(enhanced, "float32") - 127.5) * contrast + 127.5 + brightness
        np.testing.assert_allclose(recoloured[row], expected.clip(0, 255), atol=1.5)


def test_augmented_pixels_differ_and_stay_in_range(image):
    parameters = draw_augmentation(np.random.default_rng(0), 20)
    moved = np.stack([move(image, *both) for both in zip(*parameters[:2], strict=True)])
    augmented = np.array(recolour(moved, parameters.colour, parameters.offset))
    assert augmented.dtype == np.float32
    assert augmented.min() == 0  # noise reaches both ends
    assert augmented.max() == 255
    assert np.abs(augmented - np.array(image, "float32")).mean(axis=(1, 2, 3)).min() > 1


# Splits


def test_split_keeps_each_person_in_one_part(tmp_path):
    for number in range(10):
        for image in range(1 + number % 3):
            save_noise(tmp_path / f"person {number}" / f"{image}.jpg", 10 * number + image)
    faces = FaceFolder(tmp_path)
    train, held_out = faces.split(4, seed=3)
    assert (train.num_classes, held_out.num_classes) == (6, 4)
    assert sorted(train.identities + held_out.identities) == faces.identities
    assert sorted(train.paths + held_out.paths) == faces.paths
    for part in (train, held_out):
        assert part.labels.dtype == np.int32
        assert set(part.labels) == set(range(part.num_classes))
        for path, label in zip(part.paths, part.labels, strict=True):
            assert Path(path).parent.name == part.identities[label]
        images, labels = collect(part.dataset(4))
        np.testing.assert_array_equal(images, [read_face(path) for path in part.paths])
        np.testing.assert_array_equal(labels, part.labels)
    assert faces.split(4, seed=3)[1].identities == held_out.identities
    assert any(faces.split(4, seed=seed)[1].identities != held_out.identities for seed in range(3))
    assert (faces.num_classes, len(faces)) == (10, 19)


@pytest.mark.parametrize("held_out", [0, 1, 2])
def test_split_leaves_two_identities_in_both_parts(directory, held_out):
    with pytest.raises(ValueError, match=f"held_out_identities={held_out}"):
        FaceFolder(directory).split(held_out)


def test_split_images_keeps_the_labels_in_both_parts(directory):
    faces = FaceFolder(directory)
    train, held_out = faces.split_images(2)
    assert train.identities == held_out.identities == faces.identities
    assert np.bincount(train.labels, minlength=3).tolist() == [1, 2, 2]
    assert np.bincount(held_out.labels, minlength=3).tolist() == [2, 2, 0]
    assert sorted(train.paths + held_out.paths) == sorted(faces.paths)
    for path, label in zip(held_out.paths, held_out.labels, strict=True):
        assert Path(path).parent.name == faces.identities[label]
    assert faces.split_images(2)[1].paths == held_out.paths
    assert any(faces.split_images(2, seed=seed)[1].paths != held_out.paths for seed in range(1, 5))
    assert repr(held_out)


@pytest.mark.parametrize("held_out", [0, 4])
def test_split_images_needs_images_to_hold_out(directory, held_out):
    with pytest.raises(ValueError, match=f"held_out_per_identity={held_out}"):
        FaceFolder(directory).split_images(held_out)
