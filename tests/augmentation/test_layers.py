"""Augmentation layers: pixels and draws of each, in a model and in tf.data, on each backend."""

import inspect
import io

import keras
import numpy as np
import pytest
from PIL import Image

from keras_facemargin.augmentation import layers
from keras_facemargin.augmentation.layers import (
    FaceAugmentation,
    RandomBlur,
    RandomCropAndPad,
    RandomCutout,
    RandomFaceMask,
    RandomJPEG,
    RandomLowResolution,
    RandomMirror,
    RandomPhotometric,
    RandomShift,
)
from keras_facemargin.augmentation.light import SHIFT, augment, draw_augmentation
from keras_facemargin.images.crop import TEMPLATES, Crop
from keras_facemargin.images.synthetic import synthesize_faces

ALL = [value for name, value in sorted(vars(layers).items()) if name.startswith("Random")]
# Settings under which a layer changes nothing although it works on every image.
NOTHING = {
    RandomBlur: {"sigma": (0, 0)},
    RandomCropAndPad: {"scale": (1, 1), "ratio": (1, 1)},
    RandomCutout: {"size": (0, 0)},
    RandomFaceMask: {"top": (112, 112)},
    RandomJPEG: {"rate": 0.0},
    RandomLowResolution: {"scale": (1, 1)},
    RandomMirror: {"rate": 0.0},
    RandomPhotometric: {"brightness": 0, "contrast": 0, "saturation": 0},
    RandomShift: {"pixels": 0},
}
TENSORFLOW = keras.backend.backend() == "tensorflow"
SIDES = [(31, 31), (112, 96), (21, 34)]  # jax compiles each layer again for each
pytestmark = pytest.mark.any_backend


@pytest.fixture(scope="module")
def faces():
    return synthesize_faces(6, 1)[0]


def call(layer, images, training=True):
    return keras.ops.convert_to_numpy(layer(images, training=training))


def transform(layer, images, numbers):
    images = keras.ops.convert_to_tensor(images.astype("float32"))
    numbers = keras.ops.convert_to_tensor(np.asarray(numbers, "float32"))
    return keras.ops.convert_to_numpy(layer.transform(images, numbers))


def test_all_nine_are_here():
    assert set(ALL) == set(NOTHING)


@pytest.mark.parametrize("kind", ALL)
def test_outside_of_training_nothing_changes(faces, kind):
    for training in (False, None):
        result = call(kind(rate=1.0), faces, training)
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result, faces)


@pytest.mark.parametrize("kind", ALL)
def test_at_rate_0_nothing_changes(faces, kind):
    np.testing.assert_array_equal(call(kind(rate=0.0), faces), faces)


@pytest.mark.parametrize("kind", ALL)
def test_at_strength_0_nothing_changes(faces, kind):
    layer = kind(**{"rate": 1.0, **NOTHING[kind]})
    np.testing.assert_allclose(call(layer, faces), faces, atol=1e-4)


@pytest.mark.parametrize("kind", ALL)
def test_images_stay_images(faces, kind):
    for images in (faces, faces.astype("float32"), np.zeros_like(faces), faces * 0 + 255):
        result = call(kind(rate=1.0, seed=1), images)
        assert (result.shape, result.dtype) == (faces.shape, np.float32)
        assert np.isfinite(result).all()
        assert result.min() >= 0
        assert result.max() <= 255
    assert not np.array_equal(call(kind(rate=1.0, seed=1), faces), faces)


@pytest.mark.parametrize("sides", SIDES if TENSORFLOW else SIDES[-1:])
@pytest.mark.parametrize("kind", ALL)
def test_any_size(kind, sides):
    if kind is RandomFaceMask and sides == (21, 34):
        sides = (42, 36)  # it needs a shape with a template
    images = np.random.default_rng(0).integers(0, 256, (3, *sides, 3)).astype("uint8")
    assert call(kind(rate=1.0, seed=0), images).shape == images.shape


@pytest.mark.parametrize("kind", ALL)
def test_the_same_seed_gives_the_same_images(faces, kind):
    first, again, other = (kind(rate=0.7, seed=seed) for seed in (1, 1, 2))
    images = call(first, faces)
    np.testing.assert_array_equal(images, call(again, faces))
    if kind is not RandomMirror:  # two ways only
        assert not np.array_equal(images, call(other, faces))
        assert not np.array_equal(images, call(first, faces))  # the next batch is drawn again


