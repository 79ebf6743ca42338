"""Warnings of images that do not sit on the template: what is made of them means little."""

import warnings


def note_unaligned(faces):
    """Warns of a set that is slightly off the template; opening one that is far off warns."""
    from keras_facemargin.data import alignment_report

    if len(faces) < 12:  # no mean to speak of
        return
    report = alignment_report(faces)
    if not report.aligned and not report.clearly_off:
        warnings.warn(
            f"{report} What an embedder makes of such crops means less: facemargin align makes new "
            "ones from the photos.",
            stacklevel=2,
        )


def note_resized(paths, embedder):
    """Warns of images that are not of the embedder's size: often photos that nobody aligned."""
    from keras_facemargin.data.image import read_size

    side = embedder.input_shape[1] or 112
    resized = []
    for path in paths:
        width, height = read_size(path)
        if (width, height) != (side, side):
            resized.append(f"{path} ({width}x{height})")
    if resized:
        warnings.warn(
            f"{len(resized):,} of {len(paths):,} images were resized to {side}x{side}, beginning "
            f"with {resized[0]}: unless they are aligned crops, their embeddings mean nothing.",
            stacklevel=2,
        )
