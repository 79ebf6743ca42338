"""Labelled faces in TFRecord files (`formats.tfrecord`).

The payload of a record is a `tf.train.Example` with these features, unless other names are given:

    image/encoded      bytes  an image file
    image/class/label  int64  number of the identity
    image/class/text   bytes  name of the identity (may be missing)
    image/filename     bytes  name of the image (may be missing)

These are the names of TensorFlow's own image examples. Other writers differ: arcface-tf2 has the
label in `image/source_id`.
"""

import collections
import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_facemargin.data.faces import identity_order
from keras_facemargin.data.formats.example import pack_example, read_features
from keras_facemargin.data.formats.shared_file import FileName
from keras_facemargin.data.formats.tfrecord import TFRecordReader, frame_tfrecord, shard_names
from keras_facemargin.data.problems import check_all, check_on_bad
from keras_facemargin.data.stored import StoredFaces, StoredImages
from keras_facemargin.files import draft_of, exclusive, full_disk_names
from keras_facemargin.images.alignment_check import warn_unaligned
from keras_facemargin.images.crop import Size
from keras_facemargin.images.image import BadImage, ImageFile, check_encoded, read_bytes

IMAGE, LABEL, TEXT, NAME = (
    "image/encoded",
    "image/class/label",
    "image/class/text",
    "image/filename",
)
_NAMED = 10  # features that an error names

Features = dict[str, tuple[int, list[Any]]]


class _Spans:
    """The images in the payloads of a reader."""

    def __init__(
        self,
        reader: TFRecordReader,
        starts: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
    ) -> None:
        self.reader, self._starts, self._lengths = reader, starts, lengths

    def read_image(self, row: int) -> bytes:
        return self.reader.read_part(row, self._starts.item(row), self._lengths.item(row))

    def place(self, row: int) -> str:
        return self.reader.place(row)


class FaceTFRecords(StoredFaces):
    """Aligned face crops in TFRecord files.

    It has the attributes and methods of `FaceFolder` (`dataset`, `py_dataset`, `split`,
    `split_images`). Images are decoded by the rules of `read_face`, and each is checked once unless
    `check` is false. The checksums of all records are compared when the files are opened, not again
    when an image is read. Only `dataset` needs TensorFlow. Images are read in any order, so a file
    that is sorted by identity is shuffled completely.

    The label of an image is one integer of at least 0, or one text. Labels are renumbered
    0 .. `num_classes - 1` without gaps, integers in ascending order and texts in the order of
    `FaceFolder`. `identities[label]` is the person's name in the file: the text beside the integers
    if each integer has a different text, else the integer. Implementations differ: arcface-tf2
    takes labels unchanged and gets the number of classes as an argument.

    These are bad and are reported with their reason: a damaged record, a record without exactly one
    image and one label, an image that is empty, undecodable or of another shape than the crop.

    Args:
        files: a file, the name of its shards, or a list of files.
        image_size: height of square crops in pixels, `(height, width)`, or a `Crop`. Images of
            that shape and another size are resized.
        on_bad: `"refuse"` raises one error that counts the bad entries and names up to ten.
            `"skip"` skips them, warns once with the same report and lists them in `skipped`.
        check: whether to decode every image now, as in `FaceRecords`.
        image, label, text: names of the features.

    Attributes:
        paths: sequence of the images, in the order of the files; each has `read_bytes()`, and its
            name, `str(image)`, has file, record and byte.
        identities: list of the identities' names or numbers in the files.
        labels, num_classes, image_size, skipped: as in `FaceFolder`.

    Raises:
        ValueError: the files have fewer than two identities with an image, or a bad entry and
            `on_bad` is `"refuse"`; or shards are missing.
        OSError: a file cannot be opened.

    Example:
        >>> from keras_facemargin.images import write_synthetic_faces
        >>> files = write_synthetic_faces("people", num_identities=2, images_per_identity=3)
        >>> names = {7: "Ada", 9: "Bo"}
        >>> write_face_tfrecords("faces.tfrecord", files, [7, 7, 7, 9, 9, 9], identities=names)
        >>> faces = FaceTFRecords("faces.tfrecord")
        >>> faces
        <FaceTFRecords 'faces.tfrecord': 6 images of 2 identities, 3 to 3 each>
        >>> faces.identities, faces.labels
        (['Ada', 'Bo'], array([0, 0, 0, 1, 1, 1], dtype=int32))
    """

    def __init__(
        self,
        files: FileName | Sequence[FileName],
        *,
        image_size: Size = 112,
        on_bad: str = "refuse",
        check: bool = True,
        image: str = IMAGE,
        label: str = LABEL,
        text: str = TEXT,
    ) -> None:
        check_on_bad(on_bad, "refuse", "skip")
        reader = TFRecordReader(files, on_bad="list")
        source = os.fspath(files) if isinstance(files, str | os.PathLike) else reader.files[0]
        labels = np.empty(len(reader), object)
        starts, lengths = np.zeros((2, len(reader)), "int64")
        plain = np.zeros(len(reader), "bool")
        texts: collections.defaultdict[int | str, set[str]] = collections.defaultdict(set)

        def examine(row: int) -> BadImage | None:
            place = reader.place(row)
            try:
                payload = reader.read_row(row)
                example = read_example(payload, place, image=image, label=label, text=text)
                starts[row], lengths[row] = example.start, len(example.image)
                plain[row] = check and check_encoded(example.image, image_size, place)
                if example.text is not None:
                    texts[example.label].add(example.text)
                labels[row] = example.label
            except BadImage as error:
                return BadImage(error.path, error.reason)  # a copy: the traceback keeps the pixels
            return None

        bad = [*reader.skipped, *filter(None, check_all(examine, len(reader)))]
        kinds = {type(each) for each in labels} - {type(None)}
        if len(kinds) > 1:
            raise ValueError(
                f"Labels must be all integers or all texts. Received: both in {source}"
            )
        rows = np.flatnonzero([each is not None for each in labels])
        found = set(labels[rows].tolist())
        identities = sorted(found, key=identity_order) if str in kinds else sorted(found)
        number = {identity: number for number, identity in enumerate(identities)}
        names = [*map(_only, map(texts.get, identities))]
        one_to_one = None not in names and len(set(names)) == len(names)
        self._set(
            source=source,
            image_size=image_size,
            paths=StoredImages(_Spans(reader, starts, lengths), rows),
            labels=[number[each] for each in labels[rows]],
            identities=names if one_to_one else identities,
            plain=plain[rows],
            skipped=bad,
        )
        self._report_bad_files(on_bad)
        if check:
            warn_unaligned(self, source)


