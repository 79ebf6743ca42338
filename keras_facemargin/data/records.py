"""InsightFace's training sets: labelled faces in MXNet's RecordIO files (`formats.recordio`).

**InsightFace's layout.** Record 0 holds no image and the labels `[a, b]`: records 1 .. a-1 are the
images, records a .. b-1 one for each identity, without an image, whose labels `[first, end)` are
the keys of its images. float32 holds these numbers exactly up to 2**24 = 16,777,216 only, so in
larger sets (Glint360K) they are off by one or more. Here a record is known by what it holds, not
by these numbers. Sets without such records (MXNet's own `im2rec`) are read as well.
"""

import os

import numpy as np

from keras_facemargin.data.formats.recordio import (
    EXACT,
    Record,
    RecordReader,
    RecordWriter,
    pack_record,
    unpack_record,
)
from keras_facemargin.data.problems import check_all, check_on_bad
from keras_facemargin.data.stored import StoredFaces, StoredImages
from keras_facemargin.files import exclusive, full_disk_names
from keras_facemargin.images.alignment_check import warn_unaligned
from keras_facemargin.images.image import BadImage, check_encoded, read_bytes


class FaceRecords(StoredFaces):
    """Aligned face crops in a `.rec` file: InsightFace's training sets, without MXNet.

    What `FaceFolder` is to a folder: the same attributes and methods (`dataset`, `py_dataset`,
    `split`, `split_images`), images decoded by the same rules of `read_face`, every one of them
    checked once up front unless `check` is false. See `RecordReader` for damaged files and for
    threads and processes.

    The identity of an image is its label, or the first number of its label vector; what follows in
    the vector is not used. Labels must be whole numbers 0 .. 2**24. They are renumbered
    0 .. `num_classes - 1` in ascending order, whatever gaps they have, and `identities[label]` is
    the number in the file. Implementations differ: InsightFace's own loaders take labels as they
    stand and expect none to be missing.

    InsightFace's header and identity records are recognised by holding no image, and passed over.
    Anything else is bad and is reported with its reason: a damaged record, a label vector longer
    than its record, an image that is empty, undecodable or not square, a label that is no identity,
    bytes that no line of the index leads to.

    Args:
        file: the `.rec` file.
        index: the `.idx` file, as `RecordReader` takes it.
        image_size: height of square crops in pixels, `(height, width)`, or a `Crop`. Images of
            that shape and another size are resized.
        on_bad: `"refuse"` raises one error that counts what is bad and names up to ten.
            `"skip"` leaves it out, warns once in the same words and keeps it in `skipped`.
        check: whether to decode every image up front, and to warn if the faces of up to 200 of
            them are clearly off the template on average (`alignment_report`). If not, only labels
            are read: a bad image is an error of `dataset` when its turn comes, and all images go
            through Pillow, at about half the speed, for nothing is known yet of which TensorFlow
            decodes alike.

    Attributes:
        file: the `.rec` file, a string.
        paths: sequence of the images, in the order of the index; each has `read_bytes()`, and a
            name, `str(image)`, with file, key and byte.
        identities: list of the numbers by which the file calls the identities, ascending.
        labels, num_classes, image_size, skipped: as in `FaceFolder`.

    Raises:
        ValueError: the file has fewer than two identities with an image, or something bad while
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

    def __init__(self, file, index="auto", image_size=112, on_bad="refuse", check=True):
        check_on_bad(on_bad, "refuse", "skip")
        self.file = os.fspath(file)
        reader = RecordReader(self.file, index, on_bad="list")
        labels = np.zeros(len(reader))
        kinds, ends = np.zeros(len(reader), "int8"), np.zeros(len(reader), "int64")

        def examine(row):
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
                return BadImage(error.path, error.reason)  # afresh: a traceback keeps the pixels

        bad = [*reader.skipped, *filter(None, check_all(examine, len(reader)))]
        bad += _empty_images(reader, np.flatnonzero(kinds == _EMPTY))
        if reader.indexed:
            bad += _unlisted(reader, ends)
        rows = np.flatnonzero(kinds >= _ODD)
        identities, labels = np.unique(labels[rows].astype("int64"), return_inverse=True)
        self._set(
            source=self.file,
            image_size=image_size,
            paths=StoredImages(reader, rows),
            labels=labels,
            identities=identities.tolist(),
            plain=kinds[rows] == _PLAIN,
            skipped=bad,
        )
        self._report_bad_files(on_bad)
        if check:
            warn_unaligned(self, self.file)


def write_face_records(file, images, labels, index="auto"):
    """Writes images and labels as a training set in InsightFace's layout.

    Record 0 is the header, then follow the images, sorted by label, and a record for each identity
    (see the top of this module). InsightFace's own loaders read it, if the labels are 0, 1, 2, ...
    without a gap; for its MXNet scripts, a text file `property` with `CLASSES,112,112` must stand
    beside it.

    Args:
        file: the `.rec` file.
        images: sequence of encoded images, each the bytes of an image file or what `read_face`
            takes: a path, an image of another container.
        labels: `(N,)` integers, 0 .. 2**24: identity of each image. Written as they are.
        index: the `.idx` file; by default `file` with the ending `.idx`.

    Raises:
        ValueError: not as many labels as images, none at all, a label or the number of records
            that float32 cannot hold.
        OSError: a file cannot be read or written. Nothing is left of the set then.

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
            "`labels` must hold one integer for each of the images, of which there must be one. "
            f"Received: {len(images):,} images, labels of shape {labels.shape} and dtype "
            f"{labels.dtype}"
        )
    identities, counts = np.unique(labels, return_counts=True)
    end = 1 + len(images)
    if identities[0] < 0 or max(identities[-1], end + len(identities)) > EXACT:
        raise ValueError(
            f"The format holds labels and counts as float32, exact from 0 to {EXACT:,}. "
            f"Received: labels {identities[0]:,} to {identities[-1]:,}, {len(images):,} images. "
            "Write several files, or records without a header with RecordWriter."
        )
    ends = np.cumsum(counts) + 1
    with exclusive(file), full_disk_names(file), RecordWriter(file, index) as writer:
        writer.write(0, pack_record(Record([end, end + len(identities)], b"", 0)))
        for key, row in enumerate(np.argsort(labels, kind="stable").tolist(), start=1):
            image = images[row]
            image = image if isinstance(image, bytes) else read_bytes(image)
            writer.write(key, pack_record(Record(float(labels[row]), image, key)))
        for key, (stop, count) in enumerate(zip(ends, counts, strict=True), start=end):
            writer.write(key, pack_record(Record([stop - count, stop], b"", key)))


