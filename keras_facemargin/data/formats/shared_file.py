"""A file that threads and processes read at the same time."""

import bisect
import os
import weakref
from collections.abc import Callable, Sequence
from typing import Any

FileName = str | os.PathLike[str]

_STRIDE = 1 << 20  # bytes that a search reads at a time


class SharedFile:
    """An open file without a shared position: each read names its own (`os.pread`).

    A copy that was pickled opens the file again.

    Args:
        name: the file.

    Attributes:
        name: the file, a string.
        size: its bytes when it was opened.

    Raises:
        OSError: the file cannot be opened.
    """

    name: str
    size: int
    _descriptor: int | None

    def __init__(self, name: FileName) -> None:
        self.name = os.fspath(name)
        self._open()

    def read(self, start: int, length: int) -> bytes:
        """Bytes of the file, fewer at its end.

        Raises:
            ValueError: the file was closed.
        """
        if self._descriptor is None:
            raise ValueError(f"Cannot read from a closed file. Received: {self.name}")
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, length, start)
        with open(self.name, "rb") as file:  # Windows: each read has its own position
            file.seek(start)
            return file.read(length)

    def close(self) -> None:
        """Closes the file; without this call, garbage collection closes it."""
        self._descriptor = None
        self._closer()

    def _open(self) -> None:
        descriptor = os.open(self.name, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._descriptor = descriptor
        self._closer = weakref.finalize(self, os.close, descriptor)
        self.size = os.fstat(descriptor).st_size

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "size": self.size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.name = state["name"]
        self._open()
        if self.size != state["size"]:
            raise ValueError(
                "A file that another process opens again must not have changed. "
                f"Received: {self.name} of {self.size:,} bytes, not {state['size']:,}"
            )


class ForwardSearch:
    """Finds the next beginning of something in a damaged file, for ascending places.

    The result of each read is kept for the next search. So each byte is searched once, however many
    damaged places a file has.

    Args:
        file: the file.
        find: function of `(block, offset)`: bytes of the file, and their place in it. It returns an
            ascending list of the places in the block at which something begins.
        width: bytes that `find` needs to judge a place.
    """

    def __init__(
        self, file: SharedFile, find: Callable[[bytes, int], Sequence[int]], width: int
    ) -> None:
        self._file = file
        self._find = find
        self._width = width
        self._stop = 0  # end of the bytes that were searched last
        self._found: list[int] = []

    def next(self, offset: int) -> int:
        """The first beginning at or after `offset`, or the end of the file."""
        while offset < self._file.size:
            if offset >= self._stop:
                block = self._file.read(offset, _STRIDE + self._width - 1)
                self._found = [offset + place for place in self._find(block, offset)]
                self._stop = offset + _STRIDE
            row = bisect.bisect_left(self._found, offset)
            if row < len(self._found):
                return self._found[row]
            offset = self._stop
        return self._file.size
