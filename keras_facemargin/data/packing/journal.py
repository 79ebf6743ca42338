"""What an interrupted call has done so far, in one file that is replaced in one step."""

import contextlib
import json
import os

from keras_facemargin.files import read_text

_TEXT = {"encoding": "utf-8", "errors": "surrogateescape"}


class Journal:
    """What is done so far, replaced whole."""

    def __init__(self, file):
        self.file = file
        try:
            self.state = json.loads(read_text(file, "a journal of `pack`"))
        except FileNotFoundError:
            self.state = {}
        except (json.JSONDecodeError, RecursionError):
            self.state = None
        if not isinstance(self.state, dict):
            raise ValueError(
                f"{file} must be a journal of `pack`. Received: another file. Remove it to start "
                "from the beginning."
            )

    def write(self, state):
        draft = self.file + ".draft"
        with open(draft, "w", **_TEXT) as stream:
            json.dump(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, self.file)
        self.state = state

    def remove(self):
        for file in (self.file, self.file + ".draft"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(file)
