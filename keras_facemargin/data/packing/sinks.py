"""Destinations of `pack_faces`: one class for each kind of container."""

import contextlib
import csv
import hashlib
import io
import itertools
import os
import re
import shutil
import zlib
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np

from keras_facemargin.data.containers import Listing
from keras_facemargin.data.formats.recordio import EXACT, Record, frame_record, pack_record
from keras_facemargin.data.formats.tfrecord import frame_tfrecord, shard_names
from keras_facemargin.data.lists import list_identity
from keras_facemargin.data.problems import check_all
from keras_facemargin.data.tfrecords import face_example
from keras_facemargin.images.image import BadImage

_ENCODING = ("utf-8", "surrogateescape")  # Python's form of file names that are not UTF-8
_READ_AGAIN = 1 << 20  # bytes read at a time when a file is checked
_LINES, _TABS = re.compile(r"[\r\n]"), re.compile(r"[\t\r\n]")


class Sink:
    """A destination: files that grow under draft names.

    Args:
        destination: the container to make.
        shards: number of its files.

    Attributes:
        kind: kind of the container.
        shard: the file that the next image goes to.
        skipped_file: the list of bad images.
    """

    kind = "records"
    # Characters that a name or identity must not contain, because they would break a list.
    breaks: re.Pattern[str] | None = None

    def __init__(self, destination: str, shards: int) -> None:
        self.destination = destination
        self.shards = shards
        self.shard = 0
        self.skipped_file = destination + ".skipped.csv"
        self._streams: dict[str, BinaryIO] = {}
        self._sums: dict[str, int] = {}  # checksum of each draft, after its head
        self._heads: dict[str, bytes] = {}  # bytes that replace the beginning of a draft

    def files(self) -> list[str]:
        """The files to write; a file that is useless without others comes first."""
        raise NotImplementedError

    def claims(self) -> Iterable[str]:
        """The paths that another call must not write at the same time."""
        return dict.fromkeys([self.destination, *self.files()])

    def check(self, listing: Listing) -> None:
        """Refuses images that the container cannot hold."""

    def fault(self, identity: str, name: str) -> str | None:
        """Why the container cannot hold an image of this identity and name, or None."""
        if self.breaks and self.breaks.search(f"{identity}/{name}"):
            return f"its name or identity has a tab or a line break, which a *{self.ending} cannot."
        return None

    @property
    def ending(self) -> str:
        """The ending of the destination, in lower case."""
        return os.path.splitext(self.destination)[1].lower()

    def moves(self) -> list[tuple[str, str]]:
        """Draft and name of every output, in the order in which they get their names."""
        return [(file + ".draft", file) for file in (self.skipped_file, *self.files())]

    def open(self, written: dict[str, Any] | None) -> None:
        """Opens the drafts.

        Args:
            written: the result of `flush` in an interrupted call; the drafts are cut to it.
        """
        for file in (self.skipped_file, *self.files()):
            draft = file + ".draft"
            self._streams[draft] = stream = open(draft, "r+b" if written else "w+b")  # noqa: SIM115
            self._sums[draft] = 0
            if written:
                size, self._sums[draft] = written[draft]
                stream.truncate(size)
                stream.seek(0, os.SEEK_END)
        if not written:
            self.begin()

    def begin(self) -> None:
        """Writes the bytes before the first image."""

    def write(self, row: int, label: int, identity: str, name: str, encoded: bytes) -> None:
        """Writes an image.

        Args:
            row: number of the image.
            label: number of its identity.
            identity, name: name of its identity, and its own.
            encoded: bytes of the image file.
        """
        raise NotImplementedError

    def finish(self, images: int) -> None:
        """Writes the bytes after the last of `images` images."""

    def put(self, file: str, data: bytes) -> None:
        """Appends bytes to a file."""
        draft = file + ".draft"
        self._streams[draft].write(data)
        self._sums[draft] = zlib.crc32(data, self._sums[draft])

    def put_row(self, file: str, fields: list[str]) -> None:
        """Appends a line to a .csv file."""
        text = io.StringIO()
        # If lines end in "\n", Python 3.11 writes an "\r" in a name without quotes.
        csv.writer(text, lineterminator="\r\n").writerow(fields)
        self.put(file, (text.getvalue()[:-2] + "\n").encode(*_ENCODING))

    def skip(self, bad: BadImage) -> None:
        """Lists a bad image."""
        self.put_row(self.skipped_file, [bad.path, bad.reason])

    def read_skipped(self) -> list[BadImage]:
        """The bad images that were listed, also by an interrupted call."""
        draft, final = self.skipped_file + ".draft", self.skipped_file
        file = draft if os.path.exists(draft) else final
        if not os.path.exists(file):
            return []
        with open(file, newline="", encoding="utf-8", errors="surrogateescape") as stream:
            return [BadImage(*row) for row in csv.reader(stream)]

    def flush(self) -> dict[str, Any]:
        """Writes all bytes to the disk and returns length and checksum of each draft."""
        for stream in self._streams.values():
            stream.flush()
            os.fsync(stream.fileno())
        return {
            draft: [stream.tell(), self._sums[draft]] for draft, stream in self._streams.items()
        }

    def changed(self) -> str | None:
        """Reads the drafts again and returns the first that differs from the written bytes."""
        for draft, stream in self._streams.items():
            head = self._heads.get(draft, b"")
            stream.seek(0)
            same, checksum = stream.read(len(head)) == head, 0
            while data := stream.read(_READ_AGAIN):
                checksum = zlib.crc32(data, checksum)
            if not same or checksum != self._sums[draft]:
                return draft
        return None

    def close(self) -> None:
        """Closes the drafts."""
        for stream in self._streams.values():
            with contextlib.suppress(OSError):  # bytes that did not fit on the disk come again
                stream.close()

    def discard(self) -> None:
        """Removes the drafts."""
        self.close()
        for draft, _ in self.moves():
            if os.path.isdir(draft):
                shutil.rmtree(draft)
            elif os.path.exists(draft):
                os.remove(draft)


