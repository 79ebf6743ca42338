"""Pixels in: image files and their containers to `(B, 112, 112, 3)` RGB 0..255.

And the faces that are made for the demo.
"""

from keras_facemargin.data.align import (
    align_face,
    alignment_matrix,
    similarity_transform,
    template_points,
)
from keras_facemargin.data.alignment_check import AlignmentReport, alignment_report
from keras_facemargin.data.detect import (
    DetectedFace,
    Detector,
    MtcnnDetector,
    choose_face,
    load_detector,
)
from keras_facemargin.data.fetch import FetchError, RemoteFile, fetch_lfw
from keras_facemargin.data.folder import FaceFolder
from keras_facemargin.data.image import BadImage, decode_face, read_face, read_photo
from keras_facemargin.data.pairs_bin import PairsBin, write_pairs_bin
from keras_facemargin.data.photos import AlignedFolder, align_folder, read_landmarks
from keras_facemargin.data.recordio import (
    FaceRecords,
    Record,
    RecordReader,
    RecordWriter,
    pack_record,
    unpack_record,
    write_face_records,
)
from keras_facemargin.data.synthetic import synthesize_faces, write_synthetic_faces

__all__ = [
    "AlignedFolder",
    "AlignmentReport",
    "BadImage",
    "DetectedFace",
    "Detector",
    "FaceFolder",
    "FaceRecords",
    "FetchError",
    "MtcnnDetector",
    "PairsBin",
    "Record",
    "RecordReader",
    "RecordWriter",
    "RemoteFile",
    "align_face",
    "align_folder",
    "alignment_matrix",
    "alignment_report",
    "choose_face",
    "decode_face",
    "fetch_lfw",
    "load_detector",
    "pack_record",
    "read_face",
    "read_landmarks",
    "read_photo",
    "similarity_transform",
    "synthesize_faces",
    "template_points",
    "unpack_record",
    "write_face_records",
    "write_pairs_bin",
    "write_synthetic_faces",
]
