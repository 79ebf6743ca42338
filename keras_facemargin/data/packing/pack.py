"""Copies one container of faces into another, byte for byte; an interrupted call resumes.

**How it resumes.** Everything is written under `NAME.draft`. At regular intervals all bytes go to
the disk, and then a new `DESTINATION.journal` states how many images are done, and the length and
checksum of each file. The same call after a kill cuts the files to those lengths and continues: the
result has the bytes of an uninterrupted run. At the end the drafts are read again and compared with
the written bytes. Then they get their names, one by one; a call that is killed there also resumes.

**What it resumes.** The journal has a digest of source and arguments. A call with another source or
other arguments does not continue it.

**One writer.** A call holds the locks of all its outputs (`files.exclusive`).
"""

import collections
import contextlib
import dataclasses
import errno
import hashlib
import itertools
import os
import shutil
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from keras_facemargin.data.containers import Listing, container_kind, list_faces
from keras_facemargin.data.formats.shared_file import FileName
from keras_facemargin.data.packing.journal import Journal
from keras_facemargin.data.packing.sinks import SINKS, Sink
from keras_facemargin.data.problems import require_two_identities
from keras_facemargin.files import FULL, exclusive
from keras_facemargin.images.crop import Crop, Size
from keras_facemargin.images.image import BadImage, check_encoded, read_bytes
from keras_facemargin.progress import progress_bar

_JOURNALLED = 1024  # images between two entries of the journal
_READ = 16  # images that a reading thread takes at a time
_ENDINGS = {
    b"\xff\xd8": ".jpg",
    b"\x89P": ".png",
    b"RI": ".webp",
    b"BM": ".bmp",
    b"GI": ".gif",
    b"II": ".tif",
    b"MM": ".tif",
}


@dataclasses.dataclass(frozen=True)
class Packed:
    """The result of `pack_faces`.

    Attributes:
        destination: the new container, a string.
        images, identities: their numbers in it.
        skipped: list of `BadImage`, each with its `path` and `reason`; also in
            `DESTINATION.skipped.csv` if there are any.
    """

    destination: str
    images: int
    identities: int
    skipped: list[BadImage]

    def reasons(self) -> dict[str, int]:
        """The number of skipped images for each reason: dict from its beginning to a count."""
        kinds = (each.reason.split(" Received")[0] for each in self.skipped)
        counts = collections.Counter(
            kind.split(":")[0].split(". ")[0].rstrip(".") for kind in kinds
        )
        return dict(counts.most_common())


def pack_faces(
    source: FileName,
    destination: FileName,
    *,
    images: FileName | None = None,
    shards: int = 1,
    image_size: Size = 112,
    progress: bool = True,
) -> Packed:
    """Copies the faces of one container into another, byte for byte.

    - a folder: IDENTITY/NAME, as in LFW. In a destination, images without a name get a name as in
      LFW, IDENTITY_0001.jpg;
    - `.rec`: as by `write_face_records`, with an `.idx`, and with a `.lst` that has the names;
    - `.tfrecord`: one file, or the name of its shards;
    - `.csv` (path, label, or a first line that names the columns) and `.lst` (path, label between
      tabs, or the columns of MXNet's im2rec or InsightFace; see `lists`). A destination has the
      images in a folder of its name;
    - `.txt`: CelebA's lines `000001.jpg 2880`, the images in `img_align_celeba`. A destination
      numbers identities from 1 and loses their names.

    Identities are sorted by name: whole numbers by value, then other texts by code point. They get
    the labels 0, 1, 2, ... in that order; `.lst` and `.tfrecord` keep the name of each label. Every
    line of a list is an image, or is skipped with its reason. Every image is decoded by the rules
    of `read_face`; an image that is not a crop is skipped and listed with its reason. The written
    bytes are read again and compared before a file gets its name, and existing files are not
    overwritten. After an interruption of any kind the same call continues and ends with the same
    bytes.

    Implementations differ: InsightFace's and arcface-tf2's converters do not check images, and
    start again from the first one.

    Args:
        source: the container to read.
        destination: the container to make; it must not exist.
        images: folder that the paths of a list start from, and below which they must be; by default
            the folder of the list. Absolute paths below it are valid too.
        shards: number of files of a `.tfrecord`.
        image_size: as in `FaceFolder`; an image of another shape is not a crop and is skipped.
        progress: whether to show a progress bar on standard error.

    Returns:
        `Packed`.

    Raises:
        ValueError: an argument is out of its range, no line of a list has its columns, fewer than
            two identities have a good image, or the source or the arguments differ from those of
            the interrupted call.
        FileExistsError: the destination exists.
        BlockingIOError: another process is writing the destination.
        OSError: a file cannot be read or written, or has other bytes when it is read again. If the
            disk is full, the error states the space that is needed, before the first byte if it can
            be known; the written bytes stay, and the same call continues.

    Example:
        >>> from keras_facemargin.images import write_synthetic_faces
        >>> _ = write_synthetic_faces("people", num_identities=2, images_per_identity=3)
        >>> pack_faces("people", "faces.rec", progress=False)
        Packed(destination='faces.rec', images=6, identities=2, skipped=[])
        >>> pack_faces("faces.rec", "faces.tfrecord", progress=False).images
        6
    """
    source, destination = os.fspath(source), os.path.normpath(os.fspath(destination))
    kind = container_kind(destination)
    if shards != 1 and (kind != "tfrecords" or not 1 < shards < 100_000):
        raise ValueError(
            "`shards` must be 1 to 99,999 for a .tfrecord, and 1 for other containers. "
            f"Received: shards={shards!r} for {destination}"
        )
    if os.path.commonpath([os.path.realpath(source), os.path.realpath(destination)]) == (
        os.path.realpath(source)
    ):
        raise ValueError(
            f"The destination must be outside the source. Received: {destination} within {source}"
        )
    sink = SINKS[kind](destination, shards)
    with contextlib.ExitStack() as locks:
        for each in sink.claims():
            locks.enter_context(exclusive(each))
        return _pack(source, images, sink, Crop.of(image_size), progress)


