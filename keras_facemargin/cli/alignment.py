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
    """As `note_unaligned`, of images that are embedded; `embed` itself warns of larger ones."""
    from keras_facemargin.data.alignment_check import larger

    if not larger(paths, _side(embedder)):
        note_unaligned(paths)


def refuse_photos(paths, embedder):
    """Refuses a few images that are no aligned crops: their score would be a wrong answer."""
    from PIL import Image

    from keras_facemargin.data import read_face
    from keras_facemargin.data.alignment_check import doubt

    side = _side(embedder)
    rule = f"Two faces are compared on aligned crops of {side}x{side} pixels."
    way_out = "`facemargin align PHOTOS CROPS" + ("" if side == 112 else f" --size {side}") + "`"
    for path in paths:
        read_face(path)  # names an image that cannot be read, before its size is judged
        with Image.open(path) as image:
            width, height = image.size
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
