"""TFRecord files, read and written without TensorFlow.

**Bytes.** All numbers are little-endian. A record is

    uint64  length
    uint32  masked CRC of those eight bytes
    length bytes
    uint32  masked CRC of those

The CRC is CRC-32C (Castagnoli); its mask is a rotation to the right by 15 bits and the addition of
0xa282ead8. A reader checks both: only a record whose bytes changed is lost, and after a damaged
head the next head is found by its checksum. TensorFlow's own reader stops there.

The payload of a record is usually a `tf.train.Example` (`formats.example`).

**Shards.** `train.tfrecord` in n shards is `train-00000-of-0000n.tfrecord` and so on; the plain
name means all of them.
"""

import collections
import functools
import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.data.formats.shared_file import FileName, ForwardSearch, SharedFile
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
_AROUND = _HEAD + _CRC.size  # bytes of a record around its payload
_ROW = 4096  # bytes whose CRC is one sum of table entries
_SHORT = 32  # bytes below which a plain loop is faster
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.[^.]*)")


def masked_crc(data: bytes) -> int:
    """The checksum of TFRecord: CRC-32C with a mask, so that data may contain their own checksum.

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
        # A CRC is linear: that of a row is the sum (exclusive or) of the CRC of each byte alone, at
        # its distance from the end. The CRC before a row goes into the row's first four bytes.
        tables, numbers = _tables(), np.frombuffer(data, "uint8")
        for start in range(0, len(numbers), _ROW):
            row = numbers[start : start + _ROW].astype("intp")
            before = min(4, len(row))
            row[:before] ^= [crc >> 8 * place & 0xFF for place in range(before)]
            crc = crc >> 8 * before
            crc ^= int(np.bitwise_xor.reduce(tables.take(row + _places()[-len(row) :])))
    return int(_mask(crc ^ 0xFFFFFFFF))


def _mask(crc: Any) -> Any:
    """The mask, of an int or of a uint64 array."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@functools.cache
def _tables() -> npt.NDArray[np.uint32]:
    """uint32 `(_ROW * 256,)`: the CRC of each byte, at `256 * (_ROW - 1 - distance) + byte`."""
    last = np.arange(256, dtype="uint32")
    for _ in range(8):
        last = np.where(last & 1, 0x82F63B78, 0).astype("uint32") ^ (last >> 1)
    tables = np.empty((_ROW, 256), "uint32")
    tables[-1] = last
    for place in range(_ROW - 1, 0, -1):
        tables[place - 1] = last[tables[place] & 0xFF] ^ (tables[place] >> 8)
    return tables.ravel()


@functools.cache
def _places() -> npt.NDArray[np.intp]:
    return 256 * np.arange(_ROW)


@functools.cache
def _byte_table() -> list[int]:
    table: list[int] = _tables()[-256:].tolist()
    return table


def frame_tfrecord(payload: bytes) -> bytes:
    """The bytes of a payload in a file: length, checksums and the payload.

    Example:
        >>> frame_tfrecord(b"").hex()
        '000000000000000029039807d8ea82a2'
    """
    length = _LENGTH.pack(len(payload))
    return b"".join(
        [length, _CRC.pack(masked_crc(length)), payload, _CRC.pack(masked_crc(payload))]
    )


def shard_names(file: FileName, shards: int) -> list[str]:
    """The names of the shards of a file; one shard is the file itself.

    Example:
        >>> shard_names("train.tfrecord", 2)
        ['train-00000-of-00002.tfrecord', 'train-00001-of-00002.tfrecord']
    """
    stem, ending = os.path.splitext(os.fspath(file))
    if shards == 1:
        return [stem + ending]
    return [f"{stem}-{number:05d}-of-{shards:05d}{ending}" for number in range(shards)]


def find_shards(file: FileName) -> list[str]:
    """The file, or its shards.

    Args:
        file: a file or a name as in `shard_names`.

    Returns:
        list of strings.

    Raises:
        FileNotFoundError: neither exists.
        ValueError: shards are missing, or the folder has shards of several sets.
    """
    file = os.fspath(file)
    if os.path.exists(file):
        return [file]
    stem, ending = os.path.splitext(file)
    folder = os.path.dirname(file) or "."
    counts: collections.Counter[int] = collections.Counter()
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        match = _SHARD.fullmatch(name)
        if match and match[1] == os.path.basename(stem) and match[4] == ending:
            counts[int(match[3])] += 1
    if not counts:
        raise FileNotFoundError(f"Neither the file nor a shard of it exists. Received: {file}")
    if len(counts) > 1 or [*counts.keys()] != [*counts.values()]:
        found = ", ".join(f"{found} of {count}" for count, found in sorted(counts.items()))
        raise ValueError(
            f"All shards of one set must exist, and no shard of another set. Received: {file} with "
            f"{found}. Pass a list of the files to read."
        )
    return shard_names(file, *counts)