@pytest.mark.parametrize("kind", ALL)
def test_the_rate_is_the_share_that_changes_and_each_image_has_its_own_parameters(kind):
    images = np.repeat(synthesize_faces(1, 1)[0], 400, axis=0)[:, 40:72, 40:72]
    if kind is RandomFaceMask:
        images = np.repeat(synthesize_faces(1, 1)[0], 400, axis=0)
    result = call(kind(rate=0.3, seed=0), images)
    changed = (result != images).any(axis=(1, 2, 3)).mean()
    assert 0.3 - 4 * 0.023 < changed < 0.3 + 4 * 0.023  # four deviations
    different = len({image.tobytes() for image in result})
    assert different == 2 if kind is RandomMirror else different > 15


@pytest.mark.parametrize("kind", ALL)
def test_a_layer_comes_back_from_its_config(faces, kind):
    settings = {key: value for key, value in NOTHING[kind].items() if key != "rate"}
    layer = kind(rate=0.5, seed=3, **settings)
    model = keras.Sequential([keras.Input((112, 112, 3)), kind(rate=1.0, seed=3, name="a")])
    config = layer.get_config()
    assert (config["rate"], config["seed"]) == (0.5, 3)
    # A run resumes with the augmentation of its start, and compares texts.
    arguments = [name for name in inspect.signature(kind).parameters if name != "kwargs"]
    assert [name for name in config if name in arguments] == arguments
    assert {name: config[name] for name in settings} == settings
    assert kind.from_config(config).get_config() == config
    again = keras.models.model_from_json(model.to_json())
    np.testing.assert_array_equal(call(model, faces), call(again, faces))


# A pipeline is TensorFlow's on every backend.
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if TENSORFLOW or kind is RandomBlur else pytest.mark.slow)
        for kind in ALL
    ],
)
def test_in_a_pipeline_of_tensorflow(faces, kind):
    tf = pytest.importorskip("tensorflow")
    results = []
    for _ in range(2):
        layer = kind(rate=1.0, seed=5)
        dataset = tf.data.Dataset.from_tensor_slices((faces, np.arange(6))).batch(4)
        dataset = dataset.map(lambda x, y, layer=layer: (layer(x, training=True), y))
        images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
        assert np.concatenate(labels).tolist() == [0, 1, 2, 3, 4, 5]
        results.append(np.concatenate(images))
    np.testing.assert_array_equal(*results)
    assert (results[0].shape, results[0].dtype) == (faces.shape, np.float32)
    assert not np.array_equal(results[0], faces)


@pytest.mark.parametrize("kind", ALL)
def test_tensorflows_own_operations_do_the_same(faces, kind):
    tf = pytest.importorskip("tensorflow")
    layer = kind(rate=0.8)
    numbers = np.random.default_rng(0).random((6, layer.numbers)).astype("float32")
    ours = transform(layer, faces, numbers)
    ops = layers._tensorflow_operations()
    images = tf.constant(faces.astype("float32"))
    changed = layer.change(ops, images, [tf.constant(each) for each in numbers.T[1:]])
    theirs = np.where((numbers[:, 0] < 0.8)[:, None, None, None], changed.numpy(), faces)
    # JPEG rounds, and may do so the other way where sums differ in their last digit.
    assert (np.abs(ours - theirs) > 1e-2).mean() < 1e-2


def test_the_layers_work_in_a_model_that_is_trained(faces):
    model = keras.Sequential([keras.Input((112, 112, 3))])
    for number, kind in enumerate(ALL):
        model.add(kind(seed=number))
    model.add(keras.layers.GlobalAveragePooling2D())
    model.add(keras.layers.Dense(2))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(faces / np.float32(1), np.arange(6) % 2, batch_size=4, epochs=2, verbose=0)
    plain = keras.Sequential(model.layers[-2:])
    expected = plain.predict(faces.astype("float32"), verbose=0)
    np.testing.assert_allclose(model.predict(faces, verbose=0), expected, rtol=1e-4, atol=1e-3)


