"""ONNX files for servers and other runtimes: the converter."""

import functools
import tempfile
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.export.conversion import unsupported
from keras_facemargin.export.formats import ONNX
from keras_facemargin.export.graph import (
    INPUT_NAME,
    OUTPUT_NAME,
    check_backend,
    exported_by_keras,
    frozen,
)
from keras_facemargin.export.verdict import Op
from keras_facemargin.runtime.carried import ENTRY

_OPSET = 15
# Instead of zeros before a MaxPool. ONNX Runtime 1.31 makes padding by zeros part of the pool,
# whose own padding is of minus infinity: ResNet50V2 had wrong embeddings.
_NEARLY_ZERO = 1e-6  # also in float16
_CHANGES_OF_TYPE = ("QuantizeLinear", "DequantizeLinear", "Cast", "Constant")
# TensorFlow ops that tf2onnx does not convert, in exact ONNX forms: a chain of ops, each on the
# value so far (x) and the number 1.
_FORMS = {
    "Erfc": (("Erf", "x"), ("Sub", "1x")),  # in every exact GELU
    "Expm1": (("Exp", "x"), ("Sub", "x1")),
    "Log1p": (("Add", "x1"), ("Log", "x")),
}


def convert(
    embedder: Any,
    precision: str = "float32",
    representative: npt.NDArray[Any] | None = None,
    carried: bytes | None = None,
) -> bytes:
    """Converts an embedder.

    Args:
        embedder: as `float32_embedder` returns it.
        precision: of a row of `FORMATS`.
        representative: float32 images that set the ranges of `"int8"`; else None.
        carried: the entry of the file on its input; None leaves it out.

    Returns:
        The bytes of the ONNX file.

    Raises:
        ExportError: an op has no ONNX form.
        Exception: any other error of the converter.
    """
    from_torch = check_backend(ONNX) == "torch"
    model = _of_torch(embedder) if from_torch else _of_tensorflow(embedder)
    _keep_padding(model.graph)
    if precision == "float16":
        model = _with_halves(model)
    if precision == "int8":
        model = _with_integers(model, [] if representative is None else representative)
    if carried is not None:
        model.metadata_props.add(key=ENTRY, value=carried.decode())
    artefact: bytes = model.SerializeToString()
    return artefact


def _of_tensorflow(embedder: Any) -> Any:
    import tf2onnx

    graph = frozen(embedder)
    (image,), (embedding,) = graph.inputs, graph.outputs
    model, _ = tf2onnx.convert.from_graph_def(
        graph.graph.as_graph_def(),
        name=embedder.name,
        input_names=[image.name],
        output_names=[embedding.name],
        opset=_OPSET,
        tensors_to_rename={image.name: INPUT_NAME, embedding.name: OUTPUT_NAME},
        custom_op_handlers={
            op: (functools.partial(_in_steps, steps), []) for op, steps in _FORMS.items()
        },
    )
    if missing := _ops_outside_onnx(model.graph):
        raise unsupported("ONNX", embedder, missing)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def _of_torch(embedder: Any) -> Any:
    import onnx

    with tempfile.TemporaryDirectory(prefix="facemargin-") as folder:
        model = onnx.load(exported_by_keras(embedder, "onnx", f"{folder}/model.onnx"))
    (output,) = model.graph.output
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == output.name:
                    names[index] = OUTPUT_NAME
    output.name = OUTPUT_NAME
    output.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def _keep_padding(graph: Any) -> None:
    """Gives zeros that are padded before a MaxPool a value that ONNX Runtime does not take away."""
    import onnx

    values = {each.name: each for each in graph.initializer}
    values |= {
        node.output[0]: each.t
        for node in graph.node
        for each in node.attribute
        if (node.op_type, each.name) == ("Constant", "value")
    }
    pooled = {node.input[0] for node in graph.node if node.op_type == "MaxPool"}
    for node in graph.node:
        if node.op_type != "Pad" or node.output[0] not in pooled:
            continue
        if any(each.name == "mode" and each.s != b"constant" for each in node.attribute):
            continue
        given = node.input[2] if len(node.input) > 2 else ""
        if given and (given not in values or onnx.numpy_helper.to_array(values[given]) != 0):
            continue  # not zero, or not known here
        name = f"{node.output[0]}_value"
        value = np.array(_NEARLY_ZERO, "float32")
        graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        inputs = [*node.input[:2], name, *node.input[3:]]
        _replace(node.input, inputs)


