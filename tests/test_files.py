"""Files are written completely or not at all, by one process at a time, and read as UTF-8."""

import codecs
import errno
import json
import os
import signal
import stat
from pathlib import Path

import pytest
from processes import start

from keras_facemargin.files import (
    atomic_write,
    check_writable,
    draft_folder,
    draft_of,
    exclusive,
    full_disk_names,
    read_text,
    visible_files,
    write_json,
)


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


def test_json_holds_a_file_name_that_is_not_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "file", {"größe": name})
    assert json.loads((tmp_path / "file").read_text(encoding="utf-8")) == {"größe": name}


@pytest.mark.parametrize("place", ["taken", "x" * 250])
def test_what_cannot_be_written_is_named_before_the_work(tmp_path, place):
    (tmp_path / "taken").mkdir()
    (tmp_path / "file").write_text("old")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OSError) as caught:
        check_writable(tmp_path / place)
    assert caught.value.filename == str(tmp_path / place)
    for free in ("new", "file"):
        check_writable(tmp_path / free)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "old"


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


def test_a_writer_that_opens_its_own_file_writes_a_draft(tmp_path):
    path = tmp_path / "file.keras"
    path.write_text("old")
    path.chmod(0o640)
    with draft_of(path, ".draft.keras") as draft:
        assert draft.parent == tmp_path and draft.name.endswith(".draft.keras")
        draft.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    with pytest.raises(OSError, match="The disk is full") as caught, draft_of(path) as draft:
        draft.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(path)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_takes_no_file_is_found_at_once(tmp_path, monkeypatch):
    check_writable(tmp_path / "new" / "file")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").touch()
    for path, error in (
        (tmp_path / "new", IsADirectoryError),
        (tmp_path / "file" / "inside", FileExistsError),
        (Path("/proc/file"), OSError),  # takes no file, not even of root's
    ):
        with pytest.raises(error):
            check_writable(path)

    def read_only(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", "/x/tmpabc")

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(PermissionError) as caught:
        check_writable(tmp_path / "file")
    assert caught.value.filename == str(tmp_path / "file")


def test_a_folder_that_another_process_wrote_meanwhile_is_kept(tmp_path):
    with (
        pytest.raises(FileExistsError, match="must not be in use"),
        draft_folder(tmp_path / "made") as draft,
    ):
        (draft / "note.txt").write_text("mine")
        (tmp_path / "made").mkdir()
        (tmp_path / "made" / "note.txt").write_text("theirs")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert (tmp_path / "made" / "note.txt").read_text() == "theirs"


def test_links_to_folders_are_followed_once(tmp_path):
    people, elsewhere = tmp_path / "people", tmp_path / "elsewhere"
    for place in (people / "ada", people / ".hidden", elsewhere / "deep"):
        place.mkdir(parents=True)
        (place / "1.jpg").touch()
    (people / "ada" / ".2.jpg").touch()
    (people / "bob").symlink_to(elsewhere)
    (people / "around").symlink_to(people)
    assert visible_files(people) == ["ada/1.jpg", "bob/deep/1.jpg"]
