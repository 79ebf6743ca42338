"""What the readers return, and how they refuse a file.

A reader returns a `State` (tensors by name) for a file of weights, or a `Graph` for a file that
holds its network. All graphs use the operators of ONNX, so `zoo.graph` has one table.
"""

import contextlib
import dataclasses
import os
import typing
from collections.abc import Iterator

import numpy.typing as npt

Tensor = npt.NDArray[typing.Any]
State = dict[str, Tensor]


@dataclasses.dataclass
class Node:
    """One operation of a graph.

    Attributes:
        op: name of the operator of ONNX, or "TYPE Name" of the file's format if ONNX has none.
        name: unique in the graph, for the names of layers and for errors.
        inputs: names of tensors; "" is an optional input that is absent.
        outputs: names of tensors.
        attributes: as ONNX names them; numbers, texts, lists and arrays.
    """

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, typing.Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Graph:
    """A network as its file describes it, in the order of computation.

    Attributes:
        nodes: see `Node`. Kernels of convolutions are (out, in / groups, height, width) and
            weights of linear layers (out, in), whatever the layout.
        constants: tensors by name.
        input: name of the image.
        input_shape: (N, C, H, W) or (N, H, W, C); 0 for a size that is not fixed.
        outputs: names of the results.
        channels_first: the layout of the image and of what is computed from it.
    """

    nodes: list[Node]
    constants: State
    input: str
    input_shape: tuple[int, ...]
    outputs: list[str]
    channels_first: bool


class BadFile(ValueError):
    """A file that a reader refuses, in one sentence."""


class Problem(ValueError):
    """What is wrong in a file; `reading` adds the file's name."""


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], form: str) -> Iterator[None]:
    """Turns every error of a reader into one sentence about the file.

    Args:
        path: the file.
        form: what it must be: "a dlib network".

    Raises:
        BadFile: the block raised an error other than `OSError` and `ImportError`.
    """
    try:
        yield
    except BadFile:
        raise
    except Problem as problem:
        raise BadFile(f"{path}: must be {form}. Received: {problem}") from None
    except (OSError, ImportError):
        raise
    except Exception as error:  # each library has types of its own for each kind of damage
        shown = " ".join(str(error).split())
        raise BadFile(
            f"{path}: must be {form}. Received: a file that is damaged or of another kind "
            f"({type(error).__name__}: {shown:.150}). Copy or download it again."
        ) from None


def checked_count(shape: typing.Sequence[int], largest: int, what: str) -> int:
    """The number of elements of a shape, if the file has that many.

    Raises:
        Problem: a side is negative, or the product is larger.
    """
    count = 1
    for side in shape:
        count *= side
        if side < 0 or count > largest:
            raise Problem(
                f"{what} of shape {tuple(shape)!s:.80}, which needs more numbers than the file "
                "holds: it was cut off or is damaged. Copy or download it again."
            )
    return count
