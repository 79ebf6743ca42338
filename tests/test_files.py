"""Files are written completely or not at all, by one process at a time, and read as UTF-8."""

import codecs
import errno
import os
import signal
import stat

import pytest
from processes import start

from keras_facemargin.files import atomic_write, exclusive, full_disk_names, read_text, write_json


@pytest.mark.parametrize(("mode", "new"), [("w", "größer"), ("wb", b"\x00new")])
def test_the_new_file_takes_the_old_ones_place(tmp_path, mode, new):
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_write(path, mode) as file:
        file.write(new)
        assert path.read_text() == "old"
    assert path.read_bytes() == (new if mode == "wb" else new.encode())
    assert list(tmp_path.iterdir()) == [path]


def fail(*_):
    raise OSError("disk full")


@pytest.mark.parametrize("at_the_move", [True, False])
def test_an_error_leaves_the_old_file(tmp_path, monkeypatch, at_the_move):
    path = tmp_path / "file"
    path.write_text("old")
    if at_the_move:
        monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"), atomic_write(path) as file:
        file.write("half")
        if not at_the_move:
            fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_cannot_say_what_is_not_finite(tmp_path):
    path = tmp_path / "file"
    write_json(path, {"größe": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"rate": float("nan")})
    assert path.read_text() == '{\n  "größe": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_gets_the_mode_of_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_json(tmp_path / "file", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_replaced_file_keeps_its_mode(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)
    write_json(path, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_full_disk_names_the_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OSError, match="The disk is full") as caught, atomic_write(path) as file:
        file.write("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_other_errors_stay_as_they_are(tmp_path):
    with pytest.raises(PermissionError, match=r"^no$"), full_disk_names(tmp_path):
        raise PermissionError("no")


HOLD = """
import sys
import time
from keras_facemargin.files import exclusive
with exclusive(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    path = tmp_path / "new" / "faces.rec"
    process = start("-c", HOLD, path)
    try:
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(BlockingIOError, match="Another process is writing") as caught,
            exclusive(path),
        ):
            pass
        assert str(path) in str(caught.value)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with exclusive(path):
        pass
    assert list(path.parent.iterdir()) == []


def test_one_process_cannot_hold_a_destination_twice(tmp_path):
    with exclusive(tmp_path / "x"), pytest.raises(BlockingIOError), exclusive(tmp_path / "x"):
        pass


def test_the_current_folder_has_a_lock(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    with exclusive("."), pytest.raises(BlockingIOError), exclusive(tmp_path / "in"):
        pass


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_text_is_read_with_or_without_a_mark(tmp_path, mark):
    path = tmp_path / "list"
    path.write_bytes(mark + "größe\r\n".encode())
    assert read_text(path) == "größe\r\n"


@pytest.mark.parametrize(
    ("data", "received"),
    [
        ("a.jpg,1".encode("utf-16"), "a file in UTF-16"),
        (codecs.BOM_UTF16_BE + "a".encode("utf-16-be"), "a file in UTF-16"),
        ("a.jpg,1".encode("utf-32"), "a file in UTF-32"),
        ("a.jpg,1".encode("utf-16-le"), "a file with NUL bytes"),
        (b"a.jpg,1\nM\xfcller.jpg,2\n", "line 2: .* byte 0xfc that is not UTF-8"),
    ],
)
def test_another_encoding_is_named(tmp_path, data, received):
    path = tmp_path / "list.csv"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=received) as caught:
        read_text(path, "a table")
    assert str(path) in str(caught.value)
    assert "a table in UTF-8" in str(caught.value)


def test_bytes_that_are_not_utf8_can_be_kept(tmp_path):
    path = tmp_path / "list"
    path.write_bytes(b"M\xfcller.jpg")
    assert read_text(path, errors="surrogateescape") == os.fsdecode(b"M\xfcller.jpg")
