"""Opens embedders: of the zoo by name, your own by file or folder."""

import os
import typing
import zipfile
from pathlib import Path
from typing import Any

from keras_facemargin.zoo.card import CARD, Card
from keras_facemargin.zoo.catalogue import check_weights, find_place, load_card

if typing.TYPE_CHECKING:
    import keras


def load_embedder(name_or_path: str | os.PathLike[str]) -> "keras.Model":
    """Opens an embedder of the zoo by name, or your own by its `.keras` file or its folder.

    An embedder with a card, in the zoo or in a folder, is opened only if its file has the card's
    SHA-256 and the network has the card's figures. No file may run code: Keras' safe mode is on,
    also after `keras.config.enable_unsafe_deserialization()`, so layers with pickled Python inside
    are refused.

    Args:
        name_or_path: one of `list_embedders()`; the path of a file that ends in `.keras`; or the
            path of a folder with a `card.json` and the file that it describes, as `finetune`
            writes it.

    Returns:
        `keras.Model`, (B, 112, 112, 3) float32 RGB 0..255 -> (B, D), not normalised.

    Raises:
        FileNotFoundError: the file or the card is missing.
        ValueError: unknown name; a file of another format (naming what to do with it); the file is
            damaged, is not what its card says, or is not an embedder.

    Example:

    >>> load_embedder("spherenet_distilled").output_shape
    (None, 128)
    """
    place = find_place(name_or_path)
    if place.suffix == ".keras":
        return _open(place)
    card = load_card(name_or_path)
    file = place / card.weights.file
    check_weights(card, place / CARD, file)
    embedder = _open(file)
    _check_figures(card, place / CARD, embedder)
    return embedder


def _check_figures(card: Card, card_file: Path, embedder: "keras.Model") -> None:
    height, width = embedder.input_shape[1:3]
    for field, said, found in (
        ("parameters", card.parameters, embedder.count_params()),
        ("embedding_dim", card.embedding_dim, embedder.output_shape[-1]),
        ("input.crop.height", card.input.crop.height, height),
        ("input.crop.width", card.input.crop.width, width),
    ):
        if None not in (said, found) and found != said:
            raise ValueError(
                f"{card_file}: field `{field}` must be that of the embedder in "
                f"{card.weights.file}, {found:,}. Received: {said:,}"
            )


def _open(path: Path) -> "keras.Model":
    from keras_facemargin.saving import open_model

    if not path.is_file():
        raise FileNotFoundError(f"There is no such embedder file. Received: {path}")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} cannot be opened as a Keras model: it is no .keras archive, or only a part of "
            "one. Copy it again."
        )
    try:
        model = open_model(path)
    except Exception as error:  # Keras raises a different type for each way to be broken
        if "safe_mode=False" in str(error):  # its advice, which does not hold here
            raise ValueError(
                f"{path} cannot be opened as an embedder: no Python code that a file brings is "
                "run. Received: a Lambda layer or the like. Build the embedder of stock layers; if "
                "you trust the file, keras.saving.load_model(FILE, safe_mode=False) opens it."
            ) from error
        raise ValueError(f"{path} cannot be opened as a Keras model: {error}") from error
    shapes: tuple[Any, Any] = (
        getattr(model, "input_shape", None),
        getattr(model, "output_shape", None),
    )
    if not all(isinstance(shape, tuple) for shape in shapes) or [len(s) for s in shapes] != [4, 2]:
        raise ValueError(
            f"{path} must hold an embedder, images (B, H, W, 3) -> embeddings (B, D). Received: a "
            f"{type(model).__name__} from {shapes[0]} to {shapes[1]}. Of a MarginClassifier save "
            "the `embedder`."
        )
    return model
