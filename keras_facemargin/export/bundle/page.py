"""The page of a bundle: two photos compared in a browser, as `facemargin verify` compares them.

The page itself is in `web/`, copied unchanged. This module writes what depends on the embedder:
`settings.json`, and the networks of the face detector.
"""

import base64
import shutil
from collections.abc import Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from keras_facemargin.export.bundle.detector import write_detector
from keras_facemargin.export.graph import OUTPUT_NAME
from keras_facemargin.files import write_json
from keras_facemargin.images.crop import Crop
from keras_facemargin.quality.decision import FAINT, SHARP
from keras_facemargin.quality.resolution import MEASURES, SIDE, find_window
from keras_facemargin.zoo.card import Card
from keras_facemargin.zoo.parts import Threshold, nearest_far

PAGE = "web"


def has_page(crop: Crop) -> bool:
    """Whether there is a page for an embedder of this crop: the page aligns by the template."""
    return crop.template is not None


def write_page(
    directory: Path,
    model: Path,
    crop: Crop,
    *,
    card: Card | None,
    thresholds: Sequence[Threshold],
) -> None:
    """Writes the folder `web` of a bundle.

    Args:
        directory: the bundle.
        model: the ONNX file that the page runs.
        crop: of the embedder.
        card: for the likelihood ratio and the limits of quality; None: there are none.
        thresholds: for embeddings with the mirror image's appended; empty: the page answers
            "cannot say".

    Raises:
        ImportError, ValueError: as `write_detector`.
    """
    folder = directory / PAGE
    folder.mkdir()
    source = resources.files("keras_facemargin.export.bundle").joinpath("web")
    with resources.as_file(source) as files:
        for file in files.iterdir():
            shutil.copyfile(file, folder / file.name)
    write_detector(folder)
    (folder / "mtcnn-LICENSE.txt").write_text(_license(), encoding="utf-8")
    write_json(folder / "settings.json", _settings(model, crop, card, thresholds))


def _settings(
    model: Path, crop: Crop, card: Card | None, thresholds: Sequence[Threshold]
) -> dict[str, Any]:
    chosen = nearest_far(tuple(thresholds)) if thresholds else None
    likelihood = None if card is None else card.likelihood
    quality = None if card is None else card.quality
    window = find_window(crop)
    return {
        "unnormalised": _unnormalised(model),
        "threshold": chosen
        and {
            "cosine": chosen.cosine,
            "origin": f"FAR {chosen.far:.2g} on {chosen.impostor_pairs:,} impostor pairs "
            f"({chosen.data})",
        },
        "likelihood": likelihood
        and likelihood.model_dump(
            include={"slope", "intercept", "genuine_pairs", "impostor_pairs"}
        ),
        "quality": quality
        and {
            **quality.model_dump(
                include={"norm_weight", "raw_utilities", "utility", "sharpness", "threshold_rise"}
            ),
            "sharp": SHARP,
            "faint": FAINT,
        },
        "sharpness": {
            "shape": window.shape,
            "top": window.top,
            "left": window.left,
            "side": SIDE,
            "measures": MEASURES.tolist(),
        },
    }


def _unnormalised(model: Path) -> dict[str, str] | None:
    """The embedding before its normalisation, as one more output of an ONNX file.

    Its length is a part of the quality of a crop. The page appends `suffix` to the bytes of the
    file: protobuf merges a message that follows another one, so the file needs no second copy.

    Returns:
        The name of the output, and the suffix in base64; None if the graph has another end.
    """
    import onnx

    graph = onnx.load(model).graph
    makers = {output: node for node in graph.node for output in node.output}
    last = makers[OUTPUT_NAME]
    squared = {tuple(node.input) for node in graph.node if node.op_type == "Mul"}
    names = [each for each in last.input if last.op_type == "Mul" and (each, each) in squared]
    if len(names) != 1:
        return None
    (embedding,) = (output for output in graph.output if output.name == OUTPUT_NAME)
    added = onnx.ModelProto()
    added.graph.output.add(name=names[0], type=embedding.type)
    return {
        "output": names[0],
        "suffix": base64.b64encode(added.SerializeToString()).decode("ascii"),
    }


def _license() -> str:
    """The licence in the package `mtcnn`."""
    for file in metadata.files("mtcnn") or ():
        if file.name == "LICENSE":
            return file.read_text()
    raise ValueError(
        "The package mtcnn must have its licence in a file LICENSE. Received: it is missing. "
        "Run: pip install --force-reinstall 'mtcnn>=1.0,<2'"
    )