def _with_halves(model: Any) -> Any:
    """The model in float16, with float32 input, output and L2 normalisation.

    The sum of the squares of an embedding leaves the range of float16 from a norm of 256 on. The
    normalisation is taken off for the conversion, because the converter gives the nodes of its
    block list their values in float16, too.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    tail = _normalisation(model.graph)
    body = [node for node in model.graph.node if node not in tail]
    given = {name for node in tail for name in node.input}
    (embedding,) = given & {name for node in body for name in node.output}
    outputs = list(model.graph.output)
    _replace(model.graph.node, body)
    value = onnx.helper.make_tensor_value_info(embedding, onnx.TensorProto.FLOAT, None)
    _replace(model.graph.output, [value])
    halved = convert_float_to_float16(model, keep_io_types=True)
    _replace(halved.graph.node, _in_order([*halved.graph.node, *tail]))
    _replace(halved.graph.output, outputs)
    return halved


def _replace(field: Any, values: Iterable[Any]) -> None:
    """Replaces the content of a repeated field."""
    values = list(values)
    del field[:]
    field.extend(values)


def _in_order(nodes: list[Any]) -> list[Any]:
    """Nodes after those that make their inputs, as ONNX requires; the converter appends some."""
    makers = {name: index for index, node in enumerate(nodes) for name in node.output}
    order: dict[int, None] = {}

    def add(index: int) -> None:
        for name in nodes[index].input:
            if name in makers and makers[name] not in order:
                add(makers[name])
        order[index] = None

    for index in range(len(nodes)):
        if index not in order:
            add(index)
    return [nodes[index] for index in order]


def _with_integers(model: Any, representative: Iterable[npt.NDArray[Any]]) -> Any:
    """The model with int8 weights and activations around float32 input, output, normalisation."""
    import onnx
    from onnxruntime import quantization

    images = iter(representative)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
            image = next(images, None)
            return None if image is None else {INPUT_NAME: image[None]}

    with tempfile.TemporaryDirectory(prefix="facemargin-") as folder:
        quantization.quantize_static(
            model,
            f"{folder}/model.onnx",
            Reader(),
            per_channel=True,
            # Without VNNI an x86 processor multiplies signed bytes in 16 bits, which overflow, or
            # one at a time: these are right on every processor.
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QUInt8,
            nodes_to_exclude=[node.name for node in _normalisation(model.graph)],
        )
        return onnx.load(f"{folder}/model.onnx")


def _normalisation(graph: Any) -> list[Any]:
    """The nodes of the L2 normalisation: all that the embedding goes through, and their constants.

    Its last node of several inputs multiplies the embedding, from which the last sum is made.
    """
    nodes = list(graph.node)
    makers = {name: node for node in nodes for name in node.output}
    last = makers[graph.output[0].name]
    while len(last.input) == 1:
        last = makers[last.input[0]]
    before = next(node for node in reversed(nodes) if node.op_type.startswith("Reduce"))
    sources, waiting = set(), list(before.input)
    while waiting:
        name = waiting.pop()
        if name not in sources:
            sources.add(name)
            waiting += makers[name].input if name in makers else ()
    after = {name for name in last.input if name in sources}
    tail = []
    for node in nodes:
        if after & set(node.input):
            after |= set(node.output)
            tail.append(node)
    given = {name for node in tail for name in node.input}
    constants = [node for node in nodes if node.op_type == "Constant" and given & set(node.output)]
    return [*constants, *tail]


def list_ops(artefact: bytes) -> list[Op]:
    """The ops of a file, in order, by their ONNX names, without those that change the type.

    In a file of int8 the runtime computes an op in integers if its result is quantised next.
    """
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(artefact)).graph
    floats = {
        each.name
        for each in (*graph.value_info, *graph.output)
        if each.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            floats.discard(node.input[0])
    return [
        Op(node.op_type, bool(floats & set(node.output)))
        for node in graph.node
        if node.op_type not in _CHANGES_OF_TYPE
    ]


def _in_steps(
    steps: tuple[tuple[str, str], ...], ctx: Any, node: Any, name: str, args: Any
) -> None:
    """A tf2onnx handler that writes a TensorFlow op as a chain of ONNX ops."""
    value, one = node.input[0], ctx.make_const(f"{name}__one", np.float32(1.0)).output[0]
    shapes, dtypes = node.output_shapes, node.output_dtypes
    ctx.remove_node(name)
    for index, (op, inputs) in enumerate(steps):
        value = ctx.make_node(
            op,
            [{"x": value, "1": one}[each] for each in inputs],
            name=f"{name}__{op}",
            outputs=node.output if index == len(steps) - 1 else None,
            shapes=shapes,
            dtypes=dtypes,
        ).output[0]


def _ops_outside_onnx(graph: Any) -> list[tuple[str, str]]:
    """(op, name) of the nodes that the converter did not convert, also inside loops."""
    import onnx

    found = []
    for node in graph.node:
        if not onnx.defs.has(node.op_type, node.domain):
            found.append((node.op_type, node.name))
        for attribute in node.attribute:
            found += _ops_outside_onnx(attribute.g)
    return found
