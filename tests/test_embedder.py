import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_facemargin import build_embedder

any_backend = pytest.mark.any_backend


def last_map(embedder):
    return embedder.get_layer("neck_depthwise").input.shape[1:3]


@any_backend
@pytest.mark.parametrize("backbone", ["MobileFaceNet", "MobileNetV2"])
def test_a_crop_ends_at_7x7_and_leaves_as_an_embedding(backbone):
    embedder = build_embedder(backbone, embedding_dim=32)
    assert embedder.input_shape == (None, 112, 112, 3)
    assert embedder.output_shape == (None, 32)
    assert last_map(embedder) == (7, 7)
    assert embedder(np.zeros((2, 112, 112, 3), "float32")).shape == (2, 32)


def test_mobilefacenet_has_the_papers_size():
    """Table 1 of arXiv:1804.07573 and its text: 0.99 million parameters with a 128-d embedding."""
    embedder = build_embedder("MobileFaceNet", embedding_dim=128)
    trainable = sum(int(np.prod(w.shape)) for w in embedder.trainable_weights)
    assert 0.98e6 < trainable < 1.01e6


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "ConvNeXtTiny",
        "DenseNet121",
        "EfficientNetB0",
        "EfficientNetV2B0",
        "InceptionResNetV2",
        "InceptionV3",
        "MobileNet",
        "MobileNetV2",
        "MobileNetV3Small",
        "NASNetMobile",
        "ResNet50",
        "ResNet50V2",
        "VGG16",
        "Xception",
    ],
)
def test_every_applications_family_ends_at_7x7_or_little_more(name, tmp_path):
    embedder = build_embedder(name, embedding_dim=16)
    assert 7 <= min(last_map(embedder)) <= 8
    images = np.random.default_rng(0).uniform(0, 255, (2, 112, 112, 3)).astype("float32")
    embeddings = embedder.predict(images, verbose=0)
    assert np.isfinite(embeddings).all()
    embedder.save(tmp_path / "embedder.keras")
    again = keras.models.load_model(tmp_path / "embedder.keras")
    np.testing.assert_allclose(again.predict(images, verbose=0), embeddings, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("MobileNetV2", keras.applications.mobilenet_v2),
        ("DenseNet121", keras.applications.densenet),
        ("ResNet50", keras.applications.resnet),
        ("ResNet50V2", keras.applications.resnet_v2),
        ("VGG16", keras.applications.vgg16),
    ],
)
def test_pixels_reach_each_family_as_its_own_preprocessing_gives_them(name, module):
    embedder = build_embedder(name, embedding_dim=4)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 112, 112, 3)).astype("float32")
    rescale = embedder.get_layer("rescale")
    prepared = keras.Model(embedder.input, rescale.output)(pixels)
    expected = module.preprocess_input(pixels.copy())
    np.testing.assert_allclose(keras.ops.convert_to_numpy(prepared), expected, atol=1e-3)


def test_families_that_rescale_by_themselves_get_raw_pixels():
    embedder = build_embedder("MobileNetV3Small", embedding_dim=4)
    assert "rescale" not in [layer.name for layer in embedder.layers]


@any_backend
@pytest.mark.parametrize("shape", [(112, 112, 3), (224, 224, 3), (None, None, 3)])
def test_an_instance_keeps_its_weights_whatever_size_it_was_made_for(shape):
    backbone = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=shape, alpha=0.35
    )
    embedder = build_embedder(backbone, embedding_dim=8)
    assert last_map(embedder) == (7, 7)
    kernel = backbone.get_layer("Conv1").get_weights()[0]
    inner = next(layer for layer in embedder.layers if isinstance(layer, keras.Model))
    np.testing.assert_array_equal(inner.get_layer("Conv1").get_weights()[0], kernel)


def test_a_saved_embedder_opens_with_keras_alone(tmp_path):
    for backbone in ("MobileFaceNet", "ResNet50"):
        path = tmp_path / f"{backbone}.keras"
        embedder = build_embedder(backbone, embedding_dim=8)
        embedder.save(path)
        images = np.full((1, 112, 112, 3), 99.0, "float32")
        np.save(tmp_path / "expected.npy", embedder.predict(images, verbose=0))
        code = (
            "import sys; sys.modules['keras_facemargin'] = None\n"
            "import keras, numpy as np\n"
            f"model = keras.models.load_model({str(path)!r})\n"
            "got = model.predict(np.full((1, 112, 112, 3), 99.0, 'float32'), verbose=0)\n"
            f"expected = np.load({str(tmp_path / 'expected.npy')!r})\n"
            "np.testing.assert_allclose(got, expected, atol=1e-4)"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


def test_embeddings_leave_in_float32_under_a_mixed_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        embedder = build_embedder("MobileFaceNet", embedding_dim=8)
    finally:
        keras.config.set_dtype_policy("float32")
    assert embedder.output.dtype == "float32"


def of_one_size():
    """A network with its size fixed inside, as ConvNeXt's is, that ends at 3x3."""
    image = keras.Input((112, 112, 3))
    fixed = keras.Sequential([keras.Input((112, 112, 3)), keras.layers.Conv2D(3, 1)])
    return keras.Model(image, keras.layers.Conv2D(4, 32, 32)(fixed(image)), name="resnet_like")


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda: build_embedder("MobileFace"), "MobileFaceNet.*Received: backbone='MobileFace'"),
        (lambda: build_embedder("MobileFaceNet", weights="imagenet"), "load_embedder"),
        (
            lambda: build_embedder(
                keras.applications.MobileNetV2(weights=None, classes=3, alpha=0.35)
            ),
            "include_top=False",
        ),
        (
            lambda: build_embedder(
                keras.Sequential(
                    [keras.Input((112, 112, 3)), keras.layers.Conv2D(4, 16, 16)], name="mine"
                )
            ),
            "Received: a model named 'mine'.*`preprocessing`",
        ),
        (
            lambda: build_embedder(of_one_size()),
            "input_shape=\\(224, 224, 3\\)",
        ),
        (
            lambda: build_embedder("MobileNetV2", preprocessing="bgr"),
            "Received: preprocessing='bgr'",
        ),
        (
            lambda: build_embedder(
                keras.Sequential(
                    [keras.Input((112, 112, 3)), keras.layers.Conv2D(4, 90, 90)], name="mine"
                ),
                preprocessing="inside",
            ),
            "7x7",
        ),
    ],
)
def test_wrong_backbones_are_answered_with_the_rule(call, rule):
    with pytest.raises(ValueError, match=rule):
        call()
