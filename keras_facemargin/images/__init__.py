"""One photo, one crop: pixels, alignment, detection, and synthetic faces for the demo.

An image is RGB, uint8 or float in 0..255, channels last. Points are x and y in pixels.
"""

from keras_facemargin.images.align import (
    align_face,
    alignment_matrix,
    similarity_transform,
)
from keras_facemargin.images.alignment_check import AlignmentReport, alignment_report
from keras_facemargin.images.crop import Crop
from keras_facemargin.images.degrade import degrade
from keras_facemargin.images.detect import (
    DetectedFace,
    Detector,
    choose_face,
    load_detector,
)
from keras_facemargin.images.image import BadImage, decode_face, read_face, read_photo
from keras_facemargin.images.landmarks import read_landmarks
from keras_facemargin.images.mtcnn import MtcnnDetector
from keras_facemargin.images.photos import AlignedFolder, align_folder
from keras_facemargin.images.synthetic import synthesize_faces, write_synthetic_faces

__all__ = [
    "AlignedFolder",
    "AlignmentReport",
    "BadImage",
    "Crop",
    "DetectedFace",
    "Detector",
    "MtcnnDetector",
    "align_face",
    "align_folder",
    "alignment_matrix",
    "alignment_report",
    "choose_face",
    "decode_face",
    "degrade",
    "load_detector",
    "read_face",
    "read_landmarks",
    "read_photo",
    "similarity_transform",
    "synthesize_faces",
    "write_synthetic_faces",
]
