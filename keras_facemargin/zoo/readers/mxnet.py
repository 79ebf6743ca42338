"""MXNet's models: `NAME-symbol.json`, the graph, and `NAME-0000.params`, its arrays.

The file of arrays: magic 0x112, a reserved number and the count (64 bits each), the arrays, the
count again and the names. An array of version 2: magic 0xF993FAC9, storage type, rank, sizes
(64 bits), device (two numbers), type and data.
"""

import ast
import json
import os
import pathlib
import re
import struct
import typing

import numpy as np

from keras_facemargin.files import read_text
from keras_facemargin.zoo.readers.contents import (
    Graph,
    Node,
    Problem,
    State,
    Tensor,
    checked_count,
    reading,
)

_TYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8"}
_LIST, _V1, _V2, _V3 = 0x112, 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_MOST_SIZES = 32
_LONGEST_SYMBOL = 50_000_000


def read(path: str | os.PathLike[str]) -> Graph:
    """Reads a model.

    Args:
        path: the `.params` file or the `-symbol.json` file; the other one must be beside it.

    Returns:
        A `Graph` in the layout (N, C, H, W).

    Raises:
        BadFile: a file is damaged, or is of another kind.
        OSError: a file cannot be read.
    """
    symbol, params = graph_and_arrays(pathlib.Path(path))
    arrays = read_params(params)
    with reading(symbol, "the graph of an MXNet model, a -symbol.json file"):
        if symbol.stat().st_size > _LONGEST_SYMBOL:
            raise Problem(f"a file of {symbol.stat().st_size:,} bytes.")
        record = json.loads(read_text(symbol, "the graph of an MXNet model"))
        return _Symbol(record, arrays).graph()


def read_params(path: str | os.PathLike[str]) -> State:
    """Reads a file of arrays.

    Args:
        path: the `.params` file.

    Returns:
        Arrays by name, without the prefixes `arg:` and `aux:`.

    Raises:
        BadFile: the file is damaged, or is of another kind.
        OSError: it cannot be read.
    """
    data = pathlib.Path(path).read_bytes()
    with reading(path, "MXNet's arrays, a .params file"):
        return _arrays(data)


