"""Hides the output of the converters, so that the user sees one verdict."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator

from keras_facemargin.export.verdict import ExportError


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides what converters print; prints all of it after an unexpected error.

    TensorFlow, LiteRT and XLA write to file descriptor 2 from C++, past `sys.stderr`; their Python
    halves log. A conversion prints 20 to 100 such lines, and a user can act on none of them.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow", "tf2onnx")]
    levels = [logger.level for logger in loggers]
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        except ExportError:  # names layer and op
            raise
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
