"""SphereNet: shapes, the paper's layer count, and that it stays a plain stack of stock layers."""

import keras
import numpy as np
import pytest
from inference import infer

from keras_facemargin.backbones.spherenet import SphereNet

SMALL = {"widths": (4, 4, 8, 8), "depths": (0, 1, 0, 0)}
pytestmark = pytest.mark.any_backend


def count(model, kind):
    return sum(isinstance(layer, kind) for layer in model.layers)


def test_defaults_are_spherefaces_twenty_layers():
    backbone = SphereNet()
    assert backbone.output_shape == (None, 7, 7, 512)
    # Table 2 of the paper, the 20-layer column: conv1.x to conv4.x hold 3, 5, 9 and 3.
    assert count(backbone, keras.layers.Conv2D) == 20
    assert count(backbone, keras.layers.Add) == 8


def test_each_stage_halves_the_map():
    assert SphereNet((96, 64, 3), **SMALL).output_shape == (None, 6, 4, 8)


def test_slopes_are_one_per_channel():
    slopes = [w for w in SphereNet(**SMALL).weights if "prelu" in w.path]
    assert slopes
    assert all(w.shape[:2] == (1, 1) for w in slopes)


def test_another_activation_is_one_layer_each():
    backbone = SphereNet(**SMALL, activation="relu")
    assert count(backbone, keras.layers.PReLU) == 0
    assert count(backbone, keras.layers.Activation) == count(SphereNet(**SMALL), keras.layers.PReLU)


def test_pixels_are_scaled_inside():
    backbone = SphereNet(**SMALL)
    rescale = backbone.get_layer("rescale")
    extremes = rescale(np.array([0.0, 127.5, 255.0]).reshape(1, 1, 1, 3))
    np.testing.assert_allclose(np.ravel(extremes), [-1, 0, 1], atol=1e-6)


def test_saved_network_gives_the_same_map(tmp_path):
    backbone = SphereNet(**SMALL)
    image = np.random.default_rng(0).uniform(0, 255, (1, 112, 112, 3)).astype("float32")
    backbone.save(tmp_path / "backbone.keras")
    reopened = keras.saving.load_model(tmp_path / "backbone.keras")
    np.testing.assert_allclose(infer(reopened, image), infer(backbone, image), atol=1e-6)


def test_stages_need_one_depth_each():
    with pytest.raises(ValueError, match=r"one entry per stage.*Received: widths=\(4, 8\)"):
        SphereNet(widths=(4, 8), depths=(1,))
