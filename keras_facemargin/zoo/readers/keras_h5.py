"""Weights in Keras' older HDF5 form (`.h5`), of a model or of weights alone."""

import math
import os
import re
import struct
import typing

import numpy as np

from keras_facemargin.zoo.readers.contents import Problem, State, checked_count, reading

_HEAP = re.compile(re.escape(b"GCOL\x01\0\0\0"))
_LIST = re.compile(rb"(?:layer|weight)_names\d*\0")
_VARIABLE = 9  # class of texts of any length
# The type of such texts: texts, ASCII or UTF-8, 16 bytes each in the list, made of bytes.
_TEXTS = re.compile(rb"\x19\x01[\0\x01]\0\x10\0\0\0" rb"\x10\0\0\0\x01\0\0\0\0\0\x08\0", re.DOTALL)
_HEADER = 16  # bytes of the head of a heap, and of an object in it
_SUPERBLOCK = 96  # bytes of the head of the file


def read(path: str | os.PathLike[str]) -> State:
    """Reads the weights of all layers, in the order in which the file lists them.

    The network that such a file may also describe is not built: its description may hold pickled
    Python.

    Args:
        path: the `.h5` file.

    Returns:
        Weights by "layer/weight" as the file names them.

    Raises:
        BadFile: the file is not of this form, or is damaged.
        OSError: it cannot be read.
    """
    import h5py

    size = os.stat(path).st_size
    with reading(path, "Keras weights in an .h5 file"):
        with open(path, "rb") as file:
            _check(file.read())
        try:
            with h5py.File(path, "r") as file:
                return _weights(file.get("model_weights", file), size)
        except OSError as error:  # h5py's for damage; that the file can be read is known
            raise Problem(
                "a file that is damaged or of another kind. Copy or download it again."
            ) from error


def _check(data: bytes) -> None:
    """Refuses damage on which HDF5's own reading crashes, never ends or takes all memory.

    Both are in the lists of names: texts in a heap, and for each text its length and its place.
    """
    if len(data) < _SUPERBLOCK or data[13:15] != b"\x08\x08":  # bytes of an offset, of a size
        raise Problem("a file without the head that HDF5 files of Keras have.")
    for heap in re.finditer(_HEAP, data):
        _check_heap(data, heap.start())
    for name in re.finditer(_LIST, data):
        _check_list(data, name)


def _check_heap(data: bytes, start: int) -> None:
    """A heap: "GCOL", version 1, its size, and objects, one after the other.

    An object: number, count, size, content up to a multiple of 8 bytes. Object 0 is the free space,
    whose size includes its head.
    """
    size = _number("<Q", data, start + 8)
    end, place = start + size, start + _HEADER
    if end > len(data):
        raise Problem(f"a heap of {size:,} bytes in a file of {len(data):,}.")
    while end - place >= _HEADER:  # a smaller rest is free
        number, length = _number("<H", data, place), _number("<Q", data, place + 8)
        place += length if number == 0 else _HEADER + -(-length // 8) * 8
        if length > size or (number == 0 and length < _HEADER):
            raise Problem(f"an object of {length:,} bytes in a heap of {size:,}.")


def _check_list(data: bytes, name: re.Match[bytes]) -> None:
    """An attribute, from its name: head, name, type, shape, values, in version 1 padded to 8 bytes.

    Versions 2 and 3 are not padded; 3 has one more byte in its head.
    """
    shown, start = name[0][:-1].decode(), name.start()
    if data[start - 8] == 1:
        head, step = start - 8, 8
    elif data[start - 9] == 3 and data[start - 8] == 0:
        head, step = start - 9, 1
    else:
        raise Problem(f"the list {shown!r} in a form that Keras does not write.")
    sizes = (_number("<H", data, head + place) for place in (2, 4, 6))
    of_name, of_type, of_shape = (-(-size // step) * step for size in sizes)
    type = start + of_name
    if data[type] & 15 != _VARIABLE:
        return  # texts of one length are in the attribute itself
    if not _TEXTS.match(data, type):
        raise Problem(f"the list {shown!r} of another type than h5py's texts.")
    shape = type + of_type
    dimensions = shape + (8 if data[shape] == 1 else 4)
    count = math.prod(_number("<Q", data, dimensions + 8 * axis) for axis in range(data[shape + 1]))
    values = shape + of_shape
    if count > (len(data) - values) // 16:
        raise Problem(f"the list {shown!r} of {count:,} texts.")
    for place in range(values, values + 16 * count, 16):
        if _number("<I", data, place) > len(data):
            raise Problem(f"a text in the list {shown!r} that is longer than the file.")


def _number(form: str, data: bytes, place: int) -> int:
    number: int = struct.unpack_from(form, data, place)[0]
    return number


def _weights(root: typing.Any, size: int) -> State:
    state: State = {}
    if "layer_names" not in root.attrs:
        raise Problem("a file that does not list its layers.")
    for layer in _texts(root.attrs, "layer_names", size):
        group = root[layer]
        for name in _texts(group.attrs, "weight_names", size):
            data = group[name]
            # Compressed data may be larger than the file, and a link may lead elsewhere.
            if data.dtype.kind not in "fiu" or data.external or data.is_virtual:
                raise Problem(f"the weight {name!r:.80} of type {data.dtype}.")
            checked_count(data.shape, size // data.dtype.itemsize, f"the weight {name!r:.80}")
            state[f"{layer}/{name}"] = np.asarray(data)
    if not state:
        raise Problem("a file without weights.")
    return state


def _texts(attributes: typing.Any, name: str, size: int) -> list[str]:
    """A list of names; Keras splits a long one over `name0`, `name1` and so on."""
    parts = _part(attributes, name, size) if name in attributes else []
    number = 0
    while f"{name}{number}" in attributes:
        parts += _part(attributes, f"{name}{number}", size)
        number += 1
    return [each.decode("utf-8") if isinstance(each, bytes) else str(each) for each in parts]


def _part(attributes: typing.Any, name: str, size: int) -> list[typing.Any]:
    place = attributes.get_id(name)
    checked_count(place.shape, size // max(place.dtype.itemsize, 1), f"the list {name!r}")
    if place.dtype.kind not in "SO" and 0 not in place.shape:  # an empty list has no type
        raise Problem(f"the list {name!r} of type {place.dtype}.")
    return list(attributes[name])
