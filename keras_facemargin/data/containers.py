"""Which container lies at a place, and what is in it: every image with its identity and name."""

import collections
import csv
import dataclasses
import hashlib
import os
import warnings

import numpy as np

from keras_facemargin.data.faces import check_all
from keras_facemargin.data.folder import FaceFolder, list_files
from keras_facemargin.data.image import BadImage
from keras_facemargin.data.recordio import FaceRecords
from keras_facemargin.data.tfrecord import FaceTFRecords, find_shards, read_example

_KINDS = {
    ".rec": "records",
    ".tfrecord": "tfrecords",
    ".tfrecords": "tfrecords",
    ".csv": "list",
    ".lst": "list",
    ".txt": "celeba",
}
_PATH, _LABEL = ("path", "image", "file", "filename"), ("label", "identity", "id", "person")
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
        >>> from keras_facemargin.data import write_synthetic_faces
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
        identities: list of texts that can be names of folders, sorted by code point.
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
        """A text that changes with the images listed, their order, identities and names."""
        digest = hashlib.sha256(f"{self.source}\0{len(self.labels)}".encode(*_TEXT))
        digest.update(np.ascontiguousarray(self.labels))
        for each in self.identities + (self.names or []):
            digest.update(each.encode(*_TEXT) + b"\0")
        return digest.hexdigest()


_TEXT = ("utf-8", "surrogateescape")  # as Python keeps file names that are no UTF-8


def list_faces(path, images=None):
    """Lists what a container holds.

    Identities are named by texts and sorted by code point, whatever the container, so that labels
    are the same on every way between two containers. Numbers become texts of equal length, filled
    up with zeros. A name or identity that cannot be the name of a file (`..`, one with a slash, one
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
        "celeba": lambda path: _list_celeba(path, images),
    }[kind](os.fspath(path))
    return _sorted(os.fspath(path), *listed)


def _sorted(source, images, identities, names, bad, size):
    """The listing of images with the identity (and name) of each; unusable ones become bad."""
    kept, order = [], sorted(set(identities))
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
    if len(order) < 2:
        raise ValueError(
            "Telling people apart needs at least two identities with an image each. "
            f"Received: {len(order)} in {source}"
        )
    if names is not None:
        names = _unique([names[row] for row in rows.tolist()], labels.tolist())
    if isinstance(images, list):
        images = [images[row] for row in rows.tolist()]
    else:
        images = images.compress(rows)
    return Listing(source, images, labels, order, names, bad, size)


def _name_fault(what, text):
    if text in ("", ".", "..") or text.startswith(".") or set(text) & set("/\\\0"):
        return f"its {what} cannot be the name of a file. Received: {text!r}."
    if len(text.encode(*_TEXT)) > _LONGEST_NAME:
        return f"its {what} is longer than {_LONGEST_NAME} bytes, which no file may be named."
    return None


def _unique(names, labels):
    """Names that stand twice within an identity get a number."""
    result, seen, label = [], set(), None
    for name, its_label in zip(names, labels, strict=True):
        if its_label != label:
            seen, label = set(), its_label
        stem, ending = os.path.splitext(name)
        count = 1
        while name in seen:
            count += 1
            name = f"{stem}-{count}{ending}"
        seen.add(name)
        result.append(name)
    return result


def _list_folder(directory):
    files, bad = list_files(directory)
    paths = [path for its_paths in files.values() for path in its_paths]
    identities = [identity for identity, its_paths in files.items() for _ in its_paths]
    size = sum(check_all(lambda row: os.stat(paths[row]).st_size, len(paths), "Listing"))
    return paths, identities, list(map(os.path.basename, paths)), bad, size


def _list_records(file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is left out is told by who asked
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
        lines = _read_table(os.path.splitext(file)[0] + ".lst", "\t")
    except OSError:
        return None
    rows, folders = {}, collections.defaultdict(set)
    for fields in lines:
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


def _read_table(file, delimiter):
    with open(file, newline="", encoding=_TEXT[0], errors=_TEXT[1]) as stream:
        try:
            return [row for row in csv.reader(stream, delimiter=delimiter) if row]
        except csv.Error as error:
            raise ValueError(f"A list must be text in columns. Received: {file}: {error}") from None


def _list_lines(file, images):
    """A `.csv` (path, label) or a `.lst` (path, label; MXNet's and InsightFace's three columns)."""
    lines = _read_table(file, "\t" if file.lower().endswith(".lst") else ",")
    path, label = 0, 1
    if lines:
        head = [field.strip().lower() for field in lines[0]]
        named = [
            next((n for n, f in enumerate(head) if f in names), None) for names in (_PATH, _LABEL)
        ]
        if None not in named:
            path, label = named
            lines = lines[1:]
        elif len(lines[0]) >= 3 and file.lower().endswith(".lst"):
            # im2rec writes KEY LABEL PATH, InsightFace 1 PATH LABEL.
            path, label = (2, 1) if _number(lines[0][1]) is not None else (1, 2)
    folder = os.fspath(images) if images is not None else os.path.dirname(file)
    rows, bad = [], []
    for number, fields in enumerate(lines, start=1):
        if len(fields) <= max(path, label):
            place = f"{file}, line {number:,}"
            bad.append(BadImage(place, f"a line is a path and a label. Received: {fields}."))
        else:
            value = fields[label]
            if file.lower().endswith(".lst") and "." in value and _number(value) is not None:
                value = _number(value)  # MXNet writes 3.000000; 007 without a point is a name
            rows.append((os.path.join(folder, fields[path]), value))
    return _listed(file, rows, bad)


def _number(text):
    """An int of what is written as a whole number, "3" or "3.000000"; else None."""
    try:
        return int(float(text)) if float(text).is_integer() else None
    except (ValueError, OverflowError):
        return None


def _list_celeba(file, images):
    """CelebA's `identity_CelebA.txt`: a line `000001.jpg 2880` for each image."""
    rows, bad = [], []
    with open(file, encoding=_TEXT[0], errors=_TEXT[1]) as stream:
        lines = [line.strip() for line in stream]
    if images is None:
        here = os.path.dirname(file)
        beside = os.path.join(here, "img_align_celeba")
        official = os.path.join(here, "..", "Img", "img_align_celeba")  # beside Anno/
        images = next(filter(os.path.isdir, (beside, official)), here)
    for number, line in enumerate(lines, start=1):
        fields = line.rsplit(maxsplit=1)
        if len(fields) == 2:
            rows.append((os.path.join(images, fields[0]), fields[1]))
        elif line:
            place = f"{file}, line {number:,}"
            bad.append(BadImage(place, f"a line is a name and an identity. Received: {line!r}."))
    return _listed(file, rows, bad)


def _listed(file, rows, bad):
    numbers = [value for _, value in rows if isinstance(value, int)]
    width = len(str(max(numbers, default=0)))
    paths = [path for path, _ in rows]
    identities = [f"{v:0{width}}" if isinstance(v, int) else v for _, v in rows]

    def size(row):
        try:
            return os.stat(paths[row]).st_size
        except (OSError, ValueError):
            return 0  # told when it is to be read

    names = [os.path.basename(path) for path in paths]
    return paths, identities, names, bad, sum(check_all(size, len(paths), "Listing"))
