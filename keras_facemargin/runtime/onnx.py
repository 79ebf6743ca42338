"""ONNX files in ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.runtime.carried import ENTRY
from keras_facemargin.runtime.file import Session

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}


def open_session(file: Path | bytes, threads: int | None) -> Session:
    """Opens a file or its bytes; see `open_file`."""
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors only: advice about the graph is not the user's
    if threads is not None:
        options.intra_op_num_threads = threads
    session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in _DTYPES:
        found = ", ".join(f"{each.name} {each.type}" for each in inputs)
        raise ValueError(f"an embedder has one input, of {' or '.join(_DTYPES)}, not {found}.")
    name = inputs[0].name

    def run(values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        return [np.asarray(each, "float32") for each in session.run(None, {name: values})]

    return Session(
        tuple(side if isinstance(side, int) and side > 0 else None for side in inputs[0].shape),
        np.dtype(_DTYPES[inputs[0].type]),
        None,
        run,
        session.get_modelmeta().custom_metadata_map.get(ENTRY),
    )


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            "Running an ONNX file needs ONNX Runtime. Received: it is not installed. "
            "Run: pip install onnxruntime"
        ) from error
    return onnxruntime
