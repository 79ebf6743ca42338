"""Pixels in: image files to `(B, 112, 112, 3)` RGB 0..255, and the faces made for the demo."""

from keras_facemargin.data.folder import FaceFolder
from keras_facemargin.data.image import BadImage, decode_face, read_face
from keras_facemargin.data.synthetic import synthesize_faces, write_synthetic_faces

__all__ = [
    "BadImage",
    "FaceFolder",
    "decode_face",
    "read_face",
    "synthesize_faces",
    "write_synthetic_faces",
]
