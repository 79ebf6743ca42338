"""From one container of faces to another: bytes are copied, and an interrupted call is continued.

**How it is continued.** Everything is written under `NAME.draft`. Every so many images what was
written is handed to the disk, and then `DESTINATION.journal` is replaced by one that says how many
images are done, how long each file was and its checksum. Whoever calls again after a kill cuts the
files to those lengths and writes on from there: the bytes are those of a run that was never
stopped. When all is written the drafts are read again and compared with what was written. Then they
get their names, one after the other; a call that is killed there is continued as well.

**What it continues.** The journal keeps a digest of source and arguments to its end. A call of
another source or other arguments does not take over what it did not write.

**One writer.** A call holds the lock of everything that it makes (`files.exclusive`).
"""

import collections
import contextlib
import dataclasses
import errno
import hashlib
import itertools
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_facemargin.data.containers import container_kind, list_faces
from keras_facemargin.data.packing.journal import Journal
from keras_facemargin.data.packing.sinks import SINKS
from keras_facemargin.data.problems import require_two_identities
from keras_facemargin.files import FULL, exclusive
from keras_facemargin.images.crop import Crop
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
_TEXT = {"encoding": "utf-8", "errors": "surrogateescape"}


@dataclasses.dataclass(frozen=True)
class Packed:
    """What `pack_faces` did.

    Attributes:
        destination: the container that was made, a string.
        images, identities: how many it holds.
        skipped: list of `BadImage`, each with its `path` and `reason`; also in
            `DESTINATION.skipped.csv` if there are any.
    """

    destination: str
    images: int
    identities: int
    skipped: list

    def reasons(self):
        """How many were skipped for what: dict from the beginning of a reason to a count."""
        kinds = (each.reason.split(" Received")[0] for each in self.skipped)
        counts = collections.Counter(
            kind.split(":")[0].split(". ")[0].rstrip(".") for kind in kinds
        )
        return dict(counts.most_common())


