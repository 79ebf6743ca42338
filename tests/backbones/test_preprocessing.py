"""Pixels by family: only for complete networks of keras.applications, and as these want them."""

import importlib

import keras
import numpy as np
import pytest

from keras_facemargin.backbones.preprocessing import (
    applications,
    preprocess,
    preprocessing_of,
    preprocessing_of_family,
)

layers = keras.layers
FAMILIES = sorted(
    {make.__module__.rpartition(".")[2]: name for name, make in applications().items()}.values()
)


def test_keras_applications_are_found():
    assert {"ConvNeXtTiny", "MobileNetV2", "NASNetLarge", "ResNet50", "VGG16"} <= set(
        applications()
    )
    assert len(FAMILIES) == 15


@pytest.mark.any_backend
@pytest.mark.parametrize("name", FAMILIES)
def test_pixels_reach_each_family_as_its_own_preprocessing_gives_them(name):
    make = applications()[name]
    family = importlib.import_module(make.__module__.replace("keras.src.", "keras."))
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 4, 4, 3)).astype("float32")
    image = keras.Input((4, 4, 3))
    prepared = keras.Model(image, preprocess(image, preprocessing_of_family(make)))(pixels)
    expected = family.preprocess_input(pixels.copy())
    np.testing.assert_allclose(keras.ops.convert_to_numpy(prepared), expected, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(applications()))
def test_every_application_is_known_as_an_instance(name):
    make = applications()[name]
    model = make(include_top=False, weights=None, input_shape=(224, 224, 3))
    assert preprocessing_of(model) == preprocessing_of_family(make)
    assert preprocessing_of(keras.models.clone_model(model)) == preprocessing_of_family(make)


def mobilenet(**arguments):
    return keras.applications.MobileNetV2(include_top=False, weights=None, **arguments)


@pytest.mark.any_backend
def test_an_application_is_known_after_saving_and_freezing(tmp_path):
    model = mobilenet(alpha=0.35, input_shape=(96, 96, 3))
    model.trainable = False
    model.save(tmp_path / "model.keras")
    assert preprocessing_of(keras.models.load_model(tmp_path / "model.keras")) == "tf"


def renamed():
    return mobilenet(alpha=0.35, name="face")


def trimmed():
    model = mobilenet(alpha=0.35, input_shape=(96, 96, 3))
    return keras.Model(model.input, model.get_layer("block_12_add").output, name=model.name)


def with_another_layer():
    model = mobilenet(alpha=0.35, input_shape=(96, 96, 3))
    return keras.Model(model.input, layers.Conv2D(8, 1)(model.output), name=model.name)


def narrower_than_its_name():
    return mobilenet(alpha=0.35, name="mobilenetv2_1.00_224")


def own(*first, name="mine"):
    return keras.Sequential([keras.Input((32, 32, 3)), *first, layers.Conv2D(4, 3)], name=name)


@pytest.mark.parametrize(
    "make",
    [
        renamed,
        trimmed,
        with_another_layer,
        narrower_than_its_name,
        lambda: own(name="resnet50"),
        lambda: own(name="vgg_face"),
        lambda: own(name="resnet18_mine"),
        lambda: own(name="efficientnetb0"),
        lambda: own(layers.Conv2D(3, 1), layers.Rescaling(0.5)),
        lambda: own(layers.Rescaling(2.0, -1.0)),
        lambda: own(layers.Normalization(mean=[0.5] * 3, variance=[0.06] * 3)),
    ],
    ids=[
        "renamed",
        "trimmed",
        "with another layer",
        "narrower than its name",
        "own resnet50",
        "own vgg_face",
        "own resnet18",
        "own efficientnet",
        "a scale between layers",
        "rescaling of 0..1",
        "normalization of 0..1",
    ],
)
def test_other_models_are_refused(make):
    with pytest.raises(
        ValueError, match=r"pixels.*unknown.*Pass `preprocessing`.*\(mean, std, ord"
    ):
        preprocessing_of(make())


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "first",
    [
        [layers.Rescaling(1 / 127.5, -1.0)],
        [layers.Rescaling(1.0, [-104.0, -117.0, -124.0])],
        [layers.Normalization(mean=[127.5] * 3, variance=[4096.0] * 3)],
        [layers.ZeroPadding2D(1), layers.Rescaling(1 / 255)],
        [keras.Sequential([keras.Input((32, 32, 3)), layers.Rescaling(1 / 255)])],
        [layers.Rescaling(1 / 255), layers.Normalization(mean=[0.5] * 3, variance=[0.06] * 3)],
    ],
    ids=["rescaling", "mean only", "normalization", "after padding", "nested", "both"],
)
def test_a_first_layer_that_takes_bytes_is_preprocessing(first):
    assert preprocessing_of(own(*first, name="resnet50")) == "inside"


def test_an_application_on_top_of_own_preprocessing_scales_inside():
    image = keras.Input((96, 96, 3))
    model = mobilenet(alpha=0.35, input_tensor=layers.Rescaling(1 / 255)(image))
    assert preprocessing_of(model) == "inside"


def test_an_application_without_its_preprocessing_is_refused():
    model = keras.applications.MobileNetV3Small(
        include_top=False, weights=None, include_preprocessing=False
    )
    with pytest.raises(ValueError, match="MobileNetV3Small"):
        preprocessing_of(model)
