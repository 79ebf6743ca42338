"""What every writer of containers does: modes, a full disk, two at one place."""

import errno
import os
import stat
import threading

import pytest

from keras_facemargin.data import write_face_records, write_face_tfrecords, write_pairs_bin
from keras_facemargin.data.formats.recordio import RecordReader

IMAGES = [b"JPEG of Ada", b"JPEG of Bo"]
WRITERS = {
    "records": (lambda file: write_face_records(file, IMAGES, [0, 1]), ["a.idx", "a.out"]),
    "tfrecord": (lambda file: write_face_tfrecords(file, IMAGES, [0, 1]), ["a.out"]),
    "shards": (
        lambda file: write_face_tfrecords(file, IMAGES, [0, 1], shards=2),
        ["a-00000-of-00002.out", "a-00001-of-00002.out"],
    ),
    "pairs": (lambda file: write_pairs_bin(file, IMAGES, [True]), ["a.out"]),
}


@pytest.fixture(params=WRITERS)
def writer(request):
    return WRITERS[request.param]


def modes(folder):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_a_new_file_has_the_mode_of_the_umask_and_a_replaced_one_keeps_its_own(writer, tmp_path):
    write, names = writer
    before = os.umask(0o027)
    try:
        write(tmp_path / "a.out")
        assert modes(tmp_path) == dict.fromkeys(names, 0o640)
        for name in names:
            (tmp_path / name).chmod(0o604)
        write(tmp_path / "a.out")
        assert modes(tmp_path) == dict.fromkeys(names, 0o604)
    finally:
        os.umask(before)


def test_a_full_disk_names_the_file_and_keeps_the_old_one(writer, tmp_path, monkeypatch):
    write, names = writer
    for name in names:
        (tmp_path / name).write_bytes(b"as it was")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk is full") as caught:
        write(tmp_path / "a.out")
    assert os.path.basename(caught.value.filename) in names
    assert sorted(os.listdir(tmp_path)) == names
    assert all((tmp_path / name).read_bytes() == b"as it was" for name in names)


def test_a_second_writer_is_refused_and_the_first_file_is_complete(tmp_path):
    writing, refused = threading.Event(), threading.Event()

    class Slow(list):
        def __getitem__(self, row):
            writing.set()
            refused.wait(10)
            return super().__getitem__(row)

    def write():
        write_face_records(tmp_path / "a.rec", Slow([b"1" * 99] * 50), list(range(50)))

    thread = threading.Thread(target=write)
    thread.start()
    assert writing.wait(10)
    with pytest.raises(BlockingIOError, match="Another process is writing"):
        write_face_records(tmp_path / "a.rec", [b"two" * 99] * 50, list(range(50)))
    refused.set()
    thread.join()
    images = {bytes(payload[24:]) for _, payload in RecordReader(tmp_path / "a.rec", index=None)}
    assert b"1" * 99 in images and b"two" * 99 not in images
    assert sorted(os.listdir(tmp_path)) == ["a.idx", "a.rec"]