def _only(texts: set[str] | None) -> str | None:
    """The text of a set of one."""
    return next(iter(texts)) if texts and len(texts) == 1 else None


class FaceExample(NamedTuple):
    """The content of an example.

    Attributes:
        image: the bytes of an image file.
        start: their place in the payload.
        label: identity.
        text: name of the identity, or None.
        name: name of the image, or None.
    """

    image: bytes
    start: int
    label: int | str
    text: str | None
    name: str | None


def read_example(
    payload: bytes,
    place: str,
    *,
    image: str = IMAGE,
    label: str = LABEL,
    text: str = TEXT,
    name: str = NAME,
) -> FaceExample:
    """Reads the `FaceExample` of a payload.

    Args:
        payload: bytes of a `tf.train.Example`.
        place: name of the record in errors.
        image, label, text, name: names of the features.

    Raises:
        BadImage: it does not have exactly one image and one label.
    """
    features = read_features(payload, place)
    kind, spans = features.get(image, (0, []))
    if kind != 1 or len(spans) != 1:
        raise BadImage(place, _wanted(image, "one byte string, an image file", features))
    kind, values = features.get(label, (0, []))
    if len(values) != 1 or kind == 2 or (kind == 3 and values[0] < 0):
        raise BadImage(place, _wanted(label, "one integer of at least 0, or one text", features))
    value = os.fsdecode(payload[slice(*values[0])]) if kind == 1 else values[0]
    start, stop = spans[0]
    return FaceExample(
        payload[start:stop],
        start,
        value,
        _text(payload, features, text),
        _text(payload, features, name),
    )


def _wanted(name: str, what: str, features: Features) -> str:
    """The fault of an example without a feature that it needs."""
    if name not in features:
        found = ", ".join(sorted(features)[:_NAMED]) or "none"
        return f"it must have the feature {name}: {what}. Received: features {found}."
    kind, values = features[name]
    kinds = ("nothing", "byte strings", "floats", "integers")
    shown = f" ({values[0]})" if len(values) == 1 and kind > 1 else ""
    return f"its feature {name} must be {what}. Received: {len(values):,} {kinds[kind]}{shown}."


