"""OpenVINO folders in OpenVINO."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.runtime.file import Session

MODEL = "model.xml"  # in the folder, with model.bin beside it


def open_session(folder: Path, threads: int | None) -> Session:
    """Opens a folder; see `open_file`."""
    import openvino

    # On some processors OpenVINO would compute in bfloat16 without this.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    core = openvino.Core()
    # The weights are read, not mapped: the folder may go.
    core.set_property({"ENABLE_MMAP": False})
    compiled = core.compile_model(folder / MODEL, "CPU", settings)
    (image,) = compiled.inputs

    def run(values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        return [np.array(each, "float32") for each in compiled(values).values()]

    shape = tuple(
        side.get_length() if side.is_static else None for side in image.get_partial_shape()
    )
    return Session(shape, np.dtype("float32"), None, run, None)
