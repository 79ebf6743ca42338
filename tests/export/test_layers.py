"""Every layer of `keras.layers` that an image network uses, one by one, in both formats.

Layers that both formats have are branches of a few networks, each converted once per format; each
branch is then compared with Keras. Every other layer ends in an error that names layer and op.
"""

import dataclasses

import keras
import numpy as np
import pytest
from inference import infer
from keras import activations, layers, ops

from keras_facemargin.export import ExportError, export_onnx, export_tflite, onnx, tflite, write
from keras_facemargin.export.conversion import converting
from keras_facemargin.export.formats import find_format
from keras_facemargin.export.graph import normalised
from keras_facemargin.runtime.file import Session

# Functions of a feature map (B, 8, 8, 4); the class of the layer is the first word of the name.
CASES = {}


def case(name, *arguments, of=lambda x: x, **settings):
    CASES[name] = lambda x: getattr(layers, name.split()[0])(*arguments, **settings)(of(x))


def tokens(x):
    return layers.Reshape((64, 4))(x)


def pair(x):
    return [x, layers.Rescaling(0.7, 0.1)(x)]


def volume(x):
    return layers.Reshape((8, 8, 2, 2))(x)


# Convolutions.
case("Conv2D stride", 6, 3, strides=2, padding="same")
case("Conv2D valid", 6, 3)
case("Conv2D dilated", 6, 3, dilation_rate=2, padding="same")
case("Conv2D even kernel", 6, 4, strides=3, padding="same")
case("Conv2D groups", 8, 3, groups=2, padding="same")
case("Conv2D groups and stride", 8, 3, groups=4, strides=2)
case("Conv2D gelu", 6, 3, activation="gelu")
case("Conv2DTranspose same", 6, 3, strides=2, padding="same")
case("Conv2DTranspose valid", 6, 3, strides=2)
case("Conv2DTranspose output padding", 6, 3, strides=2, padding="same", output_padding=1)
case("DepthwiseConv2D", 3, padding="same", depth_multiplier=2)
case("DepthwiseConv2D stride", 3, strides=2, padding="same")
case("DepthwiseConv2D stride valid", 3, strides=2)
case("DepthwiseConv2D dilated", 3, dilation_rate=2)
case("SeparableConv2D", 6, 3, strides=2, padding="same", depth_multiplier=2)
case("Conv1D", 4, 3, padding="same", of=tokens)
case("Conv1D causal", 4, 3, padding="causal", of=tokens)
case("Conv1DTranspose", 4, 3, strides=2, of=tokens)
case("DepthwiseConv1D", 3, of=tokens)
case("SeparableConv1D", 4, 3, of=tokens)
case("Conv3D", 3, 2, padding="same", of=volume)
case("Conv3DTranspose", 3, 2, of=volume)
# Pooling and changes of size.
for kind, settings in {
    "AveragePooling": (2,),
    "MaxPooling": (2,),
    "GlobalAveragePooling": (),
    "GlobalMaxPooling": (),
    "ZeroPadding": (),
    "UpSampling": (),
}.items():
    case(f"{kind}1D", *settings, of=tokens)
    case(f"{kind}2D", *settings)
    if "Pooling" not in kind or "Global" in kind:
        case(f"{kind}3D", *settings, of=volume)
