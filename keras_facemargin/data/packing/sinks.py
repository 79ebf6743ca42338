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

import numpy as np

from keras_facemargin.data.formats.recordio import EXACT, Record, frame_record, pack_record
from keras_facemargin.data.formats.tfrecord import frame_tfrecord, shard_names
from keras_facemargin.data.lists import list_identity
from keras_facemargin.data.problems import check_all
from keras_facemargin.data.tfrecords import face_example
from keras_facemargin.images.image import BadImage

_TEXT = {"encoding": "utf-8", "errors": "surrogateescape"}
_READ_AGAIN = 1 << 20  # bytes read at a time when a file is compared with what was written
_LINES, _TABS = re.compile(r"[\r\n]"), re.compile(r"[\t\r\n]")


class _Sink:
    """Files under draft names that grow at their ends."""

    kind = "records"
    breaks = None  # pattern of what a name or identity may not hold, for it would break a list

    def __init__(self, destination, shards):
        self.destination = destination
        self.shards = shards
        self.shard = 0
        self.skipped_file = destination + ".skipped.csv"
        self._streams = {}
        self._sums = {}  # checksum of each draft, behind its head
        self._heads = {}  # what is written over at the beginning of a draft

    def files(self):
        """The files to write, those first that are read with others."""
        raise NotImplementedError

    def claims(self):
        """What no other call may make at the same time."""
        return dict.fromkeys([self.destination, *self.files()])

    def check(self, listing):
        """Refuses what the container cannot hold."""

    def fault(self, identity, name):
        """Why the container cannot hold an image of this identity and name, or None."""
        if self.breaks and self.breaks.search(f"{identity}/{name}"):
            return f"its name or identity holds a tab or a line break, which no *{self.ending} can."
        return None

    @property
    def ending(self):
        return os.path.splitext(self.destination)[1].lower()

    def moves(self):
        """Draft and name of all that is made, in the order in which it appears."""
        return [(file + ".draft", file) for file in (self.skipped_file, *self.files())]

    def open(self, written):
        """Opens the drafts, cut to what `flush` said was written, if it was said."""
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

    def begin(self):
        """Writes what comes before the first image."""

    def finish(self, images):
        """Writes what comes after the last of so many images."""

    def put(self, file, data):
        draft = file + ".draft"
        self._streams[draft].write(data)
        self._sums[draft] = zlib.crc32(data, self._sums[draft])

    def put_row(self, file, fields):
        text = io.StringIO()
        # With "\n" alone as the end of lines, Python 3.11 writes an "\r" in a name unquoted.
        csv.writer(text, lineterminator="\r\n").writerow(fields)
        self.put(file, (text.getvalue()[:-2] + "\n").encode(*_TEXT.values()))

    def skip(self, bad):
        self.put_row(self.skipped_file, [bad.path, bad.reason])

    def read_skipped(self):
        draft, final = self.skipped_file + ".draft", self.skipped_file
        file = draft if os.path.exists(draft) else final
        if not os.path.exists(file):
            return []
        with open(file, newline="", **_TEXT) as stream:
            return [BadImage(*row) for row in csv.reader(stream)]

    def flush(self):
        """Hands all to the disk; length and checksum of each draft."""
        for stream in self._streams.values():
            stream.flush()
            os.fsync(stream.fileno())
        return {
            draft: [stream.tell(), self._sums[draft]] for draft, stream in self._streams.items()
        }

    def changed(self):
        """The first draft that is not what was written, or None."""
        for draft, stream in self._streams.items():
            head = self._heads.get(draft, b"")
            stream.seek(0)
            same, checksum = stream.read(len(head)) == head, 0
            while data := stream.read(_READ_AGAIN):
                checksum = zlib.crc32(data, checksum)
            if not same or checksum != self._sums[draft]:
                return draft
        return None

    def close(self):
        for stream in self._streams.values():
            with contextlib.suppress(OSError):  # what a full disk did not take is written again
                stream.close()

    def discard(self):
        self.close()
        for draft, _ in self.moves():
            if os.path.isdir(draft):
                shutil.rmtree(draft)
            elif os.path.exists(draft):
                os.remove(draft)


