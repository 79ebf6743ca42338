"""ONNX files for servers and other runtimes: the converter."""

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.export.conversion import unsupported
from keras_facemargin.export.graph import INPUT_NAME, OUTPUT_NAME, frozen

_OPSET = 15
# TensorFlow ops that tf2onnx does not convert, in exact ONNX forms: a chain of ops, each on the
# value so far (x) and the number 1.
_FORMS = {
    "Erfc": (("Erf", "x"), ("Sub", "1x")),  # in every exact GELU
    "Expm1": (("Exp", "x"), ("Sub", "x1")),
    "Log1p": (("Add", "x1"), ("Log", "x")),
}


def require() -> None:
    """Raises an ImportError that names the extra if tf2onnx or ONNX Runtime is not installed."""
    try:
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "An ONNX file needs tf2onnx and ONNX Runtime, which are not installed. "
            "Run: pip install 'keras_facemargin[export]'"
        ) from error


def convert(
    embedder: Any, precision: str = "float32", representative: npt.NDArray[Any] | None = None
) -> bytes:
    """Converts an embedder.

    Args:
        embedder: as `float32_embedder` returns it.
        precision: `"float32"`.
        representative: None.

    Returns:
        The bytes of the ONNX file.

    Raises:
        ExportError: an op has no ONNX form.
        Exception: any other error of the converter.
    """
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
    artefact: bytes = model.SerializeToString()
    return artefact


def with_entry(artefact: bytes, name: str, content: bytes) -> bytes:
    """Adds a named text to the metadata of an ONNX file.

    Args:
        artefact: bytes of the file.
        name: of the entry.
        content: its text in UTF-8.
    """
    import onnx

    model = onnx.load_from_string(artefact)
    model.metadata_props.add(key=name, value=content.decode())
    written: bytes = model.SerializeToString()
    return written


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
