"""InsightFace's verification files, `lfw.bin` and its like, without executing them.

**Bytes.** A Python pickle of two sequences: `2 N` encoded images, of which numbers `2 i` and
`2 i + 1` are pair i, and N truths, whether a pair is of one person. Found in the wild: pickles of
Python 2 and 3, of any protocol, the images as byte strings or as uint8 arrays of what
`cv2.imencode` gave, `(n,)` or `(n, 1)`, in a list or in an array of objects; the truths as bools or
as the numbers 0 and 1, in a list or in an array.

**Why not `pickle.load`.** A pickle is a program for a small machine that may call any function of
any module, and a file from elsewhere would be free to do so. Here no pickle is loaded:
`pickles.PickleWalk` walks over the instructions that such files need, and this module lists the
names by which numpy and Python spell bytes, dtypes and arrays, and states what they mean. None of
them is called. Every other name and every other instruction is refused.

The walk passes over the images and notes where each lies. So a file is open in as much memory as
its table takes, and an image is read when it is wanted.
"""

import dataclasses
import math
import os
import struct

import numpy as np

from keras_facemargin.files import atomic_write
from keras_facemargin.images.image import BadImage, read_bytes
from keras_facemargin.pickles import RAW, TEXTS, Name, PickleWalk, Span, read_span

# Names that may stand in a file, under numpy 1 and 2, Python 2 and 3; and what they stand for.
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

    Held in memory: 32 bytes an image, and one image while it is read; threads and forked
    processes may read from one object at once. While the file is opened its instructions are
    walked over once, in memory that is bounded by its size (a few hundred bytes for an image), and
    what a file says about sizes is believed only as far as it has bytes. Nothing of it is executed.

    Args:
        file: the `.bin` file.

    Attributes:
        file: the file, a string.
        same: bool array `(N,)`, True for pairs of one person.
        images: sequence of the `2 N` images, pair i at `2 i` and `2 i + 1`; each has
            `read_bytes()`, and `read_face` takes it.

    Raises:
        ValueError: the file is no such pickle, ends early, names a function that has no place in
            it (the message names it), or has not two images for each truth.
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

    def __init__(self, file):
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

    def __len__(self):
        return len(self.same)

    def __iter__(self):
        for row, same in enumerate(self.same.tolist()):
            yield self.images[2 * row], self.images[2 * row + 1], same

    def __repr__(self):
        genuine = np.count_nonzero(self.same)
        return f"<PairsBin {self.file!r}: {len(self):,} pairs, {genuine:,} of one person>"