def _pack(source: str, images: FileName | None, sink: Sink, crop: Crop, progress: bool) -> Packed:
    journal = Journal(sink.destination + ".journal")
    existing = [final for _, final in sink.moves() if os.path.lexists(final)]
    if existing and not journal.state.get("moving"):
        raise FileExistsError(
            f"The destination already exists and is not overwritten. Received: {existing[0]}. "
            "Remove it, or choose another destination."
        )
    listing = list_faces(source, images=images)
    plan = _plan(listing, images, sink, crop)
    if journal.state and journal.state.get("plan") != plan:
        raise ValueError(
            "Cannot resume: the source or the arguments differ from those of the interrupted call. "
            f"Received: {listing.source}, and {journal.file} of the interrupted call. Repeat that "
            f"call, or remove {journal.file} to start from the beginning."
        )
    if not journal.state.get("moving"):
        _Copy(listing, plan, sink, journal, crop).run(progress)
    return _move(sink, journal)


def _plan(listing: Listing, images: FileName | None, sink: Sink, crop: Crop) -> str:
    """A digest of source and arguments."""
    folder = images and os.path.abspath(images)
    plan = f"{listing.fingerprint()} {sink.kind} {sink.shards} {folder} {crop}"
    return hashlib.sha256(plan.encode("utf-8", "surrogateescape")).hexdigest()


