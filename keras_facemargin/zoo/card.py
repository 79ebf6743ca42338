"""A model card: how an embedder was made, what may be done with it, and its figures.

A pretrained model is a record, not code. Its folder holds `card.json` and, where the licence allows
it, the weights. Neither Keras nor numpy is needed to read a card.
"""

import hashlib
import json
import math
import os
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from keras_facemargin.bars import BARS
from keras_facemargin.zoo.parts import (
    BackboneNetwork,
    CropSize,
    FaceQuality,
    FolderSource,
    Golden,
    GraphNetwork,
    Groups,
    Input,
    KerasNetwork,
    LicenseEntry,
    Likelihood,
    Measured,
    Network,
    PixelRule,
    Positive,
    Published,
    Record,
    Sha256,
    Source,
    Text,
    Thresholds,
    Training,
    Weights,
)

if typing.TYPE_CHECKING:
    import keras

    from keras_facemargin.images.crop import Crop
    from keras_facemargin.runtime import Pixels

CARD = "card.json"
CAUTION = (
    "Faces are people. This is a biometric tool: it makes errors, and not equally often for all "
    "groups of people. Do not decide about a person by it alone, ask for consent, and check the "
    "law that applies to you."
)


class WrongField(ValueError):
    """`(field, rule, received)` of a field that disagrees with another one."""

    def __str__(self) -> str:
        field, rule, received = self.args
        return f"field `{field}` must be {rule}. Received: {received!r}"


