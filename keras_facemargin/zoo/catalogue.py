"""The cards of the package, and the card of an embedder by name, file, folder or address."""

import dataclasses
import fnmatch
import hashlib
import os
import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from keras_facemargin.download import FetchError, RemoteFile, fetch, read_address
from keras_facemargin.files import atomic_write
from keras_facemargin.zoo.card import CARD, Card, digest_of
from keras_facemargin.zoo.card_file import read_card
from keras_facemargin.zoo.sources import (
    WAIT,
    cache_folder,
    files_of,
    hub_url,
    mirrored,
    offline,
)

_PACKAGE = Path(__file__).resolve().parents[1]
_IN_WHEEL, _IN_CHECKOUT = _PACKAGE / "zoo_cards", _PACKAGE.parent / "zoo"
DIRECTORY = _IN_WHEEL if _IN_WHEEL.is_dir() else _IN_CHECKOUT
_LARGEST_CARD = 1 << 20  # bytes
_HUB = re.compile(r"hf://(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(/(?P<path>.+))?$")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an embedder is.

    Attributes:
        folder: of its card or of its `.keras` file; of a card from a server, its cached copy.
        file: the file that was named, yours or fetched; None if a card was named.
        base_url: address of the card's folder, if the card came from a server.
        recognised: the zoo's card of a file that was recognised by its digest.
    """

    folder: Path
    file: Path | None = None
    base_url: str | None = None
    recognised: Card | None = None


def list_embedders(pattern: str = "*", *, commercial: bool | None = None) -> list[str]:
    """Names that `load_card` and `load_embedder` know, sorted.

    Args:
        pattern: names to list, with `*` and `?`.
        commercial: True for those that the licence ledger clears for commercial use, False for
            the others, None for all.

    Example:

    >>> "spherenet_distilled" in list_embedders("*sphere*")
    True
    """
    names = (path.parent.name for path in DIRECTORY.glob(f"*/{CARD}"))
    return sorted(
        name
        for name in names
        if fnmatch.fnmatch(name, pattern)
        and (commercial is None or _zoo_card(name).commercial_use is commercial)
    )


def card_path(model: str | os.PathLike[str]) -> Path:
    """Path of the card of an embedder; the file may be missing.

    Args:
        model: as `load_embedder`.

    Raises:
        ValueError: unknown name, or an unknown file of another format.

    Example:

    >>> card_path("my_model/embedder.keras").as_posix()
    'my_model/card.json'
    """
    return find_place(model).folder / CARD


def load_card(model: str | os.PathLike[str]) -> Card:
    """Reads and checks the card of an embedder.

    Args:
        model: as `load_embedder`. The card of a `.keras` file is the `card.json` beside it; a
            published file of another format is recognised by its SHA-256.

    Raises:
        FileNotFoundError: the card is missing.
        ValueError: unknown name; the file is not a card: a field is missing, unknown, of another
            type or out of its range (naming file and field); or the card describes another file.
        FetchError: a card at an address cannot be fetched.

    Example:

    >>> load_card("spherenet_distilled").embedding_dim
    128
    """
    place = find_place(model)
    return card_at(place, model)


def card_at(place: Place, model: str | os.PathLike[str]) -> Card:
    """The card of a place; see `load_card`."""
    if place.recognised is not None:
        return place.recognised
    file = place.folder / CARD
    if not file.is_file():
        weights = place.file or place.folder / "embedder.keras"
        raise FileNotFoundError(
            f"A card holds the thresholds of an embedder. Received: {model}, without {file}. "
            f"`facemargin calibrate FACES --model {weights}` writes one."
        )
    if place.folder.parent == DIRECTORY:
        return _zoo_card(place.folder.name)
    card = read_card(file)
    if place.file is not None:
        check_weights(card, file, place.file)
    return card


def find_card(model: str | os.PathLike[str]) -> Card | None:
    """As `load_card`; None without a usable card."""
    try:
        return load_card(model)
    except (ValueError, OSError):
        return None


def find_place(model: str | os.PathLike[str]) -> Place:
    """Where a model is.

    Args:
        model: as `load_embedder`.

    Raises:
        FileNotFoundError: the path of a file that does not exist.
        ValueError: unknown name, or an unknown file of another format.
        FetchError: an address does not give the card or the file.
    """
    text = os.fspath(model)
    if is_name(text):
        return Place(DIRECTORY / text)
    if text.startswith("hf://"):
        return _at_hub(text)
    if text.startswith("https://"):
        return _at_address(text, text)
    if "://" in text:
        raise ValueError(f"An address must begin with hf:// or https://. Received: {text!r}")
    path = Path(text)
    if path.name == CARD:
        path = path.parent
    if path.is_dir():
        return Place(path)
    if path.suffix == ".keras":
        return Place(path.parent, path)
    if path.is_file():
        place = recognize(path)
        if place is None:
            raise ValueError(
                f"{_rule()} Received: {str(path)!r}, {_kind(path.name)} with the SHA-256 "
                f"{digest_of(path)}, which is not the file of a card. {_way_out(path.name)}"
            )
        return place
    if path.suffix or len(path.parts) > 1:
        raise FileNotFoundError(
            f"The embedder file does not exist. Received: {text}. Check the path; `facemargin zoo` "
            "lists the embedders that are known by name."
        )
    raise ValueError(f"{_rule()} Received: {text!r}{_hint(text)}")


def is_name(model: str | os.PathLike[str]) -> bool:
    """Whether a model is named by its name in the zoo."""
    return os.fspath(model) in list_embedders()


def check_weights(card: Card, card_file: Path, path: Path) -> None:
    """Refuses a file that is not the one that a card describes.

    Raises:
        FileNotFoundError: the file does not exist.
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


