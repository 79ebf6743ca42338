"""InsightFace's training sets: labelled faces in MXNet's RecordIO files (`formats.recordio`).

**InsightFace's layout.** Record 0 has no image, and the labels `[a, b]`: records 1 .. a-1 are the
images; records a .. b-1 have no image, one for each identity, and their labels `[first, end)` are
the keys of its images. float32 holds these numbers exactly only up to 2**24 = 16,777,216, so in
larger sets (Glint360K) they are off by one or more. This module recognises a record by its content,
not by these numbers. It also reads sets without such records (MXNet's own `im2rec`).
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.data.formats.recordio import (
    EXACT,
    Record,
    RecordReader,
    RecordWriter,
    pack_record,
    unpack_record,
)
from keras_facemargin.data.formats.shared_file import FileName
from keras_facemargin.data.problems import check_all, check_on_bad
from keras_facemargin.data.stored import StoredFaces, StoredImages
from keras_facemargin.files import exclusive, full_disk_names
from keras_facemargin.images.alignment_check import warn_unaligned
from keras_facemargin.images.crop import Size
from keras_facemargin.images.image import BadImage, ImageFile, check_encoded, read_bytes


class FaceRecords(StoredFaces):
    """Aligned face crops in a `.rec` file: InsightFace's training sets, without MXNet.

    It has the attributes and methods of `FaceFolder` (`dataset`, `py_dataset`, `split`,
    `split_images`). Images are decoded by the rules of `read_face`, and each is checked once unless
    `check` is false. See `RecordReader` for damaged files and for threads and processes.

    The identity of an image is its label, or the first number of its label vector; the other
    numbers are not used. Labels must be whole numbers 0 .. 2**24. They are renumbered
    0 .. `num_classes - 1` in ascending order, without gaps, and `identities[label]` is the number
    in the file. Implementations differ: InsightFace's own loaders take labels unchanged and expect
    no gaps.

    InsightFace's header and identity records have no image and are ignored. These are bad and are
    reported with their reason: a damaged record, a label vector longer than its record, an image
    that is empty, undecodable or of another shape than the crop, a label that is not an identity,
    and bytes that no line of the index leads to.

    Args:
        file: the `.rec` file.
        index: the `.idx` file, as in `RecordReader`.
        image_size: height of square crops in pixels, `(height, width)`, or a `Crop`. Images of
            that shape and another size are resized.
        on_bad: `"refuse"` raises one error that counts the bad entries and names up to ten.
            `"skip"` skips them, warns once with the same report and lists them in `skipped`.
        check: whether to decode every image now, and to warn if the faces of up to 200 of them are
            clearly off the template on average (`alignment_report`). Without the check only labels
            are read. Then `dataset` raises an error when it reaches a bad image, and Pillow decodes
            all images, at about half the speed, because it is not known which of them TensorFlow
            decodes to the same pixels.

    Attributes:
        file: the `.rec` file, a string.
        paths: sequence of the images, in the order of the index; each has `read_bytes()`, and its
            name, `str(image)`, has file, key and byte.
        identities: list of the identities' numbers in the file, ascending.
        labels, num_classes, image_size, skipped: as in `FaceFolder`.

    Raises:
        ValueError: the file has fewer than two identities with an image, or a bad entry and
            `on_bad` is `"refuse"`.
        OSError: a file cannot be opened.

    Example:
        >>> from keras_facemargin.images import write_synthetic_faces
        >>> files = write_synthetic_faces("people", num_identities=2, images_per_identity=3)
        >>> write_face_records("faces.rec", files, labels=[0, 0, 0, 10, 10, 10])
        >>> faces = FaceRecords("faces.rec")
        >>> faces
        <FaceRecords 'faces.rec': 6 images of 2 identities, 3 to 3 each>
        >>> faces.identities, faces.labels
        ([0, 10], array([0, 0, 0, 1, 1, 1], dtype=int32))
    """

    identities: list[int]

    def __init__(
        self,
        file: FileName,
        index: FileName | None = "auto",
        *,
        image_size: Size = 112,
        on_bad: str = "refuse",
        check: bool = True,
    ) -> None:
        check_on_bad(on_bad, "refuse", "skip")
        self.file = os.fspath(file)
        reader = RecordReader(self.file, index, on_bad="list")
        labels = np.zeros(len(reader))
        kinds, ends = np.zeros(len(reader), "int8"), np.zeros(len(reader), "int64")

        def examine(row: int) -> BadImage | None:
            try:
                payload, ends[row] = reader.read_extent(row)
                record = unpack_record(payload, reader.place(row))
                kinds[row] = _EMPTY
                if record.image:
                    labels[row] = _identity(record.label, reader.place(row))
                    plain = check and check_encoded(record.image, image_size, reader.place(row))
                    kinds[row] = _PLAIN if plain else _ODD
            except BadImage as error:
                kinds[row] = _BAD
                return BadImage(error.path, error.reason)  # a copy: the traceback keeps the pixels
            return None

        bad = [*reader.skipped, *filter(None, check_all(examine, len(reader)))]
        bad += _empty_images(reader, np.flatnonzero(kinds == _EMPTY))
        if reader.indexed:
            bad += _unlisted(reader, ends)
        rows = np.flatnonzero(kinds >= _ODD)
        identities, numbers = np.unique(labels[rows].astype("int64"), return_inverse=True)
        self._set(
            source=self.file,
            image_size=image_size,
            paths=StoredImages(reader, rows),
            labels=numbers,
            identities=identities.tolist(),
            plain=kinds[rows] == _PLAIN,
            skipped=bad,
        )
        self._report_bad_files(on_bad)
        if check:
            warn_unaligned(self, self.file)


def write_face_records(
    file: FileName,
    images: Sequence[bytes | ImageFile],
    labels: npt.ArrayLike,
    *,
    index: FileName | None = "auto",
) -> None:
    """Writes images and labels as a training set in InsightFace's layout.

    Record 0 is the header. The images follow, sorted by label, and then a record for each identity
    (see the top of this module). InsightFace's own loaders read the set if the labels are
    0, 1, 2, ... without a gap; its MXNet scripts also need a text file `property` with
    `CLASSES,112,112` in the same folder.

    Args:
        file: the `.rec` file.
        images: sequence of encoded images. Each is the bytes of an image file, or an image that
            `read_face` takes: a path, or an image of another container.
        labels: `(N,)` integers, 0 .. 2**24: identity of each image, written unchanged.
        index: the `.idx` file; `"auto"` is `file` with the ending `.idx`.

    Raises:
        ValueError: the numbers of labels and images differ or are 0, or float32 cannot hold a label
            or the number of records.
        OSError: a file cannot be read or written. Neither file is then written.

    Example:
        >>> write_face_records("tiny.rec", [b"JPEG of 1", b"JPEG of 0", b"another of 0"], [1, 0, 0])
        >>> for key, payload in RecordReader("tiny.rec"):
        ...     print(key, unpack_record(payload)[:2])
        0 (array([4., 6.], dtype=float32), b'')
        1 (0.0, b'JPEG of 0')
        2 (0.0, b'another of 0')
        3 (1.0, b'JPEG of 1')
        4 (array([1., 3.], dtype=float32), b'')
        5 (array([3., 4.], dtype=float32), b'')
    """
    labels = np.asarray(labels)
    if labels.shape != (len(images),) or not len(images) or labels.dtype.kind not in "iu":
        raise ValueError(
            "`labels` must hold one integer for each image, of at least one image. "
            f"Received: {len(images):,} images, labels of shape {labels.shape} and dtype "
            f"{labels.dtype}"
        )
    identities, counts = np.unique(labels, return_counts=True)
    end = 1 + len(images)
    if identities[0] < 0 or max(identities[-1], end + len(identities)) > EXACT:
        raise ValueError(
            f"Labels and the number of records must be 0 to {EXACT:,}, the exact range of float32. "
            f"Received: labels {identities[0]:,} to {identities[-1]:,}, {len(images):,} images. "
            "Write several files, or records without a header with RecordWriter."
        )
    ends = np.cumsum(counts) + 1
    with exclusive(file), full_disk_names(file), RecordWriter(file, index) as writer:
        writer.write(0, pack_record(Record([end, end + len(identities)], b"", 0)))
        for key, row in enumerate(np.argsort(labels, kind="stable").tolist(), start=1):
            image = images[row]
            encoded = image if isinstance(image, bytes) else read_bytes(image)
            writer.write(key, pack_record(Record(float(labels[row]), encoded, key)))
        for key, (stop, count) in enumerate(zip(ends, counts, strict=True), start=end):
            writer.write(key, pack_record(Record([stop - count, stop], b"", key)))


# Kinds of records.
_BAD, _EMPTY, _ODD, _PLAIN = range(4)


def _identity(label: Any, place: str) -> float:
    """The identity of a label.

    Raises:
        BadImage: the label is not an identity; `place` names its record.
    """
    value = float(label if np.ndim(label) == 0 else label[0])
    if not (0 <= value <= EXACT and value.is_integer()):
        raise BadImage(
            place,
            f"its label must be a whole number 0..{EXACT:,}, the exact range of float32. "
            f"Received: {value!r}.",
        )
    return value


def _empty_images(reader: RecordReader, rows: npt.NDArray[np.intp]) -> list[BadImage]:
    """The records without an image that do not belong to InsightFace's layout."""
    expected = np.zeros(len(rows), "bool")
    header = np.flatnonzero(reader.keys[rows] == 0)
    if len(header):
        label = unpack_record(reader.read_row(rows[header[0]])).label
        if np.shape(label) == (2,) and np.isfinite(label).all():
            # A number above 2**24 was rounded, by less than the distance of its neighbours.
            rounding = max(1.0, float(np.spacing(label[0])))
            expected = reader.keys[rows] > float(label[0]) - rounding
            expected[header] = True
    return [BadImage(reader.place(row), "its image is empty (0 bytes).") for row in rows[~expected]]


def _unlisted(reader: RecordReader, ends: npt.NDArray[np.int64]) -> list[BadImage]:
    """The bytes between the records of the index, as a list of one `BadImage` or none.

    Args:
        reader: the reader.
        ends: int64 `(N,)`, the byte after each record, 0 if it is not known.
    """
    order = np.argsort(reader.offsets)
    starts, ends = reader.offsets[order], ends[order]
    following = np.append(starts[1:], reader.size)
    gaps = np.where(ends > 0, following - ends, 0)
    gaps = np.append(gaps[gaps > 0], starts[:1])
    if not gaps.any():
        return []
    return [
        BadImage(
            reader.file,
            f"{gaps.sum():,} of its {reader.size:,} bytes belong to no record of the index. "
            "Read them with index=None.",
        )
    ]