class RecordSink(Sink):
    """A `.rec` in InsightFace's layout, with an `.idx` and a `.lst` that has the names."""

    breaks = _TABS  # in the `.lst`

    def __init__(self, destination: str, shards: int) -> None:
        super().__init__(destination, shards)
        stem = os.path.splitext(destination)[0]
        self._index, self._list = stem + ".idx", stem + ".lst"

    def files(self) -> list[str]:
        return [self._index, self._list, self.destination]

    def check(self, listing: Listing) -> None:
        records = 1 + len(listing.labels) + len(listing.identities)
        if records > EXACT:
            raise ValueError(
                f"A .rec must have at most {EXACT:,} records, because it counts them in float32. "
                f"Received: {records:,} for {listing.source}. Pack into a .tfrecord instead."
            )

    def begin(self) -> None:
        self.put(self._index, b"0\t0\n")
        self._put_head([0, 0])  # the counts are known at the end

    def write(self, row: int, label: int, identity: str, name: str, encoded: bytes) -> None:
        self._record(row + 1, float(label), encoded)
        line = f"{row + 1}\t{label}\t{identity}/{name}\n"
        self.put(self._list, line.encode(*_ENCODING))

    def _record(self, key: int, label: float | list[int], encoded: bytes) -> None:
        place = self._streams[self.destination + ".draft"].tell()
        self.put(self._index, f"{key}\t{place}\n".encode())
        self.put(self.destination, frame_record(pack_record(Record(label, encoded, key))))

    def finish(self, images: int) -> None:
        names = self._streams[self._list + ".draft"]
        names.flush()
        with open(self._list + ".draft", "rb") as lines:
            labels = [int(line.split(b"\t", 2)[1]) for line in lines]
        stops = np.cumsum(np.bincount(labels)) + 1
        end = 1 + images
        for key, (start, stop) in enumerate(itertools.pairwise([1, *stops.tolist()]), start=end):
            self._record(key, [start, stop], b"")
        self._put_head([end, end + len(stops)])

    def _put_head(self, counts: list[int]) -> None:
        """Writes record 0. The checksum excludes it, because it is written twice."""
        draft = self.destination + ".draft"
        self._heads[draft] = frame_record(pack_record(Record(counts, b"", 0)))
        records = self._streams[draft]
        records.seek(0)
        records.write(self._heads[draft])
        records.seek(0, os.SEEK_END)


class TFRecordSink(Sink):
    """A `.tfrecord`, or its shards."""

    kind = "tfrecords"

    def files(self) -> list[str]:
        return shard_names(self.destination, self.shards)

    def claims(self) -> Iterable[str]:
        return [self.destination]  # one lock for all shards

    def write(self, row: int, label: int, identity: str, name: str, encoded: bytes) -> None:
        example = face_example(encoded, label, text=identity, name=name)
        self.put(self.files()[self.shard], frame_tfrecord(example))


