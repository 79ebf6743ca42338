"""The progress of an interrupted call, in one file that is replaced in one step."""

import contextlib
import json
import os
from typing import Any

from keras_facemargin.files import read_text


class Journal:
    """The progress of `pack_faces`, on disk.

    Args:
        file: the journal; it need not exist.

    Attributes:
        state: dict of the last `write`, empty at first.

    Raises:
        ValueError: the file is not a journal.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        state: Any = None
        try:
            state = json.loads(read_text(file, "a journal of `pack`"))
        except FileNotFoundError:
            state = {}
        except (json.JSONDecodeError, RecursionError):
            pass
        if not isinstance(state, dict):
            raise ValueError(
                f"{file} must be a journal of `pack`. Received: another file. Remove it to start "
                "from the beginning."
            )
        self.state: dict[str, Any] = state

    def write(self, state: dict[str, Any]) -> None:
        """Replaces the journal, after its bytes are on the disk."""
        draft = self.file + ".draft"
        with open(draft, "w", encoding="utf-8", errors="surrogateescape") as stream:
            json.dump(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, self.file)
        self.state = state

    def remove(self) -> None:
        """Removes the journal."""
        for file in (self.file, self.file + ".draft"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(file)