def _zoo_card(name: str) -> Card:
    file = DIRECTORY / name / CARD
    card = read_card(file)
    if card.name != name:
        raise ValueError(
            f"{file}: field `name` must be the folder's name, {name!r}. Received: {card.name!r}"
        )
    return card


def _zoo_cards() -> Iterator[Card]:
    return map(_zoo_card, list_embedders())


def recognize(path: Path) -> Place | None:
    """The card of a published file, or of its archive, whatever its name is now.

    Args:
        path: an existing file.

    Returns:
        Its `Place`; None if no card describes the file.
    """
    beside = path.with_name(CARD)
    if beside.is_file() and (card := read_card(beside)).weights.file == path.name:
        return Place(path.parent, path, recognised=card)
    size, digest = path.stat().st_size, None
    for card in _zoo_cards():
        for wanted in files_of(card):
            if wanted.sha256 is None or wanted.bytes not in (None, size):
                continue
            digest = digest or digest_of(path)
            if digest == wanted.sha256:
                return Place(DIRECTORY / card.name, path, recognised=card)
    return None


def _at_hub(text: str) -> Place:
    found = _HUB.match(text)
    if found is None:
        raise ValueError(
            "An address on the hub must be hf://OWNER/NAME, hf://OWNER/NAME@REVISION or one of "
            f"these with /FILE. Received: {text!r}"
        )
    repository, revision = found["repository"], found["revision"] or "main"
    return _at_address(text, hub_url(repository, revision, found["path"] or CARD))


def _at_address(text: str, url: str) -> Place:
    """A card at an address, or a published file whose digest is on a card of the zoo."""
    name = url.rstrip("/").rsplit("/", 1)[-1]
    if name != CARD and _kind(name) != "a file":
        return _fetched_file(text, url, name)
    url = url if name == CARD else f"{url.rstrip('/')}/{CARD}"
    folder = cache_folder() / "cards" / hashlib.sha256(url.encode()).hexdigest()
    if not offline():
        content = _read_first(mirrored(url))
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / CARD, "wb") as file:
            file.write(content)
    elif not (folder / CARD).is_file():
        raise FetchError(
            f"The card is not in the cache, and FACEMARGIN_OFFLINE is set. Received: {text}"
        )
    return Place(folder, base_url=url.removesuffix(f"/{CARD}"))


def _read_first(urls: tuple[str, ...]) -> bytes:
    for url in urls[:-1]:
        try:
            return read_address(url, most=_LARGEST_CARD)
        except FetchError:
            continue
    return read_address(urls[-1], most=_LARGEST_CARD)


def _fetched_file(text: str, url: str, name: str) -> Place:
    for card in _zoo_cards():
        for wanted in files_of(card):
            if wanted.file != name or wanted.sha256 is None:
                continue
            folder = cache_folder() / "files" / wanted.sha256
            folder.mkdir(parents=True, exist_ok=True)
            if offline() and not (folder / name).is_file():
                raise FetchError(
                    f"{name} is not in the cache, and FACEMARGIN_OFFLINE is set. Received: {text}"
                )
            remote = RemoteFile(name, mirrored(url), wanted.sha256, wanted.bytes or 1 << 32)
            path = Path(fetch(remote, folder, wait=WAIT))
            return Place(DIRECTORY / card.name, path, recognised=card)
    raise ValueError(
        "A file is downloaded only if its SHA-256 is on a card of the zoo. Received: "
        f"{text!r}; no card names a file {name}. Download it yourself. {_way_out(name)}"
    )


def _rule() -> str:
    return (
        "A model must be a name in the zoo, the path of a .keras file or of a folder with its "
        "card, a published file that a card describes, or an address hf:// or https:// of a card."
    )


def _hint(text: str) -> str:
    if not (names := list_embedders()):
        return ". The zoo is empty."
    near = get_close_matches(text, names, 1)
    return f". Did you mean {near[0]!r}?" if near else ". `facemargin zoo` lists the names."


# Formats of other programs, and what can be done with a file that no card describes.
_ANY_FUNCTION = (
    "`keras_facemargin.evaluate.embed` takes any function from images (B, H, W, 3), RGB 0..255, to "
    "embeddings (B, D), so a model in its own runtime can be evaluated."
)
_AS_IT_IS = (
    "`open_embedder` runs it as it is. For training and export, `facemargin calibrate FACES "
    "--model FILE --crop CROP --pixels PIXELS --output FOLDER` writes a card; then name the folder."
)
_FORMATS = (
    (
        (".weights.h5",),
        "Keras weights without their network",
        "Build the network, call its load_weights(), and save it as a .keras file.",
    ),
    (
        (".h5", ".hdf5"),
        "a model in Keras' older HDF5 format",
        "If you trust it, keras.saving.load_model(FILE).save('embedder.keras') makes a .keras file "
        "of it.",
    ),
    ((".tflite",), "a TFLite file", _AS_IT_IS),
    ((".onnx",), "an ONNX graph", _AS_IT_IS),
    ((".pt", ".pth", ".ckpt"), "a PyTorch checkpoint", _ANY_FUNCTION),
    ((".safetensors",), "weights without their network", _ANY_FUNCTION),
    ((".params", "-symbol.json"), "a part of an MXNet model", _ANY_FUNCTION),
    ((".dat",), "a dlib model", _ANY_FUNCTION),
    ((".keras",), "a Keras model", "Name the folder with its card, or download the file."),
    ((".zip", ".tar.gz", ".tgz"), "an archive", "Unpack it and name the file in it."),
)


def _kind(name: str) -> str:
    return next((what for ends, what, _ in _FORMATS if name.lower().endswith(ends)), "a file")


def _way_out(name: str) -> str:
    return next(
        (way_out for ends, _, way_out in _FORMATS if name.lower().endswith(ends)), _ANY_FUNCTION
    )
