"""Data sets from their addresses: resumed where they stopped, believed by their digest alone.

Nothing here runs by itself: a file is fetched when somebody asks for it by name. Sets that are
given on application only are described in `docs/datasets.md`.
"""

import contextlib
import hashlib
import http.client
import os
import shutil
import stat
import tarfile
import time
import urllib.error
import urllib.request
from typing import NamedTuple

from keras_facemargin.files import FULL, exclusive
from keras_facemargin.progress import progress_bar

_BLOCK = 1 << 18  # bytes read at a time
_TRIES = 5  # in a row without a single new byte


class RemoteFile(NamedTuple):
    """A file and what it must be.

    Attributes:
        name: of the file on disk.
        urls: http or https addresses, tried in order.
        sha256: hexadecimal digest that the file must have, wherever it comes from.
        most: bytes that the file has at most; a server that sends more is stopped.
    """

    name: str
    urls: tuple
    sha256: str
    most: int = 1 << 30


def _lfw(name, copy, sha256):
    # The authors' host has had no address since January 2025 (pytorch/vision#8888), so the copy
    # comes first; the digest makes them equals.
    authors = f"http://vis-www.cs.umass.edu/lfw/{name}"
    most = 1 << 20 if name.endswith(".txt") else 1 << 29
    urls = f"https://ndownloader.figshare.com/files/{copy}", authors
    return RemoteFile(name, urls, sha256, most)


# The copy and the digests are those that scikit-learn publishes in sklearn/datasets/_lfw.py (a test
# compares them with the installed one). The digests of the three lists are those of the lists that
# this package is tested with; the archives' were not compared with an archive.
LFW_ARCHIVES = {
    "funneled": _lfw(
        "lfw-funneled.tgz",
        5976015,
        "b47c8422c8cded889dc5a13418c4bc2abbda121092b3533a83306f90d900100a",
    ),
    "original": _lfw(
        "lfw.tgz",
        5976018,
        "055f7d9c632d7370e6fb4afc7468d40f970c34a80d4c6f50ffec63f5a8d536c0",
    ),
}
LFW_LISTS = (
    _lfw(
        "pairs.txt",
        5976006,
        "ea42330c62c92989f9d7c03237ed5d591365e89b3e649747777b70e692dc1592",
    ),
    _lfw(
        "pairsDevTrain.txt",
        5976012,
        "1d454dada7dfeca0e7eab6f65dc4e97a6312d44cf142207be28d688be92aabfa",
    ),
    _lfw(
        "pairsDevTest.txt",
        5976009,
        "7cb06600ea8b2814ac26e946201cdb304296262aad67d046a16a7ec85d0ff87c",
    ),
)
_LFW_FOLDERS = {"funneled": "lfw_funneled", "original": "lfw"}


class FetchError(OSError):
    """A file that could not be had; what was received is kept, and the message says where."""


def fetch_lfw(directory, images="funneled"):
    """Fetches Labeled Faces in the Wild: 13,233 photos of 5,749 people, 250x250, and its lists.

    About 240 MB, and as much again unpacked. The photos are not aligned to the template:
    `facemargin align` does that. No licence of the photographs, which come from news pages, could
    be found: `docs/datasets.md`.

    **Where implementations differ.** Published figures are mostly of the deep-funneled photos cut
    by another detector, which no source with a SHA-256 publishes; `funneled` is the nearest.
    torchvision and TensorFlow Datasets ask the authors' host, which is gone, or a copy.

    Args:
        directory: folder to fill; made if missing. What is in it already is checked and not
            fetched again.
        images: `"funneled"`, or `"original"` for the photos before funneling.

    Returns:
        Path of the folder of photos, a string; `pairs.txt`, `pairsDevTrain.txt` and
        `pairsDevTest.txt` lie beside it.

    Raises:
        ValueError: `images` is neither.
        FetchError: as `fetch`, or the archive does not unpack.

    Example:

    ```python
    photos = fetch_lfw("lfw")
    align_folder(photos, "lfw/aligned", detector="mtcnn")
    ```
    """
    if images not in LFW_ARCHIVES:
        raise ValueError(
            f"`images` must be {' or '.join(map(repr, LFW_ARCHIVES))}. Received: images={images!r}"
        )
    directory = os.fspath(directory)
    os.makedirs(directory, exist_ok=True)
    for each in LFW_LISTS:
        fetch(each, directory)
    photos = os.path.join(directory, _LFW_FOLDERS[images])
    if not os.path.isdir(photos):
        archive = fetch(LFW_ARCHIVES[images], directory)
        with exclusive(photos):
            _unpack(archive, photos)
    return photos


def fetch(remote, directory, pause=2.0):
    """Fetches one file, and believes it only if its digest is right.

    After a broken connection the download continues where it broke, in this call and in later ones
    (HTTP Range); from a server without ranges it starts again. The file appears under its name when
    it is whole and its digest right; until then it is `NAME.part`. A file with another digest is
    kept as `NAME.wrong-DIGEST` and the next address is tried. One process at a time fetches a file
    to a place. Proxies are taken from the environment.

    Args:
        remote: a `RemoteFile`.
        directory: an existing folder.
        pause: seconds before another try, at least 0.

    Returns:
        Path of the file, a string.

    Raises:
        ValueError: an address is neither http nor https.
        FetchError: no address gave the file (each one's reason is named); a file of that name is
            there already and has another digest; `NAME.part` is a link; the disk is full.
        BlockingIOError: another process fetches the same file.

    Example:

    ```python
    path = fetch(LFW_LISTS[0], "lfw")
    ```
    """
    for url in remote.urls:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"An address must begin with http:// or https://. Received: {url!r}")
    path = os.path.join(os.fspath(directory), remote.name)
    if not os.path.exists(path):
        with exclusive(path):
            if not os.path.exists(path):  # another process may have finished it meanwhile
                _fetch(remote, path, pause)
                return path
    digest = _digest(path)
    if digest != remote.sha256:
        raise FetchError(
            f"{path} is there already and is another file: its SHA-256 must be {remote.sha256}. "
            f"Received: {digest}. It was left as it is; move it away and call again."
        )
    return path


