"""The effective resolution of a crop follows its damage."""

import numpy as np
import pytest

from keras_facemargin.images import synthesize_faces
from keras_facemargin.images.degrade import degrade
from keras_facemargin.quality import effective_resolution


@pytest.fixture(scope="module")
def crops():
    """Crops with detail at every scale: noise whose power falls as that of photos."""
    rng = np.random.default_rng(0)
    rows, columns = np.fft.fftfreq(112)[:, None], np.fft.fftfreq(112)
    scale = np.maximum(np.hypot(rows, columns), 1 / 112) ** -1.6
    waves = np.fft.fft2(rng.normal(size=(8, 112, 112))) * scale
    grey = np.fft.ifft2(waves).real
    grey = 128 + 45 * grey / grey.std(axis=(1, 2), keepdims=True)
    return np.repeat(grey.clip(0, 255).astype("uint8")[..., None], 3, axis=3)


def of(crops, kind):
    return effective_resolution(np.stack([degrade(crop, kind) for crop in crops]))


@pytest.mark.parametrize("kinds", [("64px", "40px", "28px", "20px"), ("blur1", "blur1.5", "blur2")])
def test_more_damage_leaves_fewer_pixels(crops, kinds):
    medians = [np.median(of(crops, kind)) for kind in ("clean", *kinds)]
    assert medians == sorted(medians, reverse=True)
    assert medians[0] > 20 > 10 > medians[-1]


def test_blocks_of_a_jpeg_are_not_detail(crops):
    assert (of(crops, "jpeg8") < 0.6 * of(crops, "clean")).all()


def test_noise_on_a_small_face_is_not_detail(crops):
    small = np.stack([degrade(crop, "20px") for crop in crops])
    noise = np.random.default_rng(1).normal(0, 2, small.shape)
    noisy = (small + noise).round().clip(0, 255).astype("uint8")
    assert (effective_resolution(noisy) < 12).all()


@pytest.mark.parametrize("shape", [(150, 150), (112, 96), (224, 224), (160, 120)])
def test_crops_of_another_size_read_alike(crops, shape):
    from PIL import Image

    height, width = shape
    side = max(height, round(height * 96 / 112)) if shape == (112, 96) else height
    resized = [np.asarray(Image.fromarray(crop).resize((side, side))) for crop in crops]
    start = (side - width) // 2
    cut = np.stack(resized)[:, :height, start : start + width]
    blurred = np.stack([degrade(crop, "blur4") for crop in cut])
    assert np.median(effective_resolution(cut)) > 3 * np.median(effective_resolution(blurred))


def test_a_flat_crop_has_no_detail():
    assert effective_resolution(np.full((1, 112, 112, 3), 90, "uint8")).tolist() == [0]


def test_a_tiny_crop_is_read():
    faces, _ = synthesize_faces(1, 2, size=32)
    found = effective_resolution(faces)
    assert found.shape == (2,) and (found > 0).all()


@pytest.mark.parametrize(
    "wrong", [np.zeros((112, 112, 3), "uint8"), np.zeros((1, 112, 112, 3)), np.zeros(3, "uint8")]
)
def test_other_arrays_are_refused(wrong):
    with pytest.raises(ValueError, match="uint8 of shape"):
        effective_resolution(wrong)
