"""Opens Keras and embedders when a command needs them, because the import takes seconds."""

import contextlib
import dataclasses
import functools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from keras_facemargin.cli.options import read_crop, value_of_each

if TYPE_CHECKING:
    from keras_facemargin.images import Crop
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
        crop, pixels: --crop and --pixels, for the files among them whose input is not known; once,
            or for each file.
    """

    names: Sequence[str]
    crop: Sequence[str] | str | None
    pixels: Sequence[str] | str | None

    def open(self) -> "dict[str, Embedder]":
        """Opens the embedders, by name; Keras only if one of them needs it.

        Raises:
            ValueError: as `open_embedder`; --crop or --pixels is given and the input of every
                model is known.
        """
        from keras_facemargin.zoo import open_embedder, runs_as_it_is

        crops, pixels = self.inputs()
        opened = {}
        for name in self.names:
            if not runs_as_it_is(name):
                open_keras()
            with without_greetings():
                opened[name] = open_embedder(name, crop=crops.get(name), pixels=pixels.get(name))
        return opened

    def inputs(self) -> "tuple[dict[str, Crop], dict[str, str]]":
        """The crop and the pixels that the options name, of each model that they are for.

        Raises:
            ValueError: an option does not have its form, or names a file that is not a model.
        """
        from keras_facemargin.zoo import states_its_input

        if self.crop is None and self.pixels is None:
            return {}, {}
        with without_greetings():
            unknown = [name for name in self.names if not states_its_input(name)]
        # If no file needs the options, `open_embedder` refuses them.
        each = functools.partial(value_of_each, models=self.names, unknown=unknown or self.names)
        crops = each("--crop", _listed(self.crop))
        return (
            {name: read_crop(text) for name, text in crops.items()},
            each("--pixels", _listed(self.pixels)),
        )


def _listed(option: Sequence[str] | str | None) -> Sequence[str]:
    return [option] if isinstance(option, str) else option or ()


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
