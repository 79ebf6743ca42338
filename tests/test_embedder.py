import keras
import numpy as np
import pytest
from inference import infer
from processes import finish, start

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
    embeddings = infer(embedder, images)
    assert np.isfinite(embeddings).all()
    embedder.save(tmp_path / "embedder.keras")
    again = keras.models.load_model(tmp_path / "embedder.keras")
    np.testing.assert_allclose(infer(again, images), embeddings, atol=1e-4)


RED = np.broadcast_to(np.float32([200, 100, 50]), (1, 112, 112, 3))


def probe(*first, name="mine"):
    """A backbone without weights: `first`, then the mean of each 16x16 pixels, a 7x7 map."""
    pixels = [keras.Input((112, 112, 3)), *first, keras.layers.AveragePooling2D(16)]
    return keras.Sequential(pixels, name=name)


def seen(backbone, **arguments):
    """The output of a `probe` for a red image inside an embedder."""
    embedder = build_embedder(backbone, 4, **arguments)
    feature_map = keras.Model(embedder.input, embedder.get_layer("neck_depthwise").input)(RED)
    return keras.ops.convert_to_numpy(feature_map)[0, 0, 0]


@any_backend
@pytest.mark.parametrize(
    "name", ["mine", "resnet18_mine", "vgg_face", "mobilenet_face", "xception"]
)
def test_a_model_that_scales_its_pixels_gets_them_raw_whatever_its_name(name):
    backbone = probe(keras.layers.Rescaling(1 / 255), name=name)
    np.testing.assert_allclose(seen(backbone), RED[0, 0, 0] / 255, atol=1e-3)


@any_backend
@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("inside", (200, 100, 50)),
        ("tf", (0.5686, -0.2157, -0.6078)),
        ("caffe", (50 - 103.939, 100 - 116.779, 200 - 123.68)),
        ("torch", (1.3070, -0.2850, -0.9330)),
        ((127.5, 127.5, "RGB"), (0.5686, -0.2157, -0.6078)),
        ((127.5, 128, "BGR"), (-0.6055, -0.2148, 0.5664)),
        (([10, 20, 30], [1, 2, 4], "RGB"), (190, 40, 5)),
        (((10, 20, 30), np.array([1, 2, 4]), "BGR"), (5, 40, 190)),
    ],
)
def test_preprocessing_by_argument(form, expected):
    np.testing.assert_allclose(seen(probe(), preprocessing=form), expected, atol=1e-3)


@pytest.mark.parametrize(
    "shape", [(112, 112, 3), pytest.param((224, 224, 3), marks=any_backend), (None, None, 3)]
)
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
    """A backbone of this package, and the colours of a ResNet50 of Applications."""
    embedders = {
        "mobilefacenet": build_embedder("MobileFaceNet", embedding_dim=8),
        "caffe": build_embedder(probe(), embedding_dim=8, preprocessing="caffe"),
    }
    for name, embedder in embedders.items():
        embedder.save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}.npy", keras.ops.convert_to_numpy(embedder(RED)))
    code = f"""
import sys
sys.modules["keras_facemargin"] = None
import keras, numpy as np
image = np.broadcast_to(np.float32([200, 100, 50]), (1, 112, 112, 3))
for name in {list(embedders)}:
    model = keras.models.load_model(f"{{sys.argv[1]}}/{{name}}.keras")
    expected = np.load(f"{{sys.argv[1]}}/{{name}}.npy")
    np.testing.assert_allclose(model(image), expected, atol=1e-4)
"""
    ((status, _, error),) = finish(start("-c", code, tmp_path))
    assert status == 0, error


def test_embeddings_leave_in_float32_under_a_mixed_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        embedder = build_embedder("MobileFaceNet", embedding_dim=8)
    finally:
        keras.config.set_dtype_policy("float32")
    assert embedder.output.dtype == "float32"


def of_outputs(count):
    backbone = probe()
    return keras.Model(backbone.inputs, backbone.outputs * count)


def of_channels(count):
    image = keras.Input((112, 112, count))
    return keras.Model(image, keras.layers.Conv2D(4, 16, 16)(image))


