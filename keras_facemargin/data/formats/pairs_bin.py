"""InsightFace's verification files, `lfw.bin` and its like, without executing them.

**Bytes.** A Python pickle of two sequences: `2 N` encoded images, of which numbers `2 i` and
`2 i + 1` are pair i, and N truths, whether a pair is of one person. Found in the wild: pickles of
Python 2 and 3, of any protocol, the images as byte strings or as uint8 arrays of what
`cv2.imencode` gave, `(n,)` or `(n, 1)`, in a list or in an array of objects; the truths as bools or
as the numbers 0 and 1, in a list or in an array.

**Why not `pickle.load`.** A pickle is a program for a small machine that may call any function of
any module, and a file from elsewhere would be free to do so. Here no pickle is loaded: a reader of
this module's own walks over the instructions that such files need, and where one names a function
it knows the names by which numpy and Python spell bytes, dtypes and arrays, and what they mean.
It calls none of them. Every other name and every other instruction is refused.

The walk passes over the images and notes where each lies. So a file is open in as much memory as
its table takes, and an image is read when it is wanted.
"""

import codecs
import dataclasses
import math
import os
import pickletools
import struct

import numpy as np

from keras_facemargin.files import atomic_write
from keras_facemargin.images.image import BadImage, read_bytes

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
# Files of images need far fewer instructions than bytes; more of them would only fill the memory.
_FREE_INSTRUCTIONS, _BYTES_EACH = 1 << 16, 16
_LONGEST_NAME = 100
_LONGEST_NUMBER = 24  # characters
_LONGEST_LINE = 1 << 26
_INSTRUCTIONS = {ord(each.code): each.name for each in pickletools.opcodes}


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
            data = _read(stream, _Span(offset, length, coding), f"{self.file}, image {row}")
        if expected not in (-1, len(data)):
            raise BadImage(
                f"{self.file}, image {row}",
                f"an array of {expected:,} bytes must hold so many. Received: {len(data):,}.",
            )
        return data


# What the walk finds, instead of objects.

# How the bytes of a span are to be taken: as they are, as text in UTF-8 or with Python's escapes
# (protocol 0), and as the bytes that such a text stands for in Latin-1.
_RAW, _UTF8, _ESCAPED, _QUOTED, _LATIN_UTF8, _LATIN_ESCAPED = range(6)
_TEXTS = {_UTF8: _LATIN_UTF8, _ESCAPED: _LATIN_ESCAPED}


@dataclasses.dataclass(slots=True)
class _Span:
    """A string of any kind, left where it lies."""

    offset: int
    length: int
    coding: int


@dataclasses.dataclass(slots=True)
class _Name:
    """A name of the list above: its meaning."""

    meaning: str


@dataclasses.dataclass(slots=True)
class _Dtype:
    name: str
    big: bool = False


@dataclasses.dataclass(slots=True)
class _Array:
    dtype: _Dtype | None = None
    shape: tuple = ()
    data: _Span | None = None
    items: list | None = None  # of an array of objects, in place of `data`


