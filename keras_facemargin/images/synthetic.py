"""Faces of people who do not exist, sampled from a small statistical model.

A demonstration of face recognition needs faces, and this package must not contain photographs of
people. It contains statistics instead: an active appearance model (Cootes, Edwards and Taylor,
1998) of aligned 112x112 crops. Its samples have two eyes, a mouth and skin, and show no person.

**The model.** Every crop is split into a *shape* (a smooth field of displacements that maps it onto
the mean face, found by optical flow against the low-rank reconstruction of the crop: Collection
Flow, Kemelmacher-Shlizerman and Seitz, 2012) and a *texture* (the crop with the shape undone; luma
at full, chroma at half resolution). Principal components describe both together. Crops and their
mirror images have equal weight, so each component is either even or odd under mirroring; the file
keeps its left half.

**Identity and image.** The covariance of the coefficients is split with the labels of the crops
into a part between people and a part within the images of one person, as in PLDA (Prince and
Elder, 2007). Both parts are diagonal in one basis, `mixing`, where `share` is the between part's
share of each variance. With `x, y` from a standard normal distribution cut at two deviations,

    coefficients = mixing @ (sqrt(share) * x[identity] + sqrt(1 - share) * y[image])

so `x` is the person and `y` is light, pose, expression and hair of one picture. The effects of a
camera are added: a small similarity transform (imperfect alignment), exposure, gamma, colour
balance, focus and sensor noise.

**Origin and limits.** `tools/assets/fit_face_model.py` made `face_model.npz` from 8,705 crops of
research sets (CelebA among them) whose terms allow non-commercial research: means, 330 directions
of variation and the share of identity in each, quantised to 8 bits. LFW was not read. No person is
depicted: the file contains no picture and no coefficients of one. For a published embedder
(MobileFaceNet, MS1M) no sample is more similar to any of 7,817 labelled crops (cosine at most 0.52)
than the one per cent of those crops that are most similar to a stranger (0.55 and above); for plain
pixels the figures are 0.93 and 0.93.

The same embedder verifies 60 sampled people with an EER of about 5 % (4.5 to 5.7 over four seeds;
the spreads were chosen on the lowest). The samples inherit the make-up of the sets (public figures,
mostly young, light-skinned, posing). They do not show how an embedder performs across groups of
people, and an embedder trained only on them does not recognise real people. Use them to try the
software.
"""

import functools
import itertools
import operator
import os
from collections.abc import Callable, Iterable
from importlib import resources
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from keras_facemargin.files import exclusive, full_disk_names
from keras_facemargin.images.align import align_face
from keras_facemargin.images.crop import Crop, Size

# Steps to the neighbours of a place and their weights.
_Taps: TypeAlias = Iterable[tuple[int, Any]]
_Floats: TypeAlias = npt.NDArray[np.floating[Any]]  # float32

_CROP = Crop(112, 112, "arcface")
_SIZE = _CROP.height
_CUT = 2.0  # Deviations at which the normal distributions are cut: no monsters from the tails.
# Factors on the learned deviations. People differ a little more than in life and pictures of one
# person less: faces stay sharp, and recognising them is neither trivial nor hopeless.
_IDENTITY_SPREAD = 1.2
_IMAGE_SPREAD = {"even": 0.65, "odd": 0.55}
_SHARPENING = (0.5, 1.6)  # Components are softer than the faces they come from.
# Coefficients become integers of this many fractional bits. Sums of integers below 2**24 are exact
# in float32, so every BLAS, whatever its order of summation, gives the same faces.
_FRACTION_BITS = {"luma": 8, "chroma": 8, "shape": 14}
_TOGETHER = 64  # images of one product with the components, which are 13 MB to read


