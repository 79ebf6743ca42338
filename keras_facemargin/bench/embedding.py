"""Embeddings of the faces of a bench: read once for all embedders, and kept on disk."""

import functools
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from keras_facemargin.bench.faces import BenchFaces
from keras_facemargin.bench.models import fitted
from keras_facemargin.evaluate.embedding import READERS, embed, note_photos
from keras_facemargin.files import atomic_write
from keras_facemargin.images.crop import Crop
from keras_facemargin.images.image import decode_face, read_bytes
from keras_facemargin.progress import progress_bar
from keras_facemargin.zoo import Embedder

Rows: TypeAlias = npt.NDArray[np.float32]

# Images that are read once for all embedders. An interrupted bench repeats at most so many.
PART = 1_024
# Images in a call of an embedder. A part has no fewer, so that its embeddings do not depend on it.
BATCH = 64
# To be changed with code that changes an embedding.
_VERSION = b"1"


class SavedParts:
    """Embeddings of parts of a set in a folder: `ID-RUNTIME/DIGEST.npy`.

    A file is found by the id of the embedder and the bytes of the images, so that neither another
    model nor a changed image finds it. A damaged file counts as missing.

    Args:
        folder: the folder; it is created with its first file.
        flip: whether the embeddings of the mirror images are appended.
    """

    def __init__(self, folder: Path, *, flip: bool) -> None:
        self.folder, self._flip = folder, flip

    def load(self, embedder: Embedder, digest: str, count: int) -> Rows | None:
        """The embeddings of a part; None if the folder does not have them."""
        file = self._file(embedder, digest)
        if file is None:
            return None
        try:
            rows: Rows = np.load(file, allow_pickle=False)
        except (FileNotFoundError, ValueError, EOFError):
            return None
        shape = (count, embedder.embedding_dim * (1 + self._flip))
        usable = rows.shape == shape and rows.dtype == np.float32 and np.isfinite(rows).all()
        return rows if usable else None

    def save(self, embedder: Embedder, digest: str, rows: Rows) -> None:
        """Writes the embeddings of a part, unless the embedder has no id."""
        file = self._file(embedder, digest)
        if file is None:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file, "wb") as stream:
            np.save(stream, rows)

    def _file(self, embedder: Embedder, digest: str) -> Path | None:
        id = embedder.id_of(mirrored=self._flip)
        if id is None:
            return None
        return self.folder / f"{id[:16]}-{embedder.runtime}" / f"{digest[:32]}.npy"


def embed_faces(
    embedders: Mapping[str, Embedder],
    faces: BenchFaces,
    folder: Path,
    *,
    flip: bool,
    progress: bool,
) -> dict[str, Rows]:
    """Embeds the faces with several embedders.

    Args:
        embedders: name -> embedder.
        faces: the `BenchFaces`.
        folder: where embeddings are kept; those that it has are not computed again.
        flip: whether to append the embedding of the mirror image.
        progress: whether to draw a progress bar on standard error.

    Returns:
        A dict of name -> float32 ``(N, D)``, equal to that of `embed` on the files.

    Raises:
        ValueError: an image is not a face crop, or as `fitted` and `embed`.
        OSError: a file cannot be read or written.
    """
    saved = SavedParts(folder, flip=flip)
    takers = {name: fitted(embedder, faces.crops) for name, embedder in embedders.items()}
    for crop, size in {(crop, taker.crop) for crop, taker in takers.values()}:
        note_photos(faces.crops[crop], size)
    found: dict[str, list[Rows]] = {name: [] for name in embedders}
    count = len(faces.people)
    with progress_bar("embeddings", progress) as bar, ThreadPoolExecutor(READERS) as pool:
        task = bar.add_task("Embedding", total=count * len(embedders))
        for rows in _parts(count):
            parts = {crop: _Part(paths[rows], pool) for crop, paths in faces.crops.items()}
            for name, embedder in embedders.items():
                crop, taker = takers[name]
                part = parts[crop]
                embeddings = saved.load(embedder, part.digest, len(part.paths))
                if embeddings is None:
                    images = part.at(taker.crop)
                    embeddings = embed(taker, images, flip=flip, batch_size=BATCH, progress=False)
                    saved.save(embedder, part.digest, embeddings)
                found[name].append(embeddings)
                bar.advance(task, len(part.paths))
    return {name: np.concatenate(parts) for name, parts in found.items()}


class _Part:
    """Some images, read once, and decoded once for each crop that an embedder takes.

    Args:
        paths: the image files.
        pool: threads that read them.
    """

    def __init__(self, paths: Sequence[Path], pool: ThreadPoolExecutor) -> None:
        self.paths, self._pool = paths, pool
        self._decoded: dict[Crop, npt.NDArray[np.uint8]] = {}

    @functools.cached_property
    def digest(self) -> str:
        """Of the bytes of the files."""
        digests = (hashlib.sha256(data).digest() for data in self._encoded)
        return hashlib.sha256(_VERSION + b"".join(digests)).hexdigest()

    def at(self, crop: Crop) -> npt.NDArray[np.uint8]:
        """The images at a crop, uint8 ``(N, H, W, 3)``."""
        if crop not in self._decoded:
            crops = itertools.repeat(crop)
            self._decoded[crop] = np.stack(
                [*self._pool.map(decode_face, self._encoded, crops, self.paths)]
            )
        return self._decoded[crop]

    @functools.cached_property
    def _encoded(self) -> list[bytes]:
        return [*self._pool.map(read_bytes, self.paths)]


def _parts(count: int) -> Iterator[slice]:
    starts = [*range(0, max(count - BATCH, 1), PART), count]
    return itertools.starmap(slice, itertools.pairwise(starts))
