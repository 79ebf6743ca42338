"""The zoo: cards that say all about a trained embedder, and the one way to open it.

A pretrained model is a record, not code. Its folder `zoo/NAME/` holds `card.json` (what it is, how
it was made, what may be done with it, how well it does, at which threshold) and the weights. The
folder travels inside the wheel as `keras_facemargin/zoo_cards`.
"""

import dataclasses
import hashlib
import json
import re
import types
import typing
import zipfile
from pathlib import Path

import keras

from keras_facemargin.evaluate import verify_all_pairs
from keras_facemargin.files import write_json

_PACKAGE = Path(__file__).resolve().parent
_IN_WHEEL, _IN_CHECKOUT = _PACKAGE / "zoo_cards", _PACKAGE.parent / "zoo"
DIRECTORY = _IN_WHEEL if _IN_WHEEL.is_dir() else _IN_CHECKOUT


@dataclasses.dataclass(frozen=True)
class Input:
    """What an embedder is fed.

    Attributes:
        height, width: of the crop, in pixels.
        colours: order of the channels, "RGB".
        range: lowest and highest pixel value.
        alignment: how a photo becomes the crop.
    """

    height: int
    width: int
    colours: str
    range: tuple[int, ...]
    alignment: str


@dataclasses.dataclass(frozen=True)
class Licence:
    """What may be done with the weights.

    Attributes:
        weights: the licence in words.
        commercial_use: True only if every part of the lineage is cleared for it.
        limits: each limit that comes from the data, the teacher or the law.
    """

    weights: str
    commercial_use: bool
    limits: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Training:
    """How the weights were made.

    Attributes:
        data: what was trained on, and what was held out by which rule.
        tool, command: the script in the repository and how it was called.
        seed: of every random choice.
        steps: optimizer steps.
    """

    data: str
    tool: str
    command: str
    seed: int
    steps: int


@dataclasses.dataclass(frozen=True)
class Weights:
    """The weights' file beside the card.

    Attributes:
        file: its name.
        sha256: its digest, 64 hexadecimal digits.
        bytes: its size.
    """

    file: str
    sha256: str
    bytes: int

    def __post_init__(self):
        _require(Path(self.file).name == self.file, "file", "a file name, no path", self.file)
        _require(re.fullmatch(r"[0-9a-f]{64}", self.sha256), "sha256", "64 hex digits", self.sha256)


@dataclasses.dataclass(frozen=True)
class ProtocolResult:
    """One protocol's figures.

    Attributes:
        accuracy: mean over the folds, in [0, 1].
        standard_error: of that mean.
        tar_at_far: true accept rate, keyed by the false accept rate as text ("1e-3").
        eer, auc: equal error rate and area under the ROC.
        pairs: number of pairs judged.
        unseen_pairs: those among them that count as rejected because an image is missing.
        flip: whether the mirror image's embedding was appended.
        command: what measures it again.
        seeds: of the trainings behind the figure; one seed is one sample.
        remarks: what a reader must know to compare it.
    """

    accuracy: float
    standard_error: float
    tar_at_far: dict[str, float]
    eer: float
    auc: float
    pairs: int
    unseen_pairs: int
    flip: bool
    command: str
    seeds: tuple[int, ...]
    remarks: str

    def __post_init__(self):
        for name in ("accuracy", "eer", "auc"):
            value = getattr(self, name)
            _require(0 <= value <= 1, name, "a share, 0 to 1", value)


@dataclasses.dataclass(frozen=True)
class Threshold:
    """Cosine from which on two faces are called the same person.

    Attributes:
        cosine: the threshold; a pair is accepted at this cosine or above.
        far: false accept rate that it was calibrated for.
        flip: whether the cosine is between embeddings with the mirror image's appended.
        data: the pairs it was calibrated on.
        genuine_pairs, impostor_pairs: their numbers.
        tar: share of the genuine pairs that it accepts.
    """

    cosine: float
    far: float
    flip: bool
    data: str
    genuine_pairs: int
    impostor_pairs: int
    tar: float

    def __post_init__(self):
        _require(-1 <= self.cosine <= 1, "cosine", "a cosine, -1 to 1", self.cosine)
        _require(0 < self.far < 1, "far", "a rate in (0, 1)", self.far)


