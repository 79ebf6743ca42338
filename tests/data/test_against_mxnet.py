"""What our writers write, read by MXNet 1.9.1 itself and the way that InsightFace reads it.

MXNet needs an environment of its own (see tools/benchmarks/mxnet_peer.py):

    FACEMARGIN_MXNET_PYTHON=mxnet-env/bin/python python -m pytest tests/data/test_against_mxnet.py

Without that variable the tests skip.
"""

import hashlib
import json
import os
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from keras_facemargin.data.formats.pairs_bin import PairsBin, write_pairs_bin
from keras_facemargin.data.formats.recordio import Record, RecordWriter, pack_record
from keras_facemargin.data.packing.pack import pack_faces
from keras_facemargin.data.records import FaceRecords, write_face_records
from keras_facemargin.images.image import decode_face
from keras_facemargin.images.synthetic import write_synthetic_faces

PEER = Path(__file__).resolve().parents[2] / "tools" / "benchmarks" / "mxnet_peer.py"
MAGIC = struct.pack("<I", 0xCED7230A)


@pytest.fixture(scope="module")
def mxnet():
    """A function from the objects to read, and a file, to the lines that MXNet's process prints."""
    python = os.environ.get("FACEMARGIN_MXNET_PYTHON")
    if not python:
        pytest.skip("needs MXNet's own environment: set FACEMARGIN_MXNET_PYTHON to its python")

    def read(what, file):
        found = subprocess.run([python, PEER, what, file], capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        return [json.loads(line) for line in found.stdout.splitlines()]

    return read


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_synthetic_faces(tmp_path_factory.mktemp("faces"), 3, 4)


def digest(data):
    return hashlib.sha256(data).hexdigest()


def test_mxnet_reads_our_records(mxnet, tmp_path):
    rng = np.random.default_rng(0)
    found = []
    with RecordWriter(tmp_path / "any.rec") as writer:
        for key in range(300):
            # Odd lengths, empty ones, and many with the magic inside: at the multiples of 4 where
            # it must be cut and at other places, where it must not.
            parts = [rng.bytes(int(each)) for each in rng.integers(0, 9, rng.integers(0, 6))]
            image = MAGIC.join(parts)
            label = [float(key), 0.25] if key % 3 == 0 else float(key)
            writer.write(1000 - key, pack_record(Record(label, image, key, 2 * key)))
            found.append([1000 - key, label, key, 2 * key, digest(image)])
    assert mxnet("records", tmp_path / "any.rec") == found


@pytest.mark.parametrize("way", ["written", "packed"])
def test_mxnet_reads_our_training_sets(mxnet, files, tmp_path, way):
    file = tmp_path / "faces.rec"
    if way == "written":
        write_face_records(file, files, np.repeat([0, 1, 2], 4))
    else:
        pack_faces(Path(files[0]).parents[1], file, progress=False)
    found = mxnet("records", file)
    assert found[0][:2] == [0, [13.0, 16.0]]
    assert [label for _, label, *_ in found[13:]] == [[1.0, 5.0], [5.0, 9.0], [9.0, 13.0]]
    faces = FaceRecords(file)
    # As InsightFace's MXFaceDataset: the images are the records 1 .. label[0] - 1 of the header.
    images = found[1:13]
    assert [label for _, label, *_ in images] == faces.labels.tolist()
    assert [found for *_, found in images] == [digest(each.read_bytes()) for each in faces.paths]
    assert [found for *_, found in images] == [digest(Path(each).read_bytes()) for each in files]


def test_mxnets_iterator_reads_our_records(mxnet, files, tmp_path):
    with RecordWriter(tmp_path / "plain.rec") as writer:
        for key, file in enumerate(files):
            writer.write(key, pack_record(Record(float(key), Path(file).read_bytes(), key)))
    python = os.environ["FACEMARGIN_MXNET_PYTHON"]
    asked = "".join(f"{way}\t5\n" for way in ("mxnet", "mxnet augmented", "mxnet python"))
    command = [python, PEER, "iterate", tmp_path / "plain.rec"]
    answer = subprocess.run(command, input=2 * asked, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == ["12"] * 6


def test_insightfaces_loader_reads_our_pairs(mxnet, files, tmp_path):
    file = tmp_path / "pairs.bin"
    write_pairs_bin(file, files, [True, True, False, False, True, False])
    *images, same = mxnet("pairs", file)
    assert same == [True, True, False, False, True, False]
    encoded = [Path(each).read_bytes() for each in files]
    assert [found for found, _ in images] == list(map(digest, encoded))
    # mx.image.imdecode gives RGB rows like ours, to the last bit.
    assert [found for _, found in images] == [digest(decode_face(e).tobytes()) for e in encoded]
    assert [digest(each.read_bytes()) for each in PairsBin(file).images] == [a for a, _ in images]


def test_both_read_real_files_the_same(mxnet, shared_data):
    file = shared_data / "mxnet" / "train.rec"
    theirs = {key: (label, found) for key, label, _, _, found in mxnet("records", file)}
    faces = FaceRecords(file)
    keys = faces.paths.reader.keys[faces.paths.rows].tolist()
    for key, label, image in zip(keys, faces.labels.tolist(), faces.paths, strict=True):
        their_label, their_digest = theirs[key]
        assert their_digest == digest(image.read_bytes())
        assert faces.identities[label] == np.ravel(their_label)[0]
    pairs = PairsBin(shared_data / "mxnet" / "pairs_py3.bin")
    *images, same = mxnet("pairs", shared_data / "mxnet" / "pairs_py3.bin")
    assert pairs.same.tolist() == same
    assert [digest(each.read_bytes()) for each in pairs.images] == [found for found, _ in images]
