"""Downloads from a server that breaks off, stalls, ignores ranges or sends wrong data."""

import hashlib
import os
import shutil
import threading
from collections import namedtuple
from pathlib import Path

import pytest
from file_server import CONTENT

from keras_facemargin import download as module
from keras_facemargin.download import FetchError, RemoteFile, fetch, read_address
from keras_facemargin.files import exclusive

DIGEST = hashlib.sha256(CONTENT).hexdigest()


def remote(server, *places, digest=DIGEST):
    urls = tuple(server.url + place for place in places or ("/set.tgz",))
    return RemoteFile("set.tgz", urls, digest)


def test_a_file_appears_complete_and_is_fetched_once(server, tmp_path):
    path = fetch(remote(server), tmp_path)
    assert Path(path).read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["set.tgz"]
    assert fetch(remote(server), tmp_path) == path
    assert len(server.requests) == 1


def test_a_download_resumes_where_the_connection_broke(server, tmp_path):
    server.breaks = 3
    assert Path(fetch(remote(server), tmp_path, pause=0)).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [
        None,
        "bytes=300000-",
        "bytes=600000-",
        "bytes=900000-",
    ][: len(server.requests)]
    assert len(server.requests) == 4


def test_a_download_starts_again_at_a_server_without_ranges(server, tmp_path):
    server.breaks, server.ranges = 1, False
    assert Path(fetch(remote(server), tmp_path, pause=0)).read_bytes() == CONTENT
    assert server.requests[1][1] == "bytes=300000-"


def test_a_later_call_resumes_from_the_kept_part(server, tmp_path):
    server.breaks, server.after = 100, 0
    (tmp_path / "set.tgz.part").write_bytes(CONTENT[:123_456])
    with pytest.raises(FetchError, match=r"ended early.*\n123,456 bytes are kept in .*\.part"):
        fetch(remote(server), tmp_path, pause=0)
    assert len(server.requests) == 5
    server.breaks = 0
    assert Path(fetch(remote(server), tmp_path, pause=0)).read_bytes() == CONTENT
    assert server.requests[-1][1] == "bytes=123456-"


def test_a_complete_part_is_only_checked(server, tmp_path):
    (tmp_path / "set.tgz.part").write_bytes(CONTENT)
    assert Path(fetch(remote(server), tmp_path, pause=0)).read_bytes() == CONTENT


def test_a_file_with_a_wrong_digest_is_refused_and_kept(server, tmp_path):
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(FetchError, match=f"(?s)SHA-256 is .*, not {DIGEST}; kept as"):
        fetch(remote(server), tmp_path, pause=0)
    (kept,) = os.listdir(tmp_path)
    assert kept.startswith("set.tgz.wrong-")
    assert (tmp_path / kept).read_bytes() == server.content
    server.content = CONTENT
    assert Path(fetch(remote(server), tmp_path)).read_bytes() == CONTENT
    assert kept in os.listdir(tmp_path)


def test_a_part_of_another_file_ends_as_a_wrong_digest(server, tmp_path):
    (tmp_path / "set.tgz.part").write_bytes(b"?" * 500)
    with pytest.raises(FetchError, match="kept as"):
        fetch(remote(server), tmp_path, pause=0)
    assert Path(fetch(remote(server), tmp_path)).read_bytes() == CONTENT


def test_the_next_address_is_tried(server, tmp_path):
    assert Path(fetch(remote(server, "/404", "/set.tgz"), tmp_path)).read_bytes() == CONTENT
    assert [place for place, _ in server.requests] == ["/404", "/set.tgz"]


def test_a_missing_file_is_reported_at_once(server, tmp_path):
    with pytest.raises(
        FetchError, match=r"(?s)/404: the server answers 404 .*/404: the server ans"
    ):
        fetch(remote(server, "/404", "/404"), tmp_path, pause=0)
    assert len(server.requests) == 2
    assert os.listdir(tmp_path) == []


def test_a_failing_server_is_tried_a_few_times(server, tmp_path):
    server.status = 503
    with pytest.raises(FetchError, match=r"503.*5 times in a row"):
        fetch(remote(server), tmp_path, pause=0)
    assert len(server.requests) == 5


def test_a_range_that_was_not_requested_is_not_appended(server, tmp_path):
    server.wrong_range = True
    (tmp_path / "set.tgz.part").write_bytes(CONTENT[:1000])
    with pytest.raises(FetchError, match="another range"):
        fetch(remote(server), tmp_path, pause=0)
    assert (tmp_path / "set.tgz.part").read_bytes() == CONTENT[:1000]


def test_a_server_that_sends_no_length(server, tmp_path):
    server.length = False
    assert Path(fetch(remote(server), tmp_path, pause=0)).read_bytes() == CONTENT


def test_no_server_answers(server, tmp_path):
    nowhere = RemoteFile("set.tgz", ("http://127.0.0.1:9/set.tgz",), DIGEST)
    with pytest.raises(FetchError, match=r"could not be fetched.*\n.*127.0.0.1:9"):
        fetch(nowhere, tmp_path, pause=0)


def test_a_file_of_that_name_is_never_overwritten(server, tmp_path):
    (tmp_path / "set.tgz").write_bytes(b"mine")
    with pytest.raises(FetchError, match=f"(?s)another file.*{DIGEST}.*was not changed"):
        fetch(remote(server), tmp_path)
    assert (tmp_path / "set.tgz").read_bytes() == b"mine"
    assert server.requests == []


