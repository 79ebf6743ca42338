"""Fetching, from a server on this machine that breaks off, lies, knows no ranges or has nothing."""

import hashlib
import http.server
import io
import os
import shutil
import tarfile
import threading
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from keras_facemargin.data import fetch as module
from keras_facemargin.data.fetch import (
    LFW_ARCHIVES,
    LFW_LISTS,
    FetchError,
    RemoteFile,
    fetch,
    fetch_lfw,
)
from keras_facemargin.files import exclusive

CONTENT = np.random.default_rng(0).integers(0, 256, 1_000_000).astype("uint8").tobytes()
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """What it does is set by a test; what it was asked is kept."""

    daemon_threads = True
    content = CONTENT
    ranges = True  # whether it knows them
    breaks = 0  # how many answers end early
    after = 300_000  # bytes, those
    status = None  # an error in place of the file
    wrong_range = False
    length = True  # whether it says how long the file is


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked.append((self.path, asked))
        if server.status or self.path == "/404":
            self.send_error(server.status or 404)
            return
        content, start = server.files.get(self.path, server.content), 0
        if asked and server.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            told = start + server.wrong_range
            self.send_header("Content-Range", f"bytes {told}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[start:]
        if server.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.breaks:
            server.breaks -= 1
            body = body[: server.after]
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server(("127.0.0.1", 0), Handler)
    server.asked, server.files = [], {}
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def remote(server, *places, digest=DIGEST):
    host = f"http://127.0.0.1:{server.server_port}"
    return RemoteFile("set.tgz", tuple(host + place for place in places or ("/set.tgz",)), digest)


def test_a_file_appears_whole_and_is_not_fetched_twice(server, tmp_path):
    path = fetch(remote(server), tmp_path)
    assert Path(path).read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["set.tgz"]
    assert fetch(remote(server), tmp_path) == path
    assert len(server.asked) == 1


def test_a_broken_connection_is_taken_up_where_it_broke(server, tmp_path):
    server.breaks = 3
    assert Path(fetch(remote(server), tmp_path, pause=0)).read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [
        None,
        "bytes=300000-",
        "bytes=600000-",
        "bytes=900000-",
    ][: len(server.asked)]
    assert len(server.asked) == 4


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    server.breaks, server.ranges = 1, False
    assert Path(fetch(remote(server), tmp_path, pause=0)).read_bytes() == CONTENT
    assert server.asked[1][1] == "bytes=300000-"


def test_a_later_call_goes_on_from_what_was_kept(server, tmp_path):
    server.breaks, server.after = 100, 0
    (tmp_path / "set.tgz.part").write_bytes(CONTENT[:123_456])
    with pytest.raises(FetchError, match=r"ended early.*\n123,456 bytes are kept in .*\.part"):
        fetch(remote(server), tmp_path, pause=0)
    assert len(server.asked) == 5
    server.breaks = 0
    assert Path(fetch(remote(server), tmp_path, pause=0)).read_bytes() == CONTENT
    assert server.asked[-1][1] == "bytes=123456-"


def test_a_part_that_is_whole_already_is_only_checked(server, tmp_path):
    (tmp_path / "set.tgz.part").write_bytes(CONTENT)
    assert Path(fetch(remote(server), tmp_path, pause=0)).read_bytes() == CONTENT


def test_a_wrong_digest_is_never_believed_and_loses_nothing(server, tmp_path):
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
    assert [place for place, _ in server.asked] == ["/404", "/set.tgz"]


def test_a_missing_file_is_said_at_once(server, tmp_path):
    with pytest.raises(FetchError, match=r"(?s)/404: the server says 404 .*/404: the server says"):
        fetch(remote(server, "/404", "/404"), tmp_path, pause=0)
    assert len(server.asked) == 2
    assert os.listdir(tmp_path) == []


def test_a_server_that_fails_is_asked_again_a_few_times(server, tmp_path):
    server.status = 503
    with pytest.raises(FetchError, match=r"503.*5 times in a row"):
        fetch(remote(server), tmp_path, pause=0)
    assert len(server.asked) == 5


def test_a_range_that_was_not_asked_for_is_not_appended(server, tmp_path):
    server.wrong_range = True
    (tmp_path / "set.tgz.part").write_bytes(CONTENT[:1000])
    with pytest.raises(FetchError, match="another range"):
        fetch(remote(server), tmp_path, pause=0)
    assert (tmp_path / "set.tgz.part").read_bytes() == CONTENT[:1000]


def test_a_server_that_says_no_length(server, tmp_path):
    server.length = False
    assert Path(fetch(remote(server), tmp_path, pause=0)).read_bytes() == CONTENT


def test_nobody_answers(server, tmp_path):
    nowhere = RemoteFile("set.tgz", ("http://127.0.0.1:9/set.tgz",), DIGEST)
    with pytest.raises(FetchError, match=r"could not be fetched.*\n.*127.0.0.1:9"):
        fetch(nowhere, tmp_path, pause=0)


def test_a_file_of_that_name_is_never_overwritten(server, tmp_path):
    (tmp_path / "set.tgz").write_bytes(b"mine")
    with pytest.raises(FetchError, match=f"(?s)another file.*{DIGEST}.*left as it is"):
        fetch(remote(server), tmp_path)
    assert (tmp_path / "set.tgz").read_bytes() == b"mine"
    assert server.asked == []


def test_too_little_room_is_said_before_a_byte_is_written(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9, 9, 999_999))
    with pytest.raises(FetchError, match=r"disk is full: 1,000,000 bytes more.*999,999 are free"):
        fetch(remote(server), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_disk_that_fills_keeps_what_came_and_goes_on_later(server, tmp_path, monkeypatch):
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
    begun = os.path.getsize(tmp_path / "set.tgz.part")
    assert begun > 400_000
    assert Path(fetch(remote(server), tmp_path)).read_bytes() == CONTENT
    assert server.asked[-1][1] == f"bytes={begun}-"


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("begun", [0, 1000])
def test_a_server_that_sends_more_than_the_file_has_is_stopped(server, tmp_path, length, begun):
    server.length = length
    (tmp_path / "set.tgz.part").write_bytes(CONTENT[:begun])
    bounded = remote(server)._replace(most=len(CONTENT) - 1)
    with pytest.raises(FetchError, match="sends more than the 999,999 bytes"):
        fetch(bounded, tmp_path, pause=0)
    left = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert left == (begun if length else 0)  # unknown length: what came is of another file
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
    assert server.asked == []
    fetch(remote(server), tmp_path)
    with exclusive(tmp_path / "set.tgz"):
        fetch(remote(server), tmp_path)  # a complete file is only checked


def test_what_is_fetched_has_the_mode_that_the_umask_allows(server, tmp_path):
    before = os.umask(0o077)
    try:
        path = Path(fetch(remote(server), tmp_path))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600


def test_other_kinds_of_address_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"http:// or https://.*Received: 'file:///etc/passwd'"):
        fetch(RemoteFile("a", ("file:///etc/passwd",), DIGEST), tmp_path)


