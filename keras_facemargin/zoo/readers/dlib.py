"""dlib's serialised networks (`.dat`), as its face recognition model is published.

An integer is a control byte (low four bits: number of bytes, 0x80: negative) and its bytes, little
end first; a float outside tensors is two integers, mantissa and exponent of 2; a tensor has
version 2, four sizes and float32 data. A network is nested: each layer writes its version, then all
layers below it, then itself. So the versions come first, from the loss to the input, and the layers
follow from the input to the loss. Tags and skips have version 1 and write nothing else.
"""

import os
import pathlib
import typing

import numpy as np

from keras_facemargin.zoo.readers.contents import (
    Graph,
    Node,
    Problem,
    Tensor,
    checked_count,
    reading,
)

_FORM = "a dlib network, as dlib_face_recognition_resnet_model_v1.dat is"
_MOST_LAYERS = 10_000
_INFINITE = 32_000  # exponents from here on mean infinity and NaN


def read(path: str | os.PathLike[str]) -> Graph:
    """Reads a network of convolutions, poolings and residual sums.

    Args:
        path: the `.dat` file.

    Returns:
        A `Graph` in the layout (N, C, H, W). dlib adds maps of unequal size by filling the smaller
        one with zeros after its last row, column and channel; here `Pad` nodes do so. A layer
        `affine_` is a batch normalisation that was folded; it has mean 0 and variance 1.

    Raises:
        BadFile: the file is not such a network, or is damaged.
        OSError: it cannot be read.
    """
    data = pathlib.Path(path).read_bytes()
    with reading(path, _FORM):
        return _Network(_Reader(data)).graph()