def synthesize_faces(
    num_identities: int, images_per_identity: int, seed: int = 0, *, size: Size | None = None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Samples aligned faces of people who do not exist.

    Image `j` of identity `k` depends only on `seed`, `k` and `j`: more identities or more images
    extend the set and change no image of it.

    Args:
        num_identities: number of people, at least 1.
        images_per_identity: number of images of each, at least 1.
        seed: a non-negative integer; another seed draws other people.
        size: the crop, as `Crop.of` takes it. Default: 112x112, at which the faces are sampled;
            other crops are cut out of that one.

    Returns:
        `(images, labels)`: uint8 of shape `(N, height, width, 3)`, RGB, and int32 of shape `(N,)`
        with values `0 .. num_identities - 1` in ascending order; `N` is the product of the two
        numbers.

    Raises:
        ValueError: a number is not an integer or below its minimum, or the crop has no template.

    Example:

    ```python
    images, labels = synthesize_faces(num_identities=4, images_per_identity=3)
    images.shape  # (12, 112, 112, 3)
    ```
    """
    people = _whole("num_identities", num_identities, 1)
    per_person = _whole("images_per_identity", images_per_identity, 1)
    seed = _whole("seed", seed, 0)
    at_a_time = max(1, _TOGETHER // per_person)
    images = np.concatenate(
        [
            _people(seed, range(first, min(first + at_a_time, people)), per_person)
            for first in range(0, people, at_a_time)
        ]
    )
    crop = Crop.of(size)
    if crop != _CROP:
        images = np.stack([align_face(image, _CROP.points, crop) for image in images])
    labels = np.repeat(np.arange(people, dtype=np.int32), per_person)
    return images, labels


def write_synthetic_faces(
    directory: str | os.PathLike[str],
    num_identities: int,
    images_per_identity: int,
    seed: int = 0,
    *,
    image_size: Size | None = None,
) -> list[str]:
    """Writes sampled faces as a folder of identities, `person_000/000.jpg` and so on.

    Args:
        directory: the folder to fill; made if missing, refused if it is not empty.
        num_identities: as in `synthesize_faces`.
        images_per_identity: as in `synthesize_faces`.
        seed: as in `synthesize_faces`.
        image_size: the crop, as `size` of `synthesize_faces`.

    Returns:
        The paths of the files, a list of strings, ordered as the images of `synthesize_faces`.

    Raises:
        ValueError: as `synthesize_faces`, before a file is written.
        FileExistsError: `directory` is not empty.

    Example:

    ```python
    write_synthetic_faces("faces", num_identities=60, images_per_identity=12)
    ```
    """
    directory = os.fspath(directory)
    with exclusive(directory):
        if os.path.isdir(directory) and os.listdir(directory):
            raise FileExistsError(
                "`directory` must be empty or missing, so that no other file mixes with the faces. "
                f"Received: directory={directory!r}. Remove its contents or name another folder."
            )
        images, labels = synthesize_faces(
            num_identities, images_per_identity, seed, size=image_size
        )
        paths = []
        for position, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = os.path.join(directory, f"person_{label:03d}")
            os.makedirs(folder, exist_ok=True)
            paths.append(os.path.join(folder, f"{position % images_per_identity:03d}.jpg"))
            with full_disk_names(paths[-1]):
                Image.fromarray(image).save(paths[-1], quality=95, subsampling=0)
        return paths


def mean_luma() -> _Floats:
    """The mean face of the model: float32 `(112, 112)`, luma 0..255, on the template."""
    model = _model()
    field = _field(model["shape_mean"])
    rows, columns = np.mgrid[:_SIZE, :_SIZE].astype(np.float32)
    return _sample(model["luma_mean"], rows + field[..., 1], columns + field[..., 0], _catmull_rom)[
        ..., 0
    ]


def _whole(name: str, value: Any, minimum: int) -> int:
    try:
        number = minimum - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = minimum - 1
    if number < minimum:
        raise ValueError(
            f"`{name}` must be an integer of at least {minimum}. Received: {name}={value!r}"
        )
    return number


@functools.cache
def _model() -> dict[str, _Floats]:
    """The statistics as float32 arrays, opened once a process."""
    file = resources.files("keras_facemargin.images").joinpath("face_model.npz")
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return {name: arrays[name].astype(np.float32) for name in arrays.files}


def _people(seed: int, people: range, count: int) -> npt.NDArray[np.uint8]:
    """Images of some identities, uint8 `(N, 112, 112, 3)`, `count` of each."""
    model = _model()
    # Streams of their own: one for the person, one for each picture of that person.
    identities = [np.random.default_rng([seed, person, 0]) for person in people]
    pictures = [
        [np.random.default_rng([seed, person, 1, number]) for number in range(count)]
        for person in people
    ]
    parts = {part: model[f"{part}_mean"] for part in _FRACTION_BITS}
    for parity in ("even", "odd"):
        share, mixing = model[f"{parity}_share"], model[f"{parity}_mixing"].astype(np.float64).T
        coefficients = []
        for identity, of_person in zip(identities, pictures, strict=True):
            who = _IDENTITY_SPREAD * np.sqrt(share) * _normal(identity, share.size)
            how = np.stack([_normal(picture, share.size) for picture in of_person])
            how *= _IMAGE_SPREAD[parity] * np.sqrt(1 - share)
            coefficients.append((who + how) @ mixing)
        for part in parts:
            deviations = _deviations(model, part, parity, np.concatenate(coefficients))
            parts[part] = parts[part] + deviations
    every = itertools.chain.from_iterable(pictures)
    return np.stack([_photograph(*each) for each in zip(every, *parts.values(), strict=True)])


def _normal(generator: np.random.Generator, size: int) -> npt.NDArray[np.float64]:
    return np.clip(generator.standard_normal(size), -_CUT, _CUT)


def _deviations(
    model: dict[str, _Floats], part: str, parity: str, coefficients: npt.NDArray[np.float64]
) -> _Floats:
    """The sum of a part's components of one parity, `(N, rows, columns, C)`."""
    unit = np.float32(2.0 ** -_FRACTION_BITS[part])
    weights = np.rint(coefficients * model[f"{part}_{parity}_scale"] / unit).astype(np.float32)
    components = model[f"{part}_{parity}"]
    half = weights @ components.reshape(len(components), -1) * unit
    half = half.reshape(-1, *components.shape[1:])
    mirrored = half if parity == "even" else -half
    if part == "shape":
        # A displacement to the right becomes one to the left in the mirror.
        mirrored = mirrored * np.array([-1, 1], np.float32)
    # An odd number of columns has a middle one, its own mirror image and in the left half.
    right = model[f"{part}_mean"].shape[1] // 2
    return np.concatenate([half, mirrored[:, :, right - 1 :: -1]], axis=2)


def _photograph(
    picture: np.random.Generator, luma: _Floats, chroma: _Floats, shape: _Floats
) -> npt.NDArray[np.uint8]:
    """One image, uint8 `(112, 112, 3)`: the texture `luma, chroma` warped into its shape."""
    rows, columns = _grid(shape, picture)
    luma = _camera(_sample(luma, rows, columns, _catmull_rom), picture)
    # The centre of chroma's first sample, half as fine, is between the first two pixels.
    chroma = _sample(chroma, rows / 2 - 0.25, columns / 2 - 0.25, _linear)
    return _to_rgb(luma[..., 0], chroma + picture.normal(0.0, 1.5, 2).astype(np.float32))


def _grid(shape: _Floats, picture: np.random.Generator) -> tuple[_Floats, _Floats]:
    """The place in the texture of each pixel of the image: rows and columns, `(112, 112)` each."""
    field = _field(shape)
    turn, zoom = picture.normal(0.0, 0.025), np.exp(picture.normal(0.0, 0.015))
    cosine, sine = np.float32(zoom * np.cos(turn)), np.float32(zoom * np.sin(turn))
    shift = picture.normal(0.0, 0.6, 2).astype(np.float32)
    centre = np.float32((_SIZE - 1) / 2)
    y, x = np.mgrid[:_SIZE, :_SIZE].astype(np.float32) - centre
    rows = sine * x + cosine * y + centre + shift[0] + field[..., 1]
    columns = cosine * x - sine * y + centre + shift[1] + field[..., 0]
    return rows, columns


def _field(shape: _Floats) -> _Floats:
    """The displacement of each pixel: x and y, `(112, 112, 2)`."""
    # Displacements are known at the corners of square cells, the first at the image's corner.
    corner = (np.arange(_SIZE, dtype=np.float32) + 0.5) * np.float32((len(shape) - 1) / _SIZE)
    rows, columns = np.meshgrid(corner, corner, indexing="ij")
    return _sample(shape, rows, columns, _linear)


def _sample(
    array: _Floats, rows: _Floats, columns: _Floats, kernel: Callable[[_Floats], _Taps]
) -> _Floats:
    """Samples of `(H, W, C)` at places between its elements; outside, the border continues."""
    height, width, channels = array.shape
    flat = array.reshape(-1, channels)
    row, column = np.floor(rows), np.floor(columns)
    taps = [
        (np.clip(column + step, 0, width - 1).astype(np.intp), weight[..., None])
        for step, weight in kernel(columns - column)
    ]
    result = np.zeros((*rows.shape, channels), np.float32)
    for step, weight in kernel(rows - row):
        start = np.clip(row + step, 0, height - 1).astype(np.intp) * width
        result += weight[..., None] * sum(across * flat[start + tap] for tap, across in taps)
    return result


def _linear(t: _Floats) -> _Taps:
    """Steps to the two neighbours of a place `t` (0..1) past an element, and their weights."""
    return (0, 1 - t), (1, t)


def _catmull_rom(t: _Floats) -> _Taps:
    """The same for four neighbours: cubic interpolation, which keeps eyelashes sharp."""
    return (
        (-1, t * (t * (2 - t) - 1) / 2),
        (0, (t * t * (3 * t - 5) + 2) / 2),
        (1, t * (t * (4 - 3 * t) + 1) / 2),
        (2, t * t * (t - 1) / 2),
    )


def _camera(luma: _Floats, picture: np.random.Generator) -> _Floats:
    """The effects of a camera on the light: focus, exposure, tone curve, gamma, noise."""
    # Unsharp masking, more or less of it.
    padded = np.pad(luma, ((1, 1), (1, 1), (0, 0)), mode="edge")
    soft = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    soft = (soft[:, :-2] + 2 * soft[:, 1:-1] + soft[:, 2:]) / 4
    luma = luma + np.float32(picture.uniform(*_SHARPENING)) * (luma - soft)
    exposure, gamma = np.exp(picture.normal(0.0, 0.08, 2)).astype(np.float32)
    luma = 255 * (_tone(luma * exposure) / 255) ** gamma
    noise = picture.standard_normal(luma.shape, np.float32)
    return luma + np.float32(picture.uniform(0.5, 2.0)) * noise


def _tone(luma: _Floats) -> _Floats:
    """Bends the ends into 0..255, as film does: sums of components have no black and no white."""
    toe, shoulder = np.float32(32), np.float32(223)
    luma = np.where(luma < toe, toe * np.exp(np.minimum(luma / toe - 1, 0)), luma)
    over = np.maximum(luma - shoulder, 0) / toe
    return np.where(over > 0, 255 - toe * np.exp(-over), luma)


def _to_rgb(luma: _Floats, chroma: _Floats) -> npt.NDArray[np.uint8]:
    """Full-range BT.601, as in JPEG files: `chroma` is (Cr, Cb) around 128."""
    luma = np.clip(luma, 0, 255)[..., None]
    red, blue = chroma[..., 0] - 128, chroma[..., 1] - 128
    tint = np.stack([1.402 * red, -0.714136 * red - 0.344136 * blue, 1.772 * blue], axis=-1)
    # A colour too strong for its brightness turns paler; cut off, it would change its hue.
    room = np.where(tint > 0, 255 - luma, luma) / np.maximum(np.abs(tint), 1e-3)
    rgb = luma + tint * np.minimum(room.min(axis=-1, keepdims=True), 1)
    return np.asarray(np.clip(np.rint(rgb), 0, 255)).astype(np.uint8)