class _Walk:
    """Walks over the instructions of a pickle; calls nothing and allocates what it has read."""

    def __init__(self, stream, file, size):
        self._stream = stream
        self._file = file
        self._size = size
        self._at = 0  # of the instruction, for errors
        self._position = 0
        self._stack = []
        self._marks = []
        self._memo = {}

    def walk(self):
        """The object of the pickle, made of the classes above, lists, tuples, ints and bools."""
        for _ in range(_FREE_INSTRUCTIONS + self._size // _BYTES_EACH):
            self._at = self._position
            code = self._take(1)[0]
            name = _INSTRUCTIONS.get(code)
            if name == "STOP":
                return self._end()
            step = getattr(self, f"_{name}", None)
            if step is None:
                what = f"the instruction {name}" if name else f"the byte {code:#04x}"
                raise self._error(f"{what} has no place in a file of images and truths")
            step()
        raise self._error("it has too many instructions for its size")

    def _error(self, what):
        return ValueError(_not_pairs(self._file, f"at byte {self._at:,} {what}"))

    def _end(self):
        if self._position != self._size:
            raise self._error(f"{self._size - self._position:,} bytes follow the end")
        if self._marks or len(self._stack) != 1:
            raise self._error("the end comes in the middle")
        return self._stack[0]

    # Reading.

    def _take(self, count):
        data = self._stream.read(count)
        self._position += len(data)
        if len(data) != count:
            raise self._error("it ends in the middle: the file was cut off")
        return data

    def _number(self, form):
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self, longest):
        line = self._stream.readline(longest + 1)
        self._position += len(line)
        if not line.endswith(b"\n"):
            cut = self._position == self._size
            raise self._error("it ends in the middle" if cut else "a line is too long")
        return line[:-1]

    def _span(self, length, coding):
        start = self._position
        if not 0 <= length <= self._size - start:
            raise self._error(
                f"{length:,} bytes are announced and {self._size - start:,} are left: the file was "
                "cut off, or is damaged"
            )
        self._position += length
        self._stream.seek(self._position)
        self._stack.append(_Span(start, length, coding))

    def _text(self, value):
        """A short string of the file, for names."""
        if not isinstance(value, _Span) or value.length > _LONGEST_NAME:
            raise self._error(f"a short name must stand, not {_kind(value)}")
        text = _read(self._stream, value, self._file)
        self._stream.seek(self._position)
        return text.decode("latin-1") if isinstance(text, bytes) else text

    # The stack.

    def _pop(self, count):
        floor = self._marks[-1] if self._marks else 0
        if len(self._stack) - floor < count:
            raise self._error("more is taken than was laid down")
        taken = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return taken

    def _since_mark(self):
        if not self._marks:
            raise self._error("there is no mark to go back to")
        start = self._marks.pop()
        taken = self._stack[start:]
        del self._stack[start:]
        return taken

    def _extend(self, items):
        (target,) = self._pop(1)
        if not isinstance(target, list):
            raise self._error(f"something is added to {_kind(target)}, which is no list")
        target.extend(items)
        self._stack.append(target)

    # Instructions, by the names that `pickletools` gives them. First those that frame.

    def _PROTO(self):
        if (version := self._number("<B")) > 5:
            raise self._error(f"protocol {version} is announced, and there are 0 to 5")

    def _FRAME(self):
        self._take(8)  # how much a loader might read ahead

    def _MARK(self):
        self._marks.append(len(self._stack))

    # Numbers and constants.

    def _NONE(self):
        self._stack.append(None)

    def _NEWTRUE(self):
        self._stack.append(True)

    def _NEWFALSE(self):
        self._stack.append(False)

    def _BININT(self):
        self._stack.append(self._number("<i"))

    def _BININT1(self):
        self._stack.append(self._number("<B"))

    def _BININT2(self):
        self._stack.append(self._number("<H"))

    def _LONG1(self):
        length = self._number("<B")
        if length > 8:
            raise self._error(f"a number of {length} bytes stands, and 8 are enough")
        self._stack.append(int.from_bytes(self._take(length), "little", signed=True))

    def _INT(self):
        line = self._line(_LONGEST_NUMBER)
        self._stack.append({b"00": False, b"01": True}.get(line, self._digits(line)))

    def _LONG(self):
        self._stack.append(self._digits(self._line(_LONGEST_NUMBER).removesuffix(b"L")))

    def _digits(self, text):
        if not text.removeprefix(b"-").isdigit():
            raise self._error(f"a number must stand, not {text!r}")
        return int(text)

    def _BINFLOAT(self):
        self._stack.append(self._number(">d"))

    def _FLOAT(self):
        line = self._line(_LONGEST_NUMBER)
        try:
            self._stack.append(float(line))
        except ValueError:
            raise self._error(f"a number must stand, not {line!r}") from None

    # Strings, passed over.

    def _SHORT_BINBYTES(self):
        self._span(self._number("<B"), _RAW)

    def _BINBYTES(self):
        self._span(self._number("<I"), _RAW)

    def _BINBYTES8(self):
        self._span(self._number("<Q"), _RAW)

    _BYTEARRAY8 = _BINBYTES8
    _SHORT_BINSTRING = _SHORT_BINBYTES  # Python 2's

    def _BINSTRING(self):
        self._span(self._number("<i"), _RAW)

    def _SHORT_BINUNICODE(self):
        self._span(self._number("<B"), _UTF8)

    def _BINUNICODE(self):
        self._span(self._number("<I"), _UTF8)

    def _BINUNICODE8(self):
        self._span(self._number("<Q"), _UTF8)

    def _STRING(self):
        line = self._line(_LONGEST_LINE)
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
            raise self._error("a string must stand in quotes")
        self._stack.append(_Span(self._position - len(line), len(line) - 2, _QUOTED))

    def _UNICODE(self):
        line = self._line(_LONGEST_LINE)
        self._stack.append(_Span(self._position - len(line) - 1, len(line), _ESCAPED))

    # Sequences.

    def _EMPTY_LIST(self):
        self._stack.append([])

    def _LIST(self):
        self._stack.append(self._since_mark())

    def _APPEND(self):
        self._extend(self._pop(1))

    def _APPENDS(self):
        self._extend(self._since_mark())

    def _EMPTY_TUPLE(self):
        self._stack.append(())

    def _TUPLE(self):
        self._stack.append(tuple(self._since_mark()))

    def _TUPLE1(self):
        self._stack.append(tuple(self._pop(1)))

    def _TUPLE2(self):
        self._stack.append(tuple(self._pop(2)))

    def _TUPLE3(self):
        self._stack.append(tuple(self._pop(3)))

    # The memo.

    def _put(self, key):
        self._memo[key] = self._pop(1)[0]
        self._stack.append(self._memo[key])

    def _get(self, key):
        if key not in self._memo:
            raise self._error(f"number {key} is recalled, which was never put by")
        self._stack.append(self._memo[key])

    def _PUT(self):
        self._put(self._digits(self._line(_LONGEST_NUMBER)))

    def _BINPUT(self):
        self._put(self._number("<B"))

    def _LONG_BINPUT(self):
        self._put(self._number("<I"))

    def _MEMOIZE(self):
        self._put(len(self._memo))

    def _GET(self):
        self._get(self._digits(self._line(_LONGEST_NUMBER)))

    def _BINGET(self):
        self._get(self._number("<B"))

    def _LONG_BINGET(self):
        self._get(self._number("<I"))

    # Names, and what is done with those that are known.

    def _GLOBAL(self):
        module, name = self._line(_LONGEST_NAME), self._line(_LONGEST_NAME)
        self._name(module.decode("latin-1"), name.decode("latin-1"))

    _INST = _GLOBAL  # Python 2's call of a class: its name is refused, or else it has no mark

    def _STACK_GLOBAL(self):
        self._name(*map(self._text, self._pop(2)))

    def _name(self, module, name):
        meaning = _NAMES.get(f"{module} {name}")
        if meaning is None:
            raise self._error(
                f"it would call {module + '.' + name!r}: that is refused, and nothing of the file "
                "was executed. Do not trust a file of an origin that you do not know"
            )
        self._stack.append(_Name(meaning))

    def _REDUCE(self):
        name, arguments = self._pop(2)
        made = None
        if isinstance(name, _Name) and isinstance(arguments, tuple):
            made = self._made(name.meaning, arguments)
        if made is None:
            meaning = name.meaning if isinstance(name, _Name) else _kind(name)
            kinds = ", ".join(map(_kind, arguments[:5])) if isinstance(arguments, tuple) else "?"
            raise self._error(f"{meaning} is given what numpy never gives it: {kinds}")
        self._stack.append(made)

    def _made(self, meaning, arguments):
        match meaning, arguments:
            case "bytes", ():
                return _Span(self._position, 0, _RAW)
            case "encode", (_Span(coding=coding) as text, codec) if coding in _TEXTS and self._text(
                codec
            ) in ("latin1", "latin-1"):
                return _Span(text.offset, text.length, _TEXTS[coding])
            case "bytearray", ():
                return _Span(self._position, 0, _RAW)
            case "bytearray", (_Span(coding=coding) as data,) if coding not in _TEXTS:
                return data
            case "bytearray", (_Span(coding=coding) as text, codec) if (
                coding in _TEXTS and self._text(codec) in ("latin1", "latin-1")
            ):
                return _Span(text.offset, text.length, _TEXTS[coding])
            case "dtype", (name, 0, 1):
                return _Dtype(self._text(name))
            case "reconstruct", (_Name("array"), (0,), _Span()):
                return _Array()
            case "frombuffer", (_Span() as data, _Dtype() as dtype, tuple() as shape, _):
                return _Array(dtype, shape, data)
            case "scalar", (_Dtype() as dtype, _Span() as data):
                return _Array(dtype, (), data)

    def _BUILD(self):
        target, state = self._pop(2)
        match target, state:
            case _Dtype(), (int(), order, *_):
                target.big = self._text(order) == ">"
            case _Array(data=None), (1, tuple() as shape, _Dtype() as dtype, _, _Span() as data):
                target.dtype, target.shape, target.data = dtype, shape, data
            case _Array(data=None), (1, tuple() as shape, _Dtype() as dtype, _, list() as items):
                target.dtype, target.shape, target.items = dtype, shape, items
            case _:
                raise self._error(f"{_kind(target)} is given a state that is not read here")
        self._stack.append(target)


