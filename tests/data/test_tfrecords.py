"""TFRecord: TensorFlow's own bytes, checksums, damage, shards, foreign names, labels."""

import io
import pickle
import struct
import threading

import numpy as np
import pytest
from PIL import Image

from keras_facemargin.data import problems
from keras_facemargin.data.formats.example import pack_example, unpack_example
from keras_facemargin.data.formats.tfrecord import (
    TFRecordReader,
    frame_tfrecord,
    masked_crc,
    shard_names,
)
from keras_facemargin.data.tfrecords import FaceTFRecords, face_example, write_face_tfrecords
from keras_facemargin.images.image import BadImage, read_face

LENGTHS = (0, 1, 3, 31, 32, 33, 35, 4095, 4096, 4097, 4099, 4100, 9000, 100_000)


def encoded(seed=0, kind="JPEG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (112, 112, 3)).astype("uint8")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def images():
    return [encoded(seed) for seed in range(9)]


@pytest.fixture
def four(tmp_path, images):
    file = tmp_path / "four.tfrecord"
    write_face_tfrecords(file, images[:4], [0, 0, 1, 1], identities=["Ada", "Bo"])
    return file


@pytest.mark.parametrize(
    ("data", "crc"),  # RFC 3720, B.4, and the classical check
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_the_checksum_is_the_published_one(data, crc):
    turned = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    assert masked_crc(data) == (turned + 0xA282EAD8) & 0xFFFFFFFF


def test_tensorflow_writes_and_reads_the_same_bytes(tmp_path):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    payloads = [rng.bytes(length) for length in LENGTHS]
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for payload in payloads:
            writer.write(payload)
    ours = b"".join(map(frame_tfrecord, payloads))
    assert (tmp_path / "theirs").read_bytes() == ours
    assert list(TFRecordReader(tmp_path / "theirs")) == payloads
    (tmp_path / "ours").write_bytes(ours)
    assert [*tf.data.TFRecordDataset(str(tmp_path / "ours")).as_numpy_iterator()] == payloads


def test_examples_are_those_of_tensorflow():
    import tensorflow as tf

    payload = face_example(b"JPEG", 7, text="Zoë Müller", name="photo 1.jpg")
    features = tf.train.Example.FromString(payload).features.feature
    assert features["image/encoded"].bytes_list.value == [b"JPEG"]
    assert features["image/class/label"].int64_list.value == [7]
    assert features["image/class/text"].bytes_list.value[0].decode() == "Zoë Müller"
    assert features["image/filename"].bytes_list.value == [b"photo 1.jpg"]

    def feature(**values):
        kinds = {"bytes": tf.train.BytesList, "int64": tf.train.Int64List}
        kinds["float"] = tf.train.FloatList
        ((kind, value),) = values.items()
        return tf.train.Feature(**{f"{kind}_list": kinds[kind](value=value)})

    theirs = {
        "many": feature(int64=[-1, 5, 2**62, -(2**63)]),
        "floats": feature(float=[0.5, -2.0]),
        "strings": feature(bytes=[b"", b"\xff\0"]),
        "none": feature(bytes=[]),
        "": tf.train.Feature(),
    }
    message = tf.train.Example(features=tf.train.Features(feature=theirs))
    found = unpack_example(message.SerializeToString())
    assert found == {
        "many": [-1, 5, 2**62, -(2**63)],
        "floats": [0.5, -2.0],
        "strings": [b"", b"\xff\0"],
        "none": [],
        "": [],
    }


def test_numbers_that_are_not_packed_are_read():
    listed = b"\x08\x05\x08\x06"  # field 1, varint, twice
    feature = b"\x1a\x04" + listed
    entry = b"\x0a\x01n\x12" + bytes([len(feature)]) + feature
    features = b"\x0a" + bytes([len(entry)]) + entry
    assert unpack_example(b"\x0a" + bytes([len(features)]) + features) == {"n": [5, 6]}


def test_an_integer_must_have_64_bits():
    with pytest.raises(ValueError, match="Received: n=18446744073709551616"):
        pack_example({"n": 1 << 64})


def test_labels_are_renumbered_and_named(tmp_path, images):
    file, names = tmp_path / "Zoë.tfrecord", {7: "Zoë", 900: "Ada Lovelace"}
    write_face_tfrecords(file, images[:4], [900, 7, 7, 900], identities=names)
    faces = FaceTFRecords(file)
    assert faces.labels.tolist() == [1, 0, 0, 1]
    assert faces.identities == ["Zoë", "Ada Lovelace"]
    for path, image in zip(faces.paths, images, strict=False):
        assert path.read_bytes() == image
    write_face_tfrecords(file, images[:3], [900, 7, 900])
    assert FaceTFRecords(file).identities == [7, 900]
    write_face_tfrecords(file, images[:3], [900, 7, 900], identities={7: "same", 900: "same"})
    assert FaceTFRecords(file).identities == [7, 900]


def test_foreign_names_of_features_and_texts_as_labels(tmp_path, images):
    examples = [
        pack_example({"jpeg": image, "who": who})
        for image, who in zip(images, [b"b", b"a", b"b"], strict=False)
    ]
    (tmp_path / "a.tfrecord").write_bytes(b"".join(map(frame_tfrecord, examples)))
    faces = FaceTFRecords(tmp_path / "a.tfrecord", image="jpeg", label="who")
    assert (faces.identities, faces.labels.tolist()) == (["a", "b"], [1, 0, 1])
    with pytest.raises(ValueError, match=r"feature image/encoded: .* Received: features jpeg, who"):
        FaceTFRecords(tmp_path / "a.tfrecord")


def test_integers_and_texts_do_not_mix(tmp_path, images):
    examples = [{"image/encoded": images[0], "image/class/label": who} for who in (1, b"a")]
    data = b"".join(frame_tfrecord(pack_example(each)) for each in examples)
    (tmp_path / "a.tfrecord").write_bytes(data)
    with pytest.raises(ValueError, match=r"all integers or all texts. Received: both"):
        FaceTFRecords(tmp_path / "a.tfrecord")


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_shards_are_the_same_set(tmp_path, images, shards):
    file = tmp_path / "train.tfrecord"
    write_face_tfrecords(file, images, np.arange(9) // 3, names=list("abcdefghi"), shards=shards)
    assert len(list(tmp_path.iterdir())) == shards
    faces = FaceTFRecords(file)
    assert [path.read_bytes() for path in faces.paths] == images
    assert faces.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    listed = FaceTFRecords(shard_names(file, shards))
    assert [str(path) for path in listed.paths] == [str(path) for path in faces.paths]
    names = [unpack_example(each)["image/filename"] for each in TFRecordReader(file)]
    assert names == [[name.encode()] for name in "abcdefghi"]


def test_a_missing_shard_or_two_sets_are_refused(tmp_path, images):
    file = tmp_path / "train.tfrecord"
    with pytest.raises(FileNotFoundError, match="Neither the file nor a shard"):
        FaceTFRecords(file)
    write_face_tfrecords(file, images, np.arange(9) // 3, shards=3)
    (tmp_path / "train-00001-of-00003.tfrecord").unlink()
    with pytest.raises(ValueError, match="with 2 of 3"):
        FaceTFRecords(file)
    write_face_tfrecords(file, images, np.arange(9) // 3, shards=2)
    with pytest.raises(ValueError, match="with 2 of 2, 2 of 3"):
        FaceTFRecords(file)


@pytest.mark.parametrize("shards", [0, 10, -1])
def test_impossible_numbers_of_shards_are_refused(tmp_path, images, shards):
    with pytest.raises(ValueError, match=f"1..9 for 9 images. Received: shards={shards}"):
        write_face_tfrecords(tmp_path / "a", images, np.arange(9), shards=shards)


@pytest.mark.parametrize(
    ("labels", "rest", "message"),
    [
        ([0], {}, "2 images, labels of shape"),
        ([0, -1], {}, "Received: 2 images"),
        ([0.0, 1.0], {}, "dtype float64"),
        ([0, 1], {"identities": ["a"]}, "no text for label=1"),
        ([0, 1], {"names": ["a"]}, "2 images, 1 names"),
    ],
)
def test_a_refused_set_writes_no_file(tmp_path, images, labels, rest, message):
    with pytest.raises(ValueError, match=message):
        write_face_tfrecords(tmp_path / "a.tfrecord", images[:2], labels, **rest)
    assert list(tmp_path.iterdir()) == []


def test_a_changed_byte_loses_only_its_own_record(four, images):
    whole = bytearray(four.read_bytes())
    reader = TFRecordReader(four)
    head = reader.offsets[1] - 12
    for place in (head, head + 9, head + 12, head + 500, head + 12 + reader.lengths[1] + 2):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        four.write_bytes(damaged)
        with pytest.raises(ValueError, match="checksum"):
            FaceTFRecords(four)
        with pytest.warns(UserWarning, match="They are skipped"):
            faces = FaceTFRecords(four, on_bad="skip")
        assert [path.read_bytes() for path in faces.paths] == [images[0], *images[2:4]]
        assert len(faces.skipped) == 1


def test_a_file_cut_anywhere_keeps_every_record_before_the_cut(four, images):
    whole = four.read_bytes()
    reader = TFRecordReader(four)
    ends = (reader.offsets + reader.lengths + 4).tolist()
    rng = np.random.default_rng(0)
    for cut in [1, 11, 12, *rng.integers(1, len(whole), 40), *ends[:-1]]:
        four.write_bytes(whole[:cut])
        kept = sum(end <= cut for end in ends)
        if kept:
            cut_reader = TFRecordReader(four, on_bad="list")
            assert len(cut_reader) == kept
            assert bool(cut_reader.skipped) == (cut not in ends)
        else:
            with pytest.raises(ValueError, match="Received: none in"):
                TFRecordReader(four, on_bad="list")


def test_a_damaged_range_is_named_with_its_bytes(four):
    whole = four.read_bytes()
    reader = TFRecordReader(four)
    start, stop = reader.offsets[1] - 12, reader.offsets[3] - 12
    four.write_bytes(whole[:start] + bytes(stop - start) + whole[stop:])
    damaged = TFRecordReader(four, on_bad="list")
    assert damaged.offsets.tolist() == reader.offsets[[0, 3]].tolist()
    # Zeros begin no record: the checksum of eight of them is not 0.
    assert [each.path for each in damaged.skipped] == [f"{four}, bytes {start:,} to {stop:,}"]


@pytest.mark.parametrize(
    "content", [b"x", b"not a record file at all", bytes(5000), b"\x1f\x8b" * 9]
)
def test_a_file_without_a_record_is_refused(tmp_path, content):
    (tmp_path / "a.tfrecord").write_bytes(content)
    with pytest.raises(ValueError, match="gzip" if content[0] == 0x1F else r"cut off|checksum"):
        TFRecordReader(tmp_path / "a.tfrecord")
    (tmp_path / "a.tfrecord").write_bytes(b"")
    with pytest.raises(ValueError, match="Received: none in"):
        TFRecordReader(tmp_path / "a.tfrecord")


def test_a_hostile_file_is_searched_once_for_its_heads(tmp_path, bytes_read_by):
    count = 2000
    empty, file = frame_tfrecord(b""), tmp_path / "a.tfrecord"
    file.write_bytes((empty + b"x") * count)
    # Twice 12 bytes for each head and the file once; the rest of the file for each: 17,000.
    assert bytes_read_by(TFRecordReader, file, on_bad="list") < count * 100
    assert len(TFRecordReader(file, on_bad="list")) == count


def test_a_completely_damaged_file_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(problems, "_MOST_BAD", 50)
    (tmp_path / "a.tfrecord").write_bytes((frame_tfrecord(b"") + b"x") * 51)
    with pytest.raises(ValueError, match=r"more than 50 damaged places. Received: the last at"):
        TFRecordReader(tmp_path / "a.tfrecord", on_bad="skip")


def test_a_length_beyond_the_file_is_refused(tmp_path):
    length = struct.pack("<Q", 1 << 62)
    (tmp_path / "a").write_bytes(length + struct.pack("<I", masked_crc(length)) + b"rest")
    with pytest.raises(ValueError, match="announces 4,611,686,018,427,387,904 bytes"):
        TFRecordReader(tmp_path / "a")


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        ({"image/encoded": b"x"}, "must have the feature image/class/label"),
        ({"image/class/label": 1}, "must have the feature image/encoded"),
        ({"image/encoded": 3, "image/class/label": 1}, "byte string, .* Received: 1 integers (3)"),
        (
            {"image/encoded": b"x", "image/class/label": -1},
            "at least 0, .*Received: 1 integers (-1)",
        ),
        ({"image/encoded": b"", "image/class/label": 1}, "empty (0 bytes)"),
        ({"image/encoded": b"x", "image/class/label": 1}, "not an image"),
    ],
)
def test_examples_that_are_not_faces_are_named(four, features, reason):
    with four.open("ab") as file:
        file.write(frame_tfrecord(pack_example(features)))
    with pytest.raises(ValueError, match=r"record 4 \(byte ") as error:
        FaceTFRecords(four)
    for part in reason.split(".*"):
        assert part in str(error.value)


def test_garbage_payloads_end_in_one_error():
    rng = np.random.default_rng(0)
    whole = face_example(b"JPEG of a face", 3, text="Ada", name="1.jpg")
    refused = 0
    for _ in range(3000):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 4)):
            damaged[place] = rng.integers(0, 256)
        try:
            unpack_example(bytes(damaged[: rng.integers(1, len(whole) + 1)]))
        except BadImage:
            refused += 1
    assert 1000 < refused < 3000


def test_unchecked_faces_are_the_same(four):
    checked, unchecked = FaceTFRecords(four), FaceTFRecords(four, check=False)
    assert unchecked.labels.tolist() == checked.labels.tolist()
    for ours, theirs in zip(checked.dataset(3), unchecked.dataset(3), strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])


