"""A file is written whole or not at all."""

import contextlib
import os
import tempfile
from pathlib import Path


@contextlib.contextmanager
def whole_file(path, mode="w"):
    """Opens a draft beside `path` that takes its place when the block ends without an error.

    Whatever happens on the way, under `path` there is the old file or the whole new one.

    Args:
        path: the file to write or replace; its folder must exist.
        mode: "w" for UTF-8 text, "wb" for bytes.

    Raises:
        OSError: if the draft cannot be written or moved.

    Example:
        >>> with whole_file("note.txt") as file:
        ...     _ = file.write("whole")
        >>> Path("note.txt").read_text()
        'whole'
    """
    path = Path(path)
    # Beside its place, so that moving it there is one step that cannot be seen half done.
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".draft")
    try:
        with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
