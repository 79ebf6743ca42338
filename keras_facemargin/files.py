"""Files on disk: read text, write a file in one step, allow one writer at a time.

- `read_text` reads UTF-8 with or without a byte-order mark, and names another encoding.
- `visible_files` lists the files in a folder and in the folders in it.
- `atomic_write` and `write_json` replace a file in one step and keep its mode; `draft_of` does so
  for a writer that opens its file itself; `draft_folder` writes a new folder in one step.
- `check_writable` checks before the work that a file can be written.
- `exclusive` lets one process write to a destination; a second one gets an error.
- `full_disk_names` adds the name of the file to the error of a full disk.
"""

import codecs
import contextlib
import errno
import json
import os
import secrets
import shutil
import stat
from pathlib import Path

import filelock

_DISK_IS_FULL = "The disk is full"
FULL = (errno.ENOSPC, errno.EDQUOT)  # the errors of a full file system

# The longer marks first: UTF-32's starts with UTF-16's.
_OTHER_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def read_text(path, what="a text file", errors="strict"):
    r"""Reads a text file in UTF-8, with or without a byte-order mark.

    Args:
        path: the file.
        what: the kind of file for the error, such as "LFW's list of pairs".
        errors: as `open` takes it; "surrogateescape" keeps bytes that are not UTF-8, such as file
            names in another encoding.

    Returns:
        The text without the mark. Line ends stay as they are in the file.

    Raises:
        ValueError: the file is UTF-16 or UTF-32, holds NUL bytes, or is not UTF-8.
        OSError: the file cannot be read.

    Example:
        >>> _ = Path("list.csv").write_bytes(codecs.BOM_UTF8 + b"a.jpg,1\n")
        >>> read_text("list.csv")
        'a.jpg,1\n'
    """
    data = Path(path).read_bytes()
    for mark, encoding in _OTHER_MARKS:
        if data.startswith(mark):
            raise ValueError(
                f"{path}: must be {what} in UTF-8. Received: a file in {encoding}. Save it as "
                "UTF-8."
            )
    if b"\0" in data:
        raise ValueError(
            f"{path}: must be {what} in UTF-8. Received: a file with NUL bytes, which is binary or "
            "UTF-16. Save it as UTF-8."
        )
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}, line {line:,}: must be {what} in UTF-8. Received: byte "
            f"0x{data[error.start]:02x} that is not UTF-8. Save it as UTF-8."
        ) from None


def visible_files(folder):
    """Lists the files in a folder and in the folders in it, in order.

    Links are followed, each folder once. Files and folders whose name begins with a dot are left
    out, such as thumbnails.

    Args:
        folder: the folder.

    Returns:
        list of paths relative to it, with `/`.

    Example:
        >>> for name in ("ann/1.jpg", "ann/.thumbs/1.jpg", "bob/1.jpg"):
        ...     Path("people", name).parent.mkdir(parents=True, exist_ok=True)
        ...     Path("people", name).touch()
        >>> visible_files("people")
        ['ann/1.jpg', 'bob/1.jpg']
    """
    names, seen = [], set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder around it
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        inside = Path(os.path.relpath(place, folder)).as_posix()
        start = "" if inside == "." else f"{inside}/"
        names += [start + file for file in files if not file.startswith(".")]
    return sorted(names)


@contextlib.contextmanager
def draft_of(path, ending=".draft"):
    """Names a draft beside `path` that replaces it when the block ends without an error.

    At any time `path` is the old file or the complete new one. A replaced file keeps its mode.

    Args:
        path: the file to write or replace; its folder must exist.
        ending: ending of the draft's name, if the writer requires one.

    Raises:
        OSError: the draft cannot be renamed. If the disk is full, the error names `path`.

    Example:
        >>> with draft_of("table.csv") as draft:
        ...     _ = draft.write_text("complete")
        >>> Path("table.csv").read_text()
        'complete'
    """
    path = Path(path)
    draft = _draft_name(path, ending)
    with full_disk_names(path):
        try:
            yield draft
            replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def check_unused(path):
    """Refuses a folder to write that is a file or has content, before the work for it starts.

    Args:
        path: the folder.

    Raises:
        FileExistsError: `path` is in use.

    Example:
        >>> check_unused("missing")
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(
            f"The output folder must not be in use. Received: {path} exists. The folder must not "
            "exist, or be empty: choose another one, or remove it."
        )


@contextlib.contextmanager
def draft_folder(path):
    """Makes a draft beside `path` that becomes the folder when the block ends without an error.

    At any time `path` is missing (or empty, as before) or complete.

    Args:
        path: the folder to write; it must not exist, or be empty.

    Raises:
        FileExistsError: `path` is in use.
        OSError: the draft cannot be made or renamed. If the disk is full, the error names `path`.

    Example:
        >>> with draft_folder("made") as draft:
        ...     _ = (draft / "note.txt").write_text("complete")
        >>> Path("made/note.txt").read_text()
        'complete'
    """
    check_unused(path)
    path = Path(os.path.abspath(path))  # "." has no name
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft_name(path)
    with full_disk_names(path):
        draft.mkdir()
        try:
            yield draft
            check_unused(path)  # another process may have written it
            if path.exists():
                path.rmdir()  # Windows renames no folder onto another
            os.rename(draft, path)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise


@contextlib.contextmanager
def atomic_write(path, mode="w"):
    """Opens a draft beside `path` that replaces it when the block ends without an error.

    At any time `path` is the old file or the complete new one. A new file gets the mode that the
    umask allows; a replaced file keeps its mode.

    Args:
        path: the file to write or replace; its folder must exist.
        mode: "w" for UTF-8 text, "wb" for bytes.

    Raises:
        OSError: the draft cannot be written or renamed. If the disk is full, the error names
            `path`.

    Example:
        >>> with atomic_write("note.txt") as file:
        ...     _ = file.write("complete")
        >>> Path("note.txt").read_text()
        'complete'
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with draft_of(path) as draft:
        descriptor = os.open(draft, flags, 0o666)  # the umask applies, as for any new file
        with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # the content before the name