def _fetch(remote, path, pause):
    """Tries the addresses in order until one gives the file; raises FetchError if none does."""
    part, reasons = path + ".part", []
    for url in remote.urls:
        try:
            _download(url, part, remote, pause)
        except _NoFile as error:
            reasons.append(f"{url}: {error}")
            continue
        digest = _digest(part)
        if digest == remote.sha256:
            os.replace(part, path)
            return
        kept = f"{path}.wrong-{digest[:16]}"
        os.replace(part, kept)
        reasons.append(f"{url}: its SHA-256 is {digest}, not {remote.sha256}; kept as {kept}")
    size = _size(part)
    begun = f"\n{size:,} bytes are kept in {part}: the next call goes on there." if size else ""
    said = "\n".join(f"  {reason}" for reason in reasons)
    raise FetchError(f"{remote.name} could not be fetched. Received:\n{said}{begun}")


class _NoFile(Exception):
    """Why an address does not give the file."""


def _size(part):
    """Size of the part received so far; refuses a file that another program may have put there."""
    try:
        found = os.lstat(part)
    except FileNotFoundError:
        return 0
    if not stat.S_ISREG(found.st_mode):
        raise FetchError(
            f"{part} must be a file that an earlier call began. Received: a link or another kind "
            "of file. Nothing is written through it; remove it and call again."
        )
    return found.st_size


def _open_part(part, start):
    """Opens `part` to write behind `start` bytes; refuses a link that was put there meanwhile."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if start else os.O_TRUNC)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(part, flags, 0o666), "ab" if start else "wb")


def _download(url, part, remote, pause):
    """Appends to `part` until the server has no more; raises _NoFile if it cannot be had."""
    tries = 0
    with progress_bar("bytes", transient=True) as bar:
        task = bar.add_task(remote.name, total=None)
        while True:
            before = _size(part)
            if before > remote.most:
                os.unlink(part)  # of another file, whose rest cannot be asked for
                before = 0
            try:
                if _download_once(url, part, before, remote.most, bar, task):
                    return
                reason = "the connection ended early"
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    raise _NoFile(f"the server says {error.code} {error.reason}") from None
                reason = f"the server says {error.code} {error.reason}"
            except (urllib.error.URLError, http.client.HTTPException, ConnectionError) as error:
                reason = str(getattr(error, "reason", error)) or type(error).__name__
            except TimeoutError:
                reason = "the server did not answer in time"
            now = _size(part)
            tries = 0 if now > before else tries + 1
            if tries == _TRIES:
                raise _NoFile(f"{reason}, {_TRIES} times in a row without a new byte")
            time.sleep(pause)


def _download_once(url, part, begun, most, bar, task):
    """One connection; whether the file is whole after it."""
    request = urllib.request.Request(url, headers={"User-Agent": "keras_facemargin"})
    if begun:
        request.add_header("Range", f"bytes={begun}-")
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # there is nothing behind what is there: whole, or another file
            return True
        raise
    with answer:
        start = begun
        if answer.status != 206:
            start = 0
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {begun}-"):
            raise http.client.HTTPException("the server answers with another range than was asked")
        length = answer.headers.get("Content-Length")
        # 15 digits are more than any disk has, and Python refuses to read thousands of them.
        left = int(length) if length and length.isdecimal() and len(length) < 16 else None
        free = shutil.disk_usage(os.path.dirname(part) or ".").free + begun - start
        if left is not None and left > free:
            raise _full(part, f"{left:,} bytes more are needed, {free:,} are free")
        if start + (left or 0) > most:
            raise _NoFile(_too_long(most))
        bar.update(task, completed=start, total=None if left is None else start + left)
        received = start
        with _open_part(part, start) as file:
            while block := answer.read(_BLOCK):
                received += len(block)
                if received > most:
                    os.unlink(part)
                    raise _NoFile(_too_long(most))
                try:
                    file.write(block)
                except OSError as error:
                    if error.errno in FULL:
                        raise _full(part, error.strerror) from error
                    raise FetchError(f"{part} cannot be written: {error.strerror}") from error
                bar.update(task, advance=len(block))
                if left is not None:
                    left -= len(block)
    return not left


def _too_long(most):
    return f"it sends more than the {most:,} bytes that the file has at most"


def _full(part, reason):
    return FetchError(
        f"The disk is full: {reason}. Received so far is kept in {part}. Make room and call again: "
        "it goes on there."
    )


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(archive, folder):
    """`folder` of an archive, with all that is in it or not at all."""
    if not hasattr(tarfile, "data_filter"):
        raise FetchError(
            f"Unpacking {archive} safely needs Python 3.11.4 or later. Unpack it by hand."
        )
    draft = f"{folder}.draft"
    if os.path.islink(draft):
        raise FetchError(f"Nothing is unpacked through a link. Received: {draft}. Remove it.")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(draft, filter="data")
        os.replace(os.path.join(draft, os.path.basename(folder)), folder)
    except (tarfile.TarError, EOFError, FileNotFoundError) as error:
        raise FetchError(
            f"An archive with the folder {os.path.basename(folder)} is needed. "
            f"Received: {archive}, {error}. It was left as it is."
        ) from error
    except OSError as error:
        raise FetchError(
            f"{archive} could not be unpacked beside it: {error.strerror}. Call again; nothing is "
            "fetched twice."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(draft)