case("AveragePooling2D same", 3, 2, "same")
case("MaxPooling2D same", 3, 2, "same")
case("AdaptiveAveragePooling1D", 8, of=tokens)
case("AdaptiveAveragePooling2D", 3)
case("AdaptiveMaxPooling1D", 8, of=tokens)
case("AdaptiveMaxPooling2D", 3)
case("ZeroPadding2D one side", ((1, 0), (2, 1)))
case("Cropping1D", of=tokens)
case("Cropping2D", ((1, 0), (2, 1)))
case("Cropping3D", ((1, 1), (1, 1), (0, 1)), of=volume)
case("CenterCrop", 5, 5)
case("CenterCrop larger", 9, 5)
case("UpSampling2D bilinear", 2, interpolation="bilinear")
case("Resizing", 11, 13)
case("Resizing nearest", 11, 13, "nearest")
case("Resizing crop", 5, 7, crop_to_aspect_ratio=True)
case("Resizing pad", 5, 7, pad_to_aspect_ratio=True)
CASES["ops.image.resize"] = lambda x: ops.image.resize(x, (11, 13))
CASES["ops.image.pad_images"] = lambda x: ops.image.pad_images(x, 1, 1, 1, 1)
CASES["ops.image.extract_patches"] = lambda x: ops.image.extract_patches(x, 2)
CASES["ops.pad reflect"] = lambda x: ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect")
# Normalisation and scaling.
case("BatchNormalization")
case("LayerNormalization")
case("LayerNormalization axes", axis=[1, 2, 3])
case("GroupNormalization", 2)
case("RMSNormalization")
case("UnitNormalization")
case("SpectralNormalization", layers.Conv2D(6, 3))
case("Normalization", mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 2.0, 3.0, 4.0])
case("Rescaling", [1.0, 2.0, 3.0, 4.0], [0.1, 0.2, 0.3, 0.4])
# Activations.
case("PReLU", shared_axes=[1, 2], alpha_initializer="glorot_uniform")
case("PReLU map", alpha_initializer="glorot_uniform")
case("ReLU")
case("ReLU general", max_value=6.0, negative_slope=0.1, threshold=0.2)
case("LeakyReLU")
case("ELU")
case("Softmax")
for name in sorted(vars(activations)):
    others = ("deserialize", "get", "serialize", "glu", "threshold")
    if name.islower() and callable(getattr(activations, name)) and name not in others:
        case(f"Activation {name}", name)
CASES["activations.gelu approximate"] = lambda x: activations.gelu(1.5 * x, approximate=True)
CASES["activations.glu"] = activations.glu
CASES["activations.threshold"] = lambda x: activations.threshold(x, 0.1, 0.0)
# Layers that do nothing after training.
case("Identity")
case("ActivityRegularization")
for kind in ("Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout"):
    case(kind, 0.1)
case("SpatialDropout1D", 0.1, of=tokens)
case("SpatialDropout3D", 0.1, of=volume)
# Shapes and merges.
case("Flatten")
case("Permute", (3, 1, 2))
case("Reshape", (16, -1))
case("RepeatVector", 3, of=lambda x: layers.Flatten()(x))
for kind in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"):
    case(kind, of=pair)
case("Dot", (1, 1), of=lambda x: [tokens(x), tokens(x)])
CASES["ops.take"] = lambda x: ops.take(x, [2, 1, 0], axis=-1)
CASES["ops.einsum"] = lambda x: ops.einsum("bhwc,bhwd->bcd", x, x)
CASES["ops.log1p"] = lambda x: ops.log1p(ops.abs(x))
# Dense layers and attention.
case("Dense", 5)
case("EinsumDense", "abcd,de->abce", output_shape=(8, 8, 5), bias_axes="e")
case("TimeDistributed", layers.Dense(3))
case("Pipeline", [layers.ReLU(), layers.Rescaling(2.0)])
case("Attention", of=lambda x: [tokens(x), tokens(x)])
case("AdditiveAttention", of=lambda x: [tokens(x), tokens(x)])
CASES["MultiHeadAttention"] = lambda x: layers.MultiHeadAttention(2, 4)(tokens(x), tokens(x))
CASES["GroupQueryAttention"] = lambda x: layers.GroupQueryAttention(4, 4, 2)(tokens(x), tokens(x))

