"""A model card: how an embedder was made, what may be done with it, and its figures.

A pretrained model is a record, not code. Its folder holds `card.json` and the weights. Keras is
imported for an embedder, not for a card.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import re
import reprlib
import types
import typing
from pathlib import Path

from keras_facemargin.files import read_text, write_json

CARD = "card.json"
CAUTION = (
    "Faces are people. This is a biometric tool: it makes errors, and not equally often for all "
    "groups of people. Do not decide about a person by it alone, ask for consent, and check the "
    "law that applies to you."
)


@dataclasses.dataclass(frozen=True)
class Input:
    """Input of an embedder: crop and pixels.

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

    def __post_init__(self):
        _require_positive(self, "height", "width")


@dataclasses.dataclass(frozen=True)
class Licence:
    """Licence of the weights.

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
    """Training of the weights.

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

    def __post_init__(self):
        _require_counts(self, "seed", "steps")


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
        _require_positive(self, "bytes")


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
        _require_shares(self, "accuracy", "standard_error", "eer", "auc")
        _require_counts(self, "pairs", "unseen_pairs")
        for far, tar in self.tar_at_far.items():
            _require(0 <= tar <= 1, f"tar_at_far.{far}", "a share, 0 to 1", tar)


@dataclasses.dataclass(frozen=True)
class Threshold:
    """Smallest cosine at which two faces count as the same person.

    Attributes:
        cosine: the threshold; a pair is accepted at this cosine or above.
        far: false accept rate that it was calibrated for.
        data: the pairs it was calibrated on.
        genuine_pairs, impostor_pairs: their numbers.
        tar: share of the genuine pairs that it accepts.
    """

    cosine: float
    far: float
    data: str
    genuine_pairs: int
    impostor_pairs: int
    tar: float

    def __post_init__(self):
        _require(-1 <= self.cosine <= 1, "cosine", "a cosine, -1 to 1", self.cosine)
        _require(0 < self.far < 1, "far", "a rate in (0, 1)", self.far)
        _require_counts(self, "genuine_pairs", "impostor_pairs")
        _require_shares(self, "tar")

    def __str__(self):
        return f"{self.cosine:.4f} at FAR {self.far:.2g} on {self.impostor_pairs:,} impostor pairs"


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """One threshold for each kind of embedding: at one cosine the two accept different pairs.

    Attributes:
        single: for the embedding of the image alone, which an exported file gives.
        mirrored: for embeddings with the mirror image's appended, as `evaluate.embed` makes them
            by default and the command `verify` compares them.
    """

    single: Threshold
    mirrored: Threshold


