"""Mutated containers: an answer or one clear ValueError, never a hang, a crash or a full memory.

The quick run is part of every test run; `-m slow` makes 100,000 inputs. Both are seeded: an input
that fails is remade by its number, which the failure names.
"""

import collections
import io
import json
import pickle
import re
import resource
import signal
import struct
import tracemalloc
import warnings

import numpy as np
import pytest
from mutations import mutate
from PIL import Image

from keras_facemargin.data.formats.pairs_bin import PairsBin
from keras_facemargin.data.formats.recordio import (
    Record,
    RecordReader,
    RecordWriter,
    pack_record,
    unpack_record,
)
from keras_facemargin.data.formats.tfrecord import TFRecordReader, frame_tfrecord
from keras_facemargin.data.records import FaceRecords
from keras_facemargin.data.tfrecords import FaceTFRecords, write_face_tfrecords
from keras_facemargin.images.image import read_face
from keras_facemargin.images.landmarks import read_landmarks

MAGIC = struct.pack("<I", 0xCED7230A)
NUMBERS = [0, 1, 3, 4, 24, 255, 65535, 1 << 24, (1 << 29) - 1, 1 << 29, 1 << 30, 1 << 31, 2**32 - 1]
WORDS = [MAGIC, *(struct.pack("<I", number) for number in NUMBERS), b"\0" * 8, b"\xff" * 8]
PICKLE_WORDS = [
    *(
        b"cos\nsystem\n",
        b"(S'true'\ntR",
        b"cbuiltins\neval\n",
        b"cnumpy\ndtype\n",
        b"c_codecs\nencode\n",
    ),
    *(b"(", b"]", b"}", b"t", b"R", b"b", b"e", b"a", b"l", b".", b"0", b"1", b"2", b"N", b"\x94"),
    *(
        b"h\0",
        b"q\0",
        b"r\xff\xff\xff\xff",
        b"j\xff\xff\xff\xff",
        b"B\xff\xff\xff\xff",
        b"\x93",
        b"\x81",
    ),
    *(
        b"\x8e" + b"\xff" * 8,
        b"\x96" + b"\xff" * 7 + b"\0",
        b"\x8b\xff\xff\xff\x7f",
        b"\x95" + b"\xff" * 8,
    ),
    # Shapes and truths of numpy's headers: numbers of 24 digits, NaN, infinity.
    *(b"L" + b"9" * 22 + b"L\n", b"I-" + b"9" * 22 + b"\n", b"\x8a\x08" + b"\xff" * 7 + b"\x7f"),
    *(b"G" + struct.pack(">d", float("nan")), b"Finf\n", b"cbuiltins\nbytearray\n"),
]
SECONDS = 60  # after which an input counts as hanging; the usual one takes milliseconds


def jpeg(seed):
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3)).astype("uint8")
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


FACES = [jpeg(seed) for seed in range(6)]