def graph_and_arrays(path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """The files of the graph and of the arrays."""
    if path.name.endswith("-symbol.json"):
        stem = path.name.removesuffix("-symbol.json")
        found = sorted(path.parent.glob(f"{_glob_escape(stem)}-[0-9][0-9][0-9][0-9].params"))
        return path, found[-1] if found else path.with_name(f"{stem}-0000.params")
    stem = re.sub(r"(-\d{4})?\.params$", "", path.name)
    return path.with_name(f"{stem}-symbol.json"), path


def _glob_escape(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)


def _arrays(data: bytes) -> State:
    at = 0

    def take(form: str) -> tuple[typing.Any, ...]:
        nonlocal at
        values = struct.unpack_from(f"<{form}", data, at)
        at += struct.calcsize(f"<{form}")
        return values

    magic, _, count = take("QQQ")
    if magic != _LIST:
        raise Problem(f"a file that starts with {magic:#x}, not {_LIST:#x}.")
    arrays: list[Tensor] = []
    for _ in range(count):
        (version,) = take("I")
        if version in (_V2, _V3) and (storage := take("i")[0]) != 0:
            raise Problem(f"an array of storage type {storage}; only dense ones are read.")
        # The oldest form has the rank in place of a version, and sizes of 32 bits.
        modern = version in (_V1, _V2, _V3)
        rank = take("I")[0] if modern else version
        if rank > _MOST_SIZES:
            raise Problem(f"an array of {rank:,} dimensions at byte {at:,}.")
        shape = take(f"{rank}{'q' if modern else 'I'}")
        take("ii")  # the device
        (kind,) = take("i")
        if kind not in _TYPES:
            raise Problem(f"an array of type {kind} at byte {at:,}.")
        dtype = np.dtype(_TYPES[kind])
        size = checked_count(shape, len(data) // dtype.itemsize, "an array")
        arrays.append(np.frombuffer(data, dtype, size, at).reshape(shape))
        at += size * dtype.itemsize
    names: list[str] = []
    if (named := take("Q")[0]) != count:
        raise Problem(f"{count:,} arrays and {named:,} names.")
    for _ in range(named):
        (length,) = take("Q")
        name = data[at : at + length]
        if len(name) != length:
            raise Problem("a name that the end of the file cuts off.")
        names.append(name.decode("utf-8").removeprefix("arg:").removeprefix("aux:"))
        at += length
    if at != len(data):
        raise Problem(f"{len(data) - at:,} bytes after the end.")
    if len(set(names)) != len(names):
        raise Problem("two arrays of one name.")
    return dict(zip(names, arrays, strict=True))


class _Symbol:
    """The nodes of a symbol as nodes of ONNX."""

    def __init__(self, record: typing.Any, arrays: State):
        self.record = record
        self.constants = dict(arrays)
        self.nodes: list[Node] = []

    def graph(self) -> Graph:
        rows = self.record["nodes"]
        names: list[str] = []
        images: list[str] = []
        for row in rows:
            name, op = row["name"], row["op"]
            if not isinstance(name, str) or name in names[-1:] or not isinstance(op, str):
                raise Problem(f"a node named {name!r:.50} with the operator {op!r:.50}.")
            names.append(name)
            if op == "null":
                if name not in self.constants and not name.endswith("label"):
                    images.append(name)
                continue
            # An entry is (node, number of its output, version).
            inputs = [names[entry[0]] for entry in row["inputs"]]
            attributes = row.get("attrs") or row.get("attr") or row.get("param") or {}
            self._node(op, name, inputs, attributes)
        if len(images) != 1:
            raise Problem(
                f"a graph with {len(images)} inputs that have no array ({', '.join(images)!s:.100})"
                "; one, the image, is expected."
            )
        heads = [names[entry[0]] for entry in self.record["heads"]]
        return Graph(self.nodes, self.constants, images[0], (0, 3, 0, 0), heads, True)

    def _node(self, op: str, name: str, inputs: list[str], given: dict[str, str]) -> None:
        attributes = {key: _value(text) for key, text in given.items()}
        get = attributes.get
        add = self._add
        match op:
            case "Convolution":
                kernel = list(attributes["kernel"])
                pads = list(get("pad", (0, 0)))
                add(
                    "Conv",
                    name,
                    inputs,
                    kernel_shape=kernel,
                    strides=list(get("stride", (1, 1))),
                    dilations=list(get("dilate", (1, 1))),
                    pads=pads + pads,
                    group=int(get("num_group", 1)),
                )
            case "BatchNorm":
                fixed = bool(get("fix_gamma", True))
                if fixed:  # the stored gamma is not used
                    gamma = self.constants[inputs[1]]
                    inputs[1] = f"{name} gamma of ones"
                    self.constants[inputs[1]] = np.ones_like(gamma)
                epsilon = float(get("eps", 1e-3))
                add("BatchNormalization", name, inputs, epsilon=epsilon, fixed_scale=int(fixed))
            case "LeakyReLU" if get("act_type", "leaky") == "prelu":
                slopes = f"{name} slopes"  # ONNX's broadcast from the right
                self.constants[slopes] = self.constants[inputs[1]].reshape(-1, 1, 1)
                add("PRelu", name, [inputs[0], slopes])
            case "LeakyReLU" if get("act_type", "leaky") == "leaky":
                add("LeakyRelu", name, inputs, alpha=float(get("slope", 0.25)))
            case "Activation" if get("act_type") in _ACTIVATIONS:
                add(_ACTIVATIONS[attributes["act_type"]], name, inputs)
            case "FullyConnected":
                flat = f"{name} flat"
                add("Flatten", flat, inputs[:1], axis=1)
                add("Gemm", name, [flat, *inputs[1:]], transB=1)
            case "Pooling":
                self._pooling(name, inputs, attributes)
            case "_minus_scalar" | "_mul_scalar" | "_plus_scalar" | "_div_scalar":
                constant = f"{name} scalar"
                self.constants[constant] = np.array(float(attributes["scalar"]), "f4")
                add(_SCALARS[op], name, [inputs[0], constant])
            case "L2Normalization" if get("mode", "instance") == "instance":
                add("LpNormalization", name, inputs, axis=-1, p=2)
            case "Concat":
                add("Concat", name, inputs, axis=int(get("dim", 1)))
            case _ if op in _SAME:
                add(_SAME[op], name, inputs)
            case _:
                add(f"MXNet {op}", name, inputs)  # the graph converter refuses it by this name

    def _pooling(self, name: str, inputs: list[str], attributes: dict[str, typing.Any]) -> None:
        kind = attributes.get("pool_type", "max")
        if attributes.get("global_pool") and kind == "avg":
            self._add("GlobalAveragePool", name, inputs)
            return
        if attributes.get("pooling_convention", "valid") != "valid" or kind not in ("max", "avg"):
            self._add(f"MXNet Pooling {kind}", name, inputs)
            return
        pads = list(attributes.get("pad", (0, 0)))
        self._add(
            "MaxPool" if kind == "max" else "AveragePool",
            name,
            inputs,
            kernel_shape=list(attributes["kernel"]),
            strides=list(attributes.get("stride", (1, 1))),
            pads=pads + pads,
        )

    def _add(self, op: str, name: str, inputs: list[str], **attributes: typing.Any) -> None:
        self.nodes.append(Node(op, name, inputs, [name], attributes))


_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}
_SCALARS = {
    "_minus_scalar": "Sub",
    "_mul_scalar": "Mul",
    "_plus_scalar": "Add",
    "_div_scalar": "Div",
}
_SAME = {
    "elemwise_add": "Add",
    "_Plus": "Add",
    "_plus": "Add",
    "broadcast_add": "Add",
    "broadcast_sub": "Sub",
    "broadcast_minus": "Sub",
    "broadcast_mul": "Mul",
    "broadcast_div": "Div",
    "elemwise_mul": "Mul",
    "_copy": "Identity",
    "identity": "Identity",
    "BlockGrad": "Identity",
    "Dropout": "Identity",
    "Flatten": "Flatten",
}


def _value(text: typing.Any) -> typing.Any:
    """An attribute: numbers, tuples and truths are Python literals; the rest is text."""
    if not isinstance(text, str) or len(text) > 1000:
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
