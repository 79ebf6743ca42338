"""Labelled sets in RecordIO files."""

import struct

import numpy as np
import pytest
from PIL import Image
from recordio_files import encoded, face, im2rec, write

from keras_facemargin.data.folder import FaceFolder
from keras_facemargin.data.formats.recordio import (
    Record,
    RecordReader,
    RecordWriter,
    pack_record,
    unpack_record,
)
from keras_facemargin.data.records import FaceRecords, write_face_records
from keras_facemargin.images.image import BadImage, decode_face, read_face
from keras_facemargin.images.synthetic import write_synthetic_faces


@pytest.fixture
def records(tmp_path):
    return im2rec(tmp_path)


def collect(dataset):
    images, labels = zip(*dataset, strict=True)
    return np.concatenate(images), np.concatenate(labels)


# Files that MXNet wrote


def test_mxnets_training_set(shared_data):
    faces = FaceRecords(shared_data / "mxnet" / "train.rec")
    assert (len(faces), faces.num_classes, faces.skipped) == (479, 40, [])
    assert faces.identities == list(range(40))
    reader = RecordReader(shared_data / "mxnet" / "train.rec")
    stored = [unpack_record(reader.read(key)) for key in range(1, 480)]
    assert faces.labels.tolist() == [int(np.ravel(each.label)[0]) for each in stored]
    assert {np.size(each.label) for each in stored} == {1, 2}
    images, labels = collect(faces.dataset(64).as_numpy_iterator())
    np.testing.assert_array_equal(images, [decode_face(each.image) for each in stored])
    np.testing.assert_array_equal(labels, faces.labels)


def test_mxnets_training_set_is_written_again_from_its_images(shared_data, tmp_path):
    source = shared_data / "mxnet" / "train.rec"
    faces = FaceRecords(source)
    write_face_records(tmp_path / "again.rec", faces.paths, faces.labels)
    for (key, ours), (theirs_key, theirs) in zip(
        RecordReader(tmp_path / "again.rec"), RecordReader(source), strict=True
    ):
        ours, theirs = unpack_record(ours), unpack_record(theirs)
        assert (key, ours.image, ours.id) == (theirs_key, theirs.image, theirs.id)
        if theirs.image:  # every second of theirs has a vector with a second number, unused
            assert ours.label == np.ravel(theirs.label)[0]
        else:
            np.testing.assert_array_equal(ours.label, theirs.label)


# Faces


def test_labels_are_renumbered_in_ascending_order(records):
    faces = FaceRecords(records)
    assert faces.identities == [3, 7, 20]
    assert faces.labels.dtype == np.int32
    assert faces.labels.tolist() == [1, 0, 0, 2, 1, 0]
    assert "6 images of 3 identities, 1 to 3 each" in repr(faces)
    assert str(faces.paths[1]).startswith(f"{records}, record 1 (byte ")


@pytest.mark.parametrize("check", [True, False])
def test_images_are_exactly_those_of_read_face(tmp_path, check):
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds = [
        encoded(0),
        encoded(1, "PNG"),
        encoded(2, shape=(112, 112)),
        encoded(3, exif=turned),
        encoded(4, shape=(250, 250, 3)),
        encoded(5, "PNG", shape=(112, 112, 4)),
        encoded(6, progressive=True),
        encoded(7, "WEBP"),
        encoded(8, shape=(112, 112, 4), mode="CMYK"),
        encoded(9, "PNG", shape=(112, 112), dtype="uint16"),
    ]
    write(tmp_path / "a.rec", [pack_record(Record(k % 3, e)) for k, e in enumerate(kinds)])
    faces = FaceRecords(tmp_path / "a.rec", check=check)
    images, labels = collect(faces.dataset(3).as_numpy_iterator())
    np.testing.assert_array_equal(images, [decode_face(each) for each in kinds])
    np.testing.assert_array_equal(images, [read_face(path) for path in faces.paths])
    assert labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]


