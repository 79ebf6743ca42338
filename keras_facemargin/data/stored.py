"""Images inside a container: read from it when they are needed."""

import collections.abc
import dataclasses

import numpy as np

from keras_facemargin.data.faces import Faces


@dataclasses.dataclass(frozen=True)
class StoredImage:
    """An image in a container, read when it is wanted; `read_face` takes it like a path.

    Attributes:
        reader: what opened the container; has `read_image(row)` and `place(row)`.
        row: number of the image in it.
    """

    reader: object
    row: int

    def read_bytes(self):
        """The bytes of the image file."""
        return self.reader.read_image(self.row)

    def __str__(self):
        return self.reader.place(self.row)


class StoredImages(collections.abc.Sequence):
    """Some images of a container, made as they are asked for.

    Args:
        reader: as in `StoredImage`.
        rows: int64 array `(N,)`.
    """

    def __init__(self, reader, rows):
        self.reader = reader
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [StoredImage(self.reader, row) for row in self.rows[index].tolist()]
        return StoredImage(self.reader, self.rows.item(index))

    def compress(self, chosen):
        return StoredImages(self.reader, self.rows[chosen])

    def payloads(self, indices):
        """The images' bytes, an object array."""
        images = [self.reader.read_image(row) for row in self.rows[indices].tolist()]
        return np.array([*images, None], object)[:-1]  # an array of objects, however many


class StoredFaces(Faces):
    """Faces whose `paths` are `StoredImages`."""

    def _bytes_in_graph(self):
        import tensorflow as tf

        def read(indices):
            payloads = tf.numpy_function(self.paths.payloads, [indices], tf.string)
            return tf.ensure_shape(payloads, (None,))

        return read, lambda encoded: encoded
