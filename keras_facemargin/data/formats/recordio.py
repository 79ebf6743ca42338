"""MXNet's RecordIO files, `.rec` with `.idx`, read and written without MXNet.

**Bytes.** All numbers are little-endian. A record is one part or several, each

    uint32  magic 0xced7230a
    uint32  flag << 29 | length      flag: 0 whole record, 1 first part, 2 middle, 3 last
    length bytes, then zeros up to a multiple of 4

so a part begins at a multiple of 4. A payload that holds the magic at a multiple of 4 from its own
beginning is cut there into parts, without the four bytes of the magic: the reader puts them back
between the parts. So at a multiple of 4 the magic occurs only at the beginning of a part, and a
reader finds the next record after a damaged one.

The payload of an image record is

    uint32  n, length of the label vector; 0: the label is the next field
    float32 label (0 where n > 0)
    uint64  id, usually the record's key
    uint64  id2, usually 0
    n float32 labels
    the bytes of an image file, to the end

The `.idx` is text, a line `KEY<tab>OFFSET` for each record.
"""

import array
import numbers
import operator
import os
import re
import struct
import sys
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_facemargin.data.formats.shared_file import FileName, ForwardSearch, SharedFile
from keras_facemargin.data.problems import (
    bad_files_text,
    check_count,
    check_on_bad,
    report_bad_files,
)
from keras_facemargin.files import atomic_write
from keras_facemargin.images.image import BadImage

_MAGIC = 0xCED7230A
_MAGIC_BYTES = struct.pack("<I", _MAGIC)
_HEAD = struct.Struct("<II")
_LABEL = struct.Struct("<IfQQ")
_LONGEST = (1 << 29) - 1  # bytes of a part
EXACT = 1 << 24  # float32 holds every whole number up to it
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_USUAL = 1 << 13  # bytes that hold nearly any record of a 112x112 crop: one read instead of two
_LONGEST_READ = 1 << 20  # bytes that are read at a time in search of a magic
_LINE = re.compile(rb"(-?\d{1,18})\t(\d{1,18})\r?\n?")
_LONGEST_LINE = 64


class Record(NamedTuple):
    """Content of an image record.

    Attributes:
        label: float, or a float32 array `(n,)` if the record has a label vector. The identity is
            the number, or the first number of the vector.
        image: the bytes of an image file; empty in InsightFace's header and identity records.
        id: int, usually the record's key.
        id2: int, usually 0.
    """

    label: Any
    image: bytes
    id: int = 0
    id2: int = 0


def unpack_record(payload: bytes, name: object = "<record>") -> Record:
    """Splits the payload of a record into label and image.

    Args:
        payload: bytes, as `RecordReader.read` returns them.
        name: name of the record in errors.

    Returns:
        A `Record`. A vector label is a view of the payload; only the image is copied.

    Raises:
        BadImage: the payload is shorter than its header of 24 bytes, or than the label vector that
            the header announces.

    Example:
        >>> unpack_record(pack_record(Record(label=7.0, image=b"JPEG", id=3)))
        Record(label=7.0, image=b'JPEG', id=3, id2=0)
    """
    if len(payload) < _LABEL.size:
        raise BadImage(
            name,
            f"an image record begins with a label of {_LABEL.size} bytes. Received: "
            f"{len(payload)} bytes in total.",
        )
    length, label, number, number2 = _LABEL.unpack_from(payload)
    start = _LABEL.size + 4 * length
    if start > len(payload):
        raise BadImage(
            name,
            f"its header announces a label of {length:,} numbers of 4 bytes, more than the record "
            f"holds. Received: {len(payload):,} bytes in total.",
        )
    if length:
        label = np.frombuffer(payload, "<f4", length, _LABEL.size)
    return Record(label, payload[start:], number, number2)


