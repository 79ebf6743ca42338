"""Labelled faces in TFRecord files (`formats.tfrecord`).

The payload of a record is a `tf.train.Example` with these features, unless other names are given:

    image/encoded      bytes  an image file
    image/class/label  int64  number of the identity
    image/class/text   bytes  name of the identity (may be missing)
    image/filename     bytes  name of the image (may be missing)

They are the names of TensorFlow's own image examples. Others in the wild: arcface-tf2 has the label
in `image/source_id`.
"""

import collections
import os
import secrets

import numpy as np

from keras_facemargin.data.faces import identity_order
from keras_facemargin.data.formats.example import pack_example, read_features
from keras_facemargin.data.formats.tfrecord import TFRecordReader, frame_tfrecord, shard_names
from keras_facemargin.data.problems import check_all, check_on_bad
from keras_facemargin.data.stored import StoredFaces, StoredImages
from keras_facemargin.files import exclusive, full_disk_names, replace
from keras_facemargin.images.alignment_check import warn_unaligned
from keras_facemargin.images.image import BadImage, check_encoded, read_bytes

IMAGE, LABEL, TEXT, NAME = (
    "image/encoded",
    "image/class/label",
    "image/class/text",
    "image/filename",
)


class _Spans:
    """Where the images lie in the payloads of a reader."""

    def __init__(self, reader, starts, lengths):
        self.reader, self._starts, self._lengths = reader, starts, lengths

    def read_image(self, row):
        return self.reader.read_part(row, self._starts.item(row), self._lengths.item(row))

    def place(self, row):
        return self.reader.place(row)