def of_one_size():
    """A network with its size fixed inside, as ConvNeXt's is, that ends at 3x3."""
    image = keras.Input((112, 112, 3))
    fixed = keras.Sequential([keras.Input((112, 112, 3)), keras.layers.Conv2D(3, 1)])
    return keras.Model(image, keras.layers.Conv2D(4, 32, 32)(fixed(image)), name="resnet_like")


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (
            lambda: build_embedder("MobileFace"),
            "Received: backbone='MobileFace'. Did you mean 'MobileFaceNet'.*dir\\(",
        ),
        (lambda: build_embedder("resnet50"), "Received: backbone='resnet50'. .*'ResNet50'"),
        (lambda: build_embedder("EffcientNetB0"), "Did you mean 'EfficientNetB0'"),
        (lambda: build_embedder("imagenet_utils"), "Received: backbone='imagenet_utils'"),
        (lambda: build_embedder("MobileFaceNet", preprocessing="tf"), "scales its pixels inside"),
        (lambda: build_embedder(keras.applications.ResNet50), "Call the constructor"),
        (lambda: build_embedder(keras.Sequential([keras.layers.Conv2D(3, 1)])), "built Functional"),
        (lambda: build_embedder("MobileFaceNet", weights="imagenet"), "load_embedder"),
        (
            lambda: build_embedder(
                keras.applications.MobileNetV2(weights=None, classes=3, alpha=0.35)
            ),
            "include_top=False",
        ),
        (lambda: build_embedder(probe()), "Received: a model named 'mine'. Pass `preprocessing`"),
        (lambda: build_embedder(of_outputs(4)), "one feature map.*outputs \\[\\(None, 7, 7, 3"),
        (lambda: build_embedder(of_channels(1)), "RGB images.*\\(None, 112, 112, 1\\)"),
        (
            lambda: build_embedder(of_one_size(), preprocessing="inside"),
            "input_shape=\\(224, 224, 3\\)",
        ),
        (
            lambda: build_embedder("MobileNetV2", preprocessing="bgr"),
            "Received: preprocessing='bgr'",
        ),
        *(
            (
                lambda form=form: build_embedder(probe(), preprocessing=form),
                "mean and standard deviation on the scale 0..255.*Received: preprocessing=",
            )
            for form in (
                (127.5, 0, "RGB"),
                (127.5, 127.5, "rgb"),
                ([1, 2], 1, "RGB"),
                (float("nan"), 1, "RGB"),
                ("mean", "std", "RGB"),
                (127.5, 127.5),
                0.5,
            )
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


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"input_shape": (112, 112, 1)}, r"\(112, 112, 1\).*Grey images.*readers repeat"),
        ({"input_shape": (3, 112, 112)}, r"Channels come last: \(112, 112, 3\)"),
        ({"input_shape": (112, 112)}, r"Received: input_shape=\(112, 112\)"),
        ({"input_shape": 112}, "Received: input_shape=112"),
        ({"input_shape": (None, None, 3)}, "whole numbers"),
        ({"input_shape": (112, 0, 3)}, "whole numbers"),
        ({"input_shape": (112, 112.0, 3)}, "whole numbers"),
        ({"embedding_dim": 0}, "at least 1. Received: embedding_dim=0"),
        ({"embedding_dim": -1}, "Received: embedding_dim=-1"),
        ({"embedding_dim": "512"}, "Received: embedding_dim='512'"),
        ({"embedding_dim": 12.5}, "Received: embedding_dim=12.5"),
        ({"embedding_dim": True}, "Received: embedding_dim=True"),
    ],
)
@pytest.mark.parametrize("backbone", ["MobileFaceNet", "MobileNetV2"])
def test_impossible_sizes_are_refused_before_a_network_is_made(backbone, arguments, rule):
    with pytest.raises(ValueError, match=rule):
        build_embedder(backbone, **arguments)


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match=r"must be 'channels_last'.*set_image_data_format"):
            build_embedder("MobileFaceNet", 8)
    finally:
        keras.config.set_image_data_format("channels_last")


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("neck", "layers"),
    [
        ("gdc", ["neck_depthwise", "neck_depthwise_bn", "neck_flatten"]),
        ("fc", ["neck_bn", "neck_flatten"]),
        ("gap", ["neck_pool"]),
    ],
)
def test_the_neck_is_chosen_and_drops_before_its_linear_layer(neck, layers):
    arguments = {"embedding_dim": 8, "input_shape": (32, 32, 3), "neck": neck}
    plain = [layer.name for layer in build_embedder("MobileFaceNet", **arguments).layers]
    assert plain[2:] == [*layers, "neck_linear", "embedding"]
    embedder = build_embedder("MobileFaceNet", dropout=0.5, **arguments)
    names = [layer.name for layer in embedder.layers]
    assert set(names) - set(plain) == {"neck_dropout"}
    assert names.index("neck_dropout") < names.index("neck_linear")
    assert embedder.get_layer("neck_dropout").rate == 0.5
    assert embedder.get_layer("embedding").scale == (neck != "fc")


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ({"neck": "E"}, "'gdc', 'fc', 'gap'. Received: 'E'"),
        ({"dropout": 1}, "Received: dropout=1"),
        ({"dropout": "0.4"}, "Received: dropout='0.4'"),
    ],
)
def test_an_impossible_neck_is_one_sentence(arguments, received):
    with pytest.raises(ValueError) as caught:
        build_embedder("MobileFaceNet", 8, input_shape=(32, 32, 3), **arguments)
    assert received in str(caught.value)


def token_network(shape=(32, 32, 3), tokens=True, **arguments):
    """A small vision transformer's patches, as tokens (B, 16, 8) or as their mean (B, 8)."""
    image = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(8, 8, 8)(x)
    x = keras.layers.Reshape((-1 if None in shape else 16, 8))(x)
    x = x if tokens else keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(image, x, **arguments)


