"""ONNX graphs of published structures with random weights, against onnxruntime."""

import warnings

import keras
import numpy as np
import pytest
from inference import infer

from keras_facemargin.zoo import graph as graphs
from keras_facemargin.zoo.graph import UnknownOperator
from keras_facemargin.zoo.parity import cosine
from keras_facemargin.zoo.readers import onnx as reader
from keras_facemargin.zoo.readers.contents import Graph, Node
from keras_facemargin.zoo.unfold import unfold

pytestmark = pytest.mark.any_backend
torch = pytest.importorskip("torch", reason="exports the graphs")
networks = pytest.importorskip("torch_networks")


def export(model, file, size=(112, 112), **options):
    networks.randomize(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        torch.onnx.export(
            model,
            torch.zeros(1, 3, *size),
            file,
            dynamo=False,
            input_names=["data"],
            dynamic_axes={"data": {0: "batch"}},
            **options,
        )
    return file


def run_onnx(file, batch):
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: batch})[0]


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3)).astype("uint8")


NETWORKS = {
    "IResNet": lambda: networks.InsightFaceIResNet((1, 2, 1, 1), 32),
    "large MobileFaceNet": lambda: networks.LargeMobileFaceNet(),
    "one of each operator": lambda: networks.SmallOfAll(),
    "AdaFace": lambda: networks.AdaFace((1, 1, 1, 1), 32),
}


TENSORFLOW = keras.backend.backend() == "tensorflow"


@pytest.mark.parametrize(
    ("name", "opset"),
    [
        # The layers of a rebuilt graph are the same on every backend, and jax compiles a network
        # for seconds: there each operator once, the networks as slow tests.
        pytest.param(
            name,
            opset,
            marks=()
            if TENSORFLOW or (name, opset) == ("one of each operator", 17)
            else pytest.mark.slow,
        )
        for name in NETWORKS
        for opset in (12, 17)
    ],
)
def test_a_rebuilt_graph_embeds_as_onnxruntime(name, opset, tmp_path, crops):
    file = export(NETWORKS[name](), str(tmp_path / "a.onnx"), opset_version=opset)
    built = graphs.build(reader.read(file), size=(112, 112), preprocessing=(127.5, 127.5, "RGB"))
    pixels = (crops.astype("float32") - 127.5) / 127.5
    wanted = run_onnx(file, pixels.transpose(0, 3, 1, 2))
    found = infer(built.model, crops.astype("float32"))
    assert min(map(cosine, found, wanted)) > 0.999999
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


def test_batch_normalization_before_a_convolution_stays_and_trains(tmp_path, crops):
    file = export(NETWORKS["IResNet"](), str(tmp_path / "a.onnx"), opset_version=13)
    graph = reader.read(file)
    model = graphs.build(graph, size=(112, 112)).model
    # One in each of 5 units, and before and after the linear layer; the file folded the others.
    assert kinds(model).count("BatchNormalization") == 7
    assert set(kinds(model)) <= {
        *("InputLayer", "Rescaling", "Conv2D", "BatchNormalization", "PReLU", "ZeroPadding2D"),
        *("Add", "Flatten", "Dense"),
    }
    assert not graphs.build(graph, size=(112, 112)).folded


