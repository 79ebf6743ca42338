"""Embeddings in a file, with the id of the embedder that they come from."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import embedding_rows, identifiers, read_npz
from keras_facemargin.files import atomic_write

_RULE = (
    "Embeddings must be a .npz file with `embeddings` (N, D) and `paths` (or `labels`) (N,), as "
    "`facemargin embed` writes."
)


@dataclasses.dataclass(frozen=True, eq=False)
class SavedEmbeddings:
    """Embeddings of images, as a file holds them.

    Attributes:
        file: the file.
        embeddings: float (N, D).
        labels: N people: those of the file, or the names of the folders of `paths`.
        paths: N image files; None if the file has only labels.
        embedding_id: of the embedder, as `Card.id_of`; None if the file has none.
        model: name of the embedder; None if the file has none.
    """

    file: Path
    embeddings: npt.NDArray[Any]
    labels: list[Any]
    paths: list[Path] | None
    embedding_id: str | None
    model: str | None

    def __str__(self) -> str:
        return f"{self.file} of {self.model or 'an unnamed embedder'}, id {self.embedding_id}"


def save_embeddings(
    file: str | os.PathLike[str],
    embeddings: npt.ArrayLike,
    paths: Sequence[str | os.PathLike[str]],
    *,
    embedding_id: str | None,
    model: str,
) -> None:
    """Writes embeddings with the id of their embedder.

    Args:
        file: the .npz file to write, in one step.
        embeddings: (N, D).
        paths: N image files.
        embedding_id: as `Card.id_of`; None if it is not known. Then the file has none.
        model: name of the embedder.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> save_embeddings("e.npz", np.eye(2), ["a/1.jpg", "b/1.jpg"], embedding_id="f" * 64,
        ...                 model="mine")
        >>> read_embeddings("e.npz").labels
        ['a', 'b']
    """
    arrays: dict[str, Any] = {
        "embeddings": np.asarray(embeddings),
        "paths": np.array([os.fspath(path) for path in paths]),
        "model": np.array(model),
    }
    if embedding_id is not None:
        arrays["embedding_id"] = np.array(embedding_id)
    with atomic_write(file, "wb") as stream:
        np.savez(stream, **arrays)


def read_embeddings(file: str | os.PathLike[str]) -> SavedEmbeddings:
    """Reads a file that `save_embeddings` wrote, or another one with such arrays.

    Args:
        file: a .npz file with `embeddings` (N, D) and `paths` or `labels` (N,), and perhaps
            `embedding_id` and `model`.

    Raises:
        ValueError: the file is damaged or of another kind.
        OSError: it cannot be opened.
    """
    arrays = read_npz(file)
    if "embeddings" not in arrays or not arrays.keys() & {"paths", "labels"}:
        held = ", ".join(arrays) or "nothing"
        raise ValueError(f"{_RULE} Received: {file}, which has {held}.")
    try:
        rows = embedding_rows(arrays["embeddings"])
        names = [name for name in ("paths", "labels") if name in arrays]
        named = {name: identifiers(**{name: arrays[name]})[0] for name in names}
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    if any(values.shape != (len(rows),) for values in named.values()):
        shapes = ", ".join(f"`{name}` {values.shape}" for name, values in named.items())
        raise ValueError(f"{_RULE} Received: {file} with `embeddings` {rows.shape}, {shapes}.")
    paths = [Path(str(path)) for path in named["paths"]] if "paths" in named else None
    if "labels" in named:
        labels = named["labels"].tolist()
    else:
        labels = [path.parent.name for path in paths or ()]
    id, model = (
        str(arrays[name]) if name in arrays and arrays[name].ndim == 0 else None
        for name in ("embedding_id", "model")
    )
    return SavedEmbeddings(Path(file), rows, labels, paths, id, model)


def require_one_embedder(first: SavedEmbeddings, second: SavedEmbeddings) -> None:
    """Refuses to compare the embeddings of two embedders: their cosines mean nothing.

    Args:
        first, second: the embeddings that are compared.

    Raises:
        ValueError: the ids differ, or a file has none.
    """
    for each in (first, second):
        if each.embedding_id is None:
            raise ValueError(
                "Two files of embeddings are compared by the id of their embedder. Received: "
                f"{each.file} without an `embedding_id`. `facemargin embed` writes one; in a file "
                "of your own it is a text that names the embedder."
            )
    if first.embedding_id != second.embedding_id:
        raise ValueError(
            "Embeddings are compared only if one embedder made them, with or without mirror images "
            f"in both. Received: {first}, and {second}. Embed both again with one model."
        )
