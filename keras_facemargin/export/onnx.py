"""An embedder as an ONNX file for servers and other runtimes."""

import functools

import numpy as np

from keras_facemargin.export.conversion import converting, unsupported
from keras_facemargin.export.graph import (
    INPUT_NAME,
    OUTPUT_NAME,
    float32_embedder,
    frozen,
    normalised,
)
from keras_facemargin.export.images import check_images
from keras_facemargin.export.verdict import Tolerance, check_path, deliver, threads

_TOLERANCE = Tolerance(0.9999, 0.99999)  # The order of summation; 1 - 1e-6 is usual.
_OPSET = 15
# TensorFlow ops that tf2onnx leaves as they are, in exact ONNX forms: ops in a row, each of the
# value so far (x) and the number 1.
_FORMS = {
    "Erfc": (("Erf", "x"), ("Sub", "1x")),  # in every exact GELU
    "Expm1": (("Exp", "x"), ("Sub", "x1")),
    "Log1p": (("Add", "x1"), ("Log", "x")),
}


def export_onnx(embedder, path, images=None, tolerance=None):
    """Writes an embedder as a float32 ONNX file (opset 15) and judges it against Keras.

    The file takes `"image"`, float32 `(batch, H, W, 3)`, NHWC, RGB 0..255 (the preprocessing is
    inside), any number at once, and gives `"embedding"`, float32 `(batch, D)`, L2-normalised.

    Args:
        embedder: a Functional `keras.Model`, `(B, H, W, 3)` float32 RGB 0..255 -> `(B, D)`. One
            trained in mixed precision is exported, and judged, in float32.
        path: the file to write, ending in `.onnx`. A file already there is replaced only by one
            that passes, in one step.
        images: aligned face crops to judge on, uint8 or float `(N, H, W, 3)`, RGB 0..255. Default:
            64 synthetic faces.
        tolerance: a `Tolerance`. Default: least cosine 0.9999, mean 0.99999.

    Returns:
        A `Verdict`; print it, or keep its `to_dict()`.

    Raises:
        ExportError: the embedder has an op without an ONNX form (layer and op are named), or the
            file misses the tolerance; it is kept as `<path>.failed`.
        ValueError: a wrong path, embedder or image.
        RuntimeError: Keras runs on another backend than TensorFlow.
        ImportError: tf2onnx or ONNX Runtime is not installed (extra `export`).

    Example:

    ```python
    print(export_onnx(embedder, "face.onnx"))
    ```
    """
    path = check_path(path, ".onnx")
    embedder = float32_embedder(embedder)
    images = check_images(images, embedder.input_shape[1:])
    tf2onnx, onnxruntime = _import_onnx()
    with converting("ONNX", embedder):
        artefact = _convert(embedder, tf2onnx)
        run = _runner(artefact, onnxruntime)
        run(images[:1])
    return deliver(
        artefact,
        path,
        run,
        normalised(embedder),
        images,
        tolerance=tolerance or _TOLERANCE,
        format="onnx",
        precision="float32",
    )


def _import_onnx():
    try:
        import onnxruntime
        import tf2onnx
    except ImportError as error:
        raise ImportError(
            "Writing and judging an ONNX file needs tf2onnx and ONNX Runtime. "
            "Run: pip install 'keras_facemargin[export]'"
        ) from error
    return tf2onnx, onnxruntime


def _convert(embedder, tf2onnx):
    """The bytes of the ONNX file."""
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
    return model.SerializeToString()


def _in_steps(steps, ctx, node, name, args):
    """A tf2onnx handler that writes a TensorFlow op as ONNX ops in a row."""
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


def _ops_outside_onnx(graph):
    """(op, name) of the nodes that the converter left as they are, those of loops included."""
    import onnx

    found = []
    for node in graph.node:
        if not onnx.defs.has(node.op_type, node.domain):
            found.append((node.op_type, node.name))
        for attribute in node.attribute:
            found += _ops_outside_onnx(attribute.g)
    return found


def _runner(artefact, onnxruntime):
    """A function of images to embeddings, by the names in the file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    session = onnxruntime.InferenceSession(artefact, options, providers=["CPUExecutionProvider"])

    def run(images):
        # An input that the converter left dangling would be missing here, and raise.
        (embedding,) = session.run([OUTPUT_NAME], {INPUT_NAME: images.astype("float32")})
        return embedding

    return run
