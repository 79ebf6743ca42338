"""Pixels in: image files and their containers to `(B, 112, 112, 3)` RGB 0..255.

And the faces that are made for the demo.
"""

from keras_facemargin.data.containers import open_faces
from keras_facemargin.data.folder import FaceFolder
from keras_facemargin.data.image import BadImage, decode_face, read_face
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
    "BadImage",
    "BalancedSampler",
    "CappedSampler",
    "FaceAugmentation",
    "FaceFolder",
    "FaceRecords",
    "FaceTFRecords",
    "IdentityBatches",
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
    "Sampler",
    "TFRecordReader",
    "decode_face",
    "open_faces",
    "pack_example",
    "pack_faces",
    "pack_record",
    "read_face",
    "synthesize_faces",
    "unpack_example",
    "unpack_record",
    "write_face_records",
    "write_face_tfrecords",
    "write_pairs_bin",
    "write_synthetic_faces",
]
