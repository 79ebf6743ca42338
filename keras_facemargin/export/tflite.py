"""TFLite (LiteRT) files for phones and small boards: the converter."""

import re
import tempfile
from typing import Any

import numpy.typing as npt

from keras_facemargin.export.conversion import unsupported
from keras_facemargin.export.graph import frozen
from keras_facemargin.export.metadata import with_entry, with_metadata
from keras_facemargin.export.rewrite import (
    drop_last_normalisation,
    guard_normalisation,
    split_prelu,
)
from keras_facemargin.export.savedmodel import write_graph
from keras_facemargin.export.verdict import Op
from keras_facemargin.runtime.carried import ENTRY

# How the converter names an op of the TensorFlow graph, with its path, in an error.
_OP_IN_ERROR = re.compile(r'error: loc\(callsite\(fused\["(\w+):", "([^"@]+)')

_SMALLEST = 1.2e-7  # twice the smallest number of float16

# How the interpreter names an op of the file.
_NODE_IN_ERROR = re.compile(r"Node number (\d+) \((\w+)\)")


def convert(
    embedder: Any,
    precision: str,
    representative: npt.NDArray[Any] | None,
    carried: bytes | None = None,
) -> bytes:
    """Converts an embedder.

    Args:
        embedder: as `float32_embedder` returns it.
        precision: of a row of `FORMATS`.
        representative: float32 images that set the ranges of `"int8"` and `"int16x8"`; else None.
        carried: the entry of the file on its input; None leaves it out.

    Returns:
        The bytes of the TFLite file.

    Raises:
        ExportError: an op has no TFLite form.
        Exception: any other error of the converter.
    """
    import tensorflow as tf

    if precision in ("int8", "int16x8"):
        embedder = drop_last_normalisation(embedder)
    else:
        embedder = guard_normalisation(embedder, _SMALLEST if precision == "float16" else 0.0)
    if precision == "int8":
        embedder = split_prelu(embedder)
    graph = frozen(embedder, batch_size=1)
    if precision == "int8":
        # The quantiser ends the process at the lists of recurrent layers.
        nodes = graph.graph.as_graph_def().node
        if lists := [(node.op, node.name) for node in nodes if node.op.startswith("TensorList")]:
            raise unsupported("Full int8 TFLite", embedder, lists[:1])
    # Through a SavedModel, because only that keeps the names of input and output.
    with tempfile.TemporaryDirectory(prefix="facemargin-") as folder:
        write_graph(graph, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if precision not in ("float32", "weight_int8"):
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if representative is not None:
            batches = [[image[None]] for image in representative]
            converter.representative_dataset = lambda: iter(batches)
            sets = tf.lite.OpsSet
            integers = {
                "int8": sets.TFLITE_BUILTINS_INT8,
                "int16x8": sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
            }
            # The second: float islands, which the verdict lists.
            converter.target_spec.supported_ops = [integers[precision], sets.TFLITE_BUILTINS]
        if precision == "int8":
            converter.inference_input_type = tf.uint8
        try:
            artefact: bytes = converter.convert()
        except Exception as error:
            if missing := _OP_IN_ERROR.findall(str(error)):
                raise unsupported("TFLite", embedder, missing) from error
            raise
    if precision != "int8":  # MediaPipe opens a uint8 input without
        artefact = with_metadata(artefact, embedder.name)
    if carried is not None:
        artefact = with_entry(artefact, ENTRY, carried)
    # Last: what is added to a file of the quantiser destroys it.
    return _with_int8_weights(artefact) if precision == "weight_int8" else artefact


def _with_int8_weights(artefact: bytes) -> bytes:
    """A float32 file with its weights as int8, which the ops take back to float32."""
    from ai_edge_quantizer import quantizer, recipe

    weights = quantizer.Quantizer(artefact, recipe.weight_only_wi8_afp32())
    return bytes(weights.quantize(enable_progress_report=False).quantized_model)


def failed_op(artefact: bytes, error: str) -> tuple[str, list[str]] | None:
    """(op, paths in the TensorFlow graph) of the op that an error of the interpreter numbers."""
    from ai_edge_litert import schema_py_generated as schema

    found = _NODE_IN_ERROR.search(error)
    if found is None:
        return None
    graph = schema.ModelT.InitFromPackedBuf(artefact).subgraphs[0]
    operator = graph.operators[int(found[1])]
    return found[2], graph.tensors[operator.outputs[0]].name.decode().split(";")


def list_ops(artefact: bytes) -> list[Op]:
    """The ops of a file, in order, by their TFLite names."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if name[0] != "_"}
    model = schema.ModelT.InitFromPackedBuf(artefact)
    graph = model.subgraphs[0]
    found = []
    for operator in graph.operators:
        name = names[model.operatorCodes[operator.opcodeIndex].builtinCode]
        output = graph.tensors[operator.outputs[0]]
        is_float = output.type == schema.TensorType.FLOAT32 and name != "DEQUANTIZE"
        found.append(Op(name, is_float))
    return found
