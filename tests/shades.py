"""People of one colour each: images that cost nothing, and an embedder that distinguishes them."""

import numpy as np
from PIL import Image


def write_shades(folder, shades, size=8):
    """Writes name -> (r, g, b), one plain image each; gives the paths."""
    for name, shade in shades.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((size, size, 3), shade, np.uint8)).save(path)
    return [folder / name for name in shades]


def shade_of(person, image=0):
    """A colour for each number of a person, which changes a little from image to image."""
    rng = np.random.default_rng(person)
    return np.clip(rng.integers(20, 230, 3) + 2 * image, 0, 255)


def mean_colour(batch):
    """(B, H, W, 3) -> (B, 3), around grey, so that colours have all directions."""
    return batch.mean(axis=(1, 2)) - 127.5