def test_a_hundred_thousand_identities(tmp_path):
    count = 100_000
    image = encoded(0, "PNG", shape=(1, 1, 3))
    write(tmp_path / "a.rec", (pack_record(Record(float(k), image)) for k in range(count)))
    faces = FaceRecords(tmp_path / "a.rec", check=False)
    assert faces.num_classes == len(faces) == count
    assert faces.labels.tolist() == faces.identities == list(range(count))
    first, second = faces.split(1000)
    assert not set(first.identities) & set(second.identities)
    batches = first.py_dataset(4, training=True)
    assert len(batches) == 99_000 // 4 and batches[0][0].shape == (4, 112, 112, 3)


def test_image_size(records):
    faces = FaceRecords(records, image_size=80)
    images, _ = collect(faces.dataset(4).as_numpy_iterator())
    np.testing.assert_array_equal(images, [read_face(path, 80) for path in faces.paths])


def test_a_folder_becomes_a_training_set(tmp_path):
    write_synthetic_faces(tmp_path / "people", 3, 2)
    folder = FaceFolder(tmp_path / "people")
    write_face_records(tmp_path / "a.rec", folder.paths, folder.labels)
    faces = FaceRecords(tmp_path / "a.rec")
    np.testing.assert_array_equal(faces.labels, folder.labels)
    assert faces.identities == [0, 1, 2]
    for path, image in zip(folder.paths, faces.paths, strict=True):
        np.testing.assert_array_equal(read_face(path), read_face(image))
    reader = RecordReader(tmp_path / "a.rec")
    assert reader.keys.tolist() == list(range(10))
    for key in range(7, 10):  # the range of an identity
        first, end = unpack_record(reader.read(key)).label.astype(int)
        assert {unpack_record(reader.read(each)).label for each in range(first, end)} == {key - 7}


@pytest.mark.parametrize(
    ("images", "labels", "part"),
    [
        ([b"x"], [0, 1], r"1 images, labels of shape \(2,\)"),
        ([], np.zeros(0, int), "0 images"),
        ([b"x"], [0.0], "float64"),
        ([b"x"], [-1], "labels -1 to -1"),
        ([b"x"], [2**24 + 1], "16,777,217"),
    ],
)
def test_a_training_set_that_the_format_cannot_hold(tmp_path, images, labels, part):
    with pytest.raises(ValueError, match=part):
        write_face_records(tmp_path / "a.rec", images, labels)
    assert list(tmp_path.iterdir()) == []


def test_header_numbers_that_float32_rounded(tmp_path):
    # As in Glint360K: 17,186,134 images, whose header holds 17,186,136 instead of 17,186,135.
    assert np.float32(17186135) == 17186136
    with RecordWriter(tmp_path / "a.rec") as writer:
        writer.write(0, pack_record(Record([17186135, 17186137], b"")))
        writer.write(17186133, face(0.0, 1))
        writer.write(17186134, face(1.0, 2))
        writer.write(17186135, pack_record(Record([1, 17186134], b"")))
        writer.write(17186136, pack_record(Record([17186134, 17186135], b"")))
    faces = FaceRecords(tmp_path / "a.rec")
    assert (len(faces), faces.skipped) == (2, [])


