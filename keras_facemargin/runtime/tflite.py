"""TFLite files in LiteRT."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.runtime.carried import ENTRY
from keras_facemargin.runtime.file import Quantization, Session


def open_session(file: Path | bytes, threads: int | None) -> Session:
    """Opens a file or its bytes; see `open_file`."""
    content = file if isinstance(file, bytes) else file.read_bytes()
    interpreter = _runtime().Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(inputs) != 1:
        raise ValueError(f"an embedder has one input, not {len(inputs)}.")

    def run(values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        interpreter.set_tensor(inputs[0]["index"], values)
        interpreter.invoke()
        return [_floats(interpreter.get_tensor(each["index"]), each) for each in outputs]

    return Session(
        tuple(int(side) for side in inputs[0]["shape"]),
        np.dtype(inputs[0]["dtype"]),
        _quantization(inputs[0]),
        run,
        _entry(content),
    )


def _quantization(details: Any) -> Quantization | None:
    scale, zero_point = details["quantization"]
    return Quantization(float(scale), int(zero_point)) if scale else None


def _floats(values: npt.NDArray[Any], details: Any) -> npt.NDArray[Any]:
    quantization = _quantization(details)
    if values.dtype.kind == "f" or quantization is None:
        return values.astype("float32")
    return (values.astype("float32") - quantization.zero_point) * np.float32(quantization.scale)


def _entry(content: bytes) -> bytes | None:
    """The entry of the file on its input; None without one."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAsModel(content, 0)
    for number in range(model.MetadataLength()):
        entry = model.Metadata(number)
        if entry.Name() == ENTRY.encode():
            return bytes(model.Buffers(entry.Buffer()).DataAsNumpy())
    return None


def _runtime() -> Any:
    try:
        from ai_edge_litert import interpreter
    except ImportError as error:
        raise ImportError(
            "Running a TFLite file needs LiteRT. Received: it is not installed. "
            "Run: pip install ai-edge-litert"
        ) from error
    return interpreter
