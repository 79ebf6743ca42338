"""Trillion Pairs: 1,862,120 images; only the organisers' server knew the people.

The images are 274,000 of 5,700 people of LFW and 1.58 million of Flickr. A participant sends one
file of features in the order of the list; the server answered with the TPR at FAR 1e-9 of
verification and the top-1 rate at FAR 1e-3 of identification. This module writes that file. With
the people, `search_among_distractors` gives the first rate. The rule of the FAR of the second was
not published in a form that could be checked, so it is not implemented.

DeepGlint, "Trillion Pairs Testing Faceset", 2018.
"""

import math
import os
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_facemargin.evaluate.embedding import Embedder, embed
from keras_facemargin.evaluate.protocols.lists import bad_line, find_images, read_lines
from keras_facemargin.files import atomic_write

# OpenCV's number for a matrix of float32.
CV_32F = 5

# Images with embeddings in memory at a time.
IMAGES_AT_ONCE = 65_536


def read_trillion_pairs(
    lists: str | os.PathLike[str], images_dir: str | os.PathLike[str], *, on_missing: str = "refuse"
) -> tuple[tuple[Path, ...], frozenset[Path]]:
    """Reads `testdata_lmk.txt` in the folder `lists`: a line ``PATH x1 y1 ... x5 y5`` per image.

    Args:
        lists: the folder with the list.
        images_dir: folder of aligned crops, where the paths start.
        on_missing: as `read_pairs`; with "reject" a missing image has a row of zeros.

    Returns:
        The images as a tuple of files in the order of the list, and the missing ones.

    Raises:
        ValueError: if the list breaks the format (naming the line).
        FileNotFoundError: if the list or an image is missing, the latter as `read_pairs`.
    """
    file, names = Path(lists) / "testdata_lmk.txt", []
    for number, line in read_lines(file, "the list of images"):
        name, *points = line.split()
        if len(points) != 10 or not all(_is_number(point) for point in points):
            raise bad_line(file, number, "must be 'PATH x1 y1 ... x5 y5'.", line)
        names.append(name)
    if not names:
        raise ValueError(f"{file}: must list images. Received: none.")
    images, missing = find_images(names, images_dir, file, on_missing=on_missing)
    return tuple(images[name] for name in names), missing


def write_trillion_pairs(
    embedder: Embedder,
    images: Sequence[Any],
    file: str | os.PathLike[str],
    *,
    missing: Container[Any] = frozenset(),
    flip: bool = True,
    batch_size: int = 64,
    progress: bool = True,
) -> tuple[int, int]:
    """Embeds the images and writes the file to send: float32 rows behind OpenCV's matrix header.

    The header is four little-endian int32: rows, columns, bytes of a row, and 5 for float32.
    Memory is that of `IMAGES_AT_ONCE` embeddings. The file appears when it is complete.

    Args:
        embedder, flip, batch_size, progress: as `keras_facemargin.evaluate.embed`.
        images: files, in the order of the list.
        file: path to write.
        missing: the images that get a row of zeros.

    Returns:
        (rows, columns).

    Raises:
        ValueError, OSError: as `embed`; or if the file cannot be written.

    Example:
        >>> from keras_facemargin.images import write_synthetic_faces
        >>> files = write_synthetic_faces("faces", num_identities=2, images_per_identity=2)
        >>> def brightness(images):
        ...     return images.mean(axis=(1, 2))
        >>> write_trillion_pairs(brightness, files, "features.bin", flip=False, progress=False)
        (4, 3)
        >>> Path("features.bin").stat().st_size
        64
    """
    width = None
    with atomic_write(file, "wb") as stream:
        for start in range(0, len(images), IMAGES_AT_ONCE):
            part = images[start : start + IMAGES_AT_ONCE]
            there = np.array([image not in missing for image in part])
            present = [image for image in part if image not in missing]
            found = None
            if present:
                found = embed(
                    embedder, present, flip=flip, batch_size=batch_size, progress=progress
                )
                if width is None:
                    width = found.shape[1]
                    header = (len(images), width, 4 * width, CV_32F)
                    stream.write(np.array(header, "<i4").tobytes())
                    stream.write(bytes(start * 4 * width))  # all missing until here
                elif width != found.shape[1]:
                    raise ValueError(
                        "The embedder must give embeddings of one width. Received: widths "
                        f"{width} and {found.shape[1]}."
                    )
            if width is not None:
                rows = np.zeros((len(part), width), "<f4")
                rows[there] = found if present else 0
                stream.write(rows.tobytes())
        if width is None:
            raise ValueError("`images` must have an existing image. Received: only missing ones.")
    return len(images), width


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