@dataclasses.dataclass(frozen=True)
class Card:
    """All about one embedder, as its `card.json` holds it.

    Attributes:
        name: as in `load_embedder(name)`; also the folder's name.
        description: one sentence.
        architecture: the network, as the package builds it.
        parameters: number of weights, trained or not.
        embedding_dim: D.
        input, licence, training, weights, threshold: see there.
        lineage: from which models and data it descends, oldest first.
        protocols: a `ProtocolResult` for each protocol, by name ("lfw").
        caution: what a person must know before pointing it at people.
    """

    name: str
    description: str
    architecture: str
    parameters: int
    embedding_dim: int
    input: Input
    licence: Licence
    lineage: tuple[str, ...]
    training: Training
    weights: Weights
    protocols: dict[str, ProtocolResult]
    threshold: Threshold
    caution: str

    def to_dict(self) -> dict:
        """Plain values, as `card.json` holds them."""
        return dataclasses.asdict(self)


def list_embedders() -> list[str]:
    """Names that `load_card` and `load_embedder` know, sorted.

    Example:

    >>> "spherenet_distilled" in list_embedders()
    True
    """
    return sorted(path.parent.name for path in DIRECTORY.glob("*/card.json"))


def load_card(name) -> Card:
    """Reads and checks a card.

    Args:
        name: one of `list_embedders()`.

    Raises:
        ValueError: no embedder of that name; or the card breaks its form: a field is missing,
            unknown, of another type or out of its range (naming file and field).

    Example:

    >>> load_card("spherenet_distilled").embedding_dim
    128
    """
    if name not in list_embedders():
        raise ValueError(f"{_known_names('`name` must be one of the zoo')} Received: {name!r}")
    return read_card(DIRECTORY / name / "card.json")


def read_card(path) -> Card:
    """Reads and checks the card in a file; it may lie outside the zoo.

    Args:
        path: a ``card.json``, in a folder of the embedder's name.

    Raises:
        ValueError: the card breaks its form, as `load_card`.
        OSError: it cannot be read.

    Example:

    >>> read_card(DIRECTORY / "spherenet_distilled" / "card.json").threshold.far
    0.001
    """
    path = Path(path)
    folder = path.resolve().parent.name
    try:
        card = _parse(Card, json.loads(path.read_text(encoding="utf-8")), "")
        _require(card.name == folder, "name", f"the folder's name, {folder!r}", card.name)
    except ValueError as error:  # json's own error is one too
        raise ValueError(f"{path}: {error}") from error
    return card


def write_card(path, card):
    """Writes a card, whole or not at all.

    Args:
        path: a ``card.json``, in a folder of the embedder's name.
        card: a `Card`.

    Raises:
        OSError: if it cannot be written.
    """
    write_json(path, card.to_dict())


def calibrate(embeddings, labels, far, flip, data, progress=True) -> Threshold:
    """The threshold for a false accept rate, over every pair of a set of faces.

    It is the conservative one: the smallest at which at most a share `far` of the pairs of two
    people is accepted. Calibrate on people whom the embedder has not been trained on and will not
    be tested on.

    Args:
        embeddings: ``(N, D)``, as `keras_facemargin.evaluate.embed` gives them.
        labels: ``(N,)``, whose face each is.
        far: the false accept rate, in ``[1 / impostor pairs, 1)``.
        flip: whether the mirror image's embedding is appended in `embeddings`.
        data: what the faces are, for the card.
        progress: whether to draw a progress bar on standard error.

    Returns:
        A `Threshold`.

    Raises:
        ValueError: as `verify_all_pairs`, or if there are too few impostor pairs for `far`.

    Example:

    >>> embeddings = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]
    >>> found = calibrate(embeddings, [1, 1, 2, 2], 0.3, False, "four faces", progress=False)
    >>> found.impostor_pairs, found.tar
    (4, 1.0)
    """
    found = verify_all_pairs(embeddings, labels, [far], progress=progress)
    (entry,) = found.tar_at_far
    if not entry.supported:
        raise ValueError(
            "A threshold needs at least 1 / far impostor pairs: a rate that no pair could show is "
            f"a guess. Received: far={far:g}, which is {entry}. Calibrate on more people, or for a "
            f"rate of at least {1 / entry.impostors:.2g}."
        )
    return Threshold(
        cosine=entry.threshold,
        far=far,
        flip=flip,
        data=data,
        genuine_pairs=found.genuines,
        impostor_pairs=found.impostors,
        tar=entry.tar,
    )


