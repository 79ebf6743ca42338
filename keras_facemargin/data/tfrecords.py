"""TFRecord files of faces, read and written with and without TensorFlow at hand.

**Bytes.** All numbers are little-endian. A record is

    uint64  length
    uint32  masked CRC of those eight bytes
    length bytes
    uint32  masked CRC of those

The CRC is CRC-32C (Castagnoli); masked, it is turned right by 15 bits and 0xa282ead8 is added.
Both are checked on reading: a record whose bytes changed costs itself, and behind a damaged head
the next head is found by its checksum. TensorFlow's own reader ends there instead.

The payload is a `tf.train.Example`. Written here, and read by these names unless others are given:

    image/encoded      bytes  an image file
    image/class/label  int64  number of the identity
    image/class/text   bytes  name of the identity (may be missing)
    image/filename     bytes  name of the image (may be missing)

They are the names of TensorFlow's own image examples. Others in the wild: arcface-tf2 has the label
in `image/source_id`.

**Shards.** `train.tfrecord` in n shards is `train-00000-of-0000n.tfrecord` and so on; the plain
name stands for them all.
"""

import collections
import functools
import os
import re
import secrets
import struct

import numpy as np

from keras_facemargin.data.faces import (
    StoredFaces,
    StoredImages,
    check_all,
    check_count,
    check_on_bad,
    identity_order,
    report,
    settle_bad,
)
from keras_facemargin.data.formats.shared_file import ForwardSearch, SharedFile
from keras_facemargin.files import exclusive, full_disk_names, replace
from keras_facemargin.images.alignment_check import warn_unaligned
from keras_facemargin.images.image import BadImage, check_encoded, read_bytes

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_HEAD = _LENGTH.size + _CRC.size
_AROUND = _HEAD + _CRC.size  # bytes of a record that are no payload
_ROW = 4096  # bytes whose CRC is one sum of table entries
_SHORT = 32  # bytes below which a plain loop is faster
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.[^.]*)")
IMAGE, LABEL, TEXT, NAME = (
    "image/encoded",
    "image/class/label",
    "image/class/text",
    "image/filename",
)


def masked_crc(data):
    """The checksum of TFRecord: CRC-32C, turned and shifted so that it may lie in what it covers.

    Args:
        data: bytes.

    Returns:
        int, 0 .. 2**32 - 1.

    Example:
        >>> hex(masked_crc(b"123456789"))  # CRC-32C itself is 0xe3069283
        '0xc78ab0e5'
    """
    crc = 0xFFFFFFFF
    if len(data) < _SHORT:
        table = _byte_table()
        for byte in data:
            crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    else:
        # A CRC is linear: that of a row is the sum (exclusive or) of what each of its bytes alone
        # gives at its distance from the end. What came before a row goes into its first four bytes.
        tables, data = _tables(), np.frombuffer(data, "uint8")
        for start in range(0, len(data), _ROW):
            row = data[start : start + _ROW].astype("intp")
            before = min(4, len(row))
            row[:before] ^= [crc >> 8 * place & 0xFF for place in range(before)]
            crc = crc >> 8 * before
            crc ^= int(np.bitwise_xor.reduce(tables.take(row + _places()[-len(row) :])))
    return _mask(crc ^ 0xFFFFFFFF)