def check_writable(path):
    """Checks that a file can be written, before the work for it starts.

    Args:
        path: the file to write later; its folder is created if it is missing.

    Raises:
        OSError: `path` is a folder, or its folder accepts no new file. `filename` names it.

    Example:
        >>> check_writable("results/table.csv")
        >>> check_writable("results")
        Traceback (most recent call last):
            ...
        IsADirectoryError: [Errno 21] Is a directory: 'results'
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft_name(path)
    try:  # permissions are not enough for root or a read-only disk
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        os.unlink(draft)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def _draft_name(path, ending=".draft"):
    """Another name in the same folder, so that a rename is one step."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{ending}")


def replace(draft, path):
    """Renames a draft to the file that it replaces, if there is one, and keeps that file's mode.

    Args:
        draft: a file in the folder of `path`.
        path: the file to replace.

    Raises:
        OSError: the draft cannot be renamed.
    """
    with contextlib.suppress(FileNotFoundError):
        os.chmod(draft, stat.S_IMODE(os.stat(path).st_mode))
    os.replace(draft, path)


def write_json(path, record):
    """Writes plain data as JSON, in one step.

    Args:
        path: as `atomic_write`.
        record: dicts, lists, texts and finite numbers.

    Raises:
        ValueError: a number is not finite; JSON has no form for it.
        OSError: as `atomic_write`.

    Example:
        >>> write_json("rates.json", {"eer": 0.03})
        >>> json.loads(Path("rates.json").read_text())
        {'eer': 0.03}
    """
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a file name that is not UTF-8: escapes hold it
        text = json.dumps(record, indent=2, allow_nan=False)
    with atomic_write(path) as file:
        file.write(text + "\n")


@contextlib.contextmanager
def exclusive(path, *, wait=0.0):
    """Holds the lock of a destination, so that one process at a time writes there.

    The lock is the file `.NAME.lock` beside `path`. The operating system releases it when the
    process ends, in any way. Between hosts it works only if their shared file system supports
    locks.

    Args:
        path: the file or folder to write; its parent folder is created if it is missing.
        wait: seconds to wait for a process that holds the lock.

    Raises:
        BlockingIOError: another process holds the lock.
        OSError: the lock file cannot be created.

    Example:
        >>> with exclusive("faces.rec"):
        ...     pass
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = Path(os.path.abspath(path))  # "." has no name
    file = whole.with_name(f".{whole.name}.lock")
    lock = filelock.FileLock(file, timeout=wait)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise BlockingIOError(
            f"Another process is writing to {path}. Received: its lock, {file}. Wait until it "
            "ends, or choose another destination."
        ) from None
    try:
        yield
    finally:
        # Removed before the release: a process that has opened it sees that the name is gone.
        with contextlib.suppress(OSError):
            file.unlink()
        lock.release()


@contextlib.contextmanager
def full_disk_names(path):
    """Names the file in an error of a full disk, which Python raises without a name.

    Args:
        path: the file that is written in the block.

    Raises:
        OSError: the disk is full; `filename` is `path`.

    Example:
        >>> import errno
        >>> with full_disk_names("faces.rec"):
        ...     raise OSError(errno.ENOSPC, "No space left on device")
        Traceback (most recent call last):
            ...
        OSError: [Errno 28] The disk is full: 'faces.rec'
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or error.strerror == _DISK_IS_FULL:  # an inner block named it
            raise
        raise OSError(error.errno, _DISK_IS_FULL, os.fspath(path)) from None