class Backbone(keras.Model):
    """As keras-hub's: a subclass that builds itself as a Functional model."""

    def __init__(self, width=8, outputs=None, **kwargs):
        image = keras.Input((32, 32, 3), name="images")
        x = keras.layers.Conv2D(width, 8, 8)(keras.layers.Rescaling(1 / 255)(image))
        super().__init__(image, {"tokens": x} if outputs == "dict" else x, **kwargs)
        self.width = width

    def get_config(self):
        return {"width": self.width, "name": self.name}


@pytest.mark.parametrize(
    ("tokens", "neck"),
    [
        pytest.param(True, "gdc", marks=any_backend),
        (True, "fc"),
        (True, "gap"),
        (False, "gdc"),
        (False, "fc"),
        pytest.param(False, "gap", marks=any_backend),
    ],
)
def test_tokens_and_vectors_become_embeddings(neck, tokens, tmp_path):
    """The crop of 112x112 is resized to the network's own 32x32."""
    backbone = token_network(tokens=tokens)
    embedder = build_embedder(backbone, 6, neck=neck)
    images = np.random.default_rng(0).uniform(0, 255, (2, 112, 112, 3)).astype("float32")
    embeddings = keras.ops.convert_to_numpy(embedder(images))
    assert embeddings.shape == (2, 6) and np.abs(embeddings[0] - embeddings[1]).max() > 1e-6
    embedder.save(tmp_path / "embedder.keras")
    again = keras.models.load_model(tmp_path / "embedder.keras")
    np.testing.assert_allclose(infer(again, images), embeddings, atol=1e-5)


@any_backend
def test_the_mean_neck_takes_the_mean_of_the_tokens():
    embedder = build_embedder(token_network(), 6, neck="gap", input_shape=(32, 32, 3))
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    inner = next(layer for layer in embedder.layers if isinstance(layer, keras.Model))
    mean = keras.ops.mean(inner(images), axis=1)
    pooled = keras.Model(embedder.input, embedder.get_layer("neck_pool").output)(images)
    np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (pooled, mean)), atol=1e-5)


@any_backend
def test_a_network_of_any_size_gets_the_crop_as_it_is():
    embedder = build_embedder(token_network((None, None, 3)), 6, neck="gap")
    assert "resize" not in " ".join(each.name for each in embedder.operations)
    assert embedder(np.zeros((1, 112, 112, 3), "float32")).shape == (1, 6)


@any_backend
def test_a_backbone_class_is_enlarged_like_any_functional_model():
    """It ends at 4x4 on 32x32; its weights are kept."""
    backbone = Backbone()
    embedder = build_embedder(backbone, 6, input_shape=(32, 32, 3))
    assert last_map(embedder) == (8, 8)
    inner = next(layer for layer in embedder.layers if isinstance(layer, keras.Model))
    for ours, theirs in zip(inner.get_weights(), backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert embedder(np.zeros((1, 32, 32, 3), "float32")).shape == (1, 6)


@any_backend
def test_a_pooled_network_of_applications_keeps_its_preprocessing():
    backbone = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(64, 64, 3), alpha=0.35, pooling="avg"
    )
    embedder = build_embedder(backbone, 6, neck="gap", input_shape=(64, 64, 3))
    assert embedder.get_layer("rescale").offset == -1.0


def dict_network():
    inputs = {
        "images": keras.Input((32, 32, 3), name="images"),
        "ids": keras.Input((4,), name="ids"),
    }
    return keras.Model(inputs, keras.layers.Conv2D(4, 8, 8)(inputs["images"]), name="clip")


@any_backend
@pytest.mark.parametrize(
    ("backbone", "rule"),
    [
        (dict_network, r"without dicts. Received: 'clip' with inputs \['images', 'ids'\].*ima"),
        (lambda: Backbone(outputs="dict"), r"without dicts.*outputs \['tokens'\]"),
        (lambda: keras.Model(*[keras.Input((32, 32, 3))] * 2).layers[0], "built Functional"),
    ],
)
def test_a_backbone_of_other_inputs_or_outputs_is_one_sentence(backbone, rule):
    with pytest.raises(ValueError, match=rule):
        build_embedder(backbone(), 6)


@any_backend
@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"backbone": token_network, "backbone_arguments": {"a": 1}}, "needs the name of a backbo"),
        (
            {"backbone": "SphereNet", "backbone_arguments": {"input_shape": 1}},
            "which build_embedder sets. Received: input_shape. Leave",
        ),
    ],
)
def test_backbone_arguments_that_cannot_be_are_refused(arguments, rule):
    backbone = arguments.pop("backbone")
    with pytest.raises(ValueError, match=rule):
        build_embedder(backbone() if callable(backbone) else backbone, 6, **arguments)


@any_backend
def test_a_named_backbone_takes_its_arguments():
    arguments = {"widths": (4, 6), "depths": (1, 0)}
    embedder = build_embedder("SphereNet", 6, backbone_arguments=arguments, input_shape=(32, 32, 3))
    assert last_map(embedder) == (8, 8)
    assert embedder.get_layer("spherenet").output_shape == (None, 8, 8, 6)
