"""The cards of the package, and the card of an embedder by its name, file or folder."""

import os
from pathlib import Path

from keras_facemargin.zoo.card import CARD, Card, digest_of
from keras_facemargin.zoo.card_file import read_card

_PACKAGE = Path(__file__).resolve().parents[1]
_IN_WHEEL, _IN_CHECKOUT = _PACKAGE / "zoo_cards", _PACKAGE.parent / "zoo"
DIRECTORY = _IN_WHEEL if _IN_WHEEL.is_dir() else _IN_CHECKOUT


def list_embedders() -> list[str]:
    """Names that `load_card` and `load_embedder` know, sorted.

    Example:

    >>> "spherenet_distilled" in list_embedders()
    True
    """
    return sorted(path.parent.name for path in DIRECTORY.glob(f"*/{CARD}"))


def card_path(model: str | os.PathLike[str]) -> Path:
    """Path of the card of an embedder; the file may be missing.

    Args:
        model: as `load_embedder`.

    Raises:
        ValueError: unknown name, or a file of another format.

    Example:

    >>> card_path("my_model/embedder.keras").as_posix()
    'my_model/card.json'
    """
    place = find_place(model)
    return (place.parent if place.suffix == ".keras" else place) / CARD


def load_card(model: str | os.PathLike[str]) -> Card:
    """Reads and checks the card of an embedder.

    Args:
        model: as `load_embedder`. The card of a `.keras` file is the `card.json` beside it.

    Raises:
        FileNotFoundError: there is no card.
        ValueError: unknown name; the card breaks its form: a field is missing, unknown, of another
            type or out of its range (naming file and field); or it describes another file.

    Example:

    >>> load_card("spherenet_distilled").embedding_dim
    128
    """
    place, file = find_place(model), card_path(model)
    if not file.is_file():
        weights = place if place.suffix == ".keras" else place / "embedder.keras"
        raise FileNotFoundError(
            f"A card holds the thresholds of an embedder. Received: {model}, without {file}. "
            f"`facemargin calibrate FACES --model {weights}` writes one."
        )
    card = read_card(file)
    if place.parent == DIRECTORY and card.name != place.name:
        raise ValueError(
            f"{file}: field `name` must be the folder's name, {place.name!r}. "
            f"Received: {card.name!r}"
        )
    if place.suffix == ".keras":
        check_weights(card, file, place)
    return card


def find_card(model: str | os.PathLike[str]) -> Card | None:
    """As `load_card`; None if there is no usable card."""
    try:
        return load_card(model)
    except (ValueError, FileNotFoundError):
        return None


# What a file of another program is, and what can be done with it.
_ANY_FUNCTION = (
    "`keras_facemargin.evaluate.embed` takes any function from images (B, H, W, 3), RGB 0..255, to "
    "embeddings (B, D), so what runs in its own runtime can be evaluated."
)
_FORMATS = (
    (
        ".weights.h5",
        "Keras weights without their network",
        "Build the network, call its load_weights(), and save it as a .keras file.",
    ),
    (
        (".h5", ".hdf5"),
        "a model in Keras' older HDF5 format",
        "If you trust it, keras.saving.load_model(FILE).save('embedder.keras') makes a .keras file "
        "of it.",
    ),
    (
        ".tflite",
        "a TFLite file, which is made to run on a device",
        f"Name the Keras model that it was exported from. {_ANY_FUNCTION}",
    ),
    (".onnx", "an ONNX graph, not a Keras model", _ANY_FUNCTION),
    ((".pt", ".pth", ".ckpt"), "a PyTorch checkpoint, not a Keras model", _ANY_FUNCTION),
    (".safetensors", "weights without their network", _ANY_FUNCTION),
    ((".params", "-symbol.json"), "a part of an MXNet model", _ANY_FUNCTION),
)
_HUB = (
    "hf://",
    "the address of a repository",
    "If it holds a Keras model, keras.saving.load_model(ADDRESS).save('embedder.keras') makes a "
    ".keras file of it.",
)


def find_place(model: str | os.PathLike[str]) -> Path:
    """Where a model is: the folder of its card, or its `.keras` file."""
    text = str(model)
    if text in list_embedders():
        return DIRECTORY / text
    path = Path(text)
    if path.name == CARD:
        path = path.parent
    if path.suffix == ".keras" or path.is_dir():
        return path
    rule = (
        "A model must be the path of a .keras file or of a folder with its card, or the name of "
        f"one in the zoo: {', '.join(list_embedders()) or '(the zoo is empty)'}."
    )
    for ending, what, way_out in _FORMATS:
        if text.lower().endswith(ending):
            raise ValueError(f"{rule} Received: {text!r}, {what}. {way_out}")
    if text.startswith(_HUB[0]):
        raise ValueError(f"{rule} Received: {text!r}, {_HUB[1]}. {_HUB[2]}")
    raise ValueError(f"{rule} Received: {text!r}")


def check_weights(card: Card, card_file: Path, path: Path) -> None:
    """Refuses a file that is not the one that a card describes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has another name, size or digest.
    """
    if path.name != card.weights.file:
        raise ValueError(
            f"{card_file} describes {card.weights.file}. Received: {path}. Copy the file to a "
            "folder of its own; `facemargin calibrate` writes a card there."
        )
    if not path.is_file():
        raise FileNotFoundError(f"The embedder file does not exist. Received: {path}")
    size, wanted = path.stat().st_size, card.weights.bytes
    if wanted not in (None, size):
        rule, found = f"{wanted:,} bytes", f"{size:,}"
    elif (digest := digest_of(path)) != card.weights.sha256:
        rule, found = f"the SHA-256 {card.weights.sha256}", digest
    else:
        return
    raise ValueError(
        f"{path} is not the file that its card describes: it must have {rule}. Received: {found}. "
        "Install or copy it again; for a file that you changed remove the card, and `facemargin "
        "calibrate` writes a new one."
    )
