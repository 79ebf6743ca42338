"""A gallery's SQLite file: its schema, its transactions, and its errors in one sentence each.

The journal is a rollback journal and not a write-ahead log. A write-ahead log is a second file with
committed people in it, needs shared memory, and does not work on a network disk; a gallery is one
file that users copy. A writer stops readers for the milliseconds of its commit only.

`synchronous=EXTRA` waits for the disk, so that a committed enrolment survives a power cut.
`secure_delete` overwrites a removed person's embeddings and crops with zeros.
"""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from keras_facemargin.files import full_disk_names

# Both are in the header of the file: "KFGa" and the version of the schema.
APPLICATION = 0x4B464761
SCHEMA_VERSION = 1

# Rows of 512 numbers fit in a page without an overflow page.
_PAGE_SIZE = 16_384

# Crops are in their own table: a scan of the embeddings does not read them.
_SCHEMA = (
    """CREATE TABLE gallery (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        embedding_id TEXT NOT NULL,
        embedding_dim INTEGER NOT NULL CHECK (embedding_dim > 0),
        model TEXT,
        quality_weight REAL NOT NULL CHECK (quality_weight >= 0),
        migration TEXT
    )""",
    """CREATE TABLE people (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE
    )""",
    """CREATE TABLE images (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        person INTEGER NOT NULL REFERENCES people ON DELETE CASCADE,
        utility REAL,
        sharpness REAL,
        embedding BLOB NOT NULL,
        source TEXT,
        photo TEXT,
        added TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
    )""",
    "CREATE INDEX images_of_person ON images (person)",
    """CREATE UNIQUE INDEX photos_of_person ON images (photo, person) WHERE photo IS NOT NULL""",
    """CREATE TABLE crops (
        image INTEGER PRIMARY KEY REFERENCES images ON DELETE CASCADE,
        template TEXT,
        jpeg BLOB NOT NULL
    )""",
)


class Store:
    """A connection to the file.

    Args:
        path: the file.
        create: whether to create it if it is missing or empty.
        wait: seconds to wait for another process.

    Raises:
        FileNotFoundError: the file does not exist, and `create` is false.
        ValueError: the file is damaged, another kind of file, or of a newer version.
        BlockingIOError: another process holds its lock.
        OSError: the file cannot be opened or created.
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool, wait: float) -> None:
        self.path = Path(path)
        self.wait = wait
        if self.path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self.path))
        if not create and not self.path.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        if create and not self.path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        address = f"{self.path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
        with self.in_one_sentence():
            self.connection = sqlite3.connect(address, timeout=wait, isolation_level=None, uri=True)
        try:
            with self.in_one_sentence():
                self._open(create)
        except BaseException:
            self.connection.close()
            raise

    def _open(self, create: bool) -> None:
        run = self.connection.execute
        run("PRAGMA foreign_keys = ON")
        run("PRAGMA secure_delete = ON")
        run("PRAGMA synchronous = EXTRA")
        run(f"PRAGMA page_size = {_PAGE_SIZE}")
        if self._is_empty() and create:
            with self.writing():
                if self._is_empty():  # no other process was first
                    for statement in _SCHEMA:
                        run(statement)
                    run(f"PRAGMA application_id = {APPLICATION}")
                    run(f"PRAGMA user_version = {SCHEMA_VERSION}")
        application, version = (
            run(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if application != APPLICATION:
            found = "an empty file" if self._is_empty() else "another kind of database"
            raise ValueError(f"{self._rule()} Received: {found}.")
        if version != SCHEMA_VERSION:
            raise ValueError(
                f"{self.path}: must be a gallery of version {SCHEMA_VERSION}. Received: version "
                f"{version}. Install a newer keras_facemargin."
            )

    def _is_empty(self) -> bool:
        return not self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]

    def _rule(self) -> str:
        return f"{self.path}: must be a gallery, as `facemargin gallery add` writes."

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction: all of the block is written when it ends, or nothing.

        A block inside a block is part of it.

        Raises:
            BlockingIOError, OSError, ValueError: as the class.
        """
        if self.connection.in_transaction:
            with self.in_one_sentence():
                yield
            return
        with self.in_one_sentence():
            # The lock is taken here, so that two writers wait for each other and not for ever.
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:  # a full disk has rolled it back
                    self.connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """A block that sees one state of the gallery."""
        if self.connection.in_transaction:
            yield
            return
        with self.in_one_sentence():
            self.connection.execute("BEGIN")
            try:
                yield
            finally:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def in_one_sentence(self) -> Iterator[None]:
        """Raises SQLite's errors as the errors of files."""
        try:
            with full_disk_names(self.path):
                try:
                    yield
                except sqlite3.DatabaseError as error:
                    raise self._plain(error) from None
        except sqlite3.Error as error:  # not of the file: a closed gallery, another thread
            raise RuntimeError(f"{self.path}: {error}") from None

    def _plain(self, error: sqlite3.DatabaseError, written: Path | None = None) -> Exception:
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return error
        kind, path = code & 0xFF, str(written or self.path)
        if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return BlockingIOError(
                f"Another process is writing to {path}. Received: its lock, for more than "
                f"{self.wait:g} seconds. Wait until it ends, and try again."
            )
        if kind == sqlite3.SQLITE_FULL:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        if kind == sqlite3.SQLITE_NOTADB:
            return ValueError(f"{self._rule()} Received: another kind of file.")
        if kind == sqlite3.SQLITE_CORRUPT:
            return ValueError(
                f"{path}: the gallery is damaged, truncated or overwritten in part. Received: "
                f"{error}. Restore it from a copy."
            )
        if kind in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            return PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        if kind == sqlite3.SQLITE_IOERR:
            return OSError(errno.EIO, f"The disk reports an error ({error})", path)
        return error

    def changes(self) -> int:
        """A number that differs after another connection has changed the file."""
        with self.in_one_sentence():
            return int(self.connection.execute("PRAGMA data_version").fetchone()[0])

    def copy(self, path: str | os.PathLike[str]) -> None:
        """Writes the committed content to a new file.

        Raises:
            OSError: the file cannot be written, or exists.
        """
        if not Path(path).absolute().parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
        try:
            self.connection.execute("VACUUM INTO ?", (os.fspath(path),))
        except sqlite3.DatabaseError as error:
            raise self._plain(error, Path(path)) from None

    def close(self) -> None:
        """Closes the file."""
        self.connection.close()
