"""Readers on small files that the formats' own libraries wrote, and on hostile ones."""

import io
import json
import pickle
import struct
import zipfile

import dlib_writer
import h5py
import keras
import numpy as np
import pytest
from inference import infer

from keras_facemargin.zoo.readers import dlib, keras_h5, mxnet, onnx, safetensors, tflite, torch
from keras_facemargin.zoo.readers.contents import BadFile

READERS = {
    "torch": torch.read,
    "safetensors": safetensors.read,
    "onnx": onnx.read,
    "tflite": tflite.read,
    "mxnet": mxnet.read_params,
    "dlib": dlib.read,
    "keras_h5": keras_h5.read,
}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02.", b"<html>", bytes(2000)])
@pytest.mark.parametrize("name", READERS)
def test_a_file_of_another_kind_is_one_sentence(name, content, tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(content)
    if name == "onnx" and not content:
        pytest.skip("an empty file is an empty graph to protobuf")
    with pytest.raises(BadFile, match=r"a\.bin: must be .*Received: ") as caught:
        READERS[name](file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", READERS)
def test_a_missing_file_is_an_error_of_the_system(name, tmp_path):
    with pytest.raises(OSError, match="missing"):
        READERS[name](tmp_path / "missing")


# PyTorch.


def states():
    rng = np.random.default_rng(0)
    import torch as real

    return {
        "a.weight": real.from_numpy(rng.normal(size=(3, 4)).astype("f4")),
        "a.half": real.from_numpy(rng.normal(size=5).astype("f2")),
        "a.brain": real.from_numpy(rng.normal(size=5).astype("f4")).to(real.bfloat16),
        "a.turned": real.from_numpy(rng.normal(size=(3, 4)).astype("f4")).T,
        "a.part": real.from_numpy(rng.normal(size=(6, 4)).astype("f4"))[2:5],
        "a.count": real.tensor(7),
        "a.flag": real.tensor([True, False]),
        "a.parameter": real.nn.Parameter(real.ones(2)),
    }


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_of_pytorch_are_read_as_pytorch_reads_them(zipped, tmp_path):
    real = pytest.importorskip("torch")
    state = states()
    record = {"epoch": 3, "best": 0.5, "net": state, "lr": [1e-3], "scalar": np.float64(0.1)}
    real.save(record, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    found = torch.read(tmp_path / "a.pt")
    assert list(found) == [f"net.{name}" for name in state]
    for name, value in state.items():
        wanted = value.detach().float().numpy() if "brain" in name else value.detach().numpy()
        np.testing.assert_array_equal(found[f"net.{name}"], wanted)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_quantized_linear_layer_has_weights_and_bias(zipped, tmp_path):
    real = pytest.importorskip("torch")
    weights = real.quantize_per_tensor(real.tensor([[0.5, -1.0], [0.2, 0.0]]), 0.1, 3, real.qint8)
    bias = real.nn.Parameter(real.ones(2))
    state = {"fc._packed_params._packed_params": (weights, bias), "fc._packed_params.dtype": None}
    state["plain"] = weights
    real.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    found = torch.read(tmp_path / "a.pt")
    assert list(found) == ["fc.weight", "fc.bias", "plain"]
    np.testing.assert_allclose(found["fc.weight"], weights.dequantize().numpy(), rtol=1e-6)
    np.testing.assert_array_equal(found["fc.bias"], np.ones(2))


def test_integers_with_a_scale_for_each_channel_are_refused(tmp_path):
    real = pytest.importorskip("torch")
    scales, zeros = real.tensor([0.1, 0.2]), real.zeros(2, dtype=real.int64)
    weights = real.quantize_per_channel(real.ones(2, 3), scales, zeros, 0, real.qint8)
    real.save({"a": weights}, tmp_path / "a.pt")
    with pytest.raises(BadFile, match="per_channel_affine"):
        torch.read(tmp_path / "a.pt")


class Runs:
    def __reduce__(self):
        import os

        return os.system, ("touch ran",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_would_run_a_command_is_refused(zipped, tmp_path, monkeypatch):
    real = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    real.save({"w": real.ones(2), "x": Runs()}, "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(BadFile, match=r"would call '(posix|nt)\.system': that is refused"):
        torch.read("a.pt")
    assert not (tmp_path / "ran").exists()


def test_a_pickled_module_is_refused_by_its_name(tmp_path):
    real = pytest.importorskip("torch")
    real.save(real.nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(BadFile, match=r"would call 'torch\.nn\.modules\.linear\.Linear'"):
        torch.read(tmp_path / "a.pt")


def write_zip(file, pickled, compress=zipfile.ZIP_STORED, **data):
    with zipfile.ZipFile(file, "w", compress) as archive:
        archive.writestr("a/data.pkl", pickled)
        for key, value in data.items():
            archive.writestr(f"a/data/{key[1:]}", value)


def tensor_pickle(offset, shape, strides, count=4):
    """A pickle of one tensor on the storage "0"."""
    storage = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuJ"
    storage += struct.pack("<i", count) + b"tQ"
    sides = [
        b"(" + b"".join(b"J" + struct.pack("<i", side) for side in each) + b"t"
        for each in (shape, strides)
    ]
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"J" + struct.pack("<i", offset)
    rebuilt += sides[0] + sides[1] + b"\x89NtR"
    return b"\x80\x02}X\1\0\0\0w" + rebuilt + b"s."


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((0, (2, 2), (2, 1)), None),
        ((1, (2, 2), (2, 1)), "exceeds its data"),
        ((-1, (2,), (1,)), "at place -1"),
        ((0, (2, 2), (-1, 1)), "a tensor of shape"),
        ((0, (2**30, 2**30), (0, 0)), "more numbers than the file"),
        ((0, (2,), (1, 1)), "not of whole numbers"),
        ((0, (4,), (1,), 9), "4 numbers where 9 are announced"),
    ],
)
def test_the_place_of_a_tensor_is_checked(place, message, tmp_path):
    file = tmp_path / "a.pt"
    write_zip(file, tensor_pickle(*place), _0=np.arange(4, dtype="<f4").tobytes())
    if message is None:
        assert torch.read(file)["w"].tolist() == [[0, 1], [2, 3]]
        return
    with pytest.raises(BadFile, match=message):
        torch.read(file)


def test_a_compressed_archive_and_missing_data_are_refused(tmp_path):
    write_zip(tmp_path / "a.pt", tensor_pickle(0, (4,), (1,)) + bytes(500), zipfile.ZIP_STORED)
    write_zip(tmp_path / "c.pt", tensor_pickle(0, (4,), (1,)), zipfile.ZIP_DEFLATED)
    with pytest.raises(BadFile, match=r"a compressed zip archive|larger than the archive"):
        torch.read(tmp_path / "c.pt")
    with pytest.raises(BadFile, match="data '0' is missing"):
        torch.read(tmp_path / "a.pt")


def test_dictionaries_that_contain_themselves_end(tmp_path):
    record = {}
    record["self"] = record
    write_zip(tmp_path / "a.pt", pickle.dumps(record, 2))
    with pytest.raises(BadFile, match="a checkpoint without tensors"):
        torch.read(tmp_path / "a.pt")


# safetensors.


def write_safetensors(file, header, body=b""):
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + body)


def entry(dtype, shape, start, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_safetensors_are_read(tmp_path):
    first, second = np.arange(6, dtype="<f4").reshape(2, 3), np.float32([1.5, -2]).view("<u4") >> 16
    header = {
        "__metadata__": {"format": "pt"},
        "a": entry("F32", [2, 3], 0, 24),
        "b": entry("BF16", [2], 24, 28),
    }
    write_safetensors(tmp_path / "a", header, first.tobytes() + second.astype("<u2").tobytes())
    found = safetensors.read(tmp_path / "a")
    np.testing.assert_array_equal(found["a"], first)
    assert found["b"].tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry("F32", [3], 0, 8)}, r"more numbers than the file"),
        ({"a": entry("F32", [2], 0, 8), "b": entry("F32", [1], 4, 8)}, "where 8 is due"),
        ({"a": entry("F32", [1], 4, 8)}, "at bytes 4 to 8, where 0 is due"),
        ({"a": entry("X9", [2], 0, 8)}, "of type 'X9'"),
        ({"a": entry("F32", [1], 0, 4)}, "tensors of 4 bytes in a body of 8"),
        ({"a": entry("F32", [-1, -2], 0, 8)}, "more numbers than the file"),
        ([1], "damaged or of another kind"),
    ],
)
def test_places_of_safetensors_are_checked(header, message, tmp_path):
    write_safetensors(tmp_path / "a", header, bytes(8))
    with pytest.raises(BadFile, match=message):
        safetensors.read(tmp_path / "a")


