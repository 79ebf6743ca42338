"""Imports Keras when a command needs it, because the import takes seconds."""

import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def with_keras(command: Callable[P, T]) -> Callable[P, T]:
    """Imports Keras and registers the classes of the package before the command runs.

    Args:
        command: the function of a command.

    Returns:
        A function of the same name, options and help.
    """

    @functools.wraps(command)
    def opened(*arguments: P.args, **options: P.kwargs) -> T:
        open_keras()
        return command(*arguments, **options)

    return opened


def open_keras() -> None:
    """Imports Keras and registers the package's classes, as `import keras_facemargin` does.

    Raises:
        ImportError: if no backend of Keras is installed. The message names the extra to install.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # warnings and errors only
    with without_greetings():
        import keras_facemargin.registered  # noqa: F401


@contextlib.contextmanager
def without_greetings() -> Iterator[None]:
    """Holds standard error back and writes it only if the block fails.

    TensorFlow 2.21 writes some lines during its import (oneDNN is on, absl is not initialised) that
    no setting turns off. They come from C++, so the file descriptor itself is redirected.
    """
    if "tensorflow" in sys.modules or sys.stderr is None:  # None: the process has no standard error
        yield
        return
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(screen, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(screen, 2)
            os.close(screen)
