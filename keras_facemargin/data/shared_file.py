"""A file that threads and processes read at once, each from the place that it names."""

import os
import weakref


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
