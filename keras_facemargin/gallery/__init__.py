"""Galleries: enrol people, and identify a face among them or call it unknown.

`Gallery` is one SQLite file. It takes embeddings, and opens no embedder and no detector.
"""

from keras_facemargin.gallery.gallery import (
    QUALITY_WEIGHT,
    EnrolledImage,
    Gallery,
    Identity,
    Person,
    expected_fpir,
)
from keras_facemargin.gallery.migration import Migration, Price, fit_migration, price

__all__ = [
    "QUALITY_WEIGHT",
    "EnrolledImage",
    "Gallery",
    "Identity",
    "Migration",
    "Person",
    "Price",
    "expected_fpir",
    "fit_migration",
    "price",
]
