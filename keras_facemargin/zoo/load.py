"""Opens embedders: by name, file, folder or address; published files are converted once."""

import os
import shutil
import typing
import warnings
import zipfile
from pathlib import Path
from typing import Any

from keras_facemargin.files import draft_of, exclusive
from keras_facemargin.zoo.card import CARD, Card, digest_of, keras_card
from keras_facemargin.zoo.card_file import read_card, write_card
from keras_facemargin.zoo.catalogue import Place, card_at, check_weights, find_place
from keras_facemargin.zoo.parts import FolderSource
from keras_facemargin.zoo.sources import WAIT, cache_folder, obtain, take

if typing.TYPE_CHECKING:
    import keras

_CONVERTED = "embedder.keras"


def load_embedder(
    model: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    commercial: bool = False,
    allow_unproven: bool = False,
) -> "keras.Model":
    """Opens an embedder by name, file, folder or address.

    An embedder with a card is opened only if its file has the card's SHA-256 and the network has
    the card's figures. A published file of another format is converted to stock Keras layers,
    compared with the embedding that the original file gives for one generated crop (cosine at least
    0.9999), and kept in the cache as a `.keras` file. No file may run code: Keras' safe mode is on,
    also after `keras.config.enable_unsafe_deserialization()`, so layers with pickled Python inside
    are refused.

    Args:
        model: one of `list_embedders()`; the path of a `.keras` file; the path of a folder with a
            `card.json`, as `finetune` writes it; the path of a published file that a card of the
            zoo describes, under any name; or the address of a card's folder,
            ``hf://OWNER/NAME[@REVISION]`` or ``https://...``.
        weights: your own copy of the weights' file or of its archive, for a card whose file is not
            downloaded.
        commercial: True to refuse an embedder that the licence ledger of its card does not clear
            for commercial use.
        allow_unproven: whether to open, with a warning, a conversion that cannot be compared with
            the original. It is not kept in the cache.

    Returns:
        `keras.Model`, (B, H, W, 3) float32 RGB 0..255 -> (B, D), not normalised. H and W are the
        card's crop, usually 112x112.

    Raises:
        FileNotFoundError: the file or the card is missing.
        FetchError: no source of the card gives its file.
        ValueError: unknown name; a file that no card describes (naming what to do with it); the
            file is damaged, is not the one that its card describes, or is not an embedder; the
            conversion is not proven; commercial use is not cleared.

    Example:

    >>> load_embedder("spherenet_distilled").output_shape
    (None, 128)
    """
    place = find_place(model)
    own = place.file is not None and place.recognised is None
    if commercial or not own:
        card = card_at(place, model)
    if commercial:
        _require_commercial(card)
    if own:
        return _open(typing.cast(Path, place.file))
    file = _find_weights(card, place, weights)
    if card.converter is None:
        embedder = _open(file)
        _check_figures(card, place.folder / CARD, embedder)
    else:
        embedder = _open_converted(card, place.folder / CARD, file, allow_unproven)
    embedder.crop = card.crop  # as `Crop.of_embedder` reads it
    return embedder


def find_weights(model: str | os.PathLike[str]) -> tuple[Card, Path]:
    """The card of a model and the file with its weights, fetched if it is not on this machine.

    Args:
        model: as `load_embedder`.

    Returns:
        A `Card` and the path of its file, whose size and digest are right.

    Raises:
        FileNotFoundError, FetchError, ValueError: as `load_embedder`.

    Example:

    >>> find_weights("spherenet_distilled")[1].name
    'embedder.keras'
    """
    place = find_place(model)
    card = card_at(place, model)
    return card, _find_weights(card, place, None)