def _mask(crc):
    """Of an int or of a uint64 array."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@functools.cache
def _tables():
    """uint32 `(_ROW * 256,)`: the share of each byte, `[256 * (_ROW - 1 - distance) + byte]`."""
    last = np.arange(256, dtype="uint32")
    for _ in range(8):
        last = np.where(last & 1, 0x82F63B78, 0).astype("uint32") ^ (last >> 1)
    tables = np.empty((_ROW, 256), "uint32")
    tables[-1] = last
    for place in range(_ROW - 1, 0, -1):
        tables[place - 1] = last[tables[place] & 0xFF] ^ (tables[place] >> 8)
    return tables.ravel()


@functools.cache
def _places():
    return 256 * np.arange(_ROW)


@functools.cache
def _byte_table():
    return _tables()[-256:].tolist()


# The Example.


def pack_example(features):
    """A `tf.train.Example` as bytes.

    Args:
        features: dict from names to bytes, or to an int.

    Returns:
        bytes; features in the order of the dict.

    Raises:
        ValueError: a value is neither bytes nor an int of 64 bits.

    Example:
        >>> pack_example({"label": 3}).hex(" ")
        '0a 10 0a 0e 0a 05 6c 61 62 65 6c 12 05 1a 03 0a 01 03'
    """
    entries = []
    for name, value in features.items():
        if isinstance(value, bytes):
            feature = _field(1, _field(1, value))
        elif isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
            feature = _field(3, _field(1, _varint(value & (1 << 64) - 1)))
        else:
            raise ValueError(
                f"A feature must be bytes or an int of 64 bits. Received: {name}={value!r}"
            )
        entries.append(_field(1, _field(1, name.encode()) + _field(2, feature)))
    return _field(1, b"".join(entries))


def unpack_example(payload, name="<example>"):
    """The features of a `tf.train.Example`.

    Args:
        payload: bytes.
        name: what an error calls it.

    Returns:
        dict from names to a list of bytes, of ints or of floats.

    Raises:
        BadImage: the bytes are no such message.

    Example:
        >>> unpack_example(pack_example({"label": 3, "name": b"Ada"}))
        {'label': [3], 'name': [b'Ada']}
    """
    return {
        key: [payload[a:b] for a, b in values] if kind == 1 else values
        for key, (kind, values) in _features(payload, name).items()
    }


def _field(number, data):
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Damaged(Exception):
    """A message does not hold together."""


def _features(payload, place):
    """Name -> (1, spans of byte strings), (2, floats) or (3, ints)."""
    found = {}
    try:
        for features in _parts(payload, (0, len(payload)), 1):
            for entry in _parts(payload, features, 1):
                key, kind, values = "", 0, []
                for number, part in _fields(payload, *entry):
                    if number == 1 and isinstance(part, tuple):
                        key = payload[slice(*part)].decode("utf-8", "replace")
                    elif number == 2 and isinstance(part, tuple):
                        for kind, each in _fields(payload, *part):
                            values = _values(payload, kind, each)
                found[key] = kind, values
    except _Damaged as error:
        raise BadImage(place, f"its bytes are no tf.train.Example: {error}.") from None
    return found


def _parts(payload, bounds, wanted):
    """The fields of a number in a message, as spans; others are passed over."""
    for number, part in _fields(payload, *bounds):
        if number == wanted and isinstance(part, tuple):
            yield part


def _values(payload, kind, part):
    if not isinstance(part, tuple) or kind not in (1, 2, 3):
        raise _Damaged("a feature is a list of bytes, floats or integers")
    values = []
    for number, each in _fields(payload, *part):
        if number != 1:
            continue
        if kind == 1:
            if not isinstance(each, tuple):
                raise _Damaged("a number stands where bytes must stand")
            values.append(each)
        elif kind == 2:
            data = payload[slice(*each)] if isinstance(each, tuple) else _CRC.pack(each)
            if len(data) % 4:
                raise _Damaged("floats have four bytes each")
            values += np.frombuffer(data, "<f4").tolist()
        elif isinstance(each, tuple):
            start, stop = each
            while start < stop:
                value, start = _read_varint(payload, start, stop)
                values.append(value - (value >> 63 << 64))
        else:
            values.append(each - (each >> 63 << 64))
    return values


def _fields(payload, start, stop):
    """Yields `(number, value)`: a span `(start, stop)`, or an int."""
    while start < stop:
        tag, start = _read_varint(payload, start, stop)
        wire = tag & 7
        if wire == 0:
            value, start = _read_varint(payload, start, stop)
        elif wire in (1, 5):
            width = 8 if wire == 1 else 4
            if stop - start < width:
                raise _Damaged("a number is cut off")
            value = int.from_bytes(payload[start : start + width], "little")
            start += width
        elif wire == 2:
            length, start = _read_varint(payload, start, stop)
            if length > stop - start:
                raise _Damaged(f"{length:,} bytes are announced and {stop - start:,} are left")
            value = start, start + length
            start += length
        else:
            raise _Damaged(f"a field has the unknown wire type {wire}")
        yield tag >> 3, value


def _read_varint(payload, start, stop):
    value = shift = 0
    while True:
        if start >= stop or shift > 63:
            raise _Damaged("a number is cut off" if start >= stop else "a number is too long")
        byte = payload[start]
        value |= (byte & 0x7F) << shift
        start, shift = start + 1, shift + 7
        if byte < 0x80:
            return value & (1 << 64) - 1, start


# Files.


def frame_tfrecord(payload):
    """The bytes that a payload is in a file: length, checksums and itself.

    Example:
        >>> frame_tfrecord(b"").hex()
        '000000000000000029039807d8ea82a2'
    """
    length = _LENGTH.pack(len(payload))
    return b"".join(
        [length, _CRC.pack(masked_crc(length)), payload, _CRC.pack(masked_crc(payload))]
    )


def shard_names(file, shards):
    """The files that `file` is in so many shards: itself if it is one.

    Example:
        >>> shard_names("train.tfrecord", 2)
        ['train-00000-of-00002.tfrecord', 'train-00001-of-00002.tfrecord']
    """
    stem, ending = os.path.splitext(os.fspath(file))
    if shards == 1:
        return [stem + ending]
    return [f"{stem}-{number:05d}-of-{shards:05d}{ending}" for number in range(shards)]


def find_shards(file):
    """The file, or the shards that it stands for.

    Args:
        file: a file or a name as in `shard_names`.

    Returns:
        list of strings.

    Raises:
        FileNotFoundError: neither is there.
        ValueError: shards are missing, or there are those of several sets.
    """
    file = os.fspath(file)
    if os.path.exists(file):
        return [file]
    stem, ending = os.path.splitext(file)
    folder = os.path.dirname(file) or "."
    counts = collections.Counter()
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        match = _SHARD.fullmatch(name)
        if match and match[1] == os.path.basename(stem) and match[4] == ending:
            counts[int(match[3])] += 1
    if not counts:
        raise FileNotFoundError(f"There is neither this file nor a shard of it. Received: {file}")
    if len(counts) > 1 or [*counts.keys()] != [*counts.values()]:
        found = ", ".join(f"{there} of {count}" for count, there in sorted(counts.items()))
        raise ValueError(
            f"All shards of one set must be there, and of no other. Received: {file} with {found}. "
            "Name the files that are wanted in a list."
        )
    return shard_names(file, *counts)


class TFRecordReader:
    """The payloads of TFRecord files, by row or in order.

    Threads and forked processes may read from one object at once; a pickled one opens the files
    again. Held in memory: 20 bytes a record. A length is believed only as far as the file has
    bytes. When it is opened, only the heads are read and their checksums compared; that of a
    payload is compared whenever it is read.

    Args:
        files: a file, the name that stands for its shards, or a list of files.
        on_bad: `"refuse"` raises one error that names up to ten bad places; `"skip"` leaves them
            out and warns once in the same words; `"list"` leaves them out silently. Both keep them
            in `skipped`.

    Attributes:
        files: list of the files' names.
        numbers: int32 `(N,)`, in which file a record is.
        offsets, lengths: int64 `(N,)`, where its payload lies, in bytes.
        skipped: list of `BadImage`, each with its `path` (a place in a file) and `reason`.

    Raises:
        ValueError: nothing is in the files, or something is bad while `on_bad` is `"refuse"`, or
            shards are missing.
        OSError: a file cannot be opened.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("two.tfrecord").write_bytes(frame_tfrecord(b"a") + frame_tfrecord(b"bc"))
        >>> list(TFRecordReader("two.tfrecord"))
        [b'a', b'bc']
    """

    def __init__(self, files, on_bad="refuse"):
        check_on_bad(on_bad, "refuse", "skip", "list")
        single = isinstance(files, str | os.PathLike)
        self.files = find_shards(files) if single else list(map(os.fspath, files))
        self._shared = [SharedFile(file) for file in self.files]
        self.skipped = []
        rows = [row for number in range(len(self.files)) for row in self._scan(number)]
        columns = np.array(rows, "int64").reshape(-1, 3).T
        self.numbers, self.offsets, self.lengths = columns[0].astype("int32"), *columns[1:]
        source = os.fspath(files) if single else f"{len(self.files):,} TFRecord files"
        if on_bad != "list":
            settle_bad(source, self.skipped, on_bad, "record")
        if not rows:
            raise ValueError(
                f"TFRecord files must hold records. Received: none in {source}"
                + (f"\n{report(source, self.skipped, 'record')}" if self.skipped else "")
            )

    def __len__(self):
        return len(self.offsets)

    def __iter__(self):
        return map(self.read_row, range(len(self)))

    def __repr__(self):
        skipped = f", {len(self.skipped):,} skipped" if self.skipped else ""
        return f"<TFRecordReader: {len(self):,} records in {len(self.files):,} files{skipped}>"

    def read_row(self, row):
        """The payload of a record, bytes, its checksum compared.

        Raises:
            BadImage: the checksum is not that of the bytes.
        """
        length = self.lengths.item(row)
        data = self.read_part(row, 0, length + _CRC.size)
        payload = data[:length]
        (stated,) = _CRC.unpack(data[length:])
        if masked_crc(payload) != stated:
            raise BadImage(
                self.place(row),
                f"its checksum must be {masked_crc(payload):#010x}. Received: {stated:#010x}: its "
                "bytes were changed.",
            )
        return payload

    def read_part(self, row, start, length):
        """Bytes of the payload of a record from `start` on, as they lie."""
        data = self._shared[self.numbers[row]].read(self.offsets.item(row) + start, length)
        if len(data) != length:
            raise BadImage(self.place(row), "the file has become shorter since it was opened.")
        return data

    def place(self, row):
        """What errors call a record: file, number of the record in it and byte of its payload."""
        first = np.searchsorted(self.numbers, self.numbers[row])
        return (
            f"{self.files[self.numbers[row]]}, record {row - first} "
            f"(byte {self.offsets[row] - _HEAD:,})"
        )

    def _scan(self, number):
        shared = self._shared[number]
        search = ForwardSearch(shared, _whole_heads(shared.size), _HEAD)
        offset = 0
        while offset < shared.size:
            head = shared.read(offset, _HEAD)
            reason = _fault(head, shared.size - offset)
            if not reason:
                length = _LENGTH.unpack_from(head)[0]
                yield number, offset + _HEAD, length
                offset += length + _AROUND
                continue
            if offset == 0 and head[:2] == b"\x1f\x8b":
                reason = (
                    "it is compressed with gzip, and no place in it can be read alone: unpack it."
                )
                stop = shared.size
            else:
                stop = search.next(offset + 1)
            self.skipped.append(BadImage(f"{shared.name}, bytes {offset:,} to {stop:,}", reason))
            check_count(shared.name, self.skipped)
            offset = stop


def _fault(head, left):
    """What is wrong with the head of a record, of which so many bytes are left in the file."""
    if len(head) < _HEAD:
        return f"a record begins with {_HEAD} bytes. Received: {len(head)}: the file was cut off."
    (length,), (crc,) = _LENGTH.unpack_from(head), _CRC.unpack_from(head, _LENGTH.size)
    if masked_crc(head[: _LENGTH.size]) != crc:
        return "the checksum of a length is not that of its bytes: they are damaged."
    if length + _AROUND > left:
        return f"a record of {length:,} bytes is announced and {left:,} are left: it was cut off."
    return None


def _whole_heads(size):
    """A function for `ForwardSearch`: heads with a right checksum whose records are in the file."""
    tables = _tables().reshape(_ROW, 256)[-_LENGTH.size :]

    def find(block, offset):
        data = np.frombuffer(block, "uint8")
        count = len(data) - _HEAD + 1
        if count < 1:
            return []
        crc = np.full(count, 0xFFFFFFFF, "uint32")
        for place, table in enumerate(tables):
            crc ^= table[data[place : place + count] ^ (0xFF if place < 4 else 0)]
        stated = np.zeros(count, "uint64")
        for place in range(4):
            byte = data[_LENGTH.size + place : _LENGTH.size + place + count]
            stated |= byte.astype("uint64") << np.uint64(8 * place)
        right = np.flatnonzero(_mask(crc.astype("uint64")) == stated).tolist()
        return [
            place
            for place in right
            if not _fault(block[place : place + _HEAD], size - offset - place)
        ]

    return find


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
        image_size: side of the crops in pixels. Square images of another size are resized.
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
        >>> write_face_tfrecords("faces.tfrecord", files, [7, 7, 7, 9, 9, 9], {7: "Ada", 9: "Bo"})
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
        if bad and on_bad == "refuse":
            settle_bad(source, bad, on_bad)
        if self.num_classes < 2:
            raise ValueError(
                "Telling people apart needs at least two identities with an image each. "
                f"Received: {self.num_classes} in {source}"
                + (f"\n{report(source, bad)}" if bad else "")
            )
        settle_bad(source, bad, on_bad)
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
    features = _features(payload, place)
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
        >>> write_face_tfrecords("two.tfrecord", [b"JPEG", b"another"], [0, 1], ["Ada", "Bo"])
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