# Keras' .h5.


@pytest.mark.filterwarnings("ignore::UserWarning")  # Keras calls the format legacy
def test_weights_of_an_h5_file_are_read_in_their_order(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(4)])
    model.save(tmp_path / "a.h5")
    found = list(keras_h5.read(tmp_path / "a.h5").values())
    for one, two in zip(found, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_an_h5_file_that_leads_elsewhere_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = [b"a"]
        group = file.create_group("a")
        group.attrs["weight_names"] = [b"w"]
        outside = tmp_path / "secret"
        outside.write_bytes(bytes(16))
        group.create_dataset("w", (4,), "f4", external=[(str(outside), 0, 16)])
    with pytest.raises(BadFile, match="the weight 'w'"):
        keras_h5.read(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.attrs["layer_names"] = [b"a"]
        file.create_group("a").attrs["weight_names"] = [b"w"]
        file["a"].create_dataset("w", (10**7,), "f4", compression="gzip", fillvalue=1)
    with pytest.raises(BadFile, match="more numbers than the file"):
        keras_h5.read(tmp_path / "b.h5")


def names_in_a_heap():
    """A file whose names are texts of any length, as h5py writes lists."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["layer_names"] = [b"first"]
        file.create_group("first").attrs["weight_names"] = [b"kernel"]
        file["first/kernel"] = np.ones(2, "f4")
    return bytearray(stream.getvalue())


@pytest.mark.parametrize("names", [[b"a", b"b"], np.array([b"a", b"b"]), np.array([])])
def test_names_may_be_of_one_length_of_any_or_absent(names, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = [b"used", b"empty"]
        file.create_group("empty").attrs["weight_names"] = names[:0]
        group = file.create_group("used")
        group.attrs["weight_names"] = names if len(names) else [b"a"]
        for name in ("a", "b"):
            group[name] = np.ones(2, "f4")
    assert next(iter(keras_h5.read(tmp_path / "a.h5"))) == "used/a"


def test_a_heap_whose_reading_would_not_end_is_refused(tmp_path):
    data = names_in_a_heap()
    place = data.index(b"first\0", data.index(b"GCOL")) + 8  # the next object
    while data[place]:
        place += 16 + -(-data[place + 8] // 8) * 8
    data[place + 8 : place + 16] = bytes(8)  # size of the free space
    (tmp_path / "a.h5").write_bytes(data)
    with pytest.raises(BadFile, match="an object of 0 bytes in a heap of 4,096"):
        keras_h5.read(tmp_path / "a.h5")


def test_a_name_that_is_longer_than_the_file_is_refused(tmp_path):
    data = names_in_a_heap()
    heap = data.index(b"GCOL").to_bytes(8, "little")
    place = data.index(heap, data.index(b"weight_names"))
    data[place - 4 : place] = b"\xff\xff\xff\x7f"
    (tmp_path / "a.h5").write_bytes(data)
    with pytest.raises(BadFile, match="'weight_names' that is longer than the file"):
        keras_h5.read(tmp_path / "a.h5")


# ONNX.


def test_weights_in_another_file_are_refused(tmp_path):
    import onnx as real

    info = real.helper.make_tensor_value_info
    graph = real.helper.make_graph(
        [real.helper.make_node("Conv", ["x", "w"], ["y"])],
        "g",
        [info("x", 1, [1, 3, 8, 8])],
        [info("y", 1, [1, 4, 8, 8])],
        [real.numpy_helper.from_array(np.ones((4, 3, 1, 1), "f4"), "w")],
    )
    model, file = real.helper.make_model(graph), tmp_path / "a.onnx"
    real.save(model, file, save_as_external_data=True, location="other.bin", size_threshold=0)
    with pytest.raises(BadFile, match="the tensor 'w' in another file"):
        onnx.read(file)


# dlib.


def test_a_network_of_dlib_is_rebuilt_with_its_zeros_after_smaller_maps(tmp_path):
    from keras_facemargin.zoo import graph

    content, weights = dlib_writer.small_network()
    (tmp_path / "a.dat").write_bytes(content)
    built = graph.build(dlib.read(tmp_path / "a.dat"), size=(14, 14))
    assert len(built.folded) == 1
    images = np.random.default_rng(0).integers(0, 256, (2, 14, 14, 3))
    found = infer(built.model, images.astype("float32"))
    wanted = [dlib_writer.run(weights, image) for image in images]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_layer_of_dlib_that_is_not_known_is_named(tmp_path):
    content, _ = dlib_writer.small_network()
    (tmp_path / "a.dat").write_bytes(content.replace(b"relu_", b"sig__"))
    with pytest.raises(BadFile, match=r"the layer 'sig__' at byte [\d,]+; only con_4, affine_"):
        dlib.read(tmp_path / "a.dat")
