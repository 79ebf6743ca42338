"""Images inside a container, read when they are needed."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol, overload

import numpy as np
import numpy.typing as npt

from keras_facemargin.data.faces import Faces


class ImageReader(Protocol):
    """The part of a reader that an image needs."""

    def read_image(self, row: int) -> bytes:
        """The bytes of an image file."""
        ...

    def place(self, row: int) -> str:
        """The name of an image in errors."""
        ...


@dataclasses.dataclass(frozen=True)
class StoredImage:
    """An image in a container. `read_face` takes it like a path, and reads it then.

    Attributes:
        reader: reader of the container.
        row: number of the image in it.
    """

    reader: ImageReader
    row: int

    def read_bytes(self) -> bytes:
        """The bytes of the image file."""
        return self.reader.read_image(self.row)

    def __str__(self) -> str:
        return self.reader.place(self.row)


class StoredImages(Sequence[StoredImage]):
    """Some images of a container; each `StoredImage` is made on access.

    Args:
        reader: reader of the container.
        rows: int64 array `(N,)`.
    """

    def __init__(self, reader: Any, rows: npt.NDArray[np.int64]) -> None:
        self.reader = reader
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> StoredImage: ...

    @overload
    def __getitem__(self, index: slice) -> list[StoredImage]: ...

    def __getitem__(self, index: int | slice) -> StoredImage | list[StoredImage]:
        if isinstance(index, slice):
            return [StoredImage(self.reader, row) for row in self.rows[index].tolist()]
        return StoredImage(self.reader, self.rows.item(index))

    def compress(self, chosen: npt.NDArray[Any]) -> "StoredImages":
        """The images of a mask or of indices."""
        return StoredImages(self.reader, self.rows[chosen])

    def payloads(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.object_]:
        """The images' bytes, an object array."""
        images = [self.reader.read_image(row) for row in self.rows[indices].tolist()]
        return np.array([*images, None], object)[:-1]  # of objects, also for equal lengths


class StoredFaces(Faces):
    """Faces whose `paths` are `StoredImages`."""

    paths: StoredImages

    def _bytes_in_graph(self) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
        import tensorflow as tf

        def read(indices: Any) -> Any:
            payloads = tf.numpy_function(self.paths.payloads, [indices], tf.string)
            return tf.ensure_shape(payloads, (None,))

        return read, lambda encoded: encoded
