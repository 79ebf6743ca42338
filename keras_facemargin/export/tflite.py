"""TFLite (LiteRT) files for phones and small boards: the converter."""

import re
import tempfile
from typing import Any

import numpy.typing as npt

from keras_facemargin.export.conversion import unsupported
from keras_facemargin.export.graph import INPUT_NAME, OUTPUT_NAME, frozen
from keras_facemargin.export.metadata import with_metadata

# How the converter names an op of the TensorFlow graph, with its path, in an error.
_OP_IN_ERROR = re.compile(r'error: loc\(callsite\(fused\["(\w+):", "([^"@]+)')


def require() -> None:
    """Raises an ImportError that names the extra if LiteRT is not installed."""
    try:
        import ai_edge_litert.interpreter  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "A TFLite file is tested with LiteRT, which is not installed. "
            "Run: pip install 'keras_facemargin[export]'"
        ) from error


def convert(embedder: Any, precision: str, representative: npt.NDArray[Any] | None) -> bytes:
    """Converts an embedder.

    Args:
        embedder: as `float32_embedder` returns it.
        precision: `"float32"`, `"float16"`, `"dynamic_int8"` or `"int8"`.
        representative: float32 images that set the ranges of `"int8"`; else None.

    Returns:
        The bytes of the TFLite file.

    Raises:
        ExportError: an op has no TFLite form.
        Exception: any other error of the converter.
    """
    import tensorflow as tf

    graph = frozen(embedder, batch_size=1)
    if precision == "int8":
        # The quantiser ends the process at the lists of recurrent layers.
        nodes = graph.graph.as_graph_def().node
        if lists := [(node.op, node.name) for node in nodes if node.op.startswith("TensorList")]:
            raise unsupported("Full int8 TFLite", embedder, lists[:1])
    module = tf.Module()
    module.embed = tf.function(
        lambda image: {OUTPUT_NAME: graph(image)[0]},
        input_signature=[tf.TensorSpec.from_tensor(graph.inputs[0], name=INPUT_NAME)],
        autograph=False,
    )
    # Through a SavedModel, because only that keeps the names of input and output.
    with tempfile.TemporaryDirectory(prefix="facemargin-") as folder:
        # Without gradients: saving refuses the custom gradient of swish.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, folder, signatures=module.embed, options=options)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if precision == "int8":
            batches = [
                [image[None]] for image in ([] if representative is None else representative)
            ]
            converter.representative_dataset = lambda: iter(batches)
            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
                tf.lite.OpsSet.TFLITE_BUILTINS,  # Float islands, which the verdict lists.
            ]
            converter.inference_input_type = tf.uint8
        try:
            artefact: bytes = converter.convert()
        except Exception as error:
            if missing := _OP_IN_ERROR.findall(str(error)):
                raise unsupported("TFLite", embedder, missing) from error
            raise
    # A uint8 input needs no metadata: MediaPipe opens it without.
    return artefact if precision == "int8" else with_metadata(artefact, embedder.name)


def float_islands(artefact: bytes) -> tuple[str, ...]:
    """Names of the ops that compute in float inside a quantised file, in order."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if name[0] != "_"}
    model = schema.ModelT.InitFromPackedBuf(artefact)
    graph = model.subgraphs[0]
    islands = []
    for operator in graph.operators:
        name = names[model.operatorCodes[operator.opcodeIndex].builtinCode]
        output = graph.tensors[operator.outputs[0]]
        if output.type == schema.TensorType.FLOAT32 and name != "DEQUANTIZE":
            islands.append(name)
    return tuple(islands)
