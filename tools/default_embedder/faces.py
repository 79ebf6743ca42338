"""The crops that the default embedder learns from, and those that it is chosen and measured by.

People of `celeb2/train` are split by their name: 82 of 100 train, 4 are for choices (`CHOICE`), 14
for the figures and thresholds of the card (`CARD`). All of `celeb` trains: the first generation,
whose weights a run may begin with, has seen it (`SEEN`). So a held-out person who looks like an
unlabelled crop of it to the teacher is not measured (`targets.unseen`), and unlabelled crops that
look like one of the others are not trained on (`targets.without_held_out`). No crop is of a person
of LFW.

A crop of a photo that is tighter than the template has a black frame. A network that sees frames
only on some people learns the frame, so `views` puts frames on full crops too.
"""

import csv
import zlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from rich.progress import track

from keras_facemargin.images import read_face

SIZE = 112
SEEN, TRAIN, CHOICE, CARD = "seen", "train", "choice", "card"
_NEEDED = "The data must have celeb/train, celeb2/train and celeb2/manifest.csv."
_FULL = 0.98  # share of a crop inside of its photo, from which on it has no frame
# People with two labels in celeb/train.
_SAME_PERSON = {
    "c7393": "c7392",
    "c2813": "p_Ehud_Olmert",
    "c2309": "p_Dave_Chappelle",
    "c6912": "p_Miley_Cyrus",
}


class Crop(NamedTuple):
    """A file: its person ("" if unknown), its part, whether it fills the template."""

    path: Path
    person: str
    part: str
    full: bool


def part_of(person):
    """The part of a person of celeb2, the same whatever other people there are.

    >>> part_of("c10"), part_of("c6")
    ('train', 'card')
    """
    number = zlib.crc32(person.encode()) % 100
    return CHOICE if number < 4 else CARD if number < 18 else TRAIN


def list_crops(data):
    """All crops, in an order that depends on the files only."""
    manifest = data / "celeb2" / "manifest.csv"
    if not manifest.is_file():
        raise SystemExit(f"{_NEEDED} Received: {data}, without {manifest.relative_to(data)}.")
    with manifest.open(newline="", encoding="utf-8") as file:
        inside = {row["file"]: float(row["inside"]) for row in csv.DictReader(file)}

    def crop(path, person, part):
        name = path.relative_to(data).as_posix()
        full = inside.get(name.removeprefix("celeb2/"), 1.0) >= _FULL
        return Crop(path, _SAME_PERSON.get(person, person), part, full)

    labelled = [
        crop(path, path.parent.name, SEEN if folder == "celeb" else part_of(path.parent.name))
        for folder in ("celeb", "celeb2")
        for path in sorted((data / folder / "train").glob("*/*.jpg"))
    ]
    if not labelled:
        raise SystemExit(f"{_NEEDED} Received: {data}, without labelled crops.")
    unlabelled = [
        crop(path, "", part)
        for files, part in (("celeb/unlabelled/*.jpg", SEEN), ("celeb2/unlabelled/*/*.jpg", TRAIN))
        for path in sorted(data.glob(files))
    ]
    return labelled + unlabelled


def open_pixels(path, crops, mixes, seed):
    """uint8 (N + mixes, 112, 112, 3) in a file: the crops, then mixes of two training crops.

    Decoded once: a step reads rows of a memory map. Made again if the file is missing or short.
    """
    shape = (len(crops) + mixes, SIZE, SIZE, 3)
    if path.exists():
        pixels = np.load(path, mmap_mode="r")
        if pixels.shape == shape:
            return pixels
    draft = path.with_suffix(".draft")
    pixels = np.lib.format.open_memmap(draft, mode="w+", dtype=np.uint8, shape=shape)
    for row, crop in enumerate(track(crops, "Crops")):
        pixels[row] = read_face(crop.path, SIZE)
    sources = np.flatnonzero([crop.part in (SEEN, TRAIN) for crop in crops])
    for number in track(range(mixes), "Mixes"):
        pixels[len(crops) + number] = mix(pixels, sources, np.random.default_rng((seed, number)))
    pixels.flush()
    draft.rename(path)
    return np.load(path, mmap_mode="r")


def mix(pixels, sources, rng):
    """A face that does not exist: two crops, one in the colours of the other, by a soft mask."""
    face, other = (pixels[row].astype(np.float32) for row in rng.choice(sources, 2, replace=False))
    other = (other - other.mean((0, 1))) / (other.std((0, 1)) + 1)
    other = other * face.std((0, 1)) + face.mean((0, 1))
    weight = np.float32(rng.uniform(0.3, 0.7)) if rng.random() < 0.25 else _soft_mask(rng)
    return np.clip(np.rint(weight * face + (1 - weight) * other), 0, 255).astype(np.uint8)


def _soft_mask(rng):
    """Weights 0..1, (SIZE, SIZE, 1): a soft half, or smooth random patches."""
    if rng.random() < 0.5:
        y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j].astype(np.float32)
        angle = rng.uniform(0, 2 * np.pi)
        field = np.cos(angle) * x + np.sin(angle) * y + rng.uniform(-0.4, 0.4)
    else:
        side = int(rng.integers(3, 6))
        noise = rng.normal(0, 0.6, (side, side)).astype(np.float32)
        field = cv2.resize(noise, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    return (1 / (1 + np.exp(-field / rng.uniform(0.05, 0.25))))[..., None].astype(np.float32)