# Layers with loops over rows, seconds each in the converters.
RECURRENT = {
    "LSTM": lambda x: layers.LSTM(4)(tokens(x)),
    "GRU": lambda x: layers.GRU(4)(tokens(x)),
    "SimpleRNN": lambda x: layers.SimpleRNN(4)(tokens(x)),
    "Bidirectional": lambda x: layers.Bidirectional(layers.LSTM(4))(tokens(x)),
    "RNN": lambda x: layers.RNN([layers.LSTMCell(3), layers.GRUCell(3), layers.SimpleRNNCell(3)])(
        tokens(x)
    ),
    "ConvLSTM2D": lambda x: layers.ConvLSTM2D(3, 3)(ops.stack([x, x], axis=1)),
}
SLOW = {
    **RECURRENT,
    # Half a minute in tf2onnx, which tries every order of the letters of an einsum.
    "MultiHeadAttention maps": lambda x: layers.MultiHeadAttention(2, 4, attention_axes=(1, 2))(
        x, x
    ),
}

# What a format does not have: case -> the format's name and the op that its error names.
REFUSED = {
    "Resizing bicubic": ("TFLite", "ResizeBicubic"),
    "Resizing antialias": ("ONNX TFLite", "ScaleAndTranslate"),
    "UpSampling2D lanczos3": ("ONNX TFLite", "ScaleAndTranslate"),
    "Conv2DTranspose dilated": ("TFLite", "Conv2DBackpropInput"),
    "AveragePooling3D": ("TFLite", "AvgPool3D"),
    "MaxPooling3D": ("TFLite", "MaxPool3D"),
    "Discretization": ("ONNX", "Bucketize"),
}
WITH_REFUSALS = {
    "Resizing bicubic": lambda x: layers.Resizing(11, 13, "bicubic")(x),
    "Resizing antialias": lambda x: layers.Resizing(5, 5, antialias=True)(x),
    "UpSampling2D lanczos3": lambda x: layers.UpSampling2D(2, interpolation="lanczos3")(x),
    "Conv2DTranspose dilated": lambda x: layers.Conv2DTranspose(6, 3, dilation_rate=2)(x),
    "AveragePooling3D": lambda x: layers.AveragePooling3D(2)(volume(x)),
    "MaxPooling3D": lambda x: layers.MaxPooling3D(2)(volume(x)),
    "Discretization": lambda x: ops.cast(
        layers.Discretization(bin_boundaries=[0.0, 1.0])(x), "float32"
    ),
}

EXCLUDED = {
    "base classes": "Layer Wrapper InputLayer",
    "parts of RNN, which is in RECURRENT": "LSTMCell GRUCell SimpleRNNCell StackedRNNCells",
    "volumes over time": "AdaptiveAveragePooling3D AdaptiveMaxPooling3D ConvLSTM1D ConvLSTM3D",
    "tables, text and tokens": "CategoryEncoding Embedding HashedCrossing Hashing IntegerLookup "
    "ReversibleEmbedding StringLookup TextVectorization",
    "code of others": "FlaxLayer JaxLayer Lambda TFSMLayer TorchModuleWrapper",
    "sound": "MelSpectrogram STFTSpectrogram",
    "boxes": "MaxNumBoundingBoxes",
    "sequences with gaps": "Masking",
    "augmentation, which is left out of an embedder": "AugMix AutoContrast "
    "ContrastLimitedAdaptiveHistogramEqualization CutMix Equalization MixUp RandAugment "
    "RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop "
    "RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHue "
    "RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation "
    "RandomSharpness RandomShear RandomTranslation RandomZoom Solarization",
}


def test_every_keras_layer_is_tried_or_excluded_with_its_reason():
    excluded = {name for names in EXCLUDED.values() for name in names.split()}
    tried = {name.split()[0] for name in (*CASES, *SLOW, *REFUSED)}
    known = {
        name: kind
        for name, kind in vars(layers).items()
        if isinstance(kind, type) and issubclass(kind, layers.Layer)
    }
    classes = {known[name] for name in (excluded | tried) & set(known)}
    assert [name for name, kind in known.items() if kind not in classes] == []
    assert excluded <= set(known) and not excluded & tried


