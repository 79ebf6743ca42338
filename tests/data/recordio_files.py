"""RecordIO files of noise, for the tests of the format and of its readers."""

import io
import struct

import numpy as np
from PIL import Image

from keras_facemargin.data.formats.recordio import (
    Record,
    RecordWriter,
    pack_record,
)

MAGIC = struct.pack("<I", 0xCED7230A)


def encoded(seed=0, kind="JPEG", shape=(112, 112, 3), dtype="uint8", mode=None, **options):
    """The bytes of an image file of noise."""
    pixels = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    if mode is None:
        image = Image.fromarray(pixels)
    else:
        image = Image.frombytes(mode, shape[1::-1], pixels.tobytes())
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def write(path, payloads, **options):
    with RecordWriter(path, **options) as writer:
        for key, payload in enumerate(payloads):
            writer.write(key, payload)
    return path


def face(label, seed, **options):
    return pack_record(Record(label, encoded(seed, **options), seed))


def im2rec(tmp_path):
    """Six images of the people 3, 7 and 20, without a header, as by `im2rec`."""
    return write(tmp_path / "faces.rec", [face(float(k), k) for k in [7, 3, 3, 20, 7, 3]])
