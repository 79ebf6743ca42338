"""The kind of a container, and its content: every image with its identity and name."""

import collections
import dataclasses
import hashlib
import os
import warnings
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_facemargin.data.faces import identity_order
from keras_facemargin.data.folder import FaceFolder, list_files
from keras_facemargin.data.formats.shared_file import FileName
from keras_facemargin.data.formats.tfrecord import find_shards
from keras_facemargin.data.lists import read_list, shown, text_lines
from keras_facemargin.data.problems import check_all, require_two_identities
from keras_facemargin.data.records import FaceRecords
from keras_facemargin.data.stored import StoredImages
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
_LONGEST_NAME = 255  # bytes of a name in file systems


def container_kind(path: FileName) -> str:
    """The kind of a container by its ending: "records", "tfrecords", "list", "celeba" or "folder".

    Args:
        path: file or folder; an existing folder is a folder, whatever its ending.

    Returns:
        A string.

    Raises:
        ValueError: no container has this ending.

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
            f"A container must be a folder or a file *{', *'.join(_KINDS)}. Received: {path}"
        )
    return _KINDS[ending]


def open_faces(
    path: FileName, *, image_size: Any = 112, on_bad: str = "refuse"
) -> FaceFolder | FaceRecords | FaceTFRecords:
    """Opens labelled faces by the ending: `FaceFolder`, `FaceRecords` or `FaceTFRecords`.

    Args:
        path: an identity folder, a `.rec` file or a `.tfrecord` (or the name of its shards).
        image_size, on_bad: as in `FaceFolder`.

    Returns:
        An object of one of the three classes.

    Raises:
        ValueError: the path is another kind of container (convert it with `pack_faces`), or an
            error of the class.

    Example:
        >>> from keras_facemargin.images import write_synthetic_faces
        >>> _ = write_synthetic_faces("people", num_identities=2, images_per_identity=3)
        >>> open_faces("people")
        <FaceFolder 'people': 6 images of 2 identities, 3 to 3 each>
    """
    kind = container_kind(path)
    if kind == "folder":
        return FaceFolder(path, image_size=image_size, on_bad=on_bad)
    if kind == "records":
        return FaceRecords(path, image_size=image_size, on_bad=on_bad)
    if kind == "tfrecords":
        return FaceTFRecords(path, image_size=image_size, on_bad=on_bad)
    raise ValueError(
        "Faces must be in a folder, a .rec or a .tfrecord. "
        f"Received: {path}. Convert it: facemargin pack {path} DESTINATION"
    )


@dataclasses.dataclass
class Listing:
    """The images of a container, sorted by identity; none is decoded.

    Attributes:
        source: the container, a string.
        images: sequence of images that `read_face` takes.
        labels: int64 `(N,)`, ascending: the row in `identities` of each image.
        identities: list of texts that can be names of folders, in the order of `identity_order`.
        names: list of the images' names, unique within an identity, or None if they have none.
        skipped: list of `BadImage`: entries that are not images of an identity.
        size: approximate bytes of all images.
    """

    source: str
    images: list[str] | StoredImages
    labels: npt.NDArray[np.int64]
    identities: list[str]
    names: list[str] | None
    skipped: list[BadImage]
    size: int

    def fingerprint(self) -> str:
        """A text that changes with the images: places, order, identities, names and bytes."""
        parts = [os.path.abspath(self.source), str(self.size), str(len(self.labels))]
        parts += self.identities + (self.names or [])
        rows: npt.NDArray[np.int64] = self.labels
        if isinstance(self.images, list):
            parts += self.images
        else:
            rows = np.stack([self.labels, self.images.rows])
        digest = hashlib.sha256(np.ascontiguousarray(rows).tobytes())
        for each in parts:
            digest.update(each.encode(*_TEXT) + b"\0")
        return digest.hexdigest()


_TEXT = ("utf-8", "surrogateescape")  # Python's form of file names that are not UTF-8


def list_faces(path: FileName, *, images: FileName | None = None) -> Listing:
    """Lists the images of a container.

    Identities are texts in the order of `identity_order`, in every kind of container, so that
    labels stay the same from container to container. Numbers without names (`.rec`, `.tfrecord`)
    become texts of equal length, with leading zeros, for programs that sort folders by code point.
    A name or identity that cannot be the name of a file (`..`, one with a slash, one that begins
    with a dot) is bad.

    Args:
        path: the container (see `pack_faces`).
        images: folder that the paths of a list start from.

    Returns:
        A `Listing`.

    Raises:
        ValueError: the path is not a container, or has fewer than two identities.
        OSError: a file cannot be opened.
    """
    kind = container_kind(path)
    if images is not None and kind not in ("list", "celeba"):
        raise ValueError(
            "`images` needs a list (.csv, .lst, .txt) as the source. "
            f"Received: images={os.fspath(images)!r} for {path}"
        )
    path = os.fspath(path)
    if kind == "folder":
        return _sorted(path, _list_folder(path))
    if kind == "records":
        return _sorted(path, _list_records(path))
    if kind == "tfrecords":
        return _sorted(path, _list_tfrecords(path))
    return _sorted(path, _list_lines(path, images))


class _Found(NamedTuple):
    """The content of a container: images, the identity and name of each, and the bad entries."""

    images: list[str] | StoredImages
    identities: list[str]
    names: list[str] | None
    bad: list[BadImage]
    size: int


def _sorted(source: str, found: _Found) -> Listing:
    """The listing of a container; an unusable identity or name makes its image bad."""
    images, identities, names, bad, size = found
    order = sorted(set(identities), key=identity_order)
    kept = []
    faults = {identity: _name_fault("identity", identity) for identity in order}
    for row, identity in enumerate(identities):
        fault = faults[identity]
        if names is not None and not fault:
            fault = _name_fault("name", names[row])
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
        names = _unique(_pick(names, rows), labels.tolist())
    images = images.compress(rows) if isinstance(images, StoredImages) else _pick(images, rows)
    return Listing(source, images, labels, order, names, bad, size)


def _pick(texts: list[str], rows: npt.NDArray[np.int64]) -> list[str]:
    return [texts[row] for row in rows.tolist()]


def _name_fault(what: str, text: str) -> str | None:
    """Why a text cannot be the name of a file, or None."""
    if not text or text[0] == "." or "/" in text or "\\" in text or "\0" in text:
        return f"its {what} must be usable as the name of a file. Received: {shown(text)}."
    if len(text.encode(*_TEXT)) > _LONGEST_NAME:
        return f"its {what} must have at most {_LONGEST_NAME} bytes to be the name of a file."
    return None


def _unique(names: list[str], labels: list[int]) -> list[str]:
    """Names that occur twice within an identity get a number."""
    result: list[str] = []
    counts: dict[str, int] = {}
    label = None
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


def _list_folder(directory: str) -> _Found:
    files, bad = list_files(directory)
    paths = [path for its_paths in files.values() for path in its_paths]
    identities = [identity for identity, its_paths in files.items() for _ in its_paths]
    sizes = check_all(lambda row: os.stat(paths[row]).st_size, len(paths), doing="Listing")
    return _Found(paths, identities, [os.path.basename(path) for path in paths], bad, sum(sizes))


def _list_records(file: str) -> _Found:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the caller reports the bad records
        faces = FaceRecords(file, on_bad="skip", check=False)
    reader, rows = faces.paths.reader, faces.paths.rows
    listed = _names_beside(file, reader.keys[rows].tolist(), faces.labels.tolist())
    identities, names = listed or (_padded(faces), None)
    return _Found(faces.paths, identities, names, faces.skipped, reader.size)


def _list_tfrecords(file: str) -> _Found:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        faces = FaceTFRecords(file, on_bad="skip", check=False)
    spans, rows = faces.paths.reader, faces.paths.rows.tolist()

    def name(index: int) -> str | None:
        payload = spans.reader.read_row(rows[index])
        return read_example(payload, "").name

    found = check_all(name, len(rows), doing="Listing")
    names = [each for each in found if each is not None]
    if isinstance(faces.identities[0], int):
        identities = _padded(faces)
    else:
        identities = [faces.identities[label] for label in faces.labels.tolist()]
    size = sum(os.path.getsize(each) for each in find_shards(file))
    whole = len(names) == len(found)
    return _Found(faces.paths, identities, names if whole else None, faces.skipped, size)


def _padded(faces: FaceRecords | FaceTFRecords) -> list[str]:
    """The identity of each image, as texts of equal length."""
    width = len(str(faces.identities[-1]))
    texts = [f"{identity:0{width}}" for identity in faces.identities]
    return [texts[label] for label in faces.labels.tolist()]


def _names_beside(
    file: str, keys: list[int], labels: list[int]
) -> tuple[list[str], list[str]] | None:
    """Identity and name of each record from the `.lst` beside the file.

    None unless the list has exactly these records as KEY, LABEL, IDENTITY/NAME, with one identity
    for each label.
    """
    try:
        lines = [line for line in text_lines(os.path.splitext(file)[0] + ".lst") if line.strip()]
    except (OSError, ValueError):
        return None
    rows: dict[int, list[str]] = {}
    folders: collections.defaultdict[int, set[str]] = collections.defaultdict(set)
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
    different = set().union(*folders.values())
    if any(len(each) > 1 for each in folders.values()) or len(different) != len(folders):
        return None
    return [rows[key][0] for key in keys], [rows[key][1] for key in keys]


def _list_lines(file: str, images: FileName | None) -> _Found:
    """A list (see `lists`); CelebA's `.txt` has its images in a folder of another name."""
    folder = os.path.dirname(file) if images is None else os.fspath(images)
    if images is None and container_kind(file) == "celeba":
        beside = os.path.join(folder, "img_align_celeba")
        official = os.path.join(folder, "..", "Img", "img_align_celeba")  # beside Anno/
        folder = next(filter(os.path.isdir, (beside, official)), folder)
    paths, identities, bad = read_list(file, folder)

    def size(row: int) -> int:
        try:
            return os.stat(paths[row]).st_size
        except (OSError, ValueError):
            return 0  # reported when it is read

    names = [path[path.rfind("/") + 1 :] for path in paths]
    sizes = check_all(size, len(paths), doing="Listing")
    return _Found(paths, identities, names, bad, sum(sizes))
