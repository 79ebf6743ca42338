import numpy as np
import pytest

from keras_facemargin.export.images import check_images
from keras_facemargin.images import alignment_report

SHAPE = (112, 112, 3)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_good_images_come_back_unchanged(faces, dtype):
    images = faces[:2].astype(dtype)
    assert check_images(images, SHAPE) is images


@pytest.mark.parametrize("shape", [(112, 112, 3), (2, 160, 160, 3), (2, 3, 112, 112), (0, *SHAPE)])
def test_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"\(N, 112, 112, 3\).*Received: shape"):
        check_images(np.zeros(shape, "uint8"), SHAPE)


def test_wrong_dtype(faces):
    with pytest.raises(ValueError, match="Received: dtype int64"):
        check_images(faces.astype("int64"), SHAPE)


@pytest.mark.parametrize(
    ("change", "received"),
    [
        (lambda x: x / 255, "from 0 to 1"),
        (lambda x: x / 127.5 - 1, "from -1 to 1"),
        (lambda x: x * 2, "from 0 to 510"),
        (lambda x: np.where(x > 200, np.nan, x), "from nan to nan"),
    ],
)
def test_wrong_range(faces, change, received):
    images = faces[:2].astype("float32")
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    with pytest.raises(ValueError, match=rf"RGB 0\.\.255.*Received: values {received}"):
        check_images(change(images), SHAPE)


def test_default_images_are_synthetic_faces():
    images = check_images(None, SHAPE)
    assert images.shape == (64, *SHAPE)
    assert images.dtype == np.uint8
    assert len(np.unique(images.reshape(64, -1), axis=0)) == 64


@pytest.mark.parametrize("sides", [(112, 96), (150, 150)])
def test_default_images_have_the_crop_of_the_embedder(sides):
    images = check_images(None, (*sides, 3))
    assert images.shape == (64, *sides, 3)
    assert alignment_report(images).aligned


def test_a_crop_without_a_template_has_no_default_images():
    rule = r"passed for this embedder, \(N, 80, 90, 3\).*Received: images=None and a crop of 80x90"
    with pytest.raises(ValueError, match=rule):
        check_images(None, (80, 90, 3))


@pytest.mark.parametrize("shape", [(2, 112, 112), (2, 112, 112, 1)])
def test_grey_images(shape):
    with pytest.raises(ValueError, match=rf"Received: shape \({shape[0]}, .*one channel of grey"):
        check_images(np.full(shape, 99, "uint8"), SHAPE)


def test_images_of_several_sizes():
    images = [np.zeros((112, 112, 3)), np.zeros((112, 96, 3))]
    with pytest.raises(ValueError, match="Received: a list of arrays of several shapes"):
        check_images(images, SHAPE)


def test_bytes_that_were_scaled_before_they_were_rounded(faces):
    with pytest.raises(ValueError, match="Received: uint8 values from 0 to 1"):
        check_images((faces / 255).round().astype("uint8"), SHAPE)


@pytest.mark.parametrize("images", ["faces", b"faces", 3, object()])
def test_what_is_not_an_array(images):
    with pytest.raises(ValueError, match=r"Received: shape \(\)"):
        check_images(images, SHAPE)
