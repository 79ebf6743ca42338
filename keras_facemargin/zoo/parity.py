"""Proof of a conversion: the converted model and the original file give the same embedding.

Accuracy does not prove it: a wrong epsilon hardly moves LFW, and moves the cosine to 0.997.
"""

import importlib
import importlib.metadata
import os
import typing

import numpy as np
import numpy.typing as npt

from keras_facemargin.images.align import align_face
from keras_facemargin.images.crop import TEMPLATES, Crop
from keras_facemargin.images.synthetic import synthesize_faces
from keras_facemargin.runtime import open_file
from keras_facemargin.zoo.card import Card
from keras_facemargin.zoo.parts import Golden

if typing.TYPE_CHECKING:
    import keras

LEAST_COSINE = 0.9999
_SEEDS = {"synthetic-1": 1, "synthetic-2": 2}  # the crops that a card may name
_PACKAGES = {"onnx": "onnxruntime", "tflite": "ai-edge-litert"}  # converter -> runtime
_MARGIN = 40  # pixels that repeat the edge of a drawn face, for looser crops

Floats = npt.NDArray[np.float32]


class Unproven(ValueError):
    """Nothing is at hand to prove a conversion with."""


def golden_crop(name: str, crop: Crop) -> npt.NDArray[np.uint8]:
    """A drawn face that all machines draw alike.

    Args:
        name: "synthetic-1" or "synthetic-2".
        crop: size and template; without a template the face is placed as for ArcFace.

    Returns:
        (height, width, 3) RGB.

    Raises:
        ValueError: the name is not known.

    Example:

    >>> golden_crop("synthetic-1", Crop(112, 96, "sphereface")).shape
    (112, 96, 3)
    """
    if name not in _SEEDS:
        raise ValueError(
            f"A golden crop must be one of {', '.join(_SEEDS)}. Received: {name!r}. A newer "
            "version of this package may know it."
        )
    faces, _ = synthesize_faces(1, 1, seed=_SEEDS[name])
    return place(faces[0], crop)


def place(face: npt.NDArray[np.uint8], crop: Crop) -> npt.NDArray[np.uint8]:
    """A 112x112 crop of the ArcFace template as another crop; its edges are repeated outside.

    Args:
        face: (112, 112, 3).
        crop: the other crop; without a template the middle of ArcFace's at its longer side.
    """
    wide = np.pad(face, ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)), mode="edge")
    points = np.array(TEMPLATES["arcface"].points) + _MARGIN
    if crop.template is not None:
        return align_face(wide, points, crop)
    side = max(crop.shape)
    top, left = (side - crop.height) // 2, (side - crop.width) // 2
    square = align_face(wide, points, Crop.of(side, "arcface"))
    return square[top : top + crop.height, left : left + crop.width]


def embed_crop(model: "keras.Model", crop: npt.NDArray[np.uint8]) -> Floats:
    """The embedding (D,) of one crop."""
    return np.asarray(model.predict(crop[None].astype("float32"), verbose=0)[0], "float32")


def cosine(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Cosine of two vectors, in float64.

    Example:

    >>> cosine([1, 0], [1, 1]).__round__(4)
    0.7071
    """
    one, two = (np.asarray(each, "float64").ravel() for each in (first, second))
    return float(one @ two / (np.linalg.norm(one) * np.linalg.norm(two)))


def prove(model: "keras.Model", card: Card, path: str | os.PathLike[str]) -> None:
    """Compares the converted model with the original file on the golden crop.

    The original's embedding is the card's golden one; without one, the file is run in its own
    runtime, onnxruntime or LiteRT, if that is installed.

    Args:
        model: the converted model.
        card: its card.
        path: the original file.

    Raises:
        Unproven: the card has no golden embedding, and no runtime of the file is installed.
        ValueError: the cosine is below 0.9999.
    """
    name = card.golden.crop if card.golden is not None else next(iter(_SEEDS))
    crop = golden_crop(name, card.crop)
    wanted = card.golden.embedding if card.golden is not None else run_original(path, card, crop)
    if wanted is None:
        raise Unproven(
            f"The conversion of {card.name!r} must be proven. Received: a card without a golden "
            f"embedding, and a converter {card.converter!r} whose original runtime is not "
            "installed or not known here. `load_embedder(..., allow_unproven=True)` opens the "
            "model without a proof."
        )
    found = cosine(embed_crop(model, crop), wanted)
    if not found >= LEAST_COSINE:
        raise ValueError(
            f"{path}: the converted model must have a cosine of at least {LEAST_COSINE} to the "
            f"original on the golden crop. Received: {found:.6f}. The file is not the one of the "
            f"card {card.name!r}, or its network differs from the card's."
        )


def golden_of(path: str | os.PathLike[str], card: Card) -> Golden | None:
    """The golden embedding of a file by its own runtime: Keras, onnxruntime or LiteRT.

    Args:
        path: a `.keras`, `.onnx` or `.tflite` file.
        card: its card.

    Returns:
        A `Golden`; None if no runtime is known for the card's converter, or it is missing.

    Raises:
        ValueError, OSError: the file cannot be opened.
    """
    name = next(iter(_SEEDS))
    crop = golden_crop(name, card.crop)
    if card.converter is None:
        import keras

        from keras_facemargin.zoo.load import load_embedder

        backend = keras.backend.backend()
        version = importlib.import_module(backend).__version__
        runtime = f"keras {keras.__version__}, {backend} {version}"
        found: Floats | None = embed_crop(load_embedder(path), crop)
    else:
        found = run_original(path, card, crop)
        package = _PACKAGES.get(card.converter, "")
        runtime = "" if found is None else f"{package} {importlib.metadata.version(package)}"
    if found is None:
        return None
    return Golden(crop=name, runtime=runtime, embedding=tuple(map(float, found)))


def run_original(
    path: str | os.PathLike[str], card: Card, crop: npt.NDArray[np.uint8]
) -> Floats | None:
    """The embedding (D,) of a crop by the original file in its own runtime.

    Args:
        path: an `.onnx` or `.tflite` file.
        card: its card, with the pixels that the file takes.
        crop: RGB 0..255.

    Returns:
        The embedding; None if no runtime is known for the card's converter, or it is missing.
    """
    if card.converter not in _PACKAGES:
        return None
    try:
        opened = open_file(path, form=card.converter)
    except ImportError:
        return None
    found: Floats = opened.embed(crop[None], card.pixels)[0]
    return found