def test_half_precision_around_it_does_not_touch_the_pixels(faces):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        assert call(RandomMirror(rate=1.0), faces).dtype == np.float32
    finally:
        keras.config.set_dtype_policy("float32")


# Each layer


def test_mirroring_is_exact(faces):
    np.testing.assert_array_equal(call(RandomMirror(rate=1.0), faces), faces[:, :, ::-1])


def test_shifting_is_exact_and_fills_with_black(faces):
    layer = RandomShift(pixels=4)
    for down in range(9):
        for across in (0, 3, 8):
            numbers = [[0.0, (down + 0.5) / 9, (across + 0.5) / 9]]
            padded = np.pad(faces[:1], ((0, 0), (4, 4), (4, 4), (0, 0)))
            expected = padded[:, down : down + 112, across : across + 112]
            np.testing.assert_array_equal(transform(layer, faces[:1], numbers), expected)
    almost = np.nextafter(np.float32(1), np.float32(0))
    transform(layer, faces[:1], [[0.0, almost, almost]])


def test_three_layers_equal_the_default_of_the_pipeline(faces):
    rng = np.random.default_rng(3)
    expected = augment(faces, draw_augmentation(rng, 6))
    rng = np.random.default_rng(3)  # the same draws, as the layers' numbers
    corner = rng.integers(0, 2 * SHIFT + 1, (6, 2))
    mirrored = rng.random(6)
    jitter = rng.uniform(-1.0, 1.0, (3, 6))
    images = transform(RandomShift(), faces, np.c_[np.zeros(6), (corner + 0.5) / 9])
    images = transform(RandomMirror(), images, mirrored[:, None])
    images = transform(RandomPhotometric(), images, np.c_[np.zeros(6), (jitter.T + 1) / 2])
    np.testing.assert_allclose(images, expected, atol=2e-3)


def test_a_crop_keeps_a_rectangle_in_its_place(faces):
    layer = RandomCropAndPad(rate=1.0, seed=0)
    bright = np.repeat(faces[:1] // 2 + 100, 500, axis=0)
    result = call(layer, bright)
    kept = result.any(axis=-1)
    np.testing.assert_array_equal(result, np.where(kept[..., None], bright, 0))
    rows, columns = kept.any(axis=2), kept.any(axis=1)
    np.testing.assert_array_equal(kept, rows[:, :, None] & columns[:, None])
    for edges in (rows, columns):  # in one piece each
        assert (np.abs(np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(int))).sum(axis=1) == 2).all()
    height, width = rows.sum(axis=1), columns.sum(axis=1)
    area, ratio = height * width / 112**2, width / height
    assert 0.19 < area.min() < 0.25
    assert 0.9 < area.max() <= 1
    assert 0.55 < area.mean() < 0.63  # evenly between 0.2 and 1, cut where a side is too long
    assert 0.73 < ratio.min() < 0.8
    assert 1.27 < ratio.max() < 1.36
    assert abs(np.log(ratio).mean()) < 0.04
    first = rows.argmax(axis=1)
    assert first.min() == 0
    assert 0.4 < (first / np.maximum(112 - height, 1)).mean() < 0.6


@pytest.mark.parametrize("width", [112, 96])
@pytest.mark.parametrize("size", [22, 57, 111])
def test_low_resolution_is_pillows(faces, size, width):
    layer = RandomLowResolution(scale=(size / 112, size / 112))
    faces = faces[:, :, :width]
    result = transform(layer, faces, np.zeros((6, 2)))
    for face, image in zip(faces, result, strict=True):
        smaller = round(size * width / 112), size
        small = Image.fromarray(face).resize(smaller, Image.Resampling.BILINEAR)
        expected = np.asarray(small.resize((width, 112), Image.Resampling.BILINEAR), "float32")
        assert np.abs(image - expected).max() < 2.5  # Pillow rounds four times
        assert np.abs(image - expected).mean() < 0.5


def test_all_resolutions_are_drawn(faces):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 112, 112, 3))
    result = transform(
        RandomLowResolution(),
        np.repeat(pixels, 91, axis=0),
        np.c_[np.zeros(91), (np.arange(91) + 0.5) / 91],
    )
    sharpness = np.abs(np.diff(result, axis=2)).mean(axis=(1, 2, 3))
    assert sharpness[0] < 0.12 * sharpness[-1]
    np.testing.assert_allclose(result[-1], pixels[0], atol=1e-3)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0, 6.0])
