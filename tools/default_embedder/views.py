"""Views of crops: what the student sees. The target stays that of the clean crop.

A view is a similarity, a mirror image or not, other colours, sometimes a frame, a cover over the
lower face or a patch; then, of `DEGRADED` of them, few pixels, a blur or a JPEG. All on uint8 with
OpenCV: 2 to 4 ms of one core for a batch of small views would be a tenth of a step.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

SIZE = 112
DEGRADED = 0.35
PIXELS, SIGMA, QUALITY = (14, 56), (0.5, 4.0), (4, 40)
FRAMED = 0.3  # of full crops
COVERED, PATCHED, GREY = 0.05, 0.08, 0.1
_READ_AHEAD = 3  # batches


class Views:
    """Batches of views; each depends on the seed and its number only.

    Every row comes once in each pass, in a random order. The degraded views of a batch are of three
    kinds with one strength each: two strangers that the embedder must tell apart are usually
    equally bad.

    Args:
        pixels: uint8 (N, 112, 112, 3).
        rows: integers, the crops to draw from.
        full: bool (N,), whether a crop fills the template.
        batch: views of a batch.
        seed: non-negative integer.
    """

    def __init__(self, pixels, rows, full, *, batch, seed):
        self._pixels, self._rows, self._full = pixels, rows, full
        self._batch, self._seed = batch, seed

    def draw(self, number, size):
        """Batch `number`: rows (B,) and views uint8 (B, size, size, 3)."""
        rows = self._rows[self._order(number)]
        rng = np.random.default_rng((self._seed, 2, number))
        views = np.empty((len(rows), size, size, 3), np.uint8)
        changes = _degradations(rng)
        for place, row in enumerate(rows):
            view = _view(self._pixels[row], self._full[row], rng)
            kind = int(3 * place / (DEGRADED * len(rows)))
            if kind < 3:
                view = changes[kind](view)
            if size != SIZE:
                view = cv2.resize(view, (size, size), interpolation=cv2.INTER_AREA)
            views[place] = view
        return rows, views

    def batches(self, start, stop, size):
        """Batches `start` to `stop`; a thread draws ahead."""
        with ThreadPoolExecutor(1) as pool:
            ahead = [
                pool.submit(self.draw, number, size)
                for number in range(start, min(start + _READ_AHEAD, stop))
            ]
            for number in range(start, stop):
                if number + _READ_AHEAD < stop:
                    ahead.append(pool.submit(self.draw, number + _READ_AHEAD, size))
                yield ahead.pop(0).result()

    def _order(self, number):
        """Places of a batch, which may take the end of a pass and the beginning of the next."""
        places = np.arange(number * self._batch, (number + 1) * self._batch)
        passes, inside = np.divmod(places, len(self._rows))
        found = np.empty_like(places)
        for each in np.unique(passes):
            order = np.random.default_rng((self._seed, 1, each)).permutation(len(self._rows))
            found[passes == each] = order[inside[passes == each]]
        return found


def _view(face, full, rng):
    angle, zoom = math.radians(rng.normal(0, 3)), math.exp(rng.normal(0, 0.03))
    mirror = -1 if rng.random() < 0.5 else 1
    shift = rng.normal(0, 1.5, 2)
    middle = (SIZE - 1) / 2
    turn = zoom * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    turn = turn @ np.diag([mirror, 1])
    offset = middle + shift - turn @ [middle, middle]
    matrix = np.column_stack([turn, offset])
    face = cv2.warpAffine(
        np.ascontiguousarray(face),
        matrix,
        (SIZE, SIZE),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    face = _recoloured(face, rng)
    if rng.random() < COVERED:
        _cover(face, rng)
    if rng.random() < PATCHED:
        (top, left), (height, width) = rng.integers(0, 90, 2), rng.integers(15, 45, 2)
        face[top : top + height, left : left + width] = rng.integers(0, 256, 3)
    if full and rng.random() < FRAMED:
        face = _framed(face, rng)
    return face


def _recoloured(face, rng):
    """Gain and tint, brightness and gamma by a table of each channel; sometimes grey."""
    gain = np.exp(rng.normal(0, 0.12) + rng.normal(0, 0.05, 3))
    offset, gamma = rng.normal(0, 10), math.exp(rng.normal(0, 0.2))
    levels = np.arange(256.0)[:, None]
    table = 255 * (np.clip(gain * levels + offset, 0, 255) / 255) ** gamma
    face = cv2.LUT(face, np.rint(table).astype(np.uint8)[None])
    if rng.random() < GREY:
        face = cv2.cvtColor(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return face


def _cover(face, rng):
    """A mask over nose, mouth and chin."""
    bridge, side = rng.uniform(58, 72), rng.uniform(14, 26)
    corners = [(side, bridge + 8), (56, bridge), (112 - side, bridge + 8)]
    corners += [(102 - side, 112), (10 + side, 112)]
    points = np.rint(np.array(corners) + rng.normal(0, 2, (5, 2))).astype(np.int32)
    cv2.fillConvexPoly(face, points, rng.integers(0, 256, 3).tolist(), cv2.LINE_AA)


def _framed(face, rng):
    """Black outside of a turned rectangle, as of a photo that is tighter than the template."""
    center = tuple((56 + rng.normal(0, 4, 2)).tolist())
    sides = tuple(rng.uniform(80, 112, 2).tolist())
    corners = cv2.boxPoints((center, sides, float(rng.normal(0, 8))))
    inside = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillConvexPoly(inside, np.rint(corners).astype(np.int32), 255)
    return cv2.bitwise_and(face, face, mask=inside)


def _degradations(rng):
    """A function of a view for each kind, with strengths even on a logarithmic scale."""
    pixels, sigma, quality = (
        math.exp(rng.uniform(math.log(low), math.log(high)))
        for low, high in (PIXELS, SIGMA, QUALITY)
    )
    small = (round(pixels), round(pixels))
    options = [cv2.IMWRITE_JPEG_QUALITY, round(quality)]

    def shrink(view):
        view = cv2.resize(view, small, interpolation=cv2.INTER_AREA)
        return cv2.resize(view, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)

    def blur(view):
        return cv2.GaussianBlur(view, (0, 0), sigma)

    def compress(view):
        # OpenCV takes the first channel for blue: both ways turned, the colours stay.
        _, content = cv2.imencode(".jpg", view[..., ::-1], options)
        return cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1]

    return [shrink, blur, compress]
