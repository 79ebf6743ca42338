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
from keras_facemargin.data.containers import open_faces
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
from keras_facemargin.data.layers import (
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
from keras_facemargin.data.pack import Packed, pack_faces
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
from keras_facemargin.data.samplers import (
    BalancedSampler,
    CappedSampler,
    IdentityBatches,
    Sampler,
)
from keras_facemargin.data.synthetic import synthesize_faces, write_synthetic_faces
from keras_facemargin.data.tfrecord import (
    FaceTFRecords,
    TFRecordReader,
    pack_example,
    unpack_example,
    write_face_tfrecords,
)

__all__ = [
    "AlignedFolder",
    "AlignmentReport",
    "BadImage",
    "BalancedSampler",
    "CappedSampler",
    "DetectedFace",
    "Detector",
    "FaceAugmentation",
    "FaceFolder",
    "FaceRecords",
    "FaceTFRecords",
    "FetchError",
    "IdentityBatches",
    "MtcnnDetector",
    "Packed",
    "PairsBin",
    "RandomBlur",
    "RandomCropAndPad",
    "RandomCutout",
    "RandomFaceMask",
    "RandomJPEG",
    "RandomLowResolution",
    "RandomMirror",
    "RandomPhotometric",
    "RandomShift",
    "Record",
    "RecordReader",
    "RecordWriter",
    "RemoteFile",
    "Sampler",
    "TFRecordReader",
    "align_face",
    "align_folder",
    "alignment_matrix",
    "alignment_report",
    "choose_face",
    "decode_face",
    "fetch_lfw",
    "load_detector",
    "open_faces",
    "pack_example",
    "pack_faces",
    "pack_record",
    "read_face",
    "read_landmarks",
    "read_photo",
    "similarity_transform",
    "synthesize_faces",
    "template_points",
    "unpack_example",
    "unpack_record",
    "write_face_records",
    "write_face_tfrecords",
    "write_pairs_bin",
    "write_synthetic_faces",
]
