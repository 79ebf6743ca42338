"""The three networks of MTCNN, forward only. Layers keep maps as float32 `(C, N, H, W)`."""

from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from keras_facemargin.images.mtcnn.weights import Arrays

_Floats = npt.NDArray[np.float32]
_ROWS = 32  # of the first network's output at a time: its columns stay in the processor's cache
# Multiplications in a product that OpenBLAS computes on one thread. Its threads wait actively for
# each other, which costs several times the work itself where other programs run as well.
_PRODUCT = 1 << 18


class FirstNetwork:
    """P-Net: for each window of 12x12 pixels, every 2 pixels, a score and the box of the face."""

    def __init__(self, arrays: Arrays) -> None:
        self._layers = [_Convolution(*arrays[start : start + 3]) for start in (0, 3, 6)]
        kernel = np.concatenate([arrays[9], arrays[11]], axis=-1)
        bias = np.concatenate([arrays[10], arrays[12]])
        self._heads = _Convolution(kernel, bias)

    def __call__(self, image: _Floats) -> tuple[_Floats, _Floats]:
        """Scores `(h, w)` and offsets `(4, h, w)` of an image `(3, H, W)` of at least 12x12."""
        rows = (image.shape[1] - 2 + 1) // 2 - 4
        parts = []
        for start in range(0, rows, _ROWS):
            stop = min(start + _ROWS, rows)
            end = 2 * (stop - 1) + 12 if stop < rows else image.shape[1]
            x = image[:, None, 2 * start : end]
            first, second, third = self._layers
            x = third(second(_pool(first(x), 2)))
            parts.append(self._heads(x)[:, 0])
        every = np.concatenate(parts, axis=1)
        return _face_of_two(every[4:]), every[:4]


class LaterNetwork:
    """R-Net (24x24 pixels) or O-Net (48x48): scores, boxes and, of O-Net, points."""

    def __init__(self, arrays: Arrays, pools: tuple[tuple[int, bool], ...]) -> None:
        convolutions = sum(array.ndim == 4 for array in arrays)
        self._layers = [_Convolution(*arrays[3 * n : 3 * n + 3]) for n in range(convolutions)]
        self._pools = pools
        dense = arrays[3 * convolutions :]
        self._hidden = dense[:3]
        self._outputs = list(zip(dense[3::2], dense[4::2], strict=True))

    def __call__(self, patches: _Floats) -> tuple[_Floats, ...]:
        """Scores `(N,)`, offsets `(N, 4)` and, of O-Net, points `(N, 10)` of `(N, 3, H, W)`."""
        x = patches.transpose(1, 0, 2, 3)
        for number, layer in enumerate(self._layers):
            x = layer(x)
            if number < len(self._pools):
                size, padded = self._pools[number]
                x = _pool(x, size, padded=padded)
        # Columns first, as the authors' Matlab has them.
        x = x.transpose(3, 2, 0, 1).reshape(-1, len(patches))
        weights, bias, slope = self._hidden
        x = _prelu(_product(weights.T, x) + bias[:, None], slope[:, None])
        offsets, *points, classes = (
            _product(weights.T, x) + bias[:, None] for weights, bias in self._outputs
        )
        return _face_of_two(classes), offsets.T, *(each.T for each in points)


def second_network(arrays: Arrays) -> LaterNetwork:
    """R-Net."""
    return LaterNetwork(arrays, ((3, True), (3, False)))


def third_network(arrays: Arrays) -> LaterNetwork:
    """O-Net."""
    return LaterNetwork(arrays, ((3, True), (3, False), (2, True)))


class _Convolution:
    """A convolution without padding, and the PReLU after it, if any."""

    def __init__(self, kernel: _Floats, bias: _Floats, slope: _Floats | None = None) -> None:
        self._size = kernel.shape[0]
        # (height, width, in, out) -> (out, in * height * width)
        self._kernel = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1).reshape(len(bias), -1))
        self._bias = bias[:, None]
        self._slope = None if slope is None else slope.reshape(-1, 1)

    def __call__(self, x: _Floats) -> _Floats:
        size, count = self._size, x.shape[1]
        height, width = x.shape[2] - size + 1, x.shape[3] - size + 1
        windows = sliding_window_view(x, (size, size), axis=(2, 3))
        columns = windows.transpose(0, 4, 5, 1, 2, 3).reshape(self._kernel.shape[1], -1)
        y = _product(self._kernel, columns)
        y += self._bias
        if self._slope is not None:
            y = _prelu(y, self._slope)
        return y.reshape(-1, count, height, width)


def _product(weights: _Floats, columns: _Floats) -> _Floats:
    """`weights @ columns`, in products of at most `_PRODUCT` multiplications."""
    (rows, depth), count = weights.shape, columns.shape[1]
    y = np.empty((rows, count), np.float32)
    high = max(1, min(rows, _PRODUCT // (8 * depth)))
    wide = max(1, _PRODUCT // (high * depth))
    whole = count // wide * wide

    def blocks(array: _Floats) -> _Floats:
        return array[:, :whole].reshape(len(array), -1, wide).transpose(1, 0, 2)

    for start in range(0, rows, high):
        part, out = weights[start : start + high], y[start : start + high]
        if whole:
            np.matmul(part, blocks(columns), out=blocks(out))
        np.matmul(part, columns[:, whole:], out=out[:, whole:])
    return y


def _prelu(x: _Floats, slope: _Floats) -> _Floats:
    negative = np.minimum(x, 0)
    negative *= slope - 1
    negative += x
    return negative


def _pool(x: _Floats, size: int, *, padded: bool = True) -> _Floats:
    """Maximum over squares, every 2 pixels; padded so that the last pixels count, or not."""
    if padded:
        ends = [((side + 1) // 2 - 1) * 2 + size - side for side in x.shape[2:]]
        if max(ends) > 0:
            x = np.pad(
                x,
                ((0, 0), (0, 0), (0, max(ends[0], 0)), (0, max(ends[1], 0))),
                constant_values=-np.inf,
            )
    height, width = ((side - size) // 2 + 1 for side in x.shape[2:])
    best: Any = None
    for down in range(size):
        for right in range(size):
            part = x[:, :, down : down + 2 * height - 1 : 2, right : right + 2 * width - 1 : 2]
            best = part.copy() if best is None else np.maximum(best, part, out=best)
    return np.asarray(best)


def _face_of_two(classes: _Floats) -> _Floats:
    """The softmax of the second of two classes."""
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(classes[0] - classes[1])), np.float32)
