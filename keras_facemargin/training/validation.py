"""The development pairs of a training run: LFW's View 1, your own list, or held-out identities."""

import hashlib
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.evaluate import Pairs
from keras_facemargin.evaluate.protocols import View1, read_own_pairs, read_view_1
from keras_facemargin.training.recipe import Validation

_MOST_IMAGES = 2_000  # held-out images: two million pairs


def split_for_validation(
    faces: Any, validation: Validation, *, place: Path, seed: int
) -> tuple[Any, Any]:
    """The faces to train on and the pairs to verify during training.

    Args:
        faces: all faces, as `open_faces` returns them.
        validation: the table of the recipe, `recipe.Validation`.
        place: folder of the recipe.
        seed: the recipe's seed; it draws the held-out identities.

    Returns:
        `(faces, pairs)`; the pairs are as `RestoreBestByPairs` takes them.

    Raises:
        ValueError: a side has fewer than two identities or no genuine pair; a validation image is a
            training image; as the readers of the lists.
        OSError: as the readers of the lists.
    """
    if validation.held_out is not None:
        return _hold_out(faces, validation.held_out, seed)
    pairs = _read_pairs(validation, place)
    _refuse_training_images(faces, pairs)
    return faces, pairs


def _read_pairs(validation: Validation, place: Path) -> Pairs | View1:
    """The pairs of a list; `Validation` ensures that `images` and one list are given."""
    images, on_missing = place / str(validation.images), validation.on_missing
    if validation.lfw is not None:
        return read_view_1(place / validation.lfw, images, on_missing=on_missing)
    file = place / str(validation.pairs)
    pairs = read_own_pairs(file, images, on_missing=on_missing)
    if pairs.folds is not None:
        raise ValueError(
            "Development pairs must have no folds: folds are for published figures. Received: "
            f"{file} with {len(set(pairs.folds.tolist()))} folds. Remove the fourth column if "
            "you publish nothing on these pairs."
        )
    return pairs


def fingerprint(pairs: Pairs | View1) -> str:
    """A text that changes with the names and the truth of listed pairs."""
    digest = hashlib.sha256()
    for part in _parts(pairs):
        for first, second, same in zip(*part.images, part.same.tolist(), strict=True):
            names = [os.path.join(*os.fspath(path).split(os.sep)[-2:]) for path in (first, second)]
            line = "\0".join((*names, str(same)))
            digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def sample_images(held_out: Any, seed: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """At most 2,000 images, about equally many of each identity.

    Of more than 1,000 identities, 1,000 are drawn, those with two images first.

    Args:
        held_out: faces of the held-out identities.
        seed: draws the images.

    Returns:
        `(paths, labels)`, an object array and an integer array.
    """
    rng = np.random.default_rng(seed)
    most = max(2, _MOST_IMAGES // held_out.num_classes)
    shuffled = rng.permutation(len(held_out))
    order = shuffled[np.argsort(held_out.labels[shuffled], kind="stable")]
    labels = held_out.labels[order]
    chosen = np.sort(order[np.arange(len(order)) - np.searchsorted(labels, labels) < most])
    if held_out.num_classes > _MOST_IMAGES // 2:
        counts = np.bincount(held_out.labels, minlength=held_out.num_classes)
        drawn = rng.permutation(held_out.num_classes)
        drawn = drawn[np.argsort(counts[drawn] < 2, kind="stable")][: _MOST_IMAGES // 2]
        chosen = chosen[np.isin(held_out.labels[chosen], drawn)]
    paths = np.empty(len(chosen), object)
    paths[:] = [held_out.paths[row] for row in chosen.tolist()]
    return paths, held_out.labels[chosen]


def _hold_out(faces: Any, share: float, seed: int) -> tuple[Any, Any]:
    count = round(share * faces.num_classes)
    if not 2 <= count <= faces.num_classes - 2:
        raise ValueError(
            "`validation.held_out` must leave two identities or more on each side. Received: "
            f"held_out = {share:g} of {faces.num_classes} identities in {faces.source}, {count} to "
            f"hold out. Choose a share from {_least_share(faces.num_classes)}, or add identities."
        )
    training, held_out = faces.split(count, seed=seed)
    paths, labels = sample_images(held_out, seed)
    if len(np.unique(labels)) == len(labels):
        raise ValueError(
            "The held-out identities must have a genuine pair: two images of one identity. "
            f"Received: {count} held-out identities of {faces.source} with one image each. Add "
            "images, raise `validation.held_out` or choose another `seed`."
        )
    return training, (paths, labels)


def _least_share(identities: int) -> str:
    return f"{math.ceil(200 / identities) / 100:g} on" if identities >= 4 else "4 identities on"


def _refuse_training_images(faces: Any, pairs: Pairs | View1) -> None:
    """Compares files, not names: a link has another name."""
    listed: dict[tuple[int, int], Any] = {}
    for part in _parts(pairs):
        first, second = part.images
        for path in {*first, *second} - part.missing:
            listed[_identity_of_file(path)] = path
    both = [
        (path, listed[here])
        for path in faces.paths
        if isinstance(path, str) and (here := _identity_of_file(path)) in listed
    ]
    if both:
        raise ValueError(
            "Validation images must not be training images. Received: "
            f"{len(both):,} of {len(listed):,} in {faces.source}, the first is {both[0][1]}"
            + (f" (there {both[0][0]})" if str(both[0][0]) != str(both[0][1]) else "")
            + ". Remove them from one side, or use `held_out`."
        )


def _identity_of_file(path: str | os.PathLike[str]) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _parts(pairs: Pairs | View1) -> tuple[Pairs, ...]:
    return (pairs.train, pairs.test) if isinstance(pairs, View1) else (pairs,)