def test_threads_and_pickled_readers_read_at_the_same_time(four):
    faces = FaceTFRecords(four)
    expected = [read_face(path) for path in faces.paths]
    copies = [faces, pickle.loads(pickle.dumps(faces))]
    wrong = []

    def read(faces, seed):
        for row in np.random.default_rng(seed).integers(0, 4, 50).tolist():
            if not np.array_equal(read_face(faces.paths[row]), expected[row]):
                wrong.append(row)

    threads = [threading.Thread(target=read, args=(copies[n % 2], n)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_open_reader_refuses_a_changed_file(four):
    faces = FaceTFRecords(four)
    pickled = pickle.dumps(faces)
    with four.open("r+b") as file:
        file.truncate(9000)
    with pytest.raises(BadImage, match="become shorter"):
        faces.paths[3].read_bytes()
    with pytest.raises(ValueError, match="must not have changed"):
        pickle.loads(pickled)


def test_many_identities(tmp_path):
    count = 20_000
    images = [b"not looked at"] * count
    names = [f"Ü {n}" for n in range(count)]
    labels = np.arange(count)[::-1]
    write_face_tfrecords(tmp_path / "a.tfrecord", images, labels, identities=names)
    faces = FaceTFRecords(tmp_path / "a.tfrecord", check=False)
    assert faces.num_classes == count
    assert faces.labels.tolist() == labels.tolist()
    assert faces.identities[7_000] == "Ü 7000"
    first, second = faces.split(1000)
    assert not set(first.identities) & set(second.identities)
