"""The embeddings that the student must give: those of one or more teachers, computed once.

The target of a crop is the unit mean of the teacher's unit embeddings of the crop and of its mirror
image. Two teachers stand side by side, reduced to the student's size by the projection that keeps
their cosines best.
"""

import hashlib

import numpy as np
from rich.progress import track

from keras_facemargin.images import Crop
from keras_facemargin.zoo import load_embedder

_BATCH = 64
_LOOKS_LIKE = 0.45  # a teacher's cosine to a person's mean, far above strangers


def open_targets(work, teachers, pixels, dim, rows):
    """float32 (N, dim), unit rows.

    Args:
        work: folder of the targets of each teacher, float16, computed where missing.
        teachers: names or files, as `load_embedder` takes them.
        pixels: uint8 (N, H, W, 3).
        dim: numbers of the student's embedding.
        rows: of the crops that determine the projection.
    """
    parts = [_of_teacher(work, teacher, pixels) for teacher in teachers]
    return reduce([np.asarray(part, np.float32) for part in parts], dim, rows)


def reduce(parts, dim, rows):
    """Unit rows side by side, as unit rows of `dim` numbers whose cosines are nearest to theirs.

    >>> units = np.eye(3, dtype="float32")
    >>> reduce([units, units], 3, [0, 1, 2]).shape
    (3, 3)
    """
    joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    if joined.shape[1] < dim:
        raise SystemExit(
            f"The teachers must give at least {dim} numbers together. "
            f"Received: {joined.shape[1]}. Add a teacher."
        )
    if joined.shape[1] > dim:
        # Not centred: the cosine is an inner product, and a mean would be lost to the student.
        _, axes = np.linalg.eigh(joined[rows].T @ joined[rows])
        joined = joined @ axes[:, -dim:]
    return _unit(joined)


def person_means(targets, people):
    """Unit mean of the targets of each known person: dict from name to (D,)."""
    rows = {}
    for row, person in enumerate(people):
        if person:
            rows.setdefault(person, []).append(row)
    return {person: _unit(targets[each].mean(0)) for person, each in rows.items()}


def without_held_out(rows, targets, people, held_out):
    """The rows but those of unknown people that look like a held-out one.

    Args:
        rows: integers, of the crops to train on.
        targets: unit rows of all crops.
        people: the name of each crop's person, or "".
        held_out: rows of the held-out crops.
    """
    means = person_means(targets[held_out], [people[row] for row in held_out])
    nearest = (targets[rows] @ np.stack(list(means.values())).T).max(axis=1)
    unknown = np.array([not people[row] for row in rows])
    return rows[~(unknown & (nearest > _LOOKS_LIKE))]


def unseen(held_out, targets, people, unknown):
    """The rows of held-out people who look like none of some unlabelled crops.

    Args:
        held_out: integers, rows of the held-out crops.
        targets: unit rows of all crops.
        people: the name of each crop's person, or "".
        unknown: rows of the unlabelled crops.
    """
    means = person_means(targets[held_out], [people[row] for row in held_out])
    nearest = (np.stack(list(means.values())) @ targets[unknown].T).max(axis=1, initial=-1.0)
    kept = {person for person, cosine in zip(means, nearest, strict=True) if cosine < _LOOKS_LIKE}
    return np.array([row for row in held_out if people[row] in kept], int)


def _of_teacher(work, teacher, pixels):
    embedder = load_embedder(teacher)
    crop = Crop.of_embedder(embedder)
    if crop != Crop(*pixels.shape[1:3]):
        raise SystemExit(
            f"A teacher must take the student's crops, {Crop(*pixels.shape[1:3])}. "
            f"Received: {teacher}, which takes {crop}."
        )
    key = hashlib.sha256(str(teacher).encode()).hexdigest()[:8]
    path = work / f"targets-{embedder.name}-{key}.npy"
    shape = (len(pixels), embedder.output_shape[-1])
    if path.exists():
        targets = np.lib.format.open_memmap(path, mode="r+")
        if targets.shape != shape:
            raise SystemExit(
                f"The targets must be those of these crops, {shape}. "
                f"Received: {path} with {targets.shape}. Delete it."
            )
    else:
        targets = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    starts = range(0, len(pixels), _BATCH)
    missing = [start for start in starts if not targets[start : start + _BATCH].any(axis=1).all()]
    for start in track(missing, f"Targets of {embedder.name}"):
        faces = pixels[start : start + _BATCH]
        absent = _BATCH - len(faces)  # one shape: the model is traced once
        full = np.concatenate([faces, np.repeat(faces[-1:], absent, axis=0)]).astype("float32")
        both = _unit(embedder.predict_on_batch(full))
        both = both + _unit(embedder.predict_on_batch(np.ascontiguousarray(full[:, :, ::-1])))
        targets[start : start + len(faces)] = _unit(both)[: len(faces)]
    return targets


def _unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)