IMAGES = np.random.default_rng(0).uniform(0, 255, (3, 16, 16, 3)).astype("float32")


def network(branches):
    """16x16 pixels -> the results of the branches side by side, and the width of each."""
    image = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 127.5, -1.0)(image)
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="stem")(x)
    results = [layers.Flatten()(branch(x)) for branch in branches]
    widths = [result.shape[-1] for result in results]
    embedding = layers.Concatenate()(results) if len(results) > 1 else results[0]
    model = keras.Model(image, embedding)
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if any(name in weight.path for name in ("bias", "beta", "gamma", "moving")):
            weight.assign(rng.uniform(0.5, 1.0, weight.shape))
    return model, np.cumsum(widths)[:-1]


def convert(model, format, precision="float32"):
    """The converted network as a function of images."""
    with converting(format, model):
        if format == "ONNX":
            return write.runner(find_format("onnx-float32"), onnx.convert(model))
        representative = IMAGES if precision == "int8" else None
        artefact = tflite.convert(model, precision, representative)
        return write.runner(find_format(f"tflite-{precision}"), artefact)


# Of each layer the first case, and each activation; `test_a_layer_passes_the_verdict_or_is_named`
# has every case.
FIRST = {name.split()[0]: name for name in reversed(CASES) if not name.startswith("Activation")}
QUICK = [name for name in CASES if name.startswith("Activation") or name in FIRST.values()]
# Branches of one network: the time of tf2onnx grows faster than the network.
TOGETHER = {"ONNX": 16, "TFLite": 64}


@pytest.fixture(scope="module", params=["ONNX", "TFLite"])
def results(request):
    """Keras' and the format's results of the quick cases."""
    keras.utils.set_random_seed(0)
    names, found, together = QUICK, {}, TOGETHER[request.param]
    for start in range(0, len(names), together):
        group = names[start : start + together]
        model, ends = network([CASES[name] for name in group])
        run = convert(model, request.param)
        received = np.concatenate([run(image[None]) for image in IMAGES])
        expected = normalised(model)(IMAGES)["embedding"].numpy()
        split = [np.split(values, ends, axis=1) for values in (expected, received)]
        found.update(zip(group, zip(*split, strict=True), strict=True))
    return found


@pytest.mark.parametrize("name", QUICK)
def test_layer_gives_what_keras_gives(results, name):
    expected, received = results[name]
    assert np.ptp(expected, axis=0).max() > 0  # the branch sees the image
    scale = np.abs(expected).max()
    np.testing.assert_allclose(received / scale, expected / scale, atol=1e-4)


EXPORT = {"ONNX": (export_onnx, "face.onnx"), "TFLite": (export_tflite, "face.tflite")}


def embedder_of(branch):
    """16x16 pixels -> a stem, a branch and 8 numbers, centred so that images differ in them."""
    model, _ = network([branch])
    features = keras.Model(model.input, layers.Dense(8)(model.output))
    centre = layers.BatchNormalization()
    embedder = keras.Model(model.input, centre(features.output))
    try:
        values = infer(features, IMAGES)
    except Exception as error:
        if "do not yet support dilation rates" not in str(error):
            raise
        pytest.skip("TensorFlow without oneDNN computes no dilated transposed convolution")
    centre.moving_mean.assign(values.mean(axis=0))
    centre.moving_variance.assign(values.var(axis=0))
    return embedder


def check_refusal(name, format, tmp_path):
    model = embedder_of(WITH_REFUSALS[name])
    layer = next(each for each in model.layers if type(each).__name__ == name.split()[0])
    export, file = EXPORT[format]
    rule = rf"{format} has no form.*{REFUSED[name][1]} in layer '{layer.name}' \({name.split()[0]}"
    with pytest.raises(ExportError, match=rule) as info:
        export(model, tmp_path / file, images=IMAGES)
    assert info.value.verdict is None
    assert not list(tmp_path.iterdir())