def write_pairs_bin(file, images, same):
    """Writes a verification file as InsightFace's own loaders read it under Python 3.

    A pickle of protocol 3: a list of bytes and a list of bools. Images are written one by one.

    Args:
        file: the `.bin` file.
        images: `2 N` encoded images, each the bytes of an image file or what `read_face` takes,
            pair i at `2 i` and `2 i + 1`.
        same: N bools, whether a pair is of one person.

    Raises:
        ValueError: there are not twice as many images as truths, or none.
        OSError: a file cannot be read or written. Nothing is left of the `.bin` then.

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
            "There must be two images for each truth, and a pair at least. "
            f"Received: {len(images):,} images, {len(same):,} truths"
        )
    with atomic_write(file, "wb") as stream:
        stream.write(b"\x80\x03](")  # protocol 3, an empty list, a mark
        for image in images:
            image = image if isinstance(image, bytes) else read_bytes(image)
            stream.write(b"B" + struct.pack("<I", len(image)) + image)
        stream.write(b"e](")  # all since the mark into the list; the same for the truths
        stream.write(b"".join(b"\x88" if each else b"\x89" for each in same))
        stream.write(b"e\x86.")  # both lists into a tuple; the end


@dataclasses.dataclass(frozen=True)
class BinImage:
    """An image in a verification file, read when it is wanted; `read_face` takes it like a path."""

    images: "_Images"
    row: int

    def read_bytes(self):
        """The bytes of the image file."""
        return self.images.read(self.row)

    def __str__(self):
        return f"{self.images.file}, image {self.row}"


class _Images:
    """Where the images lie in the file; one is read when it is asked for."""

    def __init__(self, file, rows):
        self.file = file
        self._rows = rows

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [BinImage(self, row) for row in range(*index.indices(len(self)))]
        return BinImage(self, range(len(self))[index])

    def read(self, row):
        offset, length, coding, expected = self._rows[row].tolist()
        with open(self.file, "rb") as stream:
            data = _read(stream, Span(offset, length, coding), f"{self.file}, image {row}")
        if expected not in (-1, len(data)):
            raise BadImage(
                f"{self.file}, image {row}",
                f"an array of {expected:,} bytes must hold so many. Received: {len(data):,}.",
            )
        return data


# What the walk finds, instead of objects.


@dataclasses.dataclass(slots=True)
class _Dtype:
    name: str
    big: bool = False


@dataclasses.dataclass(slots=True)
class _Array:
    dtype: _Dtype | None = None
    shape: tuple = ()
    data: Span | None = None
    items: list | None = None  # of an array of objects, in place of `data`


class _Walk(PickleWalk):
    """The walk over a file of pairs: strings, arrays of numpy, lists, tuples, ints and bools."""

    names = _NAMES
    content = "images and truths"

    def __init__(self, stream, file, size):
        super().__init__(stream, size)
        self._file = file

    def refuse(self, problem):
        return ValueError(_not_pairs(self._file, problem))

    def kind(self, value):
        return _kind(value)

    def walk(self):
        found = super().walk()
        if self.position != self.size:
            raise self.error(f"{self.size - self.position:,} bytes follow the end")
        return found

    def make(self, meaning, arguments):
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

    def build(self, target, state):
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


def _kind(value):
    """What an error calls something found in a file, never what it holds."""
    if isinstance(value, _Array) and value.dtype is not None:
        return f"an array of dtype {value.dtype.name!r} and {len(value.shape)} dimensions"
    kinds = {Span: "a string", Name: "a name", _Dtype: "a dtype", _Array: "an array"}
    return kinds.get(type(value), f"a {type(value).__name__}" if value is not None else "nothing")


def _not_pairs(file, what):
    return (
        f"{file}: a verification file must be a pickle of two sequences, 2 N encoded images and N "
        f"truths. Received: {what}. If it is a file of your own, write it with write_pairs_bin."
    )


def _read(stream, span, name):
    """The bytes of a span; the text where it stands for one."""
    try:
        return read_span(stream, span)
    except EOFError:
        raise BadImage(name, "the file has become shorter since it was opened.") from None
    except ValueError as error:
        raise BadImage(
            name, f"its bytes are coded as text, and the code is broken: {error}"
        ) from None


def _sequence(value):
    """The items of an array of objects as a list; anything else as it is."""
    if isinstance(value, _Array) and value.items is not None and value.shape == (len(value.items),):
        return value.items
    return value


def _image(value, number, file):
    """Offset, length, coding and expected bytes (-1: whatever there are) of an image."""
    expected = -1
    if isinstance(value, _Array):
        shape = value.shape
        if not (
            value.data is not None
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
                    f"image {number} as an array of dtype {shown!r} and {len(shape)} dimensions, "
                    "where only the uint8 bytes of an encoded image, (n,) or (n, 1), are taken: "
                    "of decoded pixels the file does not say whether they are RGB or BGR. Encode "
                    "them",
                )
            )
        expected, value = math.prod(shape), value.data
    if not isinstance(value, Span) or value.coding in TEXTS:
        raise ValueError(_not_pairs(file, f"image {number} as {_kind(value)}, not as bytes"))
    return value.offset, value.length, value.coding, expected


def _truths(value, stream, file):
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
    value = np.array(value)
    if value.ndim != 1 or not np.isin(value, (0, 1)).all():
        raise ValueError(_not_pairs(file, f"truths of shape {value.shape}, not all 0 or 1"))
    return value.astype("bool")


def _numbers(value, stream, file):
    """An array of truths as numpy has it."""
    whole = {"b1": "?", "|b1": "?", "bool": "?", "u1": "u1", "i1": "i1", "i4": "i4", "i8": "i8"}
    dtypes = whole | {"f4": "f4", "f8": "f8"}
    data = b""
    if value.data is not None and value.data.coding not in TEXTS:
        data = _read(stream, value.data, file)
    dtype = np.dtype(dtypes.get(value.dtype.name, "V1") if value.dtype else "V1")
    dtype = dtype.newbyteorder(">" if value.dtype and value.dtype.big else "<")
    counts = all(type(side) is int and side >= 0 for side in value.shape) and len(value.shape) < 3
    if dtype.kind == "V" or not counts or math.prod(value.shape) * dtype.itemsize != len(data):
        raise ValueError(
            _not_pairs(file, "truths as an array whose dtype, shape and bytes do not agree")
        )
    return np.frombuffer(data, dtype).reshape(value.shape)
