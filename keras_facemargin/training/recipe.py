"""A training run in one file: the model, the data and the method.

The format is TOML. The classes here declare every key, and `docs/training.md` lists them; the
arguments of heads, optimizers, layers, ramps and backbones come from their signatures
(`training/arguments.py`). Any other key is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import keras
from pydantic import Field, field_validator, model_validator

from keras_facemargin.images.crop import Crop, parse_size
from keras_facemargin.training.arguments import (
    BY_CLASS_SIZE,
    TABLES,
    Number,
    argument_table,
    backbone_functions,
    backbone_table,
    class_of,
)
from keras_facemargin.training.checks import Refusal, Table, check, unknown
from keras_facemargin.training.document import Document, apply_change, read_document, to_toml

# Table -> old name -> new name of a key.
_RENAMED = {"": {"policy": "dtype_policy"}, "schedule": {"at": "milestones"}}
_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16", "bfloat16", "float16", "float64")
Arguments = dict[str, Any]


class Data(Table):
    """The faces to train on."""

    path: str = Field(description="folder, .rec or .tfrecord; relative to the recipe")
    on_bad: Literal["refuse", "skip"] = Field(
        "refuse", description="a file that is not a face crop: `refuse` or `skip`"
    )


class Embedder(Table):
    """The network: a backbone to build, or a model to continue from."""

    backbone: str | None = Field(None, description="a name that `build_embedder` takes")
    arguments: Arguments | None = Field(
        None, description="arguments of the backbone's function, such as `widths`"
    )
    embedding_dim: int = Field(512, ge=1, description="D")
    image_size: int | str = Field(
        112, description="height of the crops, or HEIGHTxWIDTH such as 112x96, in pixels"
    )
    model: str | None = Field(
        None, description="instead of these: a zoo name, or a .keras file to continue from"
    )

    @property
    def crop(self) -> Crop:
        """The crop of `image_size`."""
        return Crop.of(parse_size(str(self.image_size)))

    @field_validator("image_size", mode="before")
    @classmethod
    def _size_of_a_crop(cls, size: Any) -> Any:
        sides = parse_size(str(size)) if isinstance(size, int | str) else None
        try:
            Crop.of(sides)
        except ValueError:
            sides = None
        if sides is None:
            raise Refusal(
                "`embedder.image_size` must be a height or HEIGHTxWIDTH in pixels, such as 112 or "
                "112x96.",
                f"image_size = {size!r}",
            )
        return size

    @model_validator(mode="after")
    def _backbone_or_model(self) -> "Embedder":
        if (self.backbone is None) == (self.model is None):
            raise Refusal(
                "[embedder] needs a `backbone` to build or a `model` to continue from.",
                f"backbone={self.backbone!r}, model={self.model!r}",
            )
        if self.backbone is None and self.arguments is not None:
            raise Refusal(
                "[embedder.arguments] needs a `backbone`; a `model` is complete.",
                f"{', '.join(self.arguments)} for model={self.model!r}",
            )
        if self.backbone is not None and self.backbone not in backbone_functions():
            raise unknown("embedder.backbone", self.backbone, backbone_functions())
        return self


class Schedule(Table):
    """The learning rate during training."""

    name: Literal["cosine", "steps"] = Field(
        description="cosine: to zero along half a cosine; steps: multiplied by `factor`"
    )
    warmup_epochs: float = Field(
        0.0, ge=0, description="cosine: epochs of linear warm-up from zero"
    )
    milestones: list[Number] | None = Field(
        None, description="steps: epochs at which the learning rate falls"
    )
    factor: float = Field(0.1, ge=0, description="steps: factor of the learning rate")

    @model_validator(mode="after")
    def _milestones_of_steps(self) -> "Schedule":
        milestones = self.milestones or []
        if (self.name == "steps") != bool(milestones):
            raise Refusal(
                "[schedule] needs `milestones`, the epochs at which the rate falls, if its name is "
                "steps, and takes none if it is cosine.",
                f"name={self.name!r}, milestones={self.milestones!r}",
            )
        if milestones != sorted(set(milestones)) or (milestones and milestones[0] <= 0):
            raise Refusal(
                "`schedule.milestones` must be epochs above 0 in ascending order.",
                f"milestones = {milestones!r}",
            )
        return self


class Validation(Table):
    """The development pairs."""

    lfw: str | None = Field(
        None, description="folder of LFW's lists: View 1, the development pairs"
    )
    pairs: str | None = Field(
        None, description="a list of your own pairs, as `facemargin evaluate pairs` reads it"
    )
    images: str | None = Field(None, description="folder of the images of `lfw` or `pairs`")
    on_missing: Literal["refuse", "reject"] = Field(
        "refuse", description="a listed image that does not exist: `refuse` or `reject`"
    )
    held_out: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of the identities that only validate, above 0, below 1",
    )

    @model_validator(mode="after")
    def _one_source(self) -> "Validation":
        given = [key for key in ("lfw", "pairs", "held_out") if getattr(self, key) is not None]
        if len(given) != 1:
            raise Refusal(
                "[validation] needs one of `lfw`, `pairs` and `held_out`.",
                " and ".join(given) or "none of them",
            )
        if (given[0] == "held_out") == (self.images is not None):
            raise Refusal(
                "[validation] needs `images`, a folder, with `lfw` and `pairs`, and takes none "
                "with `held_out`.",
                f"{given[0]} = {getattr(self, given[0])!r}, images = {self.images!r}",
            )
        return self


class Settings(Table):
    """The keys of a recipe; `docs/training.md` explains them."""

    epochs: int = Field(ge=1, description="passes over the images")
    batch_size: int = Field(ge=1, description="images per step, over all devices and workers")
    seed: int = Field(0, ge=0, description="seed of weights, order, augmentation and dropout")
    dtype_policy: str = Field(
        "float32", description="Keras dtype policy of the embedder, such as mixed_bfloat16"
    )
    save_every: int | None = Field(
        None, ge=1, description="steps between checkpoints within an epoch"
    )
    data: Data
    embedder: Embedder
    head: Arguments
    optimizer: Arguments
    schedule: Schedule | None = None
    validation: Validation | None = None
    augmentation: list[Arguments] | None = None
    margin_ramp: Arguments | None = None
    scale_ramp: Arguments | None = None

    @field_validator("dtype_policy")
    @classmethod
    def _known_policy(cls, policy: str) -> str:
        try:
            keras.dtype_policies.get(policy)
        except ValueError:
            raise unknown("dtype_policy", policy, _POLICIES) from None
        return policy

    @model_validator(mode="after")
    def _short_warmup(self) -> "Settings":
        if self.schedule is not None and not self.schedule.warmup_epochs < self.epochs:
            raise Refusal(
                "`schedule.warmup_epochs` must be less than `epochs`.",
                f"warmup_epochs = {self.schedule.warmup_epochs!r} of {self.epochs}",
            )
        return self


@dataclass(frozen=True)
class Recipe:
    """A recipe after all checks.

    Attributes:
        file: the file; paths in the recipe are relative to its folder.
        text: the recipe as a run keeps it: the file's text or, with changes, the changed recipe.
        document: the same as a dict, without defaults.
        settings: the keys with their defaults. `head`, `optimizer`, the ramps and each layer of
            `augmentation` are dicts of the arguments that the recipe gives; the first two and the
            layers include `name`.
    """

    file: Path
    text: str = field(repr=False)
    document: Document = field(repr=False)
    settings: Settings


def read_recipe(file: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Reads a recipe and checks every key of it, before any data is opened.

    Args:
        file: path of a TOML file.
        changes: texts `KEY=VALUE` that replace or add keys before the checks, such as
            "head.margin=0.4". The key is dotted; the value is TOML, and a text needs no quotes.

    Returns:
        A `Recipe`.

    Raises:
        ValueError: the file is not TOML; a key or name is unknown (the error names the nearest), a
            key is missing or has another type.
        OSError: the file cannot be read.

    Example:

    >>> text = '''
    ... epochs = 2
    ... batch_size = 8
    ... data.path = "people"
    ... embedder = {backbone = "MobileFaceNet", embedding_dim = 128}
    ... head = {name = "CosFace", margin = 0.35, scale = 64.0}
    ... optimizer = {name = "SGD", learning_rate = 0.1, momentum = 0.9}
    ... '''
    >>> _ = Path("recipe.toml").write_text(text)
    >>> read_recipe("recipe.toml", ["head.margin=0.4"]).settings.head
    {'name': 'CosFace', 'margin': 0.4, 'scale': 64.0}
    """
    file = Path(file)
    text, document = read_document(file)
    for change in changes:
        apply_change(document, change)
    if changes:
        text = to_toml(document, f"{file.name} with --set {' --set '.join(changes)}")
    return Recipe(file=file, text=text, document=document, settings=_check(document, file))


