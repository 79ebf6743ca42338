"""TFRecord files, read and written without TensorFlow.

**Bytes.** All numbers are little-endian. A record is

    uint64  length
    uint32  masked CRC of those eight bytes
    length bytes
    uint32  masked CRC of those

The CRC is CRC-32C (Castagnoli); masked, it is turned right by 15 bits and 0xa282ead8 is added.
Both are checked on reading: a record whose bytes changed costs itself, and behind a damaged head
the next head is found by its checksum. TensorFlow's own reader ends there instead.

The payload of a record is usually a `tf.train.Example` (`formats.example`).

**Shards.** `train.tfrecord` in n shards is `train-00000-of-0000n.tfrecord` and so on; the plain
name stands for them all.
"""

import collections
import functools
import os
import re
import struct

import numpy as np

from keras_facemargin.data.formats.shared_file import ForwardSearch, SharedFile
from keras_facemargin.data.problems import (
    bad_files_text,
    check_count,
    check_on_bad,
    report_bad_files,
)
from keras_facemargin.images.image import BadImage

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_HEAD = _LENGTH.size + _CRC.size
_AROUND = _HEAD + _CRC.size  # bytes of a record that are no payload
_ROW = 4096  # bytes whose CRC is one sum of table entries
_SHORT = 32  # bytes below which a plain loop is faster
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.[^.]*)")


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
            report_bad_files(source, self.skipped, on_bad, "record")
        if not rows:
            raise ValueError(
                f"TFRecord files must hold records. Received: none in {source}"
                + (f"\n{bad_files_text(source, self.skipped, 'record')}" if self.skipped else "")
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