class FaceTFRecords(StoredFaces):
    """Aligned face crops in TFRecord files: what `FaceFolder` is to a folder.

    The same attributes and methods (`dataset`, `py_dataset`, `split`, `split_images`), images
    decoded by the same rules of `read_face`, every one of them checked once up front unless `check`
    is false. The checksum of every record is compared then, too, and not again when its image is
    read from the place that was found. No TensorFlow is needed but for `dataset`. Images are read
    in any order: a file that is sorted by identity is shuffled as well as any.

    The label of an image is one integer from 0 on, or a text. Labels are renumbered
    0 .. `num_classes - 1`, integers in ascending order and texts in that of `FaceFolder`, whatever
    gaps they have, and `identities[label]` is what the file calls the person: the text beside the
    integers if each integer has one of its own, else the integer. Implementations differ:
    arcface-tf2 takes labels as they are and gets the number of classes as an argument.

    Bad, and reported with its reason, is: a damaged record, one without one image and one label, an
    image that is empty, undecodable or not square.

    Args:
        files: a file, the name that stands for its shards, or a list of files.
        image_size: height of square crops in pixels, `(height, width)`, or a `Crop`. Images of
            that shape and another size are resized.
        on_bad: `"refuse"` raises one error that counts what is bad and names up to ten.
            `"skip"` leaves it out, warns once in the same words and keeps it in `skipped`.
        check: whether to decode every image up front, as in `FaceRecords`.
        image, label, text: names of the features.

    Attributes:
        paths: sequence of the images, in the order of the files; each has `read_bytes()`, and a
            name, `str(image)`, with file, record and byte.
        identities: list of what the file calls the identities.
        labels, num_classes, image_size, skipped: as in `FaceFolder`.

    Raises:
        ValueError: the files have fewer than two identities with an image, or something bad while
            `on_bad` is `"refuse"`, or shards are missing.
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
        files,
        image_size=112,
        on_bad="refuse",
        check=True,
        image=IMAGE,
        label=LABEL,
        text=TEXT,
    ):
        check_on_bad(on_bad, "refuse", "skip")
        reader = TFRecordReader(files, on_bad="list")
        source = os.fspath(files) if isinstance(files, str | os.PathLike) else reader.files[0]
        labels = np.empty(len(reader), object)
        starts, lengths = np.zeros((2, len(reader)), "int64")
        plain = np.zeros(len(reader), "bool")
        texts = collections.defaultdict(set)

        def examine(row):
            place = reader.place(row)
            try:
                example = read_example(reader.read_row(row), place, image, label, text)
                starts[row], lengths[row] = example.start, len(example.image)
                plain[row] = check and check_encoded(example.image, image_size, place)
                if example.text is not None:
                    texts[example.label].add(example.text)
                labels[row] = example.label
            except BadImage as error:
                return BadImage(error.path, error.reason)  # afresh: a traceback keeps the pixels

        bad = [*reader.skipped, *filter(None, check_all(examine, len(reader)))]
        kinds = {type(each) for each in labels} - {type(None)}
        if len(kinds) > 1:
            raise ValueError(
                f"Labels must all be integers or all be texts. Received: both in {source}"
            )
        rows = np.flatnonzero([each is not None for each in labels])
        identities = sorted(
            set(labels[rows].tolist()), key=identity_order if str in kinds else None
        )
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


def _only(texts):
    return next(iter(texts)) if texts and len(texts) == 1 else None


class FaceExample(collections.namedtuple("FaceExample", "image start label text name")):
    """What an example holds: bytes, their place in the payload, identity, its text, a file name."""


def read_example(payload, place, image=IMAGE, label=LABEL, text=TEXT, name=NAME):
    """The `FaceExample` of a payload.

    Raises:
        BadImage: it has not one image and one label.
    """
    features = read_features(payload, place)
    kind, spans = features.get(image, (0, []))
    if kind != 1 or len(spans) != 1:
        raise BadImage(place, _wanted(image, "one byte string, an image file", features))
    kind, values = features.get(label, (0, []))
    if len(values) != 1 or kind == 2 or (kind == 3 and values[0] < 0):
        raise BadImage(place, _wanted(label, "one integer from 0 on, or one text", features))
    value = _text(payload, features, label) if kind == 1 else values[0]
    start, stop = spans[0]
    return FaceExample(
        payload[start:stop],
        start,
        value,
        _text(payload, features, text),
        _text(payload, features, name),
    )


def _wanted(name, what, features):
    if name not in features:
        there = ", ".join(sorted(features)[:_NAMED]) or "none"
        return f"it must have the feature {name}: {what}. Received: features {there}."
    kind, values = features[name]
    kinds = ("nothing", "byte strings", "floats", "integers")
    shown = f" ({values[0]})" if len(values) == 1 and kind > 1 else ""
    return f"its feature {name} must be {what}. Received: {len(values):,} {kinds[kind]}{shown}."


_NAMED = 10  # features that an error spells out


def _text(payload, features, name):
    kind, spans = features.get(name, (0, []))
    return os.fsdecode(payload[slice(*spans[0])]) if kind == 1 and len(spans) == 1 else None


def face_example(image, label, text=None, name=None):
    """The payload of a face: an Example with the features at the top of this module.

    Args:
        image: the bytes of an image file.
        label: int, number of the identity.
        text: name of the identity, or None.
        name: name of the image, or None.

    Returns:
        bytes.
    """
    features = {IMAGE: image, LABEL: int(label)}
    if text is not None:
        features[TEXT] = os.fsencode(text)
    if name is not None:
        features[NAME] = os.fsencode(name)
    return pack_example(features)


def write_face_tfrecords(file, images, labels, identities=None, names=None, shards=1):
    """Writes images and labels as TFRecord files, in the order given.

    TensorFlow's own reader reads them. It reads in order, so that for a pipeline of your own the
    images should be shuffled first; `FaceTFRecords` does not mind. The files appear under their
    names when all are whole.

    Args:
        file: the `.tfrecord` file; with several shards the name that stands for them.
        images: sequence of encoded images, each the bytes of an image file or what `read_face`
            takes: a path, an image of another container.
        labels: `(N,)` integers, from 0 on: identity of each image. Written as they are.
        identities: what the labels are called: a list, or a dict from labels to texts.
        names: `(N,)` names of the images.
        shards: number of files, of which each takes an equal run of the images.

    Raises:
        ValueError: not as many labels (or names) as images, fewer images than shards, a label that
            is no integer from 0 on or has no text.
        OSError: a file cannot be read or written. Nothing is left of the set then.

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
            "`labels` must hold one integer from 0 on for each of the images. Received: "
            f"{len(images):,} images, labels of shape {labels.shape} and dtype {labels.dtype}"
        )
    if names is not None and len(names) != len(images):
        raise ValueError(
            "`names` must hold one name for each of the images. Received: "
            f"{len(images):,} images, {len(names):,} names"
        )
    if not 1 <= shards <= min(len(images), 99_999):
        raise ValueError(
            f"`shards` must lie in 1..{min(len(images), 99_999):,} for {len(images):,} images. "
            f"Received: shards={shards!r}"
        )
    with exclusive(file):
        files = shard_names(file, shards)
        drafts = [f"{each}.{secrets.token_hex(4)}.draft" for each in files]
        try:
            for shard, (draft, each) in enumerate(zip(drafts, files, strict=True)):
                with full_disk_names(each), open(draft, "xb") as stream:
                    for row in range(*_run(len(images), shard, shards)):
                        image, label = images[row], labels.item(row)
                        image = image if isinstance(image, bytes) else read_bytes(image)
                        text = None if identities is None else _called(identities, label)
                        name = None if names is None else names[row]
                        stream.write(frame_tfrecord(face_example(image, label, text, name)))
                    stream.flush()
                    os.fsync(stream.fileno())
            for draft, each in zip(drafts, files, strict=True):
                replace(draft, each)
        finally:
            for draft in drafts:
                if os.path.exists(draft):
                    os.remove(draft)


def _run(count, shard, shards):
    return shard * count // shards, (shard + 1) * count // shards


def _called(identities, label):
    try:
        return identities[label]
    except (KeyError, IndexError):
        raise ValueError(
            f"`identities` must name every label. Received: no text for label={label}"
        ) from None
