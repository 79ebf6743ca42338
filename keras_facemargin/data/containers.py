"""Which container lies at a place, and what is in it: every image with its identity and name."""

import collections
import dataclasses
import hashlib
import os
import warnings

import numpy as np

from keras_facemargin.data.faces import identity_order
from keras_facemargin.data.folder import FaceFolder, list_files
from keras_facemargin.data.formats.tfrecord import find_shards
from keras_facemargin.data.lists import read_list, shown, text_lines
from keras_facemargin.data.problems import check_all, require_two_identities
from keras_facemargin.data.records import FaceRecords
from keras_facemargin.data.tfrecords import FaceTFRecords, read_example
from keras_facemargin.images.image import BadImage

_KINDS = {
    ".rec": "records",
    ".tfrecord": "tfrecords",
    ".tfrecords": "tfrecords",
    ".csv": "list",
    ".lst": "list",
    ".txt": "celeba",
}
_LONGEST_NAME = 255  # bytes, what file systems take


def container_kind(path):
    """What a path is by its ending: "records", "tfrecords", "list", "celeba" or "folder".

    Args:
        path: file or folder; an existing folder is a folder whatever its name.

    Returns:
        A string.

    Raises:
        ValueError: the ending is that of no container.

    Example:
        >>> container_kind("train.rec"), container_kind("people")
        ('records', 'folder')
    """
    path = os.fspath(path)
    ending = os.path.splitext(path)[1].lower()
    if os.path.isdir(path) or not ending:
        return "folder"
    if ending not in _KINDS:
        raise ValueError(
            f"A container is a folder or a file *{', *'.join(_KINDS)}. Received: {path}"
        )
    return _KINDS[ending]


def open_faces(path, image_size=112, on_bad="refuse"):
    """The faces at a path, by its ending: `FaceFolder`, `FaceRecords` or `FaceTFRecords`.

    Args:
        path: an identity folder, a `.rec` file or a `.tfrecord` (or the name of its shards).
        image_size, on_bad: as the classes take them.

    Returns:
        An object of one of the three classes.

    Raises:
        ValueError: the path is another container (`pack_faces` makes one of the three of it), or
            as the class says.

    Example:
        >>> from keras_facemargin.images import write_synthetic_faces
        >>> _ = write_synthetic_faces("people", num_identities=2, images_per_identity=3)
        >>> open_faces("people")
        <FaceFolder 'people': 6 images of 2 identities, 3 to 3 each>
    """
    kind = container_kind(path)
    classes = {"folder": FaceFolder, "records": FaceRecords, "tfrecords": FaceTFRecords}
    if kind not in classes:
        raise ValueError(
            "Faces are read from a folder, a .rec or a .tfrecord. "
            f"Received: {path}. `facemargin pack {path} DESTINATION` makes one of it."
        )
    return classes[kind](path, image_size=image_size, on_bad=on_bad)


@dataclasses.dataclass
class Listing:
    """What a container holds, sorted by identity; nothing is decoded yet.

    Attributes:
        source: the container, a string.
        images: sequence of what `read_face` takes.
        labels: int64 `(N,)`, ascending, rows of `identities`.
        identities: list of texts that can be names of folders, in the order of `identity_order`.
        names: list of the images' names, unique within an identity, or None if they have none.
        skipped: list of `BadImage`: what is no image of an identity.
        size: bytes of all images, about.
    """

    source: str
    images: object
    labels: np.ndarray
    identities: list
    names: list | None
    skipped: list
    size: int

    def fingerprint(self):
        """A text that changes with the images listed: places, order, identities, names, bytes."""
        parts = [os.path.abspath(self.source), str(self.size), str(len(self.labels))]
        parts += self.identities + (self.names or [])
        if isinstance(self.images, list):
            parts += self.images
            rows = self.labels
        else:
            rows = np.stack([self.labels, self.images.rows])
        digest = hashlib.sha256(np.ascontiguousarray(rows))
        for each in parts:
            digest.update(each.encode(*_TEXT) + b"\0")
        return digest.hexdigest()


_TEXT = ("utf-8", "surrogateescape")  # as Python keeps file names that are not UTF-8


def list_faces(path, images=None):
    """Lists what a container holds.

    Identities are named by texts and sorted by `identity_order`, whatever the container, so that
    labels are the same on every way between two containers. Numbers without names (`.rec`,
    `.tfrecord`) become texts of equal length, filled up with zeros, for programs that sort folders
    by code point. A name or identity that cannot be the name of a file (`..`, one with a slash, one
    that begins with a dot) is bad.

    Args:
        path: the container (see `pack_faces`).
        images: folder that the paths of a list start from.

    Returns:
        A `Listing`.

    Raises:
        ValueError: there is no such container, or not two identities in it.
        OSError: a file cannot be opened.
    """
    kind = container_kind(path)
    if images is not None and kind not in ("list", "celeba"):
        raise ValueError(
            "Only the paths of a list (.csv, .lst, .txt) start from a folder. "
            f"Received: images={os.fspath(images)!r} for {path}"
        )
    listed = {
        "folder": _list_folder,
        "records": _list_records,
        "tfrecords": _list_tfrecords,
        "list": lambda path: _list_lines(path, images),
        "celeba": lambda path: _list_lines(path, images),
    }[kind](os.fspath(path))
    return _sorted(os.fspath(path), *listed)