def test_blur_is_gaussian(sigma):
    image = np.zeros((1, 61, 61, 3), "float32")
    image[0, 30, 30] = 255
    result = transform(RandomBlur(sigma=(sigma, sigma)), image, [[0.0, 0.5]])[0, :, :, 0]
    np.testing.assert_allclose(result.sum(), 255, rtol=1e-3)
    places = np.arange(61) - 30
    across = result.sum(axis=0) / 255
    assert abs((across * places).sum()) < 1e-3
    np.testing.assert_allclose((across * places**2).sum() ** 0.5, sigma, rtol=0.08)
    flat = transform(RandomBlur(sigma=(sigma, sigma)), image * 0 + 200, [[0.0, 0.5]])
    np.testing.assert_allclose(flat, 200, rtol=1e-5)  # the border is not darkened


@pytest.mark.parametrize("width", [112, 90])
@pytest.mark.parametrize("quality", [5, 49, 50, 95])
def test_jpeg_is_libjpegs_up_to_rounding(faces, quality, width):
    faces = np.ascontiguousarray(faces[:, :, :width])
    result = transform(RandomJPEG(quality=(quality, quality)), faces, np.zeros((6, 2)))
    np.testing.assert_array_equal(result, np.round(result))
    expected = []
    for face in faces:
        buffer = io.BytesIO()
        Image.fromarray(face).save(buffer, "JPEG", quality=quality, subsampling=2)
        expected.append(np.asarray(Image.open(buffer), "float32"))
    off, damage = np.abs(result - expected).mean(), np.abs(faces - np.array(expected)).mean()
    assert off < 0.7
    assert off < 0.5 * damage


def test_photometric_parameters_fill_their_ranges():
    grey = np.full((400, 4, 4, 3), 127.5, "float32")
    moved = call(RandomPhotometric(seed=0), grey)[:, 0, 0, 0] - 127.5  # contrast is about mid-grey
    assert -24 <= moved.min() < -22
    assert 22 < moved.max() <= 24
    assert abs(moved.mean()) < 3
    ramp = np.repeat(np.linspace(60, 190, 16).reshape(1, 4, 4, 1), 3, axis=3)
    result = call(RandomPhotometric(brightness=0, seed=0), np.repeat(ramp, 400, axis=0))
    contrast = np.ptp(result, axis=(1, 2))[:, 0] / 130
    assert 0.8 <= contrast.min() < 0.82
    assert 1.18 < contrast.max() <= 1.2001
    red = np.tile(np.array([200.0, 100.0, 100.0]), (400, 4, 4, 1))
    layer = RandomPhotometric(brightness=0, contrast=0, seed=0)
    result = call(layer, red)[:, 0, 0]
    saturation = (result[:, 0] - result[:, 1]) / 100
    assert 0.7 <= saturation.min() < 0.73
    assert 1.27 < saturation.max() <= 1.3001
    luma = result @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(luma, 129.9, atol=0.1)


def test_cutout_covers_a_square_with_its_value():
    white = np.full((300, 50, 50, 3), 255, "uint8")
    result = call(RandomCutout(size=(0.1, 0.4), value=7, rate=1.0, seed=0), white)
    assert set(np.unique(result)) == {7.0, 255.0}
    covered = (result == 7).all(axis=-1)
    height, width = covered.any(axis=2).sum(axis=1), covered.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(height, width)
    np.testing.assert_array_equal(covered.sum(axis=(1, 2)), height * width)
    assert (height.min(), height.max()) == (5, 20)
    # Everywhere, though corners seldom: without the outermost row and column it is 0.92.
    assert covered.any(axis=0).mean() > 0.95


def test_a_sphereface_crop_is_changed_as_the_arcface_crop_around_it(faces):
    narrow = faces[:, :, 8:104]
    for layer in (RandomFaceMask(rate=1.0), RandomPhotometric()):
        numbers = np.random.default_rng(0).random((6, layer.numbers))
        wide = transform(layer, faces, numbers)[:, :, 8:104]
        np.testing.assert_allclose(transform(layer, narrow, numbers), wide, atol=1e-2)
    numbers = np.random.default_rng(0).random((6, 3))
    shifted = transform(RandomShift(pixels=4), narrow, numbers)
    down, across = np.floor(numbers[:, 1:] * 9).astype(int).T
    padded = np.pad(narrow, ((0, 0), (4, 4), (4, 4), (0, 0)))
    for image, whole, row, column in zip(shifted, padded, down, across, strict=True):
        np.testing.assert_array_equal(image, whole[row : row + 112, column : column + 96])


