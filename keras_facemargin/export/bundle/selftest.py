"""The self-test of a bundle: drawn faces, their embeddings, and those under each known fault.

The same faults return every year: blue before red, pixels scaled to 0..1, pixels normalised by the
app and again by the model, channels first, a crop that is not aligned, an accelerator that gives
one embedding for all faces. Each leaves its own embedding of a known crop, so the embedding that an
app computes names the fault.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from keras_facemargin.export.bundle.manifest import Expected, Fault
from keras_facemargin.images.align import align_face, similarity_transform
from keras_facemargin.images.crop import Crop
from keras_facemargin.images.synthetic import synthesize_faces
from keras_facemargin.runtime.file import Session
from keras_facemargin.zoo.parity import golden_crop

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating]

CROPS = ("synthetic-1", "synthetic-2")  # as `golden_crop` names them
# An app may run the file in another runtime, or on a GPU in float16. Eight bits round differently.
LEAST_COSINE = {"int8": 0.99, "dynamic_int8": 0.99}
FLOAT_LEAST_COSINE = 0.999
LEAST_COSINE_PHOTO = 0.99  # another code for the alignment: a grey level on average

BGR, UNIT, TWICE, NCHW = "BGR", "0..1", "normalised twice", "NCHW"
SHIFTED, CONSTANT, UNKNOWN = "shifted crop", "constant output", "unknown fault"
_LEAST_SHIFTED = 0.5  # cosine to the nearest of the stored shifts; strangers are below
_EQUAL = 0.99  # cosine of the embeddings of two people, if the output is constant up to noise
# Of two faults whose embeddings are nearly one, the nearer is named if it is this much nearer.
_NEARER = 2.0


class Photo(NamedTuple):
    """A drawn photo: uint8 (H, W, 3), and (5, 2) points in its pixels."""

    image: Pixels
    points: Floats


def golden_crops(crop: Crop) -> list[Pixels]:
    """Two drawn faces as crops, uint8 (H, W, 3)."""
    return [golden_crop(name, crop) for name in CROPS]


def golden_photo(crop: Crop) -> Photo | None:
    """The first face on a photo, larger than the crop, turned and off the middle.

    Returns:
        A `Photo`; None if the crop has no template, so that no points say how to cut it.
    """
    if crop.template is None:
        return None
    face = synthesize_faces(1, 1, seed=1)[0][0]
    own = Crop.of(112, "arcface")
    # Two and a half times as large as a crop: the alignment has to average before it samples.
    scale, turn = crop.height / 112, np.deg2rad(17.0)
    height, width = round(360 * scale), round(320 * scale)
    middle = own.points.mean(0)
    turned = 2.5 * scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = (own.points - middle) @ turned.T + np.array([0.47 * width, 0.55 * height])
    # From the photo to the face; Pillow counts the corner of a pixel as (0, 0).
    matrix = similarity_transform(points, own.points + _BORDER)
    matrix[:, 2] += 0.5 - matrix[:, :2] @ [0.5, 0.5]
    padded = np.pad(face, ((_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0)), mode="edge")
    drawn = Image.fromarray(padded).transform(
        (width, height),
        Image.Transform.AFFINE,
        tuple(matrix.ravel()),
        Image.Resampling.BICUBIC,
    )
    return Photo(np.asarray(drawn), points.round(2))


_BORDER = 40  # pixels around the drawn face that repeat its edge


def expected_embeddings(
    session: Session, crops: list[Pixels], photo: Photo | None, crop: Crop, precision: str
) -> Expected:
    """The embeddings of the self-test by a model file, right and under each fault.

    Args:
        session: the file, opened.
        crops: as `golden_crops` gives them.
        photo: as `golden_photo` gives it.
        crop: the crop.
        precision: of the file.
    """
    run = embedding_of(session)
    aligned = None if photo is None else run(align_face(photo.image, photo.points, crop))
    seen = [list(faulty_inputs(each, session.dtype)) for each in crops]
    return Expected(
        least_cosine=LEAST_COSINE.get(precision, FLOAT_LEAST_COSINE),
        least_cosine_photo=LEAST_COSINE_PHOTO,
        crops=tuple(_numbers(run(each)) for each in crops),
        photo=None if aligned is None else _numbers(aligned),
        faults=tuple(
            Fault(
                name=every[0].name,
                words=every[0].words,
                exact=every[0].exact,
                crops=tuple(_numbers(run(each.values)) for each in every),
            )
            for every in zip(*seen, strict=True)
        ),
    )


def embedding_of(session: Session) -> Callable[[Floats | Pixels], Floats]:
    """A function from the input of one crop, (H, W, 3), to its embedding of unit length (D,)."""

    def run(values: Floats | Pixels) -> Floats:
        (embeddings,) = session.run(np.ascontiguousarray(values[None], session.dtype))
        return unit(embeddings[0])

    return run


def unit(embedding: Floats) -> Floats:
    """The embedding at unit length; zeros stay zeros."""
    values = embedding.astype("float64")
    length: float = np.linalg.norm(values).item()
    return values / length if length else values


class FaultyInput(NamedTuple):
    """The input that an app with a fault gives the model; fields as those of `Fault`."""

    name: str
    words: str
    exact: bool
    values: Floats | Pixels


def faulty_inputs(crop: Pixels, dtype: npt.DTypeLike) -> Iterator[FaultyInput]:
    """The inputs of apps with a fault, for one crop.

    Args:
        crop: uint8 (H, W, 3).
        dtype: of the model's input, float32 or uint8.
    """
    yield FaultyInput(BGR, "blue comes before red", True, crop[..., ::-1])
    planes = crop.transpose(2, 0, 1).reshape(crop.shape)
    yield FaultyInput(NCHW, "the colours are in three planes, channels first", True, planes)
    if np.dtype(dtype) == np.uint8:
        shares = crop / 255
        for words, values in (
            ("the pixels are divided by 255 and cut off to bytes", shares.astype("uint8")),
            ("the pixels are divided by 255 and rounded to bytes", np.rint(shares).astype("uint8")),
            ("the pixels become 0, or the input stays empty", np.zeros_like(crop)),
        ):
            yield FaultyInput(UNIT, words, True, values)
        for words, values in (
            ("bytes of pixel - 128", crop ^ np.uint8(128)),
            ("bytes of pixel / 127.5 - 1", np.rint(crop / 127.5 - 1).astype("int8").view("uint8")),
        ):
            yield FaultyInput(TWICE, f"the app computes {words}", True, values)
    else:
        pixels = crop.astype("float32")
        mean, deviation = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
        yield FaultyInput(UNIT, "the pixels are divided by 255", True, pixels / 255)
        for words, values in (
            ("(pixel - 127.5) / 127.5", (pixels - 127.5) / 127.5),
            ("(pixel / 255 - mean) / standard deviation of ImageNet", (pixels - mean) / deviation),
            ("pixel - 127.5", pixels - 127.5),
        ):
            yield FaultyInput(TWICE, f"the app computes {words}", True, values)
        yield FaultyInput(CONSTANT, "the input stays empty: all zeros", True, np.zeros_like(pixels))
    for words, moved in _moved(crop):
        yield FaultyInput(SHIFTED, words, False, moved)


def _moved(crop: Pixels) -> Iterator[tuple[str, Pixels]]:
    height, width = crop.shape[:2]
    for part in (0.05, 0.12):
        step = round(part * height)
        padded = np.pad(crop, ((step, step), (step, step), (0, 0)))
        for x, y in np.ndindex(3, 3):
            if (x, y) != (1, 1):
                moved = padded[y * step : y * step + height, x * step : x * step + width]
                across, down = ("right", "", "left")[x], ("down", "", "up")[y]
                words = " and ".join(filter(None, (across, down)))
                yield f"near a face moved {step} pixels {words}", moved
    for words, factor in (("large", 1 / 1.2), ("small", 1.2)):
        edge = [(1 - factor) / 2 * side for side in (width, height)]
        scale = (factor, 0, edge[0], 0, factor, edge[1])
        zoomed = Image.fromarray(crop).transform(
            (width, height), Image.Transform.AFFINE, scale, Image.Resampling.BILINEAR
        )
        yield f"near a face 1.2 times as {words}", np.asarray(zoomed)


class Diagnosis(NamedTuple):
    """The difference between an app's embeddings and the expected ones.

    Attributes:
        faults: names of the fault; empty: the embeddings are right; two names if the embeddings
            under both faults are nearly one.
        words: what the app does.
        cosines: of the app's embeddings to the expected ones; empty if one is not finite.
    """

    faults: tuple[str, ...]
    words: str
    cosines: tuple[float, ...]


def diagnose(embeddings: Sequence[Floats], expected: Expected) -> Diagnosis:
    """Names the fault of an app from its embeddings of the two golden crops.

    A fault of the pixels gives its stored embeddings exactly. A crop that is shifted by another
    distance than a stored one is only near them.

    Args:
        embeddings: of the golden crops, any length, (D,) each.
        expected: of the model file that the app runs.
    """
    given = [np.asarray(each) for each in embeddings]
    if not all(np.isfinite(each).all() and each.any() for each in given):
        return Diagnosis((CONSTANT,), "an embedding is zero or not finite", ())
    found = [unit(each) for each in given]
    cosines = tuple(float(a @ b) for a, b in zip(found, expected.crops, strict=True))
    if min(cosines) >= expected.least_cosine:
        return Diagnosis((), "as expected", cosines)
    scored = sorted(
        ((_score(found, fault), fault) for fault in expected.faults),
        key=lambda one: one[0],
        reverse=True,
    )
    exact = [(score, fault) for score, fault in scored if fault.exact]
    score, fault = exact[0]
    if score >= expected.least_cosine:
        others = [each for each in exact if each[1].name != fault.name]
        names = [fault.name]
        if others and 1 - others[0][0] < _NEARER * (1 - score):
            names.append(others[0][1].name)
        words = " or ".join([fault.words, *(others[0][1].words for _ in names[1:])])
        return Diagnosis(tuple(names), words, cosines)
    if found[0] @ found[1] > _EQUAL:
        return Diagnosis((CONSTANT,), "the embeddings of two people are one", cosines)
    score, fault = next(each for each in scored if not each[1].exact)
    if score >= _LEAST_SHIFTED:
        return Diagnosis((SHIFTED,), fault.words, cosines)
    return Diagnosis((UNKNOWN,), "the embeddings are near none of the known faults", cosines)


def _score(found: list[Floats], fault: Fault) -> float:
    return min(float(a @ b) for a, b in zip(found, fault.crops, strict=True))


def _numbers(embedding: Floats) -> tuple[float, ...]:
    return tuple(embedding.round(6).tolist())
