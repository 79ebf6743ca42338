"""SavedModel folders in TensorFlow."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.runtime.file import Session


def open_session(folder: Path, threads: int | None) -> Session:
    """Opens a folder; see `open_file`. TensorFlow sets its own number of threads."""
    import tensorflow as tf

    model = tf.saved_model.load(str(folder))
    signature = model.signatures["serving_default"]
    ((name, image),) = signature.structured_input_signature[1].items()

    def run(values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        assert model is not None  # the signature alone does not keep its variables
        (embedding,) = signature(**{name: tf.constant(values)}).values()
        return [embedding.numpy()]

    return Session(tuple(image.shape), np.dtype("float32"), None, run, None)