def _check(document: Document, file: Path) -> Settings:
    """The settings of a document."""
    _refuse_old_names(document, file)
    settings = check(Settings, document, file=file)
    tables = {name: getattr(settings, name) for name in TABLES}
    checked: dict[str, Any] = {
        name: [_arguments(name, each, file) for each in table]
        if isinstance(table, list)
        else _arguments(name, table, file)
        for name, table in tables.items()
        if table is not None
    }
    embedder = settings.embedder
    if embedder.backbone is not None:
        keys = backbone_table(embedder.backbone)
        arguments = check(keys, embedder.arguments or {}, file=file, table="embedder.arguments")
        given = arguments.model_dump(exclude_unset=True)
        checked["embedder"] = embedder.model_copy(update={"arguments": given})
    return settings.model_copy(update=checked)


def _arguments(table: str, content: Arguments, file: Path) -> Arguments:
    """The arguments of a class, in the order of the recipe."""
    classes, name = TABLES[table], content.get("name")
    with_name = isinstance(classes, dict)
    if with_name and name not in classes:
        raise ValueError(unknown(f"{table}.name", name, classes).sentence(file))
    keys = argument_table(class_of(table, name), with_name)
    values = check(keys, content, file=file, table=table)
    given = {key: getattr(values, key) for key in content}
    if isinstance(given.get("margin"), dict):
        _check_margin_by_class_size(given, file)
    return given


def _check_margin_by_class_size(head: Arguments, file: Path) -> None:
    """Raises before the data is opened if the head does not take a margin for each class."""
    largest = head["margin"][BY_CLASS_SIZE]
    made = class_of("head", head["name"])
    arguments = {key: value for key, value in head.items() if key != "name"}
    try:
        made(num_classes=2, **{**arguments, "margin": [largest, largest]})
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`head.margin` by class size needs a head that takes a margin for each class, and "
            f"margins within its range. Received: {file}: name = {head['name']!r}, largest "
            f"margin {largest!r}. Choose another head, such as CosFace or ArcFace, or another "
            f"margin. {made.__name__} says: {error}"
        ) from None


def _refuse_old_names(document: Document, file: Path) -> None:
    for table, names in _RENAMED.items():
        content = document.get(table, {}) if table else document
        for old, new in names.items():
            if isinstance(content, dict) and old in content:
                name = f"{table}.{new}" if table else new
                raise ValueError(
                    f"The key `{old}` has a new name, `{name}`. Received: {file}: {old} = "
                    f"{content[old]!r}. Rename it."
                )
