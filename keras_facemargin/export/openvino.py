"""OpenVINO folders (`model.xml`, `model.bin`) for Intel hardware: the converter."""

import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy.typing as npt

from keras_facemargin.export import onnx
from keras_facemargin.export.verdict import Op, read_folder
from keras_facemargin.runtime.carried import ENTRY
from keras_facemargin.runtime.openvino import MODEL

_WITHOUT_WORK = ("Const", "Parameter", "Result", "Convert")


def convert(
    embedder: Any,
    precision: str,
    representative: npt.NDArray[Any] | None = None,
    carried: bytes | None = None,
) -> dict[str, bytes]:
    """Converts an embedder by way of ONNX; see `onnx.convert`. The batch is free.

    Returns:
        The bytes of the files of the folder.
    """
    import openvino

    model = openvino.Core().read_model(onnx.convert(embedder))
    with tempfile.TemporaryDirectory(prefix="facemargin-") as name:
        folder = Path(name)
        openvino.save_model(model, folder / MODEL, compress_to_fp16=precision == "float16")
        if carried is not None:
            (folder / f"{ENTRY}.json").write_bytes(carried)
        return read_folder(folder)


def list_ops(artefact: dict[str, bytes]) -> list[Op]:
    """The ops of a folder, in order, by their OpenVINO names."""
    layers = ElementTree.fromstring(artefact[MODEL]).iter("layer")
    return [
        Op(each.attrib["type"], True) for each in layers if each.attrib["type"] not in _WITHOUT_WORK
    ]