def _text(payload: bytes, features: Features, name: str) -> str | None:
    kind, spans = features.get(name, (0, []))
    return os.fsdecode(payload[slice(*spans[0])]) if kind == 1 and len(spans) == 1 else None


def face_example(
    image: bytes, label: int, *, text: str | None = None, name: str | None = None
) -> bytes:
    """The payload of a face: an example with the features at the top of this module.

    Args:
        image: the bytes of an image file.
        label: int, number of the identity.
        text: name of the identity, or None.
        name: name of the image, or None.

    Returns:
        bytes.
    """
    features: dict[str, bytes | int] = {IMAGE: image, LABEL: int(label)}
    if text is not None:
        features[TEXT] = os.fsencode(text)
    if name is not None:
        features[NAME] = os.fsencode(name)
    return pack_example(features)


def write_face_tfrecords(
    file: FileName,
    images: Sequence[bytes | ImageFile],
    labels: npt.ArrayLike,
    *,
    identities: Sequence[str] | Mapping[int, str] | None = None,
    names: Sequence[str] | None = None,
    shards: int = 1,
) -> None:
    """Writes images and labels as TFRecord files, in the given order.

    TensorFlow's own reader reads them in this order, so shuffle the images first for your own
    pipeline; `FaceTFRecords` does not need that. The files get their names when all are complete.

    Args:
        file: the `.tfrecord` file, or the name of its shards.
        images: sequence of encoded images. Each is the bytes of an image file, or an image that
            `read_face` takes: a path, or an image of another container.
        labels: `(N,)` integers of at least 0: identity of each image, written unchanged.
        identities: names of the labels: a list, or a dict from labels to texts.
        names: `(N,)` names of the images.
        shards: number of files; each gets an equal part of the images.

    Raises:
        ValueError: the numbers of labels (or names) and images differ, there are fewer images than
            shards, or a label is not an integer of at least 0 or has no text.
        OSError: a file cannot be read or written. No file is then written.

    Example:
        >>> from keras_facemargin.data import unpack_example
        >>> images = [b"JPEG", b"another"]
        >>> write_face_tfrecords("two.tfrecord", images, [0, 1], identities=["Ada", "Bo"])
        >>> for payload in TFRecordReader("two.tfrecord"):
        ...     print(unpack_example(payload)["image/class/text"])
        [b'Ada']
        [b'Bo']
    """
    labels = np.asarray(labels)
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu" or (labels < 0).any():
        raise ValueError(
            "`labels` must hold one integer of at least 0 for each image. Received: "
            f"{len(images):,} images, labels of shape {labels.shape} and dtype {labels.dtype}"
        )
    if names is not None and len(names) != len(images):
        raise ValueError(
            "`names` must hold one name for each image. Received: "
            f"{len(images):,} images, {len(names):,} names"
        )
    if not 1 <= shards <= min(len(images), 99_999):
        raise ValueError(
            f"`shards` must be in 1..{min(len(images), 99_999):,} for {len(images):,} images. "
            f"Received: shards={shards!r}"
        )
    with exclusive(file), contextlib.ExitStack() as drafts:
        for shard, each in enumerate(shard_names(file, shards)):
            draft = drafts.enter_context(draft_of(each))
            with full_disk_names(each), open(draft, "xb") as stream:
                for row in range(*_run(len(images), shard, shards)):
                    image, label = images[row], labels.item(row)
                    encoded = image if isinstance(image, bytes) else read_bytes(image)
                    text = None if identities is None else _called(identities, label)
                    name = None if names is None else names[row]
                    payload = face_example(encoded, label, text=text, name=name)
                    stream.write(frame_tfrecord(payload))
                stream.flush()
                os.fsync(stream.fileno())


def _run(count: int, shard: int, shards: int) -> tuple[int, int]:
    """The first image of a shard, and the first of the next."""
    return shard * count // shards, (shard + 1) * count // shards


def _called(identities: Any, label: int) -> str:
    """The name of a label."""
    try:
        return str(identities[label])
    except (KeyError, IndexError):
        raise ValueError(
            f"`identities` must name every label. Received: no text for label={label}"
        ) from None