def test_folded_batch_normalization_comes_back_and_trains_from_the_same_function(tmp_path):
    rng = np.random.default_rng(1)
    crops = rng.integers(0, 256, (32, 112, 112, 3)).astype("uint8")
    file = export(NETWORKS["one of each operator"](), str(tmp_path / "a.onnx"))
    plain = graphs.build(reader.read(file), size=(112, 112)).model
    built = graphs.build(reader.read(file), size=(112, 112), restore_normalization=True)
    # Stem, grouped, depthwise and last convolution; not the two of squeeze-and-excitation.
    assert len(built.folded) == 4
    batch = crops.astype("float32")
    wanted = keras.ops.convert_to_numpy(plain(batch))
    unfold(built.model, built.folded, crops)
    found = keras.ops.convert_to_numpy(built.model(batch))
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    name = built.folded[1]
    layer = built.model.get_layer(name)
    watch = keras.Model(built.model.input, layer.input)
    inputs = keras.ops.convert_to_numpy(watch(batch))
    np.testing.assert_allclose(layer.moving_mean, inputs.mean((0, 1, 2)), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(layer.moving_variance, inputs.var((0, 1, 2)), rtol=1e-2, atol=1e-3)


def test_normalization_of_pixels_in_the_graph_joins_the_pixel_rule():
    constants = {"a": np.float32([1, 2, 3]).reshape(1, 3, 1, 1), "b": np.array(0.5, "f4")}
    constants["w"] = np.ones((2, 3, 1, 1), "f4")
    nodes = [
        Node("Sub", "sub", ["data", "a"], ["x"]),
        Node("Mul", "mul", ["x", "b"], ["y"]),
        Node("Conv", "conv", ["y", "w"], ["z"]),
        Node("GlobalAveragePool", "pool", ["z"], ["p"]),
        Node("Flatten", "flatten", ["p"], ["out"]),
    ]
    graph = Graph(nodes, constants, "data", (0, 3, 8, 8), ["out"], True)
    model = graphs.build(graph, size=(8, 8), preprocessing=((4, 5, 6), 2.0, "BGR")).model
    assert kinds(model).count("Rescaling") == 1
    image = np.random.default_rng(0).uniform(0, 255, (1, 8, 8, 3)).astype("float32")
    # `preprocessing` has its means in the order of RGB.
    bgr = ((image - [4, 5, 6]) / 2)[..., ::-1]
    wanted = ((bgr - [1, 2, 3]) * 0.5).sum(-1).mean()
    np.testing.assert_allclose(infer(model, image), [[wanted] * 2], rtol=1e-5)


def small_graph(*nodes, outputs=("out",), shape=(0, 3, 8, 8), **constants):
    constants = {name: np.asarray(value, "f4") for name, value in constants.items()}
    return Graph(list(nodes), constants, "data", shape, list(outputs), True)


def test_an_unknown_operator_is_refused_by_name():
    graph = small_graph(Node("Erf", "gelu/erf", ["data"], ["out"]))
    with pytest.raises(UnknownOperator, match=r"'Erf' has no Keras layer.*node 'gelu/erf'.*Add, "):
        graphs.build(graph, size=(8, 8))


REFUSED = {
    "limits": (small_graph(Node("Clip", "c", ["data"], ["out"], {"min": -1.0})), r"limits \[-1"),
    "kernel": (
        small_graph(Node("Conv", "c", ["data", "w"], ["out"]), w=np.zeros((4, 2, 3, 3))),
        r"a kernel of shape \(4, 2, 3, 3\) on 3 channels",
    ),
    "axes": (
        small_graph(Node("ReduceMean", "r", ["data"], ["out"], {"axes": [1]})),
        r"axes \[1\]",
    ),
    "constant by place": (
        small_graph(Node("Add", "a", ["data", "w"], ["out"]), w=np.zeros((1, 1, 8, 8))),
        r"a constant of shape \(1, 1, 8, 8\) on \(8, 8, 3\)",
    ),
    "pooling": (
        small_graph(
            Node("MaxPool", "p", ["data"], ["out"], {"kernel_shape": [3, 3], "pads": [1] * 4})
        ),
        "pooling with padding",
    ),
    "transpose": (
        small_graph(Node("Transpose", "t", ["data"], ["out"], {"perm": [1, 0, 2, 3]})),
        r"the order \[1, 0, 2, 3\]",
    ),
    "no embedding": (small_graph(Node("Relu", "r", ["data"], ["out"])), "return one embedding"),
    "size": (small_graph(shape=(1, 3, 64, 64)), "of the crop's size, 8x8"),
    "linear": (
        small_graph(Node("Gemm", "g", ["data", "w"], ["out"], {"transB": 1}), w=np.zeros((2, 7))),
        r"weights of shape \(7, 2\) on \(8, 8, 3\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_are_not_converted_are_refused(name):
    graph, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        graphs.build(graph, size=(8, 8))
