"""ONNX graphs, read with the package `onnx`."""

import os
import pathlib
import typing

import numpy as np

from keras_facemargin.zoo.readers.contents import Graph, Node, Problem, Tensor, reading


def read(path: str | os.PathLike[str]) -> Graph:
    """Reads a graph with its weights inside.

    Args:
        path: the `.onnx` file.

    Returns:
        A `Graph`. Its layout follows from the shape of its input.

    Raises:
        BadFile: the file is damaged or of another kind, has its weights in other files, or has
            several inputs.
        ImportError: the package `onnx` is missing.
        OSError: the file cannot be read.
    """
    onnx = _onnx()
    data = pathlib.Path(path).read_bytes()
    with reading(path, "an ONNX graph"):
        graph = onnx.ModelProto.FromString(data).graph
        constants = {each.name: _tensor(onnx, each) for each in graph.initializer}
        nodes = []
        for number, each in enumerate(graph.node):
            attributes = {a.name: _attribute(onnx, a) for a in each.attribute}
            if each.op_type == "Constant" and len(each.output) == 1:
                constants[each.output[0]] = _constant(attributes)
                continue
            name = each.name or f"{each.op_type}_{number}"
            op = each.op_type if each.domain in ("", "ai.onnx") else f"{each.domain} {each.op_type}"
            nodes.append(Node(op, name, list(each.input), list(each.output), attributes))
        inputs = [each for each in graph.input if each.name not in constants]
        if len(inputs) != 1 or not graph.output:
            raise Problem(f"a graph of {len(inputs)} inputs and {len(graph.output)} outputs.")
        sides = inputs[0].type.tensor_type.shape.dim
        shape = tuple(max(0, side.dim_value) for side in sides)
        outputs = [each.name for each in graph.output]
        first = len(shape) < 4 or shape[3] != 3 or shape[1] == 3
        return Graph(nodes, constants, inputs[0].name, shape, outputs, first)


def _onnx() -> typing.Any:
    try:
        import onnx
    except ImportError as error:
        raise ImportError(
            "Reading an ONNX file needs the package onnx. Received: it is not installed. "
            "`pip install keras_facemargin[export]` installs it."
        ) from error
    return onnx


def _tensor(onnx: typing.Any, proto: typing.Any) -> Tensor:
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        raise Problem(f"the tensor {proto.name!r:.80} in another file.")
    return typing.cast(Tensor, onnx.numpy_helper.to_array(proto))


def _attribute(onnx: typing.Any, proto: typing.Any) -> typing.Any:
    kinds = onnx.AttributeProto
    match proto.type:
        case kinds.FLOAT:
            return float(proto.f)
        case kinds.INT:
            return int(proto.i)
        case kinds.STRING:
            return proto.s.decode("utf-8")
        case kinds.TENSOR:
            return _tensor(onnx, proto.t)
        case kinds.FLOATS:
            return [float(each) for each in proto.floats]
        case kinds.INTS:
            return [int(each) for each in proto.ints]
        case kinds.STRINGS:
            return [each.decode("utf-8") for each in proto.strings]
    return None  # a graph in a graph: its operator is refused by name


def _constant(attributes: dict[str, typing.Any]) -> Tensor:
    for key, dtype in (
        ("value", None),
        ("value_float", "f4"),
        ("value_floats", "f4"),
        ("value_int", "i8"),
        ("value_ints", "i8"),
    ):
        if attributes.get(key) is not None:
            return np.asarray(attributes[key], dtype)
    raise Problem("a constant without a number.")
