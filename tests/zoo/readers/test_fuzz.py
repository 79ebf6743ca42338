"""Mutated model files: tensors, a graph, or one sentence; never a hang, a crash or a full memory.

The quick run is part of every test run; `-m slow` makes 100,000 inputs. Both are seeded: an input
that fails is remade by its number, which the failure names.
"""

import io
import json
import struct
import time
import tracemalloc

import h5py
import numpy as np
import pytest
from dlib_writer import small_network
from mutations import mutate

from keras_facemargin.zoo.readers import dlib, keras_h5, mxnet, onnx, safetensors, tflite, torch
from keras_facemargin.zoo.readers.contents import BadFile

NUMBERS = [0, 1, 3, 4, 255, 65535, 1 << 24, 1 << 30, 1 << 31, 2**32 - 1]
WORDS = [*(struct.pack("<I", number) for number in NUMBERS), b"\0" * 8, b"\xff" * 8, b"\x7f" * 8]
PICKLE = [
    b"cos\nsystem\n",
    b"R",
    b"(",
    b"}",
    b"u",
    b"s",
    b"Q",
    b"t",
    b".",
    b"h\0",
    b"J\xff\xff\xff\x7f",
]
SECONDS = 10
LARGEST = 50e6  # bytes: a mutated file of some thousand bytes needs no more


def torch_files(zipped):
    real = pytest.importorskip("torch")
    state = {f"layer{k}.weight": real.ones(2, 3, k) for k in range(1, 4)}
    stream = io.BytesIO()
    real.save({"net": state}, stream, _use_new_zipfile_serialization=zipped)
    return [stream.getvalue()]


def quantized_files():
    real = pytest.importorskip("torch")
    weights = real.quantize_per_tensor(real.ones(2, 3), 0.1, 0, real.qint8)
    stream = io.BytesIO()
    real.save({"fc._packed_params._packed_params": (weights, real.ones(2))}, stream)
    return [stream.getvalue()]


def safetensors_files():
    header = {
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "F16", "shape": [4], "data_offsets": [24, 32]},
    }
    text = json.dumps(header).encode()
    return [struct.pack("<Q", len(text)) + text + bytes(32)]


def onnx_files():
    import onnx as real

    info = real.helper.make_tensor_value_info
    nodes = [
        real.helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        real.helper.make_node("Relu", ["y"], ["z"]),
    ]
    weights = [real.numpy_helper.from_array(np.ones((2, 3, 3, 3), "f4"), "w")]
    ends = [info("x", 1, [1, 3, 8, 8])], [info("z", 1, [1, 2, 8, 8])]
    graph = real.helper.make_graph(nodes, "g", *ends, weights)
    return [real.helper.make_model(graph).SerializeToString()]


def mxnet_files():
    data = struct.pack("<QQQ", 0x112, 0, 2)
    for shape in ((2, 3), (4,)):
        data += struct.pack("<IiI", 0xF993FAC9, 0, len(shape))
        data += struct.pack(f"<{len(shape)}q", *shape) + struct.pack("<iii", 1, 0, 0)
        data += bytes(4 * int(np.prod(shape)))
    data += struct.pack("<Q", 2)
    for name in (b"arg:fc_weight", b"aux:bn_moving_mean"):
        data += struct.pack("<Q", len(name)) + name
    return [data]


def h5_files():
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["layer_names"] = [b"a", b"b"]
        for name in ("a", "b"):
            group = file.create_group(name)
            group.attrs["weight_names"] = [b"kernel"]
            group.create_dataset("kernel", data=np.ones((3, 2), "f4"))
    return [stream.getvalue()]


def tflite_files():
    """A convolution in TFLite's own schema."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    buffers = [schema.BufferT() for _ in range(3)]
    buffers[1].data = np.frombuffer(np.ones((2, 3, 3, 3), "f4").tobytes(), "u1")
    buffers[2].data = np.frombuffer(np.zeros(2, "f4").tobytes(), "u1")
    tensors = []
    for number, (shape, buffer) in enumerate(
        [((1, 8, 8, 3), 0), ((2, 3, 3, 3), 1), ((2,), 2), ((1, 8, 8, 2), 0)]
    ):
        tensor = schema.TensorT()
        tensor.shape, tensor.buffer, tensor.name = list(shape), buffer, f"t{number}"
        tensors.append(tensor)
    options = schema.Conv2DOptionsT()
    options.strideW = options.strideH = 1
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0, 1, 2], [3]
    operator.builtinOptions = options
    operator.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = tensors, [operator], [0], [3]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    model = schema.ModelT()
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], buffers, [code]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return [bytes(builder.Output())]


READERS = {
    "torch zip": (torch.read, lambda: torch_files(True), [*WORDS, *PICKLE]),
    "torch legacy": (torch.read, lambda: torch_files(False), [*WORDS, *PICKLE]),
    "torch quantized": (torch.read, quantized_files, [*WORDS, *PICKLE]),
    "safetensors": (safetensors.read, safetensors_files, [*WORDS, b"[", b"9" * 20, b"null", b"-1"]),
    "onnx": (onnx.read, onnx_files, WORDS),
    "tflite": (tflite.read, tflite_files, WORDS),
    "mxnet": (mxnet.read_params, mxnet_files, WORDS),
    "dlib": (dlib.read, lambda: [small_network()[0]], WORDS),
    "keras_h5": (keras_h5.read, h5_files, WORDS),
}


def fuzz(name, count, place):
    read, make, words = READERS[name]
    files = make()
    file = place / "a.bin"
    file.write_bytes(files[0])
    read(file)  # the whole file is read; what follows is damage
    refused = 0
    for number in range(count):
        rng = np.random.default_rng([number, len(name)])
        file.write_bytes(mutate(rng, files[0], words, files))
        tracemalloc.start()
        start = time.monotonic()
        try:
            read(file)
        except BadFile as error:
            refused += 1
            assert "Received: " in str(error), (name, number)
            assert "\n" not in str(error), (name, number)
        except BaseException as error:
            raise AssertionError(f"{name}, input {number}: {error!r}") from error
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < LARGEST, (name, number)
        assert time.monotonic() - start < SECONDS, (name, number)
    assert refused > count / 4


@pytest.mark.parametrize("name", READERS)
def test_a_mutated_file_is_read_or_refused_in_one_sentence(name, tmp_path):
    fuzz(name, 150, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_mutated_files(name, tmp_path):
    fuzz(name, 100_000 // len(READERS), tmp_path)