@dataclasses.dataclass(frozen=True)
class Card:
    """Model card of an embedder, the content of its `card.json`.

    Attributes:
        name: in the zoo the folder's name, as in `load_embedder(name)`.
        description: one sentence.
        architecture: the network, as the package builds it.
        parameters: number of weights, trained or not.
        embedding_dim: D.
        input, licence, weights: see there.
        training: see there; None if it was not recorded.
        thresholds: see there; None if they were not calibrated.
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
    training: Training | None
    weights: Weights
    protocols: dict[str, ProtocolResult]
    thresholds: Thresholds | None
    caution: str

    def __post_init__(self):
        _require_positive(self, "parameters", "embedding_dim")

    def to_dict(self) -> dict:
        """Plain values, as `card.json` holds them."""
        return dataclasses.asdict(self)


def read_card(path) -> Card:
    """Reads and checks the card in a file, which may be outside the zoo.

    Args:
        path: a ``card.json``.

    Raises:
        ValueError: the card breaks its form, as `load_card`.
        OSError: it cannot be read.

    Example:

    >>> from keras_facemargin.zoo import card_path
    >>> read_card(card_path("spherenet_distilled")).thresholds.mirrored.far
    0.001
    """
    try:
        record = json.loads(read_text(path, "a card"), parse_constant=_refuse_constant)
        _refuse_one_threshold(record)
        return _parse(Card, record, "")
    except RecursionError:
        raise ValueError(
            f"{path}: a card must be an object of a few levels. Received: JSON that is nested too "
            "deeply to be read."
        ) from None
    except ValueError as error:  # json's own error is one too
        said = str(error)
        raise ValueError(said if said.startswith(str(path)) else f"{path}: {said}") from error


def write_card(path, card):
    """Writes a card in one step.

    Args:
        path: a ``card.json``, beside the weights.
        card: a `Card`.

    Raises:
        OSError: if it cannot be written.
    """
    write_json(path, card.to_dict())


def describe(embedder, file, description, *, base=None, lineage=(), thresholds=None) -> Card:
    """A card for your own embedder, from its file and the card of its origin.

    Args:
        embedder: the `keras.Model` in the file.
        file: its `.keras` file.
        description: one sentence.
        base: `Card` of the embedder that it was made from: its licence and lineage count for what
            was made from it. None leaves them open.
        lineage: what is added to the lineage of `base`.
        thresholds: see `calibrate`.

    Returns:
        A `Card`, to be written beside the file.

    Raises:
        OSError: the file cannot be read.
    """
    file = Path(file)
    height, width = (side or 112 for side in embedder.input_shape[1:3])
    data = file.read_bytes()
    return Card(
        name=file.resolve().parent.name,
        description=description,
        architecture=base.architecture if base else f"the network {embedder.name!r}",
        parameters=embedder.count_params(),
        embedding_dim=embedder.output_shape[-1],
        input=Input(
            height=height,
            width=width,
            colours="RGB",
            range=(0, 255),
            alignment=base.input.alignment if base else "five points to the ArcFace template",
        ),
        licence=base.licence if base else Licence("Not stated.", False, ()),
        lineage=(*(base.lineage if base else ()), *lineage),
        training=None,
        weights=Weights(file=file.name, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data)),
        protocols={},
        thresholds=thresholds,
        caution=CAUTION,
    )


def check_weights(card, card_file, path):
    """Refuses a file that is not the one that a card describes."""
    if path.name != card.weights.file:
        raise ValueError(
            f"{card_file} describes {card.weights.file}. Received: {path}. Copy the file to a "
            "folder of its own; `facemargin calibrate` writes a card there."
        )
    size = path.stat().st_size
    if size == card.weights.bytes:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest == card.weights.sha256:
            return
        wanted, found = f"a SHA-256 of {card.weights.sha256}", digest
    else:
        wanted, found = f"{card.weights.bytes:,} bytes", f"{size:,}"
    raise ValueError(
        f"{path} is not the file that its card describes: it must have {wanted}. Received: "
        f"{found}. Install or copy it again; for a file that you changed remove the card, and "
        "`facemargin calibrate` writes a new one."
    )


def _refuse_constant(name):
    raise ValueError(f"a card's numbers must be finite. Received: {name}")


def _refuse_one_threshold(record):
    if isinstance(record, dict) and "threshold" in record and "thresholds" not in record:
        raise ValueError(
            "field `threshold` is of an earlier form, for one kind of embedding: a card holds "
            f'`thresholds`. Received: {_shown(record["threshold"])}. Write "thresholds": null in '
            "its place, and `facemargin calibrate FACES --model FOLDER` finds both."
        )


def _parse(kind, value, where):
    """`value` as `kind` (a dataclass, a plain type, tuple[T, ...] or dict[str, T]), or an error."""
    if dataclasses.is_dataclass(kind):
        return _parse_record(kind, value, where)
    origin = typing.get_origin(kind)
    if origin is types.UnionType:  # `T | None`
        return None if value is None else _parse(typing.get_args(kind)[0], value, where)
    if origin is tuple and isinstance(value, list):
        item = typing.get_args(kind)[0]
        return tuple(_parse(item, entry, f"{where}[{i}]") for i, entry in enumerate(value))
    if origin is dict and isinstance(value, dict):
        item = typing.get_args(kind)[1]
        return {key: _parse(item, entry, f"{where}.{key}") for key, entry in value.items()}
    if kind is float and type(value) is int:  # JSON writes 1.0 as 1
        with contextlib.suppress(OverflowError):
            value = float(value)
    # `type`, not isinstance: a bool is an int to Python but not to a reader of cards.
    _require(type(value) is kind, where, _WORDS.get(origin or kind), value)
    _require(kind is not float or math.isfinite(value), where, "a finite number", value)
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
                f"{', '.join(hints)}. Received: {', '.join(value)[:200]}"
            )
    fields = {name: _parse(hint, value[name], prefix + name) for name, hint in hints.items()}
    try:
        return kind(**fields)
    except _WrongField as error:
        field, *rest = error.args
        raise _WrongField(prefix + field, *rest) from None


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


class _WrongField(ValueError):
    """`(field, rule, received)`; records say the field's own name, their readers where it is."""

    def __str__(self):
        field, rule, received = self.args
        return f"field `{field}` must be {rule}. Received: {_shown(received)}"


def _require(condition, field, rule, received):
    if not condition:
        raise _WrongField(field, rule, received)


def _require_shares(record, *fields):
    for field in fields:
        value = getattr(record, field)
        _require(0 <= value <= 1, field, "a share, 0 to 1", value)


def _require_counts(record, *fields):
    for field in fields:
        value = getattr(record, field)
        _require(value >= 0, field, "a count, 0 or more", value)


def _require_positive(record, *fields):
    for field in fields:
        value = getattr(record, field)
        _require(value > 0, field, "1 or more", value)


_reader = reprlib.Repr()
_reader.maxstring = _reader.maxother = 200  # a sentence, whatever the file holds


def _shown(received):
    return _reader.repr(received)
