"""A picture of the doubtful images of an audit, to look at before an image is removed."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from keras_facemargin.audit.report import Audit
from keras_facemargin.images.image import read_face

_SHOWN = 4  # images of an identity in a row
_TEXT = 40  # pixels for the text above a row


def draw_audit(audit: Audit, file: str | os.PathLike[str], *, most: int = 40) -> None:
    """Draws a sheet of the doubtful images.

    Each of the worst suspects has a row: the image, images of its identity, images of the identity
    that it is more similar to. Each pair of near-duplicates with two labels has a row, the most
    similar first.

    Args:
        audit: the `Audit`.
        file: the picture to write; its ending chooses the format.
        most: rows of each kind.

    Raises:
        OSError: the picture cannot be written.
    """
    faces = audit.faces
    rows = [*_suspects(audit, most), *_duplicates(audit, most)]
    height, width = faces.crop.shape
    size = width * (2 * _SHOWN + 2), max(1, len(rows)) * (height + _TEXT)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for number, (text, groups) in enumerate(rows):
        top, left = number * (height + _TEXT), 0
        # The built-in font has no other letters.
        text = text.encode("latin-1", "replace").decode("latin-1")
        draw.text((4, top + _TEXT - 16), text, "black")
        for group in groups:
            for row in group:
                image = Image.fromarray(read_face(faces.paths[row], faces.crop))
                sheet.paste(image, (left, top + _TEXT))
                left += width
            left += width // 4
    sheet.save(os.fspath(file))


def _suspects(audit: Audit, most: int) -> Iterator[tuple[str, list[list[int]]]]:
    """The text and the groups of images of each suspect, worst first."""
    faces, noise = audit.faces, audit.noise
    for row in noise.suspects[:most].tolist():
        own, nearest = faces.labels[row], noise.nearest[row]
        text = (
            f"{faces.paths[row]}: labelled {faces.identities[own]} ({noise.own[row]:.2f}), "
            f"more similar to {faces.identities[nearest]} ({noise.other[row]:.2f})"
        )
        yield text, [[row], _some(faces, own, row), _some(faces, nearest, row)]


def _duplicates(audit: Audit, most: int) -> Iterator[tuple[str, list[list[int]]]]:
    """The text and the images of each pair of near-duplicates with two labels."""
    faces, pairs = audit.faces, audit.duplicates
    for index in np.flatnonzero(~np.asarray(pairs.same))[:most]:
        first, second = int(pairs.first[index]), int(pairs.second[index])
        names = [faces.identities[faces.labels[row]] for row in (first, second)]
        text = (
            f"{faces.paths[first]} and {faces.paths[second]}: {pairs.cosine[index]:.3f}, labelled "
            f"{names[0]} and {names[1]}"
        )
        yield text, [[first, second]]


def _some(faces: Any, label: int, but: int) -> list[int]:
    """Rows of the first images of a label, without one row."""
    rows = np.flatnonzero(faces.labels == label)
    return list(rows[rows != but][:_SHOWN].tolist())
