"""Tensors in the safetensors format.

Eight bytes, the length of the header; the header, JSON with type, shape and place of each tensor;
the data. The format is small enough to be read here, without another dependency.
"""

import json
import os
import pathlib
import typing

import numpy as np

from keras_facemargin.zoo.readers.contents import (
    Problem,
    State,
    Tensor,
    checked_count,
    reading,
)

_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
_LONGEST_HEADER = 100_000_000  # the format's own limit


def read(path: str | os.PathLike[str]) -> State:
    """Reads all tensors.

    Args:
        path: the `.safetensors` file.

    Returns:
        Tensors by name, in the order of the header. bfloat16 becomes float32.

    Raises:
        BadFile: the file is damaged, or is of another kind.
        OSError: it cannot be read.
    """
    data = pathlib.Path(path).read_bytes()
    with reading(path, "a safetensors file"):
        length = int.from_bytes(data[:8], "little")
        if len(data) < 8 or length > min(len(data) - 8, _LONGEST_HEADER):
            raise Problem("a header that is longer than the file.")
        header = json.loads(data[8 : 8 + length].decode("utf-8"))
        body = memoryview(data)[8 + length :]
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        _check_places(entries, len(body))
        return {name: _tensor(name, entry, body) for name, entry in entries.items()}


def _check_places(entries: dict[str, typing.Any], size: int) -> None:
    """Tensors fill the body without gap or overlap, as the format demands."""
    end = 0
    for start, stop in sorted(tuple(entry["data_offsets"]) for entry in entries.values()):
        if start != end or stop < start:
            raise Problem(f"a tensor at bytes {start:,} to {stop:,}, where {end:,} is due.")
        end = stop
    if end != size:
        raise Problem(f"tensors of {end:,} bytes in a body of {size:,}.")


def _tensor(name: str, entry: dict[str, typing.Any], body: memoryview) -> Tensor:
    if entry["dtype"] not in _TYPES:
        raise Problem(f"the tensor {name!r:.80} of type {entry['dtype']!r:.20}.")
    dtype = np.dtype(_TYPES[entry["dtype"]])
    start, stop = entry["data_offsets"]
    shape = tuple(entry["shape"])
    count = checked_count(shape, (stop - start) // dtype.itemsize, f"the tensor {name!r:.80}")
    if count * dtype.itemsize != stop - start:
        raise Problem(f"the tensor {name!r:.80} of shape {shape!s:.80} in {stop - start:,} bytes.")
    array = np.frombuffer(body, dtype, count, start).reshape(shape)
    if entry["dtype"] == "BF16":  # the upper half of a float32
        array = (array.astype("<u4") << 16).view("<f4")
    return array
