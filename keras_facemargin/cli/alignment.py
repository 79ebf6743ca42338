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


def refuse_wrong_kind(paths: Sequence[Any], embedder: Any, aligned: bool | None) -> None:
    """Refuses a crop in the place of a photo, and a photo in the place of a crop.

    The score of a photo that is taken for a crop would be a wrong answer, and a detector finds a
    worse alignment, or no face, on a crop.

    Args:
        paths: image files.
        embedder: the embedder, whose crop decides.
        aligned: whether they are crops; None if the user has not said.

    Raises:
        ValueError: an image has exactly the size of a crop and `aligned` is None; or `aligned` is
            true, and an image is not a crop of that size, or does not look like one.
        OSError: an image cannot be opened.
    """
    from keras_facemargin.images import Crop, read_face
    from keras_facemargin.images.alignment_check import doubt
    from keras_facemargin.images.image import read_size

    crop = Crop.of_embedder(embedder)
    if aligned is False:
        return
    rule = f"An aligned crop has {crop} pixels (height x width) and a face on the template."
    for path in paths:
        width, height = read_size(path)
        if aligned is None:
            if (height, width) == crop.shape:
                raise ValueError(
                    f"A photo must not have the size of an aligned crop. Received: {path} of "
                    f"{crop} pixels. Add --aligned if the images are aligned crops, or --photos "
                    "if it is a small photo."
                )
            continue
        if (height, width) != crop.shape:
            raise ValueError(
                f"{rule} Received: {path} of {height}x{width}. Leave --aligned out to compare "
                "photos; resize an aligned crop of another size first."
            )
        read_face(path, crop)  # names an image that cannot be decoded
    reason = doubt(paths, crop) if aligned else None
    if reason is not None:
        raise ValueError(
            f"{rule} Received: {' and '.join(map(str, paths))}. {reason} Leave --aligned out, or "
            "use --photos, to compare photos."
        )
