"""Warnings and errors about images that are not aligned to the template."""

import warnings


def note_unaligned(faces):
    """Warns of a set that is slightly off the template; opening one that is far off has warned."""
    from keras_facemargin.images import alignment_report

    if len(faces) >= 12 and alignment_report(faces).clearly_off:
        return
    _warn_of_doubt(faces)


def _warn_of_doubt(images):
    from keras_facemargin.images.alignment_check import doubt

    reason = doubt(images)
    if reason is not None:
        warnings.warn(
            f"{reason} The embeddings of such crops mean little: `facemargin align` cuts aligned "
            "crops out of the photos.",
            stacklevel=3,
        )


def note_crops(paths, embedder):
    """Warns of images that are not aligned crops; `embed` itself warns of larger ones."""
    from keras_facemargin.images.alignment_check import larger

    if not larger(paths, _side(embedder)):
        _warn_of_doubt(paths)


def refuse_photos(paths, embedder):
    """Refuses a few images that are not aligned crops: their score would be a wrong answer."""

    from keras_facemargin.images import read_face
    from keras_facemargin.images.alignment_check import doubt
    from keras_facemargin.images.image import read_size

    side = _side(embedder)
    rule = f"Two faces are compared on aligned crops of {side}x{side} pixels."
    way_out = "`facemargin align PHOTOS CROPS" + ("" if side == 112 else f" --size {side}") + "`"
    for path in paths:
        read_face(path)  # names an image that cannot be read, before its size is judged
        width, height = read_size(path)
        if (width, height) != (side, side):
            raise ValueError(
                f"{rule} Received: {path} of {width}x{height}. {way_out} makes crops of photos; an "
                "aligned crop of another size must be resized first."
            )
    reason = doubt(paths)
    if reason is not None:
        raise ValueError(
            f"{rule} Received: {' and '.join(map(str, paths))}. {reason} {way_out} makes crops of "
            "photos."
        )


def _side(embedder):
    return embedder.input_shape[1] or 112