def pack_faces(source, destination, *, images=None, shards=1, image_size=112, progress=True):
    """Copies the faces of one container into another, byte for byte.

    - a folder: IDENTITY/NAME, LFW's layout among them. As a destination it names images that have
      no name as LFW does, IDENTITY_0001.jpg;
    - `.rec`: as `write_face_records` makes it, with `.idx`, and with a `.lst` that holds the names;
    - `.tfrecord`: one file, or the name that stands for its shards;
    - `.csv` (path, label, or a first line that names the columns) and `.lst` (path, label between
      tabs, or the columns of MXNet's im2rec or InsightFace; see `lists`). As a destination with the
      images beside it, in a folder of its name;
    - `.txt`: CelebA's lines `000001.jpg 2880`, the images in `img_align_celeba`. As a destination
      it numbers identities from 1 and loses their names.

    Identities are sorted by name, whole numbers by value and before all others, which follow by
    code point. They get the labels 0, 1, 2, ... in that order, whatever they were; `.lst` and
    `.tfrecord` state whose label it is. Every line of a list is an image or is skipped with its
    reason. Every image is decoded by the rules of `read_face`; one that is not a crop is skipped
    and listed with its reason. What is written is read again and compared before it gets its name,
    and no existing file is written over. If the call is interrupted, by whatever means, the same
    call continues and ends with the same bytes.

    Implementations differ: InsightFace's and arcface-tf2's converters take whatever the file holds,
    and begin from the first image again.

    Args:
        source: the container to read.
        destination: the container to make, which must not exist.
        images: folder that the paths of a list start from, and below which they must stay; by
            default that of the list. Absolute paths below it are taken as well.
        shards: number of files of a `.tfrecord`.
        progress: whether to draw a progress bar on standard error.
        image_size: as `FaceFolder`; an image of another shape is not a crop and is skipped.

    Returns:
        `Packed`.

    Raises:
        ValueError: an argument, a list of which no line has the columns of a list, fewer than two
            identities with a good image, or another source or other arguments than those of the
            interrupted call.
        FileExistsError: the destination exists.
        BlockingIOError: another process is making the destination.
        OSError: a file cannot be read or written, or is not what was written when it is read again.
            A full disk says how much is needed, before the first byte where it can be known; what
            was written stays and the same call continues.

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
            "Only a .tfrecord is written in shards, 1 to 99,999 of them. "
            f"Received: shards={shards!r} for {destination}"
        )
    if os.path.commonpath([os.path.realpath(source), os.path.realpath(destination)]) == (
        os.path.realpath(source)
    ):
        raise ValueError(
            "A destination must lie outside of what is read. "
            f"Received: {destination} within {source}"
        )
    sink = SINKS[kind](destination, shards)
    with contextlib.ExitStack() as locks:
        for each in sink.claims():
            locks.enter_context(exclusive(each))
        return _pack(source, images, sink, progress, Crop.of(image_size))


def _pack(source, images, sink, progress, crop):
    journal = Journal(sink.destination + ".journal")
    there = [final for _, final in sink.moves() if os.path.lexists(final)]
    if there and not journal.state.get("moving"):
        raise FileExistsError(
            f"`pack` writes over no file. Received: {there[0]} exists. Remove it, or name another "
            "destination."
        )
    listing = list_faces(source, images=images)
    folder = images and os.path.abspath(images)
    plan = f"{listing.fingerprint()} {sink.kind} {sink.shards} {folder} {crop}"
    plan = hashlib.sha256(plan.encode(*_TEXT.values())).hexdigest()
    if journal.state and journal.state.get("plan") != plan:
        raise ValueError(
            "An interrupted call can only be continued with the same source and arguments. "
            f"Received: {journal.file} of another call, or {listing.source} has changed since. "
            f"Repeat that call, or remove {journal.file} to start from the beginning."
        )
    if not journal.state.get("moving"):
        _copy(listing, plan, sink, journal, progress, crop)
    return _move(sink, journal)


def _copy(listing, plan, sink, journal, progress, crop):
    count = len(listing.labels)
    sink.check(listing)
    state = journal.state or {"done": 0, "kept": 0, "last": -1, "label": -1}
    done, kept, last, label = (state[name] for name in ("done", "kept", "last", "label"))

    def remaining():
        return int(listing.size * (1 - done / count)) if count else 0

    def note():
        written = sink.flush()
        place = {"done": done, "kept": kept, "last": last, "label": label}
        journal.write({"plan": plan, **place, "written": written})

    folder = os.path.dirname(os.path.abspath(sink.destination))
    os.makedirs(folder, exist_ok=True)
    if shutil.disk_usage(folder).free < remaining():
        raise _full(sink, remaining(), done and f"{done:,} of {count:,} images")
    try:
        sink.open(state.get("written"))
        if not journal.state:
            for each in listing.skipped:
                sink.skip(each)
            note()
        with (
            progress_bar("images", progress) as bar,
            contextlib.closing(_read_all(listing, done, crop)) as read,
        ):
            task = bar.add_task("Packing", total=count, completed=done)
            for found in read:
                if isinstance(found, BadImage):
                    sink.skip(found)
                else:
                    encoded, name = found
                    identity = listing.identities[listing.labels[done]]
                    fault = sink.fault(identity, name)
                    if fault:
                        sink.skip(BadImage(listing.images[done], fault))
                    else:
                        if listing.labels[done] != last:
                            last, label = int(listing.labels[done]), label + 1
                        sink.shard = done * sink.shards // count
                        sink.write(kept, label, identity, name, encoded)
                        kept += 1
                done += 1
                bar.advance(task)
                if done % _JOURNALLED == 0:
                    note()
        if label < 1:
            note()
            skipped = sink.read_skipped()
            sink.discard()
            journal.remove()
            require_two_identities(label + 1, listing.source, skipped)
        sink.finish(kept)
        sink.flush()
        changed = sink.changed()
        if changed:
            sink.discard()
            journal.remove()
            raise OSError(
                f"{changed}: read again, it must be what was written. Received: other bytes. "
                "Another program changed it, or the disk is faulty. Nothing was made; call again."
            )
        sink.close()
        journal.write({"plan": plan, "moving": True, "images": kept, "identities": label + 1})
    except OSError as error:
        if error.errno in FULL:
            raise _full(sink, remaining(), f"{done:,} of {count:,} images") from None
        raise
    finally:
        sink.close()


def _full(sink, needed, done):
    folder = os.path.dirname(os.path.abspath(sink.destination))
    free = shutil.disk_usage(folder).free
    kept = f"What is written of {done} stays" if done else "Nothing is lost"
    error = OSError(
        f"The disk is full: {folder} needs about {_mib(needed)} more for {sink.destination} and "
        f"has {_mib(free)}. {kept}; make room and call again, it continues."
    )
    error.errno = errno.ENOSPC
    return error


def _mib(size):
    return f"{size / 2**20:,.1f} MiB"


def _move(sink, journal):
    state = journal.state
    skipped = sink.read_skipped()
    for draft, final in sink.moves():
        if os.path.lexists(draft):  # else it was moved before the call was interrupted
            os.rename(draft, final)
    if not skipped:
        with contextlib.suppress(FileNotFoundError):
            os.remove(sink.skipped_file)
    journal.remove()
    return Packed(sink.destination, state["images"], state["identities"], skipped)


def _read_all(listing, start, crop):
    """Yields `(bytes, name)` or the `BadImage` of each image in order, read ahead on all cores."""
    places = np.flatnonzero(np.diff(listing.labels, prepend=-1))  # where an identity begins

    def read(row):
        image = listing.images[row]
        try:
            encoded = read_bytes(image)
            check_encoded(encoded, crop, image)
        except BadImage as error:
            return BadImage(error.path, error.reason)  # afresh: a traceback keeps the pixels
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return BadImage(image, f"it cannot be read: {reason}.")
        if listing.names is not None:
            return encoded, listing.names[row]
        number = row - places[np.searchsorted(places, row, "right") - 1] + 1
        identity = listing.identities[listing.labels[row]]
        return encoded, f"{identity}_{number:04d}{_ENDINGS.get(encoded[:2], '.img')}"

    def read_block(first):
        return [read(row) for row in range(first, min(first + _READ, len(listing.labels)))]

    firsts = iter(range(start, len(listing.labels), _READ))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pending = collections.deque()
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
