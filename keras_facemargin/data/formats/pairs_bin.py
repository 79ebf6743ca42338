"""InsightFace's verification files, `lfw.bin` and others, without executing them.

**Bytes.** A Python pickle of two sequences: `2 N` encoded images, of which numbers `2 i` and
`2 i + 1` are pair i, and N truths: whether a pair shows one person. Published files are pickles of
Python 2 and 3, of any protocol. Their images are byte strings or the uint8 arrays of
`cv2.imencode`, `(n,)` or `(n, 1)`, in a list or in an array of objects; their truths are bools or
the numbers 0 and 1, in a list or in an array.

**Why not `pickle.load`.** A pickle is a program that may call any function of any module, also in a
file of unknown origin. This module does not load a pickle: `pickles.PickleWalk` walks over the
instructions that such files need, and the names by which numpy and Python spell bytes, dtypes and
arrays are listed here with their meaning. None of them is called. Every other name and instruction
is refused.

The walk skips the images and notes their places. So an open file takes the memory of its table, and
an image is read when it is needed.
"""

import dataclasses
import math
import os
import struct
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, overload

import numpy as np
import numpy.typing as npt

from keras_facemargin.data.formats.shared_file import FileName
from keras_facemargin.files import atomic_write
from keras_facemargin.images.image import BadImage, read_bytes
from keras_facemargin.pickles import RAW, TEXTS, Name, PickleWalk, Span, read_span

# Names that a file may contain, under numpy 1 and 2, Python 2 and 3, and their meaning.
_NAMES = {
    "numpy ndarray": "array",
    "numpy dtype": "dtype",
    "numpy.core.multiarray _reconstruct": "reconstruct",
    "numpy._core.multiarray _reconstruct": "reconstruct",
    "numpy.core.multiarray scalar": "scalar",
    "numpy._core.multiarray scalar": "scalar",
    "numpy.core.numeric _frombuffer": "frombuffer",
    "numpy._core.numeric _frombuffer": "frombuffer",
    "_codecs encode": "encode",
    "__builtin__ bytes": "bytes",
    "builtins bytes": "bytes",
    "__builtin__ bytearray": "bytearray",
    "builtins bytearray": "bytearray",
}