class _RecordSink(_Sink):
    breaks = _TABS  # of the `.lst` beside

    def files(self):
        stem = os.path.splitext(self.destination)[0]
        self._index, self._list = stem + ".idx", stem + ".lst"
        return [self._index, self._list, self.destination]

    def check(self, listing):
        records = 1 + len(listing.labels) + len(listing.identities)
        if records > EXACT:
            raise ValueError(
                f"A .rec counts its records in float32, exact up to {EXACT:,}. Received: "
                f"{records:,} for {listing.source}. Pack into a .tfrecord instead."
            )

    def begin(self):
        self.put(self._index, b"0\t0\n")
        self._put_head([0, 0])  # counts are known at the end

    def write(self, row, label, identity, name, encoded):
        self._record(row + 1, float(label), encoded)
        line = f"{row + 1}\t{label}\t{identity}/{name}\n"
        self.put(self._list, line.encode(*_TEXT.values()))

    def _record(self, key, label, encoded):
        place = self._streams[self.destination + ".draft"].tell()
        self.put(self._index, f"{key}\t{place}\n".encode())
        self.put(self.destination, frame_record(pack_record(Record(label, encoded, key))))

    def finish(self, images):
        names = self._streams[self._list + ".draft"]
        names.flush()
        with open(names.name, "rb") as lines:
            labels = [int(line.split(b"\t", 2)[1]) for line in lines]
        stops = np.cumsum(np.bincount(labels)) + 1
        end = 1 + images
        for key, (start, stop) in enumerate(itertools.pairwise([1, *stops.tolist()]), start=end):
            self._record(key, [start, stop], b"")
        self._put_head([end, end + len(stops)])

    def _put_head(self, counts):
        """Writes record 0, outside of the checksum, for it is written over."""
        draft = self.destination + ".draft"
        self._heads[draft] = frame_record(pack_record(Record(counts, b"", 0)))
        records = self._streams[draft]
        records.seek(0)
        records.write(self._heads[draft])
        records.seek(0, os.SEEK_END)


class _TFRecordSink(_Sink):
    kind = "tfrecords"

    def files(self):
        return shard_names(self.destination, self.shards)

    def claims(self):
        return [self.destination]  # one lock for all shards

    def write(self, row, label, identity, name, encoded):
        example = face_example(encoded, label, identity, name)
        self.put(self.files()[self.shard], frame_tfrecord(example))


class _FolderSink(_Sink):
    """Images as files of their own, under `tree`, and maybe a list of them."""

    kind = "folder"

    def __init__(self, destination, shards):
        super().__init__(destination, shards)
        self._files = [0, 0]  # number of the files and sum of their digests, in any order

    def files(self):
        return []

    def claims(self):
        return dict.fromkeys([*super().claims(), self.tree])

    @property
    def tree(self):
        return self.destination

    def moves(self):
        return [(self.tree + ".draft", self.tree), *super().moves()]

    def open(self, written):
        if not written and os.path.exists(self.tree + ".draft"):
            shutil.rmtree(self.tree + ".draft")  # of a call whose journal was removed
        os.makedirs(self.tree + ".draft", exist_ok=True)
        super().open(written)
        if written:
            self._files = written["files"]

    def flush(self):
        return {**super().flush(), "files": self._files}

    def changed(self):
        tree = self.tree + ".draft"
        files = [os.path.join(folder, name) for folder, _, names in os.walk(tree) for name in names]

        def digest(row):
            with open(files[row], "rb") as stream:
                return _digest(files[row][len(tree) + 1 :], stream.read())

        found = [len(files), sum(check_all(digest, len(files), doing="Reading again")) % 2**64]
        return super().changed() if found == self._files else tree

    def write(self, row, label, identity, name, encoded):
        self.write_file(os.path.join(identity, name), encoded)

    def write_file(self, name, encoded):
        file = os.path.join(self.tree + ".draft", name)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "wb") as stream:
            stream.write(encoded)
        count, total = self._files
        self._files = [count + 1, (total + _digest(name, encoded)) % 2**64]


def _digest(name, data):
    """A number below 2**64 of a file's name and bytes."""
    digest = hashlib.blake2b(os.fsencode(name) + b"\0", digest_size=8)
    digest.update(data)
    return int.from_bytes(digest.digest(), "big")


class _ListSink(_FolderSink):
    kind = "list"

    def files(self):
        return [self.destination]

    @property
    def tree(self):
        return os.path.splitext(self.destination)[0]

    @property
    def breaks(self):
        return _TABS if self.ending == ".lst" else _LINES

    def fault(self, identity, name):
        read = list_identity(identity)
        if read != identity:
            return f"a list reads its identity as another. Received: {identity!r}, as {read!r}."
        return super().fault(identity, name)

    def write(self, row, label, identity, name, encoded):
        super().write(row, label, identity, name, encoded)
        path = f"{os.path.basename(self.tree)}/{identity}/{name}"
        if self.ending == ".lst":
            self.put(self.destination, f"{path}\t{identity}\n".encode(*_TEXT.values()))
        else:
            self.put_row(self.destination, [path, identity])


class _CelebASink(_FolderSink):
    kind = "celeba"
    breaks = _LINES

    def files(self):
        return [self.destination]

    @property
    def tree(self):
        return os.path.join(os.path.dirname(self.destination), "img_align_celeba")

    def write(self, row, label, identity, name, encoded):
        name = f"{row + 1:06d}{os.path.splitext(name)[1]}"
        self.write_file(name, encoded)
        self.put(self.destination, f"{name} {label + 1}\n".encode(*_TEXT.values()))


SINKS = {
    "folder": _FolderSink,
    "records": _RecordSink,
    "tfrecords": _TFRecordSink,
    "list": _ListSink,
    "celeba": _CelebASink,
}
