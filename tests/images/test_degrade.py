"""degrade: the kinds by their stated rules, and the errors."""

import io

import numpy as np
import pytest
from PIL import Image

from keras_facemargin.images.degrade import KINDS, blur, compress, degrade, shrink


@pytest.fixture(scope="module")
def crop():
    rows, columns = np.mgrid[0:112, 0:96]
    image = np.stack([2 * rows, 2 * columns, rows + columns], axis=-1)
    return (image + np.random.default_rng(0).integers(0, 40, image.shape)).clip(0, 255).astype("u1")


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_always_gives_the_same_worse_crop(crop, kind):
    before = crop.copy()
    worse = degrade(crop, kind)
    assert worse.shape == crop.shape and worse.dtype == np.uint8 and worse.flags.c_contiguous
    np.testing.assert_array_equal(degrade(crop, kind), worse)
    np.testing.assert_array_equal(crop, before)
    assert np.abs(worse.astype(int) - crop).mean() > 2


def test_harder_kinds_keep_less_detail(crop):
    def detail(kind):
        return np.abs(np.diff(degrade(crop, kind).astype(int), axis=1)).mean()

    for kinds in (("clean", "28px", "20px", "14px"), ("clean", "blur0.5", "blur2", "blur4")):
        found = [detail(kind) for kind in kinds]
        assert sorted(found, reverse=True) == found and len(set(found)) == len(found)


def test_shrinking_averages_areas_and_keeps_the_proportion():
    crop = np.zeros((112, 112, 3), "uint8")
    crop[:56] = 200
    small = np.asarray(Image.fromarray(shrink(crop, 14)))
    np.testing.assert_array_equal(small[4], np.full((112, 3), 200))  # the middle of a small pixel
    np.testing.assert_array_equal(small[-5], np.zeros((112, 3)))
    assert shrink(np.zeros((4, 400, 3), "uint8"), 1).shape == (4, 400, 3)
    np.testing.assert_array_equal(shrink(crop, 112), crop)
    assert shrink(crop, 112) is not crop


def test_a_blurred_point_is_a_gaussian_of_that_deviation():
    crop = np.zeros((112, 112, 3), "uint8")
    crop[56, 56] = 255
    column = blur(crop, 2.0)[:, 56, 0].astype(float)
    expected = 255 * np.exp(-0.5 * ((np.arange(112) - 56) / 2) ** 2) / (2 * np.pi * 4)
    np.testing.assert_allclose(column, expected, atol=0.51)


def test_a_blur_is_measured_in_pixels_of_112_and_keeps_a_flat_crop():
    large = np.zeros((224, 224, 3), "uint8")
    large[112:] = 255
    rows = blur(large, 3.0)[:, 0, 0].astype(float)
    edge = np.diff(rows)
    places = np.arange(len(edge))
    mean = (edge * places).sum() / edge.sum()
    deviation = np.sqrt((edge * (places - mean) ** 2).sum() / edge.sum())
    assert abs(deviation - 6.0) < 0.1
    flat = np.full((50, 40, 3), 77, "uint8")
    np.testing.assert_array_equal(blur(flat, 5.0), flat)
    np.testing.assert_array_equal(blur(flat, 0.0), flat)


def test_compression_is_that_of_libjpeg(crop):
    stream = io.BytesIO()
    Image.fromarray(crop).save(stream, "JPEG", quality=8)
    np.testing.assert_array_equal(compress(crop, 8), np.asarray(Image.open(stream)))


@pytest.mark.parametrize("kind", ["", "px", "0px", "20 px", "blur", "blur-1", "jpeg0", "jpeg101"])
def test_an_unknown_kind_is_refused(crop, kind):
    with pytest.raises(ValueError, match=r"`kind` must be clean, .* Received: kind="):
        degrade(crop, kind)


@pytest.mark.parametrize(
    ("function", "strength"), [(shrink, 0), (blur, -1.0), (blur, float("nan")), (compress, 0)]
)
def test_a_strength_out_of_its_range_is_refused(crop, function, strength):
    with pytest.raises(ValueError, match="Received: "):
        function(crop, strength)


@pytest.mark.parametrize(
    "crop", [None, np.zeros((4, 4), "uint8"), np.zeros((4, 4, 3)), np.zeros((1, 4, 4, 3), "uint8")]
)
def test_another_array_is_refused(crop):
    for kind in ("clean", *KINDS):
        with pytest.raises(ValueError, match=r"uint8 array of shape \(H, W, 3\). Received: "):
            degrade(crop, kind)
