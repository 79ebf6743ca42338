"""A file is written whole or not at all."""

import contextlib
import json
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


def write_json(path, record):
    """Writes plain data as JSON, whole or not at all.

    Args:
        path: as `whole_file`.
        record: dicts, lists, texts and finite numbers.

    Raises:
        ValueError: if a number is not finite, which JSON cannot say.
        OSError: as `whole_file`.

    Example:
        >>> write_json("rates.json", {"eer": 0.03})
        >>> json.loads(Path("rates.json").read_text())
        {'eer': 0.03}
    """
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    with whole_file(path) as file:
        file.write(text + "\n")