class Card(Record):
    """Model card of an embedder, the content of its `card.json`.

    Attributes:
        schema_version: 2.
        name: in the zoo the folder's name, as in `load_embedder(name)`.
        description: one sentence.
        embedding_id: digest of all that decides whether two embeddings can be compared: weights,
            crop, channel order, pixel rule and size. See `id_of`. None if the weights' digest is
            not known.
        parameters: number of weights, trained or not; None if it is not known.
        embedding_dim: D.
        network: a `.keras` file, a backbone that the package builds, or a graph.
        input: see there.
        weights: see there.
        sources: where the weights' file comes from, in the order in which they are tried.
        converter: name of the converter to Keras; None for a `.keras` file.
        license: the ledger, a `LicenseEntry` for each statement.
        published: figures that others state.
        measured: figures that this project measured.
        thresholds: see there; None if they were not calibrated.
        likelihood: map from cosine to likelihood ratio; None if it was not fitted.
        quality: scale and limits of the quality of crops; None if they were not measured.
        groups: errors by group of people; None if they were not measured.
        golden: see there; None if the project never had the file.
        training: see there; None if it was not recorded.
        lineage: from which models and data it descends, oldest first.
        notes: traps of the file and of its use.
        caution: limits to know before the model is used on people.
    """

    schema_version: Literal[2]
    name: Text
    description: Text
    embedding_id: Sha256 | None
    parameters: Positive | None
    embedding_dim: Positive
    network: Network
    input: Input
    weights: Weights
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    converter: Text | None
    license: tuple[LicenseEntry, ...]
    published: tuple[Published, ...]
    measured: tuple[Measured, ...]
    thresholds: Thresholds | None
    quality: FaceQuality | None = None
    likelihood: Likelihood | None = None
    groups: Groups | None = None
    golden: Golden | None
    training: Training | None
    lineage: tuple[str, ...]
    notes: tuple[str, ...]
    caution: Text

    @pydantic.model_validator(mode="after")
    def _check_whole(self) -> "Card":
        if self.embedding_id != self.id_of():
            raise WrongField("embedding_id", f"{self.id_of()}, as computed", self.embedding_id)
        if self.golden is not None and len(self.golden.embedding) != self.embedding_dim:
            raise WrongField(
                "golden.embedding",
                f"a list of {self.embedding_dim} numbers",
                f"{len(self.golden.embedding)} numbers",
            )
        if (
            isinstance(self.network, BackboneNetwork)
            and self.network.embedding_dim != self.embedding_dim
        ):
            raise WrongField(
                "network.embedding_dim",
                f"`embedding_dim`, {self.embedding_dim}",
                self.network.embedding_dim,
            )
        return self

    @classmethod
    def make(cls, **fields: Any) -> "Card":
        """A card with its version and its embedding id filled in.

        Args:
            **fields: the other fields.

        Raises:
            ValueError: a field is missing, unknown or wrong.
        """
        draft = cls.model_construct(**fields)
        return cls(schema_version=2, embedding_id=draft.id_of(), **fields)

    def changed(self, **fields: Any) -> "Card":
        """A copy with some fields changed, checked, and with its embedding id computed again.

        Args:
            **fields: the new values.

        Raises:
            ValueError: as `make`.

        Example:

        >>> from keras_facemargin.zoo import load_card
        >>> load_card("spherenet_distilled").changed(name="mine").name
        'mine'
        """
        kept = {name: getattr(self, name) for name in type(self).model_fields}
        for computed in ("schema_version", "embedding_id"):
            del kept[computed]
        return type(self).make(**(kept | fields))

    def id_of(self, *, mirrored: bool = False) -> str | None:
        """Digest of all that decides whether two embeddings can be compared.

        Store it beside embeddings; embeddings with different ids must not be compared.

        Args:
            mirrored: whether the mirror image's embedding is appended.

        Returns:
            64 hexadecimal digits; None if the digest of the weights is not known.

        Example:

        >>> from keras_facemargin.zoo import load_card
        >>> card = load_card("spherenet_distilled")
        >>> card.id_of() == card.embedding_id != card.id_of(mirrored=True)
        True
        """
        if self.weights.sha256 is None:
            return None
        facts = {
            "weights": self.weights.sha256,
            "input": self.input.model_dump(mode="json"),
            "embedding_dim": self.embedding_dim,
            "mirrored": mirrored,
        }
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def crop(self) -> "Crop":
        """The crop as `keras_facemargin.images` takes it."""
        from keras_facemargin.images.crop import Crop

        crop = self.input.crop
        return Crop(crop.height, crop.width, crop.template)

    @property
    def pixels(self) -> "Pixels":
        """The pixels that the original file takes, as `keras_facemargin.runtime` takes them."""
        from keras_facemargin.runtime import Pixels

        rule, order = self.input.pixel_rule, self.input.channel_order
        if rule is None:
            return Pixels(channel_order=order)
        return Pixels(rule.mean, rule.scale, order)

    @property
    def architecture(self) -> str:
        """The network in words."""
        if isinstance(self.network, BackboneNetwork):
            arguments = ", ".join(f"{k}={v!r}" for k, v in self.network.arguments.items())
            return (
                f"{self.network.backbone}({arguments}), neck {self.network.neck!r}, "
                f"{self.embedding_dim}-d"
            )
        if isinstance(self.network, GraphNetwork):
            return f"the graph in {self.weights.file}"
        return f"the Keras model in {self.weights.file}"

    def find_measured(self, protocol: str, *, mirrored: bool = True) -> Measured | None:
        """The measured figures of a protocol.

        Args:
            protocol: for example "lfw".
            mirrored: which figures to prefer if there are two.

        Returns:
            A `Measured`, or None.
        """
        every = [one for one in self.measured if one.protocol == protocol]
        return min(every, key=lambda one: one.mirrored is not mirrored, default=None)

    @property
    def bars(self) -> tuple[str, ...]:
        """The named bars of `keras_facemargin.bars` that the thresholds meet, miss or leave open.

        One sentence for each bar; empty without thresholds. The thresholds for embeddings with the
        mirror image's are judged.

        Example:

        >>> from keras_facemargin.zoo import load_card
        >>> len(load_card("spherenet_distilled").bars)
        2
        """
        if self.thresholds is None:
            return ()
        every = [one for one in self.thresholds.mirrored if one.group is None]
        pairs = max((one.impostor_pairs for one in every), default=0)
        found = []
        for bar in BARS:
            fnmr = ends = None
            for one in every:
                if math.isclose(one.far, bar.fmr):
                    fnmr = 1 - one.tar
                    ends = one.tar_interval and (1 - one.tar_interval[1], 1 - one.tar_interval[0])
            found.append(f"{bar.title}; {bar.judge(fnmr, ends, pairs)}")
        return tuple(found)

    @property
    def commercial_use(self) -> bool:
        """Whether the ledger clears commercial use; see `commercial_obstacles`."""
        return not self.commercial_obstacles

    @property
    def commercial_obstacles(self) -> tuple[str, ...]:
        """Reasons against commercial use, one sentence each; empty if the ledger clears it.

        The weights, the code and the data each need a statement, every statement (about a teacher
        too) must allow commercial use, and no two statements may contradict each other.
        """
        stated = {entry.part for entry in self.license}
        missing = (
            f"The ledger has no statement about the {part}."
            for part in ("weights", "code", "data")
            if part not in stated
        )
        refusing = (f"{entry}." for entry in self.license if entry.commercial is not True)
        return (*refusing, *self.license_conflicts, *missing)

    @property
    def license_conflicts(self) -> tuple[str, ...]:
        """Statements about one part that contradict each other, one sentence for each part."""
        found = []
        for subject in dict.fromkeys((entry.part, entry.of) for entry in self.license):
            entries = [entry for entry in self.license if (entry.part, entry.of) == subject]
            if {True, False} <= {entry.commercial for entry in entries}:
                words = " / ".join(f"{entry.license} [{entry.stated_by}]" for entry in entries)
                found.append(f"Statements about the {subject[0]} ({subject[1]}) conflict: {words}.")
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `card.json` holds them.

        Example:

        >>> from keras_facemargin.zoo import load_card
        >>> load_card("spherenet_distilled").to_dict()["schema_version"]
        2
        """
        return self.model_dump(mode="json")


def describe(
    embedder: "keras.Model",
    file: str | os.PathLike[str],
    description: str,
    *,
    base: Card | None = None,
    lineage: tuple[str, ...] = (),
    thresholds: Thresholds | None = None,
) -> Card:
    """A card for your own embedder, from its file and the card of its origin.

    Args:
        embedder: the `keras.Model` in the file.
        file: its `.keras` file.
        description: one sentence.
        base: `Card` of the embedder that it was made from. Its licence, lineage and crop are
            inherited, and the ledger says that nothing is known about the images added. None leaves
            the ledger empty.
        lineage: lines to add to the lineage of `base`.
        thresholds: see `calibrate`.

    Returns:
        A `Card`, to be written beside the file.

    Raises:
        OSError: the file cannot be read.
    """
    file = Path(file)
    ledger = () if base is None else (*base.license, _OWN_IMAGES)
    return Card.make(
        name=file.resolve().parent.name or "embedder",
        description=description,
        parameters=embedder.count_params(),
        embedding_dim=embedder.output_shape[-1],
        network=KerasNetwork(kind="keras"),
        input=_input_of(embedder, base),
        weights=Weights(file=file.name, bytes=file.stat().st_size, sha256=digest_of(file)),
        sources=(FolderSource(kind="folder"),),
        converter=None,
        license=ledger,
        published=(),
        measured=(),
        thresholds=thresholds,
        golden=None,
        training=None,
        lineage=(*(base.lineage if base else ()), *lineage),
        notes=base.notes if base else (),
        caution=CAUTION,
    )


def describe_file(
    file: str | os.PathLike[str], *, crop: "Crop", pixels: "Pixels", embedding_dim: int
) -> Card:
    """A card for an `.onnx` or `.tflite` file of which only its input is known.

    Args:
        file: the file.
        crop: the crop that it takes.
        pixels: the pixels that it takes.
        embedding_dim: D.

    Returns:
        A `Card` with an empty licence ledger.

    Raises:
        OSError: the file cannot be read.
    """
    file = Path(file)
    rule = PixelRule(mean=pixels.mean, scale=pixels.scale)
    raw = PixelRule(mean=(0.0, 0.0, 0.0), scale=(1.0, 1.0, 1.0))
    return Card.make(
        name=file.stem,
        description=f"The embedder in {file.name}.",
        parameters=None,
        embedding_dim=embedding_dim,
        network=GraphNetwork(kind="graph"),
        input=Input(
            crop=_size_of(crop),
            channel_order=pixels.channel_order,
            range=(0, 255),
            pixel_rule=None if rule == raw else rule,
        ),
        weights=Weights(file=file.name, bytes=file.stat().st_size, sha256=digest_of(file)),
        sources=(FolderSource(kind="folder"),),
        converter=file.suffix.lower().removeprefix("."),
        license=(),
        published=(),
        measured=(),
        thresholds=None,
        golden=None,
        training=None,
        lineage=(),
        notes=(),
        caution=CAUTION,
    )


def keras_card(card: Card, file: str | os.PathLike[str]) -> Card:
    """The card of an embedder that is now in a `.keras` file of its own.

    Args:
        card: of the original, whose weights may be in another format.
        file: the `.keras` file, converted or copied.

    Returns:
        A `Card`, to be written beside the file: figures, thresholds, licence and lineage stay.

    Raises:
        OSError: the file cannot be read.
    """
    file = Path(file)
    return card.changed(
        network=KerasNetwork(kind="keras"),
        input=Input(crop=card.input.crop, channel_order="RGB", range=(0, 255), pixel_rule=None),
        weights=Weights(file=file.name, bytes=file.stat().st_size, sha256=digest_of(file)),
        sources=(FolderSource(kind="folder"),),
        converter=None,
    )


_OWN_IMAGES = LicenseEntry(
    part="data",
    of="images that were added to the training",
    license="Not stated.",
    stated_by="no statement yet: edit the card",
    commercial=None,
)


def _input_of(embedder: "keras.Model", base: Card | None) -> Input:
    from keras_facemargin.images.crop import Crop

    crop = Crop.of_embedder(embedder)
    if base is not None and base.crop.shape == crop.shape:
        crop = base.crop
    return Input(crop=_size_of(crop), channel_order="RGB", range=(0, 255), pixel_rule=None)


def _size_of(crop: "Crop") -> CropSize:
    points = None if crop.template is None else tuple(map(tuple, crop.points.round(4).tolist()))
    return CropSize(height=crop.height, width=crop.width, template=crop.template, points=points)


def digest_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal digits.

    Args:
        path: the file.

    Raises:
        OSError: the file cannot be read.

    Example:

    >>> _ = Path("empty").write_bytes(b"")
    >>> digest_of("empty")[:8]
    'e3b0c442'
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
