"""MATLAB's files of version 5 to 7: two official lists have this format.

Only numbers, texts, cells and structures are read. Nothing is executed, every size is checked
against the bytes of the file, and a damaged file is a ValueError.

MathWorks, "MAT-File Format", version 5.
"""

import math
import struct
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.data.formats.shared_file import FileName

# Bytes of a file, and of its inflated elements: a hundred times the largest official list.
MOST_BYTES = 2**28

# Depth of nested cells and structures; the official lists have four.
DEEPEST = 16

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMERIC = range(6, 16)
_OPAQUE = 17
_OTHERS = {3: "an object", 5: "a sparse matrix", 16: "a function", _OPAQUE: "an object"}
_COMPLEX, _LOGICAL = 0x800, 0x200
_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
_DTYPES |= {12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 16: "utf-8"}
_WIDE_TEXTS = {4: "utf-16", 17: "utf-16", 18: "utf-32"}


def read_mat(file: FileName, names: Collection[str]) -> dict[str, Any]:
    """Reads variables of a .mat file by name.

    Args:
        file: the file.
        names: names of the variables to read.

    Returns:
        A dict of those that the file has. Numbers are arrays ``(rows, columns)`` of their stored
        type, a text is a ``str`` and several rows of text an object array, cells are object arrays
        ``(rows, columns)``, a structure is a dict and several an object array.

    Raises:
        ValueError: the file is not of version 5 to 7, is damaged or too large, or one of the
            variables is an object, a function or sparse.
        OSError: the file cannot be opened.

    Example:
        >>> import numpy as np
        >>> head = b"MATLAB 5.0".ljust(124) + b"\\x00\\x01IM"
        >>> flags, size = (6, 8, 4, 0), (5, 8, 1, 1)  # of one text, a row and a column
        >>> words = (14, 48, *flags, *size, 0x10001, ord("x"), 0x10010, ord("7"))
        >>> _ = Path("x.mat").write_bytes(head + np.array(words, "<u4").tobytes())
        >>> read_mat("x.mat", ["x"])
        {'x': '7'}
    """
    file = Path(file)
    try:
        size = file.stat().st_size
        if size > MOST_BYTES:
            raise _Damaged(f"{size:,} bytes, more than {MOST_BYTES:,}")
        return _variables(file.read_bytes(), names)
    except _Damaged as error:
        raise ValueError(
            f"{file}: must be a MATLAB file of version 5 to 7. Received: {error}."
        ) from None


class _Damaged(Exception):
    """The fault of the file."""


def _variables(data: bytes, names: Collection[str]) -> dict[str, Any]:
    order = _byte_order(data)
    found: dict[str, Any] = {}
    inflated_bytes, rest = 0, _Bytes(memoryview(data)[_HEADER:], order)
    while rest:
        kind, content = rest.element(padded=False)
        if kind == _COMPRESSED:
            inflated = _inflated(content.view, MOST_BYTES - inflated_bytes)
            inflated_bytes += len(inflated)
            kind, content = _Bytes(memoryview(inflated), order).element()
        if kind != _MATRIX:
            raise _Damaged(f"an element of type {kind} in place of a variable")
        matrix = _Matrix(content)
        if matrix.name in names:
            if matrix.name in found:
                raise _Damaged(f"two variables named {matrix.name}")
            found[matrix.name] = matrix.value(0)
    return found


def _byte_order(data: bytes) -> str:
    if data[:8] == b"\x89HDF\r\n\x1a\n" or data[512:520] == b"\x89HDF\r\n\x1a\n":
        raise _Damaged("a file of version 7.3 (HDF5). In MATLAB: save(file, '-v7')")
    if len(data) >= 20 and b"\0" in data[:4]:
        raise _Damaged("a file of version 4, or another format. In MATLAB: save(file, '-v7')")
    order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(data[_HEADER - 4 : _HEADER])
    if order is None:
        raise _Damaged("a file without MATLAB's header")
    return order


def _inflated(view: memoryview, most: int) -> bytes:
    inflate = zlib.decompressobj()
    try:
        data = inflate.decompress(view, most + 1)
    except zlib.error as error:
        raise _Damaged(f"a compressed variable that is damaged ({error})") from None
    if len(data) > most:
        raise _Damaged(f"variables of more than {MOST_BYTES:,} bytes")
    if not inflate.eof:
        raise _Damaged("a compressed variable that is cut short")
    return data


