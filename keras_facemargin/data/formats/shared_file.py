"""A file that threads and processes read at once, each from the place that it names."""

import bisect
import os
import weakref

_STRIDE = 1 << 20  # bytes that a search reads at a time


class SharedFile:
    """Reads leave no position behind (`os.pread`); a pickled one opens the file again.

    Args:
        name: the file.

    Attributes:
        name: the file, a string.
        size: its bytes when it was opened.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, name):
        self.name = os.fspath(name)
        self._open()

    def read(self, start, length):
        """Bytes of the file, fewer at its end.

        Raises:
            ValueError: the file was closed.
        """
        if self._descriptor is None:
            raise ValueError(f"A closed reader reads no more. Received: a read of {self.name}")
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, length, start)
        with open(self.name, "rb") as file:  # Windows: a position of its own for each read
            file.seek(start)
            return file.read(length)

    def close(self):
        """Closes the file; without it, garbage collection does."""
        self._descriptor = None
        self._closer()

    def _open(self):
        self._descriptor = os.open(self.name, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._closer = weakref.finalize(self, os.close, self._descriptor)
        self.size = os.fstat(self._descriptor).st_size

    def __getstate__(self):
        return {"name": self.name, "size": self.size}

    def __setstate__(self, state):
        self.name = state["name"]
        self._open()
        if self.size != state["size"]:
            raise ValueError(
                "A reader that is opened again, in another process, must find the same file. "
                f"Received: {self.name} of {self.size:,} bytes, not {state['size']:,}"
            )


class ForwardSearch:
    """Where something next begins in a damaged file, for places that are asked in ascending order.

    What a read found is kept for the next question. So each byte is searched once, however many
    damaged places a file has.

    Args:
        file: a `SharedFile`.
        find: function of `(block, offset)`, bytes of the file and where they begin in it, to an
            ascending list of the places in the block at which something begins.
        width: bytes that `find` needs to judge a place.
    """

    def __init__(self, file, find, width):
        self._file = file
        self._find = find
        self._width = width
        self._stop = 0  # of the bytes that were searched last
        self._found = []

    def next(self, offset):
        """The first place from `offset` on, or the end of the file."""
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
