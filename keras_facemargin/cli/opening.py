"""Opens Keras and embedders when a command needs them, because the import takes seconds."""

import contextlib
import dataclasses
import functools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from keras_facemargin.cli.options import read_crop

if TYPE_CHECKING:
    from keras_facemargin.zoo import Embedder

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


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """The options of a command that name its embedders.

    Attributes:
        names: --model, once or several times.
        crop, pixels: --crop and --pixels, for the files among them whose input is not known.
    """

    names: Sequence[str]
    crop: str | None
    pixels: str | None

    def open(self) -> "dict[str, Embedder]":
        """Opens the embedders, by name; Keras only if one of them needs it.

        Raises:
            ValueError: as `open_embedder`; --crop or --pixels is given and the input of every
                model is known.
        """
        from keras_facemargin.zoo import open_embedder, runs_as_it_is, states_its_input

        crop = None if self.crop is None else read_crop(self.crop)
        with without_greetings():
            unknown = {name for name in self.names if not states_its_input(name)}
        opened = {}
        for name in self.names:
            asks = name in unknown or not unknown  # else only the other files need the options
            if not runs_as_it_is(name):
                open_keras()
            with without_greetings():
                opened[name] = open_embedder(
                    name, crop=crop if asks else None, pixels=self.pixels if asks else None
                )
        return opened


def open_model(name: str, crop: str | None, pixels: str | None) -> "Embedder":
    """Opens the embedder of a command that takes one; see `ModelOptions.open`."""
    return ModelOptions([name], crop, pixels).open()[name]


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

    LiteRT names its delegate there. TensorFlow 2.21 writes some lines during its import (oneDNN is
    on, absl is not initialised) that no setting turns off. They come from C++, so the file
    descriptor itself is redirected.
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