class PairsBin:
    """The pairs of images in an InsightFace verification file.

    Memory: 32 bytes an image, and one image while it is read. Threads and forked processes may read
    from one object at the same time. When the file is opened, its instructions are walked over
    once, in memory that is bounded by its size (a few hundred bytes an image). Sizes in the file
    are limited by its bytes. Nothing in it is executed.

    Args:
        file: the `.bin` file.

    Attributes:
        file: the file, a string.
        same: bool array `(N,)`, True for pairs of one person.
        images: sequence of the `2 N` images, pair i at `2 i` and `2 i + 1`; each has
            `read_bytes()`, and `read_face` takes it.

    Raises:
        ValueError: the file is another kind of pickle, ends early, names a function that does not
            belong in it (the message names it), or does not have two images for each truth.
        OSError: the file cannot be opened.

    Example:
        >>> from keras_facemargin.images import read_face, write_synthetic_faces
        >>> files = write_synthetic_faces("people", num_identities=2, images_per_identity=2)
        >>> write_pairs_bin("two.bin", [*files[:2], files[0], files[2]], same=[True, False])
        >>> pairs = PairsBin("two.bin")
        >>> pairs, pairs.same
        (<PairsBin 'two.bin': 2 pairs, 1 of one person>, array([ True, False]))
        >>> read_face(pairs.images[3]).shape
        (112, 112, 3)
    """

    def __init__(self, file: FileName) -> None:
        self.file = os.fspath(file)
        with open(self.file, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            found = _Walk(stream, self.file, size).walk()
            if not (isinstance(found, tuple | list) and len(found) == 2):
                raise ValueError(_not_pairs(self.file, f"{_kind(found)} instead of two sequences"))
            images, same = map(_sequence, found)
            if not isinstance(images, tuple | list):
                raise ValueError(_not_pairs(self.file, f"{_kind(images)} instead of images"))
            self.same = _truths(same, stream, self.file)
        if len(images) != 2 * len(self.same) or not images:
            raise ValueError(
                _not_pairs(self.file, f"{len(images):,} images and {len(self.same):,} truths")
            )
        rows = [_image(each, number, self.file) for number, each in enumerate(images)]
        self.images = _Images(self.file, np.array(rows, "int64"))

    def __len__(self) -> int:
        return len(self.same)

    def __iter__(self) -> "Iterator[tuple[BinImage, BinImage, bool]]":
        for row, same in enumerate(self.same.tolist()):
            yield self.images[2 * row], self.images[2 * row + 1], same

    def __repr__(self) -> str:
        genuine = np.count_nonzero(self.same)
        return f"<PairsBin {self.file!r}: {len(self):,} pairs, {genuine:,} of one person>"


def write_pairs_bin(
    file: FileName, images: Sequence[Any], same: Sequence[bool] | npt.NDArray[np.bool_]
) -> None:
    """Writes a verification file that InsightFace's own loaders read under Python 3.

    A pickle of protocol 3: a list of bytes and a list of bools. Images are written one by one.

    Args:
        file: the `.bin` file.
        images: `2 N` encoded images, pair i at `2 i` and `2 i + 1`. Each is the bytes of an image
            file, or an image that `read_face` takes.
        same: N bools: whether a pair shows one person.

    Raises:
        ValueError: there are not twice as many images as truths, or none.
        OSError: a file cannot be read or written. A `.bin` is then not written.

    Example:
        >>> import pickle
        >>> from pathlib import Path
        >>> write_pairs_bin("one.bin", [b"JPEG", b"another"], [False])
        >>> pickle.loads(Path("one.bin").read_bytes(), encoding="bytes")
        ([b'JPEG', b'another'], [False])
    """
    file = os.fspath(file)
    if len(images) != 2 * len(same) or not len(images):
        raise ValueError(
            "There must be at least one pair, and two images for each truth. "
            f"Received: {len(images):,} images, {len(same):,} truths"
        )
    with atomic_write(file, "wb") as stream:
        stream.write(b"\x80\x03](")  # protocol 3, an empty list, a mark
        for image in images:
            image = image if isinstance(image, bytes) else read_bytes(image)
            stream.write(b"B" + struct.pack("<I", len(image)) + image)
        stream.write(b"e](")  # appends all since the mark to the list; a list of truths begins
        stream.write(b"".join(b"\x88" if each else b"\x89" for each in same))
        stream.write(b"e\x86.")  # makes a tuple of both lists, and ends


@dataclasses.dataclass(frozen=True)
class BinImage:
    """An image in a verification file; `read_face` takes it like a path and reads it."""

    images: "_Images"
    row: int

    def read_bytes(self) -> bytes:
        """The bytes of the image file."""
        return self.images.read(self.row)

    def __str__(self) -> str:
        return f"{self.images.file}, image {self.row}"


class _Images:
    """The places of the images in the file; an image is read when it is needed."""

    def __init__(self, file: str, rows: npt.NDArray[np.int64]) -> None:
        self.file = file
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> BinImage: ...

    @overload
    def __getitem__(self, index: slice) -> list[BinImage]: ...

    def __getitem__(self, index: int | slice) -> BinImage | list[BinImage]:
        if isinstance(index, slice):
            return [BinImage(self, row) for row in range(*index.indices(len(self)))]
        return BinImage(self, range(len(self))[index])

    def read(self, row: int) -> bytes:
        offset, length, coding, expected = self._rows[row].tolist()
        with open(self.file, "rb") as stream:
            data = _read_bytes(stream, Span(offset, length, coding), f"{self.file}, image {row}")
        if expected not in (-1, len(data)):
            raise BadImage(
                f"{self.file}, image {row}",
                f"its array must have {expected:,} bytes. Received: {len(data):,}.",
            )
        return data


# The results of the walk, in place of objects of numpy.


@dataclasses.dataclass(slots=True)
class _Dtype:
    name: str
    big: bool = False


@dataclasses.dataclass(slots=True)
class _Array:
    dtype: _Dtype | None = None
    shape: tuple[Any, ...] = ()
    data: Span | None = None
    items: list[Any] | None = None  # of an array of objects, in place of `data`


class _Walk(PickleWalk):
    """The walk over a file of pairs: strings, arrays of numpy, lists, tuples, ints and bools."""

    names = _NAMES
    content = "images and truths"

    def __init__(self, stream: BinaryIO, file: str, size: int) -> None:
        super().__init__(stream, size)
        self._file = file

    def refuse(self, problem: str) -> Exception:
        return ValueError(_not_pairs(self._file, problem))

    def kind(self, value: Any) -> str:
        return _kind(value)

    def walk(self) -> Any:
        found = super().walk()
        if self.position != self.size:
            raise self.error(f"{self.size - self.position:,} bytes follow the end")
        return found

    def make(self, meaning: str, arguments: tuple[Any, ...]) -> Any:
        match meaning, arguments:
            case "bytes", ():
                return Span(self.position, 0, RAW)
            case "encode", (Span(coding=coding) as text, codec) if coding in TEXTS and self.text(
                codec
            ) in ("latin1", "latin-1"):
                return Span(text.offset, text.length, TEXTS[coding])
            case "bytearray", ():
                return Span(self.position, 0, RAW)
            case "bytearray", (Span(coding=coding) as data,) if coding not in TEXTS:
                return data
            case "bytearray", (Span(coding=coding) as text, codec) if coding in TEXTS and self.text(
                codec
            ) in ("latin1", "latin-1"):
                return Span(text.offset, text.length, TEXTS[coding])
            case "dtype", (name, 0, 1):
                return _Dtype(self.text(name))
            case "reconstruct", (Name("array"), (0,), Span()):
                return _Array()
            case "frombuffer", (Span() as data, _Dtype() as dtype, tuple() as shape, _):
                return _Array(dtype, shape, data)
            case "scalar", (_Dtype() as dtype, Span() as data):
                return _Array(dtype, (), data)
        return None

    def build(self, target: Any, state: Any) -> bool:
        match target, state:
            case _Dtype(), (int(), order, *_):
                target.big = self.text(order) == ">"
            case _Array(data=None), (1, tuple() as shape, _Dtype() as dtype, _, Span() as data):
                target.dtype, target.shape, target.data = dtype, shape, data
            case _Array(data=None), (1, tuple() as shape, _Dtype() as dtype, _, list() as items):
                target.dtype, target.shape, target.items = dtype, shape, items
            case _:
                return False
        return True


def _kind(value: Any) -> str:
    """How an error names a value in a file. It never shows the value."""
    if isinstance(value, _Array) and value.dtype is not None:
        return f"an array of dtype {value.dtype.name!r} and {len(value.shape)} dimensions"
    kinds: dict[type[Any], str] = {
        Span: "a string",
        Name: "a name",
        _Dtype: "a dtype",
        _Array: "an array",
    }
    return kinds.get(type(value), f"a {type(value).__name__}" if value is not None else "nothing")


def _not_pairs(file: str, what: str) -> str:
    return (
        f"{file}: a verification file must be a pickle of two sequences, 2 N encoded images and N "
        f"truths. Received: {what}. Write your own files with write_pairs_bin."
    )


def _read_bytes(stream: BinaryIO, span: Span, name: str) -> bytes:
    """The bytes of a span that is not text."""
    try:
        data = read_span(stream, span)
    except EOFError:
        raise BadImage(name, "the file has become shorter since it was opened.") from None
    except ValueError as error:
        raise BadImage(
            name, f"its bytes are coded as text, and the code is damaged: {error}"
        ) from None
    assert isinstance(data, bytes)  # the callers exclude text
    return data


def _sequence(value: Any) -> Any:
    """The items of an array of objects as a list; any other value unchanged."""
    if isinstance(value, _Array) and value.items is not None and value.shape == (len(value.items),):
        return value.items
    return value


def _image(value: Any, number: int, file: str) -> tuple[int, int, int, int]:
    """Offset, length, coding and expected bytes (-1: any number) of an image."""
    expected = -1
    if isinstance(value, _Array):
        shape = value.shape
        if not (
            value.data is not None
            and value.dtype is not None
            and value.dtype.name in ("u1", "uint8", "|u1")
            and all(type(side) is int and side >= 0 for side in shape)
            and sum(side != 1 for side in shape) <= 1
            and shape
            and math.prod(shape) < 1 << 63
        ):
            shown = value.dtype.name if value.dtype else "none"
            raise ValueError(
                _not_pairs(
                    file,
                    f"image {number} as an array of dtype {shown!r} and {len(shape)} dimensions. "
                    "An image must be the uint8 bytes of an image file, (n,) or (n, 1): for "
                    "decoded pixels the file does not state RGB or BGR",
                )
            )
        expected, value = math.prod(shape), value.data
    if not isinstance(value, Span) or value.coding in TEXTS:
        raise ValueError(_not_pairs(file, f"image {number} as {_kind(value)}, not as bytes"))
    return value.offset, value.length, value.coding, expected


def _truths(value: Any, stream: BinaryIO, file: str) -> npt.NDArray[np.bool_]:
    """bool `(N,)`."""
    if isinstance(value, _Array):
        value = _numbers(value, stream, file)
    elif isinstance(value, tuple | list):
        value = [
            _numbers(each, stream, file) if isinstance(each, _Array) else each for each in value
        ]
        for number, each in enumerate(value):
            number_kinds = int | float | np.ndarray
            if not (isinstance(each, number_kinds) and np.ndim(each) == 0 and each in (0, 1)):
                shown = repr(each) if isinstance(each, int | float) else _kind(each)
                raise ValueError(_not_pairs(file, f"truth {number} as {shown}, not true or false"))
    else:
        raise ValueError(_not_pairs(file, f"{_kind(value)} instead of truths"))
    truths = np.array(value)
    if truths.ndim != 1 or not np.isin(truths, (0, 1)).all():
        raise ValueError(_not_pairs(file, f"truths of shape {truths.shape}, not all 0 or 1"))
    return truths.astype("bool")


def _numbers(value: _Array, stream: BinaryIO, file: str) -> npt.NDArray[Any]:
    """An array of truths as a numpy array."""
    whole = {"b1": "?", "|b1": "?", "bool": "?", "u1": "u1", "i1": "i1", "i4": "i4", "i8": "i8"}
    dtypes = whole | {"f4": "f4", "f8": "f8"}
    data = b""
    if value.data is not None and value.data.coding not in TEXTS:
        data = _read_bytes(stream, value.data, file)
    dtype: np.dtype[Any] = np.dtype(dtypes.get(value.dtype.name, "V1") if value.dtype else "V1")
    dtype = dtype.newbyteorder(">" if value.dtype and value.dtype.big else "<")
    counts = all(type(side) is int and side >= 0 for side in value.shape) and len(value.shape) < 3
    if dtype.kind == "V" or not counts or math.prod(value.shape) * dtype.itemsize != len(data):
        raise ValueError(
            _not_pairs(file, "truths as an array whose dtype, shape and bytes do not agree")
        )
    return np.frombuffer(data, dtype).reshape(value.shape)