def test_too_little_space_is_reported_before_a_byte_is_written(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9, 9, 999_999))
    with pytest.raises(FetchError, match=r"disk is full: 1,000,000 bytes more.*999,999 are free"):
        fetch(remote(server), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_keeps_the_part_and_a_later_call_resumes(server, tmp_path, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, block):
            if self.file.tell() > 400_000:
                raise OSError(28, "No space left on device")
            return self.file.write(block)

    opened = module._open_part
    monkeypatch.setattr(module, "_open_part", lambda *arguments: Full(opened(*arguments)))
    with pytest.raises(FetchError, match=r"disk is full: No space left on device.*Make room"):
        fetch(remote(server), tmp_path)
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    received = os.path.getsize(tmp_path / "set.tgz.part")
    assert received > 400_000
    assert Path(fetch(remote(server), tmp_path)).read_bytes() == CONTENT
    assert server.requests[-1][1] == f"bytes={received}-"


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("received", [0, 1000])
def test_a_server_that_sends_more_than_the_file_has_is_stopped(server, tmp_path, length, received):
    server.length = length
    (tmp_path / "set.tgz.part").write_bytes(CONTENT[:received])
    bounded = remote(server)._replace(most=len(CONTENT) - 1)
    with pytest.raises(FetchError, match="sends more than the 999,999 bytes"):
        fetch(bounded, tmp_path, pause=0)
    left = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert left == (received if length else 0)  # unknown length: what came is of another file
    assert Path(fetch(bounded._replace(most=len(CONTENT)), tmp_path)).read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_of_another_file(server, tmp_path):
    (tmp_path / "set.tgz.part").write_bytes(bytes(len(CONTENT) + 1))
    assert Path(fetch(remote(server)._replace(most=len(CONTENT)), tmp_path)).read_bytes() == CONTENT


def test_nothing_is_written_through_a_link(server, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (tmp_path / "lfw").mkdir()
    part = tmp_path / "lfw" / "set.tgz.part"
    part.symlink_to(victim)
    with pytest.raises(FetchError, match=r"set\.tgz\.part must be a file.*Received: a link"):
        fetch(remote(server), tmp_path / "lfw")
    with pytest.raises(OSError, match="symbolic links"):  # put there in the last moment
        module._open_part(part, 0)
    assert victim.read_bytes() == b"mine"
    part.unlink()
    os.mkfifo(part)  # opening it would wait for ever
    with pytest.raises(FetchError, match="must be a file"):
        fetch(remote(server), tmp_path / "lfw")


def test_one_process_at_a_time_fetches_a_file(server, tmp_path):
    with (
        exclusive(tmp_path / "set.tgz"),
        pytest.raises(BlockingIOError, match="Another process is writing to"),
    ):
        fetch(remote(server), tmp_path)
    assert server.requests == []
    fetch(remote(server), tmp_path)
    with exclusive(tmp_path / "set.tgz"):
        fetch(remote(server), tmp_path)  # a complete file is only checked


def test_a_fetched_file_has_the_mode_that_the_umask_allows(server, tmp_path):
    before = os.umask(0o077)
    try:
        path = Path(fetch(remote(server), tmp_path))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600


def test_other_kinds_of_address_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"http:// or https://.*Received: 'file:///etc/passwd'"):
        fetch(RemoteFile("a", ("file:///etc/passwd",), DIGEST), tmp_path)


def test_a_second_process_can_wait_for_the_first(server, tmp_path):
    held, path = threading.Event(), tmp_path / "set.tgz"

    def first():
        with exclusive(path):
            held.set()
            waiting.wait()
            path.write_bytes(CONTENT)

    waiting = threading.Event()
    thread = threading.Thread(target=first)
    thread.start()
    held.wait()
    threading.Timer(0.1, waiting.set).start()
    fetch(remote(server), tmp_path, wait=60)
    thread.join()
    assert server.requests == []
    assert os.listdir(tmp_path) == ["set.tgz"]


def test_a_server_that_stalls_counts_as_broken(server, tmp_path):
    server.breaks, server.stalls = 1, True
    path = fetch(remote(server), tmp_path, pause=0, timeout=0.2)
    assert Path(path).read_bytes() == CONTENT
    assert server.requests[1][1] == "bytes=300000-"


def test_a_redirect_is_followed_and_does_not_lead_to_a_local_file(server, tmp_path):
    server.redirects = {"/old": server.url + "/set.tgz", "/trap": "file:///etc/passwd"}
    assert Path(fetch(remote(server, "/trap", "/old"), tmp_path, pause=0)).read_bytes() == CONTENT
    with pytest.raises(FetchError, match=r"trap.*file:"):
        read_address(server.url + "/trap", most=100)


def test_a_small_file_is_read_into_memory(server):
    server.files["/card.json"] = b"{}"
    assert read_address(server.url + "/card.json", most=2) == b"{}"
    with pytest.raises(FetchError, match="must have at most 1 bytes"):
        read_address(server.url + "/card.json", most=1)
    with pytest.raises(FetchError, match="answers 404"):
        read_address(server.url + "/404", most=1)
    with pytest.raises(ValueError, match="must begin with http"):
        read_address("file:///etc/passwd", most=1)
