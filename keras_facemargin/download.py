"""Downloads: resumed after an interruption, accepted by their digest alone.

Nothing is downloaded at import. `fetch` is the one downloader of the package, for data sets and for
the zoo.
"""

import hashlib
import http.client
import os
import shutil
import stat
import time
import urllib.error
import urllib.request
from typing import IO, NamedTuple

from rich.progress import Progress, TaskID

from keras_facemargin.files import FULL, exclusive
from keras_facemargin.progress import progress_bar

_BLOCK = 1 << 18  # bytes read at a time
_TRIES = 5  # in a row without a single new byte
_AGENT = {"User-Agent": "keras_facemargin"}


class RemoteFile(NamedTuple):
    """A file on servers, and its digest.

    Attributes:
        name: of the file on disk.
        urls: http or https addresses, tried in order.
        sha256: hexadecimal digest that the file must have, whichever address it comes from.
        most: largest size of the file in bytes; the download stops at a server that sends more.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str
    most: int = 1 << 30


class FetchError(OSError):
    """A file that could not be fetched; the message names what was received and where it is."""


def fetch(
    remote: RemoteFile,
    directory: str | os.PathLike[str],
    *,
    pause: float = 2.0,
    timeout: float = 60.0,
    wait: float = 0.0,
) -> str:
    """Fetches one file, and accepts it only if its digest is right.

    After a broken connection the download resumes where it broke, in this call and in later ones
    (HTTP Range); from a server without ranges it starts again. The file gets its name when it is
    complete and its digest is right; until then it is `NAME.part`. A file with another digest is
    kept as `NAME.wrong-DIGEST`, and the next address is tried. One process at a time fetches a file
    to a place. Proxies are taken from the environment.

    Args:
        remote: a `RemoteFile`.
        directory: an existing folder.
        pause: seconds before another try, at least 0.
        timeout: seconds without a byte after which a connection counts as broken.
        wait: seconds to wait for another process that fetches the same file.

    Returns:
        Path of the file, a string.

    Raises:
        ValueError: an address is neither http nor https.
        FetchError: no address gave the file (the message has the reason of each); a file of that
            name exists already and has another digest; `NAME.part` is a link; the disk is full.
        BlockingIOError: another process fetches the same file.

    Example:

    ```python
    path = fetch(LFW_LISTS[0], "lfw")
    ```
    """
    for url in remote.urls:
        check_address(url)
    path = os.path.join(os.fspath(directory), remote.name)
    if not os.path.exists(path):
        with exclusive(path, wait=wait):
            if not os.path.exists(path):  # another process may have finished it meanwhile
                _fetch(remote, path, pause, timeout)
                return path
    digest = _digest(path)
    if digest != remote.sha256:
        raise FetchError(
            f"{path} exists already and is another file: its SHA-256 must be {remote.sha256}. "
            f"Received: {digest}. The file was not changed; move it away and call again."
        )
    return path


def read_address(url: str, *, most: int, timeout: float = 60.0) -> bytes:
    """Reads a small file from a server into memory.

    Args:
        url: an http or https address.
        most: largest size in bytes.
        timeout: seconds without a byte after which the connection counts as broken.

    Returns:
        The bytes.

    Raises:
        ValueError: the address is neither http nor https.
        FetchError: the server does not send the file, or sends more than `most` bytes.
    """
    check_address(url)
    try:
        request = urllib.request.Request(url, headers=_AGENT)
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            content: bytes = answer.read(most + 1)
    except (OSError, http.client.HTTPException) as error:
        raise FetchError(f"{url} could not be read. Received: {_reason(error)}.") from None
    if len(content) > most:
        raise FetchError(f"{url} must have at most {most:,} bytes. Received: more.")
    return content


def check_address(url: str) -> None:
    """Refuses an address that is neither http nor https.

    Raises:
        ValueError: the address begins with something else.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"An address must begin with http:// or https://. Received: {url!r}")