def copy_weights(card: Card, file: Path, folder: Path) -> Card:
    """Copies the weights of a card into a folder, each file in one step.

    Args:
        card: the card.
        file: the file with its weights.
        folder: the folder; it is created if it is missing.

    Returns:
        The card to write into the folder: its first source is the folder.

    Raises:
        OSError: the file cannot be read or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copies = [(file, folder / card.weights.file)]
    if card.converter == "mxnet":  # the graph is in a file of its own
        from keras_facemargin.zoo.readers.mxnet import graph_and_arrays

        copies.insert(0, (graph_and_arrays(file)[0], graph_and_arrays(copies[0][1])[0]))
    for source, copy in copies:
        with draft_of(copy) as draft:
            shutil.copyfile(source, draft)
    beside = FolderSource(kind="folder")
    others = tuple(source for source in card.sources if source != beside)
    return card.changed(sources=(beside, *others))


def _find_weights(card: Card, place: Place, own: str | os.PathLike[str] | None) -> Path:
    if own is not None:
        return take(Path(own), card)
    if place.file is not None:
        return take(place.file, card)
    if place.base_url is None and {source.kind for source in card.sources} == {"folder"}:
        file = place.folder / card.weights.file
        check_weights(card, place.folder / CARD, file)
        return file
    return obtain(card, folder=place.folder, base_url=place.base_url)


def _require_commercial(card: Card) -> None:
    if not card.commercial_use:
        raise ValueError(
            f"The licence ledger of {card.name} does not clear commercial use. Received: "
            f"commercial=True. {' '.join(card.commercial_obstacles)}"
        )


def _open_converted(card: Card, card_file: Path, file: Path, allow_unproven: bool) -> "keras.Model":
    """The converted embedder from the cache, or converted now, proven and kept there."""
    from keras_facemargin.saving import save_model
    from keras_facemargin.zoo.convert import VERSION

    name = f"{card.weights.sha256 or digest_of(file)}-{card.converter}-{VERSION}"
    folder = cache_folder() / "converted" / name
    with exclusive(folder, wait=WAIT):
        if _is_whole(folder):
            return _open(folder / _CONVERTED)
        embedder = _convert(card, file)
        _check_figures(card, card_file, embedder)
        if not _prove(embedder, card, file, allow_unproven):
            return embedder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CARD).unlink(missing_ok=True)
        save_model(embedder, folder / _CONVERTED)
        write_card(folder / CARD, keras_card(card, folder / _CONVERTED))
    return _open(folder / _CONVERTED)


def _is_whole(folder: Path) -> bool:
    """Whether the cache has a converted embedder whose file is undamaged."""
    try:
        check_weights(read_card(folder / CARD), folder / CARD, folder / _CONVERTED)
    except (ValueError, OSError):
        return False
    return True


def _convert(card: Card, file: Path) -> "keras.Model":
    from keras_facemargin.zoo.convert import convert

    return convert(file, card)


def _prove(embedder: "keras.Model", card: Card, file: Path, allow_unproven: bool) -> bool:
    """Whether the conversion is proven; raises if it is wrong, or if it must be proven."""
    from keras_facemargin.zoo.parity import Unproven, prove

    try:
        prove(embedder, card, file)
    except Unproven as error:
        if not allow_unproven:
            raise
        warnings.warn(f"{card.name} is opened without a proof. {error}", stacklevel=4)
        return False
    return True


def _check_figures(card: Card, card_file: Path, embedder: "keras.Model") -> None:
    height, width = embedder.input_shape[1:3]
    for field, stated, found in (
        ("parameters", card.parameters, embedder.count_params()),
        ("embedding_dim", card.embedding_dim, embedder.output_shape[-1]),
        ("input.crop.height", card.input.crop.height, height),
        ("input.crop.width", card.input.crop.width, width),
    ):
        if None not in (stated, found) and found != stated:
            raise ValueError(
                f"{card_file}: field `{field}` must be that of the embedder in "
                f"{card.weights.file}, {found:,}. Received: {stated:,}"
            )


def _open(path: Path) -> "keras.Model":
    from keras_facemargin.saving import open_model

    if not path.is_file():
        raise FileNotFoundError(
            f"The embedder file does not exist. Received: {path}. Check the path; `facemargin zoo` "
            "lists the embedders that are known by name."
        )
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} cannot be opened as a Keras model: it is not a .keras archive, or only "
            "a part of one. Copy it again."
        )
    try:
        model = open_model(path)
    except Exception as error:  # Keras raises a different type for each way to be broken
        if "safe_mode=False" in str(error):  # its advice, which does not hold here
            raise ValueError(
                f"{path} cannot be opened as an embedder: Python code inside a file is never "
                "run. Received: a Lambda layer or a similar one. Build the embedder of stock "
                "layers; if you trust the file, keras.saving.load_model(FILE, safe_mode=False) "
                "opens it."
            ) from error
        raise ValueError(f"{path} cannot be opened as a Keras model: {error}") from error
    shapes: tuple[Any, Any] = (
        getattr(model, "input_shape", None),
        getattr(model, "output_shape", None),
    )
    if not all(isinstance(shape, tuple) for shape in shapes) or [len(s) for s in shapes] != [4, 2]:
        raise ValueError(
            f"{path} must hold an embedder, images (B, H, W, 3) -> embeddings (B, D). Received: a "
            f"{type(model).__name__} from {shapes[0]} to {shapes[1]}. For a MarginClassifier, save "
            "its `embedder`."
        )
    return model
