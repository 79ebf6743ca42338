"""Labeled Faces in the Wild in small, from a server on this machine."""

import hashlib
import io
import os
import tarfile

import pytest

from keras_facemargin.data import FetchError
from keras_facemargin.data import fetch as module
from keras_facemargin.data.fetch import LFW_ARCHIVES, LFW_LISTS, fetch_lfw
from keras_facemargin.download import RemoteFile


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

    def serve(name, content):
        server.files["/" + name] = content
        return RemoteFile(name, (f"{server.url}/{name}",), hashlib.sha256(content).hexdigest())

    def put(content):
        monkeypatch.setattr(module, "LFW_LISTS", (serve("pairs.txt", b"10\t300\n"),))
        packed = {"funneled": serve("lfw-funneled.tgz", content), "original": None}
        monkeypatch.setattr(module, "LFW_ARCHIVES", packed)

    return put


def test_lfw_is_fetched_and_unpacked_once(server, lfw, tmp_path):
    lfw(archive(["lfw_funneled/Ada/Ada_0001.jpg"]))
    photos = fetch_lfw(tmp_path / "lfw")
    assert os.path.relpath(photos, tmp_path) == os.path.join("lfw", "lfw_funneled")
    assert os.listdir(os.path.join(photos, "Ada")) == ["Ada_0001.jpg"]
    assert sorted(os.listdir(tmp_path / "lfw")) == ["lfw-funneled.tgz", "lfw_funneled", "pairs.txt"]
    assert fetch_lfw(tmp_path / "lfw") == photos
    assert len(server.requests) == 2


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
def test_a_bad_archive_leaves_no_partial_folder(server, lfw, tmp_path, content):
    lfw(content)
    with pytest.raises(FetchError, match="archive must have the folder lfw_funneled"):
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
        fetch_lfw(tmp_path, images="deepfunneled")


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


def test_the_digests_match_the_real_lists(shared_data):
    for each in LFW_LISTS:
        content = (shared_data / "lfw" / each.name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == each.sha256