def _kind(value):
    """What an error calls something found in a file, never what it holds."""
    if isinstance(value, _Array) and value.dtype is not None:
        return f"an array of dtype {value.dtype.name!r} and {len(value.shape)} dimensions"
    kinds = {_Span: "a string", _Name: "a name", _Dtype: "a dtype", _Array: "an array"}
    return kinds.get(type(value), f"a {type(value).__name__}" if value is not None else "nothing")


def _not_pairs(file, what):
    return (
        f"{file}: a verification file must be a pickle of two sequences, 2 N encoded images and N "
        f"truths. Received: {what}. If it is a file of your own, write it with write_pairs_bin."
    )


def _read(stream, span, name):
    """The bytes of a span; the text where it stands for one."""
    stream.seek(span.offset)
    data = stream.read(span.length)
    if len(data) != span.length:
        raise BadImage(name, "the file has become shorter since it was opened.")
    try:
        if span.coding == _QUOTED:
            return codecs.escape_decode(data)[0]
        if span.coding in (_UTF8, _LATIN_UTF8):
            data = data.decode("utf-8", "surrogatepass")
        elif span.coding in (_ESCAPED, _LATIN_ESCAPED):
            data = data.decode("raw-unicode-escape")
        return data.encode("latin-1") if span.coding in _TEXTS.values() else data
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
    if not isinstance(value, _Span) or value.coding in _TEXTS:
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
    if value.data is not None and value.data.coding not in _TEXTS:
        data = _read(stream, value.data, file)
    dtype = np.dtype(dtypes.get(value.dtype.name, "V1") if value.dtype else "V1")
    dtype = dtype.newbyteorder(">" if value.dtype and value.dtype.big else "<")
    counts = all(type(side) is int and side >= 0 for side in value.shape) and len(value.shape) < 3
    if dtype.kind == "V" or not counts or math.prod(value.shape) * dtype.itemsize != len(data):
        raise ValueError(
            _not_pairs(file, "truths as an array whose dtype, shape and bytes do not agree")
        )
    return np.frombuffer(data, dtype).reshape(value.shape)
