"""Audits of a labelled set: wrong labels, near-duplicates, people with two labels."""

from keras_facemargin.audit.labels import (
    LabelNoise,
    SimilarPairs,
    label_noise,
    near_duplicates,
    shared_identities,
    shared_images,
)
from keras_facemargin.audit.report import Audit, audit_faces
from keras_facemargin.audit.sheet import draw_audit

__all__ = [
    "Audit",
    "LabelNoise",
    "SimilarPairs",
    "audit_faces",
    "draw_audit",
    "label_noise",
    "near_duplicates",
    "shared_identities",
    "shared_images",
]
