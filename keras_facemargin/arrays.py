"""Checks of arrays from callers: they refuse what NumPy would change silently.

- `identifiers` takes the names of people, templates, folds or groups. NumPy makes one type of
  ``[1, "1"]``, and two people become one; it counts every NaN as the same person.
- `real_numbers` takes embeddings and scores. NumPy drops the imaginary part of complex numbers.
- `embedding_rows` takes embeddings: real and signed, one a row.
- `row_numbers` takes indices of rows. NumPy cuts 1.7 to 1 and counts -1 from the end.
- `read_npz` reads the arrays of a file. NumPy raises a dozen kinds of errors for a damaged one, and
  allocates an array of any size that the file claims.
"""

import math
import warnings
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

# Above it float64 does not represent every whole number.
_EXACT = 2**53

_KINDS = {"i": "whole numbers", "u": "whole numbers", "b": "truth values"}
_KINDS |= {"U": "texts", "T": "texts", "S": "bytes"}


def identifiers(**named: npt.ArrayLike) -> tuple[npt.NDArray[Any], ...]:
    """Identifiers of one kind: all whole numbers, or all texts.

    Args:
        **named: argument's name -> its identifiers, ``(N,)`` each. Those of one call are compared
            with each other, so that they must be of one kind.

    Returns:
        An array for each, in the order given. Floats that are whole numbers become integers.

    Raises:
        ValueError: there are two kinds among them, or one that is neither, such as NaN, ``None`` or
            a fraction.

    Example:
        >>> identifiers(labels=["ann", "bob"])[0].tolist()
        ['ann', 'bob']
        >>> identifiers(labels=[1, "1"])
        Traceback (most recent call last):
            ...
        ValueError: `labels` must be all whole numbers or all texts. Received: int and str.
    """
    arrays = [_identifiers(name, values) for name, values in named.items()]
    kinds = {_KINDS[array.dtype.kind] for array in arrays if array.size}
    if len(kinds) > 1:
        of_each = ", ".join(
            f"{_KINDS[array.dtype.kind]} in `{name}`"
            for name, array in zip(named, arrays, strict=True)
        )
        raise ValueError(
            f"{' and '.join(f'`{name}`' for name in named)} must be all whole numbers or all "
            f"texts, because they are compared. Received: {of_each}."
        )
    if len({array.dtype for array in arrays}) > 1 and kinds == {"whole numbers"}:
        # NumPy makes float64 of int64 and uint64 together.
        arrays = [_signed(name, array) for name, array in zip(named, arrays, strict=True)]
    return tuple(arrays)


def real_numbers(values: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    """An array of real numbers, of the type that they have.

    Raises:
        ValueError: they are complex, texts or objects, or rows of different lengths.

    Example:
        >>> real_numbers([0.5, 1], "scores").tolist()
        [0.5, 1.0]
    """
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(
            f"`{name}` must hold rows of one length. Received: rows of different lengths."
        ) from None
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"`{name}` must hold real numbers. Received: an array of type {array.dtype}. Pass an "
            "array of a float type."
        )
    return array


def embedding_rows(embeddings: npt.ArrayLike, name: str = "embeddings") -> npt.NDArray[Any]:
    """Embeddings as an array ``(N, D)`` of the type that they have.

    Raises:
        ValueError: they are not of that shape, not real, or of an unsigned type: a quantised
            embedding without its zero point, whose cosines mean nothing.

    Example:
        >>> embedding_rows([[0.5, -1.0]]).shape
        (1, 2)
    """
    array = real_numbers(embeddings, name)
    if array.dtype.kind in "ub":
        raise ValueError(
            f"`{name}` must hold signed numbers. Received: an array of type {array.dtype}. "
            "Dequantise it, (rows.astype('float32') - zero_point) * scale, or convert it to "
            "float32 if the numbers are meant as they are."
        )
    if array.ndim != 2:
        raise ValueError(f"`{name}` must be of shape (N, D). Received: shape {array.shape}.")
    return array


