"""An embedder as a TFLite (LiteRT) file for phones and small boards."""

import re
import tempfile

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
from keras_facemargin.export.metadata import with_metadata
from keras_facemargin.export.verdict import Tolerance, check_path, deliver, threads

_TOLERANCES = {
    "float32": Tolerance(0.9999, 0.99999),  # The order of summation; 1 - 1e-6 is usual.
    "float16": Tolerance(0.999, 0.9999),  # 11 bits of every weight.
    "dynamic_int8": Tolerance(0.99, 0.995),  # 8 bits per weight, activations rounded on the fly.
    "int8": Tolerance(0.95, 0.98),  # 8 bits everywhere, ranges from the representative set.
}
MIN_REPRESENTATIVE = 64
# How the converter names an op of the TensorFlow graph, with its path, in an error.
_OP_IN_ERROR = re.compile(r'error: loc\(callsite\(fused\["(\w+):", "([^"@]+)')


def export_tflite(embedder, path, precision="float32", images=None, tolerance=None):
    """Writes an embedder as a TFLite file and judges it against Keras.

    The file takes one image (`"image"`, `(1, H, W, 3)`, NHWC, raw RGB: the preprocessing is inside)
    and gives `"embedding"`, float32 `(1, D)`, L2-normalised by one fused op. The batch is fixed at
    1, because GPU delegates and NPUs compile static shapes only; where a program wants more at
    once, `Interpreter.resize_tensor_input` still takes any batch on the CPU.

    | precision | weights | arithmetic | image |
    | --- | --- | --- | --- |
    | `"float32"` | float32 | float32 | float32 0..255 |
    | `"float16"` | float16 | float32, or float16 on a GPU | float32 0..255 |
    | `"dynamic_int8"` | int8 | int8 products, float32 between the layers | float32 0..255 |
    | `"int8"` | int8 | int8 throughout | uint8 RGB bytes |

    Full int8 takes the bytes of a camera frame as they are (scale 1, zero point 0) and dequantises
    its output itself, so that no program needs to know a scale. MediaPipe's ImageEmbedder opens
    this file and the float ones, which hold the metadata that it asks for (NormalizationOptions
    with mean 0 and standard deviation 1: the graph takes RGB 0..255). The int8 embeddings are
    multiples of 1/128, of unit length only to within a few per cent: compare them with the cosine,
    not the dot product, and calibrate their threshold on the file itself.

    Args:
        embedder: a Functional `keras.Model`, `(B, H, W, 3)` float32 RGB 0..255 -> `(B, D)`. One
            trained in mixed precision is exported, and judged, in float32.
        path: the file to write, ending in `.tflite`. A file already there is replaced only by one
            that passes, in one step.
        precision: a row of the table.
        images: aligned face crops to judge on, uint8 or float `(N, H, W, 3)`, RGB 0..255. Default:
            64 synthetic faces. Full int8 has no default: it needs at least 64 images (some hundreds
            of different people are better), every other one of which sets the ranges of the
            activations, while the rest judge.
        tolerance: a `Tolerance`. Default: least and mean cosine of 0.9999 and 0.99999 (float32),
            0.999 and 0.9999 (float16), 0.99 and 0.995 (dynamic int8), 0.95 and 0.98 (full int8,
            where 0.995 is usual for a trained embedder and 0.5 for an untrained one).

    Returns:
        A `Verdict`; print it, or keep its `to_dict()`.

    Raises:
        ExportError: the embedder has an op without a TFLite form (layer and op are named), or the
            file misses the tolerance; it is kept as `<path>.failed`.
        ValueError: a wrong precision, path, embedder or image.
        RuntimeError: Keras runs on another backend than TensorFlow.
        ImportError: LiteRT is not installed (extra `export`).

    Example:

    ```python
    verdict = export_tflite(embedder, "face.tflite", precision="int8", images=crops)
    print(verdict)
    ```
    """
    if precision not in _TOLERANCES:
        raise ValueError(
            f"precision must be one of {list(_TOLERANCES)}. Received: precision={precision!r}."
        )
    path = check_path(path, ".tflite")
    embedder = float32_embedder(embedder)
    representative = None
    if precision == "int8":
        representative, images = _split_representative(images, embedder.input_shape[1:])
    else:
        images = check_images(images, embedder.input_shape[1:])
    litert = _import_litert()
    with converting("TFLite", embedder):
        artefact = _convert(embedder, precision, representative)
        run = _runner(artefact, litert)
        run(images[:1])
    return deliver(
        artefact,
        path,
        run,
        normalised(embedder),
        images,
        tolerance=tolerance or _TOLERANCES[precision],
        format="tflite",
        precision=precision,
        float_islands=_float_islands(artefact) if precision == "int8" else (),
    )