class TFRecordReader:
    """The payloads of TFRecord files, by row or in order.

    Threads and forked processes may read from one object at the same time; a pickled copy opens the
    files again. Memory: 20 bytes a record. A length in a file is limited by the size of the file.
    The checksums of all heads are compared when the files are opened, and the checksum of a payload
    each time it is read.

    Args:
        files: a file, the name of its shards, or a list of files.
        on_bad: `"refuse"` raises one error that names up to ten bad places; `"skip"` warns once
            with the same report; `"list"` is silent. Both keep the bad places in `skipped`.

    Attributes:
        files: list of the files' names.
        numbers: int32 `(N,)`, the file of each record.
        offsets, lengths: int64 `(N,)`, the place of each payload, in bytes.
        skipped: list of `BadImage`, each with its `path` (a place in a file) and `reason`.

    Raises:
        ValueError: the files have no record, something is bad and `on_bad` is `"refuse"`, or shards
            are missing.
        OSError: a file cannot be opened.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("two.tfrecord").write_bytes(frame_tfrecord(b"a") + frame_tfrecord(b"bc"))
        >>> list(TFRecordReader("two.tfrecord"))
        [b'a', b'bc']
    """

    def __init__(self, files: FileName | Sequence[FileName], *, on_bad: str = "refuse") -> None:
        check_on_bad(on_bad, "refuse", "skip", "list")
        if isinstance(files, str | os.PathLike):
            self.files, source = find_shards(files), os.fspath(files)
        else:
            self.files = [os.fspath(file) for file in files]
            source = f"{len(self.files):,} TFRecord files"
        self._shared = [SharedFile(file) for file in self.files]
        self.skipped: list[BadImage] = []
        rows = [row for number in range(len(self.files)) for row in self._scan(number)]
        columns = np.array(rows, "int64").reshape(-1, 3).T
        self.numbers, self.offsets, self.lengths = columns[0].astype("int32"), *columns[1:]
        if on_bad != "list":
            report_bad_files(source, self.skipped, on_bad, what="record")
        if not rows:
            raise ValueError(
                f"TFRecord files must hold records. Received: none in {source}"
                + (
                    f"\n{bad_files_text(source, self.skipped, what='record')}"
                    if self.skipped
                    else ""
                )
            )

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[bytes]:
        return map(self.read_row, range(len(self)))

    def __repr__(self) -> str:
        skipped = f", {len(self.skipped):,} skipped" if self.skipped else ""
        return f"<TFRecordReader: {len(self):,} records in {len(self.files):,} files{skipped}>"

    def read_row(self, row: int) -> bytes:
        """The payload of a record, after its checksum is compared.

        Raises:
            BadImage: the bytes have another checksum.
        """
        length = int(self.lengths[row])
        data = self.read_part(row, 0, length + _CRC.size)
        payload = data[:length]
        (stated,) = _CRC.unpack(data[length:])
        if masked_crc(payload) != stated:
            raise BadImage(
                self.place(row),
                f"its checksum must be {masked_crc(payload):#010x}. Received: {stated:#010x}: its "
                "bytes have changed.",
            )
        return payload

    def read_part(self, row: int, start: int, length: int) -> bytes:
        """Bytes of the payload of a record, from `start`; no checksum is compared."""
        shared = self._shared[int(self.numbers[row])]
        data = shared.read(int(self.offsets[row]) + start, length)
        if len(data) != length:
            raise BadImage(self.place(row), "the file has become shorter since it was opened.")
        return data

    def place(self, row: int) -> str:
        """The name of a record in errors: file, number of the record in it, and byte."""
        first = np.searchsorted(self.numbers, self.numbers[row])
        return (
            f"{self.files[self.numbers[row]]}, record {row - first} "
            f"(byte {self.offsets[row] - _HEAD:,})"
        )

    def _scan(self, number: int) -> Iterator[tuple[int, int, int]]:
        """Yields file, offset and length of each payload of a file; bad places go to `skipped`."""
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
                    "it is compressed with gzip, so a record cannot be read alone: unpack the file."
                )
                stop = shared.size
            else:
                stop = search.next(offset + 1)
            self.skipped.append(BadImage(f"{shared.name}, bytes {offset:,} to {stop:,}", reason))
            check_count(shared.name, self.skipped)
            offset = stop


def _fault(head: bytes, left: int) -> str | None:
    """The fault of the head of a record, or None; the file has `left` bytes from its beginning."""
    if len(head) < _HEAD:
        return f"a record begins with {_HEAD} bytes. Received: {len(head)}: the file was cut off."
    (length,), (crc,) = _LENGTH.unpack_from(head), _CRC.unpack_from(head, _LENGTH.size)
    if masked_crc(head[: _LENGTH.size]) != crc:
        return "the checksum of a length does not match: its bytes are damaged."
    if length + _AROUND > left:
        return f"a head announces {length:,} bytes, and the file has {left:,} more: it was cut off."
    return None


def _whole_heads(size: int) -> Callable[[bytes, int], list[int]]:
    """For `ForwardSearch`: heads with a correct checksum whose records fit in the file."""
    tables = _tables().reshape(_ROW, 256)[-_LENGTH.size :]

    def find(block: bytes, offset: int) -> list[int]:
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