class _Reader:
    """The values of the file, one after another."""

    def __init__(self, data: bytes):
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        part = self.data[self.at : self.at + count]
        if count < 0 or len(part) != count:
            raise Problem(f"{count:,} bytes are due at byte {self.at:,}, and the file ends.")
        self.at += count
        return part

    def integer(self) -> int:
        control = self.take(1)[0]
        length = control & 15
        if length > 8 or control & 0x70:
            raise Problem(f"at byte {self.at - 1:,}, {control:#x} does not start an integer.")
        value = int.from_bytes(self.take(length), "little")
        return -value if control & 0x80 else value

    def real(self) -> float:
        mantissa, exponent = self.integer(), self.integer()
        if not -_INFINITE < exponent < _INFINITE:
            raise Problem(f"at byte {self.at:,}, a number is not finite.")
        return mantissa * 2.0**exponent

    def truth(self) -> bool:
        byte = self.take(1)
        if byte not in (b"0", b"1"):
            raise Problem(f"at byte {self.at - 1:,}, {byte!r} is not true or false.")
        return byte == b"1"

    def text(self) -> str:
        length = self.integer()
        if not 0 <= length <= 100:
            raise Problem(f"at byte {self.at:,}, a name has {length:,} letters.")
        return self.take(length).decode("ascii")

    def sizes(self, version: int, what: str) -> tuple[int, int, int, int]:
        if (found := self.integer()) != version:
            raise Problem(f"at byte {self.at:,}, {what} has version {found}, not {version}.")
        return self.integer(), self.integer(), self.integer(), self.integer()

    def tensor(self) -> Tensor:
        shape = self.sizes(2, "a tensor")
        count = checked_count(shape, len(self.data) // 4, "a tensor")
        return np.frombuffer(self.take(4 * count), "<f4").reshape(shape)


class _Network:
    """The layers from the image upward, as nodes."""

    def __init__(self, reader: _Reader):
        self.reader = reader
        self.nodes: list[Node] = []
        self.constants: dict[str, Tensor] = {}
        self.tags: list[str] = []  # the maps at which open blocks started
        self.shapes: dict[str, tuple[int, int, int]] = {}  # (channels, rows, columns) of each map
        self.x = "image"  # the current map
        self.branch: str | None = None  # the finished branch of a block whose shortcut is pooled

    def graph(self) -> Graph:
        reader = self.reader
        versions = self._head()
        kind, mean = reader.text(), [reader.real() for _ in range(3)]
        rows, columns = reader.integer(), reader.integer()
        if kind != "input_rgb_image_sized" or not (0 < rows <= 4096 and 0 < columns <= 4096):
            raise Problem(f"an input layer {kind!r:.50} of {rows} x {columns}.")
        means = np.array(mean, "f4").reshape(3, 1, 1)
        self._add("Sub", [self.x, self._constant(means)])
        self._add("Mul", [self.x, self._constant(np.full(1, 1 / 256, "f4"))])
        self.shapes[self.x] = (3, rows, columns)
        for number, version in enumerate(versions):
            if number == 0:
                self._layer()
                self._state()
                reader.integer()  # the input's number of images a face
            elif version == 1:
                self._tag(number, versions)
            else:
                self._layer()
                self._state()
        if reader.at != len(reader.data):
            raise Problem(f"{len(reader.data) - reader.at:,} bytes follow the end.")
        shape = (0, 3, rows, columns)
        return Graph(self.nodes, self.constants, "image", shape, [self.x], channels_first=True)

    def _head(self) -> list[int]:
        """The versions of the layers, from the image upward."""
        reader = self.reader
        if (version := reader.integer()) != 1:
            raise Problem(f"a first version of {version}, not 1.")
        reader.text(), reader.real(), reader.real()  # the loss, its margin and threshold
        versions: list[int] = []
        while (version := reader.integer()) != 3:
            if version not in (1, 2) or len(versions) == _MOST_LAYERS:
                raise Problem(f"a layer of version {version} at byte {reader.at:,}.")
            versions.append(version)
        # The layer on the image has version 3.
        return [3, *reversed(versions)]

    def _tag(self, number: int, versions: list[int]) -> None:
        """Tag 1 opens a block; tag 2 and skip 1, adjacent, end one whose shortcut is pooled."""
        if versions[number + 1 : number + 2] == [1]:
            self.branch = self.x
        elif versions[number - 1] == 1:
            self.x = self._opened()
        else:
            self.tags.append(self.x)

    def _opened(self) -> str:
        if not self.tags:
            raise Problem(f"at byte {self.reader.at:,}, a block ends that did not start.")
        return self.tags.pop()

    def _layer(self) -> None:
        kind = self.reader.text()
        step = getattr(self, f"_{kind}", None) if kind in _LAYERS else None
        if step is None:
            raise Problem(
                f"the layer {kind!r:.50} at byte {self.reader.at:,}; only {', '.join(_LAYERS)} are "
                "known."
            )
        step()

    def _state(self) -> None:
        """After a layer: three truths, and gradients and caches, which a clean network lacks."""
        for _ in range(3):
            self.reader.truth()
        for _ in range(3):
            if self.reader.tensor().size:
                raise Problem("a network that was not cleaned before it was written.")

    # Layers, by the names in the file.

    def _con_4(self) -> None:
        reader = self.reader
        numbers = reader.tensor().ravel()
        filters, rows, columns, *strides = (reader.integer() for _ in range(5))
        down, right = reader.integer(), reader.integer()
        kernel_shape, bias_shape = reader.sizes(1, "a kernel"), reader.sizes(1, "a bias")
        for _ in range(4):
            reader.real()  # factors of learning rates
        channels, *size = self.shapes[self.x]
        if kernel_shape != (filters, channels, rows, columns) or min(*strides, *size) < 1:
            raise Problem(f"a convolution {kernel_shape} on {channels} channels.")
        kernel, bias = _split(numbers, kernel_shape, bias_shape)
        self._add(
            "Conv",
            [self.x, self._constant(kernel), self._constant(bias.ravel())],
            strides=strides,
            pads=[down, right, down, right],
            kernel_shape=[rows, columns],
        )
        self._resize((rows, columns), strides, (down, right), filters)

    def _affine_(self) -> None:
        reader = self.reader
        numbers = reader.tensor().ravel()
        gamma_shape, beta_shape = reader.sizes(1, "a scale"), reader.sizes(1, "an offset")
        reader.integer()  # whether it is one a channel
        gamma, beta = (each.ravel() for each in _split(numbers, gamma_shape, beta_shape))
        before = self.shapes[self.x]
        if not gamma.size == beta.size == before[0]:
            raise Problem(f"a scale of {gamma.size:,} channels on {before[0]:,}.")
        ones = np.ones_like(gamma)
        inputs = [gamma, beta, 0 * ones, (1 - np.float32(1e-5)) * ones]
        self._add(
            "BatchNormalization",
            [self.x, *map(self._constant, inputs)],
            epsilon=1e-5,
            folded=1,
        )
        self.shapes[self.x] = before

    def _relu_(self) -> None:
        before = self.shapes[self.x]
        self._add("Relu", [self.x])
        self.shapes[self.x] = before

    def _max_pool_2(self) -> None:
        self._pool("MaxPool")

    def _avg_pool_2(self) -> None:
        self._pool("AveragePool")

    def _pool(self, op: str) -> None:
        rows, columns, *strides = (self.reader.integer() for _ in range(4))
        pads = [self.reader.integer() for _ in range(2)]
        channels = self.shapes[self.x][0]
        if (rows, columns) == (0, 0) and op == "AveragePool":
            self._add("GlobalAveragePool", [self.x])
            self.shapes[self.x] = (channels, 1, 1)
            return
        if min(rows, columns, *strides) < 1 or pads != [0, 0]:
            raise Problem(f"a pooling of {rows} x {columns}, strides {strides} and padding {pads}.")
        self._add(op, [self.x], kernel_shape=[rows, columns], strides=strides)
        self._resize((rows, columns), strides, (0, 0), channels)

    def _add_prev_(self) -> None:
        other = self._opened() if self.branch is None else self.branch
        self.branch = None
        shapes = self.shapes[self.x], self.shapes[other]
        full = tuple(map(max, *shapes))
        grown = [self._grow(each, full) for each in (other, self.x)]
        self._add("Add", grown)
        self.shapes[self.x] = typing.cast(tuple[int, int, int], full)

    def _grow(self, name: str, full: tuple[int, ...]) -> str:
        """The map, filled with zeros after its last channel, row and column."""
        more = [wanted - own for wanted, own in zip(full, self.shapes[name], strict=True)]
        return self._add("Pad", [name], pads=[0, 0, 0, 0, 0, *more]) if any(more) else name

    def _fc_2(self) -> None:
        reader = self.reader
        outputs, inputs = reader.integer(), reader.integer()
        numbers = reader.tensor().ravel()
        weight_shape, bias_shape = reader.sizes(1, "weights"), reader.sizes(1, "a bias")
        reader.integer()  # whether it has a bias; its shape gives the same answer
        for _ in range(4):
            reader.real()
        kernel, bias = _split(numbers, weight_shape, bias_shape)
        size = np.prod(self.shapes[self.x], dtype="int64")
        if kernel.size != inputs * outputs or inputs != size or bias.size not in (0, outputs):
            raise Problem(f"a linear layer {inputs:,} -> {outputs:,} on {size:,} numbers.")
        flat = self._add("Flatten", [self.x], axis=1)
        weights = [kernel.reshape(inputs, outputs).T, *([bias.ravel()] if bias.size else [])]
        self._add("Gemm", [flat, *map(self._constant, weights)], transB=1)
        self.shapes[self.x] = (outputs, 1, 1)

    # Nodes.

    def _add(self, op: str, inputs: list[str], **attributes: typing.Any) -> str:
        number = len(self.nodes)
        self.x = f"{op.lower()}_{number}"
        self.nodes.append(Node(op, self.x, inputs, [self.x], attributes))
        return self.x

    def _constant(self, value: Tensor) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = value
        return name

    def _resize(
        self,
        kernel: tuple[int, int],
        strides: list[int],
        pads: tuple[int, int],
        channels: int,
    ) -> None:
        """Notes the shape of the newest map, which a window over the one before it gives."""
        before = self.shapes[self.nodes[-1].inputs[0]][1:]
        window = zip(before, kernel, strides, pads, strict=True)
        rows, columns = ((side + 2 * pad - width) // step + 1 for side, width, step, pad in window)
        if min(rows, columns) < 1:
            raise Problem(f"a window of {kernel} on a map of {before}.")
        self.shapes[self.x] = (channels, rows, columns)


_LAYERS = ("con_4", "affine_", "relu_", "max_pool_2", "avg_pool_2", "add_prev_", "fc_2")


def _split(
    numbers: Tensor, first: tuple[int, ...], second: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Two tensors that the file stores in one."""
    count = checked_count(first, numbers.size, "a layer's weights")
    rest = checked_count(second, numbers.size, "a layer's bias")
    if count + rest != numbers.size:
        raise Problem(f"{numbers.size:,} numbers where {count + rest:,} are due.")
    return numbers[:count].reshape(first), numbers[count:].reshape(second)