def pack_record(record: Record) -> bytes:
    """Joins label and image to the payload of a record: the bytes that MXNet's `pack` returns.

    Args:
        record: a `Record`. Its label is written as a number, or a sequence as a vector.

    Returns:
        bytes; `unpack_record` is the inverse.

    Raises:
        ValueError: the label is neither a number nor a one-dimensional sequence of numbers.

    Example:
        >>> pack_record(Record(label=[7.0, 0.5], image=b"", id=3)).hex(" ", 4)
        '02000000 00000000 03000000 00000000 00000000 00000000 0000e040 0000003f'
    """
    label, image, number, number2 = record
    if isinstance(label, numbers.Real):
        return _LABEL.pack(0, label, number, number2) + image
    vector = np.asarray(label, "<f4")
    if vector.ndim != 1 or not vector.size:
        raise ValueError(
            "A label must be a number or a vector of at least one number. "
            f"Received: an array of shape {vector.shape}"
        )
    return _LABEL.pack(vector.size, 0.0, number, number2) + vector.tobytes() + image


def frame_record(payload: bytes) -> bytes:
    """The bytes of a payload in a file: heads, parts and padding."""
    start, cuts = 0, list(_magic_places(payload))
    parts: list[bytes] = []
    for cut in cuts:
        parts += _part(_MIDDLE if start else _FIRST, payload[start:cut])
        start = cut + 4
    return b"".join([*parts, *_part(_LAST if cuts else _WHOLE, payload[start:])])


def _part(flag: int, data: bytes) -> tuple[bytes, bytes, bytes]:
    return _HEAD.pack(_MAGIC, flag << 29 | len(data)), data, bytes(-len(data) % 4)


class RecordWriter:
    """Writes records to a `.rec` file and their places to an `.idx`, the same bytes as MXNet.

    A context manager. The files appear under their names when it closes. After an exception they do
    not, and older files stay as they were.

    Args:
        file: the `.rec` file.
        index: the `.idx` file; `"auto"` is `file` with the ending `.idx`; `None` writes no index.

    Example:
        >>> with RecordWriter("two.rec") as writer:
        ...     writer.write(0, b"first")
        ...     writer.write(1, b"second")
        >>> from pathlib import Path
        >>> Path("two.idx").read_text()
        '0\\t0\\n1\\t16\\n'
        >>> RecordReader("two.rec").read(1)
        b'second'
    """

    def __init__(self, file: FileName, index: FileName | None = "auto") -> None:
        self._file = os.fspath(file)
        if index is None:
            self._index = None
        else:
            self._index = _index_name(self._file) if index == "auto" else os.fspath(index)
        self._writing = atomic_write(self._file, "wb")
        self._records = self._writing.__enter__()
        self._lines: list[str] = []
        self._keys: set[int] = set()

    def write(self, key: int, payload: bytes) -> None:
        """Appends a record.

        Args:
            key: integer, written to the index.
            payload: at most 2**29 - 1 bytes.

        Raises:
            ValueError: the payload is longer, or the index already has the key.
        """
        key = operator.index(key)
        if key in self._keys:
            raise ValueError(f"Record keys must be unique. Received: key={key} twice")
        if len(payload) > _LONGEST:
            raise ValueError(
                f"A record must have at most {_LONGEST:,} bytes. "
                f"Received: {len(payload):,} for key={key}"
            )
        self._keys.add(key)
        self._lines.append(f"{key}\t{self._records.tell()}\n")
        self._records.write(frame_record(payload))

    def close(self) -> None:
        """Finishes both files."""
        self.__exit__(None, None, None)

    def __enter__(self) -> "RecordWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._records.closed:
            return
        try:
            if self._index and kind is None:
                self._records.flush()  # a full disk leaves the old index with the old records
                with atomic_write(self._index, "wb") as file:
                    file.writelines(line.encode("ascii") for line in self._lines)
        except BaseException:
            self._writing.__exit__(*sys.exc_info())
            raise
        self._writing.__exit__(kind, error, traceback)


