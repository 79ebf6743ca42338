"""Who trains and who tests: your people, other images of them, strangers, and a general set."""

import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_facemargin.images import Crop
from keras_facemargin.images.image import read_size
from keras_facemargin.training.finetune.known import Known

_HELD_OUT_SHARE, _MOST_HELD_OUT = 0.25, 60  # of the people, as strangers
_LEAST_TO_SPLIT = 8  # people
_LEAST_TO_TRAIN_AGAINST = 16  # strangers
_TEST_SHARE = 5  # one image of so many of a person tests
_OPENED = 20  # files whose size is read


@dataclasses.dataclass(frozen=True)
class Parts:
    """The images of a fine-tuning by their purpose. No image has two.

    Attributes:
        identities: list of the classes: known people first, then the others.
        training: images of your people to train on; labels are places in `identities`.
        test: other images of the same people, with the same labels.
        strangers: other people, to test on.
        others: other people, to train against; None if there are too few strangers to divide.
        general: other people of another kind of images, or None.
        drawn: names of those parts that were drawn from the training folder.
    """

    identities: list[Any]
    training: Any
    test: Any
    strangers: Any
    others: Any
    general: Any
    drawn: tuple[str, ...]


def divide(
    embedder: keras.Model,
    faces: Any,
    *,
    test: Any = None,
    strangers: Any = None,
    general: Any = None,
    known: Known | None = None,
    seed: int = 0,
) -> Parts:
    """Checks the sets and draws those that are not given.

    Without `strangers` a quarter of the people, at most 60, are strangers. Of 16 strangers or more
    half are to train against, and the other half to test on. Without `test` one image
    in five of each person tests, at least one.

    Args:
        embedder: the embedder, for the crop.
        faces, test, strangers, general, seed: as `finetune`.
        known: people of an earlier run.

    Raises:
        ValueError: there are too few people or images, a set has another crop, or a person is on
            both sides.
    """
    for name, part in (
        ("faces", faces),
        ("test", test),
        ("strangers", strangers),
        ("general", general),
    ):
        if part is not None:
            _check_crop(embedder, name, part)
    drawn = tuple(name for name, part in (("test", test), ("strangers", strangers)) if part is None)
    mine = faces
    if strangers is None:
        mine, strangers = _draw_strangers(faces, seed)
    _require_two(strangers, "strangers")
    if general is not None:
        _require_two(general, "general set")
    if test is None:
        mine, test = _draw_test(mine, seed)
    elif "strangers" in drawn:  # images of people who became strangers
        test = _without(test, set(strangers.identities))
    names = [] if known is None else known.identities
    identities = [*names, *(name for name in mine.identities if name not in set(names))]
    for role, part in (("strangers", strangers), ("general", general)):
        if part is not None:
            _refuse_people(part, identities, role)
    others = None
    if strangers.num_classes >= _LEAST_TO_TRAIN_AGAINST:
        halves = strangers.split(strangers.num_classes // 2, seed=seed)
        if len(halves[0]) > halves[0].num_classes:  # a person with two images
            strangers, others = halves
    return Parts(
        identities=identities,
        training=_with_classes(mine, identities),
        test=_with_classes(_of_people(test, mine), identities),
        strangers=strangers,
        others=others,
        general=general,
        drawn=drawn,
    )


def _draw_strangers(faces: Any, seed: int) -> tuple[Any, Any]:
    if faces.num_classes < _LEAST_TO_SPLIT:
        raise ValueError(
            f"Fine-tuning needs at least {_LEAST_TO_SPLIT} identities, because it holds out a "
            f"quarter of them as strangers. Received: {faces.num_classes} identities in "
            f"{faces.source}. Add people, or name a folder of other people with `strangers` "
            "(--strangers): then all of yours are trained on."
        )
    count = min(_MOST_HELD_OUT, math.ceil(_HELD_OUT_SHARE * faces.num_classes))
    mine, strangers = faces.split(count, seed=seed)
    return mine, strangers


def _draw_test(mine: Any, seed: int) -> tuple[Any, Any]:
    counts = np.bincount(mine.labels, minlength=mine.num_classes)
    alone = [mine.identities[label] for label in np.flatnonzero(counts < 2)]
    if alone:
        raise ValueError(
            "Each person needs two images or more, one to train on and one to test. Received: "
            f"{_listed(alone)} with one image in {mine.source}. Add images or remove the person, "
            "or name a folder of other images with `test` (--test)."
        )
    return mine.split_images(max(1, int(np.median(counts)) // _TEST_SHARE), seed=seed)  # type: ignore[no-any-return]


def _without(part: Any, people: set[Any]) -> Any:
    """The images of other people than these."""
    part = part._take(np.array([part.identities[label] not in people for label in part.labels]))
    kept, labels = np.unique(part.labels, return_inverse=True)
    part.identities = [part.identities[label] for label in kept]
    part.labels = labels.astype("int32")
    return part


def _require_two(part: Any, role: str) -> None:
    if len(part) == part.num_classes:
        raise ValueError(
            f"The {role} must include a person with two or more images, because they must be told "
            f"apart. Received: {part.num_classes} identities of one image each from "
            f"{part.source}. Add images, or try another seed."
        )


def _of_people(test: Any, mine: Any) -> Any:
    """The test images, all of people to train on."""
    others = [name for name in test.identities if name not in set(mine.identities)]
    if others:
        raise ValueError(
            "Test images must show the people to train on. Received: "
            f"{_listed(others)} in {test.source} and not in {mine.source}. Remove them, or name "
            "them as strangers."
        )
    return test


def _refuse_people(part: Any, identities: list[Any], role: str) -> None:
    """Refuses people on both sides by their names; a number is a name in its own set only."""
    mine = {name for name in identities if not str(name).isdigit()}
    both = [name for name in part.identities if name in mine]
    if both:
        raise ValueError(
            f"The {role} must be other people than those to train on. Received: {_listed(both)} "
            f"in {part.source} too. Remove them from one side."
        )


def _with_classes(part: Any, identities: list[Any]) -> Any:
    """The same images with other numbers of the same people."""
    places = {name: place for place, name in enumerate(identities)}
    numbers = np.array([places[name] for name in part.identities], "int32")
    part = copy.copy(part)
    part.labels = numbers[part.labels]
    part.identities = list(identities)
    return part


def _check_crop(embedder: keras.Model, name: str, faces: Any) -> None:
    crop = Crop.of_embedder(embedder)
    sides = zip(embedder.input_shape[1:3], faces.crop.shape, strict=True)
    if any(side not in (None, read) for side, read in sides):
        raise ValueError(
            f"`{name}` must have the embedder's image size. Received: images of {faces.crop} for "
            f"an input of {embedder.input_shape[1:3]}. Open the faces with image_size={crop.size}."
        )
    step = max(1, len(faces) // _OPENED)
    sizes = {read_size(faces.paths[index])[::-1] for index in range(0, len(faces), step)}
    size = sizes.pop()
    if sizes or size == crop.shape or crop.template is None:
        return
    template = Crop.of(size).template
    if template != crop.template:
        raise ValueError(
            f"The crops must be of the embedder's template, {crop.template!r}, {crop} pixels. "
            f"Received: {faces.source} with crops of {size[0]}x{size[1]}, the size of the template "
            f"{template!r}. Cut them out of the photos again: `facemargin align PHOTOS CROPS "
            f"--size {crop}`."
        )


def _listed(names: Sequence[Any]) -> str:
    """One name, or a number of people and the first of them."""
    if len(names) == 1:
        return f"{names[0]}"
    return f"{len(names)} people ({', '.join(map(str, names[:3]))}{', ...' * (len(names) > 3)})"