def load_embedder(name_or_path) -> keras.Model:
    """Opens an embedder of the zoo by name, or your own `.keras` file by path.

    A zoo file is opened only if its SHA-256 is the card's. No file may run code: Keras' safe mode
    stays on, so layers with pickled Python inside are refused.

    Args:
        name_or_path: one of `list_embedders()`, or the path of a file that ends in `.keras`.

    Returns:
        `keras.Model`, (B, 112, 112, 3) float32 RGB 0..255 -> (B, D), not normalised.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: unknown name; the file is damaged, is not what its card says, or is not an
            embedder.

    Example:

    >>> load_embedder("spherenet_distilled").output_shape
    (None, 128)
    """
    if Path(name_or_path).suffix == ".keras":
        return _open(Path(name_or_path))
    if str(name_or_path) not in list_embedders():
        rule = _known_names("`name_or_path` must be the path of a .keras file or one of the zoo")
        raise ValueError(f"{rule} Received: {str(name_or_path)!r}")
    return load_weights(DIRECTORY / str(name_or_path) / "card.json")


def load_weights(card_file) -> keras.Model:
    """Opens the embedder that a card describes, from the file beside it.

    Args:
        card_file: as `read_card`.

    Returns:
        As `load_embedder`.

    Raises:
        FileNotFoundError, ValueError: as `load_embedder` and `read_card`.
    """
    card = read_card(card_file)
    path = Path(card_file).parent / card.weights.file
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != card.weights.sha256:
        raise ValueError(
            f"{path} is not the file that its card describes and was not opened: its SHA-256 must "
            f"be {card.weights.sha256}. Received: {digest}. Install it again."
        )
    return _open(path)


def _open(path):
    if not path.is_file():
        raise FileNotFoundError(f"There is no such embedder file. Received: {path}")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} cannot be opened as a Keras model: it is no .keras archive, or only a part of "
            "one. Copy it again."
        )
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras raises a different type for each way to be broken
        raise ValueError(f"{path} cannot be opened as a Keras model: {error}") from error
    shapes = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if not all(isinstance(shape, tuple) for shape in shapes) or [len(s) for s in shapes] != [4, 2]:
        raise ValueError(
            f"{path} must hold an embedder, images (B, H, W, 3) -> embeddings (B, D). Received: a "
            f"{type(model).__name__} from {shapes[0]} to {shapes[1]}. Of a MarginClassifier save "
            "the `embedder`."
        )
    return model


def _known_names(rule):
    return f"{rule}: {', '.join(list_embedders()) or '(the zoo is empty)'}."


def _parse(kind, value, where):
    """`value` as `kind` (a dataclass, a plain type, tuple[T, ...] or dict[str, T]), or an error."""
    if dataclasses.is_dataclass(kind):
        return _parse_record(kind, value, where)
    origin = typing.get_origin(kind)
    if origin is tuple and isinstance(value, list):
        item = typing.get_args(kind)[0]
        return tuple(_parse(item, entry, f"{where}[{i}]") for i, entry in enumerate(value))
    if origin is dict and isinstance(value, dict):
        item = typing.get_args(kind)[1]
        return {key: _parse(item, entry, f"{where}.{key}") for key, entry in value.items()}
    if kind is float and type(value) is int:  # JSON writes 1.0 as 1
        return float(value)
    # `type`, not isinstance: a bool is an int to Python but not to a reader of cards.
    _require(type(value) is kind, where, _WORDS.get(origin or kind), value)
    return value


def _parse_record(kind, value, where):
    _require(isinstance(value, dict), where or "the card", "an object", value)
    hints = typing.get_type_hints(kind)
    prefix = f"{where}." if where else ""
    for problem, names in (
        ("is missing", hints.keys() - value.keys()),
        ("is unknown", value.keys() - hints.keys()),
    ):
        if names:
            raise ValueError(
                f"field `{prefix}{min(names)}` {problem}: a {kind.__name__.lower()} has exactly "
                f"{', '.join(hints)}. Received: {', '.join(value)}"
            )
    fields = {name: _parse(hint, value[name], prefix + name) for name, hint in hints.items()}
    return kind(**fields)


_WORDS = types.MappingProxyType(
    {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        tuple: "a list",
        dict: "an object",
    }
)


def _require(condition, field, rule, received):
    if not condition:
        raise ValueError(f"field `{field}` must be {rule}. Received: {received!r}")
