"""The cascade: windows of a photo that the three networks accept one after the other."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_facemargin.images.mtcnn.networks import (
    FirstNetwork,
    LaterNetwork,
    second_network,
    third_network,
)
from keras_facemargin.images.mtcnn.weights import Arrays

_Floats = npt.NDArray[np.float64]

_CELL = 12  # pixels, side of the first network's window
_STEP = 0.709  # between two scales: half the area
_FIRST, _SECOND, _THIRD = 0.6, 0.7, 0.8  # least scores
_MOST = 256  # patches at a time


class Windows(NamedTuple):
    """Windows around faces: boxes `(N, 4)`, scores `(N,)`, points `(N, 5, 2)`, in pixels."""

    boxes: _Floats
    scores: _Floats
    points: _Floats


_NONE = Windows(np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2)))


class Cascade:
    """All windows of MTCNN on a photo.

    Args:
        networks: as `read_networks` returns them.
    """

    def __init__(self, networks: dict[str, Arrays]) -> None:
        self._first = FirstNetwork(networks["pnet"])
        self._second = second_network(networks["rnet"])
        self._third = third_network(networks["onet"])

    def __call__(self, photo: npt.NDArray[np.uint8], min_face: float) -> Windows:
        """Windows that all three networks accept, highest score first.

        Args:
            photo: uint8 `(H, W, 3)`, RGB.
            min_face: side of the smallest face, at least 12 pixels.
        """
        boxes = _squares(self._propose(photo, min_face))
        if not len(boxes):
            return _NONE
        scores, offsets = self._answers(self._second, photo, boxes, 24)
        boxes = _moved(boxes, offsets)[scores > _SECOND]
        scores = scores[scores > _SECOND]
        kept = _suppress(boxes, scores, 0.9)
        boxes = _squares(boxes[kept])
        if not len(boxes):
            return _NONE
        scores, offsets, points = self._answers(self._third, photo, boxes, 48)
        sides = (boxes[:, 2:] - boxes[:, :2] + 1)[:, None]
        places = sides * points.reshape(-1, 2, 5).transpose(0, 2, 1) + boxes[:, None, :2] - 1
        boxes = _moved(boxes, offsets)
        kept = np.argsort(-scores, kind="stable")
        kept = kept[scores[kept] > _THIRD]
        return Windows(boxes[kept], scores[kept], places[kept])

    def _propose(self, photo: npt.NDArray[np.uint8], min_face: float) -> _Floats:
        """Boxes of the first network at every scale, `(N, 4)`."""
        boxes: list[_Floats] = [np.empty((0, 4))]
        scores: list[_Floats] = [np.empty(0)]
        table = _sums(_centred(photo))
        scale = _CELL / min_face
        while min(photo.shape[:2]) * scale >= _CELL:
            image = _shrink(table, int(photo.shape[0] * scale), int(photo.shape[1] * scale))
            confidence, offsets = self._first(image)
            row, column = np.nonzero(confidence > _FIRST)
            corner = np.stack([column, row, column, row], -1) * 2.0
            corner += np.array([1, 1, _CELL, _CELL])  # the authors' Matlab counts from 1
            found = np.asarray((corner + (_CELL - 1) * offsets[:, row, column].T) / scale, float)
            strength = confidence[row, column].astype(float)
            kept = _suppress(found, strength, 0.5)
            boxes.append(found[kept])
            scores.append(strength[kept])
            scale *= _STEP
        every, strengths = np.concatenate(boxes), np.concatenate(scores)
        return np.asarray(every[_suppress(every, strengths, 0.7)])

    def _answers(
        self, network: LaterNetwork, photo: npt.NDArray[np.uint8], boxes: _Floats, side: int
    ) -> list[_Floats]:
        """The outputs of a network for boxes, in float64."""
        parts = [
            network(_patches(photo, boxes[start : start + _MOST], side))
            for start in range(0, len(boxes), _MOST)
        ]
        return [np.concatenate(each).astype(float) for each in zip(*parts, strict=True)]


def _centred(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Levels 0..255 as the networks take them, -1..1."""
    return (pixels.astype(np.float32) - np.float32(127.5)) / np.float32(128)


def _sums(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Sums of the rows above each row, `(H + 1, ...)`."""
    table = np.zeros((len(values) + 1, *values.shape[1:]), np.float32)
    np.cumsum(values, axis=0, out=table[1:])
    return table


def _shrink(table: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
    """The photo of these sums at a smaller size, each pixel the mean of its area: `(3, H, W)`."""
    rows = _means(table, height)
    columns = _means(_sums(rows.transpose(1, 0, 2)), width)
    return np.ascontiguousarray(columns.transpose(2, 1, 0))


def _means(table: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """Means over `count` equal parts of the first axis, from its sums."""
    length = len(table) - 1
    edges = np.arange(count + 1) * (length / count)
    whole = np.minimum(edges.astype(int), length - 1)
    part = (edges - whole).astype(np.float32).reshape(-1, *(1,) * (table.ndim - 1))
    sums = table[whole]
    sums += part * (table[whole + 1] - sums)
    return np.asarray((sums[1:] - sums[:-1]) * np.float32(count / length), np.float32)


def _patches(photo: npt.NDArray[np.uint8], boxes: _Floats, side: int) -> npt.NDArray[np.float32]:
    """Squares of the photo at one size, centred `(N, 3, side, side)`; grey outside the photo."""
    height, width = photo.shape[:2]
    steps = np.arange(side) / (side - 1)
    low, sides = boxes[:, :2] - 0.5, boxes[:, 2:] - boxes[:, :2]  # boxes count from pixels' corners
    x, y = (low[:, axis, None] + sides[:, axis, None] * steps for axis in (0, 1))
    inside = ((y >= 0) & (y <= height - 1))[:, :, None] & ((x >= 0) & (x <= width - 1))[:, None]
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    across = (x - left)[:, None, :, None].astype(np.float32)
    down = (y - top)[:, :, None, None].astype(np.float32)
    rows = [
        photo[row[:, :, None], left[:, None]] * (1 - across)
        + photo[row[:, :, None], right[:, None]] * across
        for row in (top, bottom)
    ]
    pixels = rows[0] * (1 - down) + rows[1] * down
    pixels = _centred(pixels)
    pixels *= inside[..., None]
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def _moved(boxes: _Floats, offsets: _Floats) -> _Floats:
    """Boxes that a network has corrected by parts of their sides."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    return np.asarray(boxes + offsets * np.concatenate([sides, sides], axis=1))


def _squares(boxes: _Floats) -> _Floats:
    """The squares around the middles of boxes."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([middle - half, middle + half], axis=1)


def _suppress(boxes: _Floats, scores: _Floats, most: float) -> npt.NDArray[np.intp]:
    """Rows of the boxes that share at most a part of their union with a better one, best first."""
    order = np.argsort(scores, kind="stable")[::-1]  # many scores are exactly 1
    b = boxes[order]
    area = np.prod(b[:, 2:] - b[:, :2], axis=1)
    bad = np.zeros(len(b), bool)
    for start in range(0, len(b), 256):
        these = slice(start, min(start + 256, len(b)))
        low = np.maximum(b[: these.stop, None, :2], b[None, these, :2])
        high = np.minimum(b[: these.stop, None, 2:], b[None, these, 2:])
        common = np.prod(np.maximum(high - low, 0), axis=-1)
        over = common / (area[: these.stop, None] + area[None, these] - common) > most
        over &= np.arange(these.stop)[:, None] < np.arange(start, these.stop)
        bad[these] = over.any(axis=0)
    return order[~bad]