def _import_litert():
    try:
        import ai_edge_litert.interpreter as litert
    except ImportError as error:
        raise ImportError(
            "Judging a TFLite file needs LiteRT. Run: pip install 'keras_facemargin[export]'"
        ) from error
    return litert


def _split_representative(images, input_shape):
    """Images -> (float32 images that set the ranges, uint8 images that judge)."""
    if images is not None:
        images = check_images(images, input_shape)
    if images is None or len(images) < MIN_REPRESENTATIVE:
        received = "none" if images is None else f"{len(images)} images"
        raise ValueError(
            "precision='int8' needs a representative set: images, at least "
            f"{MIN_REPRESENTATIVE} aligned face crops (N, H, W, 3), RGB 0..255; one half sets the "
            f"ranges of the activations, the other judges the file. Received: {received}. Pass "
            "more crops, or use precision='dynamic_int8', which needs none."
        )
    pixels = np.rint(images).astype("uint8")
    representative = pixels[::2].astype("float32")
    # The input's own range must be exactly 0..255, or RGB bytes would be taken for something else:
    # a set without a full white or black pixel would rescale every image a little.
    representative[0, 0, 0], representative[0, 0, -1] = 0.0, 255.0
    return representative, pixels[1::2]


def _convert(embedder, precision, representative):
    """The bytes of the TFLite file."""
    import tensorflow as tf

    graph = frozen(embedder, batch_size=1)
    if precision == "int8":
        # The quantiser ends the process at the lists over which recurrent layers loop.
        nodes = graph.graph.as_graph_def().node
        if lists := [(node.op, node.name) for node in nodes if node.op.startswith("TensorList")]:
            raise unsupported("Full int8 TFLite", embedder, lists[:1])
    module = tf.Module()
    module.embed = tf.function(
        lambda image: {OUTPUT_NAME: graph(image)[0]},
        input_signature=[tf.TensorSpec.from_tensor(graph.inputs[0], name=INPUT_NAME)],
        autograph=False,
    )
    # By way of a SavedModel, because only that carries the names of input and output.
    with tempfile.TemporaryDirectory(prefix="facemargin-") as folder:
        # Gradients would only be in the way: swish has one of its own, which saving refuses.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, folder, signatures=module.embed, options=options)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if precision == "int8":
            converter.representative_dataset = lambda: ([image[None]] for image in representative)
            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
                tf.lite.OpsSet.TFLITE_BUILTINS,  # Float islands, which the verdict lists.
            ]
            converter.inference_input_type = tf.uint8
        try:
            artefact = converter.convert()
        except Exception as error:
            if missing := _OP_IN_ERROR.findall(str(error)):
                raise unsupported("TFLite", embedder, missing) from error
            raise
    # A uint8 input needs no metadata: MediaPipe opens it as it is.
    return artefact if precision == "int8" else with_metadata(artefact, embedder.name)


def _runner(artefact, litert):
    """A function of `(1, H, W, 3)` images to `(1, D)` embeddings, by the names in the file."""
    interpreter = litert.Interpreter(model_content=artefact, num_threads=threads())
    interpreter.allocate_tensors()
    signature = interpreter.get_signature_runner()
    (details,) = signature.get_input_details().values()

    def run(images):
        # LiteRT reuses the memory of its outputs.
        return signature(**{INPUT_NAME: images.astype(details["dtype"])})[OUTPUT_NAME].copy()

    return run


def _float_islands(artefact):
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