class _Copy:
    """Copies all images of a listing into the drafts of a destination.

    Args:
        listing: the images.
        plan: digest of source and arguments.
        sink: the destination.
        journal: the journal, of an interrupted call or empty.
        crop: the shape of the images.
    """

    def __init__(
        self, listing: Listing, plan: str, sink: Sink, journal: Journal, crop: Crop
    ) -> None:
        self._listing, self._plan = listing, plan
        self._sink, self._journal, self._crop = sink, journal, crop
        self._count = len(listing.labels)
        state = journal.state or {"done": 0, "kept": 0, "last": -1, "label": -1}
        self._done: int = state["done"]  # images that were read
        self._kept: int = state["kept"]  # images that were written
        self._last: int = state["last"]  # label in the listing of the last image
        self._label: int = state["label"]  # its label in the destination

    def run(self, progress: bool) -> None:
        """Copies the remaining images, checks the drafts and marks them as complete."""
        listing, sink, journal = self._listing, self._sink, self._journal
        sink.check(listing)
        self._make_room()
        try:
            sink.open(journal.state.get("written"))
            if not journal.state:
                for each in listing.skipped:
                    sink.skip(each)
                self._note()
            with (
                progress_bar("images", progress) as bar,
                contextlib.closing(_read_all(listing, self._done, self._crop)) as read,
            ):
                task = bar.add_task("Packing", total=self._count, completed=self._done)
                for found in read:
                    self._write(found)
                    self._done += 1
                    bar.advance(task)
                    if self._done % _JOURNALLED == 0:
                        self._note()
            self._finish()
        except OSError as error:
            if error.errno in FULL:
                raise _full(sink, self._remaining(), self._progress()) from None
            raise
        finally:
            sink.close()

    def _write(self, found: tuple[bytes, str] | BadImage) -> None:
        """Writes an image, or lists a bad one."""
        listing, sink = self._listing, self._sink
        if isinstance(found, BadImage):
            sink.skip(found)
            return
        encoded, name = found
        label = int(listing.labels[self._done])
        identity = listing.identities[label]
        fault = sink.fault(identity, name)
        if fault:
            sink.skip(BadImage(listing.images[self._done], fault))
            return
        if label != self._last:
            self._last, self._label = label, self._label + 1
        sink.shard = self._done * sink.shards // self._count
        sink.write(self._kept, self._label, identity, name, encoded)
        self._kept += 1

    def _finish(self) -> None:
        """Completes the drafts and compares them with the written bytes."""
        sink, journal, identities = self._sink, self._journal, self._label + 1
        if identities < 2:
            self._note()
            skipped = sink.read_skipped()
            self._discard()
            require_two_identities(identities, self._listing.source, skipped)
        sink.finish(self._kept)
        sink.flush()
        changed = sink.changed()
        if changed:
            self._discard()
            raise OSError(
                f"{changed}: the file must have the written bytes when it is read again. Received: "
                "other bytes. Another program changed it, or the disk is faulty. All drafts were "
                "removed; call again."
            )
        sink.close()
        state = {"moving": True, "images": self._kept, "identities": identities}
        journal.write({"plan": self._plan, **state})

    def _note(self) -> None:
        """Writes the progress to the journal, after all bytes are on the disk."""
        written = self._sink.flush()
        state = {"done": self._done, "kept": self._kept, "last": self._last, "label": self._label}
        self._journal.write({"plan": self._plan, **state, "written": written})

    def _discard(self) -> None:
        self._sink.discard()
        self._journal.remove()

    def _make_room(self) -> None:
        """Refuses a disk with less free space than the images need."""
        folder = os.path.dirname(os.path.abspath(self._sink.destination))
        os.makedirs(folder, exist_ok=True)
        if shutil.disk_usage(folder).free < self._remaining():
            raise _full(self._sink, self._remaining(), self._progress() if self._done else None)

    def _remaining(self) -> int:
        """Approximate bytes of the images that are left."""
        return int(self._listing.size * (1 - self._done / self._count)) if self._count else 0

    def _progress(self) -> str:
        return f"{self._done:,} of {self._count:,} images"


def _full(sink: Sink, needed: int, done: str | None) -> OSError:
    folder = os.path.dirname(os.path.abspath(sink.destination))
    free = shutil.disk_usage(folder).free
    kept = f"The written bytes of {done} stay" if done else "Nothing was written"
    error = OSError(
        f"The disk is full: {folder} needs about {_mib(needed)} more for {sink.destination} and "
        f"has {_mib(free)}. {kept}; make room and call again to continue."
    )
    error.errno = errno.ENOSPC
    return error


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def _move(sink: Sink, journal: Journal) -> Packed:
    """Gives the drafts their names."""
    state = journal.state
    skipped = sink.read_skipped()
    for draft, final in sink.moves():
        if os.path.lexists(draft):  # else the interrupted call has moved it
            os.rename(draft, final)
    if not skipped:
        with contextlib.suppress(FileNotFoundError):
            os.remove(sink.skipped_file)
    journal.remove()
    return Packed(sink.destination, state["images"], state["identities"], skipped)


def _read_all(
    listing: Listing, start: int, crop: Crop
) -> Generator[tuple[bytes, str] | BadImage, None, None]:
    """Yields bytes and name, or the `BadImage`, of each image in order, read ahead on all cores."""
    places = np.flatnonzero(np.diff(listing.labels, prepend=-1))  # first image of each identity

    def read(row: int) -> tuple[bytes, str] | BadImage:
        image = listing.images[row]
        try:
            encoded = read_bytes(image)
            check_encoded(encoded, crop, image)
        except BadImage as error:
            return BadImage(error.path, error.reason)  # a copy: the traceback keeps the pixels
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return BadImage(image, f"it cannot be read: {reason}.")
        if listing.names is not None:
            return encoded, listing.names[row]
        number = row - places[np.searchsorted(places, row, "right") - 1] + 1
        identity = listing.identities[listing.labels[row]]
        return encoded, f"{identity}_{number:04d}{_ENDINGS.get(encoded[:2], '.img')}"

    def read_block(first: int) -> list[tuple[bytes, str] | BadImage]:
        return [read(row) for row in range(first, min(first + _READ, len(listing.labels)))]

    firsts = iter(range(start, len(listing.labels), _READ))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pending: collections.deque[Future[list[tuple[bytes, str] | BadImage]]] = collections.deque()
        try:
            for first in itertools.islice(firsts, 4 * (os.cpu_count() or 1)):
                pending.append(pool.submit(read_block, first))
            while pending:
                yield from pending.popleft().result()
                for first in itertools.islice(firsts, 1):
                    pending.append(pool.submit(read_block, first))
        finally:
            for each in pending:
                each.cancel()
