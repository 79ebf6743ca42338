"""PyTorch's checkpoints (`.pt`, `.pth`, `.ckpt`), of the zip form and of the one before it.

Both forms hold a pickle of dictionaries and tensors, and the tensors' data apart. The pickle is
never loaded: `PickleWalk` interprets it with the names that PyTorch writes for tensors, and refuses
every other name. So a checkpoint that pickles a whole module is refused too.
"""

import dataclasses
import io
import math
import os
import pathlib
import typing
import zipfile

import numpy as np

from keras_facemargin.pickles import Name, PickleWalk, Span, read_span
from keras_facemargin.zoo.readers.contents import (
    Problem,
    State,
    Tensor,
    checked_count,
    reading,
)

_MAGIC = 0x1950A86A20F9469CFC6C
_TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
    "QInt8Storage": "i1",
    "QUInt8Storage": "u1",
}
# What a quantized linear layer is called in a state: (weights, bias).
_PACKED = "._packed_params._packed_params"
_MOST_LEVELS = 20
_LARGEST_ZERO_POINT = 255
_LONGEST_TEXT = 10_000


def read(path: str | os.PathLike[str]) -> State:
    """Reads all tensors of a checkpoint.

    Args:
        path: the file.

    Returns:
        Tensors by name. Names in dictionaries of dictionaries are joined by dots; what is not a
        tensor is left out. bfloat16 becomes float32, and so do integers with one scale for a
        tensor; a quantized linear layer has the names of another one, `weight` and `bias`.

    Raises:
        BadFile: the file is not a checkpoint of tensors, names a function that does not belong in
            one, or is damaged.
        OSError: it cannot be read.
    """
    data = pathlib.Path(path).read_bytes()
    with reading(path, "a PyTorch checkpoint of tensors"):
        read_form = _read_zip if data.startswith(b"PK\x03\x04") else _read_legacy
        root, storages = read_form(io.BytesIO(data), len(data))
        state: State = {}
        _collect(root, "", 0, set(), storages, state)
        if not state:
            raise Problem("a checkpoint without tensors.")
        return state


@dataclasses.dataclass(frozen=True)
class _Storage:
    kind: str
    key: str
    count: int


@dataclasses.dataclass(frozen=True)
class _TensorOf:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _QuantizedOf:
    """Integers: value = scale * (integer - zero_point)."""

    integers: _TensorOf
    scale: float
    zero_point: int


class _Opaque:
    """A value that is not read: a number of NumPy, for example."""


