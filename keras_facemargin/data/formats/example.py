"""`tf.train.Example`, the protocol buffer in TFRecord files, without TensorFlow."""

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_facemargin.images.image import BadImage

_FLOAT = struct.Struct("<I")

Span = tuple[int, int]  # start and stop of bytes in a payload


def pack_example(features: Mapping[str, bytes | int]) -> bytes:
    """A `tf.train.Example` as bytes.

    Args:
        features: dict from a name to bytes or to an int.

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


def unpack_example(payload: bytes, name: object = "<example>") -> dict[str, list[Any]]:
    """The features of a `tf.train.Example`.

    Args:
        payload: bytes.
        name: name of the example in errors.

    Returns:
        dict from a name to a list of bytes, ints or floats.

    Raises:
        BadImage: the bytes are not a `tf.train.Example`.

    Example:
        >>> unpack_example(pack_example({"label": 3, "name": b"Ada"}))
        {'label': [3], 'name': [b'Ada']}
    """
    return {
        key: [payload[a:b] for a, b in values] if kind == 1 else values
        for key, (kind, values) in read_features(payload, name).items()
    }


def _field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Damaged(Exception):
    """A message whose bytes are damaged."""


def read_features(payload: bytes, place: object) -> dict[str, tuple[int, list[Any]]]:
    """The features of an example, without a copy of their bytes.

    Args:
        payload: bytes.
        place: name of the example in errors.

    Returns:
        dict from a name to `(1, spans of byte strings)`, `(2, floats)` or `(3, ints)`.

    Raises:
        BadImage: the bytes are not a `tf.train.Example`.
    """
    found = {}
    try:
        for features in _parts(payload, (0, len(payload)), 1):
            for entry in _parts(payload, features, 1):
                key, kind = "", 0
                values: list[Any] = []
                for number, part in _fields(payload, *entry):
                    if number == 1 and isinstance(part, tuple):
                        key = payload[slice(*part)].decode("utf-8", "replace")
                    elif number == 2 and isinstance(part, tuple):
                        for kind, each in _fields(payload, *part):
                            values = _values(payload, kind, each)
                found[key] = kind, values
    except _Damaged as error:
        raise BadImage(place, f"its bytes are not a tf.train.Example: {error}.") from None
    return found


def _parts(payload: bytes, bounds: Span, wanted: int) -> Iterator[Span]:
    """The spans of the fields of one number in a message; other fields are skipped."""
    for number, part in _fields(payload, *bounds):
        if number == wanted and isinstance(part, tuple):
            yield part


def _values(payload: bytes, kind: int, part: Span | int) -> list[Any]:
    if not isinstance(part, tuple) or kind not in (1, 2, 3):
        raise _Damaged("a feature must be a list of bytes, floats or integers")
    values: list[Any] = []
    for number, each in _fields(payload, *part):
        if number != 1:
            continue
        if kind == 1:
            if not isinstance(each, tuple):
                raise _Damaged("it has a number in place of bytes")
            values.append(each)
        elif kind == 2:
            data = payload[slice(*each)] if isinstance(each, tuple) else _FLOAT.pack(each)
            if len(data) % 4:
                raise _Damaged("floats must have four bytes each")
            values += np.frombuffer(data, "<f4").tolist()
        elif isinstance(each, tuple):
            start, stop = each
            while start < stop:
                value, start = _read_varint(payload, start, stop)
                values.append(value - (value >> 63 << 64))
        else:
            values.append(each - (each >> 63 << 64))
    return values


def _fields(payload: bytes, start: int, stop: int) -> Iterator[tuple[int, Span | int]]:
    """Yields number and value of each field; a value is a span or an int."""
    while start < stop:
        value: Span | int
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
                raise _Damaged(f"a field announces {length:,} bytes of {stop - start:,}")
            value = start, start + length
            start += length
        else:
            raise _Damaged(f"a field has the unknown wire type {wire}")
        yield tag >> 3, value


def _read_varint(payload: bytes, start: int, stop: int) -> tuple[int, int]:
    """A number and the byte after it."""
    value = shift = 0
    while True:
        if start >= stop or shift > 63:
            raise _Damaged("a number is cut off" if start >= stop else "a number is too long")
        byte = payload[start]
        value |= (byte & 0x7F) << shift
        start, shift = start + 1, shift + 7
        if byte < 0x80:
            return value & (1 << 64) - 1, start
