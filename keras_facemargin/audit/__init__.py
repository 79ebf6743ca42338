"""What may be wrong with a set: wrong labels, duplicates, people in two sets."""

from keras_facemargin.audit.labels import (
    AlikePairs,
    LabelNoise,
    draw_audit,
    label_noise,
    near_duplicates,
    shared_identities,
    shared_images,
)

__all__ = [
    "AlikePairs",
    "LabelNoise",
    "draw_audit",
    "label_noise",
    "near_duplicates",
    "shared_identities",
    "shared_images",
]
