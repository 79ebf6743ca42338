"""The graph behind every format: raw RGB in, L2-normalised float32 embedding out.

On TensorFlow the graph is frozen (its variables become constants) before a converter sees it,
because converters silently lose what they do not recognise: the variables of a Keras 3 model
vanish from `TFLiteConverter.from_concrete_functions(..., model)` and from a SavedModel of a plain
`tf.Module`, and the mean and variance of a `Normalization` layer become dangling inputs in
`tf2onnx.convert.from_function`.
"""

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_facemargin.export.formats import Container
from keras_facemargin.export.verdict import ExportError, Run

INPUT_NAME = "image"
OUTPUT_NAME = "embedding"


def check_backend(container: Container) -> str:
    """Checks that a kind of file can be written from the backend that runs, and returns its name.

    Raises:
        ExportError: it cannot.
    """
    backend: str = keras.backend.backend()
    if backend not in container.backends:
        raise ExportError(
            f"{container.title} is written from the graph of Keras on the "
            f"{' or '.join(container.backends)} backend. "
            f"Received: the {backend} backend. Save the embedder with "
            "embedder.save('embedder.keras'), then open it with "
            "keras.models.load_model('embedder.keras') in a process started with "
            "KERAS_BACKEND=tensorflow (pip install 'keras_facemargin[tensorflow]') and export it "
            "there."
        )
    return backend


def float32_embedder(embedder: Any) -> Any:
    """Checks an embedder's interface, and returns it in float32.

    An embedder trained in mixed precision is rebuilt from its configuration with every dtype policy
    set to float32 and the same weights (its variables are float32 anyway): phones and ONNX Runtime
    have no bfloat16 kernels, and half the digits of the embedding would be lost.

    Args:
        embedder: a Functional `keras.Model`, `(B, H, W, 3)` RGB 0..255 -> `(B, D)`.

    Returns:
        The embedder itself if it computes in float32, else its float32 twin.

    Raises:
        ValueError: the model has another interface, or quantised layers.
    """
    _check_interface(embedder)
    config = embedder.get_config()
    if not _set_float32(config):
        return embedder
    twin = type(embedder).from_config(config)
    twin.set_weights(embedder.get_weights())
    return twin


def _check_interface(embedder: Any) -> None:
    rule = (
        "An embedder to export must be a built Functional keras.Model with one input "
        "(None, H, W, 3), RGB 0..255, and one output (None, D). "
    )
    if not isinstance(embedder, keras.Model):
        raise ValueError(
            f"{rule}Received: embedder={embedder!r} (type {type(embedder).__name__}). "
            "Open a saved file first: keras.models.load_model(path)."
        )
    # Subclassed models and unbuilt Sequential models have no symbolic inputs.
    inputs = getattr(embedder, "inputs", None) or []
    outputs = getattr(embedder, "outputs", None) or []
    if not inputs or not outputs:
        raise ValueError(
            f"{rule}Received: a {type(embedder).__name__} without fixed inputs and outputs. "
            "Export the embedder of a classifier: classifier.embedder."
        )
    input_shapes = [tuple(tensor.shape) for tensor in inputs]
    output_shapes = [tuple(tensor.shape) for tensor in outputs]
    if not (
        len(input_shapes) == len(output_shapes) == 1
        and len(input_shapes[0]) == 4
        and input_shapes[0][0] is None
        and input_shapes[0][3] == 3
        and None not in input_shapes[0][1:]
        and len(output_shapes[0]) == 2
        and output_shapes[0][1] is not None
    ):
        raise ValueError(
            f"{rule}Received: inputs {input_shapes}, outputs {output_shapes}. Build the embedder "
            "with build_embedder(backbone, embedding_dim), or pass the part of your model that "
            "ends at the embedding."
        )