class _Bytes:
    """The rest of the bytes of an element, and the order of the bytes in a number."""

    def __init__(self, view: memoryview, order: str) -> None:
        self.view, self.order = view, order

    def __len__(self) -> int:
        return len(self.view)

    def element(self, *, padded: bool = True) -> "tuple[int, _Bytes]":
        """Takes the next element: its type and its content."""
        if len(self.view) < 8:
            raise _Damaged("an element that is cut short")
        kind, size = struct.unpack(f"{self.order}II", self.view[:8])
        if kind >> 16:  # a small element, of at most four bytes in its tag
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise _Damaged(f"a small element of {size} bytes")
            start, stop = 4, 8
        else:
            start, stop = 8, 8 + size
            if padded and kind != _COMPRESSED:
                stop += -size % 8
        if start + size > len(self.view):
            raise _Damaged(
                f"an element of {size:,} bytes with {len(self.view) - start:,} bytes left"
            )
        content = _Bytes(self.view[start : start + size], self.order)
        self.view = self.view[stop:]
        return kind, content

    def numbers(self) -> npt.NDArray[Any]:
        """Takes the next element, which must hold numbers."""
        kind, content = self.element()
        if kind not in _DTYPES:
            raise _Damaged(f"an element of type {kind} in place of numbers")
        dtype: np.dtype[Any] = np.dtype(self.order + _DTYPES[kind])
        if len(content) % dtype.itemsize:
            raise _Damaged(f"{len(content)} bytes of numbers of {dtype.itemsize} bytes")
        return np.frombuffer(content.view, dtype).astype(dtype.newbyteorder("="))

    def text(self) -> str:
        """Takes the next element, which must hold text."""
        kind, content = self.element()
        encoding = _TEXTS.get(kind)
        if kind in _WIDE_TEXTS:
            encoding = f"{_WIDE_TEXTS[kind]}-{'le' if self.order == '<' else 'be'}"
        if encoding is None:
            raise _Damaged(f"an element of type {kind} in place of text")
        try:
            return str(content.view, encoding)
        except UnicodeDecodeError:
            raise _Damaged(f"text that is not {encoding}") from None


class _Matrix:
    """A variable, a cell or a field: its name and, on request, its value."""

    def __init__(self, content: _Bytes) -> None:
        self.content = content
        self.name, self.flags = "", 0
        self.kind: int | None = None
        self.shape: tuple[int, ...] = (0, 0)
        if not content:  # an empty cell
            return
        flags = content.numbers()
        if len(flags) != 2 or flags.dtype != np.uint32:
            raise _Damaged("a variable without its class")
        self.kind, self.flags = int(flags[0]) & 0xFF, int(flags[0])
        if self.kind == _OPAQUE:
            return  # its name is in another element
        shape = content.numbers()
        if shape.dtype != np.int32 or not 2 <= len(shape) <= 8 or shape.min() < 0:
            raise _Damaged("a variable without its size")
        self.shape = tuple(shape.tolist())
        self.name = content.text()

    def value(self, depth: int) -> Any:
        if self.kind is None:
            return np.zeros((0, 0))
        if depth > DEEPEST:
            raise _Damaged(f"cells nested more than {DEEPEST} deep")
        if self.kind == _CELL:
            return self._reshaped(self._matrices(math.prod(self.shape), depth))
        if self.kind == _STRUCT:
            return self._structures(depth)
        if self.kind == _CHAR:
            return self._texts()
        if self.kind in _NUMERIC:
            return self._numbers()
        raise _Damaged(f"{_OTHERS.get(self.kind, f'class {self.kind}')} (`{self.name}`)")

    def _matrices(self, count: int, depth: int) -> list[Any]:
        """The values of the next `count` elements, each a matrix."""
        if count * 8 > len(self.content):  # before memory is allocated for them
            raise _Damaged(f"{count:,} cells in {len(self.content):,} bytes")
        values = []
        for _ in range(count):
            kind, content = self.content.element()
            if kind != _MATRIX:
                raise _Damaged(f"an element of type {kind} in place of a cell")
            values.append(_Matrix(content).value(depth + 1))
        return values

    def _structures(self, depth: int) -> Any:
        lengths = self.content.numbers()
        if lengths.shape != (1,) or not 0 < lengths[0] <= 64:
            raise _Damaged("a structure without the length of its names")
        length = int(lengths[0])
        kind, content = self.content.element()
        if kind not in (1, 2) or len(content) % length:
            raise _Damaged("a structure without the names of its fields")
        raw = bytes(content.view)
        fields = [raw[at : at + length].split(b"\0")[0] for at in range(0, len(raw), length)]
        names = [name.decode("latin-1") for name in fields]
        count = math.prod(self.shape)
        if len({*names}) < len(names) or (count > 1 and not names):
            raise _Damaged("a structure whose fields have no names, or a name twice")
        values = self._matrices(count * len(names), depth)
        width = len(names)
        dicts = [
            dict(zip(names, values[at * width : (at + 1) * width], strict=True))
            for at in range(count)
        ]
        return dicts[0] if self.shape == (1, 1) else self._reshaped(dicts)

    def _texts(self) -> str | npt.NDArray[np.object_]:
        text = self.content.text() if self.content else ""
        if self.shape[0] <= 1:
            return text
        if len(self.shape) > 2 or len(text) != math.prod(self.shape):
            raise _Damaged(f"{len(text):,} letters in a text of size {self.shape}")
        rows = [text[row :: self.shape[0]].rstrip() for row in range(self.shape[0])]
        return np.array(rows, object)

    def _numbers(self) -> npt.NDArray[Any]:
        numbers = self.content.numbers()
        if self.flags & _COMPLEX:
            imaginary = self.content.numbers()
            if len(imaginary) != len(numbers):
                raise _Damaged("complex numbers whose parts differ in length")
            both = np.empty(len(numbers), complex)
            both.real, both.imag = numbers, imaginary
            numbers = both
        if self.flags & _LOGICAL:
            numbers = numbers != 0
        return self._reshaped(numbers)

    def _reshaped(self, values: list[Any] | npt.NDArray[Any]) -> npt.NDArray[Any]:
        if not isinstance(values, np.ndarray):
            array = np.empty(len(values), object)
            for place, value in enumerate(values):  # one assignment of all would unpack arrays
                array[place] = value
            values = array
        try:
            return values.reshape(self.shape, order="F")
        except ValueError:
            raise _Damaged(f"{len(values):,} values in an array of size {self.shape}") from None