class _Walk(PickleWalk):
    """The walk over a checkpoint's pickle."""

    names: typing.ClassVar[dict[str, str]] = {
        "collections OrderedDict": "dictionary",
        "torch Size": "size",
        "torch._utils _rebuild_tensor": "tensor",
        "torch._utils _rebuild_tensor_v2": "tensor",
        "torch._utils _rebuild_parameter": "parameter",
        "torch._utils _rebuild_qtensor": "quantized",
        "torch per_tensor_affine": "one scale",
        "torch qint8": "opaque",
        "torch quint8": "opaque",
        "numpy dtype": "opaque",
        "numpy.core.multiarray scalar": "opaque",
        "numpy._core.multiarray scalar": "opaque",
        "_codecs encode": "opaque",
        **{f"torch {kind}": kind for kind in _TYPES},
    }
    content = "tensors"

    def refuse(self, problem: str) -> Exception:
        return Problem(f"a pickle that is refused: {problem}.")

    def push_span(self, span: Span) -> None:
        """Texts become text at once; longer ones stay where they are."""
        if span.length > _LONGEST_TEXT:
            super().push_span(span)
            return
        value = read_span(self.stream, span)
        self.stream.seek(self.position)
        self._push(value.decode("latin-1") if isinstance(value, bytes) else value)

    def make(self, meaning: str, arguments: tuple[typing.Any, ...]) -> typing.Any:
        match meaning, arguments:
            case "dictionary", ():
                return {}
            case "dictionary", (list() as pairs,):
                return self._dictionary([each for pair in pairs for each in pair])
            case "size", (tuple() as sizes,):
                return sizes
            case "tensor", (
                _Storage() as storage,
                int() as offset,
                tuple() as shape,
                tuple() as strides,
                *_,
            ):
                return _TensorOf(storage, offset, shape, strides)
            case "quantized", (
                _Storage() as storage,
                int() as offset,
                tuple() as shape,
                tuple() as strides,
                (Name("one scale"), float() as scale, int() as zero_point),
                *_,
            ):
                return _QuantizedOf(_TensorOf(storage, offset, shape, strides), scale, zero_point)
            case "parameter", (_TensorOf() | _QuantizedOf() as tensor, *_):
                return tensor
            case "opaque", _:
                return _Opaque()

    def build(self, target: typing.Any, state: typing.Any) -> bool:
        return isinstance(target, dict | _Opaque)  # an OrderedDict's `_metadata` is not needed

    def _dictionary(self, items: list[typing.Any]) -> dict[str | int, typing.Any]:
        if len(items) % 2 or not all(type(key) in (str, int) for key in items[::2]):
            raise self.error("a dictionary has keys that are neither texts nor whole numbers")
        return dict(zip(items[::2], items[1::2], strict=True))

    def _EMPTY_DICT(self) -> None:
        self._push({})

    def _DICT(self) -> None:
        self._push(self._dictionary(self._since_mark()))

    def _SETITEM(self) -> None:
        self._update(self._pop(2))

    def _SETITEMS(self) -> None:
        self._update(self._since_mark())

    def _update(self, items: list[typing.Any]) -> None:
        (target,) = self._pop(1)
        if not isinstance(target, dict):
            raise self.error(f"an item is set in {self.kind(target)}")
        target.update(self._dictionary(items))
        self._push(target)

    def _BINPERSID(self) -> None:
        match self._pop(1)[0]:
            case ("storage", Name(kind), str() as key, _, int() as count, *rest) if (
                kind in _TYPES and rest in ([], [None])
            ):
                self._push(_Storage(kind, key, count))
            case _:
                raise self.error("the place of a tensor's data is not known here")


