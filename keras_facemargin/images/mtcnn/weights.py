"""The weights in the package `mtcnn`: lists of arrays that joblib has pickled, compressed by LZ4.

The pickle is never loaded: `PickleWalk` interprets it with the three names that such a file needs.
"""

import dataclasses
import importlib.util
import io
import math
import typing
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_facemargin.pickles import Name, PickleWalk, Span, read_span

Arrays: TypeAlias = list[npt.NDArray[np.float32]]

_MOST_BYTES = 1 << 24  # ten times the largest of the three
_SHAPES = {
    "pnet": (
        *((3, 3, 3, 10), (10,), (1, 1, 10), (3, 3, 10, 16), (16,), (1, 1, 16)),
        *((3, 3, 16, 32), (32,), (1, 1, 32), (1, 1, 32, 4), (4,), (1, 1, 32, 2), (2,)),
    ),
    "rnet": (
        *((3, 3, 3, 28), (28,), (1, 1, 28), (3, 3, 28, 48), (48,), (1, 1, 48)),
        *((2, 2, 48, 64), (64,), (1, 1, 64), (576, 128), (128,), (128,)),
        *((128, 4), (4,), (128, 2), (2,)),
    ),
    "onet": (
        *((3, 3, 3, 32), (32,), (1, 1, 32), (3, 3, 32, 64), (64,), (1, 1, 64)),
        *((3, 3, 64, 64), (64,), (1, 1, 64), (2, 2, 64, 128), (128,), (1, 1, 128)),
        *((1152, 256), (256,), (256,), (256, 4), (4,), (256, 10), (10,), (256, 2), (2,)),
    ),
}


def read_networks() -> dict[str, Arrays]:
    """Reads the arrays of the three networks: "pnet", "rnet", "onet".

    Raises:
        ImportError: the package `mtcnn` or its package `lz4` is not installed.
        ValueError: a file is damaged, or has other arrays.
    """
    spec = importlib.util.find_spec("mtcnn")  # does not run the package
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            "MtcnnDetector needs the weights in the package mtcnn. Received: it is not installed. "
            "Run: pip install 'mtcnn>=1.0,<2'"
        )
    folder = Path(spec.submodule_search_locations[0], "assets", "weights")
    return {name: read_arrays(folder / f"{name}.lz4", shapes) for name, shapes in _SHAPES.items()}


def read_arrays(path: Path, shapes: tuple[tuple[int, ...], ...]) -> Arrays:
    """Reads the arrays of one file, which must have these shapes."""
    try:
        import lz4.frame
    except ImportError as error:
        raise ImportError(
            "The weights of MTCNN are compressed by LZ4. Received: the package lz4 is not "
            "installed. Run: pip install lz4"
        ) from error
    try:
        with lz4.frame.open(path) as file:
            data = file.read(_MOST_BYTES)
        found = _Walk(io.BytesIO(data), len(data)).walk()
    except FileNotFoundError:
        raise ValueError(_wrong(path, "no such file")) from None
    except (ValueError, RuntimeError, EOFError) as error:
        raise ValueError(_wrong(path, str(error))) from None
    if not isinstance(found, list) or [getattr(e, "shape", None) for e in found] != list(shapes):
        raise ValueError(_wrong(path, "other arrays"))
    return typing.cast(Arrays, found)


def _wrong(path: Path, found: str) -> str:
    return (
        f"{path}: must be the weights of MTCNN as in the package mtcnn 1.0. Received: {found}. "
        "Run: pip install --force-reinstall 'mtcnn>=1.0,<2'"
    )


@dataclasses.dataclass
class _Stored:
    """An array whose numbers follow its description."""

    facts: dict[Any, Any]


@dataclasses.dataclass
class _Dtype:
    code: str
    order: str = "<"


class _Walk(PickleWalk):
    """The walk over joblib's pickle: a list of arrays of float32."""

    names: typing.ClassVar[dict[str, str]] = {
        "joblib.numpy_pickle NumpyArrayWrapper": "stored array",
        "numpy ndarray": "array",
        "numpy dtype": "dtype",
    }
    content = "arrays"

    def push_span(self, span: Span) -> None:
        """Texts are short here: they are read at once."""
        if span.length > 100:
            raise self.error("a text is too long")
        value = read_span(self.stream, span)
        self.stream.seek(self.position)
        self._push(value)

    def make(self, meaning: str, arguments: tuple[Any, ...]) -> Any:
        if meaning == "dtype" and arguments[:1] == ("f4",):
            return _Dtype("f4")
        return None

    def build(self, target: Any, state: Any) -> bool:
        if isinstance(target, _Dtype):
            return isinstance(state, tuple) and len(state) > 1 and state[1] == "<"
        if isinstance(target, _Stored) and isinstance(state, dict):
            target.facts = state
            return True
        return False

    def _BUILD(self) -> None:
        super()._BUILD()
        if isinstance(self._stack[-1], _Stored):
            self._stack[-1] = self._numbers(self._stack[-1].facts)

    def _numbers(self, facts: dict[Any, Any]) -> npt.NDArray[np.float32]:
        shape = facts.get("shape")
        if (
            not isinstance(shape, tuple)
            or not all(isinstance(side, int) and 0 < side < 10_000 for side in shape)
            or facts.get("dtype") != _Dtype("f4")
            or facts.get("order") != "C"
        ):
            raise self.error("an array is not of float32 in C order")
        if facts.get("numpy_array_alignment_bytes") is not None:
            self.take(self.take(1)[0])
        data = self.take(4 * math.prod(shape))
        return np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)

    def _NEWOBJ(self) -> None:
        name, arguments = self._pop(2)
        if not isinstance(name, Name) or name.meaning != "stored array" or arguments != ():
            raise self.error(f"{self.kind(name)} is created, which is not an array")
        self._push(_Stored({}))

    def _EMPTY_DICT(self) -> None:
        self._push({})

    def _SETITEMS(self) -> None:
        items = self._since_mark()
        (target,) = self._pop(1)
        if not isinstance(target, dict) or len(items) % 2:
            raise self.error("items are added to something that is not a dictionary")
        if not all(isinstance(key, str) for key in items[::2]):
            raise self.error("the key of a dictionary is not a text")
        target.update(zip(items[::2], items[1::2], strict=True))
        self._push(target)