def _fetch(remote: RemoteFile, path: str, pause: float, timeout: float) -> None:
    """Tries the addresses in order until one gives the file; raises FetchError if none does."""
    part, reasons = path + ".part", []
    for url in remote.urls:
        try:
            _download(url, part, remote, pause, timeout)
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
    rest = f"\n{size:,} bytes are kept in {part}: the next call resumes there." if size else ""
    listed = "\n".join(f"  {reason}" for reason in reasons)
    raise FetchError(f"{remote.name} could not be fetched. Received:\n{listed}{rest}")


class _NoFile(Exception):
    """The reason why an address does not give the file."""


def _size(part: str) -> int:
    """Size of the part received so far; refuses a file that another program may have put there."""
    try:
        found = os.lstat(part)
    except FileNotFoundError:
        return 0
    if not stat.S_ISREG(found.st_mode):
        raise FetchError(
            f"{part} must be a file that an earlier call wrote. Received: a link or another kind "
            "of file. Nothing is written through it; remove it and call again."
        )
    return found.st_size


def _open_part(part: str, start: int) -> IO[bytes]:
    """Opens `part` to write behind `start` bytes; refuses a link that was put there meanwhile."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if start else os.O_TRUNC)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(part, flags, 0o666), "ab" if start else "wb")


def _download(url: str, part: str, remote: RemoteFile, pause: float, timeout: float) -> None:
    """Appends to `part` until the server has no more; raises _NoFile if it does not send it."""
    tries = 0
    with progress_bar("bytes", transient=True) as bar:
        task = bar.add_task(remote.name, total=None)
        while True:
            before = _size(part)
            if before > remote.most:
                os.unlink(part)  # part of another file, whose rest no server can send
                before = 0
            try:
                if _download_once(url, part, before, remote.most, timeout, bar, task):
                    return
                reason = "the connection ended early"
            except urllib.error.HTTPError as error:
                reason = _reason(error)
                if error.code < 500:
                    raise _NoFile(reason) from None
            except (
                urllib.error.URLError,
                http.client.HTTPException,
                ConnectionError,
                TimeoutError,
            ) as error:
                reason = _reason(error)
            now = _size(part)
            tries = 0 if now > before else tries + 1
            if tries == _TRIES:
                raise _NoFile(f"{reason}, {_TRIES} times in a row without a new byte")
            time.sleep(pause)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    if isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError):
        return "the server did not answer in time"
    return str(getattr(error, "reason", error)) or type(error).__name__


def _download_once(
    url: str, part: str, received: int, most: int, timeout: float, bar: Progress, task: TaskID
) -> bool:
    """One connection; returns whether the file is complete after it."""
    request = urllib.request.Request(url, headers=_AGENT)
    if received:
        request.add_header("Range", f"bytes={received}-")
    try:
        answer = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the server has nothing behind it: it is complete, or another file
            return True
        raise
    with answer:
        start = received
        if answer.status != 206:
            start = 0
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {received}-"):
            raise http.client.HTTPException("the server answers with another range than requested")
        length = answer.headers.get("Content-Length")
        # 15 digits are more than any disk has, and Python refuses to read thousands of them.
        left = int(length) if length and length.isdecimal() and len(length) < 16 else None
        free = shutil.disk_usage(os.path.dirname(part) or ".").free + received - start
        if left is not None and left > free:
            raise _full(part, f"{left:,} bytes more are needed, {free:,} are free")
        if start + (left or 0) > most:
            raise _NoFile(_too_long(most))
        bar.update(task, completed=start, total=None if left is None else start + left)
        now = start
        with _open_part(part, start) as file:
            while block := answer.read1(_BLOCK):
                now += len(block)
                if now > most:
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


def _too_long(most: int) -> str:
    return f"the server sends more than the {most:,} bytes that the file has at most"


def _full(part: str, reason: str | None) -> FetchError:
    return FetchError(
        f"The disk is full: {reason}. The bytes received are kept in {part}. Make room and call "
        "again: the download resumes there."
    )


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