def archive(names):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"face"))
    return buffer.getvalue()


@pytest.fixture
def lfw(server, monkeypatch):
    """The set in small, at this machine's addresses."""
    host = f"http://127.0.0.1:{server.server_port}"

    def serve(name, content):
        server.files["/" + name] = content
        return RemoteFile(name, (f"{host}/{name}",), hashlib.sha256(content).hexdigest())

    def lay(content):
        monkeypatch.setattr(module, "LFW_LISTS", (serve("pairs.txt", b"10\t300\n"),))
        packed = {"funneled": serve("lfw-funneled.tgz", content), "original": None}
        monkeypatch.setattr(module, "LFW_ARCHIVES", packed)

    return lay


def test_lfw_is_fetched_and_unpacked_once(server, lfw, tmp_path):
    lfw(archive(["lfw_funneled/Ada/Ada_0001.jpg"]))
    photos = fetch_lfw(tmp_path / "lfw")
    assert os.path.relpath(photos, tmp_path) == os.path.join("lfw", "lfw_funneled")
    assert os.listdir(os.path.join(photos, "Ada")) == ["Ada_0001.jpg"]
    assert sorted(os.listdir(tmp_path / "lfw")) == ["lfw-funneled.tgz", "lfw_funneled", "pairs.txt"]
    assert fetch_lfw(tmp_path / "lfw") == photos
    assert len(server.asked) == 2


def test_an_archive_is_not_unpacked_through_a_link(server, lfw, tmp_path):
    lfw(archive(["lfw_funneled/Ada/Ada_0001.jpg"]))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "lfw").mkdir()
    (tmp_path / "lfw" / "lfw_funneled.draft").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FetchError, match="through a link"):
        fetch_lfw(tmp_path / "lfw")
    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.parametrize(
    "content", [archive(["../outside.jpg"]), archive(["other/a.jpg"]), b"no archive", b""]
)
def test_an_archive_that_does_not_unpack_leaves_no_half_folder(server, lfw, tmp_path, content):
    lfw(content)
    with pytest.raises(FetchError, match="archive with the folder lfw_funneled"):
        fetch_lfw(tmp_path / "lfw")
    assert sorted(os.listdir(tmp_path / "lfw")) == ["lfw-funneled.tgz", "pairs.txt"]
    assert os.listdir(tmp_path) == ["lfw"]


def test_the_command(server, lfw, tmp_path):
    from typer.testing import CliRunner

    from keras_facemargin.cli import app

    lfw(archive(["lfw_funneled/Ada/Ada_0001.jpg"]))
    ran = CliRunner().invoke(app, ["fetch", "lfw", str(tmp_path / "lfw")])
    assert ran.exit_code == 0 and "facemargin align" in ran.output
    assert (tmp_path / "lfw" / "lfw_funneled" / "Ada" / "Ada_0001.jpg").is_file()


def test_other_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Received: images='deepfunneled'"):
        fetch_lfw(tmp_path, "deepfunneled")


def test_addresses_and_digests_are_well_formed():
    for each in (*LFW_ARCHIVES.values(), *LFW_LISTS):
        assert len(bytes.fromhex(each.sha256)) == 32
        assert each.urls[1:] == (f"http://vis-www.cs.umass.edu/lfw/{each.name}",)


def test_copies_and_digests_are_those_of_scikit_learn():
    published = pytest.importorskip("sklearn.datasets._lfw")
    files = [published.ARCHIVE, published.FUNNELED_ARCHIVE, *published.TARGETS]
    theirs = {each.filename: (each.url, each.checksum) for each in files}
    ours = [*LFW_ARCHIVES.values(), *LFW_LISTS]
    assert {each.name: (each.urls[0], each.sha256) for each in ours} == theirs


def test_the_lists_digests_are_those_of_the_real_lists(shared_data):
    for each in LFW_LISTS:
        content = (shared_data / "lfw" / each.name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == each.sha256