REFUSALS = [(name, format) for name in REFUSED for format in REFUSED[name][0].split()]
FAST = [("Resizing antialias", "ONNX"), ("AveragePooling3D", "TFLite")]


@pytest.mark.parametrize(("name", "format"), FAST)
def test_what_a_format_lacks_is_named_with_its_layer(name, format, tmp_path, capfd):
    check_refusal(name, format, tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "format"), [each for each in REFUSALS if each not in FAST])
def test_what_else_a_format_lacks_is_named_with_its_layer(name, format, tmp_path):
    check_refusal(name, format, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["ONNX", "TFLite"])
@pytest.mark.parametrize("name", [*CASES, *SLOW, *REFUSED])
def test_a_layer_passes_the_verdict_or_is_named(format, name, tmp_path):
    branch = {**CASES, **SLOW, **WITH_REFUSALS}[name]
    if format in REFUSED.get(name, ("",))[0]:
        return  # the tests above
    export, file = EXPORT[format]
    assert export(embedder_of(branch), tmp_path / file, images=IMAGES).passed


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_int8_converts_every_layer(name):
    """Untrained weights say nothing about int8's accuracy: the file runs, and is finite."""
    run = convert(embedder_of(CASES[name]), "TFLite", "int8")
    assert np.isfinite(run(IMAGES[:1])).all()


@pytest.mark.parametrize("name", RECURRENT)
def test_int8_refuses_recurrent_layers_whose_quantiser_ends_the_process(name):
    rule = r"Full int8 TFLite has no form.*TensorList\w+ in layer"
    with pytest.raises(ExportError, match=rule):
        convert(embedder_of(RECURRENT[name]), "TFLite", "int8")


def test_an_error_of_a_converter_names_the_layer_in_its_text():
    model = embedder_of(CASES["Conv2D valid"])
    layer = model.layers[3].name
    rule = rf"cannot be written as ONNX. Received: the converter's KeyError in layer '{layer}' "
    with pytest.raises(ExportError, match=rule), converting("ONNX", model):
        raise KeyError(f"model_1/{layer}_1/Conv2D:0")
    rule = "converter's KeyError: 'usr/lib/x'"
    with pytest.raises(ExportError, match=rule), converting("ONNX", model):
        raise KeyError("usr/lib/x")


def test_an_op_that_the_runtime_refuses_is_named_with_its_layer(monkeypatch, tmp_path):
    model = embedder_of(CASES["DepthwiseConv2D"])
    (number,) = [
        index
        for index, op in enumerate(tflite.list_ops(tflite.convert(model, "float32", None)))
        if op.name == "DEPTHWISE_CONV_2D"
    ]

    def refuse(artefact, threads):
        raise RuntimeError(f"overflow.Node number {number} (DEPTHWISE_CONV_2D) failed to prepare.")

    writer = dataclasses.replace(write._WRITERS["tflite"], open_session=refuse)
    monkeypatch.setitem(write._WRITERS, "tflite", writer)
    (layer,) = [each for each in model.layers if isinstance(each, layers.DepthwiseConv2D)]
    rule = rf"DEPTHWISE_CONV_2D in layer '{layer.name}' \(DepthwiseConv2D\): overflow"
    with pytest.raises(ExportError, match=rule):
        export_tflite(model, tmp_path / "face.tflite", images=IMAGES)


def test_an_error_of_a_runtime_is_an_export_error(monkeypatch, tmp_path):
    def run(images):
        raise RuntimeError("Non-zero status code")

    def broken(artefact, threads):
        return Session((None, 8, 8, 3), np.dtype("float32"), None, run, None)

    writer = dataclasses.replace(write._WRITERS["onnx"], open_session=broken)
    monkeypatch.setitem(write._WRITERS, "onnx", writer)
    with pytest.raises(ExportError, match="RuntimeError: Non-zero status code"):
        export_onnx(embedder_of(CASES["Conv2D valid"]), tmp_path / "face.onnx", images=IMAGES)