@pytest.fixture
def spoiled(tmp_path):
    """A set in InsightFace's layout with one of each bad record; key -> a word of its reason."""
    good = encoded(9)
    bad = [
        (Record(0.0, b""), "its image is empty"),
        (Record([0.0, 0.0], b""), "its image is empty"),
        (Record(0.0, good[: len(good) // 2]), "does not decode"),
        (Record(0.0, b"no image at all"), "not an image"),
        (Record(0.0, encoded(8, shape=(112, 96, 3))), "112x96"),
        (Record(0.5, good), "0.5"),
        (Record(-1.0, good), "-1.0"),
        (Record(float("nan"), good), "nan"),
        (Record(float("inf"), good), "inf"),
        (Record([3e7, 0.0], good), "16,777,216"),
    ]
    payloads = [pack_record(record) for record, _ in bad]
    words = [word for _, word in bad]
    payloads += [struct.pack("<IfQQ", 2**31, 0.0, 0, 0) + good, b"short"]
    words += ["2,147,483,648 numbers", "label of 24 bytes"]
    end = 3 + len(payloads)
    payloads = [
        pack_record(Record([end, end + 2], b"")),
        *(face(0.0, 1), face(1.0, 2)),
        *payloads,
        *(pack_record(Record([1, 2], b"")), pack_record(Record([2, 3], b""))),
    ]
    path = write(tmp_path / "a.rec", payloads)
    return path, dict(enumerate(words, start=3))


def test_refuse_names_all_bad_records(spoiled):
    path, words = spoiled
    with pytest.raises(ValueError, match=f"{len(words)} entries(.|\n)*and 2 more") as caught:
        FaceRecords(path)
    assert str(caught.value).count("record ") >= 10
    assert 'on_bad="skip"' in str(caught.value)


@pytest.mark.parametrize("index", ["auto", None])
def test_skip_skips_bad_entries_and_warns_once(spoiled, index):
    path, words = spoiled
    with pytest.warns(UserWarning, match=f"{len(words)} entries") as warned:
        faces = FaceRecords(path, index, on_bad="skip")
    assert len(warned) == 1
    found = {int(each.path.split("record ")[1].split()[0]): each.reason for each in faces.skipped}
    assert set(found) == set(words)
    for key, word in words.items():
        assert word in found[key]
    assert faces.labels.tolist() == [0, 1]
    assert f"{len(words)} skipped" in repr(faces)


def test_without_the_check_a_bad_image_is_an_error_when_it_is_read(spoiled):
    import tensorflow as tf

    path, _ = spoiled
    with pytest.warns(UserWarning, match="9 entries"):  # from labels and lengths only
        faces = FaceRecords(path, on_bad="skip", check=False)
    assert len(faces) == 5
    with pytest.raises((tf.errors.UnknownError, tf.errors.InvalidArgumentError), match="record 5"):
        list(faces.dataset(8))
    with pytest.raises(BadImage, match="record 5"):
        faces.py_dataset(8)[0]


def test_a_cut_file_with_a_complete_index(records):
    size = records.stat().st_size
    records.write_bytes(records.read_bytes()[: size - 1000])
    with pytest.raises(ValueError, match=r"1 entry(.|\n)*record 5(.|\n)*it was cut off"):
        FaceRecords(records)
    records.write_bytes(records.read_bytes()[: size // 2])
    with pytest.raises(ValueError, match=r"\.idx, line \d: an offset must be(.|\n)*index=None"):
        FaceRecords(records)
    with pytest.warns(UserWarning, match="2 entries"):  # the index, and the record that was cut
        assert len(FaceRecords(records, on_bad="skip")) == 2


def test_bytes_outside_the_index_are_counted(records):
    lines = records.with_suffix(".idx").read_text().splitlines(keepends=True)
    records.with_suffix(".idx").write_text("".join(lines[1:3] + lines[4:5]))
    offsets = [int(line.split()[1]) for line in lines]
    size = records.stat().st_size
    missing = offsets[1] + (offsets[4] - offsets[3]) + (size - offsets[5])
    with pytest.raises(ValueError, match=f"{missing:,} of its {size:,} bytes belong to no record"):
        FaceRecords(records)
    with pytest.warns(UserWarning, match="belong to no record"):
        faces = FaceRecords(records, on_bad="skip")
    assert faces.identities == [3, 7]
    assert len(FaceRecords(records, index=None)) == 6


def test_one_identity_only(tmp_path):
    write(tmp_path / "a.rec", [face(4.0, 1), pack_record(Record(5.0, b"junk"))])
    with pytest.raises(ValueError, match=r"Received: 1 in(.|\n)*record 1 (.|\n)*not an image"):
        FaceRecords(tmp_path / "a.rec", on_bad="skip")
