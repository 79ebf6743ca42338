"""Augmentation of face crops: Keras layers for a model or `tf.data`, and the light default."""

from keras_facemargin.augmentation.layers import (
    FaceAugmentation,
    RandomBlur,
    RandomCropAndPad,
    RandomCutout,
    RandomFaceMask,
    RandomJPEG,
    RandomLowResolution,
    RandomMirror,
    RandomPhotometric,
    RandomShift,
)

__all__ = [
    "FaceAugmentation",
    "RandomBlur",
    "RandomCropAndPad",
    "RandomCutout",
    "RandomFaceMask",
    "RandomJPEG",
    "RandomLowResolution",
    "RandomMirror",
    "RandomPhotometric",
    "RandomShift",
]
