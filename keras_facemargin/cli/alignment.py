"""Images that do not stand on the template: what is made of them means little."""

import warnings


def note_unaligned(faces):
    """Warns of a set that does not stand on the template, from a few images of it."""
    from keras_facemargin.data.alignment_check import doubt

    reason = doubt(faces)
    if reason is not None:
        warnings.warn(
            f"{reason} What an embedder makes of such crops means little: facemargin align makes "
            "new ones from the photos.",
            stacklevel=2,
        )


def note_crops(paths, embedder):
    """As `note_unaligned`, of images that are embedded; `embed` warns of those that it resizes."""
    from keras_facemargin.data.alignment_check import of_another_size

    if not of_another_size(paths, _side(embedder)):
        note_unaligned(paths)


def refuse_photos(paths, embedder):
    """Refuses a few images that are no aligned crops: their score would be a wrong answer."""
    from keras_facemargin.data import read_face
    from keras_facemargin.data.alignment_check import doubt, of_another_size

    for path in paths:
        read_face(path)  # names an image that cannot be read, before its size is judged
    side = _side(embedder)
    rule = f"Two faces are compared on aligned crops of {side}x{side} pixels."
    way_out = "`facemargin align PHOTOS CROPS" + ("" if side == 112 else f" --size {side}") + "`"
    photos = of_another_size(paths, side)
    if photos:
        path, width, height = photos[0]
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
