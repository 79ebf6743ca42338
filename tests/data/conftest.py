"""What several tests of containers watch: how much of a file is read."""

import contextlib

import pytest

from keras_facemargin.data.formats.shared_file import SharedFile


@pytest.fixture
def bytes_read_by(monkeypatch):
    """Calls a function, which may refuse the file; how many bytes the readers read meanwhile."""
    original, lengths = SharedFile.read, []

    def read(self, start, length):
        data = original(self, start, length)
        lengths.append(len(data))
        return data

    def call(function, *arguments):
        lengths.clear()
        with contextlib.suppress(ValueError):
            function(*arguments)
        return sum(lengths)

    monkeypatch.setattr(SharedFile, "read", read)
    return call
