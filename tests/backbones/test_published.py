"""Backbones with published weights: their size and their conventions are the published ones."""

import math

import keras
import numpy as np
import pytest
from inference import infer

from keras_facemargin import backbones, build_embedder
from keras_facemargin.backbones.padding import pad_before_stride

# Trainable numbers of the published definitions with 512 numbers: InsightFace's
# arcface_torch/backbones (R50: 43.59 M, R100: 65.16 M), facenet-pytorch without the classifier,
# GhostFaceNets' table (4.06 M and 28,552 moving statistics: 4.09 M). The gamma that InsightFace
# stores as 1 and does not train is not counted.
PUBLISHED = [
    ("IResNet18", "fc", 112, (7, 7, 512), 24_025_600 - 512),
    ("IResNet34", "fc", 112, (7, 7, 512), 34_139_328 - 512),
    ("IResNet50", "fc", 112, (7, 7, 512), 43_590_848 - 512),
    ("IResNet100", "fc", 112, (7, 7, 512), 65_156_160 - 512),
    ("InceptionResNetV1", "gap", 160, (3, 3, 1792), 23_482_624),
    ("GhostFaceNetV1", "gdc", 112, (7, 7, 664), 4_058_608),
    ("MobileFaceNetLarge", "gdc", 112, (7, 7, 512), 3_349_888),
]


@pytest.mark.parametrize(("name", "neck", "size", "last_map", "published"), PUBLISHED)
def test_the_number_of_weights_and_the_map_are_the_published_ones(
    name, neck, size, last_map, published
):
    embedder = build_embedder(name, neck=neck, input_shape=(size, size, 3))
    assert sum(math.prod(weight.shape) for weight in embedder.trainable_weights) == published
    assert embedder.output_shape == (None, 512)
    backbone = next(layer for layer in embedder.layers if isinstance(layer, keras.Model))
    assert backbone.output_shape == (None, *last_map)


@pytest.mark.parametrize(
    ("arguments", "published"),
    [({"depths": (1, 4, 6, 2)}, 2_059_520), ({"scale": 4}, 6_314_880)],
    ids=["get_mbf", "get_mbf_large"],
)
def test_the_other_sizes_of_the_large_mobilefacenet(arguments, published):
    backbone = backbones.MobileFaceNetLarge(**arguments)
    neck = 49 * 512 + 2 * 512 + 512 * 512 + 2 * 512  # depthwise, BN, linear, BN
    assert sum(math.prod(w.shape) for w in backbone.trainable_weights) + neck == published


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
    difference = np.abs(infer(model, images) - theirs.numpy().transpose(0, 2, 3, 1))
    assert difference.shape == (1, 3, 3, 3)
    assert (difference.max() < 1e-5) == (padding == "symmetric" or size == 1)


def test_epsilon_reaches_every_batch_normalisation():
    for make in (
        lambda: backbones.IResNet((32, 32, 3), depths=(1, 1, 1, 1), epsilon=0.5),
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
        (
            lambda: backbones.IResNet(depths=(1, 2, 3)),
            r"four positive integers.*Received: \(1, 2, 3\)",
        ),
        (lambda: backbones.IResNet(depths=(1, 1, 1, 0)), "four positive integers"),
        (lambda: backbones.IResNet(padding="valid"), "Received: padding='valid'"),
        (lambda: backbones.IResNet(first_shortcut="no"), "Received: first_shortcut='no'"),
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
    np.testing.assert_allclose(infer(reopened, image), infer(backbone, image), atol=1e-5)