def _set_float32(config: Any) -> int:
    """Sets every dtype policy in a config to float32, in place; returns how many changed."""
    if isinstance(config, (list, tuple)):
        return sum(_set_float32(item) for item in config)
    if not isinstance(config, dict):
        return 0
    changed = sum(_set_float32(item) for item in config.values())
    kind = config.get("class_name", "")
    if kind == "DTypePolicy":
        if config["config"]["name"] != "float32":
            config["config"]["name"] = "float32"
            changed += 1
    elif kind.endswith(("DTypePolicy", "DTypePolicyMap")):
        raise ValueError(
            "A quantised Keras model cannot be exported: the formats here quantise from float32 "
            f"themselves. Received: a layer with {kind} {config['config']}. Export the embedder "
            "before quantize()."
        )
    elif config.get("dtype") in ("float16", "bfloat16"):  # Inputs and Cast name a bare dtype.
        config["dtype"] = "float32"
        changed += 1
    return changed


def normalised(embedder: Any, batch_size: int | None = None) -> Any:
    """The function to export, still on the Keras variables.

    Args:
        embedder: as `float32_embedder` returns it.
        batch_size: fixed number of images per call, or None for any number.

    Returns:
        A `tf.function` from `image`, float32 `(B, H, W, 3)` RGB 0..255, to
        `{"embedding": float32 (B, D)}` of unit length.
    """
    import tensorflow as tf

    shape = (batch_size, *embedder.inputs[0].shape[1:])

    def embed(image: Any) -> dict[str, Any]:
        embedding = embedder(image, training=False)
        # This call becomes one L2_NORMALIZATION op in TFLite, with an int8 kernel;
        # keras.layers.UnitNormalization becomes five float ops.
        return {OUTPUT_NAME: tf.math.l2_normalize(embedding, axis=-1)}

    return tf.function(
        embed,
        input_signature=[tf.TensorSpec(shape, tf.float32, name=INPUT_NAME)],
        # Autograph would rewrite nothing here and leave files in the temporary folder.
        autograph=False,
    )


def frozen(embedder: Any, batch_size: int | None = None) -> Any:
    """`normalised` as a concrete function whose graph holds the weights as constants.

    Functions in the graph are inlined, because tf2onnx does not convert their calls: Keras wraps
    grouped convolutions in one. Loops stay loops (`lower_control_flow`): both formats have them.
    """
    import tensorflow as tf

    # Semi-public: TensorFlow's own converters call it, and it has no public name.
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    eager = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)  # an inner function is traced as part of the outer one
    try:
        graph = normalised(embedder, batch_size).get_concrete_function()
    finally:
        tf.config.run_functions_eagerly(eager)
    return convert_variables_to_constants_v2(
        graph, lower_control_flow=False, aggressive_inlining=True
    )


def exported_by_keras(embedder: Any, format: str, name: str) -> Path:
    """The embedder with L2 normalisation at its end, written by Keras' own export.

    For the backends whose graph Keras itself converts.

    Args:
        embedder: as `float32_embedder` returns it.
        format: as `keras.Model.export` takes it.
        name: the path to write.
    """
    normal = keras.ops.normalize(embedder.output, axis=-1)
    model = keras.Model(embedder.input, {OUTPUT_NAME: normal}, name=embedder.name)
    shape = embedder.inputs[0].shape
    signature = [keras.InputSpec(shape=shape, dtype="float32", name=INPUT_NAME)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the tracers, which name lines of Keras
        model.export(name, format=format, verbose=False, input_signature=signature)
    return Path(name)


def reference_of(embedder: Any) -> Run:
    """A function of `(B, H, W, 3)` images to the normalised Keras embeddings, compiled."""
    if keras.backend.backend() == "tensorflow":
        compiled = normalised(embedder)
        return lambda images: np.asarray(compiled(images.astype("float32"))[OUTPUT_NAME])

    def embed(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        rows = embedder.predict_on_batch(images.astype("float32"))
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.where(norms == 0.0, 1.0, norms))

    return embed