@pytest.fixture(scope="module")
def record_files(tmp_path_factory):
    """(.rec, .idx) of InsightFace's layout, of `im2rec`'s, and of records in parts."""
    images = [pack_record(Record(float(k // 2), face, k)) for k, face in enumerate(FACES)]
    vectors = [pack_record(Record([k // 2, 0.5], face, k)) for k, face in enumerate(FACES)]
    ranges = [pack_record(Record([2 * k + 1, 2 * k + 3], b"", k + 7)) for k in range(3)]
    layout = [pack_record(Record([7, 10], b"")), *images[:3], *vectors[3:], *ranges]
    parts = [pack_record(Record(float(k % 2), FACES[k] + MAGIC * k + b"tail", k)) for k in range(6)]
    files = []
    for number, payloads in enumerate((layout, vectors, parts)):
        file = tmp_path_factory.mktemp("records") / f"{number}.rec"
        with RecordWriter(file) as writer:
            for key, payload in enumerate(payloads):
                writer.write(key, payload)
        files.append((file.read_bytes(), file.with_suffix(".idx").read_bytes()))
    return files


@pytest.fixture(scope="module")
def pickles():
    arrays = [np.frombuffer(face, "u1").copy() for face in FACES]
    contents = [(FACES, [True, False, True]), (arrays, np.array([1, 0, 1]))]
    contents.append(([each[:, None] for each in arrays], [np.bool_(True)] * 3))
    objects = np.empty(len(FACES), object)
    objects[:] = list(map(bytearray, FACES))
    contents.append((objects, np.array([1.0, 0.0, 1.0])))
    return [pickle.dumps(content, protocol) for content in contents for protocol in (0, 2, 4, 5)]


@pytest.fixture(scope="module")
def tfrecords(tmp_path_factory):
    """Files with numbers, with texts, and with names for labels; one with an empty record."""
    file = tmp_path_factory.mktemp("tfrecords") / "a.tfrecord"
    files = []
    for options in ({}, {"identities": ["Ada", "Bo", "Cy"]}, {"names": list("abcdef")}):
        write_face_tfrecords(file, FACES, [0, 0, 1, 1, 2, 2], **options)
        files.append(file.read_bytes())
    return [*files, frame_tfrecord(b"") + files[0]]


@pytest.fixture(scope="module")
def points():
    lines = [{"file": f"{number}.jpg", "points": [[number, 2.5]] * 5} for number in range(3)]
    table = "file,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\n" + "a.jpg,1,2,3,4,5,6,7,8,9,10\n" * 3
    return ["\n".join(map(json.dumps, lines)).encode(), table.encode()]


def read_records(rng, files, place):
    """One mutated record file, read in one of the ways there are."""
    content, index = files[rng.integers(0, len(files))]
    if rng.random() < 0.9:
        content = mutate(rng, content, WORDS, [each for each, _ in files])
    if rng.random() < 0.5:
        index = mutate(rng, index, [b"\t", b"\n", b"-1", b"9" * 30, *WORDS], [index])
    file = place / "a.rec"
    file.write_bytes(content)
    file.with_suffix(".idx").write_bytes(index)
    way = None if rng.random() < 0.5 else "auto"
    on_bad = ("refuse", "skip")[rng.integers(0, 2)]
    if rng.random() < 0.5:
        faces = FaceRecords(file, way, image_size=16, on_bad=on_bad, check=bool(rng.random() < 0.7))
        assert len(faces) == len(faces.labels) == len(faces.paths) >= 2
        assert set(faces.labels) == set(range(faces.num_classes))
        for path in faces.paths:
            assert read_face(path, 16).shape == (16, 16, 3)
        return
    reader = RecordReader(file, way, on_bad="list" if rng.random() < 0.5 else on_bad)
    if not reader.indexed:
        ranges = [re.search(r"bytes ([\d,]+) to ([\d,]+)$", each.path) for each in reader.skipped]
        ranges = [[int(side.replace(",", "")) for side in each.groups()] for each in ranges if each]
        lost = sum(stop - start for start, stop in ranges)
        held = 0
    for row, key in enumerate(reader.keys.tolist()):
        payload, stop = reader.read_extent(row)
        assert reader.read(key) == payload
        if not reader.indexed:
            held += stop - reader.offsets[row]
        unpack_record(payload)
    if not reader.indexed:
        assert held + lost == len(content)  # every byte is in a record or in a reason


def read_pickle(rng, files, place):
    """One mutated verification file."""
    content = files[rng.integers(0, len(files))]
    (place / "a.bin").write_bytes(mutate(rng, content, [*PICKLE_WORDS, *WORDS], files))
    pairs = PairsBin(place / "a.bin")
    assert len(pairs.images) == 2 * len(pairs) > 0
    for image in pairs.images:
        assert read_face(image, 16).shape == (16, 16, 3)


def read_tfrecords(rng, files, place):
    """One mutated TFRecord file; in half of them the checksums agree with what was changed."""
    content = files[rng.integers(0, len(files))]
    (place / "a.tfrecord").write_bytes(content)
    words = [*WORDS, *(struct.pack("<Q", number) for number in NUMBERS), b"\x80" * 11]
    if rng.random() < 0.5:
        reader = TFRecordReader(place / "a.tfrecord")
        payloads = [mutate(rng, each or b"x", words, files) for each in reader]
        (place / "a.tfrecord").write_bytes(b"".join(map(frame_tfrecord, payloads)))
    else:
        (place / "a.tfrecord").write_bytes(mutate(rng, content, words, files))
    on_bad = ("refuse", "skip")[rng.integers(0, 2)]
    faces = FaceTFRecords(
        place / "a.tfrecord", image_size=16, on_bad=on_bad, check=bool(rng.random() < 0.7)
    )
    assert len(faces) == len(faces.labels) == len(faces.paths) >= 2
    assert set(faces.labels) == set(range(faces.num_classes))
    for path in faces.paths:
        assert read_face(path, 16).shape == (16, 16, 3)


def read_points(rng, files, place):
    """One mutated file of points."""
    kind = rng.integers(0, 2)
    words = [b'"', b"\n", b",", b"[" * 20_000, b"1e999", b"9" * 5000, b"NaN", b"\xff\xfe", b"\0"]
    file = place / ("a.jsonl", "a.csv")[kind]
    file.write_bytes(mutate(rng, files[kind], words, files))
    for found in read_landmarks(file).values():
        assert all(face.points.shape == (5, 2) for face in found)


def hanging(*_):
    raise TimeoutError(f"an input took more than {SECONDS} s")


def fuzz(read, files, place, numbers, most_traced=None):
    """Counts answers and refusals; any other end is a failure that names the input's number."""
    outcomes = collections.Counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    old = signal.signal(signal.SIGALRM, hanging)
    try:
        for number in numbers:
            rng = np.random.default_rng([2024, number])
            signal.alarm(SECONDS)
            if most_traced:
                tracemalloc.reset_peak()
                start = tracemalloc.get_traced_memory()[0]
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    read(rng, files, place)
                outcomes["answer"] += 1
            except ValueError as error:
                assert len(str(error)) > 20, (number, error)
                assert len(str(error)) < 10_000, number
                outcomes["refused"] += 1
            except BaseException as error:
                raise AssertionError(f"input {number}: {type(error).__name__}: {error}") from error
            if most_traced:
                peak = tracemalloc.get_traced_memory()[1] - start
                assert peak < most_traced, f"input {number} allocated {peak:,} bytes"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # kilobytes on Linux
    return outcomes, grown


@pytest.fixture(params=["records", "pickle", "tfrecords", "points"])
def case(request, record_files, pickles, tfrecords, points):
    return {
        "records": (read_records, record_files, 150),
        "pickle": (read_pickle, pickles, 300),
        "tfrecords": (read_tfrecords, tfrecords, 100),
        "points": (read_points, points, 200),
    }[request.param]


def test_hundreds_of_mutated_inputs(case, tmp_path):
    read, files, count = case
    tracemalloc.start()
    try:
        outcomes, _ = fuzz(read, files, tmp_path, range(count), most_traced=3e6)
    finally:
        tracemalloc.stop()
    assert outcomes.total() == count
    assert outcomes["answer"] > count / 40
    assert outcomes["refused"] > count / 10


@pytest.mark.slow
def test_fifty_thousand_mutated_inputs_of_each_kind(case, tmp_path, capsys):
    read, files, quick = case
    outcomes, grown = fuzz(read, files, tmp_path, range(quick, quick + 50000))
    with capsys.disabled():
        print(f"\n{read.__name__}: {dict(outcomes)}, {grown / 1024:.0f} MiB more memory")
    assert outcomes.total() == 50000
    assert outcomes["answer"] > 1000
    assert grown < 200 * 1024


def test_the_same_number_makes_the_same_input(pickles):
    made = [mutate(np.random.default_rng(7), pickles[0], WORDS, pickles) for _ in range(2)]
    assert made[0] == made[1] != pickles[0]


def test_unchanged_inputs_are_read(record_files, pickles, tmp_path):
    for number, content in enumerate(pickles):
        (tmp_path / f"{number}.bin").write_bytes(content)
        assert len(PairsBin(tmp_path / f"{number}.bin")) == 3
    for number, (content, index) in enumerate(record_files):
        (tmp_path / f"{number}.rec").write_bytes(content)
        (tmp_path / f"{number}.idx").write_bytes(index)
        assert len(FaceRecords(tmp_path / f"{number}.rec")) == 6