def _sorted(source, images, identities, names, bad, size):
    """The listing of images with the identity (and name) of each; unusable ones become bad."""
    kept, order = [], sorted(set(identities), key=identity_order)
    faults = {identity: _name_fault("identity", identity) for identity in order}
    for row, identity in enumerate(identities):
        fault = faults[identity] or (names and _name_fault("name", names[row]))
        if fault:
            bad.append(BadImage(images[row], fault))
        else:
            kept.append(row)
    order = [identity for identity in order if not faults[identity]]
    number = {identity: number for number, identity in enumerate(order)}
    labels = np.array([number[identities[row]] for row in kept], "int64")
    rows = np.array(kept, "int64")[np.argsort(labels, kind="stable")]
    labels = np.sort(labels)
    require_two_identities(len(order), source, bad)
    if names is not None:
        names = _unique([names[row] for row in rows.tolist()], labels.tolist())
    if isinstance(images, list):
        images = [images[row] for row in rows.tolist()]
    else:
        images = images.compress(rows)
    return Listing(source, images, labels, order, names, bad, size)


def _name_fault(what, text):
    if not text or text[0] == "." or "/" in text or "\\" in text or "\0" in text:
        return f"its {what} cannot be the name of a file. Received: {shown(text)}."
    if len(text.encode(*_TEXT)) > _LONGEST_NAME:
        return f"its {what} is longer than {_LONGEST_NAME} bytes, which no file may be named."
    return None


def _unique(names, labels):
    """Names that stand twice within an identity get a number."""
    result, counts, label = [], {}, None
    for name, its_label in zip(names, labels, strict=True):
        if its_label != label:
            counts, label = {}, its_label
        unique = name
        while unique in counts:
            counts[name] += 1
            stem, ending = os.path.splitext(name)
            unique = f"{stem}-{counts[name]}{ending}"
        counts[unique] = 1
        result.append(unique)
    return result


def _list_folder(directory):
    files, bad = list_files(directory)
    paths = [path for its_paths in files.values() for path in its_paths]
    identities = [identity for identity, its_paths in files.items() for _ in its_paths]
    size = sum(check_all(lambda row: os.stat(paths[row]).st_size, len(paths), "Listing"))
    return paths, identities, list(map(os.path.basename, paths)), bad, size


def _list_records(file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the caller reports what is left out
        faces = FaceRecords(file, on_bad="skip", check=False)
    reader, rows = faces.paths.reader, faces.paths.rows
    identities, names = _padded(faces), None
    listed = _names_beside(file, reader.keys[rows].tolist(), faces.labels.tolist())
    if listed:
        identities, names = listed
    return faces.paths, identities, names, faces.skipped, reader.size


def _list_tfrecords(file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        faces = FaceTFRecords(file, on_bad="skip", check=False)
    spans, rows = faces.paths.reader, faces.paths.rows.tolist()

    def name(index):
        payload = spans.reader.read_row(rows[index])
        return read_example(payload, "").name

    names = check_all(name, len(rows), "Listing")
    identities = faces.identities
    if isinstance(identities[0], int):
        identities = _padded(faces)
    else:
        identities = [identities[label] for label in faces.labels.tolist()]
    size = sum(os.path.getsize(each) for each in find_shards(file))
    return faces.paths, identities, None if None in names else names, faces.skipped, size


def _padded(faces):
    width = len(str(faces.identities[-1]))
    texts = [f"{identity:0{width}}" for identity in faces.identities]
    return [texts[label] for label in faces.labels.tolist()]


def _names_beside(file, keys, labels):
    """Identity and name of each record by the `.lst` beside it, or None if that is of other use.

    It must list exactly these records as KEY, LABEL, IDENTITY/NAME, an identity for each label.
    """
    try:
        lines = [line for line in text_lines(os.path.splitext(file)[0] + ".lst") if line.strip()]
    except (OSError, ValueError):
        return None
    rows, folders = {}, collections.defaultdict(set)
    for line in lines:
        fields = line.split("\t")
        parts = fields[-1].split("/")
        if len(fields) != 3 or len(parts) != 2 or not fields[0].isdecimal():
            return None
        rows[int(fields[0])] = parts
    if len(lines) != len(keys) or rows.keys() != set(keys):
        return None
    for key, label in zip(keys, labels, strict=True):
        folders[label].add(rows[key][0])
    if any(len(each) > 1 for each in folders.values()) or len(
        set().union(*folders.values())
    ) != len(folders):
        return None
    return [rows[key][0] for key in keys], [rows[key][1] for key in keys]


def _list_lines(file, images):
    """A list (see `lists`); CelebA's `.txt` has its images in a folder of another name."""
    if images is None:
        images = here = os.path.dirname(file)
        if container_kind(file) == "celeba":
            beside = os.path.join(here, "img_align_celeba")
            official = os.path.join(here, "..", "Img", "img_align_celeba")  # beside Anno/
            images = next(filter(os.path.isdir, (beside, official)), here)
    paths, identities, bad = read_list(file, os.fspath(images))

    def size(row):
        try:
            return os.stat(paths[row]).st_size
        except (OSError, ValueError):
            return 0  # reported when it is read

    names = [path[path.rfind("/") + 1 :] for path in paths]
    return paths, identities, names, bad, sum(check_all(size, len(paths), "Listing"))