def row_numbers(rows: npt.ArrayLike, name: str, count: int) -> npt.NDArray[np.intp]:
    """Indices of `count` rows, from 0, as an array ``(P,)``.

    Raises:
        ValueError: they are not whole numbers or not of that shape.
        IndexError: a row does not exist.

    Example:
        >>> row_numbers([0, 2], "first", 3).tolist()
        [0, 2]
    """
    array = np.asarray(rows)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(
            f"`{name}` must hold whole numbers, of shape (P,). Received: an array of type "
            f"{array.dtype} and shape {array.shape}."
        )
    if array.size and not 0 <= array.min() <= array.max() < count:
        raise IndexError(
            f"`{name}` must hold rows, 0 to {count - 1:,}. Received: {array.min():,} to "
            f"{array.max():,}."
        )
    return array.astype(np.intp, copy=False)


def read_npz(file) -> dict:
    """The arrays of a .npz file by name; no array is larger than the bytes that hold it.

    Raises:
        ValueError: the file is not a .npz file, is damaged, or holds Python objects, which NumPy
            makes by executing it.
        OSError: it cannot be opened.

    Example:
        >>> np.savez("two.npz", rows=np.eye(2))
        >>> read_npz("two.npz")["rows"].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    with open(file, "rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about headers from Python 2
        try:
            with zipfile.ZipFile(stream) as archive:
                return {
                    each.filename.removesuffix(".npy"): _read_npy(archive, each)
                    for each in archive.infolist()
                }
        except Exception as error:  # zipfile, zlib and numpy have one each for every damage
            raise ValueError(
                f"{file}: must be a .npz file of arrays. Received: a file that is damaged or of "
                f"another kind ({type(error).__name__}: {error!s:.200})."
            ) from None


def _read_npy(archive, member):
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, by_columns, dtype = read_header(stream)
        if dtype.hasobject:
            raise ValueError(f"Python objects in {member.filename}")
        count = math.prod(shape)
        size = count * dtype.itemsize
        empty = count and not dtype.itemsize  # empty texts: NumPy allocates one letter each
        if empty or min(shape, default=0) < 0 or size != member.file_size - stream.tell():
            raise ValueError(f"{member.filename} of another size than {shape} of {dtype}")
        array = np.empty(count, dtype)
        content, filled = memoryview(array.view("u1")) if size else b"", 0
        while filled < size:
            part = stream.read(min(size - filled, 2**20))
            if not part:
                raise ValueError(f"{member.filename} that is cut short")
            content[filled : filled + len(part)] = part
            filled += len(part)
        if stream.read(1):  # and the checksum is compared
            raise ValueError(f"{member.filename} of more bytes than its size")
    return array.reshape(shape, order="F" if by_columns else "C")


def _identifiers(name, values):
    rule = f"`{name}` must be all whole numbers or all texts."
    array = values if hasattr(values, "__array__") else None
    if array is not None:
        array = np.asarray(array)
    if array is None or array.dtype == object:
        # Before NumPy makes one type of them.
        items = list(values) if array is None else array.ravel().tolist()
        types = {type(item) for item in items}
        kinds = {_kind_of(each) for each in types}
        if None in kinds or len(kinds) > 1:
            found = " and ".join(sorted(each.__name__ for each in types))
            raise ValueError(f"{rule} Received: {found}.")
        made = np.array(items)
        array = made if array is None else made.reshape(array.shape)
        if kinds == {"whole"} and array.dtype.kind not in "iu":
            raise ValueError(f"{rule} Received: whole numbers of more than 64 bits.")
    if array.dtype.kind == "f":
        array = _whole(rule, array)
    if array.dtype.kind not in _KINDS:
        raise ValueError(f"{rule} Received: an array of type {array.dtype}.")
    return array


def _kind_of(one):
    """The kind of a Python type, or ``None`` for any other type."""
    of_type = (
        ("text", str),
        ("bytes", bytes),
        ("truth", bool | np.bool_),
        ("whole", int | np.integer),
        ("float", float | np.floating),
    )
    return next((kind for kind, types in of_type if issubclass(one, types)), None)


def _whole(rule, array):
    wrong = ~(np.abs(array) < _EXACT) | (array != np.floor(array))  # NaN is not less
    if wrong.any():
        raise ValueError(f"{rule} Received: {array[wrong][0]}.")
    return array.astype(np.int64)


def _signed(name, array):
    if array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(
            f"`{name}` must fit in 64 bits with a sign, to be compared with numbers of that type. "
            f"Received: {array.max()}."
        )
    return array.astype(np.int64)