def _read_zip(stream: typing.BinaryIO, size: int) -> tuple[typing.Any, "_Storages"]:
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        if sum(each.file_size for each in members) > size:
            raise Problem("a zip archive whose files are larger than the archive.")
        if any(each.compress_type != zipfile.ZIP_STORED for each in members):
            raise Problem("a compressed zip archive; PyTorch writes none.")
        pickles = [each for each in members if each.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise Problem(f"a zip archive with {len(pickles)} files named data.pkl.")
        folder = pickles[0].filename.removesuffix("data.pkl")
        parts = {each.filename: each for each in members}
        order = parts.get(f"{folder}byteorder")
        if order is not None and archive.read(order) != b"little":
            raise Problem("numbers with the high byte first.")
        with archive.open(pickles[0]) as member:
            root = _Walk(typing.cast(typing.BinaryIO, member), pickles[0].file_size).walk()
        prefix = f"{folder}data/"
        data = {
            name.removeprefix(prefix): archive.read(each)
            for name, each in parts.items()
            if name.startswith(prefix)
        }
    return root, _Storages(data)


def _read_legacy(stream: typing.BinaryIO, size: int) -> tuple[typing.Any, "_Storages"]:
    """Five pickles, magic, protocol, system, object and keys, then each storage's data."""
    walks = (_Walk(stream, size).walk() for _ in range(5))
    if next(walks) != _MAGIC:
        raise Problem("a pickle that is not PyTorch's.")
    _, system, root, keys = walks
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise Problem("numbers with the high byte first.")
    if not isinstance(keys, list):
        raise Problem("no list of storages.")
    storages = _Storages({})
    storages.declare(root)
    for key in keys:
        count = int.from_bytes(stream.read(8), "little")
        kind = storages.kinds.get(key) if isinstance(key, str) else None
        if kind is None:
            raise Problem("data that no tensor uses.")
        length = count * np.dtype(_TYPES[kind]).itemsize
        if length > size - stream.tell():
            raise Problem("a tensor that the end of the file cuts off.")
        storages.data[key] = stream.read(length)
    return root, storages


class _Storages:
    """The tensors' data by key, each converted once."""

    def __init__(self, data: dict[str, bytes]):
        self.data = data
        self.kinds: dict[str, str] = {}
        self._arrays: dict[str, Tensor] = {}

    def declare(self, root: typing.Any) -> None:
        """Notes the type of every storage that the object uses."""
        seen: set[int] = set()
        waiting = [root]
        while waiting:
            value = waiting.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, dict):
                waiting += value.values()
            elif isinstance(value, list | tuple):
                waiting += value
            elif isinstance(value, _QuantizedOf):
                waiting.append(value.integers)
            elif isinstance(value, _TensorOf):
                self.kinds[value.storage.key] = value.storage.kind

    def tensor(self, place: _TensorOf) -> Tensor:
        """A view on the storage; nothing is copied."""
        whole = self._array(place.storage)
        sides, strides = place.shape, place.strides
        numbers = (place.offset, *sides, *strides)
        if len(sides) != len(strides) or not all(type(each) is int for each in numbers):
            raise Problem("a tensor with a shape that is not of whole numbers.")
        if min(numbers) < 0 or len(sides) > 16:
            raise Problem(f"a tensor of shape {sides!s:.80} at place {place.offset}.")
        count = checked_count(sides, whole.size, "a tensor")
        last = place.offset + sum((n - 1) * step for n, step in zip(sides, strides, strict=True))
        if count == 0:
            return np.zeros(sides, whole.dtype)
        if last >= whole.size:
            raise Problem(f"a tensor of shape {sides!s:.80} that exceeds its data.")
        steps = [step * whole.itemsize for step in strides]
        return np.lib.stride_tricks.as_strided(whole[place.offset :], sides, steps, writeable=False)

    def numbers(self, place: _QuantizedOf) -> Tensor:
        """The float32 numbers that the integers mean."""
        if not (math.isfinite(place.scale) and abs(place.zero_point) <= _LARGEST_ZERO_POINT):
            raise Problem(f"a scale {place.scale} and a zero point {place.zero_point!s:.40}.")
        integers = self.tensor(place.integers).astype("float32")
        values: Tensor = (integers - np.float32(place.zero_point)) * np.float32(place.scale)
        return values

    def _array(self, storage: _Storage) -> Tensor:
        if storage.key not in self._arrays:
            dtype = np.dtype(_TYPES[storage.kind])
            if storage.key not in self.data:
                raise Problem(f"a tensor whose data {storage.key!r:.40} is missing.")
            data = self.data[storage.key]
            if len(data) % dtype.itemsize:
                raise Problem(f"{len(data):,} bytes of {storage.kind}.")
            array = np.frombuffer(data, dtype)
            if storage.kind == "BFloat16Storage":  # the upper half of a float32
                array = (array.astype("<u4") << 16).view("<f4")
            self._arrays[storage.key] = array
        array = self._arrays[storage.key]
        if array.size < storage.count:
            raise Problem(f"{array.size:,} numbers where {storage.count:,} are announced.")
        return array


def _collect(
    value: typing.Any,
    name: str,
    level: int,
    seen: set[int],
    storages: _Storages,
    state: State,
) -> None:
    """Adds the tensors of nested dictionaries; each dictionary once, however often it is used."""
    if isinstance(value, _TensorOf):
        state[name] = storages.tensor(value)
    elif isinstance(value, _QuantizedOf):
        state[name] = storages.numbers(value)
    elif isinstance(value, tuple) and len(value) == 2 and name.endswith(_PACKED):
        for part, each in zip(("weight", "bias"), value, strict=True):
            full = f"{name.removesuffix(_PACKED)}.{part}"
            _collect(each, full, level + 1, seen, storages, state)
    elif isinstance(value, dict) and id(value) not in seen:
        if level > _MOST_LEVELS:
            raise Problem(f"dictionaries in more than {_MOST_LEVELS} levels.")
        seen.add(id(value))
        for key, each in value.items():
            full = f"{name}.{key}" if name else str(key)
            _collect(each, full, level + 1, seen, storages, state)
