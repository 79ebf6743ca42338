"""Files that commands read and write: images to read, outputs that must be writable."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from keras_facemargin.files import check_writable, visible_files

_CONTAINERS = (".rec", ".tfrecord", ".tfrecords")
# The formats that `read_face` and `read_photo` read, by the usual names.
_IMAGES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"),
    *(".avif", ".heic", ".heif"),
)


def image_files(places: Iterable[Path]) -> list[Path]:
    """Lists image files, and all images in folders, in order.

    Raises:
        ValueError: a folder has no images.
        FileNotFoundError: a file or folder does not exist.
    """
    files: list[Path] = []
    for place in places:
        if place.is_dir():
            names = visible_files(place)
            found = [place / name for name in names if Path(name).suffix.lower() in _IMAGES]
            if not found:
                raise ValueError(
                    f"The folder must have images ({', '.join(_IMAGES)}). "
                    f"Received: {place} without any"
                )
            files += found
        elif place.is_file():
            files.append(place)
        else:
            raise FileNotFoundError(
                f"The image or folder does not exist. Received: {place}.{way_to(place)}"
            )
    return files


def unlabelled_images(places: Iterable[Path]) -> list[Any]:
    """The images of files, folders and containers, as `read_face` takes them, in order.

    Raises:
        ValueError: a folder or a container has no images.
        FileNotFoundError: a file or folder does not exist.
    """
    from keras_facemargin.data.containers import list_faces

    images: list[Any] = []
    for place in places:
        if place.is_file() and place.suffix.lower() in _CONTAINERS:
            images += list_faces(place).images
        else:
            images += image_files([place])
    return images


def check_images(paths: Iterable[Path]) -> None:
    """Refuses images that do not exist, before a model is opened.

    Raises:
        FileNotFoundError: an image does not exist.
        IsADirectoryError: it is a folder.
    """
    for path in paths:
        with open(path, "rb"):
            pass


def way_to(path: Path) -> str:
    """The way out of an error about a missing file: its missing folder, or the nearest name.

    Args:
        path: the missing file or folder.

    Returns:
        A sentence after a space, or an empty text.
    """
    folder = path.parent
    if not folder.is_dir():
        return f" The folder {folder} does not exist."
    try:
        near = get_close_matches(path.name, [each.name for each in folder.iterdir()], 1)
    except OSError:  # the folder cannot be listed
        return ""
    return f" Did you mean {folder / near[0]}?" if near else ""


def printable(name: object) -> str:
    """A file name as text for any encoding: bytes that are not UTF-8 become escapes."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def prepare_file(option: str, path: Path, *endings: str) -> None:
    """Refuses an output file that cannot be written, before the work for it begins."""
    if path.suffix not in endings or path.is_dir():
        raise ValueError(f"{option} must be a file *{' or *'.join(endings)}. Received: {path}")
    check_writable(path)


def prepare_folder(folder: Path, *names: str) -> None:
    """Creates an output folder, and refuses files in it that cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        check_writable(folder / name)


def prepare_page(report: Path) -> None:
    """Refuses a report page, or the JSON file beside it, that cannot be written or drawn."""
    from keras_facemargin.evaluate.plots import require_matplotlib

    prepare_file("--report", report, ".html")
    check_writable(report.with_suffix(".json"))
    require_matplotlib()
