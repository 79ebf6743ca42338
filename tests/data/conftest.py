"""Fixtures of the tests of containers."""

import contextlib

import pytest

from keras_facemargin.data.formats.shared_file import SharedFile


@pytest.fixture
def bytes_read_by(monkeypatch):
    """Calls a function, which may refuse the file, and returns how many bytes the readers read."""
    original, lengths = SharedFile.read, []

    def read(self, start, length):
        data = original(self, start, length)
        lengths.append(len(data))
        return data

    def call(function, *arguments, **options):
        lengths.clear()
        with contextlib.suppress(ValueError):
            function(*arguments, **options)
        return sum(lengths)

    monkeypatch.setattr(SharedFile, "read", read)
    return call
