"""Warnings and errors about images that are not aligned to their template."""

import warnings
from collections.abc import Sequence
from typing import Any


def note_unaligned(faces: Any) -> None:
    """Warns of a set that is slightly off its template; a set that is far off has warned already.

    Args:
        faces: labelled faces, as `open_faces` returns them.
    """
    from keras_facemargin.images.alignment_check import FEWEST, alignment_report, doubt

    if len(faces) < FEWEST:
        _warn(doubt(faces))
    elif faces.crop.template is not None:
        report = alignment_report(faces)
        if not (report.aligned or report.clearly_off):
            _warn(str(report))


def note_crops(paths: Sequence[Any], embedder: Any) -> None:
    """Warns of images that are not aligned crops; `embed` itself warns of larger ones.

    Args:
        paths: image files, as `read_face` takes them.
        embedder: the embedder, whose crop they should be.
    """
    from keras_facemargin.images import Crop
    from keras_facemargin.images.alignment_check import doubt, larger

    crop = Crop.of_embedder(embedder)
    if not larger(paths, crop):
        _warn(doubt(paths, crop))


def _warn(reason: str | None) -> None:
    if reason is not None:
        warnings.warn(
            f"{reason} Embeddings of such crops mean little: `facemargin align` cuts aligned crops "
            "out of photos.",
            stacklevel=3,
        )


def refuse_photos(paths: Sequence[Any], embedder: Any) -> None:
    """Refuses a few images that are not aligned crops: their score would be a wrong answer.

    Args:
        paths: image files.
        embedder: the embedder, whose crop they must be.

    Raises:
        ValueError: an image is not a crop of that size, or does not look like one.
        OSError: an image cannot be opened.
    """
    from keras_facemargin.images import Crop, read_face
    from keras_facemargin.images.alignment_check import doubt
    from keras_facemargin.images.image import read_size

    crop = Crop.of_embedder(embedder)
    rule = f"Two faces are compared on aligned crops of {crop} pixels (height x width)."
    align = "`facemargin align PHOTOS CROPS" + ("" if crop.size == 112 else f" --size {crop}") + "`"
    for path in paths:
        width, height = read_size(path)
        if (height, width) != crop.shape:
            raise ValueError(
                f"{rule} Received: {path} of {height}x{width}. {align} cuts crops out of photos; "
                "resize an aligned crop of another size first."
            )
        read_face(path, crop)  # names an image that cannot be decoded
    reason = doubt(paths, crop)
    if reason is not None:
        raise ValueError(
            f"{rule} Received: {' and '.join(map(str, paths))}. {reason} {align} cuts crops out of "
            "photos."
        )
