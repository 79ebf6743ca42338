"""Pixels in: image files and their containers to `(B, 112, 112, 3)` RGB 0..255.

And the faces that are made for the demo.
"""

from keras_facemargin.data.containers import open_faces
from keras_facemargin.data.fetch import fetch_lfw
from keras_facemargin.data.folder import FaceFolder
from keras_facemargin.data.formats.example import pack_example, unpack_example
from keras_facemargin.data.formats.pairs_bin import PairsBin, write_pairs_bin
from keras_facemargin.data.formats.recordio import (
    Record,
    RecordReader,
    RecordWriter,
    pack_record,
    unpack_record,
)
from keras_facemargin.data.formats.tfrecord import TFRecordReader
from keras_facemargin.data.packing.pack import Packed, pack_faces
from keras_facemargin.data.records import FaceRecords, write_face_records
from keras_facemargin.data.samplers import (
    BalancedSampler,
    CappedSampler,
    IdentityBatches,
    Sampler,
)
from keras_facemargin.data.tfrecords import FaceTFRecords, write_face_tfrecords
from keras_facemargin.download import FetchError

__all__ = [
    "BalancedSampler",
    "CappedSampler",
    "FaceFolder",
    "FaceRecords",
    "FaceTFRecords",
    "FetchError",
    "IdentityBatches",
    "Packed",
    "PairsBin",
    "Record",
    "RecordReader",
    "RecordWriter",
    "Sampler",
    "TFRecordReader",
    "fetch_lfw",
    "open_faces",
    "pack_example",
    "pack_faces",
    "pack_record",
    "unpack_example",
    "unpack_record",
    "write_face_records",
    "write_face_tfrecords",
    "write_pairs_bin",
]