class FolderSink(Sink):
    """A folder of image files, `tree`. A subclass adds a list of them."""

    kind = "folder"

    def __init__(self, destination: str, shards: int) -> None:
        super().__init__(destination, shards)
        self._files = [0, 0]  # number of the files and sum of their digests, in any order

    def files(self) -> list[str]:
        return []

    def claims(self) -> Iterable[str]:
        return dict.fromkeys([*super().claims(), self.tree])

    @property
    def tree(self) -> str:
        """The folder of the images."""
        return self.destination

    def moves(self) -> list[tuple[str, str]]:
        return [(self.tree + ".draft", self.tree), *super().moves()]

    def open(self, written: dict[str, Any] | None) -> None:
        if not written and os.path.exists(self.tree + ".draft"):
            shutil.rmtree(self.tree + ".draft")  # of a call whose journal was removed
        os.makedirs(self.tree + ".draft", exist_ok=True)
        super().open(written)
        if written:
            self._files = written["files"]

    def flush(self) -> dict[str, Any]:
        return {**super().flush(), "files": self._files}

    def changed(self) -> str | None:
        tree = self.tree + ".draft"
        files = [os.path.join(folder, name) for folder, _, names in os.walk(tree) for name in names]

        def digest(row: int) -> int:
            with open(files[row], "rb") as stream:
                return _digest(files[row][len(tree) + 1 :], stream.read())

        found = [len(files), sum(check_all(digest, len(files), doing="Reading again")) % 2**64]
        return super().changed() if found == self._files else tree

    def write(self, row: int, label: int, identity: str, name: str, encoded: bytes) -> None:
        self.write_file(os.path.join(identity, name), encoded)

    def write_file(self, name: str, encoded: bytes) -> None:
        """Writes an image file into the folder."""
        file = os.path.join(self.tree + ".draft", name)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "wb") as stream:
            stream.write(encoded)
        count, total = self._files
        self._files = [count + 1, (total + _digest(name, encoded)) % 2**64]


def _digest(name: str, data: bytes) -> int:
    """A digest of a file's name and bytes, a number below 2**64."""
    digest = hashlib.blake2b(os.fsencode(name) + b"\0", digest_size=8)
    digest.update(data)
    return int.from_bytes(digest.digest(), "big")


class ListSink(FolderSink):
    """A `.csv` or `.lst`, with the images in a folder of its name."""

    kind = "list"

    def __init__(self, destination: str, shards: int) -> None:
        super().__init__(destination, shards)
        self.breaks = _TABS if self.ending == ".lst" else _LINES

    def files(self) -> list[str]:
        return [self.destination]

    @property
    def tree(self) -> str:
        return os.path.splitext(self.destination)[0]

    def fault(self, identity: str, name: str) -> str | None:
        read = list_identity(identity)
        if read != identity:
            return f"its identity changes in a list. Received: {identity!r}, which reads {read!r}."
        return super().fault(identity, name)

    def write(self, row: int, label: int, identity: str, name: str, encoded: bytes) -> None:
        super().write(row, label, identity, name, encoded)
        path = f"{os.path.basename(self.tree)}/{identity}/{name}"
        if self.ending == ".lst":
            self.put(self.destination, f"{path}\t{identity}\n".encode(*_ENCODING))
        else:
            self.put_row(self.destination, [path, identity])


class CelebASink(FolderSink):
    """CelebA's `.txt`, with numbered images in `img_align_celeba`."""

    kind = "celeba"
    breaks = _LINES

    def files(self) -> list[str]:
        return [self.destination]

    @property
    def tree(self) -> str:
        return os.path.join(os.path.dirname(self.destination), "img_align_celeba")

    def write(self, row: int, label: int, identity: str, name: str, encoded: bytes) -> None:
        name = f"{row + 1:06d}{os.path.splitext(name)[1]}"
        self.write_file(name, encoded)
        self.put(self.destination, f"{name} {label + 1}\n".encode(*_ENCODING))


SINKS: dict[str, type[Sink]] = {
    "folder": FolderSink,
    "records": RecordSink,
    "tfrecords": TFRecordSink,
    "list": ListSink,
    "celeba": CelebASink,
}
