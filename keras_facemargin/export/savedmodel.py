"""SavedModel folders for TensorFlow Serving and TensorFlow.js: the converter."""

import tempfile
from pathlib import Path
from typing import Any

import numpy.typing as npt

from keras_facemargin.export.formats import SAVEDMODEL
from keras_facemargin.export.graph import (
    INPUT_NAME,
    OUTPUT_NAME,
    check_backend,
    exported_by_keras,
    frozen,
)
from keras_facemargin.export.verdict import Op, read_folder
from keras_facemargin.runtime.carried import ENTRY


def convert(
    embedder: Any,
    precision: str = "float32",
    representative: npt.NDArray[Any] | None = None,
    carried: bytes | None = None,
) -> dict[str, bytes]:
    """Converts an embedder; see `onnx.convert`. The batch is free.

    Returns:
        The bytes of the files of the folder.
    """
    with tempfile.TemporaryDirectory(prefix="facemargin-") as name:
        folder = Path(name, "model")
        if check_backend(SAVEDMODEL) == "tensorflow":
            write_graph(frozen(embedder), str(folder))
        else:
            exported_by_keras(embedder, "tf_saved_model", str(folder))
        if carried is not None:
            (folder / f"{ENTRY}.json").write_bytes(carried)
        return read_folder(folder)


def write_graph(graph: Any, folder: str) -> None:
    """Writes a frozen graph as a SavedModel with the names of its input and its output."""
    import tensorflow as tf

    module = tf.Module()
    module.embed = tf.function(
        lambda image: {OUTPUT_NAME: graph(image)[0]},
        input_signature=[tf.TensorSpec.from_tensor(graph.inputs[0], name=INPUT_NAME)],
        autograph=False,
    )
    # Without gradients: saving refuses the custom gradient of swish.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, folder, signatures=module.embed, options=options)


def list_ops(artefact: dict[str, bytes]) -> list[Op]:
    """Nothing: TensorFlow rewrites the graph when it opens the folder."""
    return []