# What a record turned out to be.
_BAD, _EMPTY, _ODD, _PLAIN = range(4)


def _identity(label, place):
    """The identity that a label states, a float."""
    value = float(label if np.ndim(label) == 0 else label[0])
    if not (0 <= value <= EXACT and value.is_integer()):
        raise BadImage(
            place,
            f"its label must be a whole number 0..{EXACT:,}, beyond which float32 confuses "
            f"neighbours. Received: {value!r}.",
        )
    return value


def _empty_images(reader, rows):
    """Those records without an image that are no part of InsightFace's layout, as `BadImage`s."""
    expected = np.zeros(len(rows), "bool")
    header = np.flatnonzero(reader.keys[rows] == 0)
    if len(header):
        label = unpack_record(reader.read_row(rows[header[0]])).label
        if np.shape(label) == (2,) and np.isfinite(label).all():
            # A number beyond 2**24 was rounded, by less than the distance of its neighbours.
            rounding = max(1.0, float(np.spacing(label[0])))
            expected = reader.keys[rows] > float(label[0]) - rounding
            expected[header] = True
    return [BadImage(reader.place(row), "its image is empty (0 bytes).") for row in rows[~expected]]


def _unlisted(reader, ends):
    """What lies between the records that the index lists, as a list of one `BadImage` or none.

    Args:
        ends: int64 `(N,)`, the byte behind each record, 0 where it is not known.
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
            f"{gaps.sum():,} of its {reader.size:,} bytes belong to no record that the index lists."
            " With index=None they are read as well.",
        )
    ]
