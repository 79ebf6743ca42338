"""Backbones with published weights: their size and their conventions are the published ones."""

import math

import keras
import numpy as np
import pytest

from keras_facemargin import backbones
from keras_facemargin.backbones.padding import pad_before_stride

LINEAR = "a linear layer without bias and batch normalisation, after global average pooling"
GDC = "a global depthwise convolution, a linear layer without bias, batch normalisation after each"
OPTION_E = "batch normalisation, a linear layer with bias, batch normalisation"


def output_weights(backbone, output, dim=512):
    """Trainable numbers of the published output on top of the last map."""
    rows, columns, channels = backbone.output_shape[1:]
    if output is OPTION_E:
        return 2 * channels + rows * columns * channels * dim + dim + 2 * dim
    linear = channels * dim + 2 * dim
    return linear if output is LINEAR else linear + rows * columns * channels + 2 * channels


# Numbers of the published definitions: InsightFace's arcface_torch/backbones (R50: 43.59 M, R100:
# 65.16 M), facenet-pytorch (without the classifier), and GhostFaceNets' table (4.06 M and 28,552
# moving statistics: 4.09 M).
PUBLISHED = [
    ("IResNet18", {}, OPTION_E, 24_025_600),
    ("IResNet34", {}, OPTION_E, 34_139_328),
    ("IResNet50", {}, OPTION_E, 43_590_848),
    ("IResNet100", {}, OPTION_E, 65_156_160),
    ("InceptionResNetV1", {}, LINEAR, 23_482_624),
    ("GhostFaceNetV1", {}, GDC, 4_058_608),
    ("MobileFaceNetLarge", {"depths": (1, 4, 6, 2)}, GDC, 2_059_520),
    ("MobileFaceNetLarge", {}, GDC, 3_349_888),
    ("MobileFaceNetLarge", {"scale": 4}, GDC, 6_314_880),
]


@pytest.mark.parametrize(("name", "arguments", "output", "published"), PUBLISHED)
def test_the_number_of_weights_is_the_published_one(name, arguments, output, published):
    backbone = getattr(backbones, name)(**arguments)
    trainable = sum(math.prod(weight.shape) for weight in backbone.trainable_weights)
    assert trainable + output_weights(backbone, output) == published


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("IResNet18", (7, 7, 512)),
        ("InceptionResNetV1", (3, 3, 1792)),
        ("GhostFaceNetV1", (7, 7, 664)),
        ("MobileFaceNetLarge", (7, 7, 512)),
    ],
)
def test_a_crop_ends_at_the_published_map(name, shape):
    assert getattr(backbones, name)().output_shape == (None, *shape)


def test_a_stem_with_stride_halves_ghostfacenets_map():
    assert backbones.GhostFaceNetV1(width=0.5, strides=2).output_shape == (None, 4, 4, 256)


@pytest.mark.any_backend
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_symmetric_padding_is_pytorchs(size, padding):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1, 6, 6, 2)).astype("float32")
    kernel = rng.normal(size=(size, size, 2, 3)).astype("float32")
    image = keras.Input((6, 6, 2))
    x, mode = pad_before_stride(image, size, 2, padding, "conv")
    model = keras.Model(image, keras.layers.Conv2D(3, size, 2, mode, use_bias=False)(x))
    model.set_weights([kernel])
    theirs = torch.nn.functional.conv2d(
        torch.from_numpy(images.transpose(0, 3, 1, 2)),
        torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()),
        stride=2,
        padding=size // 2,
    )
    difference = np.abs(model.predict(images, verbose=0) - theirs.numpy().transpose(0, 2, 3, 1))
    assert difference.shape == (1, 3, 3, 3)
    assert (difference.max() < 1e-5) == (padding == "symmetric" or size == 1)


def test_epsilon_reaches_every_batch_normalisation():
    for make in (
        lambda: backbones.IResNet((1, 1, 1, 1), (32, 32, 3), epsilon=0.5),
        lambda: backbones.MobileFaceNet((32, 32, 3), epsilon=0.5),
        lambda: backbones.MobileFaceNetLarge((32, 32, 3), epsilon=0.5),
        lambda: backbones.GhostFaceNetV1((32, 32, 3), width=0.5, epsilon=0.5),
        lambda: backbones.InceptionResNetV1((80, 80, 3), epsilon=0.5),
    ):
        layers = [x for x in make().layers if isinstance(x, keras.layers.BatchNormalization)]
        assert {layer.epsilon for layer in layers} == {0.5}


def test_the_gate_of_squeeze_and_excitation_is_keras_2s_hard_sigmoid():
    backbone = backbones.GhostFaceNetV1((32, 32, 3), width=0.5)
    values = np.array([-3.0, -2.5, -1.0, 0.0, 1.0, 2.5, 3.0], "float32").reshape(1, 1, 1, -1)
    line = backbone.get_layer("unit4_squeeze_gate_line")(values)
    gate = keras.ops.convert_to_numpy(backbone.get_layer("unit4_squeeze_gate")(line))
    np.testing.assert_allclose(gate.ravel(), np.clip(0.2 * values + 0.5, 0, 1).ravel(), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: backbones.IResNet((1, 2, 3)), r"four positive integers.*Received: \(1, 2, 3\)"),
        (lambda: backbones.IResNet((1, 1, 1, 0)), "four positive integers"),
        (lambda: backbones.IResNet((1, 1, 1, 1), padding="valid"), "Received: padding='valid'"),
        (lambda: backbones.MobileFaceNet(padding=1), "Received: padding=1"),
        (lambda: backbones.MobileFaceNetLarge(depths=(1,)), "four positive integers"),
        (lambda: backbones.GhostFaceNetV1(width=0), "Received: width=0"),
        (lambda: backbones.GhostFaceNetV1(strides=3), "Received: strides=3"),
    ],
)
def test_wrong_arguments_are_one_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.any_backend
def test_a_saved_network_gives_the_same_map(tmp_path):
    backbone = backbones.MobileFaceNetLarge((32, 32, 3), depths=(1, 1, 1, 1))
    image = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    backbone.save(tmp_path / "backbone.keras")
    reopened = keras.saving.load_model(tmp_path / "backbone.keras")
    np.testing.assert_allclose(
        reopened.predict(image, verbose=0), backbone.predict(image, verbose=0), atol=1e-5
    )