def test_blur_of_a_crop_that_is_not_square_is_symmetric():
    image = np.zeros((1, 41, 61, 3), "float32")
    image[0, 20, 30] = 255
    result = transform(RandomBlur(sigma=(2, 2)), image, [[0.0, 0.5]])[0, :, :, 0]
    np.testing.assert_allclose(result[10:31, 20:41], result[10:31, 20:41].T, atol=1e-4)
    assert result.argmax() == 20 * 61 + 30


def test_a_mask_covers_mouth_and_chin_but_neither_eye(faces):
    images = np.repeat(faces[:1], 200, axis=0)
    result = call(RandomFaceMask(rate=1.0, seed=0), images)
    changed = (np.abs(result - images) > 1e-3).any(axis=-1).mean(axis=0)
    assert changed[:56].max() == 0  # brows and eyes, row 51.6
    for row, column in ((92, 42), (92, 56), (92, 71), (105, 56)):
        assert changed[row, column] > 0.97  # a drawn colour may be that of the skin
    assert 0.2 < changed[66, 56] < 0.9  # the edge moves over the nose
    assert changed[:, :16].max() == changed[:, 97:].max() == 0  # ears and background
    colours = result[:, 95, 56]
    assert 110 < colours.mean() < 145
    assert 65 < colours.std() < 82  # even over 0..255


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_a_mask_is_at_the_same_place_of_every_template(template):
    crop = Crop.of(template=template)
    eyes, nose, mouth = np.split(crop.points.round().astype(int), [2, 3])
    images = np.zeros((50, *crop.shape, 3), "float32")
    covered = (call(RandomFaceMask(rate=1.0, seed=0), images) > 0).any(axis=-1).mean(axis=0)
    assert covered[eyes[:, 1], eyes[:, 0]].max() == 0
    assert covered[mouth[:, 1], mouth[:, 0]].min() == 1
    assert 0.5 < covered[nose[:, 1] + 1, nose[:, 0]].item() <= 1


def test_a_mask_needs_a_template():
    with pytest.raises(ValueError, match="100x70 without a template"):
        call(RandomFaceMask(rate=1.0), np.zeros((1, 100, 70, 3), "float32"))


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (RandomMirror, {"rate": 1.1}, "`rate` must be in 0..1. Received: rate=1.1"),
        (RandomShift, {"pixels": -1}, "Received: pixels=-1"),
        (RandomShift, {"pixels": 1.5}, "Received: pixels=1.5"),
        (RandomCropAndPad, {"scale": (0.5, 0.2)}, r"Received: scale=\(0.5, 0.2\)"),
        (RandomCropAndPad, {"ratio": (0, 1)}, r"Received: ratio=\(0, 1\)"),
        (RandomLowResolution, {"scale": 0.5}, "two numbers .* Received: scale=0.5"),
        (RandomLowResolution, {"scale": (0, 1)}, "Received: scale"),
        (RandomBlur, {"sigma": (-1, 1)}, "Received: sigma"),
        (RandomJPEG, {"quality": (0, 50)}, "within 1..100. Received: quality"),
        (RandomJPEG, {"quality": (1.5, 50)}, "whole numbers. Received: quality"),
        (RandomPhotometric, {"contrast": -0.1}, "Received: contrast=-0.1"),
        (RandomPhotometric, {"brightness": 256}, "0..255. Received: brightness=256"),
        (RandomCutout, {"value": -1}, "Received: value=-1"),
        (RandomCutout, {"size": (0, 2)}, "Received: size"),
        (RandomFaceMask, {"top": (0, 113)}, "Received: top"),
    ],
)
def test_settings_out_of_range(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**settings)


def test_the_base_class_changes_no_image(faces):
    with pytest.raises(NotImplementedError):
        call(FaceAugmentation(rate=1.0), faces)
