"""The one record of a crop: its templates, its scales, and the sizes that it is read from."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_facemargin.images.crop import Crop


def test_templates_are_the_published_ones():
    arcface = Crop.of()
    assert arcface.shape == (112, 112)
    assert arcface.points[[0, 4]].tolist() == [[38.2946, 51.6963], [70.7299, 92.2041]]
    sphereface = Crop.of(template="sphereface")
    assert sphereface.shape == (112, 96)
    np.testing.assert_allclose(sphereface.points, arcface.points - [8, 0])


def test_the_dlib_template_is_where_dlibs_own_chip_has_the_arcface_points():
    """The measured similarity from ArcFace's crop to dlib's chip, whose five points differ."""
    matrix = np.array([[1.49108, -0.01078, -8.535], [0.01078, 1.49108, -32.425]])
    carried = Crop.of().points @ matrix[:, :2].T + matrix[:, 2]
    dlib = Crop.of(template="dlib")
    assert dlib.shape == (150, 150)
    np.testing.assert_allclose(dlib.points.mean(0), carried.mean(0), atol=0.02)
    np.testing.assert_allclose(dlib.points, carried, atol=3)


def test_a_crop_scales_about_its_corner():
    large = Crop.of(224)
    assert large.shape == (224, 224)
    np.testing.assert_allclose(large.points + 0.5, 2 * (Crop.of().points + 0.5))
    assert Crop.of(224, "sphereface").shape == (224, 192)
    # FaceNet's size: the ArcFace template, scaled.
    np.testing.assert_allclose(Crop.of(160).points, (Crop.of().points + 0.5) * 160 / 112 - 0.5)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (None, Crop(112, 112, "arcface")),
        (112, Crop(112, 112, "arcface")),
        (np.int64(160), Crop(160, 160, "arcface")),
        (150, Crop(150, 150, "dlib")),
        ((112, 96), Crop(112, 96, "sphereface")),
        ([56, 48], Crop(56, 48, "sphereface")),
        ((96, 112), Crop(96, 112, None)),
        (Crop(150, 150, "arcface"), Crop(150, 150, "arcface")),
    ],
)
def test_a_size_names_its_crop(size, expected):
    assert Crop.of(size) == expected
    assert Crop.of(expected) is expected
    assert Crop.of(expected.size) == expected or expected.template == "arcface"


def test_the_input_of_an_embedder_names_its_crop():
    def embedder(*sides):
        return keras.Sequential([keras.Input((*sides, 3)), keras.layers.Flatten()])

    assert Crop.of_embedder(embedder(112, 96)) == Crop(112, 96, "sphereface")
    assert Crop.of_embedder(embedder(150, 150)) == Crop(150, 150, "dlib")
    noted = embedder(150, 150)
    noted.crop = Crop(150, 150, "arcface")  # as `load_embedder` notes it
    assert Crop.of_embedder(noted) is noted.crop
    open_sides = keras.Sequential([keras.Input((None, None, 3))])
    assert Crop.of_embedder(open_sides) == Crop.of_embedder(np.mean) == Crop(112, 112)


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ((112, "ArcFace"), "template='ArcFace'"),
        ((112, ["dlib"]), r"template=\['dlib'\]"),
        ((0,), "height=0"),
        ((5000,), "height=5000"),
        ((112.5,), "size=112.5"),
        ((True,), "size=True"),
        (((112, 96, 3),), r"size=\(112, 96, 3\)"),
        (((112, None),), r"size=\(112, None\)"),
        ((100, "sphereface"), "multiple of 7.*size=100"),
        (((112, 112), "sphereface"), "112x96.*Received: 112x112"),
        (((112, 96), "arcface"), "112x112.*Received: 112x96"),
        ((Crop(112, 112), "dlib"), "one template.*template='dlib'"),
    ],
)
def test_an_unknown_template_or_size_is_refused(arguments, received):
    with pytest.raises(ValueError, match=received):
        Crop.of(*arguments)


def test_a_crop_without_a_template_has_no_points():
    with pytest.raises(ValueError, match=r"Received: 96x112 without a template.*sphereface 112x96"):
        Crop.of((96, 112)).points  # noqa: B018


def test_a_crop_is_frozen_and_holds_plain_integers():
    crop = Crop(np.int64(112), np.int32(96), "sphereface")
    assert dataclasses.asdict(crop) == {"height": 112, "width": 96, "template": "sphereface"}
    assert type(crop.height) is int
    with pytest.raises(dataclasses.FrozenInstanceError):
        crop.height = 1