class RecordReader:
    """The payloads of a `.rec` file, by key or in order.

    It works like a mapping: `keys`, `len`, `read(key)`; iteration gives `(key, payload)`. Threads
    and forked processes may read from one object at the same time, because a read has no position
    (`os.pread`); a pickled copy opens the file again. Memory: 24 bytes a record, and one payload
    while it is read. Lengths and counts in the file are limited by its size, so a damaged file
    cannot allocate more than that.

    **Index.** Without an `.idx` the file is read once, from part to part, and the records are
    numbered 0, 1, 2, ..., which are their keys in InsightFace's files. Damage is skipped up to the
    next beginning of a record, and `skipped` lists its range of bytes. An `.idx` is bad as a whole
    if it has one malformed line, a duplicate key or offset, or an offset beyond the end of the
    file; `on_bad="skip"` then ignores it and reads the file. Implementations differ: MXNet takes
    the last of two equal keys, and seeks to any offset.

    Args:
        file: the `.rec` file.
        index: the `.idx` file; `"auto"` is `file` with the ending `.idx`, if it exists; `None`
            reads the file without an index.
        on_bad: `"refuse"` raises one error that names up to ten bad places; `"skip"` warns once
            with the same report; `"list"` is silent. Both keep the bad places in `skipped`.

    Attributes:
        file: the `.rec` file, a string.
        keys, offsets: int64 arrays `(N,)`, in the order of the index or of the file.
        size: bytes of the file.
        indexed: whether the records are those of an index.
        skipped: list of `BadImage`, each with its `path` (a place in the file) and `reason`.

    Raises:
        ValueError: the file has no record, or something is bad and `on_bad` is `"refuse"`.
        OSError: a file cannot be opened.

    Example:
        >>> with RecordWriter("two.rec") as writer:
        ...     writer.write(5, b"first")
        ...     writer.write(3, b"second")
        >>> reader = RecordReader("two.rec")
        >>> reader.keys
        array([5, 3])
        >>> list(reader)
        [(5, b'first'), (3, b'second')]
        >>> RecordReader("two.rec", index=None).keys
        array([0, 1])
    """

    def __init__(
        self, file: FileName, index: FileName | None = "auto", *, on_bad: str = "refuse"
    ) -> None:
        check_on_bad(on_bad, "refuse", "skip", "list")
        self.file = os.fspath(file)
        self._shared = SharedFile(self.file)
        self.size = self._shared.size
        if not self.size:
            raise ValueError(f"A .rec file must hold records. Received: {self.file} of 0 bytes")
        self.skipped: list[BadImage] = []
        if index == "auto":
            index = _index_name(self.file)
            index = index if os.path.exists(index) else None
        listed = None
        if index is not None:
            try:
                listed = _read_index(os.fspath(index), self.size)
            except BadImage as error:
                self.skipped.append(error)
        self.indexed = listed is not None
        if listed is None and (index is None or on_bad != "refuse"):
            listed = self._scan()
        if on_bad != "list":
            report_bad_files(self.file, self.skipped, on_bad, what="record")
        if listed is None or not len(listed[0]):
            raise ValueError(bad_files_text(self.file, self.skipped, what="record"))
        self.keys, self.offsets = listed
        self._sorter = np.argsort(self.keys, kind="stable")

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        for row, key in enumerate(self.keys.tolist()):
            yield key, self.read_row(row)

    def __repr__(self) -> str:
        skipped = f", {len(self.skipped):,} skipped" if self.skipped else ""
        return f"<RecordReader {self.file!r}: {len(self):,} records{skipped}>"

    def read(self, key: int) -> bytes:
        """The payload of a record.

        Args:
            key: its key in the index.

        Raises:
            KeyError: no record has this key.
            BadImage: the record is damaged; its `path` names file, key and byte.
        """
        place = np.searchsorted(self.keys, key, sorter=self._sorter)
        if place == len(self) or self.keys[self._sorter[place]] != key:
            raise KeyError(
                f"{self.file} has {len(self):,} records with keys {self.keys.min()} to "
                f"{self.keys.max()}. Received: key={key}"
            )
        return self.read_row(self._sorter[place])

    def read_row(self, row: int) -> bytes:
        """The payload of the record `keys[row]`; raises BadImage as `read`."""
        return self._payload(self.offsets.item(row), lambda: self.place(row))[0]

    def read_image(self, row: int) -> bytes:
        """The bytes of the image file in the record `keys[row]`; raises BadImage as `read`."""
        return unpack_record(self.read_row(row), self.place(row)).image

    def place(self, row: int) -> str:
        """The name of the record `keys[row]` in errors: file, key and byte."""
        return f"{self.file}, record {self.keys[row]} (byte {self.offsets[row]:,})"

    def read_extent(self, row: int) -> tuple[bytes, int]:
        """The payload of the record `keys[row]` and the byte after the record.

        Always searches the payload for the beginning of another record, which a damaged length may
        have included; `read` and `read_row` search only if no record may end there.
        """
        return self._payload(self.offsets.item(row), lambda: self.place(row), thorough=True)

    def close(self) -> None:
        """Closes the file; later reads raise ValueError. Garbage collection also closes it."""
        self._shared.close()

    def _bytes(self, start: int, length: int) -> bytes:
        """Bytes of the file, fewer at its end."""
        if length > _USUAL:
            length = max(0, min(length, self.size - start))
        return self._shared.read(start, length)

    def _parts(self, offset: int, place: Callable[[], str]) -> list[tuple[int, int, int]]:
        """Bounds `(first, last + padding, last)` of the data of each part of a record.

        Raises:
            BadImage: the record is damaged; `place()` names it.
        """
        parts: list[tuple[int, int, int]] = []
        while True:
            head = self._bytes(offset, _HEAD.size)
            if len(head) < _HEAD.size:
                what = "in a header of 8 bytes" if head else "before the next part"
                raise BadImage(place(), f"the file ends {what}, at byte {self.size:,}.")
            magic, word = _HEAD.unpack(head)
            flag, length = word >> 29, word & _LONGEST
            if magic != _MAGIC:
                raise BadImage(
                    place(),
                    f"a part begins with the magic {_MAGIC:#x}. Received: {magic:#x} at byte "
                    f"{offset:,}.",
                )
            if flag not in ((_MIDDLE, _LAST) if parts else (_WHOLE, _FIRST)):
                raise BadImage(
                    place(),
                    f"a part with flag {flag} at byte {offset:,} "
                    + ("follows a part that is not the last." if parts else "begins no record."),
                )
            start = offset + _HEAD.size
            offset = start + length + -length % 4
            if offset > self.size:
                raise BadImage(
                    place(),
                    f"its header announces {length:,} bytes and padding, and the file has "
                    f"{self.size - start:,} more: it was cut off, or the length is damaged.",
                )
            # A search for records stays linear because the data between the heads of a record in
            # parts are read: two chains of parts cannot share a tail.
            if flag != _WHOLE and self._has_magic(start, length):
                raise BadImage(
                    place(), f"another part begins inside the part at byte {start - 8:,}."
                )
            parts.append((start, offset, start + length))
            if flag in (_WHOLE, _LAST):
                return parts

    def _has_magic(self, start: int, length: int) -> bool:
        """Whether the magic occurs at a multiple of 4 in a part; reads little more than up to it.

        A part that announces the rest of the file costs only a read up to the next head.
        """
        stop, stride = start + length, _USUAL
        while start < stop:
            if _first_magic(self._bytes(start, min(stride, stop - start))) >= 0:
                return True
            start += stride
            stride = min(2 * stride, _LONGEST_READ)
        return False

    def _payload(
        self, offset: int, place: Callable[[], str], *, thorough: bool = False
    ) -> tuple[bytes, int]:
        """The payload of the record at `offset` and the byte after the record.

        Args:
            offset: the byte at which the record begins.
            place: a function that names the record.
            thorough: whether to search the payload for another record, which a damaged length may
                have included, even if it ends where a record may end.
        """
        block = self._bytes(offset, _USUAL)
        if len(block) >= _HEAD.size:
            magic, length = _HEAD.unpack_from(block)
            stop = _HEAD.size + length + -length % 4
            if magic == _MAGIC and stop <= len(block):  # one part: a flag makes a length huge
                data = block[_HEAD.size : _HEAD.size + length]
                # The search takes longer than the read, and it hardly ever finds anything if the
                # next record begins directly after this one, or the file ends there.
                if not thorough and (
                    block[stop : stop + 4] == _MAGIC_BYTES or offset + stop == self.size
                ):
                    return data, offset + stop
                if _MAGIC_BYTES not in data:
                    return data, offset + stop
        parts = self._parts(offset, place)
        for start, _, stop in parts:
            if self._has_magic(start, stop - start):
                raise BadImage(place(), "another record begins inside it: its length is damaged.")
        found = [self._bytes(start, stop - start) for start, _, stop in parts]
        for each, (start, _, stop) in zip(found, parts, strict=True):
            if len(each) != stop - start:
                raise BadImage(place(), "the file has become shorter since it was opened.")
        return found[0] if len(found) == 1 else _MAGIC_BYTES.join(found), parts[-1][1]

    def _scan(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Keys 0, 1, ... and offsets of the records, read from part to part."""
        search = ForwardSearch(self._shared, _heads, _HEAD.size)
        found, offset = array.array("q"), 0
        while offset < self.size:
            try:
                stop = self._parts(offset, str)[-1][1]
                if stop < self.size and self._bytes(stop, 4) != _MAGIC_BYTES:
                    # The next bytes are damaged, or this record's length is and spans a head.
                    self._payload(offset, str, thorough=True)
                found.append(offset)
            except BadImage as error:
                stop = search.next(offset + 4)
                place = f"{self.file}, bytes {offset:,} to {stop:,}"
                self.skipped.append(BadImage(place, error.reason))
                check_count(self.file, self.skipped)
            offset = stop
        offsets = np.array(found, "int64")
        return np.arange(len(offsets)), offsets


def _index_name(file: str) -> str:
    return os.path.splitext(file)[0] + ".idx"


def _read_index(file: str, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Keys and offsets, int64 `(N,)` each, of the index of a file of `size` bytes."""
    found_keys, found_offsets = array.array("q"), array.array("q")
    with open(file, "rb") as lines:
        while line := lines.readline(_LONGEST_LINE):
            match = _LINE.fullmatch(line)
            number = len(found_keys) + 1
            if not match:
                raise BadImage(
                    f"{file}, line {number:,}",
                    f"a line must be KEY<tab>OFFSET, two whole numbers. Received: {line!r}."
                    + _CURE,
                )
            key, offset = map(int, match.groups())
            if offset % 4 or offset + _HEAD.size > size:
                raise BadImage(
                    f"{file}, line {number:,}",
                    f"an offset must be a multiple of 4 within the {size:,} bytes of the .rec "
                    f"file. Received: {offset:,}." + _CURE,
                )
            if number > size // _HEAD.size:
                raise BadImage(file, "it has more lines than the file can have records." + _CURE)
            found_keys.append(key)
            found_offsets.append(offset)
    if not found_keys:
        raise BadImage(file, "an index must have a line for each record. Received: none." + _CURE)
    keys, offsets = np.array(found_keys, "int64"), np.array(found_offsets, "int64")
    for name, values in (("key", keys), ("offset", offsets)):
        found, counts = np.unique(values, return_counts=True)
        if len(found) != len(values):
            twice = found[counts > 1][0]
            raise BadImage(file, f"the {name} {twice:,} occurs in it more than once." + _CURE)
    return keys, offsets


_CURE = ' The index cannot be used: read the records without it, with index=None or on_bad="skip".'


def _heads(block: bytes, offset: int) -> list[int]:
    """For `ForwardSearch`: the places in a block, itself at a multiple of 4, of records' heads."""
    words = np.frombuffer(block, "<u4", len(block) // 4)
    heads = (words[:-1] == _MAGIC) & (words[1:] >> 29 <= _FIRST)
    places: list[int] = (4 * np.flatnonzero(heads)).tolist()
    return places


def _first_magic(data: bytes, start: int = 0) -> int:
    """The first multiple of 4, at or after `start`, at which the magic occurs, or -1."""
    place = data.find(_MAGIC_BYTES, start)
    while place >= 0 and place % 4:
        place = data.find(_MAGIC_BYTES, place + 1)
    return place


def _magic_places(data: bytes) -> Iterator[int]:
    """All multiples of 4 at which the magic occurs."""
    place = _first_magic(data)
    while place >= 0:
        yield place
        place = _first_magic(data, place + 4)
